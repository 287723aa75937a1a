"""The quality gate: each defect is caught by the check named for it, and clean deliveries pass."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from paeplatform.errors import ConfigError, InputError
from paeplatform.instrument.bands import BandSet
from paeplatform.release.binning import bin_exposures
from paeplatform.release.defects import DEFECTS, DefectSpec
from paeplatform.release.flags import reject_mask
from paeplatform.release.judging import judge, judge_release, suite_of
from paeplatform.release.manifest import load_manifest
from paeplatform.release.outcomes import RuleOutcome
from paeplatform.release.quality_rules import load_rules
from paeplatform.release.reading import verify_files
from paeplatform.release.rows import SetAside, set_aside
from paeplatform.release.simulation import DeliverySpec, write_delivery
from paeplatform.release.splitting import split_delivery
from paeplatform.release.statistics import baseline_of, cell_statistics

SPOILT, SOUND = 27256, 27258


@dataclass
class Judged:
    """What became of a delivery."""

    release: list[RuleOutcome]
    cells: dict[int, list[RuleOutcome]]
    statistics: dict[int, pl.DataFrame]
    reasons: dict[str, int]

    def failed(self, cell: int | None = None) -> set[str]:
        outcomes = self.release if cell is None else self.cells.get(cell, [])
        return {outcome.rule for outcome in outcomes if not outcome.passed}


def through(
    sources: pl.DataFrame,
    bands: BandSet,
    folder: Path,
    spec: DeliverySpec,
    baseline: dict[int, pl.DataFrame] | None,
) -> Judged:
    """The way of a delivery, from its writing to the gate."""
    where = folder / spec.release
    write_delivery(sources, bands, where, spec, progress=False)
    manifest = load_manifest(where)
    whole = [*verify_files(where, manifest, progress=False), *judge_release(where, manifest)]
    result = Judged(whole, {}, {}, {})
    if any(one.severity == "error" for one in whole if not one.passed):
        return result
    split = split_delivery(where, manifest, folder / f"cells-{spec.release}", 6, progress=False)
    result.reasons = {"bad_position": split.unplaced.height}
    for row in split.cells.iter_rows(named=True):
        rows = pl.read_parquet(row["path"])
        kept, gone = set_aside(rows, manifest, bands)
        photometry = bin_exposures(kept, bands, reject_mask("tool"), row["cell"], gone)
        assert rows.height == int(
            photometry.select(pl.sum("n_used", "n_masked", "n_set_aside")).sum_horizontal()[0]
        )
        statistics = cell_statistics(kept, photometry, gone, bands, reject_mask("tool"))
        before = None if baseline is None else baseline[row["cell"]]
        result.statistics[row["cell"]] = statistics
        result.cells[row["cell"]] = judge(statistics, load_rules(), before, same_sources=True)
        for reason, n in gone["reason"].str.split(";").explode().value_counts().iter_rows():
            result.reasons[reason] = result.reasons.get(reason, 0) + n
    return result


@pytest.fixture(scope="module")
def baseline(sources, bands, tmp_path_factory) -> dict[int, pl.DataFrame]:
    """Statistics of a clean release before."""
    clean = through(sources, bands, tmp_path_factory.mktemp("before"), DeliverySpec("r0", seed=50), None)
    return clean.statistics


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_is_caught_by_the_check_named_for_it(name, sources, bands, baseline, tmp_path):
    defect = DEFECTS[name]
    cells = () if defect.level in ("release", "notice") else (SPOILT,)
    found = through(
        sources, bands, tmp_path, DeliverySpec("r1", seed=8, defects=(DefectSpec(name, cells),)), baseline
    )
    if defect.level == "release":
        assert defect.caught_by in found.failed()
        return
    if defect.level == "notice":
        assert found.failed() == {defect.caught_by} and found.failed(SPOILT) == set()
        assert {one.severity for one in found.release if not one.passed} == {"warn"}
        return
    assert found.failed() == set()
    assert found.failed(SOUND) == set(), "a defect of one cell holds another"
    if defect.level in ("cell", "warn"):
        assert defect.caught_by in found.failed(SPOILT)
        outcome = next(one for one in found.cells[SPOILT] if one.rule == defect.caught_by and not one.passed)
        assert outcome.column and outcome.observed and outcome.expected
    if defect.level == "warn":
        assert {one.severity for one in found.cells[SPOILT] if not one.passed} == {"warn"}
    if defect.level == "row":
        assert found.reasons[defect.caught_by] >= 3
        assert found.failed(SPOILT) == set(), "a few bad rows hold a cell"


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("with_baseline", [True, False])
def test_clean_deliveries_raise_no_alarm(seed, with_baseline, sources, bands, baseline, tmp_path):
    small = sources if seed % 2 else pl.concat([part[:6] for part in sources.partition_by("cell")])
    before = baseline if with_baseline and seed % 2 else None  # the same sources as in the release before
    found = through(small, bands, tmp_path, DeliverySpec("r1", seed=100 + seed), before)
    assert found.failed() | found.failed(SPOILT) | found.failed(SOUND) == set()


def test_a_baseline_is_the_mean_over_cells_by_size(baseline):
    mean = baseline_of(list(baseline.values()))
    one, two = (
        table.filter((pl.col("rule") == "repeats.chi2") & (pl.col("group") == "D3")).row(0, named=True)
        for table in baseline.values()
    )
    got = mean.filter((pl.col("rule") == "repeats.chi2") & (pl.col("group") == "D3")).row(0, named=True)
    wanted = (one["value"] * one["n"] + two["value"] * two["n"]) / (one["n"] + two["n"])
    assert got["value"] == pytest.approx(wanted) and got["n"] == one["n"] + two["n"]


def test_the_suite_has_an_expectation_for_every_cell_rule_with_its_severity():
    rules = load_rules()
    suite = suite_of(rules)
    found = {one.column: str(one.severity) for one in suite.expectations}
    assert set(found) == {rule.name for rule in rules.of_level("cell")}
    assert "warn" in found["flags.unknown_bits"].lower() and "critical" in found["errors.depth"].lower()


def test_every_defect_names_a_rule_or_a_reason():
    names = (
        {rule.name for rule in load_rules().rules} | {reason.value for reason in SetAside} | {"bad_position"}
    )
    assert {defect.caught_by for defect in DEFECTS.values()} <= names


def test_every_rule_and_reason_has_a_defect_that_shows_it_works():
    rules = {rule.name for rule in load_rules().rules}
    # a row of another collection holds the whole delivery (label.no_mixing) before it could be set aside
    reasons = {reason.value for reason in SetAside} - {SetAside.WRONG_RELEASE.value}
    assert rules | reasons <= {defect.caught_by for defect in DEFECTS.values()}


def test_a_source_that_is_bright_in_all_its_exposures_is_no_spike(sources, bands, tmp_path):
    bright = sources.with_columns(
        pl.when(pl.int_range(pl.len()) == 3)
        .then(pl.col("flux_true") * (8e3 / pl.col("flux_true").arr.max()))
        .otherwise(pl.col("flux_true") * 0.05)
        .alias("flux_true")
    )
    found = through(bright, bands, tmp_path, DeliverySpec("r1", seed=8), None)
    assert SetAside.FLUX_FAR_ABOVE_BAND.value not in found.reasons


def test_bad_rule_files_are_refused(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text("rules:\n  - {name: a, level: cell, severity: error, what: x, why: y, low: 2, high: 1}\n")
    with pytest.raises(ConfigError, match=r"low 2\.0 is above high 1\.0"):
        load_rules(path)
    with pytest.raises(ConfigError, match=str(tmp_path)):
        load_rules(tmp_path / "none.yaml")


def test_unknown_defects_and_cells_for_a_whole_delivery_are_refused():
    with pytest.raises(InputError, match="unknown defect 'rust'"):
        DefectSpec("rust")
    with pytest.raises(InputError, match="takes no cells"):
        DefectSpec("missing_file", (1,))
