"""How results look in Dagster's UI: small tables and plots inside markdown, links to MLflow."""

import base64
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from paeplatform.assets.recording.versions import content_version

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from paeplatform.resources.registry import ModelVersion, TrainingRun

MAX_PNG_BYTES = 150_000  # metadata lives in Dagster's event log and is sent to the browser whole
PREVIEW_ROWS = 6
PREVIEW_COLUMNS = 16


def plot(figure: "Figure") -> dg.MetadataValue:
    """A figure as an inline image; its resolution is lowered until it is small enough for the event log."""
    from paeplatform.figures.convergence import figure_png

    png = figure_png(figure)
    while len(png) > MAX_PNG_BYTES and figure.dpi > 30:
        figure.set_dpi(figure.dpi * 0.8)
        png = _png(figure)
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(png).decode()})")


def picture(png: bytes, figure: "Figure") -> dg.MetadataValue:
    """A figure that is drawn already as an inline image; drawn once more, smaller, when it is too large."""
    if len(png) > MAX_PNG_BYTES:
        return plot(figure)
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(png).decode()})")


def _png(figure: "Figure") -> bytes:
    import io

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi)
    return buffer.getvalue()


def preview(table: pl.DataFrame, rows: int = PREVIEW_ROWS) -> dg.MetadataValue:
    """The first rows as a markdown table; array columns show their length and first values."""
    head = table.head(rows)
    names = head.columns[:PREVIEW_COLUMNS]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += [
        "| " + " | ".join(_cell(value) for value in row) + " |" for row in head.select(names).iter_rows()
    ]
    if len(head.columns) > len(names):
        lines.append(f"\nand {len(head.columns) - len(names)} more columns")
    return dg.MetadataValue.md("\n".join(lines))


def table_result(
    table: pl.DataFrame, metadata: Mapping[str, object] | None = None
) -> dg.MaterializeResult[pl.DataFrame]:
    """What an asset that made a table returns: its version is that of its content, and its first rows are shown."""
    return dg.MaterializeResult(
        value=table,
        data_version=content_version(table),
        metadata={**(metadata or {}), "preview": preview(table)},  # type: ignore[arg-type]
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.5g}" if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple | pl.Series):
        shown = ", ".join(_cell(v) for v in list(value)[:3])
        return f"[{shown}, ... {len(value)}]"
    return str(value).replace("|", "\\|")


def mlflow_links(run: "TrainingRun", version: "ModelVersion") -> Mapping[str, dg.MetadataValue]:
    """Where the training and the model it made stand in MLflow."""
    return {
        "mlflow_run": dg.MetadataValue.url(run.url),
        "mlflow_run_id": dg.MetadataValue.text(run.run_id),
        "model_version": dg.MetadataValue.text(f"{version.name} v{version.version}"),
        "model": dg.MetadataValue.url(version.url),
    }
