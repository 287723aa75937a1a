"""Group release: photometry of each sky cell, behind the quality gate."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl
from upath import UPath

from paeplatform.assets.recording.metadata import counts, preview, table_result
from paeplatform.assets.recording.partitions import release_and_cell, release_cells
from paeplatform.assets.recording.provenance import GATE, GATE_TAG, HELD, PASSED
from paeplatform.assets.recording.tables import bands_from
from paeplatform.assets.recording.versions import code_version, content_version
from paeplatform.assets.release.deliveries import CELL_EXPOSURES, asset_out, kept_outcomes
from paeplatform.assets.release.quality import broken, check_results, check_specs
from paeplatform.catalog.cells import parse_cell_key
from paeplatform.config import Preset
from paeplatform.names import is_name
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.objects import names_in, read_table
from paeplatform.resources.store import storage_errors
from paeplatform.resources.workspace import Workspace

if TYPE_CHECKING:
    from paeplatform.instrument.bands import BandSet
    from paeplatform.release.outcomes import RuleOutcome

PHOTOMETRY = dg.AssetKey("release_photometry")
STATISTICS = "quality_statistics"


def release_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The assets of this group for a preset."""
    version = code_version(5, preset, "release.flag_policy")

    # One cell a run: the gate holds a cell by failing its run, and must not fail its neighbours'.
    @dg.multi_asset(
        name="cell_photometry",
        outs={
            "release_photometry": asset_out(
                version, "102 fluxes and errors [uJy] of every source of one cell, binned from its exposures."
            ),
            "release_measurements": asset_out(
                version,
                "Every measurement of every source of one cell, at its own wavelength and width.",
                stood_for_by="release_photometry",
            ),
            "quarantined_sources": asset_out(
                version,
                "Rows of one cell that were set aside, with the reason.",
                stood_for_by="release_photometry",
            ),
            "quality_statistics": asset_out(
                version,
                "What the quality rules judge in one cell; the next release is compared with it.",
                stood_for_by="release_photometry",
                checked_by="greatexpectations",
            ),
        },
        deps=[CELL_EXPOSURES],
        partitions_def=release_cells,
        backfill_policy=dg.BackfillPolicy.multi_run(1),
        check_specs=check_specs("release_photometry", "cell", release_cells),
    )
    def cell_photometry(
        context: dg.AssetExecutionContext, spherex_bands: pl.DataFrame, workspace: Workspace
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        """Sets faulty rows aside, masks flagged exposures, bins the rest, and judges the cell."""
        release, cell = release_and_cell(context.partition_key)
        bands = bands_from(spherex_bands)
        with one_line_failures():
            made = _photometry(preset, bands, workspace, release, cell)
        photometry, measurements, quarantined, statistics, outcomes, row_counts = made
        faults = broken(outcomes)
        gate = dg.MetadataValue.json(faults) if faults else PASSED
        yield table_result(
            photometry,
            {"release": release, "cell": cell, GATE: gate, **row_counts},
            asset_key="release_photometry",
            tags={GATE_TAG: HELD if faults else PASSED},
        )
        yield table_result(
            measurements, {"measurements": row_counts["used_rows"]}, asset_key="release_measurements"
        )
        reasons = quarantined["reason"].str.split(";").explode(empty_as_null=False).to_frame()
        yield table_result(
            quarantined, {"reasons": counts(reasons, "reason")}, asset_key="quarantined_sources"
        )
        yield table_result(
            statistics.with_columns(accepted=pl.lit(not faults)),
            {"preview": preview(statistics)},
            version=content_version(statistics),
            show_rows=False,
            asset_key="quality_statistics",
        )
        yield from check_results("release_photometry", "cell", outcomes)

    return [cell_photometry]


def _photometry(
    preset: Preset, bands: "BandSet", workspace: Workspace, release: str, cell: str
) -> "tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, pl.DataFrame, list[RuleOutcome], dict[str, int]]":
    """(photometry, measurements, set aside, statistics, outcomes, counts of rows) of a cell.

    Raises:
        InputError: the release or cell has no name's form, or the release has no such cell.
    """
    from paeplatform.errors import InputError
    from paeplatform.release.binning import bin_exposures, measurement_table
    from paeplatform.release.flags import reject_mask
    from paeplatform.release.judging import judge_cell
    from paeplatform.release.manifest import kept_manifest
    from paeplatform.release.quality_rules import load_rules
    from paeplatform.release.rows import set_aside
    from paeplatform.release.statistics import cell_statistics

    index = parse_cell_key(cell)[1]
    path = workspace.table(CELL_EXPOSURES.to_user_string(), release, cell)
    if not path.is_file():
        raise InputError(f"release {release} has no cell {cell}: {path} does not exist")
    with storage_errors(path, "read"):
        delivered = read_table(path)
    rows, quarantined = set_aside(delivered, kept_manifest(workspace.ingested(release)), bands)
    rejected = reject_mask(preset.release.flag_policy)
    photometry = bin_exposures(rows, bands, rejected, index, quarantined)
    row_counts = {
        "delivered_rows": delivered.height,
        "used_rows": int(photometry["n_used"].sum()),
        "masked_rows": int(photometry["n_masked"].sum()),
        "set_aside_rows": quarantined.height,
    }
    assert row_counts["delivered_rows"] == sum(list(row_counts.values())[1:]), row_counts
    statistics = cell_statistics(rows, photometry, quarantined, bands, rejected)
    baseline, same = _baseline(workspace, release, cell)
    outcomes = judge_cell(statistics, load_rules(), baseline, same_sources=same)
    measurements = measurement_table(rows, photometry, rejected)
    return photometry, measurements, quarantined, statistics, outcomes, row_counts


def stored_outcomes(
    workspace: Workspace, release: str | None = None
) -> "dict[tuple[str, str], list[RuleOutcome]]":
    """What the rules say now of the statistics that were kept of one release or all, by (release, cell key); "" for the
    whole delivery, of which stands what they said when it was ingested.
    """
    from paeplatform.release.judging import judge_cell
    from paeplatform.release.quality_rules import load_rules

    found = {(name, ""): outcomes for name, outcomes in kept_outcomes(workspace, release).items()}
    there = [release] if release else sorted(filter(is_name, names_in(workspace.tables(STATISTICS))))
    for name in there:
        for cell in _tables_in(workspace.tables(STATISTICS, name)):
            baseline, same = _baseline(workspace, name, cell)
            statistics = read_table(workspace.table(STATISTICS, name, cell)).drop("accepted")
            found[name, cell] = judge_cell(statistics, load_rules(), baseline, same_sources=same)
    return found


def _tables_in(folder: UPath) -> list[str]:
    """The releases or cells that have a table in a folder.

    From a listing, since characters of a folder's name may have a meaning in a glob pattern.
    """
    end = ".parquet"
    names = (name.removesuffix(end) for name in names_in(folder) if name.endswith(end))
    return sorted(filter(is_name, names))


def _baseline(workspace: Workspace, release: str, cell: str) -> tuple[pl.DataFrame | None, bool]:
    """(statistics of the release created last before this one, whether they are of the same cell).

    Those of the same cell where it was accepted, else of all accepted cells together; None when there are none.
    """
    from paeplatform.release.statistics import baseline_of

    listings = {
        name: workspace.table("release_exposures", name)
        for name in _tables_in(workspace.tables("release_exposures"))
    }
    created = {name: read_table(path, ["created"])["created"].max() for name, path in listings.items()}
    mine = created.pop(release, None)
    earlier = sorted(
        (str(when), name) for name, when in created.items() if mine is None or str(when) < str(mine)
    )
    for _, name in reversed(earlier):
        same = workspace.table(STATISTICS, name, cell)
        if same.is_file() and (table := read_table(same))["accepted"].all():
            return table.drop("accepted"), True
        cells = _tables_in(workspace.tables(STATISTICS, name))
        tables = (read_table(workspace.table(STATISTICS, name, other)) for other in cells)
        accepted = [table for table in tables if table["accepted"].all()]
        if accepted:
            return baseline_of([table.drop("accepted") for table in accepted]), False
    return None, False
