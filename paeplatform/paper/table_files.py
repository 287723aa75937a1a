"""Small tables as files for people: CSV with every digit, Markdown to read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from paeplatform.files import write_whole


def write_table(folder: Path, name: str, table: pl.DataFrame, title: str) -> tuple[Path, Path]:
    """Writes `<name>.csv` and `<name>.md`, each under a temporary name first; returns their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = f"# {title}\n\n{table_markdown(table)}\n"
    return write_whole(folder / f"{name}.csv", table.write_csv()), write_whole(folder / f"{name}.md", text)


def table_markdown(table: pl.DataFrame, columns: Sequence[str] | None = None) -> str:
    """A Markdown table; `x` and `x_err` stand in one cell, `paper_x` in a cell of its own."""
    names = [
        name
        for name in (columns or table.columns)
        if name in table.columns
        and not (name.endswith("_err") and name.removesuffix("_err") in table.columns)
    ]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in table.iter_rows(named=True):
        lines.append(markdown_row(cell_text(row, name) for name in names))
    return "\n".join(lines)


def markdown_row(cells: Iterable[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def cell_text(row: dict[str, Any], name: str) -> str:
    """A value with its error, as many digits as the error gives sense to; empty for null."""
    value, error = row[name], row.get(f"{name}_err")
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool) or not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    if error is None or not math.isfinite(error) or error <= 0.0:
        return f"{value:.4g}"
    digits = max(0, min(6, 1 - math.floor(math.log10(error))))
    return f"{value:.{digits}f} ± {error:.{digits}f}"
