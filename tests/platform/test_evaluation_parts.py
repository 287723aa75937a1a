"""What is written down of an evaluation on two parts of the test set, and what is read of versions judged before."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from paeplatform.assets.promotion import evaluation as module
from paeplatform.assets.promotion.evaluation import Inputs, intervals_markdown
from paeplatform.assets.promotion.gated import gated
from paeplatform.assets.promotion.verdicts import parts_text, verdict_markdown
from paeplatform.cli.promotion import _described
from paeplatform.config import load_preset
from paeplatform.resources.registry import SBI, ModelVersion
from paeplatform.scores.promotion import MetricVerdict, Verdict
from paeplatform.scores.scorecard import score_sources
from paeplatform.scores.statistics import metric_intervals, values_of
from tests.platform.conftest import TINY
from tests.validation.conftest import LEVELS, made_up_posteriors


@pytest.fixture(scope="module")
def by_part() -> dict[str, pl.DataFrame]:
    scores = score_sources(made_up_posteriors(120), LEVELS, prefix="pae", z_range=(0.003, 3.0))
    parts = {"known": scores.head(80), "unseen": scores.tail(40)}
    return {part: metric_intervals(table, (0.1,), n_resamples=50) for part, table in parts.items()}


@pytest.fixture(scope="module")
def intervals(by_part: dict[str, pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(table.select(pl.lit(part).alias("part"), pl.all()) for part, table in by_part.items())


def test_known_galaxies_keep_the_names_and_unseen_ones_have_a_prefix(
    by_part: dict[str, pl.DataFrame], intervals: pl.DataFrame
) -> None:
    expected = dict(values_of(by_part["known"]))
    expected |= {f"unseen_{name}": value for name, value in values_of(by_part["unseen"]).items()}
    assert module._values(intervals) == expected and "unseen_crps" in expected
    texts = module._interval_texts(intervals)
    assert set(texts) == set(expected)
    row = by_part["unseen"].row(0, named=True)
    assert texts["unseen_crps"] == (f"{row['crps']:.4g} ({row['crps_low']:.3g} to {row['crps_high']:.3g})")


def test_the_table_has_a_head_for_each_part(intervals: pl.DataFrame) -> None:
    known, unseen = intervals_markdown(intervals).split("unseen galaxies:")
    assert known.startswith("known galaxies:") and "all (n = 79)" in known and "all (n = 40)" in unseen
    assert known.count("| crps |") == 1 == unseen.count("| crps |")


def test_a_verdict_says_which_part_failed() -> None:
    rows = tuple(
        MetricVerdict("crps", 0.1, 0.1, 0.0, 0.01, 0.02, passes, False, "why", part)
        for part, passes in (("known", True), ("unseen", False))
    )
    verdict = Verdict(False, "unseen galaxies: why", rows, {"known": True, "unseen": False})
    assert parts_text(verdict) == "known passes, unseen fails"
    lines = verdict_markdown(verdict).splitlines()
    assert lines[2].startswith("| known | crps |") and "| FAILS |" in lines[3] and "unseen" in lines[3]


def test_an_evaluation_without_parts_is_not_taken_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pl.DataFrame({"object_id": np.arange(4), "z_true": np.linspace(0.1, 1.0, 4)})

    def key(frozen: pl.DataFrame) -> str:
        inputs = Inputs(load_preset(TINY), table, table, None, None, frozen, "test")  # type: ignore[arg-type]
        return inputs.key(gated(SBI))

    new = table.with_columns(part=pl.lit("known"))
    assert key(table) != key(new) == key(new.clone())
    after = key(table)
    monkeypatch.setattr(module, "CODE", 1)
    assert key(table) != after, "the same table evaluated by the code of before"


def test_a_version_that_was_judged_before_is_still_listed() -> None:
    tags = {"verdict": "rejected", "verdict_reason": "not shown to be as good in crps", "metric.crps": "0.1"}
    version = ModelVersion(name=SBI, version=3, run_id="r", tags=tags, url="u")

    class Registry:
        def aliases(self, found: ModelVersion) -> list[str]:
            return []

    found = _described(Registry(), version)  # type: ignore[arg-type]
    assert found["verdict"] == "rejected" and found["verdict_parts"] is None
    assert found["metrics"] == {"crps": "0.1"}
