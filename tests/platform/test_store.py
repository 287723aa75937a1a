from pathlib import Path

import dagster as dg
import polars as pl

from paeplatform.resources.store import FolderStore, ParquetStore
from tests.failing_query import TABLE, queried_table


def materialise(
    asset: dg.AssetsDefinition, base: Path, *others: dg.AssetsDefinition, **kwargs
) -> dg.ExecuteInProcessResult:
    resources = {
        "io_manager": ParquetStore(base=str(base)),
        "folders": FolderStore(base=str(base / "models")),
    }
    return dg.materialize([asset, *others], resources=resources, raise_on_error=False, **kwargs)


def test_a_table_comes_back_as_the_type_that_is_asked_for(tmp_path: Path) -> None:
    seen = {}

    @dg.asset
    def table() -> pl.DataFrame:
        return TABLE

    @dg.asset
    def reader(table: pl.LazyFrame) -> None:
        seen["lazy"] = table

    @dg.asset
    def eager(table: pl.DataFrame) -> None:
        seen["eager"] = table

    @dg.asset
    def path(table: Path) -> None:
        seen["path"] = table

    result = materialise(table, tmp_path, reader, eager, path)
    assert result.success
    assert isinstance(seen["lazy"], pl.LazyFrame)
    assert seen["lazy"].collect().equals(TABLE)
    assert seen["eager"].equals(TABLE)
    assert seen["path"] == tmp_path / "table.parquet"
    metadata = result.asset_materializations_for_node("table")[0].metadata
    assert metadata["dagster/row_count"].value == 2
    assert [column.name for column in metadata["dagster/column_schema"].value.columns] == TABLE.columns


def test_a_finished_file_is_moved_into_place(tmp_path: Path) -> None:
    made = tmp_path / "made.parquet"

    @dg.asset
    def table() -> Path:
        TABLE.write_parquet(made)
        return made

    assert materialise(table, tmp_path / "store").success
    assert not made.exists()
    assert pl.read_parquet(tmp_path / "store" / "table.parquet").equals(TABLE)


def test_a_writer_that_dies_leaves_the_old_table_and_no_debris(tmp_path: Path) -> None:
    faults: list[str] = []
    table = queried_table(faults)
    assert materialise(table, tmp_path).success
    faults.append("disk full")
    assert not materialise(table, tmp_path).success
    assert pl.read_parquet(tmp_path / "table.parquet").equals(TABLE)
    assert [path.name for path in tmp_path.iterdir()] == ["table.parquet"]


def test_partitions_fan_in_as_one_table(tmp_path: Path) -> None:
    cells = dg.StaticPartitionsDefinition(["c1", "c2"])
    seen = {}

    @dg.asset(partitions_def=cells)
    def part(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return TABLE.with_columns(cell=pl.lit(context.partition_key))

    @dg.asset
    def whole(part: pl.LazyFrame) -> None:
        seen["whole"] = part.collect()

    @dg.asset
    def parts(part: dict[str, pl.LazyFrame]) -> None:
        seen["parts"] = sorted(part)

    with dg.DagsterInstance.ephemeral() as instance:
        for key in ("c2", "c1"):
            assert materialise(part, tmp_path, instance=instance, partition_key=key).success
        both = [whole, parts]
        assert materialise(part, tmp_path, *both, instance=instance, selection=both).success
    assert seen["whole"]["cell"].to_list() == ["c1", "c1", "c2", "c2"]
    assert seen["parts"] == ["c1", "c2"]
