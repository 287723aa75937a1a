"""Tables with one row a source and its measurements as arrays in the cells, as one row a measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Int

from paeplatform.errors import InputError
from paeplatform.intake.content import RawTable

# What a measurement has for itself; the rest belongs to the source.
OF_MEASUREMENT = ("wave", "width", "flux", "flux_err", "flags", "detector", "mjd", "data_collection")


@dataclass(frozen=True, eq=False)
class LongTable:
    """The columns of measurements, one value a measurement.

    Attributes:
        columns: by our name, of those in `OF_MEASUREMENT` that the file has.
        record: (measurement,) the file's row that each stands in.
        is_packed: whether rows held arrays.
    """

    columns: Mapping[str, pl.Series]
    record: Int[np.ndarray, " measurement"]
    is_packed: bool


def is_nested(column: pl.Series) -> bool:
    """Whether the cells of a column are arrays."""
    return isinstance(column.dtype, pl.List | pl.Array)


def unpacked(raw: RawTable, found: Mapping[str, str]) -> LongTable:
    """The measurements of a table one by one, whether its cells are numbers or arrays.

    Args:
        raw: a file's table.
        found: the file's column by our name, with flux, flux_err and wave.

    Raises:
        InputError: some of flux, flux_err and wave are arrays and others are not, or the arrays of a row differ in
            length; names column and row.
    """
    columns = {name: raw.table[found[name]] for name in OF_MEASUREMENT if name in found}
    nested = {name for name, column in columns.items() if is_nested(column)}
    if not nested:
        return LongTable(columns, np.arange(raw.table.height), False)
    for name in ("flux", "flux_err", "wave"):
        if name not in nested:
            raise InputError(
                f"{raw.path}: column {found[name]} has one value a row, but "
                f"{found[min(nested)]} has an array: both must be of one kind"
            )
    lists = {name: _as_list(columns[name]) for name in nested}
    count = _lengths(lists["flux"])
    for name, column in lists.items():
        length = _lengths(column)
        if (length != count).any():
            row = int(np.argmax(length != count))
            raise InputError(
                f"{raw.path}: column {found[name]}, row {row} (from 0): {length[row]} values, "
                f"but {found['flux']} has {count[row]}"
            )
    record = np.repeat(np.arange(raw.table.height), count)
    flat = {
        name: (
            lists[name].filter(pl.Series(count > 0)).explode(empty_as_null=False)
            if name in nested
            else column.gather(record)
        ).alias(column.name)
        for name, column in columns.items()
    }
    return LongTable(flat, record, True)


def first_element(column: pl.Series) -> pl.Series:
    """What belongs to the source, of a column whose cells may be arrays of the same value: its first element."""
    return _as_list(column).list.first() if is_nested(column) else column


def _as_list(column: pl.Series) -> pl.Series:
    return column.arr.to_list() if isinstance(column.dtype, pl.Array) else column


def _lengths(column: pl.Series) -> np.ndarray:
    return column.list.len().fill_null(0).cast(pl.Int64).to_numpy()
