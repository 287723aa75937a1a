"""Figures of calibration, convergence and the latent space: Figs. 3, 5, 14, 15, 18, and the rank tests."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paeplatform.figures import style
from paeplatform.figures.methods import draw_coverage
from paeplatform.figures.models import PAH_RANGE_UM, REST_LINES_UM
from paeplatform.paper.calibration_tables import debiased_pit
from paeplatform.paper.sample_scores import (
    FIDUCIAL,
    LABELS,
    label_of,
    latent_method,
    latent_sizes,
    of_methods,
)
from paeplatform.paper.table_rows import present
from paeplatform.scores.metrics import PRECISION_BINS

PRIOR_COLOURS = {
    "tf": style.BLACK,
    "free_uniform": style.VERMILION,
    "nf_uniform": style.ORANGE,
    "free_bpz": style.PURPLE,
    "nf_bpz": style.BLUE,
    "sbi": style.GREEN,
}


@style.styled
def reconstruction_by_size(spectra: Mapping[int, pl.DataFrame]) -> Figure:
    """Per-spectrum error and its mean by rest wavelength, for each latent size (Fig. 3).

    Args:
        spectra: table of asset `held_out_spectra` by n_latent: rows with mse, and rows with wave_um and squared_error.
    """
    figure, (left, right) = style.figure_of(3.4, 1, 2)
    for (size, table), colour in zip(sorted(spectra.items()), itertools.cycle(style.CYCLE), strict=False):
        mse = style.finite(table["mse"].drop_nulls().to_numpy())
        if mse.size:
            edges = np.geomspace(max(mse.min(), 1e-8), max(mse.max(), 1e-7), style.n_bins(mse.size, 60) + 1)
            label = f"n = {size}: median {np.median(mse):.1e}"
            left.hist(mse, edges.tolist(), histtype="step", color=colour, lw=1.6, label=label)
        by_wave = table.filter(pl.col("wave_um").is_not_null())
        right.plot(by_wave["wave_um"], by_wave["squared_error"], color=colour, lw=1.2, label=f"n = {size}")
    for name, wave in REST_LINES_UM.items():
        right.axvline(wave, color=style.GREY, lw=0.7, ls=":")
        style.name_at(right, wave, 0.98, name, rotation=90, fontsize=6.5, va="top", ha="right")
    right.axvspan(*PAH_RANGE_UM, color=style.GREY, alpha=0.25, lw=0)
    left.set(xscale="log", xlabel="MSE of a spectrum", ylabel="spectra")
    right.set(xscale="log", yscale="log", xlabel="rest wavelength [µm]", ylabel="mean squared error")
    style.legend(left, loc="upper right", fontsize=8)
    return figure


@style.styled
def latent_norms(spectra: pl.DataFrame, trend: pl.DataFrame) -> Figure:
    """|u| of held-out spectra against redshift, with the mean in bins and Pearson's r (Fig. 5).

    Args:
        spectra: rows with z and u_norm.
        trend: of `norm_trend`.
    """
    figure, axes = style.figure_of(3.4)
    rows = spectra.filter(pl.col("u_norm").is_not_null())
    axes.plot(rows["z"], rows["u_norm"], ".", ms=2, color=style.BLUE, alpha=0.25, rasterized=True)
    bins, whole = trend.head(-1).filter(pl.col("n") > 0), trend.row(-1, named=True)
    centre = 0.5 * (bins["z_low"] + bins["z_high"]).to_numpy()
    error = bins["u_norm_mean_err"].fill_null(0.0).to_numpy()
    axes.errorbar(centre, bins["u_norm_mean"], error, fmt="o-", color=style.BLACK, ms=4, label="mean in bins")
    if whole["pearson"] is not None:
        spread = whole["pearson_err"] or 0.0
        style.note(axes, f"r = {whole['pearson']:.3f} ± {spread:.3f}\n(paper: 0.132)")
    axes.set(xlabel="redshift", ylabel="|u|$_2$")
    axes.legend(loc="upper right")
    return figure


@style.styled
def correlation_scores(scores: pl.LazyFrame) -> Figure:
    """Z-scores against the largest |rho(z, u_i)| of a posterior: mean and scatter should not follow it (Fig. 14).

    Args:
        scores: with rows of the fiducial PAE, whose rho_uz_max is known.
    """
    figure, (left, right) = style.figure_of(3.4, 1, 2, width_ratios=[1.0, 1.8])
    rows = of_methods(scores, FIDUCIAL).filter((pl.col("usable") > 0.5) & pl.col("rho_uz_max").is_finite())
    rho, z_score = rows.select("rho_uz_max", "z_score").collect().to_numpy().T
    left.set(xlabel="largest |ρ(z, u$_i$)|", ylabel="sources")
    right.set(xlabel="largest |ρ(z, u$_i$)|", ylabel="Z = (ẑ − z)/σ", ylim=(-5, 5), xlim=(0, 1))
    if not rho.size:
        style.empty_note(left)
        style.empty_note(right)
        return figure
    style.clipped_histogram(left, rho, 0.0, 1.0, 25, color=style.BLUE, alpha=0.5)
    right.plot(rho, np.clip(z_score, -5, 5), ".", ms=3, color=style.BLUE, alpha=0.4, rasterized=True)
    edges = np.quantile(rho, np.linspace(0, 1, min(6, max(2, rho.size // 8)) + 1))
    for low, high in itertools.pairwise(edges):
        inside = (rho >= low) & (rho <= high)
        if inside.sum() > 1:
            here = z_score[inside]
            right.errorbar(
                rho[inside].mean(),
                np.median(here),
                0.5 * np.ptp(np.percentile(here, [16, 84])),
                fmt="o",
                color=style.BLACK,
                capsize=3,
            )
    for level in (-1, 0, 1):
        right.axhline(level, color=style.GREY, lw=0.8, ls="-" if level == 0 else ":")
    return figure


@style.styled
def prior_comparison(scores: pl.LazyFrame, table: pl.DataFrame) -> Figure:
    """Errors, Z-scores and coverage before and after de-biasing, by bin of precision, for TF and each choice of priors
    (Fig. 15).

    Args:
        scores: the score table.
        table: of `pit_table`; KS distances in the legends are its numbers.
    """
    methods = [name for name in present(scores, *LABELS) if name != "sbi"]
    n_columns = len(PRECISION_BINS) - 1
    figure, panels = style.figure_of(9.6, 4, n_columns, squeeze=False)
    for column in range(n_columns):
        low, high = PRECISION_BINS[column : column + 2]
        errors, z_scores, plain, moved = panels[:, column]
        half = 3.0 * high
        for method in methods:
            inside = (pl.col("usable") > 0.5) & (pl.col("width") >= low) & (pl.col("width") < high)
            rows = of_methods(scores, method).filter(inside).collect()
            colour = PRIOR_COLOURS[method]
            _step(errors, rows["error_true"].to_numpy(), half, colour)
            _step(z_scores, rows["z_score"].to_numpy(), 5.0, colour)
            bins = f"{low:g} <= sigma_z/(1+z) < {high:g}"
            match = table.filter((pl.col("method") == method) & (pl.col("bin") == bins)).to_dicts()
            for axes, pit, key in (
                (plain, rows["pit"].to_numpy(), "pit_ks"),
                (moved, debiased_pit(rows), "pit_ks_debiased"),
            ):
                ks = match[0][key] if match else None
                draw_coverage(axes, pit, colour, "no source" if ks is None else f"KS {ks:.3f}")
        errors.set_title(f"{low:g} ≤ σ$_z$/(1+z) < {high:g}")
        errors.set_xlabel("(ẑ − z)/(1 + z)")
        z_scores.set_xlabel("Z-score")
        for axes, text in ((plain, "nominal quantile"), (moved, "nominal quantile, de-biased")):
            axes.set_xlabel(text)
            style.legend(axes, loc="lower right", fontsize=7)
    panels[0, 0].set_ylabel("density")
    panels[1, 0].set_ylabel("density")
    handles = [
        panels[0, 0].plot([], [], color=PRIOR_COLOURS[name], label=label_of(name))[0] for name in methods
    ]
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=2, fontsize=8)
    return figure


@style.styled
def chain_convergence(scores: pl.LazyFrame, with_prior: str) -> Figure:
    """R-hat and autocorrelation length of chains with and without the NF prior (Fig. 18).

    Args:
        scores: the score table.
        with_prior: key of the chains that have the NF prior ("latent<n>").
    """
    figure, (left, right) = style.figure_of(3.5, 1, 2)
    shown = [(with_prior, "NF prior", style.BLUE), ("free_uniform", "no prior on u", style.VERMILION)]
    for axes, name, top in ((left, "rhat", 1.6), (right, "acl", 60.0)):
        twin = None
        for method, label, colour in shown:
            values = style.finite(of_methods(scores, method).select(name).collect()[name].to_numpy())
            if not values.size:
                continue
            low = 0.99 if name == "rhat" else 0.0
            clipped = np.clip(values, low, top)
            median = f"{label}: median {np.median(values):.3g}"
            look = {"histtype": "stepfilled", "color": colour, "alpha": 0.35, "label": median}
            style.clipped_histogram(axes, values, low, top, 40, **look)
            if twin is None:
                twin = style.cumulative(axes, clipped)
                twin.set_xlim(low, top)
                twin.lines[0].set_color(colour)
            else:
                twin.plot(*style.shares_below(clipped), color=colour, lw=1.6, ls="--")
        if twin is None:
            style.empty_note(axes)
        else:
            axes.legend(loc="center right", fontsize=8)
    left.axvline(1.1, color=style.BLACK, ls="--", lw=1.0)
    left.set(xlabel="split R̂ of z", ylabel="sources")
    right.set(xlabel="autocorrelation length of z [steps]", ylabel="sources")
    return figure


@style.styled
def rank_histograms(ranks: pl.DataFrame, summary: pl.DataFrame) -> Figure:
    """Ranks of the truth among posterior draws of simulated sources: z, all u_i together, and TARP's coverage.

    Args:
        ranks: of `rank_table`.
        summary: of `rank_summary`.
    """
    figure, panels = style.figure_of(3.0, 1, 3)
    p_value = dict(summary.select("quantity", "p_value").iter_rows())
    columns = {
        "z": ranks["rank_z"].to_numpy(),
        "u": ranks["rank_u"].to_numpy().ravel() if ranks.height else np.empty(0),
        "TARP": ranks["tarp"].to_numpy(),
    }
    for axes, (name, values) in zip(panels, columns.items(), strict=True):
        if not values.size:
            style.empty_note(axes)
            continue
        if name == "TARP":
            draw_coverage(axes, values, style.BLUE, "TARP")
            style.ks_band(axes, values.size)
            axes.set(xlabel="credibility", ylabel="coverage")
        else:
            bins = style.n_bins(ranks.height, 20)
            axes.hist(values, np.linspace(0, 1, bins + 1).tolist(), color=style.BLUE, alpha=0.5)
            axes.axhline(values.size / bins, color=style.BLACK, lw=1.0, ls="--")
            axes.set(xlabel=f"rank of the true {name}", ylabel="sources")
        least = min(
            (v for key, v in p_value.items() if key.startswith(name[0]) and v is not None), default=None
        )
        if least is not None:
            axes.set_title(f"{'least ' if name == 'u' else ''}p = {least:.2g}")
    return figure


def chains_with_prior(scores: pl.LazyFrame, n_latent: int) -> str:
    """The key of the chains with the NF prior that Fig. 18 shows: those of the chosen size, or the largest there is."""
    sizes = latent_sizes(scores)
    return latent_method(n_latent if n_latent in sizes or not sizes else sizes[-1])


def _step(axes: Axes, values: np.ndarray, half: float, colour: str) -> None:
    values = style.finite(values)
    if values.size:
        look = {"density": True, "histtype": "step", "color": colour, "lw": 1.4}
        style.clipped_histogram(axes, values, -half, half, 40, **look)
    axes.set_xlim(-half, half)
