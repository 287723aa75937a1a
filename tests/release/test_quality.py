"""The quality gate: each defect is caught by the check named for it, and clean deliveries pass."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from paeplatform.errors import ConfigError, InputError
from paeplatform.instrument.bands import BandSet
from paeplatform.release.binning import bin_exposures
from paeplatform.release.flags import reject_mask
from paeplatform.release.judging import judge_cell, judge_contents, judge_release, suite_of
from paeplatform.release.manifest import Manifest, load_manifest, write_manifest
from paeplatform.release.outcomes import RuleOutcome
from paeplatform.release.quality_rules import load_rules
from paeplatform.release.reading import file_sha256, read_batches, verify_files, write_table
from paeplatform.release.rows import SetAside, set_aside
from paeplatform.release.schema import source_id
from paeplatform.release.simulated.defects import DEFECTS, DefectSpec
from paeplatform.release.simulated.delivery import DeliverySpec, write_delivery
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
    result.release += judge_contents(manifest, split)
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
        result.cells[row["cell"]] = judge_cell(statistics, load_rules(), before, same_sources=True)
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
        outcome = next(one for one in found.release if one.rule == defect.caught_by and not one.passed)
        assert outcome.column and outcome.observed and outcome.expected and outcome.severity == "error"
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


# -- what the files hold against what the manifest counts --------------------------------------------------------------
def _contents(sources, bands, folder: Path, change: Callable[[Path, Manifest], Manifest], **spec):
    """The outcomes of the rules on contents, by rule, for a delivery that was changed."""
    where = folder / "r1"
    manifest = write_delivery(sources, bands, where, DeliverySpec("r1", seed=8, **spec), progress=False)
    write_manifest(where, change(where, manifest))
    manifest = load_manifest(where)
    whole = [*verify_files(where, manifest, progress=False), *judge_release(where, manifest)]
    assert {one.rule for one in whole if not one.passed} == set(), "the fault is one that no other rule sees"
    split = split_delivery(where, manifest, folder / "cells", 6, progress=False)
    return {one.rule: one for one in judge_contents(manifest, split)}


def _signed(where: Path, manifest: Manifest, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Manifest:
    """The one file of a delivery with other rows, and the manifest that describes it."""
    (file,) = manifest.files
    path = where / file.name
    table = change(pl.concat(list(read_batches(where, file))).drop("file", "row"))
    write_table(table, path, file.format)
    told = {"sha256": file_sha256(path), "bytes": path.stat().st_size, "rows": table.height}
    return manifest.model_copy(update={"files": (file.model_copy(update=told),), "n_rows": table.height})


@pytest.mark.parametrize("claimed", [95, 97, 999])
def test_another_number_of_sources_than_the_files_have_is_at_fault(claimed, sources, bands, tmp_path):
    def lie(where: Path, manifest: Manifest) -> Manifest:
        return manifest.model_copy(update={"n_sources": claimed})

    outcome = _contents(sources, bands, tmp_path, lie)["manifest.source_count"]
    assert not outcome.passed and (outcome.observed, outcome.expected) == (str(claimed), "96")


@pytest.mark.parametrize(
    ("claimed", "passes"), [(94, False), (95, True), (96, True), (395, True), (402, False)]
)
def test_rows_without_a_position_may_be_of_further_sources(claimed, passes, sources, bands, tmp_path):
    """All 306 rows, less those that were not delivered, of the first source have lost their position."""

    def one_lost(where: Path, manifest: Manifest) -> Manifest:
        def change(rows: pl.DataFrame) -> pl.DataFrame:
            first = pl.col("ra") == rows["ra"][0]
            return rows.with_columns(ra=pl.when(first).then(None).otherwise(pl.col("ra")))

        lied = _signed(where, manifest, change)
        return lied.model_copy(update={"n_sources": claimed})

    found = _contents(sources, bands, tmp_path, one_lost)
    outcome = found["manifest.source_count"]
    low, high = map(int, outcome.expected.split(" to "))
    assert low == 95 and 395 <= high <= 401
    assert outcome.passed is passes, outcome
    assert found["positions.usable"].passed


def test_a_tenth_of_the_positions_may_be_lost_and_no_more(sources, bands, tmp_path):
    for share, passes in ((0.09, True), (0.13, False)):

        def lose(where: Path, manifest: Manifest, share: float = share) -> Manifest:
            def change(rows: pl.DataFrame) -> pl.DataFrame:
                lost = pl.int_range(pl.len()) < share * pl.len()
                return rows.with_columns(dec=pl.when(lost).then(None).otherwise(pl.col("dec")))

            return _signed(where, manifest, change)

        outcome = _contents(sources, bands, tmp_path / str(share), lose)["positions.usable"]
        assert outcome.passed is passes, outcome
        assert float(outcome.observed) == pytest.approx(share, abs=1e-3)
        assert outcome.expected.startswith("at most 0.11")


def test_a_few_rows_without_any_position_are_at_fault_however_wide_their_error(sources, bands, tmp_path):
    def two(where: Path, manifest: Manifest) -> Manifest:
        lost = _signed(where, manifest, lambda rows: rows[:2].with_columns(ra=pl.lit(None, pl.Float64)))
        return lost.model_copy(update={"n_sources": 1})

    found = _contents(sources, bands, tmp_path, two)
    assert not found["positions.usable"].passed and found["manifest.source_count"].passed
    assert (found["positions.usable"].observed, found["positions.usable"].expected) == ("1", "at most 0.5")


def test_swapped_positions_are_named(sources, bands, tmp_path):
    def swap(where: Path, manifest: Manifest) -> Manifest:
        return _signed(where, manifest, lambda rows: rows.with_columns(ra=pl.col("dec"), dec=pl.col("ra")))

    outcome = _contents(sources, bands, tmp_path, swap)["positions.usable"]
    assert not outcome.passed and "were ra and dec swapped" in outcome.detail


@pytest.mark.parametrize("file_format", ["parquet", "csv", "fits"])
def test_a_delivery_of_no_rows_is_at_fault_in_every_format(file_format, sources, bands, tmp_path):
    def empty(where: Path, manifest: Manifest) -> Manifest:
        return _signed(where, manifest, lambda rows: rows.clear()).model_copy(update={"n_sources": 0})

    found = _contents(sources, bands, tmp_path, empty, file_format=file_format)
    assert {name for name, one in found.items() if not one.passed} == {"rows.present"}
    assert (found["rows.present"].observed, found["rows.present"].expected) == ("0", "at least 1")


def test_rules_on_contents_are_not_judged_where_the_files_are_at_fault(sources, bands, tmp_path):
    manifest = write_delivery(sources, bands, tmp_path / "r1", DeliverySpec("r1"), progress=False)
    outcomes = judge_contents(manifest, None)
    assert [one.rule for one in outcomes] == ["manifest.source_count", "rows.present", "positions.usable"]
    assert all(one.passed and one.observed == "nothing" and one.detail for one in outcomes)


def test_unknown_defects_and_cells_for_a_whole_delivery_are_refused():
    with pytest.raises(InputError, match="unknown defect 'rust'"):
        DefectSpec("rust")
    with pytest.raises(InputError, match="takes no cells"):
        DefectSpec("missing_file", (1,))


# -- releases that share a calibration ---------------------------------------------------------------------------------
def _collections(sources, bands, folder: Path, *names: str, collection: str = "spherex_qr3") -> RuleOutcome:
    """What label.no_mixing says of a delivery whose rows are of these collections in turn."""
    where, version = folder / "r1", "7.0.5" if "qr3" in collection else "6.5.6"
    spec = DeliverySpec("r1", seed=8, data_collection=collection, pipeline_version=version, n_visits=1)
    manifest = write_delivery(sources[:6], bands, where, spec, progress=False)

    def change(rows: pl.DataFrame) -> pl.DataFrame:
        turn = pl.int_range(pl.len()) % len(names)
        return rows.with_columns(data_collection=pl.lit(pl.Series(names)).gather(turn))

    write_manifest(where, _signed(where, manifest, change))
    outcomes = judge_release(where, load_manifest(where))
    assert {one.rule for one in outcomes if not one.passed} <= {"label.no_mixing"}
    return next(one for one in outcomes if one.rule == "label.no_mixing")


@pytest.mark.parametrize("collection", ["spherex_qr2", "spherex_qr3_deep"])
def test_rows_of_qr2_and_qr3_may_stand_together_and_that_is_noted(collection, sources, bands, tmp_path):
    outcome = _collections(sources, bands, tmp_path, "spherex_qr2_deep", "spherex_qr3", collection=collection)
    assert outcome.passed and outcome.severity == "error"
    assert outcome.detail == "rows of QR2 and QR3 together: the archive has put QR2 on QR3's gains"
    assert "spherex_qr2_deep: 3" in outcome.observed and outcome.expected == "all of QR2 or QR3"


def test_rows_of_one_release_alone_are_not_noted(sources, bands, tmp_path):
    for number, names in enumerate((["spherex_qr3"], ["spherex_qr3", "spherex_qr3_deep"], ["spherex_qr2"])):
        outcome = _collections(sources, bands, tmp_path / str(number), *names)
        assert outcome.passed and outcome.detail == ""


@pytest.mark.parametrize("other", ["spherex_qr", "spherex_qr9", "QR2", ""])
def test_rows_of_another_calibration_still_hold_a_delivery(other, sources, bands, tmp_path):
    outcome = _collections(sources, bands, tmp_path, *["spherex_qr3"] * 4, other)
    assert not outcome.passed and outcome.severity == "error"
    assert outcome.observed.startswith("0.2 of the rows are of another calibration")


def test_a_delivery_of_qr2_and_qr3_passes_the_gate_whole(sources, bands, tmp_path):
    where = tmp_path / "r1"
    manifest = write_delivery(sources, bands, where, DeliverySpec("r1", seed=8), progress=False)
    older = pl.int_range(pl.len()) % 3 == 0

    def change(rows: pl.DataFrame) -> pl.DataFrame:
        name = pl.col("obs_publisher_did").str.replace("spherex_qr3", "spherex_qr2")
        return rows.with_columns(
            pl.when(older)
            .then(pl.lit("spherex_qr2"))
            .otherwise(pl.col("data_collection"))
            .alias("data_collection"),
            pl.when(older).then(name).otherwise(pl.col("obs_publisher_did")).alias("obs_publisher_did"),
        )

    write_manifest(where, _signed(where, manifest, change))
    manifest = load_manifest(where)
    assert {one.rule for one in judge_release(where, manifest) if not one.passed} == set()
    rows = pl.concat(list(read_batches(where, manifest.files[0])))
    rows = rows.with_columns(pl.Series("object_id", source_id(rows["ra"].to_numpy(), rows["dec"].to_numpy())))
    kept, lost = set_aside(rows, manifest, bands)
    assert lost.is_empty() and kept["data_collection"].n_unique() == 2
