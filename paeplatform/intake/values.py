"""Cells of a user's table as numbers; each one that is none is named with its file, column and row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from paeplatform.errors import InputError
from paeplatform.release.text import TRUTH, as_type, present

_SHOWN = 30  # characters of a cell that a message repeats
_DETECTOR = r"(?i)^(?:spherex[_ -]?)?(?:detector|det|band|d)?[_ -]?([0-9]{1,9})(?:\.0*)?$"


def plain(column: pl.Series) -> pl.Series:
    """Texts in whatever coding as texts; other columns as they are."""
    return column.cast(pl.String) if column.dtype in (pl.Categorical, pl.Enum) else column


def numbers(path: Path, column: pl.Series, rows: np.ndarray, expected: str) -> Float[np.ndarray, " row"]:
    """A column as float64, NaN where it has no value.

    Args:
        path: of the file, for messages.
        column: of numbers or text.
        rows: the file's row of each value.
        expected: what a cell must be, for messages.

    Raises:
        InputError: a cell is no number, or the column neither numbers nor text.
    """
    column = plain(column)
    if column.dtype == pl.String:
        values, bad = as_type(column, pl.Float64())
        refuse(path, column, rows, bad, f"is no number: {expected} is expected")
        column = values
    if column.dtype == pl.Boolean or not (column.dtype.is_numeric() or column.dtype == pl.Null):
        raise InputError(f"{path}: column {column.name} is {column.dtype}, but {expected} is expected")
    return column.cast(pl.Float64).fill_null(np.nan).to_numpy().astype(np.float64)


def flag_bits(path: Path, column: pl.Series, rows: np.ndarray) -> tuple[pl.Series, int]:
    """(flags as u64, 0 where there are none; how many there are none of).

    Raises:
        InputError: a cell is no whole number from 0 to 2^64 - 1.
    """
    column = plain(column)
    if column.dtype == pl.Boolean:
        raise InputError(
            f"{path}: column {column.name} is true or false, but the 64 bits of SPHEREx's flags are expected"
        )
    if column.dtype == pl.String:
        values, bad = as_type(column, pl.UInt64())
    elif column.dtype.is_float():
        column = column.fill_nan(None)
        values = column.cast(pl.UInt64, strict=False)
        bad = column.is_not_null() & (values.is_null() | (column != column.floor()).fill_null(False))
    elif column.dtype.is_integer() or column.dtype == pl.Null:
        values = column.cast(pl.UInt64, strict=False)
        bad = values.is_null() & column.is_not_null()
    else:
        raise InputError(f"{path}: column {column.name} is {column.dtype}, but flags are whole numbers")
    refuse(path, column, rows, bad, "is no whole number within [0, 2^64 - 1], as flags are")
    return values.fill_null(0), values.null_count()


def detectors(path: Path, column: pl.Series, rows: np.ndarray) -> Int[np.ndarray, " row"]:
    """Numbers of detectors, written like 3, "3" or "D3"; -1 where there is none.

    Raises:
        InputError: a cell is no such number.
    """
    column = plain(column)
    if column.dtype == pl.String:
        text = present(column)
        found = text.str.extract(_DETECTOR, 1).cast(pl.Int64, strict=False)
        refuse(
            path, column, rows, found.is_null() & text.is_not_null(), "is no detector: D1 to D6, or 1 to 6"
        )
    else:
        values = numbers(path, column, rows, "a detector, 1 to 6,")
        known = np.isfinite(values)
        whole = known & (values == np.floor(np.where(known, values, 0.0))) & (np.abs(values) < 1e9)
        refuse(path, column, rows, pl.Series(known & ~whole), "is no detector: D1 to D6, or 1 to 6")
        return np.where(known, values, -1.0).astype(np.int64)
    return found.fill_null(-1).to_numpy()


def times(column: pl.Series) -> Float[np.ndarray, " row"]:
    """Times, only to be compared with each other: the numbers of the column, or one for each different text or date."""
    column = plain(column)
    if column.dtype == pl.String:
        values, bad = as_type(column, pl.Float64())
        column = column if bad.any() else values
    if column.dtype.is_numeric():
        return column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    if column.dtype == pl.Null or column.dtype.is_nested():
        return np.full(len(column), np.nan)
    coded = column.cast(pl.String).hash().cast(pl.Float64)
    return pl.select(pl.when(column.is_not_null()).then(coded)).to_series().fill_null(np.nan).to_numpy()


def integers(column: pl.Series) -> pl.Series | None:
    """Ids as i64, where the whole column is integers of that range, however written; else None."""
    column = plain(column)
    if column.dtype == pl.String:
        values, bad = as_type(column, pl.Int64())
        return None if bad.any() else values
    if column.dtype.is_float():
        column = column.fill_nan(None)
        exact = ((column == column.floor()) & (column.abs() <= 2.0**53)).fill_null(True)
        return column.cast(pl.Int64) if exact.all() else None
    if not column.dtype.is_integer():
        return None
    values = column.cast(pl.Int64, strict=False)
    return values if values.null_count() == column.null_count() else None


def texts(column: pl.Series) -> pl.Series:
    """Names as text without blanks around them, null where there is none; lists and other nests have none."""
    column = plain(column)
    if column.dtype.is_nested() or column.dtype == pl.Binary:
        return pl.Series(column.name, [None] * len(column), dtype=pl.String)
    text = column.cast(pl.String).str.strip_chars()
    return pl.select(pl.when(text != "").then(text).alias(column.name)).to_series()


def typed(column: pl.Series) -> pl.Series:
    """Text of a file without types as whole numbers, numbers or truth values, where all of it is."""
    if column.dtype != pl.String or column.null_count() == len(column):
        return column
    for dtype in (pl.Int64(), pl.Float64()):
        values, bad = as_type(column, dtype)
        if not bad.any():
            return values
    if column.drop_nulls().str.to_lowercase().is_in([word for word in TRUTH if len(word) > 1]).all():
        return as_type(column, pl.Boolean())[0]
    return column


def refuse(path: Path, column: pl.Series, rows: np.ndarray, bad: pl.Series, what: str) -> None:
    """Ends with the first bad cell of a column, if there is one.

    Raises:
        InputError: there is one.
    """
    if bad.any():
        place = int(np.argmax(bad.to_numpy()))
        cell = str(column[place])
        shown = repr(cell[:_SHOWN] + ("..." if len(cell) > _SHOWN else ""))
        raise InputError(f"{path}: column {column.name}, row {rows[place]} (from 0): {shown} {what}")
