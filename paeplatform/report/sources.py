"""The report's table of single sources: best, worst and flagged ones, each with its p(z) as a small SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from paeplatform.inference.results.pz_quantiles import mass_in_cells
from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.report.html import cell, number, row, table
from paeplatform.scores.metrics import require_columns

N_BEST, N_WORST, N_FLAGGED = 3, 4, 4
_NUMBERS = {  # shown of a source, and how
    "snr": ".0f",
    "z_true": ".4f",
    "pae_z_mean": ".4f",
    "pae_z_std": ".4f",
    "error": "+.4f",
    "pae_khat": ".2f",
    "pae_rhat": ".3f",
}
_WIDTH, _HEIGHT, _BINS = 190, 44, 48


def choose_sources(posteriors: pl.DataFrame) -> pl.DataFrame:
    """About ten rows: smallest and largest |z_mean - z_true|/(1 + z_true) and sources flagged or not
    converged.

    Args:
        posteriors: rows with `pae_z_mean`, `z_true`, `pae_status`, `z_flags`.

    Returns:
        The chosen rows with a column `why`; a source appears once, worst before flagged before best.

    Raises:
        InputError: a column is missing.
    """
    needed = ["object_id", "pae_z_mean", "pae_z_std", "z_true", "pae_status", "z_flags", "pae_z_quantiles"]
    require_columns(posteriors, needed, "posteriors with truth lack")
    error = ((pl.col("pae_z_mean") - pl.col("z_true")) / (1 + pl.col("z_true"))).cast(pl.Float64)
    rows = posteriors.with_row_index("_row").with_columns(error.alias("error"))
    usable = rows.filter(pl.col("error").is_finite())
    flagged = rows.filter((pl.col("z_flags") != 0) | (pl.col("pae_status") != "converged"))
    chosen = [
        usable.bottom_k(N_BEST, by=pl.col("error").abs()).with_columns(why=pl.lit("best")),
        usable.top_k(N_WORST, by=pl.col("error").abs()).with_columns(why=pl.lit("worst")),
        flagged.head(N_FLAGGED).with_columns(why=pl.lit("flagged")),
    ]
    priority = {"worst": 0, "flagged": 1, "best": 2}
    together = pl.concat(chosen).with_columns(
        _priority=pl.col("why").replace_strict(priority, return_dtype=pl.Int8)
    )
    once = together.sort("_priority", maintain_order=True).unique("_row", keep="first", maintain_order=True)
    return once.sort("_priority", descending=True, maintain_order=True).drop("_row", "_priority")


def sparkline(
    quantiles: Sequence[float] | None, levels: Sequence[float], z_hat: float | None, z_true: float
) -> str:
    """p(z) from its quantiles as an inline SVG with the estimate (dashed) and the truth (solid).

    The range is that of the quantiles and the truth, so the scale differs from source to source; it is
    written below. Densities are differences of the interpolated CDF over equal bins.
    """
    nodes = np.asarray([np.nan] if quantiles is None else quantiles, dtype=np.float64)
    if not (np.isfinite(nodes).all() and np.isfinite(z_true)):
        return "<span class='soft'>no posterior</span>"
    low, high = min(nodes[0], z_true), max(nodes[-1], z_true)
    margin = 0.06 * (high - low) or 0.01
    low, high = max(low - margin, 0.0), high + margin
    edges = np.linspace(low, high, _BINS + 1)
    steps = mass_in_cells(nodes, np.asarray(levels, dtype=np.float64), edges)
    steps = steps / max(steps.max(), 1e-12)
    base = _HEIGHT - 12
    x = np.linspace(0.0, _WIDTH, _BINS + 1)
    points = [f"M0 {base}"]
    for i, step in enumerate(steps):
        y = base - (base - 3) * step
        points.append(f"L{x[i]:.1f} {y:.1f}L{x[i + 1]:.1f} {y:.1f}")
    points.append(f"L{_WIDTH} {base}Z")

    def position(z: float) -> float:
        return float(np.clip((z - low) / (high - low), 0, 1) * _WIDTH)

    marks = (
        f"<line class='truth' x1='{position(z_true):.1f}' x2='{position(z_true):.1f}' y1='1' y2='{base}'/>"
    )
    if z_hat is not None and np.isfinite(z_hat):
        marks += (
            f"<line class='hat' stroke='currentColor' x1='{position(z_hat):.1f}' x2='{position(z_hat):.1f}' "
            f"y1='1' y2='{base}'/>"
        )
    text = f"<text y='{_HEIGHT - 1}' font-size='10' fill='currentColor'"
    return (
        f"<svg class='pz' role='img' aria-label='p(z) from {low:.3f} to {high:.3f}' width='{_WIDTH}' "
        f"height='{_HEIGHT}' viewBox='0 0 {_WIDTH} {_HEIGHT}'><path d='{''.join(points)}'/>{marks}"
        f"{text} x='0'>{low:.3f}</text>{text} x='{_WIDTH}' text-anchor='end'>{high:.3f}</text></svg>"
    )


def source_table(posteriors: pl.DataFrame) -> str:
    """The section of the page."""
    if posteriors.height == 0:
        return "<h2 id='sources'>Sources</h2><p class='soft'>No sources.</p>"
    words = ("why", "made by", "status", "flags", "p(z)")
    names = ("why", "object", "SNR", "true z", "ẑ (mean)", "σ", "Δz/(1+z)", "k̂", "R̂", *words[1:])
    heads = (cell(name, "text" if name in words else "", "th") for name in names)
    rows = (_row(source) for source in choose_sources(posteriors).iter_rows(named=True))
    return (
        "<h2 id='sources'>Sources</h2><p class='soft'>The best, the worst and some flagged sources. In "
        "the p(z) column "
        "the solid line is the true redshift, the dashed one the estimate; each has its own range of z.</p>"
        f"{table(heads, rows)}"
    )


def _row(source: dict[str, Any]) -> str:
    curve = sparkline(
        source["pae_z_quantiles"], QUANTILE_LEVELS.tolist(), source["pae_z_mean"], source["z_true"]
    )
    return row(
        (
            cell(source["why"], "text"),
            cell(str(source["object_id"])),
            *(cell(number(source.get(name), form)) for name, form in _NUMBERS.items()),
            cell(str(source.get("pae_path") or "–"), "text"),
            cell(str(source["pae_status"]), "text"),
            cell(flag_names(source["z_flags"]), "text wrap"),
            f"<td class='text'>{curve}</td>",
        )
    )


def flag_names(flags: int | None) -> str:
    """The bits of `z_flags` by name, a dash for none."""
    from paeplatform.inference.results.summaries import ZFlag

    return ", ".join(flag.name.lower().replace("_", " ") for flag in ZFlag(flags or 0) if flag.name) or "–"
