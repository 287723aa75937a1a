"""Columns of text files, by the type that they must have.

A type that is guessed from the first rows is wrong for a column of whole numbers that goes on with 1.25, and for one
with `null` in a later row. So text files are read as text, and each column is then converted as a whole.
"""

from __future__ import annotations

import polars as pl

# Words for "no value", in lower case: those of pandas, astropy, IPAC tables and spreadsheets.
MISSING = ("", "nan", "+nan", "-nan", "null", "none", "na", "n/a", "--", "-")
TRUTH = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_EXACT = 2.0**53  # up to here a float64 holds every whole number


def present(column: pl.Series) -> pl.Series:
    """A column of text without blanks around the values; null where a word of `MISSING` stands."""
    text = column.str.strip_chars()
    there = ~text.str.to_lowercase().is_in(list(MISSING))
    return pl.select(pl.when(there).then(text).alias(column.name)).to_series()


def as_type(column: pl.Series, dtype: pl.DataType) -> tuple[pl.Series, pl.Series]:
    """A column of text as numbers, truth values or text.

    Args:
        column: of type String.
        dtype: floating, integer, Boolean or String. Whole numbers may be written like 3.0.

    Returns:
        (values, null where there is none; true where there is text that is not of the type).
    """
    if dtype == pl.String():
        return column, pl.repeat(False, len(column), eager=True)
    text = present(column)
    if dtype == pl.Boolean():
        values = text.str.to_lowercase().replace_strict(TRUTH, default=None, return_dtype=pl.Boolean)
    else:
        values = text.cast(dtype, strict=False)
    bad = values.is_null() & text.is_not_null()
    if dtype.is_integer() and bad.any():
        number = text.cast(pl.Float64, strict=False)
        whole = (number == number.floor()) & (number.abs() <= _EXACT)
        values = values.fill_null(
            pl.select(pl.when(whole).then(number)).to_series().cast(dtype, strict=False)
        )
        bad = values.is_null() & text.is_not_null()
    return values.alias(column.name), bad
