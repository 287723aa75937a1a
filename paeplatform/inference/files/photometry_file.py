"""Photometry from a user's file: Parquet, CSV or FITS, by the file's suffix.

Fluxes stand in two columns `flux` and `flux_err` that hold one array a row, or (in CSV always) in one column a band,
`flux_1` ... `flux_102` and `flux_err_1` ... `flux_err_102`; leading zeros are fine. The unit is uJy, unless the
file says Jy, mJy or nJy: TUNIT in FITS; in Parquet `unit` in the column's or the file's metadata. Missing values
become NaN, which masks a band when it is the error. Judging single numbers is `inference.screening`'s business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from paeplatform.errors import BandSetError, InputError

# factor to uJy
UNITS = {"Jy": 1e6, "mJy": 1e3, "uJy": 1.0, "µJy": 1.0, "μJy": 1.0, "microJy": 1.0, "nJy": 1e-3}
_QUANTITIES = ("flux", "flux_err")
_BAND_COLUMN = re.compile(r"(flux|flux_err)_(\d+)")


@dataclass(frozen=True)
class PhotometryFile:
    """What a file holds.

    Attributes:
        object_id: distinct, int64.
        flux: [uJy], NaN where missing.
        flux_err: 1 sigma [uJy], NaN where missing.
        extra: the file's other columns, row by row.
        warnings: what was assumed or left out, in one sentence each.
    """

    object_id: Int[np.ndarray, " source"]
    flux: Float[np.ndarray, "source band"]
    flux_err: Float[np.ndarray, "source band"]
    extra: pl.DataFrame
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Raw:
    """A table as read, and the units it states by column."""

    table: pl.DataFrame
    units: dict[str, str]
    warnings: tuple[str, ...] = ()


def read_photometry_file(path: Path, n_bands: int) -> PhotometryFile:
    """Reads photometry in the layout described at the top of this module.

    Without a column `object_id` the rows are numbered from 0, and a warning says so.

    Args:
        path: file ending in .parquet, .csv or .fits.
        n_bands: bands a row must have.

    Raises:
        BandSetError: a flux column is missing, has another number of bands, is not numeric, or has another unit.
        InputError: the file is missing, unreadable, empty or of another suffix; object ids are not distinct
            integers. Messages name the file, the column, and the first row at fault (from 0).
    """
    path = Path(path)
    readers = {".parquet": _read_parquet, ".csv": _read_csv, ".fits": _read_fits}
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise InputError(f"{path}: suffix {suffix or 'none'} must be one of {', '.join(readers)}")
    if not path.is_file():
        raise InputError(f"{path} does not exist or is no file")
    raw = readers[suffix](path)
    if raw.table.height == 0:
        raise InputError(f"{path} holds no rows")
    columns = {quantity: _columns_of(path, raw.table, quantity, n_bands) for quantity in _QUANTITIES}
    flux, flux_err = (_values(path, raw, columns[quantity], n_bands) for quantity in _QUANTITIES)
    object_id, assumed = _object_ids(path, raw.table)
    extra = raw.table.drop([*columns["flux"], *columns["flux_err"], "object_id"], strict=False)
    return PhotometryFile(object_id, flux, flux_err, extra, (*raw.warnings, *assumed))


@contextmanager
def _unreadable(path: Path, kind: str) -> Iterator[None]:
    """Whatever a reader says of a damaged file becomes one line with the file's name."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise InputError(f"{path} is not a readable {kind} file: {text[:200]}") from error


def _read_parquet(path: Path) -> _Raw:
    import pyarrow.parquet as pq

    with _unreadable(path, "Parquet"):
        schema = pq.read_schema(path)
        table = pl.read_parquet(path, glob=False)
    whole = _unit_in(schema.metadata)
    units = {field.name: _unit_in(field.metadata) or whole for field in schema}
    return _Raw(table, {name: unit for name, unit in units.items() if unit is not None})


def _unit_in(metadata: dict[bytes, bytes] | None) -> str | None:
    unit = (metadata or {}).get(b"unit")
    return None if unit is None else unit.decode("utf-8", "replace").strip()


def _read_csv(path: Path) -> _Raw:
    with _unreadable(path, "CSV"):
        # types are judged by the whole column: an odd cell in the last row must not end the reading
        return _Raw(pl.read_csv(path, infer_schema_length=None, comment_prefix="#", glob=False), {})


def _read_fits(path: Path) -> _Raw:
    import warnings

    from astropy.io import fits
    from astropy.table import Table

    with _unreadable(path, "FITS"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd header cards of columns that are not used
        with fits.open(path, memmap=False) as hdus:
            found = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)]
            if not found:
                raise InputError(f"{path} holds no binary table")
            columns: Any = found[0].columns
            units = {column.name: column.unit.strip() for column in columns if column.unit}
            table = Table.read(found[0], unit_parse_strict="silent")
    said = [f"{path.name} holds {len(found)} tables: the first one is used"] if len(found) > 1 else []
    series = {name: _series(name, table[name]) for name in table.colnames}
    said += [
        f"column {name} was left out: neither numbers nor text" for name, s in series.items() if s is None
    ]
    said += [
        f"column {name} states no unit: uJy is taken"
        for name in _QUANTITIES
        if name in series and name not in units
    ]
    kept = pl.DataFrame([column for column in series.values() if column is not None])
    return _Raw(kept, units, tuple(said))


def _series(name: str, column: Any) -> pl.Series | None:
    """A FITS column (numbers of the machine's byte order from here on); None for what Polars cannot hold."""
    values, mask = np.asarray(column), np.asarray(getattr(column, "mask", False))
    if values.dtype.kind in "SU":
        return pl.Series(name, np.char.strip(values.astype(str)).tolist()) if values.ndim == 1 else None
    if values.dtype.kind not in "biuf" or values.ndim > 2:
        return None
    values = values.astype(values.dtype.newbyteorder("="))
    if mask.any() and (values.dtype.kind == "f" or values.ndim == 2):
        values = np.where(mask, np.nan, values)
        mask = np.asarray(False)
    series = pl.Series(name, values)
    return pl.select(pl.when(pl.lit(~mask)).then(series).alias(name)).to_series() if mask.any() else series


def _columns_of(path: Path, table: pl.DataFrame, quantity: str, n_bands: int) -> list[str]:
    """The column of arrays, or the columns of single bands in their order."""
    bands: dict[int, str] = {}
    for name in table.columns:
        match = _BAND_COLUMN.fullmatch(name)
        if match is None or match[1] != quantity:
            continue
        band = int(match[2])
        if not 1 <= band <= n_bands:
            raise BandSetError(f"{path}: column {name}: bands are numbered 1 to {n_bands}")
        if band in bands:
            raise BandSetError(f"{path}: columns {bands[band]} and {name} are the same band")
        bands[band] = name
    if quantity in table.columns:
        if bands:
            raise BandSetError(
                f"{path}: columns {quantity} and {next(iter(bands.values()))}: give one of the two"
            )
        return [quantity]
    if not bands:
        raise BandSetError(
            f"{path}: no column {quantity} (an array of {n_bands} a row) nor {quantity}_1 to {quantity}_{n_bands}; "
            f"found {', '.join(table.columns[:8])}{' ...' if table.width > 8 else ''}"
        )
    for band in range(1, n_bands + 1):
        if band not in bands:
            raise BandSetError(
                f"{path}: column {quantity}_{band} is missing; {quantity}_1 to {quantity}_{n_bands} are needed"
            )
    return [bands[band] for band in range(1, n_bands + 1)]


def _values(path: Path, raw: _Raw, names: list[str], n_bands: int) -> np.ndarray:
    """(source, band) float64 [uJy]."""
    if len(names) == 1 and isinstance(raw.table.schema[names[0]], pl.Array | pl.List):
        values = _array_values(path, raw.table[names[0]], n_bands) * _factor(path, raw, names[0])
    elif len(names) == 1 and n_bands > 1:
        raise BandSetError(
            f"{path}: column {names[0]} is {raw.table.schema[names[0]]}, expected an array of {n_bands} numbers a row"
        )
    else:
        columns = [_numbers(path, raw.table[name]) * _factor(path, raw, name) for name in names]
        values = np.stack(columns, axis=1)
    return values


def _array_values(path: Path, column: pl.Series, n_bands: int) -> np.ndarray:
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    if not isinstance(column.dtype, pl.List) or not column.dtype.inner.is_numeric():
        raise BandSetError(f"{path}: column {column.name} is {column.dtype}, expected arrays of numbers")
    length = column.list.len().fill_null(n_bands).to_numpy()
    if (length != n_bands).any():
        row = int(np.argmax(length != n_bands))
        raise BandSetError(
            f"{path}: column {column.name}, row {row} (from 0): {length[row]} values, expected {n_bands} in uJy"
        )
    there = column.is_not_null().to_numpy()
    values = np.full((len(column), n_bands), np.nan)
    if there.any():
        flat = column.drop_nulls().explode().cast(pl.Float64).fill_null(np.nan)
        values[there] = flat.to_numpy().reshape(-1, n_bands)
    return values


def _numbers(path: Path, column: pl.Series) -> np.ndarray:
    if column.dtype == pl.String:
        text = column.str.strip_chars()
        text = pl.select(pl.when(text != "").then(text)).to_series()
        number = text.cast(pl.Float64, strict=False)
        fault = (number.is_null() & text.is_not_null()).to_numpy()
        if fault.any():
            row = int(np.argmax(fault))
            raise BandSetError(
                f"{path}: column {column.name}, row {row} (from 0): {column[row]!r} is no number; "
                "a flux in uJy, or nothing, is expected"
            )
        column = number
    if column.dtype != pl.Null and not column.dtype.is_numeric():
        raise BandSetError(f"{path}: column {column.name} is {column.dtype}, expected numbers in uJy")
    return column.cast(pl.Float64).fill_null(np.nan).to_numpy()


def _factor(path: Path, raw: _Raw, name: str) -> float:
    unit = raw.units.get(name, "uJy")
    if unit not in UNITS:
        raise BandSetError(f"{path}: column {name} is in {unit!r}; the unit must be Jy, mJy, uJy or nJy")
    return UNITS[unit]


def _object_ids(path: Path, table: pl.DataFrame) -> tuple[np.ndarray, tuple[str, ...]]:
    if "object_id" not in table.columns:
        warning = f"{path.name} has no column object_id: its rows are numbered from 0"
        return np.arange(table.height, dtype=np.int64), (warning,)
    column = table["object_id"]
    if not column.dtype.is_integer():
        raise InputError(
            f"{path}: column object_id is {column.dtype}, expected distinct integers (or no such column: "
            "the rows are then numbered)"
        )
    if column.null_count():
        row = int(np.argmax(column.is_null().to_numpy()))
        raise InputError(f"{path}: column object_id, row {row} (from 0) is empty")
    whole = column.cast(pl.Int64, strict=False)
    if whole.null_count():
        row = int(np.argmax(whole.is_null().to_numpy()))
        raise InputError(f"{path}: column object_id, row {row} (from 0): {column[row]} exceeds 2^63 - 1")
    ids = whole.to_numpy()
    repeated = ~whole.is_first_distinct().to_numpy()
    if repeated.any():
        again = int(np.argmax(repeated))
        first = int(np.argmax(ids == ids[again]))
        raise InputError(
            f"{path}: column object_id: {ids[again]} stands in rows {first} and {again} (from 0); "
            "ids must be distinct"
        )
    return ids, ()
