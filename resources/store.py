"""Where assets keep what they make: tables as Parquet, models as folders, both put in place by one rename.

A reader therefore sees the old file or the new one and never half of one, and a writer that dies leaves only
a name that starts with a dot. Paths are `<base>/<asset>.parquet`, `<base>/<asset>/<release>/<cell>.parquet`
(row K2: one file a partition).
"""

from __future__ import annotations

import shutil
import typing
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
import polars as pl
from upath import UPath

from paeplatform.errors import CheckpointError, StoreError

SCRATCH = ".scratch"  # folder under the store for what is not finished yet


def _unfinished(path: UPath) -> UPath:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def _move(finished: Path, to: Path) -> None:
    shutil.move(finished, to)
    if finished.parent.parent.name == SCRATCH:  # of `Workspace.scratch_path`, which made a folder for it
        with suppress(OSError):
            finished.parent.rmdir()


def table_schema(schema: Mapping[str, pl.DataType]) -> dg.TableSchema:
    """Polars' schema in Dagster's terms, for the column tab of the UI."""
    return dg.TableSchema([dg.TableColumn(name, str(dtype)) for name, dtype in schema.items()])


class _ParquetIOManager(dg.UPathIOManager):
    extension = ".parquet"

    def dump_to_path(
        self, context: dg.OutputContext, obj: pl.DataFrame | pl.LazyFrame | Path, path: UPath
    ) -> None:
        with said(path, "written"):
            _write(obj, path)
        table = pl.scan_parquet(str(path))
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
            with said(self._base_path.joinpath(*context.asset_key.path), "written"):  # its folder, made first
                super().handle_output(context, obj)
            return
        paths = self._get_paths_for_partitions(context)
        if set(map(str, obj)) != set(map(str, paths)):
            raise CheckpointError(
                f"{context.asset_key.to_user_string()}: tables of {sorted(obj)} made, {sorted(paths)} wanted"
            )
        for partition, path in paths.items():
            with said(path, "written"):
                self.make_directory(path.parent)
                _write(obj[partition], path)

    def load_from_path(self, context: dg.InputContext, path: UPath) -> pl.DataFrame | pl.LazyFrame | Path:
        if not path.exists():
            raise FileNotFoundError(str(path))  # scan_parquet would only notice on collect
        wanted = context.dagster_type.typing_type
        if typing.get_origin(wanted) is dict:
            wanted = typing.get_args(wanted)[1]
        with said(path, "read"):
            table = pl.scan_parquet(str(path))
            table.collect_schema()  # the footer is at the end: a truncated file has none
            if wanted is Path:
                return Path(str(path))
            return table.collect() if wanted is pl.DataFrame else table

    def get_path_for_partition(
        self, context: dg.InputContext | dg.OutputContext, path: UPath, partition: str
    ) -> UPath:
        """Dagster orders the dimensions by name, cell before release; people look for the release first."""
        return super().get_path_for_partition(context, path, "/".join(reversed(partition.split("/"))))

    def load_partitions(self, context: dg.InputContext) -> object:
        """Several partitions arrive as one table, or as a dict when the input is annotated so."""
        loaded = super().load_partitions(context)
        if typing.get_origin(context.dagster_type.typing_type) is dict:
            return loaded if isinstance(loaded, dict) else {context.asset_partition_keys[0]: loaded}
        if not isinstance(loaded, dict):
            return loaded
        return pl.concat([loaded[key] for key in sorted(loaded)])


@contextmanager
def said(path: Path | UPath, what: str) -> Iterator[None]:
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
        raise dg.Failure(description=line, allow_retries=False) from StoreError(line)


def _write(obj: pl.DataFrame | pl.LazyFrame | Path, path: UPath) -> None:
    unfinished = _unfinished(path)
    try:
        if isinstance(obj, Path):  # an asset that streamed its own table hands over the finished file
            _move(obj, Path(str(unfinished)))
        else:
            obj.lazy().sink_parquet(str(unfinished))
        unfinished.rename(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


class ParquetStore(dg.ConfigurableIOManagerFactory):
    """Tables as Parquet under `base`, a local folder or any fsspec URL.

    An input annotated `pl.LazyFrame` is scanned, `pl.DataFrame` read, `pathlib.Path` given as the file's
    path.
    """

    base: str

    def create_io_manager(self, context: dg.InitResourceContext) -> _ParquetIOManager:
        """Called by Dagster once a run."""
        return _ParquetIOManager(UPath(self.base))


class _FolderIOManager(dg.UPathIOManager):
    def dump_to_path(self, context: dg.OutputContext, obj: Path, path: UPath) -> None:
        replace_folder(obj, Path(str(path)))
        context.add_output_metadata({"files": sorted(entry.name for entry in Path(str(path)).iterdir())})

    def load_from_path(self, context: dg.InputContext, path: UPath) -> Path:
        if not path.exists():
            raise FileNotFoundError(str(path))
        return Path(str(path))


class FolderStore(dg.ConfigurableIOManagerFactory):
    """Model folders under `base`, a local path: an asset returns a finished folder, a reader gets a path."""

    base: str

    def create_io_manager(self, context: dg.InitResourceContext) -> _FolderIOManager:
        """Called by Dagster once a run."""
        return _FolderIOManager(UPath(self.base))


def replace_folder(finished: Path, path: Path) -> None:
    """Moves folder `finished` to `path`; what stood there goes only after the new one came."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished, old = (path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.{end}") for end in ("tmp", "old"))
    try:
        _move(finished, unfinished)
        if path.exists():
            path.rename(old)
        unfinished.rename(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
