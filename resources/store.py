"""Where assets keep what they make: tables as Parquet, models as folders, both put in place by one rename.

A reader therefore sees the old file or the new one and never half of one, and a writer that dies leaves only
a name that starts with a dot. Paths are `<base>/<asset>.parquet`, `<base>/<asset>/<release>/<cell>.parquet`
(one file for each partition). In object storage the same holds by other means (`paeplatform.resources.objects`).
"""

from __future__ import annotations

import shutil
import tempfile
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

import dagster as dg
import polars as pl
from upath import UPath

from paeplatform.errors import CheckpointError, StoreError
from paeplatform.files import replace_folder, replaced
from paeplatform.names import check_name
from paeplatform.resources.failures import failing_alone
from paeplatform.resources.objects import (
    fetch_folder,
    fetched,
    is_remote,
    publish_folder,
    put_file,
    store_path,
    upload,
)

SCRATCH = ".scratch"  # name of the folder for what is not finished yet


def _leave(finished: Path) -> None:
    """Removes the folder that `Workspace.scratch_path` made for a file that is gone from it."""
    if finished.parent.parent.name == SCRATCH:
        with suppress(OSError):
            finished.parent.rmdir()


def table_schema(schema: Mapping[str, pl.DataType]) -> dg.TableSchema:
    """Polars' schema in Dagster's terms, for the column tab of the UI."""
    return dg.TableSchema([dg.TableColumn(name, str(dtype)) for name, dtype in schema.items()])


class _StoreIOManager(dg.UPathIOManager):
    """What tables and folders share: a place for copies of what lies elsewhere, and paths made of names."""

    def __init__(self, base_path: UPath, cache: Path) -> None:
        super().__init__(base_path)
        self._cache = cache

    def get_path_for_partition(
        self, context: dg.InputContext | dg.OutputContext, path: UPath, partition: str
    ) -> UPath:
        """Dagster orders the dimensions by name, cell before release; people look for the release first."""
        parts = _checked_keys(context, partition)
        return super().get_path_for_partition(context, path, "/".join(reversed(parts)))


class _ParquetIOManager(_StoreIOManager):
    extension = ".parquet"

    def dump_to_path(
        self, context: dg.OutputContext, obj: pl.DataFrame | pl.LazyFrame | Path, path: UPath
    ) -> None:
        with storage_errors(path, "written"):
            _write(obj, path)
        table = pl.scan_parquet(str(path), glob=False)
        context.add_output_metadata(
            {
                "dagster/row_count": table.select(pl.len()).collect().item(),
                "dagster/column_schema": table_schema(table.collect_schema()),
                "size_mb": round(path.stat().st_size / 1e6, 3),
            }
        )

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """A run over several partitions hands over a table for each, by partition key."""
        if isinstance(obj, dict) and len(obj) == 1:
            obj = next(iter(obj.values()))
        if not isinstance(obj, dict):
            # names the folder, which is made first
            with storage_errors(self._base_path.joinpath(*context.asset_key.path), "written"):
                super().handle_output(context, obj)
            return
        paths = self._get_paths_for_partitions(context)
        if set(map(str, obj)) != set(map(str, paths)):
            raise CheckpointError(
                f"{context.asset_key.to_user_string()}: tables of {sorted(obj)} made, {sorted(paths)} wanted"
            )
        for partition, path in paths.items():
            with storage_errors(path, "written"):
                self.make_directory(path.parent)
                _write(obj[partition], path)

    def load_from_path(self, context: dg.InputContext, path: UPath) -> pl.DataFrame | pl.LazyFrame | Path:
        if not path.exists():
            raise FileNotFoundError(str(path))  # scan_parquet would only notice on collect
        wanted = context.dagster_type.typing_type
        if typing.get_origin(wanted) is dict:
            wanted = typing.get_args(wanted)[1]
        with storage_errors(path, "read"):
            table = pl.scan_parquet(str(path), glob=False)
            table.collect_schema()  # the footer is at the end: a truncated file has none
            if wanted is Path:
                return fetched(path, self._cache) if is_remote(path) else Path(str(path))
            return table.collect() if wanted is pl.DataFrame else table

    def load_partitions(self, context: dg.InputContext) -> object:
        """Several partitions arrive as one table, or as a dict when the input is annotated so."""
        loaded = super().load_partitions(context)
        if typing.get_origin(context.dagster_type.typing_type) is dict:
            return loaded if isinstance(loaded, dict) else {context.asset_partition_keys[0]: loaded}
        if not isinstance(loaded, dict):
            return loaded
        return pl.concat([loaded[key] for key in sorted(loaded)])


def _checked_keys(context: dg.InputContext | dg.OutputContext, partition: str) -> list[str]:
    """The keys of a partition, one for each of its dimensions, as names that lead to no other folder.

    Raises:
        dagster.Failure: a key is no name.
    """
    cut = context.asset_partitions_def
    dimensions = len(cut.partitions_defs) if isinstance(cut, dg.MultiPartitionsDefinition) else 1
    keys = partition.split("/")
    if len(keys) != dimensions:  # a key holds a slash itself
        keys = [partition]
    with failing_alone():
        return [check_name(key, "partition key") for key in keys]


@contextmanager
def storage_errors(path: Path | UPath, what: str) -> Iterator[None]:
    """Names the file and what to do, instead of a library's error that does not.

    Args:
        path: of the file, or folder.
        what: "read" or "written".

    Raises:
        dagster.Failure: caused by a `StoreError`.
    """
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = " ".join(str(error).split())[:200]
        system = isinstance(error, OSError) or "os error" in reason.lower()
        if what != "read" and not system:
            raise  # of the query that makes the table
        remedy = (
            "mend the cause and run again; what stood there before still stands"
            if system
            else "it is damaged: delete it, and `paeplatform run` makes it again"
        )
        line = f"{path} cannot be {what} ({reason}): {remedy}"
        raise dg.Failure(description=line, allow_retries=is_remote(path)) from StoreError(line)


def _write(obj: pl.DataFrame | pl.LazyFrame | Path, path: UPath) -> None:
    if isinstance(obj, Path):  # an asset that streamed its own table hands over the finished file
        put_file(obj, path)
        _leave(obj)
    elif is_remote(
        path
    ):  # made here, whole: a failing query sends nothing, a failing transfer repeats no work
        with tempfile.TemporaryDirectory(prefix="paeplatform-") as folder:
            local = Path(folder) / path.name
            obj.lazy().sink_parquet(str(local))
            upload(local, path)
    else:
        with replaced(Path(str(path))) as unfinished:
            obj.lazy().sink_parquet(str(unfinished))


class _Store(dg.ConfigurableIOManagerFactory):
    base: str
    cache: str = ""
    _manager: ClassVar[type[_StoreIOManager]]

    def create_io_manager(self, context: dg.InitResourceContext) -> _StoreIOManager:
        """Called by Dagster once a run."""
        return self._manager(store_path(self.base), Path(self.cache or tempfile.gettempdir()) / "store")


class ParquetStore(_Store):
    """Tables as Parquet under `base`, a local folder or s3://bucket/prefix.

    An input annotated `pl.LazyFrame` is scanned, `pl.DataFrame` read, `pathlib.Path` given as the file's
    path, of a copy under `cache` when the file lies elsewhere.
    """

    _manager = _ParquetIOManager


class _FolderIOManager(_StoreIOManager):
    def dump_to_path(self, context: dg.OutputContext, obj: Path, path: UPath) -> None:
        context.add_output_metadata({"files": sorted(entry.name for entry in obj.iterdir())})
        if not is_remote(path):
            replace_folder(obj, Path(str(path)))
        else:
            publish_folder(obj, path)
            shutil.rmtree(obj)
        _leave(obj)

    def load_from_path(self, context: dg.InputContext, path: UPath) -> Path:
        if is_remote(path):
            return fetch_folder(path, self._cache)
        if not path.exists():
            raise FileNotFoundError(str(path))
        return Path(str(path))


class FolderStore(_Store):
    """Model folders under `base`, local or s3://: an asset returns a finished folder, a reader gets a local path.

    Copies of folders that lie elsewhere are kept under `cache`.
    """

    _manager = _FolderIOManager
