"""The report's sections on the paper's tables and on the quality of a release's data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import polars as pl

from paeplatform.paper.table_files import cell_text
from paeplatform.paper.table_list import TABLES
from paeplatform.report import html
from paeplatform.report.html import cell, row
from paeplatform.scores.metrics import METRICS

# Columns whose name says little on a page.
HEADS = {name: metric.heading for name, metric in METRICS.items()} | {
    "label": "method",
    "n_total": "of",
    "f_rhat": "f(R̂<1.1)",
    "f_rhat_1_1": "f(R̂<1.1)",
    "f_rhat_1_2": "f(R̂<1.2)",
    "tf_mean_bias": "TF bias",
    "tf_eta_3sigma": "TF η₃σ",
    "pae_mean_bias": "PAE bias",
    "pae_eta_3sigma": "PAE η₃σ",
    "pae_f_trusted": "PAE trusted",
    "n_outliers": "outliers",
}
_TEXT = ("label", "bin", "sources", "selection", "property", "value", "quantity")


@dataclass(frozen=True)
class ReportSection:
    """A section that a caller adds to the page.

    Attributes:
        anchor: of the link in the page's navigation.
        title: of the link.
        html: with its own heading, whose id is the anchor.
    """

    anchor: str
    title: str
    html: str


def paper_section(tables: Mapping[str, pl.DataFrame], note: str = "") -> ReportSection:
    """The paper's tables, its numbers beside ours.

    Args:
        tables: by the names of `TABLES`, and "table_ranks"; those that are missing or empty are left out.
        note: about the sample, as text.
    """
    listed = {table.name: (table.title, table.shown.split()) for table in TABLES}
    listed["table_ranks"] = (
        "Rank tests of the full posterior on simulated sources (SBC, TARP)",
        ["quantity", "n", "ks", "p_value", "mean"],
    )
    parts = [
        "<h2 id='paper'>The paper's tables</h2>"
        f"<p class='soft'>{escape(note)} Ours ± bootstrap error; columns headed “paper” are the numbers that "
        "arXiv:2603.24668 quotes for its sample of 20,000. Fractions are fractions. Each table is also a CSV with all "
        "its columns in the folder of results.</p>"
    ]
    for name, (title, shown) in listed.items():
        table = tables.get(name)
        if table is not None and table.height:
            parts.append(f"<h3 id='{name}'>{escape(title)}</h3>{html_table(table, shown)}")
    return ReportSection("paper", "paper's tables", "".join(parts))


def quality_section(facts: Mapping[str, Any], reasons: Sequence[tuple[str, int]]) -> ReportSection:
    """What the quality gate let through and set aside.

    Args:
        facts: counts by what they count.
        reasons: why rows were set aside, and how many.
    """
    heads = (cell("set aside because", "text", "th"), cell("rows", tag="th"))
    rows = [row((cell(reason, "text wrap"), cell(f"{count:,}"))) for reason, count in reasons]
    listing = html.table(heads, rows) if rows else "<p class='soft'>No row was set aside.</p>"
    shown = html.tiles((name, _plain(value)) for name, value in facts.items())
    page = f"<h2 id='quality'>Quality of the release</h2>{shown}{listing}"
    return ReportSection("quality", "quality", page)


def html_table(table: pl.DataFrame, shown: Sequence[str]) -> str:
    """A table of the chosen columns; `x_err` stands with x, the paper's columns in a softer colour."""
    names = [
        name
        for name in shown
        if name in table.columns and not (name.endswith("_err") and name.removesuffix("_err") in shown)
    ]
    heads = (cell(_head(name), "text" if name in _TEXT else "", "th") for name in names)
    styles = {
        name: "text wrap" if name in _TEXT else "soft" if name.startswith("paper_") else "" for name in names
    }
    rows = (
        row(cell(cell_text(numbers, name) or "–", style) for name, style in styles.items())
        for numbers in table.iter_rows(named=True)
    )
    return html.table(heads, rows)


def _head(name: str) -> str:
    if name.startswith("paper_"):
        inner = name.removeprefix("paper_")
        return f"paper: {HEADS.get(inner, inner.replace('_', ' '))}"
    return HEADS.get(name, name.replace("_", " "))


def _plain(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
