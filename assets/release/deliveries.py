"""Group release: deliveries as they arrive, verified, and cut into sky cells.

What lies in the landing zone is not the platform's to make: `raw_release` and `cell_exposures` are external assets
whose versions are reported, by the release sensor and by the ingestion. A release delivered again therefore touches
those cells whose rows differ, and no others.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from paeplatform.assets.recording.metadata import table_result
from paeplatform.assets.recording.partitions import CELL, cell_partition, release_cells, releases
from paeplatform.assets.recording.provenance import DATA_VERSION, STOOD_FOR_BY, latest_of_cells, tag_of_record
from paeplatform.assets.recording.tables import bands_from, library_from
from paeplatform.assets.recording.versions import code_version, content_version, file_digest
from paeplatform.assets.release.quality import Held, broken, check_results, check_specs
from paeplatform.catalog.cells import cell_key
from paeplatform.config import Preset
from paeplatform.errors import InputError
from paeplatform.names import is_name
from paeplatform.resources.failures import failing_alone, one_line_failures
from paeplatform.resources.objects import names_in, put_file, put_text, read_table
from paeplatform.resources.store import storage_errors
from paeplatform.resources.workspace import Workspace

if TYPE_CHECKING:
    from paeplatform.release.manifest import Manifest
    from paeplatform.release.outcomes import RuleOutcome
    from paeplatform.release.splitting import SplitResult

RAW_RELEASE = dg.AssetKey("raw_release")
CELL_EXPOSURES = dg.AssetKey("cell_exposures")


def delivery_assets(preset: Preset) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """The assets of this group for a preset."""
    raw_release = dg.AssetSpec(
        RAW_RELEASE,
        group_name="release",
        partitions_def=releases,
        kinds={"file"},
        description="A delivery in the landing zone: manifest and files. Its version is reported by release_sensor.",
    )
    cell_exposures = dg.AssetSpec(
        CELL_EXPOSURES,
        group_name="release",
        partitions_def=release_cells,
        deps=["release_exposures"],
        kinds={"parquet"},
        description="The delivered rows of one sky cell. Written and reported by the ingestion of its release.",
    )
    return [_mock_delivery(preset), raw_release, _ingest_release(preset), cell_exposures]


def _mock_delivery(preset: Preset) -> dg.AssetsDefinition:
    @dg.asset(
        group_name="release",
        kinds={"parquet"},
        code_version=code_version(
            2,
            preset,
            "release.name",
            "release.n_visits",
            "release.data_collection",
            "release.pipeline_version",
            "instrument.depth",
        ),
    )
    def mock_delivery(
        sed_templates: pl.DataFrame,
        mock_photometry: pl.DataFrame,
        spherex_bands: pl.DataFrame,
        workspace: Workspace,
    ) -> dg.MaterializeResult:
        """The mock release as a survey would deliver it: a manifest and files of single exposures."""
        from paeplatform.release.simulated.delivery import DeliverySpec, write_delivery
        from paeplatform.release.simulated.sky import TemplateSky

        cfg = preset.release
        folder = workspace.delivery(cfg.name)
        with one_line_failures():
            spec = DeliverySpec(
                release=cfg.name,
                data_collection=cfg.data_collection,
                pipeline_version=cfg.pipeline_version,
                n_visits=cfg.n_visits,
                seed=preset.seed,
                depth=preset.instrument.depth,
            )
            manifest = write_delivery(
                mock_photometry,
                bands_from(spherex_bands),
                folder,
                spec,
                sky=TemplateSky(library_from(sed_templates)),
                progress=False,
            )
        return dg.MaterializeResult(
            data_version=dg.DataVersion(manifest.content_hash()),
            metadata={
                "path": dg.MetadataValue.path(folder / "manifest.json"),
                "exposures": manifest.n_rows,
                "sources": manifest.n_sources,
                "files": len(manifest.files),
            },
        )

    return mock_delivery


def _ingest_release(preset: Preset) -> dg.AssetsDefinition:
    order = preset.release.healpix_order

    @dg.multi_asset(
        name="ingest_release",
        outs={
            "release_exposures": asset_out(
                "1", "The cells of a delivery: rows, sources and content of each."
            ),
            "unplaced_rows": asset_out(
                "1",
                "Rows of a delivery without a usable position: they belong to no cell.",
                stood_for_by="release_exposures",
            ),
        },
        deps=[RAW_RELEASE],
        partitions_def=releases,
        check_specs=check_specs("release_exposures", "release", releases),
    )
    def ingest_release(
        context: dg.AssetExecutionContext, workspace: Workspace
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        """Verifies a delivery, cuts it by sky cell and judges it as a whole; unchanged cells stay as they are."""
        from paeplatform.release.manifest import MANIFEST, load_manifest

        release = context.partition_key
        with failing_alone():
            folder = workspace.delivery(release)
        version, _ = delivery_version(folder)
        with _held_when_at_fault(workspace, release, version):
            manifest = load_manifest(folder)
        scratch = workspace.scratch_path("cells")
        try:
            # Sources and positions are counted as the rows are cut, so the rules on them come after that; nothing is
            # taken over before all have passed.
            outcomes, split, fault = _judged_and_split(folder, manifest, scratch, order)
            with storage_errors(workspace.ingested(release), "written"):
                keep_outcomes(workspace, release, outcomes)
            yield from check_results("release_exposures", "release", outcomes)
            faults = broken(outcomes)
            if faults:
                mark_held(workspace, release, version, faults)
                raise Held(f"release {release}", faults)
            with _held_when_at_fault(workspace, release, version):
                if fault is not None:
                    raise fault
            assert split is not None
            cells = split.cells.with_columns(
                key=pl.col("cell").map_elements(lambda cell: cell_key(order, cell), return_dtype=pl.String),
                version=pl.col("sha256").str.head(16),
            ).sort("cell")
            with storage_errors(workspace.ingested(release), "written"):
                put_text(workspace.ingested(release) / MANIFEST, manifest.model_dump_json(indent=1) + "\n")
                changed = _take_over(context, workspace, release, cells)
            mark_held(workspace, release, None)
        finally:
            workspace.discard(scratch)
        yield from _ingested(release, manifest, cells, split.unplaced, changed)

    return ingest_release


def asset_out(
    version: str, what: str, *, stood_for_by: str | None = None, checked_by: str = "polars"
) -> dg.AssetOut:
    """One table of a step of this group that makes several; `checked_by` is the library shown beside Parquet."""
    return dg.AssetOut(
        description=what,
        group_name="release",
        metadata={STOOD_FOR_BY: stood_for_by} if stood_for_by else None,
        kinds={"parquet", checked_by},
        code_version=version,
    )


def _ingested(
    release: str, manifest: "Manifest", cells: pl.DataFrame, unplaced: pl.DataFrame, changed: list[str]
) -> Iterator[dg.MaterializeResult]:
    """What an ingestion makes: the listing of its cells, and the rows without a position."""
    listing = cells.drop("path").with_columns(
        release=pl.lit(release),
        data_collection=pl.lit(manifest.data_collection),
        created=pl.lit(manifest.created),
        delivery=pl.lit(manifest.content_hash()),
    )
    yield table_result(
        listing,
        {
            "delivered_rows": manifest.n_rows,
            "placed_rows": int(listing["n_rows"].sum()),
            "unplaced_rows": unplaced.height,
            "sources": int(listing["n_sources"].sum()),
            "cells": listing.height,
            "changed_cells": len(changed),
            "changed": dg.MetadataValue.json(changed[:100]),
            "delivery": manifest.content_hash(),
            "data_collection": manifest.data_collection,
        },
        version=content_version(listing.drop("created", "delivery")),
        asset_key="release_exposures",
    )
    yield table_result(unplaced, asset_key="unplaced_rows")


@dataclass(frozen=True)
class HeldDelivery:
    """A delivery that was tried and did not pass.

    Attributes:
        version: of its manifest (`delivery_version`).
        faults: why, a sentence each, with rule, observed and expected value; none where an older version of the
            platform held it, which did not keep them.
    """

    version: str
    faults: tuple[str, ...] = ()


def delivery_version(folder: Path) -> tuple[str, str | None]:
    """(version of a delivery's manifest, why it cannot be read or None)."""
    from paeplatform.release.landing import MISSING, file_fault, landing_of
    from paeplatform.release.manifest import MANIFEST, load_manifest

    try:
        return load_manifest(folder).content_hash(), None
    except InputError as error:
        path = folder / MANIFEST
        fault = file_fault(path, landing_of(folder))
        if fault is not None:  # of what is no regular file, nothing but its kind is looked at
            kind = "gone" if fault == MISSING else fault.split()[-1].strip("()").lower()
            return f"unreadable-{kind}", str(error)
        try:
            return f"unreadable-{file_digest(path)}", str(error)
        except OSError:
            return "unreadable-closed", str(error)


def mark_held(workspace: Workspace, release: str, version: str | None, faults: Sequence[str] = ()) -> None:
    """Remembers that this version of a delivery did not pass, and why, so that it is not tried again; None forgets."""
    path = workspace.ingested(release) / "held.json"
    if version is None:
        path.unlink(missing_ok=True)
        return
    put_text(path, json.dumps({"version": version, "faults": list(faults)}))


def held_delivery(workspace: Workspace, release: str) -> HeldDelivery | None:
    """The version of a delivery that was tried and did not pass, with the reasons; None when the last one did."""
    path = workspace.ingested(release) / "held.json"
    if not path.is_file():
        return None
    tree = json.loads(path.read_text())
    return HeldDelivery(tree["version"], tuple(tree.get("faults", ())))


def keep_outcomes(workspace: Workspace, release: str, outcomes: Sequence["RuleOutcome"]) -> None:
    """Keeps what the rules said of a delivery as a whole, for the page of quality checks."""
    tree = [asdict(one) for one in outcomes]
    put_text(workspace.ingested(release) / "outcomes.json", json.dumps(tree))


def kept_outcomes(workspace: Workspace, release: str | None = None) -> dict[str, list["RuleOutcome"]]:
    """What was kept of deliveries, by release; of one only, when it is named."""
    from paeplatform.release.outcomes import RuleOutcome

    names = [release] if release else sorted(filter(is_name, names_in(workspace.all_ingested())))
    paths = {name: workspace.ingested(name) / "outcomes.json" for name in names}
    return {
        name: [RuleOutcome(**one) for one in json.loads(path.read_text())]
        for name, path in paths.items()
        if path.is_file()
    }


def delivered_cells(workspace: Workspace, release: str) -> list[str]:
    """The keys of the cells that the last ingestion of a release found; none when there was none."""
    listing = workspace.table("release_exposures", release)
    return read_table(listing, ["key"])["key"].to_list() if listing.is_file() else []


@contextmanager
def _held_when_at_fault(workspace: Workspace, release: str, version: str) -> Iterator[None]:
    """A delivery that is at fault is not tried again; one whose ingestion was killed or met a full disk is.

    Raises:
        dagster.Failure: for an `InputError`. Without it as the cause, since it is this release's alone: others go on.
    """
    try:
        yield
    except InputError as error:
        mark_held(workspace, release, version, [str(error)])
        raise Held(f"release {release}", [str(error)]) from None


def _judged_and_split(
    folder: Path, manifest: "Manifest", scratch: Path, order: int
) -> "tuple[list[RuleOutcome], SplitResult | None, InputError | None]":
    """(outcomes of every release rule; the delivery, cut by cell under `scratch`; the fault of a value in its files).

    There is no cut delivery where the files or a value in them are at fault.
    """
    from paeplatform.release.judging import judge_contents, judge_release
    from paeplatform.release.reading import verify_files
    from paeplatform.release.splitting import split_delivery

    split, fault = None, None
    with one_line_failures():
        outcomes = [*verify_files(folder, manifest, progress=False), *judge_release(folder, manifest)]
    if not broken(outcomes):
        try:
            with storage_errors(scratch.parent, "written"):
                split = split_delivery(folder, manifest, scratch, order, progress=False)
        except InputError as error:
            fault = error
    return [*outcomes, *judge_contents(manifest, split)], split, fault


def _take_over(
    context: dg.AssetExecutionContext, workspace: Workspace, release: str, cells: pl.DataFrame
) -> list[str]:
    """Puts the files of cells in place and reports those whose content is new; returns their keys."""
    context.instance.add_dynamic_partitions(CELL, cells["key"].to_list())
    known = latest_of_cells(context.instance, CELL_EXPOSURES, release, cells["key"])
    there = names_in(workspace.tables(CELL_EXPOSURES.to_user_string(), release))
    changed = []
    for row in cells.iter_rows(named=True):
        path = workspace.table(CELL_EXPOSURES.to_user_string(), release, row["key"])
        if tag_of_record(known.get(row["key"]), DATA_VERSION) == row["version"] and path.name in there:
            continue
        put_file(Path(row["path"]), path)  # the scratch folder is on a local store's file system
        context.log_event(
            dg.AssetMaterialization(
                CELL_EXPOSURES,
                partition=cell_partition(release, row["key"]),
                tags={DATA_VERSION: row["version"]},
                metadata={
                    "path": dg.MetadataValue.path(str(path)),
                    "dagster/row_count": row["n_rows"],
                    "sources": row["n_sources"],
                },
            )
        )
        changed.append(row["key"])
    return changed
