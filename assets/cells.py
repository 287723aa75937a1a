"""What assets cut by release and sky cell share: the tables of a run, each with its own content version and inputs."""

from collections.abc import Mapping

import dagster as dg
import polars as pl

from assets.accepted import refuse_held
from assets.metadata import preview
from assets.provenance import hash_of_versions, made_from
from assets.versions import content_version

Tables = dict[str, pl.DataFrame]  # by partition


class Made:
    """The tables of a run's cells, with what is recorded of each.

    An asset makes this first: it refuses cells that the quality gate holds before any work.

    Raises:
        dagster.Failure: the gate holds a cell of the run.
    """

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        refuse_held(context.instance, context.partition_keys)
        self._context = context
        self._tables: Tables = {}
        self._versions: dict[str, str] = {}

    def add(
        self,
        partition: str,
        table: pl.DataFrame,
        inputs: Mapping[str, str],
        metadata: Mapping[str, object],
    ) -> None:
        """One cell's result, the versions of its inputs, and what people look at."""
        content = content_of_table(table)
        self._tables[partition], self._versions[partition] = table, content
        self._context.add_asset_metadata(
            {**metadata, "preview": preview(table), **made_from(content, inputs)}, partition_key=partition
        )

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


def counts(table: pl.DataFrame, column: str) -> dg.MetadataValue:
    """How often each value of a column occurs."""
    return dg.MetadataValue.json(dict(table[column].value_counts().sort(column).iter_rows()))
