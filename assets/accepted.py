"""The cells of a release that passed the gate, and their tables as one."""

from collections.abc import Iterable

import dagster as dg
import polars as pl

from assets.deliveries import delivered_cells
from assets.partitions import cell_partition
from assets.provenance import GATE_TAG, HELD, content_of_record, hash_of_versions, latest_records
from assets.release import PHOTOMETRY
from paeplatform.errors import InputError
from resources.objects import names_in, scan_table
from resources.workspace import Workspace


def accepted_cells(instance: dg.DagsterInstance, workspace: Workspace, release: str) -> list[str]:
    """Keys of the delivered cells whose photometry is made and not held."""
    cells = delivered_cells(workspace, release)
    records = latest_records(instance, PHOTOMETRY, [cell_partition(release, cell) for cell in cells])
    return [
        cell
        for cell in cells
        if (record := records.get(cell_partition(release, cell))) is not None
        and (record.tags or {}).get(GATE_TAG) != HELD
    ]


def release_table(
    instance: dg.DagsterInstance, workspace: Workspace, asset: str, release: str
) -> tuple[pl.LazyFrame, str]:
    """(one table of an asset's accepted cells, in order of cell; its version).

    Raises:
        InputError: no cell is accepted, or one has not been made.
    """
    cells = accepted_cells(instance, workspace, release)
    paths = {cell: workspace.table(asset, release, cell) for cell in cells}
    there = names_in(workspace.table(asset, release, "any").parent)
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
    partitions = {cell: cell_partition(release, cell) for cell in cells}
    records = latest_records(instance, dg.AssetKey(asset), list(partitions.values()))
    return hash_of_versions(
        {cell: content_of_record(records[key]) or "" for cell, key in partitions.items() if key in records}
    )
