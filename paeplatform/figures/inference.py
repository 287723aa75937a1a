"""Figures of single sources: predicted SEDs, profile likelihoods, and what missing bands cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from paeplatform.figures import style
from paeplatform.inference.profile_likelihood import ProfileLikelihood
from paeplatform.inference.results.predictive import Predictive
from paeplatform.scores.metrics import METRICS

_ROW_IN = 2.7  # height of a source's row of panels
_DEPTH = 25.0  # in -ln L: how far above its minimum a profile is shown


@style.styled
def predictive_figure(
    wave: ArrayLike,
    flux: ArrayLike,
    flux_err: ArrayLike,
    predictive: Predictive,
    *,
    z: ArrayLike | None = None,
    z_true: ArrayLike | None = None,
    names: Sequence[str] = (),
) -> Figure:
    """Photometry with the intervals of the posterior predictive, a row a source; residuals beneath (Figs. 7 and 9).

    Args:
        wave: band centres [um], shape (band,).
        flux: [uJy], shape (source, band).
        flux_err: [uJy], shape (source, band); masked bands are drawn as ticks at the bottom.
        predictive: of the same sources.
        z: posterior draws of the redshift, shape (source, draw); adds their histograms.
        z_true: shape (source,).
        names: titles, one a source.
    """
    wave, flux = np.asarray(wave, dtype=np.float64), np.asarray(flux, dtype=np.float64)
    error, order = np.asarray(flux_err, dtype=np.float64), np.argsort(np.asarray(wave), kind="stable")
    n_source = len(flux)
    if not n_source:
        return style.empty_figure(_ROW_IN)
    figure = style.new_figure(height_in=_ROW_IN * n_source)
    widths = [3.4, 1.0] if z is not None else [1.0]
    grid = figure.add_gridspec(
        2 * n_source, len(widths), width_ratios=widths, height_ratios=[3.0, 1.0] * n_source
    )
    for i in range(n_source):
        upper = figure.add_subplot(grid[2 * i, 0])
        lower = figure.add_subplot(grid[2 * i + 1, 0], sharex=upper)
        usable = np.isfinite(error[i]) & (error[i] > 0.0)
        good = usable & np.isfinite(flux[i])
        for k in reversed(range(len(predictive.level))):
            low, high = predictive.flux_low[i, k][order], predictive.flux_high[i, k][order]
            label = f"{predictive.level[k]:.0%} of the posterior"
            upper.fill_between(
                wave[order], low, high, color=style.BLUE, alpha=0.45 if k == 0 else 0.2, lw=0, label=label
            )
        upper.plot(wave[order], predictive.flux[i][order], color=style.BLUE, lw=1.4, label="median")
        fmt = {"fmt": "o", "ms": 2.6, "lw": 0.7, "color": style.VERMILION, "ecolor": "#e3ae8f", "zorder": 1}
        upper.errorbar(wave[good], flux[i][good], error[i][good], label="data", **fmt)
        upper.plot(
            wave[~usable],
            np.zeros((~usable).sum()),
            "|",
            color=style.GREY,
            ms=7,
            transform=upper.get_xaxis_transform(),
        )
        _limits(upper, flux[i][good], error[i][good], predictive.flux[i])
        lower.axhline(0.0, color=style.BLUE, lw=1.0)
        lower.plot(
            wave[good], ((flux[i] - predictive.flux[i]) / error[i])[good], "o", ms=2.4, color=style.VERMILION
        )
        lower.set(ylim=(-4.5, 4.5), ylabel="χ")
        upper.set_ylabel("flux [µJy]")
        upper.tick_params(labelbottom=False)
        lower.tick_params(labelbottom=i == n_source - 1)
        if i == n_source - 1:
            lower.set_xlabel("observed wavelength [µm]")
        title = names[i] if i < len(names) else ""
        if np.isfinite(predictive.chi2[i]):
            title += f"{', ' if title else ''}χ² {predictive.chi2[i]:.0f} of {good.sum()} bands"
        upper.set_title(title)
        if i == 0:
            handles, labels = upper.get_legend_handles_labels()
            figure.legend(handles[::-1], labels[::-1], loc="outside upper center", ncols=5)
        if z is not None:
            _redshift_panel(
                figure.add_subplot(grid[2 * i : 2 * i + 2, 1]),
                np.asarray(z)[i],
                None if z_true is None else float(np.asarray(z_true)[i]),
                last=i == n_source - 1,
            )
    return figure


def _limits(axes: Axes, flux: np.ndarray, error: np.ndarray, model: np.ndarray) -> None:
    """A y range that the noisiest bands do not decide."""
    values = np.concatenate([flux, model[np.isfinite(model)]])
    if not values.size:
        style.empty_note(axes, "no usable band")
        return
    low, high = np.percentile(values, [1.0, 99.0])
    margin = 0.15 * (high - low) + (float(np.median(error)) if error.size else 0.0)
    axes.set_ylim(low - margin, high + margin)


def _redshift_panel(axes: Axes, z: np.ndarray, z_true: float | None, *, last: bool) -> None:
    z = z[np.isfinite(z)]
    if z.size:
        axes.hist(z, 40, density=True, color=style.BLUE, alpha=0.5)
        axes.set_title(f"z = {np.median(z):.3f} ± {z.std():.3f}")
    else:
        style.empty_note(axes, "no draws")
    if z_true is not None:
        axes.axvline(z_true, color=style.BLACK, lw=1.4)
    axes.set_yticks([])
    if last:
        axes.set_xlabel("z (line: truth)" if z_true is not None else "z")


@style.styled
def profile_figure(
    profile: ProfileLikelihood,
    *,
    names: Sequence[str] = (),
    z_true: ArrayLike | None = None,
    posterior_z: ArrayLike | None = None,
    others: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
) -> Figure:
    """Profile likelihoods and the densities of z they give, beside other methods' (Fig. 16, right).

    Args:
        profile: a row a source.
        names: titles, one a source.
        z_true: shape (source,).
        posterior_z: posterior draws, shape (source, draw); their histogram joins the densities.
        others: more profiles by name, each (redshifts (node,), chi^2 (source, node)); e.g. template fitting's.
    """
    n_source = len(profile.chi2)
    if not n_source:
        return style.empty_figure(_ROW_IN)
    figure, panels = style.figure_of(_ROW_IN * n_source, n_source, 2, squeeze=False)
    curves = {"PAE profile": (profile.z_grid, profile.chi2, style.BLUE)}
    for (name, (nodes, chi2)), colour in zip(
        (others or {}).items(), (style.BLACK, style.GREEN, style.VERMILION), strict=False
    ):
        curves[name] = (np.asarray(nodes), np.asarray(chi2), colour)
    for i, (left, right) in enumerate(panels):
        shown: list[np.ndarray] = []
        least = min(
            (float(np.nanmin(c[i])) for _, c, _ in curves.values() if np.isfinite(c[i]).any()), default=np.nan
        )
        if np.isfinite(least):
            for name, (nodes, chi2, colour) in curves.items():
                delta = 0.5 * (chi2[i] - least)
                left.plot(nodes, delta, color=colour, lw=1.4, label=name)
                density = np.exp(-(delta - np.nanmin(delta)))
                right.plot(nodes, density / np.trapezoid(density, nodes), color=colour, lw=1.4, label=name)
                shown.append(nodes[density > 0.01])
            highest = 0.5 * max(float(np.nanmax(c[i])) - least for _, c, _ in curves.values())
            left.set_ylim(-0.03 * min(_DEPTH, highest), min(_DEPTH, 1.05 * highest))
        else:
            style.empty_note(left, "no usable band")
        if posterior_z is not None:
            draws = np.asarray(posterior_z, dtype=np.float64)[i]
            draws = draws[np.isfinite(draws)]
            if draws.size:
                edges = np.histogram_bin_edges(draws, 60)
                right.hist(draws, edges, density=True, color=style.ORANGE, alpha=0.55, label="PAE posterior")
                shown.append(np.quantile(draws, [0.005, 0.995]))
        if z_true is not None:
            for axes in (left, right):
                axes.axvline(float(np.asarray(z_true)[i]), color=style.GREY, lw=1.2, ls="--", label="truth")
            shown.append(np.atleast_1d(np.asarray(z_true, dtype=np.float64)[i]))
        left.set_ylabel("−ln L above the least")
        right.set_ylabel("p(z)")
        left.set_title(names[i] if i < len(names) else "")
        right.set_xlim(*_extent(shown))
        if i == 0:
            figure.legend(*right.get_legend_handles_labels(), loc="outside upper center", ncols=5)
        if i == n_source - 1:
            left.set_xlabel("redshift")
            right.set_xlabel("redshift")
    return figure


def _extent(parts: Sequence[np.ndarray]) -> tuple[float, float]:
    """Redshifts that matter, with a margin: a peak of 0.005 is invisible on an axis from 0 to 3."""
    values = np.concatenate([np.empty(0), *parts])
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 3.0
    margin = max(0.1 * float(np.ptp(values)), 0.01)
    return max(float(values.min()) - margin, 0.0), float(values.max()) + margin


@style.styled
def missing_bands_figure(summary: pl.DataFrame, table: pl.DataFrame) -> Figure:
    """What missing bands cost: widths, errors and coverage against the fraction missing (section V.3).

    Args:
        summary: of `missing_bands.stress_summary`.
        table: of `inference.missing_bands.stress_test`, for the spread of sigma_z/(1+z) over sources.
    """
    figure, panels = style.figure_of(3.4, 1, 3)
    fraction = 100.0 * summary["fraction"].to_numpy()
    if not len(fraction):
        for axes in panels:
            style.empty_note(axes)
        return figure
    width = (pl.col("pae_z_std") / (1.0 + pl.col("pae_z_mean"))).cast(pl.Float64)
    quartiles = table.group_by("fraction").agg(width.quantile(q).alias(str(q)) for q in (0.25, 0.75))
    low, high = quartiles.sort("fraction").select("0.25", "0.75").to_numpy().T
    left, middle, right = panels
    left.fill_between(fraction, low, high, color=style.BLUE, alpha=0.25, lw=0, label="half of the sources")
    left.plot(fraction, _numbers(summary, "median_sigma"), "o-", color=style.BLUE, label="median")
    left.set(ylabel="σ$_z$ / (1+z)", ylim=(0.0, None))
    left.set_title("width")
    left.legend(loc="upper left")
    middle.plot(fraction, _numbers(summary, "nmad_paper"), "o-", color=style.BLUE, label="NMAD")
    middle.plot(fraction, _numbers(summary, "mean_bias"), "s--", color=style.VERMILION, label="mean bias")
    middle.plot(
        fraction, _numbers(summary, "eta_3sigma"), "^:", color=style.GREEN, label="η$_{3σ}$ (fraction)"
    )
    middle.axhline(0.0, color=style.BLACK, lw=0.8)
    middle.set_title("errors of z / (1+z)")
    middle.legend(loc="best")
    n = np.maximum(_numbers(summary, "n"), 1.0)
    for name, colour in (("coverage_1sigma", style.BLUE), ("coverage_2sigma", style.ORANGE)):
        covered, nominal = _numbers(summary, name), METRICS[name].ideal
        spread = np.sqrt(nominal * (1.0 - nominal) / n)
        right.errorbar(fraction, covered, spread, fmt="o-", color=colour, label=f"{nominal:.0%} intervals")
        right.axhline(nominal, color=colour, lw=1.0, ls="--")
    right.set(ylabel="fraction holding the truth", ylim=(0.0, 1.03))
    right.legend(loc="lower left")
    right.set_title(f"intervals of {int(n.max()):,} sources")
    for axes in panels:
        axes.set(xlabel="bands missing [%]", xticks=fraction)
    return figure


def _numbers(summary: pl.DataFrame, name: str) -> np.ndarray:
    return summary[name].cast(pl.Float64).to_numpy()
