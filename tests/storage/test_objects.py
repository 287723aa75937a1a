"""The catalogue store on a real S3 endpoint: whole or not at all, tried again, and the same as on a disk."""

import json
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from servers import Proxy

import paeplatform.resources.objects as objects
from paeplatform.config import load_preset
from paeplatform.errors import StoreError
from paeplatform.resources.objects import (
    download,
    fetch_folder,
    fetched,
    names_in,
    publish_folder,
    put_file,
    put_text,
    read_table,
    retried,
    store_path,
    upload,
)
from paeplatform.resources.settings import PlatformSettings
from paeplatform.resources.storage import Storage
from paeplatform.resources.store import FolderStore, ParquetStore
from paeplatform.resources.workspace import Workspace
from tests.failing_query import TABLE, queried_table


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(objects, "_CLIENT", {"retries": {"mode": "standard", "max_attempts": 1}})


def resources(tmp_path: Path) -> dict[str, object]:
    return {
        "io_manager": ParquetStore(base="s3://test/store", cache=str(tmp_path / "cache")),
        "folders": FolderStore(base="s3://test/store/models", cache=str(tmp_path / "cache")),
    }


def test_a_table_comes_back_as_the_type_that_is_asked_for(s3: Storage, tmp_path: Path) -> None:
    seen = {}

    @dg.asset
    def table() -> pl.DataFrame:
        return TABLE

    @dg.asset
    def lazy(table: pl.LazyFrame) -> None:
        seen["lazy"] = table.filter(pl.col("object_id") == 2).collect()

    @dg.asset
    def path(table: Path) -> None:
        seen["path"] = table

    result = dg.materialize([table, lazy, path], resources=resources(tmp_path))
    assert seen["lazy"].equals(TABLE.filter(pl.col("object_id") == 2))
    assert pl.read_parquet(seen["path"]).equals(TABLE)
    assert seen["path"].is_relative_to(tmp_path / "cache")
    metadata = result.asset_materializations_for_node("table")[0].metadata
    assert metadata["dagster/row_count"].value == 2
    assert metadata["path"].value == "s3://test/store/table.parquet"


def test_cells_of_a_release_lie_where_the_workspace_looks(s3: Storage, tmp_path: Path) -> None:
    from paeplatform.assets.recording.partitions import CELL, RELEASE, cell_partition, release_cells

    @dg.asset(partitions_def=release_cells)
    def posteriors(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return TABLE.with_columns(cell=pl.lit(context.partition_key))

    workspace = Workspace.from_settings(PlatformSettings(tmp_path, load_preset("demo"), storage=s3))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(RELEASE, ["r1"])
        instance.add_dynamic_partitions(CELL, ["hp6-2", "hp6-1"])
        for cell in ("hp6-2", "hp6-1"):
            dg.materialize(
                [posteriors],
                resources=resources(tmp_path),
                instance=instance,
                partition_key=cell_partition("r1", cell),
            )
    path = workspace.table("posteriors", "r1", "hp6-1")
    assert read_table(path)["cell"].unique().to_list() == ["hp6-1|r1"]
    assert names_in(path.parent) == {"hp6-1.parquet", "hp6-2.parquet"}
    assert [one.stem for one in sorted(path.parent.glob("[!.]*.parquet"))] == ["hp6-1", "hp6-2"]
    assert names_in(workspace.table("nothing", "r1", "hp6-1").parent) == set()


def test_a_query_that_fails_leaves_the_old_table(s3: Storage, tmp_path: Path) -> None:
    faults: list[str] = []
    table = queried_table(faults)
    assert dg.materialize([table], resources=resources(tmp_path)).success
    faults.append("disk full")
    assert not dg.materialize([table], resources=resources(tmp_path), raise_on_error=False).success
    assert read_table("s3://test/store/table.parquet").equals(TABLE)
    assert names_in(store_path("s3://test/store")) == {"table.parquet"}


@pytest.mark.parametrize("fault", ["unwell", "cut"])
def test_a_write_is_tried_again_after_a_5xx_or_a_cut_connection(
    s3: Storage, proxy: Proxy, tmp_path: Path, fault: str
) -> None:
    @dg.asset
    def table() -> pl.DataFrame:
        return TABLE

    setattr(proxy, fault, 3)
    assert dg.materialize([table], resources=resources(tmp_path)).success
    assert proxy.hurt == 3
    assert read_table("s3://test/store/table.parquet").equals(TABLE)


@pytest.mark.parametrize("fault", ["unwell", "cut"])
def test_a_read_is_tried_again_too(s3: Storage, proxy: Proxy, tmp_path: Path, fault: str) -> None:
    local = tmp_path / "made"
    local.write_bytes(b"x" * 1000)
    upload(local, store_path("s3://test/store") / "object")
    proxy.harmed = b"GET /test/store/object"
    setattr(proxy, fault, 2)
    download(store_path("s3://test/store") / "object", tmp_path / "copy")
    assert proxy.hurt == 2
    assert (tmp_path / "copy").read_bytes() == b"x" * 1000
    TABLE.write_parquet(tmp_path / "t")
    upload(tmp_path / "t", store_path("s3://test/store") / "t.parquet")
    proxy.harmed = b"GET /test/store/t.parquet"
    setattr(proxy, fault, 1)
    assert read_table("s3://test/store/t.parquet").equals(TABLE)  # polars' own client
    assert proxy.hurt == 3


def test_a_service_that_stays_unwell_is_said_with_the_path_and_leaves_the_old_table(
    s3: Storage, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = TABLE

    @dg.asset
    def table() -> pl.DataFrame:
        return rows

    assert dg.materialize([table], resources=resources(tmp_path)).success
    monkeypatch.setattr(objects, "ATTEMPTS", 1)
    rows, proxy.unwell = TABLE.head(1), 1000
    result = dg.materialize([table], resources=resources(tmp_path), raise_on_error=False)
    failure = result.failure_data_for_node("table")
    assert failure is not None and "s3://test/store/table.parquet cannot be written" in str(failure)
    proxy.unwell = 0
    assert read_table("s3://test/store/table.parquet").equals(TABLE)


def test_what_another_try_cannot_mend_is_not_tried_again() -> None:
    calls = 0

    def work() -> None:
        nonlocal calls
        calls += 1
        raise PermissionError("denied")

    with pytest.raises(PermissionError):
        retried(work, "write")
    assert calls == 1


def folder(path: Path, text: str) -> Path:
    (path / "parts").mkdir(parents=True)
    (path / "weights").write_text(text)
    (path / "parts" / "record.json").write_text("{}")
    return path


def test_a_model_folder_is_the_old_one_or_the_new_one(
    s3: Storage, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store_path("s3://test/store/models") / "autoencoder"
    publish_folder(folder(tmp_path / "a", "old"), path)
    first = fetch_folder(path, tmp_path / "cache")
    assert (first / "weights").read_text() == "old" and (first / "parts" / "record.json").is_file()
    sent = objects.put_text

    def dies(where: object, text: str) -> None:
        raise OSError("killed before the last object")

    monkeypatch.setattr(objects, "put_text", dies)
    with pytest.raises(OSError, match="killed"):
        publish_folder(folder(tmp_path / "b", "new"), path)
    assert (fetch_folder(path, tmp_path / "other") / "weights").read_text() == "old"
    monkeypatch.setattr(objects, "put_text", sent)
    for text in ("new", "newer"):
        publish_folder(folder(tmp_path / text, text), path)
    assert (fetch_folder(path, tmp_path / "cache") / "weights").read_text() == "newer"
    assert len(names_in(path)) == 2  # and the one before, which a reader may be at


def test_a_folder_with_a_foreign_file_is_refused(s3: Storage, tmp_path: Path) -> None:
    path = store_path("s3://test/store/models") / "flow"
    publish_folder(folder(tmp_path / "a", "good"), path)
    version = json.loads((path.parent / "flow.current").read_text())["version"]
    put_text(path / version / "weights", "evil")
    with pytest.raises(StoreError, match="is not what was published"):
        fetch_folder(path, tmp_path / "cache")
    with pytest.raises(FileNotFoundError):
        fetch_folder(path.parent / "nothing", tmp_path / "cache")


def test_models_go_through_the_io_manager(s3: Storage, tmp_path: Path) -> None:
    seen = {}

    @dg.asset(io_manager_key="folders")
    def model() -> Path:
        return folder(tmp_path / ".scratch" / "1" / "model", "weights")

    @dg.asset
    def reader(model: Path) -> None:
        seen["text"] = (model / "weights").read_text()

    assert dg.materialize([model, reader], resources=resources(tmp_path)).success
    assert seen["text"] == "weights"
    assert not (tmp_path / ".scratch" / "1").exists()


def test_a_copy_is_fetched_again_when_the_object_changed(s3: Storage, tmp_path: Path) -> None:
    path = store_path("s3://test/store") / "text.txt"
    for text in ("one", "two"):
        put_text(path, text)
        assert fetched(path, tmp_path).read_text() == text
        assert fetched(path, tmp_path).read_text() == text
    assert len(list(tmp_path.rglob("*.txt"))) == 1


def test_a_finished_file_is_moved_to_either_kind_of_place(s3: Storage, tmp_path: Path) -> None:
    for place in (store_path(tmp_path / "store"), store_path("s3://test/store")):
        made = tmp_path / "made"
        made.write_text("text")
        put_file(made, place / "folder" / "file")
        assert not made.exists()
        assert (place / "folder" / "file").read_text() == "text"
