"""Posteriors into a file for the user: Parquet, CSV or FITS, by the file's suffix.

Parquet keeps every column. CSV has no arrays: columns such as pae_z_quantiles are left out. FITS keeps arrays of one
length as vector columns, a missing number as NaN (an integer by TNULL), a missing text as an empty one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from paeplatform.config import TrustConfig
from paeplatform.errors import InputError
from paeplatform.targets import MARK, Target, creator

SUFFIXES = (".parquet", ".csv", ".fits")


def check_output(path: Path, *, overwrite: bool = False) -> None:
    """Refuses, before work starts, a path that `write_posteriors` could not write to or may not replace.

    Args:
        path: ends in .parquet, .csv or .fits.
        overwrite: whether a file of posteriors that the platform wrote may be replaced.

    Raises:
        InputError: another suffix, a folder, a link, a file that may not be replaced, or a parent that is a file or
            cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: suffix {path.suffix or 'none'} must be one of {', '.join(SUFFIXES)}")
    Target(path, overwrite, "--output").check()


def write_posteriors(
    path: Path, table: pl.DataFrame, *, trust: TrustConfig, overwrite: bool = False
) -> tuple[str, ...]:
    """Writes a table of posteriors, whole or not at all.

    Args:
        path: ends in .parquet, .csv or .fits; its folder is made if need be.
        table: one row a source.
        trust: limits that its statuses and flags were made with. They go into the file's metadata (Parquet) or the
            header (FITS, TRUST) as JSON; CSV has no place for them.
        overwrite: replaces a file of posteriors that stands at `path`, in one step; what the platform did not write is
            never replaced.

    Returns:
        Names of the columns that the format could not hold.

    Raises:
        InputError: see `check_output`.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    writers = {".parquet": _write_parquet, ".csv": _write_csv, ".fits": _write_fits}
    with Target(path, overwrite, "--output").new() as unfinished:
        return writers[path.suffix.lower()](unfinished, table, trust)


def _write_parquet(path: Path, table: pl.DataFrame, trust: TrustConfig) -> tuple[str, ...]:
    table.write_parquet(path, metadata={MARK: creator(), "trust": trust.model_dump_json()})
    return ()


def _write_csv(path: Path, table: pl.DataFrame, trust: TrustConfig) -> tuple[str, ...]:
    left_out = tuple(name for name, dtype in table.schema.items() if dtype.is_nested())
    table.drop(left_out).write_csv(path)
    return left_out


def _write_fits(path: Path, table: pl.DataFrame, trust: TrustConfig) -> tuple[str, ...]:
    from astropy.io import fits
    from astropy.table import Table

    columns = {name: _fits_column(table[name]) for name in table.columns}
    held = {name: column for name, column in columns.items() if column is not None}
    first = fits.PrimaryHDU()
    first.header["CREATOR"] = creator()
    first.header["TRUST"] = trust.model_dump_json()
    fits.HDUList([first, fits.table_to_hdu(Table(held))]).writeto(path)
    return tuple(name for name in columns if name not in held)


def _fits_column(column: pl.Series) -> Any | None:
    """An array astropy can write, None for what FITS cannot hold."""
    from astropy.table import MaskedColumn

    if isinstance(column.dtype, pl.List):
        lengths = column.list.len().drop_nulls().unique()
        if len(lengths) != 1 or not column.dtype.inner.is_numeric():
            return None
        column = column.list.to_array(int(lengths[0]))
    if isinstance(column.dtype, pl.Array):
        inner = column.dtype.inner
        if not inner.is_numeric() or len(column.dtype.shape) != 1:
            return None
        wide = pl.Float32 if inner == pl.Float32 else pl.Float64
        values = np.full(
            (len(column), column.dtype.size), np.nan, np.float32 if wide is pl.Float32 else float
        )
        flat = column.drop_nulls().explode().cast(wide).fill_null(np.nan)
        values[column.is_not_null().to_numpy()] = flat.to_numpy().reshape(-1, column.dtype.size)
        return values
    if column.dtype == pl.String:
        return np.array(column.fill_null("").to_list(), dtype=str)
    if column.dtype.is_float():
        return column.fill_null(np.nan).to_numpy()
    if column.dtype == pl.Boolean and not column.null_count():
        return column.to_numpy()
    if column.dtype == pl.Boolean or column.dtype == pl.Int8:
        column = column.cast(pl.Int16)
    if not column.dtype.is_integer():
        return None
    values = column.fill_null(0).to_numpy()
    if not column.null_count():
        return values
    return MaskedColumn(values, mask=column.is_null().to_numpy(), fill_value=np.iinfo(values.dtype).min)
