"""Pieces of HTML that the report's sections share. Texts are escaped here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape


def cell(text: str, style: str = "", tag: str = "td") -> str:
    """A cell of a table; `style` is its CSS class."""
    return f"<{tag} class='{style}'>{escape(text)}</{tag}>" if style else f"<{tag}>{escape(text)}</{tag}>"


def row(cells: Iterable[str]) -> str:
    """A row of cells."""
    return f"<tr>{''.join(cells)}</tr>"


def table(heads: Iterable[str], rows: Iterable[str]) -> str:
    """A table that scrolls where it is wider than the page.

    Args:
        heads: cells of the first row.
        rows: of `row`.
    """
    return f"<div class='scroll'><table>{row(heads)}{''.join(rows)}</table></div>"


def labelled_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts whose first column is in words and whose others are numbers."""

    def cells(texts: Sequence[str], tag: str) -> list[str]:
        first, *others = texts
        return [cell(first, "text", tag), *(cell(text, tag=tag) for text in others)]

    return table(cells(heads, "th"), (row(cells(texts, "td")) for texts in rows))


def tiles(shown: Iterable[tuple[str, str]]) -> str:
    """Numbers to be seen first: (label, value)."""
    parts = (
        f"<div class='tile'><b>{escape(value)}</b><span>{escape(label)}</span></div>"
        for label, value in shown
    )
    return f"<div class='tiles'>{''.join(parts)}</div>"


def number(value: float | None, form: str) -> str:
    """A number by a format specification; a dash where there is none or it is not finite."""
    return "–" if value is None or not math.isfinite(value) else format(value, form)
