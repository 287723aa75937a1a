"""The cells of a release that passed the gate, and their tables as one."""

from collections.abc import Iterable

import dagster as dg
import polars as pl

from paeplatform.assets.recording.partitions import release_and_cell
from paeplatform.assets.recording.provenance import (
    content_of_record,
    faults_of_record,
    hash_of_versions,
    input_of_record,
    is_held,
    latest_of_cells,
    latest_records,
)
from paeplatform.assets.release.deliveries import delivered_cells
from paeplatform.assets.release.photometry import PHOTOMETRY
from paeplatform.assets.release.quality import Held
from paeplatform.errors import InputError
from paeplatform.resources.objects import names_in, scan_table
from paeplatform.resources.workspace import Workspace

CATALOG = dg.AssetKey("redshift_catalog")


def accepted_cells(instance: dg.DagsterInstance, workspace: Workspace, release: str) -> list[str]:
    """Keys of the delivered cells whose photometry is made and not held."""
    cells = delivered_cells(workspace, release)
    made = latest_of_cells(instance, PHOTOMETRY, release, cells)
    return [cell for cell in made if not is_held(made[cell])]


def refuse_held(instance: dg.DagsterInstance, partitions: Iterable[str]) -> None:
    """Ends the step when the quality gate holds a cell that it is about to use, whoever asked for the run.

    The gate's own checks stop a run that makes the photometry too; a later run, started by hand in Dagster's page, does
    not ask them again.

    Raises:
        Held: names the cell and each broken rule with observed and expected value.
    """
    records = latest_records(instance, PHOTOMETRY, list(partitions))
    held = {key: faults for key, record in sorted(records.items()) if (faults := faults_of_record(record))}
    for partition, faults in held.items():
        release, cell = release_and_cell(partition)
        more = f" (and {len(held) - 1} more cells of this run)" if len(held) > 1 else ""
        raise Held(
            f"cell {cell} of release {release}",
            faults,
            f"{more}. It is used again when it is delivered anew, or passes the gate in "
            f"`paeplatform backfill --release {release} --cells {cell}`",
        )


def refuse_held_catalog(instance: dg.DagsterInstance, release: str, cells: Iterable[str]) -> list[str]:
    """Refuses to hand over a catalogue that was made from photometry which the quality gate holds.

    A cell that was delivered again and is held keeps the catalogue of its earlier delivery; that one may go out.

    Args:
        instance: where photometry and catalogue are recorded.
        release: of the catalogue.
        cells: keys of the cells to hand over.

    Returns:
        One note for each held cell whose catalogue is of an earlier delivery.

    Raises:
        InputError: names the first such cell and the rules it broke.
    """
    photometry = latest_of_cells(instance, PHOTOMETRY, release, cells)
    catalogs = latest_of_cells(instance, CATALOG, release, photometry)
    notes, refused = [], {}
    for cell, catalog in catalogs.items():
        faults = faults_of_record(photometry[cell])
        if not faults:
            continue
        used, _ = input_of_record(catalog, PHOTOMETRY.to_user_string())
        if used == content_of_record(photometry[cell]):
            refused[cell] = faults
        else:
            notes.append(f"{cell} is of an earlier delivery; the last one is held: {'; '.join(faults[:3])}")
    for cell, faults in refused.items():
        more = f" (and {len(refused) - 1} more cells)" if len(refused) > 1 else ""
        raise InputError(
            f"cell {cell} of release {release} is held: {'; '.join(faults[:3])}{more}; the catalogue made from it is "
            "not exported. Choose other cells with --cells, or deliver it again"
        )
    return notes


def release_table(
    instance: dg.DagsterInstance, workspace: Workspace, asset: str, release: str
) -> tuple[pl.LazyFrame, str]:
    """(one table of an asset's accepted cells, in order of cell; its version).

    Raises:
        InputError: no cell is accepted, or one has not been made.
    """
    cells = accepted_cells(instance, workspace, release)
    paths = {cell: workspace.table(asset, release, cell) for cell in cells}
    there = names_in(workspace.tables(asset, release))
    missing = [cell for cell, path in paths.items() if path.name not in there]
    if missing or not cells:
        what = (
            f"{asset} of {', '.join(missing[:5])}"
            if missing
            else "no cell passed the gate, or none was ingested"
        )
        raise InputError(f"release {release}: missing {what}")
    return pl.concat([scan_table(path) for path in paths.values()]), version_of_cells(
        instance, asset, release, cells
    )


def version_of_cells(instance: dg.DagsterInstance, asset: str, release: str, cells: Iterable[str]) -> str:
    """One version for an asset's cells."""
    records = latest_of_cells(instance, dg.AssetKey(asset), release, cells)
    return hash_of_versions({cell: content_of_record(record) or "" for cell, record in records.items()})
