"""How results look in Dagster's UI: small tables and plots inside markdown, links to MLflow."""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from paeplatform.assets.recording.versions import content_version

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from paeplatform.resources.models.runs import TrainingRun
    from paeplatform.resources.registry import ModelVersion

TableResult = dg.MaterializeResult[pl.DataFrame]  # of an asset that makes a table

MAX_PNG_BYTES = 150_000  # metadata lives in Dagster's event log and is sent to the browser whole
PREVIEW_ROWS = 6
PREVIEW_COLUMNS = 16


def plot(figure: "Figure") -> dg.MetadataValue:
    """A figure as an inline image; its resolution is lowered until it is small enough for the event log."""
    from paeplatform.figures.style import figure_png

    png = figure_png(figure)
    while len(png) > MAX_PNG_BYTES and figure.dpi > 30:
        figure.set_dpi(figure.dpi * 0.8)
        png = figure_png(figure, dpi=int(figure.dpi))
    return _inline(png)


def picture(png: bytes, figure: "Figure") -> dg.MetadataValue:
    """A figure that is drawn already as an inline image; drawn once more, smaller, when it is too large."""
    return plot(figure) if len(png) > MAX_PNG_BYTES else _inline(png)


def _inline(png: bytes) -> dg.MetadataValue:
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(png).decode()})")


def preview(table: pl.DataFrame, rows: int = PREVIEW_ROWS) -> dg.MetadataValue:
    """The first rows as a markdown table; array columns show their length and first values."""
    head = table.head(rows)
    names = head.columns[:PREVIEW_COLUMNS]
    text = markdown_table(names, ([_cell(value) for value in row] for row in head.select(names).iter_rows()))
    if len(head.columns) > len(names):
        text += f"\n\nand {len(head.columns) - len(names)} more columns"
    return dg.MetadataValue.md(text)


def markdown_table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A head of column names, and rows of cells."""
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def table_result(
    table: pl.DataFrame,
    metadata: Mapping[str, object] | None = None,
    *,
    version: dg.DataVersion | None = None,
    show_rows: bool = True,
    **more: Any,
) -> TableResult:
    """What an asset that made a table returns: its version is that of its content unless another is given, and its
    first rows are shown; `more` are arguments of `dagster.MaterializeResult`.
    """
    shown = {"preview": preview(table)} if show_rows else {}
    return dg.MaterializeResult(
        value=table,
        data_version=version or content_version(table),
        metadata={**(metadata or {}), **shown},  # type: ignore[arg-type]
        **more,
    )


def counts(table: pl.DataFrame, column: str) -> dg.MetadataValue:
    """How often each value of a column occurs."""
    return dg.MetadataValue.json(dict(table[column].value_counts().sort(column).iter_rows()))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.5g}" if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple | pl.Series):
        shown = ", ".join(_cell(v) for v in list(value)[:3])
        return f"[{shown}, ... {len(value)}]"
    return str(value).replace("|", "\\|")


def model_links(version: "ModelVersion") -> dict[str, dg.MetadataValue]:
    """Which registered version it is about, and where that stands in MLflow."""
    return {
        "model_version": dg.MetadataValue.text(f"{version.name} {version.label}"),
        "model": dg.MetadataValue.url(version.url),
    }


def mlflow_links(run: "TrainingRun", version: "ModelVersion") -> Mapping[str, dg.MetadataValue]:
    """Where the training and the model it made stand in MLflow."""
    return {
        "mlflow_run": dg.MetadataValue.url(run.url),
        "mlflow_run_id": dg.MetadataValue.text(run.run_id),
        **model_links(version),
    }
