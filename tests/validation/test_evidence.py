"""What a model shows on a test set: scores that do not depend on how its sources are cut into calls, and a rate."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from paeplatform.errors import InputError
from paeplatform.scores import evidence as module
from paeplatform.scores.evidence import evidence_of, hardware
from paeplatform.scores.scorecard import score_sources
from tests.validation.conftest import LEVELS, made_up_posteriors

RANGE = (0.003, 3.0)


class Model:
    """Answers from a table, and remembers how it was asked."""

    def __init__(self, table: pl.DataFrame) -> None:
        self.table, self.asked = table, []

    def __call__(self, flux: np.ndarray, flux_err: np.ndarray, object_id: np.ndarray) -> pl.DataFrame:
        assert (flux[:, 0] == object_id).all() and (flux_err[:, 0] == 2.0 * object_id).all()
        self.asked.append(len(object_id))
        wanted = pl.DataFrame({"object_id": object_id})
        return wanted.join(self.table.drop("z_true"), on="object_id", how="left", maintain_order="left")


def with_photometry(table: pl.DataFrame) -> pl.DataFrame:
    flux = np.repeat(table["object_id"].to_numpy()[:, None], 3, axis=1).astype(np.float64)
    columns = {
        name: pl.Series(values, dtype=pl.Array(pl.Float64, 3))
        for name, values in (("flux", flux), ("flux_err", 2.0 * flux))
    }
    return table.select("object_id", "z_true").with_columns(**columns)


@pytest.mark.parametrize(("n", "calls"), [(3, 3), (60, 4), (600, 4), (1300, 10)])
def test_scores_are_those_of_all_sources_however_they_are_asked(n: int, calls: int) -> None:
    table = made_up_posteriors(n)
    model = Model(table)
    found = evidence_of(model, with_photometry(table), prefix="pae", z_range=RANGE)
    assert len(model.asked) == calls and sum(model.asked) == n and max(model.asked) - min(model.asked) <= 1
    assert found.scores.equals(score_sources(table, LEVELS, prefix="pae", z_range=RANGE))
    assert found.galaxies_per_hour is not None and found.galaxies_per_hour > 0.0
    assert found.hardware == hardware() and " x" in found.hardware


def test_the_rate_leaves_the_first_call_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that gives the first call an hour, and each of the others a second."""
    table = made_up_posteriors(40)
    times = iter([0.0, 3600.0, *(t for k in range(3) for t in (4000.0 + 2 * k, 4001.0 + 2 * k))])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(times))
    found = evidence_of(Model(table), with_photometry(table), prefix="pae", z_range=RANGE)
    assert found.galaxies_per_hour == pytest.approx(10 * 3600.0)


def test_scores_say_which_part_of_the_test_set_they_are_of() -> None:
    table = made_up_posteriors(30).sort("object_id")
    parts = ["known"] * 20 + ["unseen"] * 10
    sources = with_photometry(table).with_columns(part=pl.Series(parts))
    found = evidence_of(Model(table), sources.reverse(), prefix="pae", z_range=RANGE)
    assert found.parts == ("known", "unseen") and found.scores["part"].to_list() == parts
    assert found.scores.drop("part").equals(score_sources(table, LEVELS, prefix="pae", z_range=RANGE))
    assert found.on("unseen").scores.equals(found.scores.tail(10))
    assert found.on("known").galaxies_per_hour == found.galaxies_per_hour
    without = evidence_of(Model(table), with_photometry(table), prefix="pae", z_range=RANGE)
    assert without.parts == ("known",) and without.on("known") is without


def test_one_source_has_no_rate() -> None:
    table = made_up_posteriors(1)
    assert (
        evidence_of(Model(table), with_photometry(table), prefix="pae", z_range=RANGE).galaxies_per_hour
        is None
    )


def test_an_answer_without_truth_is_refused() -> None:
    table = made_up_posteriors(10)
    with pytest.raises(InputError, match="z_true"):
        evidence_of(Model(table), with_photometry(table).drop("z_true"), prefix="pae", z_range=RANGE)
