"""What assets cut by release and sky cell share: the tables of a run, each with its own content version and inputs."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import dagster as dg
import polars as pl

from paeplatform.assets.recording.metadata import preview
from paeplatform.assets.recording.partitions import SHARED_RUN, release_and_cell, release_cells
from paeplatform.assets.recording.provenance import hash_of_versions, made_from
from paeplatform.assets.recording.versions import content_version
from paeplatform.assets.release.accepted import refuse_held

Tables = dict[str, pl.DataFrame]  # by partition
Shown = Mapping[str, object]  # metadata of a cell, for people

# Declares an asset whose results are cut by cell. A run of a backfill takes several cells, which then share start-up
# and compiled programs.
cell_asset = partial(
    dg.asset,
    group_name="inference",
    partitions_def=release_cells,
    backfill_policy=dg.BackfillPolicy.multi_run(SHARED_RUN),
)


@dataclass(frozen=True)
class Cell:
    """One sky cell of a release, and what its result is made from: by the asset's name, its tables and the version of
    the content of each.
    """

    release: str
    key: str
    inputs: Tables
    versions: dict[str, str]


class CellResults:
    """The results of a run, a table for each of its cells, with what is recorded of each.

    An asset makes this first, with the tables of all cells by the asset's name: it refuses cells that the quality gate
    holds before any work.

    Raises:
        Held: the gate holds a cell of the run.
    """

    def __init__(self, context: dg.AssetExecutionContext, **inputs: Tables) -> None:
        refuse_held(context.instance, context.partition_keys)
        self._context, self._inputs = context, inputs
        self._tables: Tables = {}
        self._versions: dict[str, str] = {}

    def make(self, make: Callable[[Cell], tuple[pl.DataFrame, Shown]]) -> None:
        """Makes one cell after the other, and records the versions of its content and inputs."""
        for partition in next(iter(self._inputs.values())):
            inputs = {name: tables[partition] for name, tables in self._inputs.items()}
            versions = {name: content_of_table(table) for name, table in inputs.items()}
            table, shown = make(Cell(*release_and_cell(partition), inputs, versions))
            content = content_of_table(table)
            self._tables[partition], self._versions[partition] = table, content
            self._context.add_asset_metadata(
                {**shown, "preview": preview(table), **made_from(content, versions)}, partition_key=partition
            )

    def estimate(
        self, estimate: Callable[[Cell], pl.DataFrame], show: Callable[[pl.DataFrame], Shown]
    ) -> None:
        """Estimates one cell after the other, a row a galaxy, and records how fast; compiling programs counts."""

        def timed(cell: Cell) -> tuple[pl.DataFrame, Shown]:
            began = time.monotonic()
            table = estimate(cell)
            hours = (time.monotonic() - began) / 3600.0
            return table, {
                "cell": cell.key,
                "galaxies_per_hour": round(table.height / hours),
                **show(table),
            }

        self.make(timed)

    def result(
        self, *, tags: Mapping[str, str] | None = None, metadata: Mapping[str, object] | None = None
    ) -> dg.MaterializeResult[Tables]:
        """What the asset returns."""
        versions = self._versions
        version = next(iter(versions.values())) if len(versions) == 1 else hash_of_versions(versions)
        return dg.MaterializeResult(
            value=self._tables,
            data_version=dg.DataVersion(version),
            tags=tags,
            metadata=metadata,  # type: ignore[arg-type]
        )


def content_of_table(table: pl.DataFrame) -> str:
    """The version of a table, whichever run made it."""
    return content_version(table.drop("run_id", strict=False)).value
