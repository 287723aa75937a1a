"""FITS, ECSV, IPAC tables and VOTables, as astropy reads them, as Polars tables."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from numbers import Number
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from paeplatform.errors import InputError
from paeplatform.intake.content import Kind, RawTable, reading

_FIELD = re.compile(rb"<(?:\w+:)?FIELD\b[^>]*>")
_TEXT_ARRAY = re.compile(rb"""(arraysize\s*=\s*["'])(\d+)x(\d+\*?|\*)(["'])""")
_TEXT_TYPE = re.compile(rb"""datatype\s*=\s*["'](?:char|unicodeChar)["']""")
_NAME = re.compile(rb"""\bname\s*=\s*["']([^"']*)["']""")
_HEAD_LINES = 2000  # of a text table whose columns alone are asked for
_LONGEST_SAID = 200  # characters of a header's value that may be a name, a position or a unit


def read_fits(path: Path, content: bytes) -> list[RawTable]:
    """Every table of a FITS file.

    Raises:
        InputError: the file is damaged or holds no table.
    """
    from astropy.io import fits
    from astropy.table import Table

    found = []
    with reading(path, Kind.FITS), fits.open(io.BytesIO(content), memmap=False) as hdus:
        primary: Any = hdus[0]
        said = _said(dict(primary.header))
        for hdu in hdus:
            if isinstance(hdu, fits.BinTableHDU | fits.TableHDU) and not isinstance(hdu, fits.CompImageHDU):
                # the unit is silently kept as text where astropy does not know it
                table = Table.read(hdu, unit_parse_strict="silent")
                found.append(_raw(path, table, said | _said(dict(hdu.header))))
    if not found:
        raise InputError(f"{path} holds no table")
    return found


def read_ecsv(path: Path, content: bytes, *, head: bool = False) -> RawTable:
    """The table of an ECSV file; columns of positions and times become ra, dec [deg] and mjd.

    Raises:
        InputError: the file is damaged.
    """
    from astropy.io import ascii

    with reading(path, Kind.ECSV):
        table: Any = ascii.read(_lines(content, head), format="ecsv", guess=False)
        return _raw(path, table, _said(table.meta))


def read_ipac(path: Path, content: bytes, *, head: bool = False) -> RawTable:
    """The table of an IPAC file.

    Raises:
        InputError: the file is damaged.
    """
    from astropy.io import ascii

    with reading(path, Kind.IPAC):
        table: Any = ascii.read(_lines(content, head), format="ipac", guess=False)
        keywords = {name: entry.get("value") for name, entry in table.meta.get("keywords", {}).items()}
        return _raw(path, table, _said(keywords))


def read_votable(path: Path, content: bytes) -> list[RawTable]:
    """Every table of a VOTable. Arrays of texts of one length, like arraysize="12x*", become lists of texts.

    Raises:
        InputError: the file is damaged or holds no table.
    """
    from astropy.io import votable

    content, lengths = _without_text_arrays(content)
    found = []
    with reading(path, Kind.VOTABLE):
        document = votable.parse(io.BytesIO(content), verify="ignore")
        above = [*document.params, *document.infos]
        above += [one for resource in document.resources for one in (*resource.params, *resource.infos)]
        for element in document.iter_tables():
            said = {one.name: one.value for one in (*above, *element.params, *element.infos)}
            raw = _raw(path, element.to_table(use_names_over_ids=True), _said(said))
            pieces = [
                pl.col(name)
                .str.extract_all(rf"(?s).{{1,{length}}}")
                .list.eval(pl.element().str.strip_chars())
                for name, length in lengths.items()
                if raw.table.schema.get(name) == pl.String
            ]
            found.append(RawTable(path, raw.table.with_columns(pieces), raw.units, raw.header, raw.notes))
    if not found:
        raise InputError(f"{path} holds no table")
    return found


def frame_of(table: Any) -> RawTable:
    """An `astropy.table.Table` as a Polars table with its units; what Polars cannot hold is left out and noted."""
    series: list[pl.Series] = []
    units, notes = {}, []
    for name in table.colnames:
        columns = _series(str(name), table[name])
        unit = getattr(table[name], "unit", None)
        if unit is not None and len(columns) == 1:
            units[str(name)] = str(unit)
        if not columns:
            notes.append(f"column {name} was left out: neither numbers nor text")
        series += [one for one in columns if one.name not in {other.name for other in series}]
    return RawTable(Path(), pl.DataFrame(series), units, {}, tuple(notes))


def _raw(path: Path, table: Any, header: Mapping[str, str]) -> RawTable:
    plain = frame_of(table)
    return RawTable(path, plain.table, plain.units, header, plain.notes)


def _lines(content: bytes, head: bool) -> list[str]:
    """Lines rather than one text, which astropy would take for the name of a file if it had no line end."""
    lines = content.decode("utf-8").splitlines()
    return lines[:_HEAD_LINES] if head else lines


def _said(header: Mapping[Any, Any]) -> dict[str, str]:
    """Short values of a header by key in lower case."""
    short = {
        str(key).lower(): str(value).strip()
        for key, value in header.items()
        if isinstance(value, str | Number)
    }
    return {key: value for key, value in short.items() if value and len(value) <= _LONGEST_SAID}


def _without_text_arrays(content: bytes) -> tuple[bytes, dict[str, int]]:
    """The VOTable with texts in place of arrays of texts, which astropy refuses, and the texts' lengths by column."""
    lengths: dict[str, int] = {}

    def joined(match: re.Match[bytes]) -> bytes:
        field, size = match[0], _TEXT_ARRAY.search(match[0])
        name = _NAME.search(match[0])
        if size is None or name is None or not _TEXT_TYPE.search(field) or not 0 < len(size[2]) < 5:
            return field
        lengths[name[1].decode("utf-8", "replace")] = max(int(size[2]), 1)
        whole = b"*" if size[3].endswith(b"*") else str(int(size[2]) * int(size[3])).encode()
        return field[: size.start()] + size[1] + whole + size[4] + field[size.end() :]

    return _FIELD.sub(joined, content), lengths


def _series(name: str, column: Any) -> list[pl.Series]:
    """A column as one series or, for positions, two; none for what is neither numbers nor text."""
    kind = type(column).__name__
    if kind == "SkyCoord":
        return [pl.Series("ra", column.icrs.ra.deg), pl.Series("dec", column.icrs.dec.deg)]
    if kind == "Time":
        return [pl.Series("mjd", np.asarray(column.mjd, dtype=np.float64))]
    mask = np.asarray(getattr(column, "mask", False))
    column = getattr(column, "unmasked", column)
    values = np.asarray(getattr(column, "value", column))
    if values.dtype.kind == "O":
        found = _of_objects(name, values, mask)
    elif values.dtype.kind in "SU" and values.ndim <= 2:
        found = _of_texts(name, values, mask)
    elif values.dtype.kind in "biuf" and values.ndim == 1:
        found = _masked(pl.Series(name, _native(values)), mask)
    elif values.dtype.kind in "biuf" and values.ndim == 2:
        count = np.full(len(values), values.shape[1])
        found = _lists(name, values.ravel(), np.broadcast_to(mask, values.shape).ravel(), count)
    else:
        found = None
    return [] if found is None else [found]


def _of_texts(name: str, values: np.ndarray, mask: np.ndarray) -> pl.Series:
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    values = np.char.strip(values)
    if values.ndim == 2:
        return pl.Series(name, values.tolist(), dtype=pl.List(pl.String))
    return _masked(pl.Series(name, values.tolist(), dtype=pl.String), mask)


def _of_objects(name: str, values: np.ndarray, mask: np.ndarray) -> pl.Series | None:
    """Texts, numbers or arrays, a Python object each."""
    if values.ndim != 1:
        return None
    missing = np.broadcast_to(mask, values.shape)
    cells = [
        None if gone or cell is np.ma.masked else cell for cell, gone in zip(values, missing, strict=True)
    ]
    sample = next((cell for cell in cells if cell is not None), "")
    if isinstance(sample, str | bytes):
        texts = [cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell for cell in cells]
        return pl.Series(
            name, [None if cell is None else str(cell).strip() for cell in texts], dtype=pl.String
        )
    if isinstance(sample, Number):
        return pl.Series(name, cells, strict=False)
    arrays = [np.ma.atleast_1d(np.ma.asarray([] if cell is None else cell)).ravel() for cell in cells]
    count = np.array([len(array) for array in arrays], dtype=np.int64)
    filled = [array for array in arrays if len(array)]
    flat = np.concatenate([np.ma.getdata(array) for array in filled]) if filled else np.zeros(0)
    lost = np.concatenate([np.ma.getmaskarray(array) for array in filled]) if filled else np.zeros(0, bool)
    if flat.dtype.kind in "OSU":
        flat = np.array(["" if cell is None else str(cell).strip() for cell in flat.tolist()], dtype=np.str_)
    return _lists(name, flat, lost, count) if flat.dtype.kind in "biufU" else None


def _lists(name: str, flat: np.ndarray, mask: np.ndarray, count: Sequence[int] | np.ndarray) -> pl.Series:
    """One list a row out of all their elements."""
    import pyarrow as pa

    offsets = pa.array(np.concatenate([[0], np.cumsum(count)]).astype(np.int64))
    if flat.dtype.kind == "U":
        texts = [None if gone else text for text, gone in zip(flat.tolist(), mask, strict=True)]
        elements = pa.array(texts, pa.large_string())
    else:
        elements = pa.array(_native(flat), mask=mask)
    return pl.Series(name, pa.LargeListArray.from_arrays(offsets, elements))


def _native(values: np.ndarray) -> np.ndarray:
    return values.astype(values.dtype.newbyteorder("="))


def _masked(series: pl.Series, mask: np.ndarray) -> pl.Series:
    """The values, null where they are masked."""
    if not mask.any():
        return series
    there = pl.Series(np.broadcast_to(~mask, len(series)))
    return pl.select(pl.when(there).then(series).alias(series.name)).to_series()
