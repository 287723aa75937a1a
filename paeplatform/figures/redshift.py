"""Figures of the redshift posteriors: recovery, errors, calibration, convergence and goodness of fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from paeplatform.config import DEFAULT_TRUST, TrustConfig
from paeplatform.figures import style
from paeplatform.scores.metrics import OUTLIER_ERROR, OUTLIER_SIGMA, SIGMA_CUTS
from paeplatform.scores.scorecard import source_columns

_DOTS_UPTO = 3000  # above this many sources a panel shows a density map in place of dots


@style.styled
def redshift_recovery(
    z_true: ArrayLike,
    z_hat: ArrayLike,
    sigma_z: ArrayLike,
    metrics: pl.DataFrame,
    cuts: Sequence[float] = SIGMA_CUTS,
    z_max: float = 3.0,
) -> Figure:
    """Estimated against true redshift for selections in sigma_z/(1+z) (Fig. 11).

    Args:
        z_true: shape (source,).
        z_hat: estimates, shape (source,).
        sigma_z: their standard deviations, shape (source,).
        metrics: the table of `metric_table`; the numbers in each panel are its rows, not recomputed.
        cuts: the panels; one without a row in `metrics` is drawn without numbers.
        z_max: upper end of both axes.
    """
    true, hat = np.asarray(z_true, dtype=np.float64), np.asarray(z_hat, dtype=np.float64)
    figure, panels, columns = style.panel_grid(len(cuts), 2, 3.9, sharex=True, sharey=True)
    width = source_columns(hat, sigma_z, true)["width"]  # NaN where there is no usable estimate
    selections = [width < cut for cut in cuts]
    edges = np.linspace(0.0, z_max, 101)
    maps = [
        np.histogram2d(true[s], hat[s], bins=(edges, edges))[0] if s.sum() > _DOTS_UPTO else None
        for s in selections
    ]
    norm = LogNorm(1, max([2.0, *(counts.max() for counts in maps if counts is not None)]))
    mesh = None
    for position, (axes, cut, chosen, counts) in enumerate(zip(panels, cuts, selections, maps, strict=False)):
        if not chosen.any():
            style.empty_note(axes)
        elif counts is None:
            error = np.asarray(sigma_z, dtype=np.float64)[chosen]
            fmt = {"fmt": "o", "ms": 3.2, "lw": 0.6, "color": style.BLUE, "ecolor": "#9dbfd9", "alpha": 0.8}
            axes.errorbar(true[chosen], hat[chosen], error, **fmt)
        else:
            drawn = np.where(counts > 0, counts, np.nan).T
            mesh = axes.pcolormesh(edges, edges, drawn, norm=norm, rasterized=True)
        axes.plot([0, z_max], [0, z_max], color=style.BLACK, lw=1.0)
        line = np.linspace(0.0, z_max, 2)
        for sign in (-1, 1):
            axes.plot(line, line + sign * OUTLIER_ERROR * (1 + line), color=style.GREY, lw=1.0, ls="--")
        axes.set_title(f"σ$_z$/(1+z) < {cut:g}")
        style.note(axes, _panel_numbers(metrics, cut), fontsize=9)
        axes.set(xlim=(0, z_max), ylim=(0, z_max), aspect="equal")
        if position + columns >= len(cuts):
            axes.set_xlabel("true redshift")
            axes.tick_params(labelbottom=True)
        if position % columns == 0:
            axes.set_ylabel("estimated redshift")
    if mesh is not None:
        figure.colorbar(mesh, ax=list(panels), label="sources per cell", shrink=0.6, pad=0.02)
    return figure


def _panel_numbers(metrics: pl.DataFrame, cut: float) -> str:
    match = metrics.filter((pl.col("cut") - cut).abs() < 1e-9).to_dicts()
    if not match:
        return ""
    row = match[0]
    if not row["n"]:
        return "N = 0"
    return "\n".join(
        (
            f"N = {row['n']:,}",
            f"NMAD = {row['nmad_paper']:.4f}",
            f"bias = {row['mean_bias']:+.4f}",
            f"η$_{{3σ}}$ = {row['eta_3sigma']:.1%}",
        )
    )


@style.styled
def redshift_errors(fractional_error: ArrayLike, z_score: ArrayLike) -> Figure:
    """Histograms of (z_hat - z_true)/(1 + z_true) and of the Z-scores with N(0, 1) (Fig. 15, upper rows).

    Args:
        fractional_error: shape (source,).
        z_score: shape (source,).
    """
    figure, (left, right) = style.figure_of(3.5, 1, 2)
    error, score = style.finite(fractional_error), style.finite(z_score)
    for axes in (left, right):
        if not error.size:
            style.empty_note(axes)
    if error.size:
        half = max(float(np.percentile(np.abs(error), 95)) * 1.2, 1e-4)
        style.clipped_histogram(left, error, -half, half, color=style.BLUE, alpha=0.55)
        beyond = int((np.abs(error) > half).sum())
        style.note(
            left,
            f"median {np.median(error):+.4f}"
            + (f"\n{beyond} beyond the axis,\nin the end bins" if beyond else ""),
        )
    if score.size:
        edges = np.linspace(-5.0, 5.0, style.n_bins(2 * score.size) + 1)
        right.hist(np.clip(score, -5, 5), edges, color=style.BLUE, alpha=0.55, label="sources")
        grid = np.linspace(-5, 5, 200)
        normal = np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi) * score.size * (edges[1] - edges[0])
        right.plot(grid, normal, color=style.BLACK, lw=1.4, label="N(0, 1)")
        for limit in (-OUTLIER_SIGMA, OUTLIER_SIGMA):
            right.axvline(limit, color=style.VERMILION, ls=":", lw=1.4)
        right.legend(loc="upper right")
        outside = int((np.abs(score) > OUTLIER_SIGMA).sum())
        style.note(right, f"{outside} of {score.size:,}\nbeyond {OUTLIER_SIGMA:g}σ")
    left.axvline(0.0, color=style.BLACK, lw=0.8)
    style.whole_counts(left)
    style.whole_counts(right)
    left.set(xlabel="(ẑ − z$_{true}$) / (1 + z$_{true}$)", ylabel="sources")
    right.set(xlabel="Z-score  (ẑ − z$_{true}$) / σ$_z$", ylabel="sources")
    return figure


@style.styled
def pit_histogram(pit: ArrayLike, levels: ArrayLike, coverage: ArrayLike, ks_distance: float) -> Figure:
    """Probability integral transform and empirical coverage (section VI.1, Fig. 15 third row).

    Args:
        pit: PIT of each source, shape (source,).
        levels: levels of the coverage curve, shape (level,).
        coverage: fraction of sources with PIT at most each level, shape (level,).
        ks_distance: Kolmogorov-Smirnov distance to the uniform distribution, quoted.
    """
    figure, (left, right) = style.figure_of(3.7, 1, 2)
    values = style.finite(pit)
    if values.size:
        bins = style.n_bins(values.size, at_most=20)
        counts, edges = np.histogram(values, np.linspace(0.0, 1.0, bins + 1))
        left.stairs(counts, edges, fill=True, color=style.BLUE, alpha=0.5)
        expected = values.size / bins
        spread = np.sqrt(expected * (1 - 1 / bins))
        left.axhspan(
            max(expected - 2 * spread, 0),
            expected + 2 * spread,
            color=style.GREY,
            alpha=0.25,
            lw=0,
            label="uniform ± 2σ",
        )
        left.axhline(expected, color=style.BLACK, lw=1.2)
        left.set_ylim(0, max(counts.max(), expected + 2 * spread) * 1.25)
        left.legend(loc="upper right")
        nodes, covered = np.asarray(levels, dtype=np.float64), np.asarray(coverage, dtype=np.float64)
        style.ks_band(right, values.size, label="95 % band")
        right.plot([0, 1], [0, 1], color=style.BLACK, lw=1.2)
        right.plot(nodes, covered, color=style.BLUE, lw=2.0, label="posteriors")
        right.legend(loc="lower right")
        style.note(right, f"KS distance {ks_distance:.3f}\n{values.size:,} sources")
    else:
        style.empty_note(left)
        style.empty_note(right)
    style.whole_counts(left)
    left.set(xlabel="PIT = CDF(z$_{true}$)", ylabel="sources", xlim=(0, 1))
    right.set(xlabel="nominal quantile", ylabel="fraction of sources below", xlim=(0, 1), ylim=(0, 1))
    return figure


@style.styled
def convergence(
    rhat: ArrayLike,
    acl: ArrayLike,
    khat: ArrayLike = (),
    ess: ArrayLike = (),
    *,
    trust: TrustConfig = DEFAULT_TRUST,
) -> Figure:
    """How well each posterior was sampled: k-hat and effective draws of importance sampling, R-hat and
    autocorrelation length of chains (Fig. 18); a row for each that some source has.

    Args:
        rhat: split R-hat per source, shape (source,); NaN for a posterior that is of no chain.
        acl: autocorrelation length of z in steps, shape (source,); NaN likewise.
        khat: Pareto shape of the weights, shape (source,); NaN for a posterior of chains.
        ess: effective number of draws, shape (source,); shown beside k-hat.
        trust: the limits that are drawn as lines.
    """
    shapes, draws = np.asarray(khat, dtype=np.float64), np.asarray(ess, dtype=np.float64)
    weighted, chains = style.finite(shapes).size > 0, style.finite(rhat).size > 0
    n_rows = max(1, weighted + chains)
    figure = style.new_figure(height_in=3.7 * n_rows)
    panels = list(figure.subplots(n_rows, 2, squeeze=False))
    if weighted:
        left, right = panels.pop(0)
        _with_line(left, shapes, trust.khat_max, lowest=-0.5, highest=2.0, fmt=".2f")
        left.set(xlabel=f"Pareto k̂ of the weights   (dashed: {trust.khat_max:g})", ylabel="sources")
        positive = (
            style.finite(draws[np.isfinite(shapes)]) if draws.shape == shapes.shape else style.finite(draws)
        )
        _with_line(
            right, np.log10(np.maximum(positive, 1.0)), np.log10(trust.ess_min), lowest=0.0, highest=6.0
        )
        right.set(xlabel=f"log$_{{10}}$ effective draws   (dashed: {trust.ess_min:g})", ylabel="sources")
    if chains or not weighted:
        left, right = panels.pop(0)
        _with_line(left, rhat, trust.rhat_max, lowest=0.9, highest=2.0, fmt=".3f")
        left.set(xlabel=f"split R̂ of z   (dashed: {trust.rhat_max:g})", ylabel="sources")
        _with_line(right, acl, None, lowest=0.0, highest=np.inf)
        right.set(xlabel="autocorrelation length of z [steps]", ylabel="sources")
    return figure


def _with_line(
    axes: Axes,
    values: ArrayLike,
    line: float | None,
    *,
    lowest: float,
    highest: float,
    fmt: str = ".1f",
) -> None:
    """Histogram with its cumulative fraction and a dashed line that is always in view; outliers in the end bins."""
    shown = style.finite(values)
    if not shown.size:
        style.empty_note(axes)
        return
    spread = float(np.ptp(shown)) or 0.1 * abs(float(shown[0])) or 0.1
    low = max(min(float(shown.min()), np.inf if line is None else line) - 0.05 * spread, lowest)
    top = float(np.percentile(shown, 99)) + 0.05 * spread
    top = min(max(top, -np.inf if line is None else line + 0.1 * spread), highest)
    top = max(top, low + 1e-3)
    shown = np.clip(shown, low, top)
    style.clipped_histogram(axes, shown, low, top, color=style.BLUE, alpha=0.5)
    style.cumulative(axes, np.sort(shown)).set_xlim(low, top)
    if line is not None:
        axes.axvline(line, color=style.BLACK, ls="--", lw=1.2)
    style.note(axes, f"median {np.median(shown):{fmt}}\n{shown.size:,} sources", x=0.97, y=0.5, ha="right")
    style.whole_counts(axes)


@style.styled
def chi2_distribution(reduced_chi2: ArrayLike) -> Figure:
    """Reduced chi^2 of the posterior mean with its cumulative fraction, median and 95th percentile (Fig. 6).

    Args:
        reduced_chi2: chi^2 per degree of freedom of each source, shape (source,).
    """
    figure, axes = style.figure_of(3.7)
    values = style.finite(reduced_chi2)
    axes.set(xlabel="reduced χ² of the posterior mean", ylabel="sources")
    if not values.size:
        style.empty_note(axes)
        return figure
    low = float(values.min()) * 0.95
    top = max(float(np.percentile(values, 99)) * 1.1, low + 0.1)
    style.clipped_histogram(axes, values, low, top, color=style.BLUE, alpha=0.5)
    median, high = np.percentile(values, [50, 95])
    axes.axvline(median, color=style.BLACK, ls="--", label=f"median {median:.2f}")
    axes.axvline(high, color=style.VERMILION, ls=":", lw=2, label=f"95th percentile {high:.2f}")
    axes.axvline(1.0, color=style.GREEN, lw=1.0, label="ideal, 1")
    style.cumulative(axes, values).set_xlim(low, top)
    style.whole_counts(axes)
    axes.legend(loc="center right")
    return figure
