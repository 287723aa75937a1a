"""Photometry in the channels from a user's file, of any format that `intake` reads.

Fluxes stand in two columns `flux` and `flux_err` that hold one array a row, or (in text always) in one column a band,
`flux_1` ... `flux_102` and `flux_err_1` ... `flux_err_102`; leading zeros are fine. The unit is uJy, unless the
file says Jy, mJy or nJy: TUNIT in FITS; in Parquet `unit` in the column's or the file's metadata. Missing values
become NaN, which masks a band when it is the error. Judging single numbers is `inference.screening`'s business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from paeplatform.errors import BandSetError, InputError
from paeplatform.intake.content import RawTable
from paeplatform.intake.packed import is_nested
from paeplatform.intake.rows import is_channel_table
from paeplatform.intake.tables import read_tables
from paeplatform.intake.units import stated
from paeplatform.intake.values import numbers, typed

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


def read_photometry_file(path: Path, n_bands: int) -> PhotometryFile:
    """Reads photometry in the layout described at the top of this module.

    Without a column `object_id` the rows are numbered from 0, and a warning says so.

    Args:
        path: of a file that `intake.content.READABLE` lists; of several tables in it, the first with fluxes counts.
        n_bands: bands a row must have.

    Raises:
        BandSetError: a flux column is missing, has another number of bands, or has another unit.
        InputError: the file is missing, unreadable, empty or of a kind that is not read; a flux is no number; object
            ids are not distinct integers. Messages name the file, the column, and the first row at fault (from 0).
    """
    path = Path(path)
    raw, columns, said = _chosen_table(path, n_bands)
    if raw.table.height == 0:
        raise InputError(f"{path} holds no rows")
    flux, flux_err = (_values(raw, columns[quantity], n_bands) for quantity in _QUANTITIES)
    others = raw.table.drop([*columns["flux"], *columns["flux_err"]])
    if raw.table.schema[columns["flux"][0]] == pl.String:  # plain text, where no column has a type
        others = pl.DataFrame([typed(column) for column in others.iter_columns()])
    object_id, assumed = _object_ids(path, others, raw.table.height)
    warnings = (*said, *raw.notes, *_without_units(raw, columns), *assumed)
    return PhotometryFile(object_id, flux, flux_err, others.drop("object_id", strict=False), warnings)


def _chosen_table(path: Path, n_bands: int) -> tuple[RawTable, dict[str, list[str]], list[str]]:
    """The first table of a file that has fluxes and errors, their columns, and what was chosen."""
    tables = read_tables(path)
    said = [f"{path.name} holds {len(tables)} tables: the first one with fluxes is used"] * (len(tables) > 1)
    refused: BandSetError | None = None
    for raw in tables:
        try:
            columns = {name: _columns_of(path, raw.table.columns, name, n_bands) for name in _QUANTITIES}
        except BandSetError as error:
            # a table without any flux says less about what is wrong than one that has some
            refused = error if refused is None or is_channel_table(raw) else refused
        else:
            return raw, columns, said
    assert refused is not None
    raise refused


def _without_units(raw: RawTable, columns: dict[str, list[str]]) -> list[str]:
    """What is assumed of FITS files, whose columns usually say their unit."""
    if not raw.path.name.lower().removesuffix(".gz").endswith((".fits", ".fit")):
        return []
    without = [
        name for name in _QUANTITIES if len(columns[name]) == 1 and _unit(raw, columns[name][0]) is None
    ]
    return [f"column {name} states no unit: uJy is taken" for name in without]


def _columns_of(path: Path, names: list[str], quantity: str, n_bands: int) -> list[str]:
    """The column of arrays, or the columns of single bands in their order."""
    bands: dict[int, str] = {}
    for name in names:
        match = _BAND_COLUMN.fullmatch(name)
        if match is None or match[1] != quantity:
            continue
        band = int(match[2])
        if not 1 <= band <= n_bands:
            raise BandSetError(f"{path}: column {name}: bands are numbered 1 to {n_bands}")
        if band in bands:
            raise BandSetError(f"{path}: columns {bands[band]} and {name} are the same band")
        bands[band] = name
    if quantity in names:
        if bands:
            raise BandSetError(
                f"{path}: columns {quantity} and {next(iter(bands.values()))}: give one of the two"
            )
        return [quantity]
    if not bands:
        raise BandSetError(
            f"{path}: no column {quantity} (an array of {n_bands} a row) nor {quantity}_1 to {quantity}_{n_bands}; "
            f"found {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}"
        )
    for band in range(1, n_bands + 1):
        if band not in bands:
            raise BandSetError(
                f"{path}: column {quantity}_{band} is missing; {quantity}_1 to {quantity}_{n_bands} are needed"
            )
    return [bands[band] for band in range(1, n_bands + 1)]


def _values(raw: RawTable, names: list[str], n_bands: int) -> np.ndarray:
    """(source, band) float64 [uJy]."""
    path, table = raw.path, raw.table
    if len(names) == 1 and is_nested(table[names[0]]):
        return _array_values(path, table[names[0]], n_bands) * _factor(raw, names[0])
    if len(names) == 1 and n_bands > 1:
        raise BandSetError(
            f"{path}: column {names[0]} is {table.schema[names[0]]}, expected an array of {n_bands} numbers a row"
        )
    rows, expected = np.arange(table.height), "a flux in uJy, or nothing,"
    columns = [numbers(path, table[name], rows, expected) * _factor(raw, name) for name in names]
    return np.stack(columns, axis=1)


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


def _factor(raw: RawTable, name: str) -> float:
    unit = _unit(raw, name) or "uJy"
    if unit not in UNITS:
        raise BandSetError(f"{raw.path}: column {name} is in {unit!r}; the unit must be Jy, mJy, uJy or nJy")
    return UNITS[unit]


def _unit(raw: RawTable, name: str) -> str | None:
    """What the file states for a column, or for all of its columns."""
    return stated(raw.units.get(name, raw.header.get("unit")))


def _object_ids(path: Path, table: pl.DataFrame, n_source: int) -> tuple[np.ndarray, tuple[str, ...]]:
    if "object_id" not in table.columns:
        warning = f"{path.name} has no column object_id: its rows are numbered from 0"
        return np.arange(n_source, dtype=np.int64), (warning,)
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
