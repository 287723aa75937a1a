"""What makes an asset out of date: the settings it reads and the content of its inputs."""

import hashlib
import json
from pathlib import Path

import dagster as dg
import polars as pl

from paeplatform.config import Preset

CHUNK_BYTES = 1 << 20
CONTENT_FILE = "content.txt"  # in the folder of a model: the content hash it was registered under


def code_version(number: int, preset: Preset, *settings: str) -> str:
    """`<number>-<digest>` over the seed and the named settings.

    Args:
        number: raised by hand when the code behind the asset changes its result.
        preset: the run's configuration.
        settings: dotted paths such as `pae.autoencoder`; finer than whole sections, so that a changed flow
            setting leaves the autoencoder alone.
    """
    tree = preset.model_dump(mode="json")
    chosen: dict[str, object] = {"seed": tree["seed"]}
    for path in settings:
        value: object = tree
        for name in path.split("."):
            value = value[name]  # type: ignore[index]
        chosen[path] = value
    return f"{number}-{hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:10]}"


def left_out(preset: Preset) -> tuple[str, ...]:
    """The setting of templates that the training does not see, when there are some: without any, versions stay."""
    return ("tables.leave_out",) if preset.tables.leave_out else ()


def file_digest(path: Path) -> str:
    """Sixteen hex digits over a file's bytes, or over names and bytes of all files below a folder."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        digest.update(file.name.encode() if path.is_dir() else b"")
        with file.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()[:16]


def content_of_model(folder: Path) -> str:
    """The content hash under which a model asset's folder was registered."""
    noted = folder / CONTENT_FILE
    return noted.read_text() if noted.is_file() else file_digest(folder)


def content_version(table: pl.DataFrame) -> dg.DataVersion:
    """Sixteen hex digits over names, types and values, however the table lies in memory or on disk."""
    digest = hashlib.sha256(str(table.height).encode())
    for column in table.rechunk().iter_columns():
        digest.update(f"{column.name}\0{column.dtype}\0".encode())
        _add_values(digest, column)
    return dg.DataVersion(digest.hexdigest()[:16])


def _add_values(digest: "hashlib._Hash", column: pl.Series) -> None:
    if column.null_count():
        digest.update(column.is_null().to_numpy().tobytes())
        column = column.drop_nulls()
    if isinstance(column.dtype, pl.List):
        digest.update(column.list.len().to_numpy().tobytes())
        _add_values(digest, column.explode(empty_as_null=False))
    elif isinstance(column.dtype, pl.Array):
        _add_values(digest, column.explode())
    elif column.dtype in (pl.String, pl.Categorical, pl.Enum):
        text = column.cast(pl.String)
        digest.update(text.str.len_bytes().to_numpy().tobytes())
        digest.update("".join(text).encode())
    else:
        digest.update(column.to_physical().to_numpy().tobytes())
