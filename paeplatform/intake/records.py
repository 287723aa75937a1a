"""What a file says of its sources: names, ids, positions, reddening; in columns or in its header."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

import numpy as np
import polars as pl

from paeplatform.errors import InputError
from paeplatform.intake import plausibility, values
from paeplatform.intake.columns import without_unit
from paeplatform.intake.content import RawTable
from paeplatform.intake.conversions import stated_unit
from paeplatform.intake.packed import LongTable, first_element
from paeplatform.intake.units import angle_factor

_NAME_KEYS = (
    "object",
    "objname",
    "name",
    "target",
    "source",
    "label",
    "object_name",
    "source_name",
    "target_name",
)
_RA_KEYS, _DEC_KEYS = (
    ("ra", "ra_deg", "ra_targ", "ra_target", "target_ra", "raj2000", "right ascension", "right_ascension"),
    ("dec", "dec_deg", "dec_targ", "dec_target", "target_dec", "decj2000", "dej2000", "declination"),
)
_BOTH_KEYS = ("position", "pos", "coordinates", "coord", "coords", "radec", "ra, dec", "ra dec")
_DEGREES = re.compile(r"([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*(?:deg|degrees|°)?")
_PAIR = re.compile(_DEGREES.pattern + r"\s*[,; ]\s*" + _DEGREES.pattern)

EBV_MAX = 10.0  # [mag]; the Milky Way has more only towards its centre


class SourcesBy(StrEnum):
    """How a file tells its sources apart."""

    KEY = "key"  # a column of ids or names
    POSITION = "position"
    FILE = "file"  # all rows are one


def source_records(
    raw: RawTable, found: Mapping[str, str], long: LongTable
) -> tuple[pl.DataFrame, SourcesBy, list[str]]:
    """What each row says of its source.

    Args:
        raw: a file's table.
        found: the file's column by our name.
        long: the measurements of the table.

    Returns:
        (the columns of `rows.FileRows.records`, how sources are told apart, what was assumed).

    Raises:
        InputError: ra or dec is missing while the other is there, a position or E(B-V) is out of range, or rows with
            arrays are told apart by nothing.
    """
    n = raw.table.height
    ra, dec = _positions(raw, found)
    label, key, number, notes = _names(raw, found, long)
    if key is not None:
        sources_by = SourcesBy.KEY
    elif "ra" in found and np.isfinite(ra).any():
        sources_by = SourcesBy.POSITION
    else:
        sources_by = SourcesBy.FILE
    if sources_by is SourcesBy.FILE and long.is_packed and n > 1:
        raise InputError(
            f"{raw.path} has {n} rows with arrays, but neither ids, names nor positions that tell the sources apart"
        )
    blank = pl.Series([None] * n, dtype=pl.String)
    table = pl.DataFrame(
        {
            "key": blank if key is None else key,
            "number": pl.Series([None] * n, dtype=pl.Int64) if number is None else number,
            "label": blank if label is None else label,
            "ra": ra,
            "dec": dec,
            "ebv_mw": _reddening(raw, found),
        }
    )
    return table, sources_by, notes


def _names(
    raw: RawTable, found: Mapping[str, str], long: LongTable
) -> tuple[pl.Series | None, pl.Series | None, pl.Series | None, list[str]]:
    """(names, keys that tell sources apart, integer ids), null where there is none; None without a column."""
    label = values.texts(first_element(raw.table[found["name"]])) if "name" in found else None
    key, number, notes = label, None, []
    if "object_id" in found:
        ids = first_element(raw.table[found["object_id"]])
        number, key = values.integers(ids), values.texts(ids)
        if number is not None:
            key = number.cast(pl.String)
        bare = without_unit(found["object_id"])[0] == "id" and not long.is_packed
        if bare and number is not None and number.n_unique() == len(number) > 1 and not number.null_count():
            notes.append(f"column {found['object_id']} numbers the rows: it is not taken for ids of sources")
            key, number = label, None
    if key is not None and key.null_count() == len(key):
        name = found.get("object_id") or found["name"]
        notes.append(f"column {name} is empty: it tells no sources apart")
        key = number = None
    return label, key, number, notes


def _positions(raw: RawTable, found: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """(ra, dec) [deg] of each row, of the columns or the header; NaN where unknown."""
    n = raw.table.height
    if ("ra" in found) != ("dec" in found):
        one, other = ("ra", "dec") if "ra" in found else ("dec", "ra")
        raise InputError(
            f"{raw.path}: there is a column {found[one]} but none of {other}; `--columns {other}=NAME` names it"
        )
    if "ra" not in found:
        ra, dec = _header_position(raw.header)
        everywhere = np.full(n, ra), np.full(n, dec)
        plausibility.check_positions(raw.path, ("ra (header)", "dec (header)"), *everywhere, np.arange(n))
        return everywhere
    rows, degrees = np.arange(n), []
    for name in ("ra", "dec"):
        column = values.numbers(
            raw.path, first_element(raw.table[found[name]]), rows, "a position in decimal degrees"
        )
        unit = stated_unit(raw, found[name])
        factor = 1.0 if unit is None else angle_factor(unit)
        if factor is None:
            raise InputError(f"{raw.path}: column {found[name]} is in {unit!r}; the unit must be deg")
        degrees.append(column * factor)
    ra, dec = (np.where(np.isfinite(one), one, np.nan) for one in degrees)
    plausibility.check_positions(raw.path, (found["ra"], found["dec"]), ra, dec, rows)
    unknown = np.isnan(ra) | np.isnan(dec)
    return np.where(unknown, np.nan, ra), np.where(unknown, np.nan, dec)


def _reddening(raw: RawTable, found: Mapping[str, str]) -> np.ndarray:
    n = raw.table.height
    if "ebv_mw" not in found:
        return np.full(n, np.nan)
    column, rows = first_element(raw.table[found["ebv_mw"]]), np.arange(n)
    ebv = values.numbers(raw.path, column, rows, "E(B-V)")
    bad = pl.Series(np.isinf(ebv) | (ebv < 0.0) | (ebv > EBV_MAX))
    values.refuse(raw.path, column, rows, bad, f"must be within [0, {EBV_MAX:g}] mag, as E(B-V)")
    return ebv


def header_name(header: Mapping[str, str]) -> str | None:
    """What a file's header calls its source, if it does."""
    return next((header[key] for key in _NAME_KEYS if header.get(key)), None)


def _header_position(header: Mapping[str, str]) -> tuple[float, float]:
    """(ra, dec) [deg] of the header; NaN where it has none in decimal degrees."""
    for key in _BOTH_KEYS:
        pair = _PAIR.fullmatch(header.get(key, "").strip("() "))
        if pair:
            return float(pair[1]), float(pair[2])
    found = []
    for keys in (_RA_KEYS, _DEC_KEYS):
        texts = [_DEGREES.fullmatch(header[key]) for key in keys if key in header]
        number = next((text for text in texts if text is not None), None)
        if number is None:
            return np.nan, np.nan
        found.append(float(number[1]))
    return found[0], found[1]
