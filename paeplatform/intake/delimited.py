"""Plain text: one row a line, cells between commas, semicolons, tabs, bars or blanks, comments after #."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from paeplatform.errors import InputError
from paeplatform.intake.content import RawTable, reading
from paeplatform.release.text import present

_SEPARATORS = (",", "\t", ";", "|")
_COMMENT = re.compile(rb"^[ \t]*#[^\n]*(?:\n|\Z)", re.MULTILINE)
_BLANK_LINES = re.compile(rb"\n(?:[ \t\r]*\n)+")
_SAID = re.compile(r"#+\s*([A-Za-z][\w .-]{0,40}?)\s*[:=]\s*(.*\S)\s*")
_COMMENTS_SEEN = 500  # of which names, positions and units are looked for
_HEAD_BYTES = 1 << 20  # that hold the names of columns
_DECIMAL_COMMA = r"^\s*[+-]?\d*,\d+(?:[eE][+-]?\d+)?\s*$"
_WHOLE = r"(?i)^\s*[+-]?(?:\d+(?:e[+-]?\d+)?|inf|infinity)\s*$"  # what may stand among them


def read_delimited(path: Path, content: bytes, *, head: bool = False) -> RawTable:
    """A table of text columns.

    The names of the columns stand in the first line that is no comment, or, where that has numbers, in the last
    comment before it.

    Args:
        path: of the file, for messages.
        content: UTF-8 text.
        head: only the first rows, for their columns.

    Raises:
        InputError: there is no table or no line with names, a quotation mark is left open, or a row has more or fewer
            cells than there are columns (names the row).
    """
    if head and len(content) > _HEAD_BYTES:
        content = content[: content.rfind(b"\n", 0, _HEAD_BYTES) + 1] or content[:_HEAD_BYTES]
    if b"\n" not in content:
        content = content.replace(b"\r", b"\n")  # line ends of old Macintosh programs
    comments = [found.decode() for found in _COMMENT.findall(content)] if b"#" in content else []
    body = _COMMENT.sub(b"", content) if comments else content
    body = _BLANK_LINES.sub(b"\n", b"\n" + body).lstrip(b"\n")
    if not body.strip():
        raise InputError(f"{path} has comments and no table")
    _refuse_open_quotation(path, body)
    first, _, rest = body.partition(b"\n")
    line = first.decode().rstrip("\r")
    separator = _separator(line)
    with reading(path, "CSV"):
        names = _cells(line, separator)
        if _are_numbers(names):
            names, rest = _names_in_comments(path, comments, len(names), separator), body
    names = _distinct(names)
    if separator is None:
        table = _blank_separated(path, rest, names)
    else:
        table = _separated(path, rest, names, separator)
    notes = ()
    if separator in (";", "\t"):
        table, changed = _with_decimal_points(table)
        notes = (f"decimal commas of {', '.join(changed)} are read as points",) if changed else ()
    return RawTable(path, table, {}, _header(comments), notes)


def _separated(path: Path, rows: bytes, names: list[str], separator: str) -> pl.DataFrame:
    schema = dict.fromkeys(names, pl.String())
    if not rows.strip(b"\r\n"):
        return pl.DataFrame(schema=schema)
    try:
        with reading(path, "CSV"):
            table = pl.read_csv(
                rows,
                has_header=False,
                separator=separator,
                schema=schema,
                glob=False,
                raise_if_empty=False,
                missing_columns="insert",  # a first row that ends early is named below, like any other
            )
    except InputError:
        _refuse_ragged(path, rows, len(names), separator)
        raise
    if table[names[-1]].null_count():
        _refuse_short(path, rows, table, separator)
    return table


def _blank_separated(path: Path, rows: bytes, names: list[str]) -> pl.DataFrame:
    """Cells with any number of blanks between them; Polars has single separators only."""
    from astropy.io import ascii

    from paeplatform.intake.astropy_tables import frame_of

    lines = rows.decode().splitlines()
    if not lines:
        return pl.DataFrame(schema=dict.fromkeys(names, pl.String()))
    with reading(path, "text"):
        read = ascii.read(lines, format="no_header", guess=False, names=names, comment=r"\s*#")
        return frame_of(read).table


def _separator(line: str) -> str | None:
    """What separates the columns of a line: the sign that occurs most often outside quotes; None for blanks alone."""
    bare = re.sub(r'"[^"]*"', "", line)
    counts = {one: bare.count(one) for one in _SEPARATORS}
    most = max(counts, key=lambda one: counts[one])
    if counts[most]:
        return most
    return None if len(line.split()) > 1 else ","


def _cells(line: str, separator: str | None) -> list[str]:
    if separator is None:
        return [cell.strip("\"'") for cell in line.split()]
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]


def _are_numbers(cells: Sequence[str]) -> bool:
    """Whether a line is a row and not the names of columns: half of its cells are numbers."""
    return 2 * sum(_is_number(cell) for cell in cells) >= len(cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _names_in_comments(path: Path, comments: list[str], n_columns: int, separator: str | None) -> list[str]:
    for comment in reversed(comments):
        line = comment.strip().lstrip("#").strip()
        for one in (separator, None, ","):
            names = _cells(line, one)
            if len(names) == n_columns and not _are_numbers(names):
                return names
    raise InputError(f"{path} begins with numbers: a first line with the names of the columns is needed")


def _distinct(names: list[str]) -> list[str]:
    """Names as Polars makes them distinct; a column without a name is numbered."""
    seen: dict[str, int] = {}
    found = []
    for place, given in enumerate(names):
        name = given or f"column_{place + 1}"
        seen[name] = seen.get(name, -1) + 1
        found.append(name if not seen[name] else f"{name}_duplicated_{seen[name] - 1}")
    return found


def _with_decimal_points(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Numbers like 1,5 as 1.5, in columns that have no others; only where the comma does not separate cells."""
    changed = []
    for name in table.columns:
        if table.schema[name] != pl.String:
            continue
        column = present(table[name]).drop_nulls()
        comma = column.str.contains(_DECIMAL_COMMA)
        if comma.any() and (comma | column.str.contains(_WHOLE)).all():
            changed.append(name)
    return table.with_columns(pl.col(changed).str.replace(",", ".", literal=True)), changed


def _header(comments: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for comment in comments[:_COMMENTS_SEEN]:
        match = _SAID.fullmatch(comment.strip())
        if match:
            found.setdefault(match[1].lower(), match[2].strip("\"'"))
    return found


def _refuse_open_quotation(path: Path, body: bytes) -> None:
    if body.count(b'"') % 2 == 0:
        return
    odd = [number for number, line in enumerate(body.split(b"\n")) if line.count(b'"') % 2]
    raise InputError(f"{path}: row {max(odd[0] - 1, 0)} (from 0): a quotation mark is left open")


def _refuse_ragged(path: Path, rows: bytes, width: int, separator: str) -> None:
    """Names the first row that has more cells than there are columns, once Polars has refused the file."""
    try:
        for row, cells in enumerate(csv.reader(rows.decode().splitlines(), delimiter=separator)):
            if len(cells) > width:
                raise InputError(
                    f"{path}: row {row} (from 0) has {len(cells)} cells, but there are {width} columns"
                )
    except csv.Error:
        return


def _refuse_short(path: Path, rows: bytes, table: pl.DataFrame, separator: str) -> None:
    """Names the first row that ends early, as in a file that was cut off; Polars would fill it up."""
    if b'"' in rows:
        return  # a cell may hold separators, and even line ends
    lines = pl.Series(rows.decode().split("\n"))
    lines = lines.filter(lines.str.strip_chars("\r") != "")
    short = lines.str.count_matches(separator, literal=True) < table.width - 1
    if len(lines) == table.height and short.any():
        row = short.arg_max() or 0
        cells = lines[row].count(separator) + 1
        raise InputError(
            f"{path}: row {row} (from 0) has {cells} cells, but there are {table.width} columns: was the file cut off?"
        )
