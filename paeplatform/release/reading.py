"""The files of a delivery: are they what the manifest says, and their rows, batch by batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from paeplatform.errors import InputError
from paeplatform.release.landing import MISSING, DeliveryError, file_fault, landing_of, regular_file
from paeplatform.release.manifest import DeliveryFile, Manifest
from paeplatform.release.outcomes import RuleOutcome
from paeplatform.release.quality_rules import load_rules
from paeplatform.release.schema import EXPOSURE_SCHEMA, as_exposures
from paeplatform.release.text import as_type

BATCH_ROWS = 200_000
_CHUNK_BYTES = 1 << 22
_SHOWN_COLUMNS, _SHOWN_NAME, _SHOWN_REASON = 5, 30, 120  # that messages repeat of a file
_FITS_LETTERS = {"B", "I", "J", "K"}  # integers; unsigned ones are stored with TZERO
FILE_RULES = (
    "manifest.files",
    "manifest.checksum",
    "manifest.row_count",
    "file.readable",
    "schema.columns",
    "schema.extra_columns",
    "schema.dtypes",
)


def verify_files(folder: Path, manifest: Manifest, *, progress: bool = True) -> list[RuleOutcome]:
    """Every file against the manifest and the schema, before a row is used.

    Args:
        folder: of the delivery.
        manifest: its claims.
        progress: shows a bar in bytes.

    Returns:
        An outcome of each of `FILE_RULES` for each file they can be asked of, all of level release.
    """
    outcomes: list[RuleOutcome] = []
    total = sum(file.bytes for file in manifest.files)
    with tqdm(total=total, desc="verify", unit="B", unit_scale=True, disable=not progress) as bar:
        for file in manifest.files:
            outcomes += _verified(Path(folder) / file.name, file, landing_of(folder))
            bar.update(file.bytes)
    counted = sum(file.rows for file in manifest.files)
    right = counted == manifest.n_rows
    return [*outcomes, _outcome("manifest.row_count", right, "n_rows", manifest.n_rows, counted, "all files")]


def read_batches(folder: Path, file: DeliveryFile, batch_rows: int = BATCH_ROWS) -> Iterator[pl.DataFrame]:
    """The rows of a file, `batch_rows` at a time: columns of `EXPOSURE_SCHEMA`, then file (str) and row (u32, from 0).

    Raises:
        InputError: the file is no regular one inside the landing zone, cannot be read, or a value is not of its
            column's type (names file, column and row).
    """
    path, first = regular_file(Path(folder) / file.name, landing_of(folder)), 0
    for table in _tables(path, file.format, batch_rows):
        origin = f"{path}, from row {first}"
        exposures = as_exposures(_typed(table, origin) if file.format == "csv" else table, origin)
        row = pl.int_range(first, first + table.height, dtype=pl.UInt32, eager=True)
        yield exposures.with_columns(pl.lit(file.name).alias("file"), row.alias("row"))
        first += table.height


def write_table(table: pl.DataFrame, path: Path, file_format: str) -> None:
    """Writes rows in one of the formats of a delivery; FITS keeps flags as unsigned 64 bit.

    Raises:
        InputError: another format.
    """
    if file_format == "parquet":
        table.write_parquet(path)
    elif file_format == "csv":
        table.write_csv(path)
    elif file_format == "fits":
        from astropy.table import Table

        columns = {
            # with a type, since an empty list would become a column of numbers
            name: np.array(table[name].to_list(), dtype=np.str_)
            if table.schema[name] == pl.String
            else table[name].to_numpy()
            for name in table.columns
        }
        Table(columns).write(path, format="fits", overwrite=True)
    else:
        raise InputError(f"file format {file_format!r} must be parquet, csv or fits")


def described_file(path: Path, file_format: str, rows: int) -> DeliveryFile:
    """A file of a delivery as its manifest lists it."""
    size = path.stat().st_size
    return DeliveryFile(name=path.name, format=file_format, sha256=file_sha256(path), rows=rows, bytes=size)  # type: ignore[arg-type]


def file_sha256(path: Path) -> str:
    """Of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _verified(path: Path, file: DeliveryFile, landing: Path) -> list[RuleOutcome]:
    fault = file_fault(path, landing)
    seen = "missing" if fault == MISSING else fault or "present"
    found: list[RuleOutcome] = []

    def judge(rule: str, passed: bool, column: str, observed: object, expected: object) -> None:
        found.append(_outcome(rule, passed, column, observed, expected, file.name))

    judge("manifest.files", fault is None, "file", seen, "a regular file")
    if fault is not None:
        return found
    size = path.stat().st_size
    digest = file_sha256(path) if size == file.bytes else f"{size} bytes"
    wanted = file.sha256 if size == file.bytes else f"{file.bytes} bytes"
    judge("manifest.checksum", digest == wanted, "sha256", digest[:16], wanted[:16])
    try:
        schema, rows = _shape(path, file.format)
    except Exception as error:
        judge("file.readable", False, "file", _reason(error), f"readable {file.format}")
        return found
    judge("file.readable", True, "file", "readable", f"readable {file.format}")
    judge("manifest.row_count", rows == file.rows, "rows", rows, file.rows)
    missing = [name for name in EXPOSURE_SCHEMA if name not in schema]
    text = f"{', '.join(missing)} missing ({len(schema)} columns there)" if missing else "all"
    judge("schema.columns", not missing, "columns", text, "all of the long format")
    more = _names([name for name in schema if name not in EXPOSURE_SCHEMA])
    text = f"{more} beside them" if more else "none"
    judge("schema.extra_columns", not more, more or "columns", text, "none")
    wrong = {
        name: dtype
        for name, dtype in schema.items()
        if name in EXPOSURE_SCHEMA and not _same_kind(dtype, EXPOSURE_SCHEMA[name])
    }
    seen = ", ".join(f"{name} {dtype}" for name, dtype in wrong.items()) or "as documented"
    expected = ", ".join(f"{name} {EXPOSURE_SCHEMA[name]}" for name in wrong) or "as documented"
    judge("schema.dtypes", not wrong, ", ".join(wrong) or "all", seen, expected)
    return found


def _same_kind(found: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether a column can be of its documented type: flags exactly, others by kind."""
    if wanted == pl.UInt64():  # an int32 or int64 loses bits 31 to 63, or their meaning
        return found == wanted
    if wanted.is_float():
        return found.is_numeric()
    if wanted.is_integer():
        return found.is_integer()
    return found == wanted


def _shape(path: Path, file_format: str) -> tuple[dict[str, pl.DataType], int]:
    """(types by column, number of rows); a column of a CSV has its documented type when every cell is of it."""
    if file_format == "parquet":
        import pyarrow.parquet as pq

        rows = pq.ParquetFile(path).metadata.num_rows
        return dict(pl.scan_parquet(path, glob=False).collect_schema()), rows
    if file_format == "csv":
        lazy = _text_columns(path)
        names, rows, text = lazy.collect_schema().names(), 0, set()
        for batch in lazy.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
            rows += batch.height
            documented = [name for name in names if name in EXPOSURE_SCHEMA and name not in text]
            text |= {name for name in documented if as_type(batch[name], EXPOSURE_SCHEMA[name])[1].any()}
        return {
            name: pl.String() if name in text else EXPOSURE_SCHEMA.get(name, pl.String()) for name in names
        }, rows
    from astropy.io import fits

    with fits.open(path, memmap=True) as hdus:
        data = hdus[1].data  # pyright: ignore[reportAttributeAccessIssue]
        return dict(_fits_frame(data[:1]).schema), len(
            data
        )  # a table of no rows has its columns all the same


def _tables(path: Path, file_format: str, batch_rows: int) -> Iterator[pl.DataFrame]:
    try:
        if file_format == "parquet":
            import pyarrow.parquet as pq

            for batch in pq.ParquetFile(path).iter_batches(batch_rows):
                yield pl.DataFrame(pl.from_arrow(batch))
        elif file_format == "csv":
            yield from _text_columns(path).collect_batches(chunk_size=batch_rows, maintain_order=True)
        else:
            yield from _fits_tables(path, batch_rows)
    except InputError:
        raise
    except Exception as error:
        raise DeliveryError(f"{path} cannot be read as {file_format}: {_reason(error)}") from error


def _text_columns(path: Path) -> pl.LazyFrame:
    """A CSV with every column as text: its types are those of the schema, whatever its first rows look like."""
    return pl.scan_csv(path, infer_schema=False, glob=False)


def _typed(table: pl.DataFrame, origin: str) -> pl.DataFrame:
    """Columns of text as their documented types; those that the schema does not have stay text.

    Raises:
        InputError: a cell is not of its column's type (names `origin`, column and row).
    """
    columns = []
    for name in table.columns:
        dtype = EXPOSURE_SCHEMA.get(name, pl.String())
        values, bad = as_type(table[name], dtype)
        if bad.any():
            row = int(np.argmax(bad.to_numpy()))
            raise InputError(
                f"{origin}: column {name}, row {row}: {str(table[name][row])[:30]!r} is no {dtype}"
            )
        columns.append(values)
    return pl.DataFrame(columns)


def _fits_tables(path: Path, batch_rows: int) -> Iterator[pl.DataFrame]:
    from astropy.io import fits

    with fits.open(path, memmap=True) as hdus:
        data = hdus[1].data  # pyright: ignore[reportAttributeAccessIssue]
        for first in range(0, len(data), batch_rows):
            yield _fits_frame(data[first : first + batch_rows])


def _fits_frame(part: Any) -> pl.DataFrame:
    """Rows of a FITS table (`astropy.io.fits.FITS_rec`), of which there may be none."""
    columns = {}
    for name in part.columns.names:
        values = part[name]
        if values.dtype.kind in "US":
            texts = [str(value).strip() for value in values]
            columns[name] = pl.Series(name, texts, dtype=pl.String)
        else:
            columns[name] = pl.Series(name, values.astype(values.dtype.newbyteorder("=")))
    return pl.DataFrame(columns)


def _reason(error: Exception) -> str:
    """The first line of a library's error: those that follow quote the file at length."""
    lines = str(error).strip().splitlines()
    return " ".join(lines[0].split())[:_SHOWN_REASON] if lines else type(error).__name__


def _names(columns: list[str]) -> str:
    """Columns that nobody asked for, cut short: a file that is no table gives a line of itself as its column."""
    more = f" and {len(columns) - _SHOWN_COLUMNS} more" if len(columns) > _SHOWN_COLUMNS else ""
    return ", ".join(name[:_SHOWN_NAME] for name in columns[:_SHOWN_COLUMNS]) + more


def _outcome(
    rule: str, passed: bool, column: str, observed: object, expected: object, detail: str
) -> RuleOutcome:
    """What a packaged rule found."""
    return load_rules().named(rule).outcome(bool(passed), column, str(observed), str(expected), detail)
