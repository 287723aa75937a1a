"""Figures of calibration, convergence and the latent space: Figs. 3, 5, 14, 15, 18, and the rank tests."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paeplatform.figures.methods import draw_coverage
from paeplatform.figures.models import PAH_RANGE_UM, REST_LINES_UM
from paeplatform.figures.style import (
    BLACK,
    BLUE,
    CYCLE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILION,
    cumulative,
    empty_note,
    finite,
    legend,
    n_bins,
    new_figure,
    note,
    styled,
)
from paeplatform.paper.calibration_tables import debiased_pit
from paeplatform.paper.sample_scores import FIDUCIAL, LABELS, label_of, methods_in, of_methods
from paeplatform.paper.table_rows import present
from paeplatform.scores.metrics import PRECISION_BINS

PRIOR_COLOURS = {
    "tf": BLACK,
    "free_uniform": VERMILION,
    "nf_uniform": ORANGE,
    "free_bpz": PURPLE,
    "nf_bpz": BLUE,
    "sbi": GREEN,
}


@styled
def reconstruction_by_size(spectra: Mapping[int, pl.DataFrame]) -> Figure:
    """Per-spectrum error and its mean by rest wavelength, for each latent size (Fig. 3).

    Args:
        spectra: table of asset `held_out_spectra` by n_latent: rows with mse, and rows with wave_um and squared_error.
    """
    figure = new_figure(height_in=3.4)
    left, right = figure.subplots(1, 2)
    for (size, table), colour in zip(sorted(spectra.items()), itertools.cycle(CYCLE), strict=False):
        mse = finite(table["mse"].drop_nulls().to_numpy())
        if mse.size:
            edges = np.geomspace(max(mse.min(), 1e-8), max(mse.max(), 1e-7), n_bins(mse.size, 60) + 1)
            label = f"n = {size}: median {np.median(mse):.1e}"
            left.hist(mse, edges.tolist(), histtype="step", color=colour, lw=1.6, label=label)
        by_wave = table.filter(pl.col("wave_um").is_not_null())
        right.plot(by_wave["wave_um"], by_wave["squared_error"], color=colour, lw=1.2, label=f"n = {size}")
    for name, wave in REST_LINES_UM.items():
        right.axvline(wave, color=GREY, lw=0.7, ls=":")
        right.text(
            wave,
            0.98,
            name,
            rotation=90,
            fontsize=6.5,
            va="top",
            ha="right",
            transform=right.get_xaxis_transform(),
        )
    right.axvspan(*PAH_RANGE_UM, color=GREY, alpha=0.25, lw=0)
    left.set(xscale="log", xlabel="MSE of a spectrum", ylabel="spectra")
    right.set(xscale="log", yscale="log", xlabel="rest wavelength [µm]", ylabel="mean squared error")
    legend(left, loc="upper right", fontsize=8)
    return figure


@styled
def latent_norms(spectra: pl.DataFrame, trend: pl.DataFrame) -> Figure:
    """|u| of held-out spectra against redshift, with the mean in bins and Pearson's r (Fig. 5).

    Args:
        spectra: rows with z and u_norm.
        trend: of `norm_trend`.
    """
    figure = new_figure(height_in=3.4)
    axes = figure.subplots()
    rows = spectra.filter(pl.col("u_norm").is_not_null())
    axes.plot(rows["z"], rows["u_norm"], ".", ms=2, color=BLUE, alpha=0.25, rasterized=True)
    bins, whole = trend.head(-1).filter(pl.col("n") > 0), trend.row(-1, named=True)
    centre = 0.5 * (bins["z_low"] + bins["z_high"]).to_numpy()
    error = bins["u_norm_mean_err"].fill_null(0.0).to_numpy()
    axes.errorbar(centre, bins["u_norm_mean"], error, fmt="o-", color=BLACK, ms=4, label="mean in bins")
    if whole["pearson"] is not None:
        spread = whole["pearson_err"] or 0.0
        note(axes, f"r = {whole['pearson']:.3f} ± {spread:.3f}\n(paper: 0.132)")
    axes.set(xlabel="redshift", ylabel="|u|$_2$")
    axes.legend(loc="upper right")
    return figure


@styled
def correlation_scores(scores: pl.LazyFrame) -> Figure:
    """Z-scores against the largest |rho(z, u_i)| of a posterior: mean and scatter should not follow it (Fig. 14).

    Args:
        scores: with rows of the fiducial PAE, whose rho_uz_max is known.
    """
    figure = new_figure(height_in=3.4)
    left, right = figure.subplots(1, 2, width_ratios=[1.0, 1.8])
    rows = of_methods(scores, FIDUCIAL).filter((pl.col("usable") > 0.5) & pl.col("rho_uz_max").is_finite())
    rho, z_score = rows.select("rho_uz_max", "z_score").collect().to_numpy().T
    left.set(xlabel="largest |ρ(z, u$_i$)|", ylabel="sources")
    right.set(xlabel="largest |ρ(z, u$_i$)|", ylabel="Z = (ẑ − z)/σ", ylim=(-5, 5), xlim=(0, 1))
    if not rho.size:
        empty_note(left)
        empty_note(right)
        return figure
    left.hist(rho, np.linspace(0, 1, n_bins(rho.size, 25) + 1).tolist(), color=BLUE, alpha=0.5)
    right.plot(rho, np.clip(z_score, -5, 5), ".", ms=3, color=BLUE, alpha=0.4, rasterized=True)
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
                color=BLACK,
                capsize=3,
            )
    for level in (-1, 0, 1):
        right.axhline(level, color=GREY, lw=0.8, ls="-" if level == 0 else ":")
    return figure


@styled
def prior_comparison(scores: pl.LazyFrame, table: pl.DataFrame) -> Figure:
    """Errors, Z-scores and coverage before and after de-biasing, by bin of precision, for TF and each choice of priors
    (Fig. 15).

    Args:
        scores: the score table.
        table: of `pit_table`; KS distances in the legends are its numbers.
    """
    methods = [name for name in present(scores, *LABELS) if name != "sbi"]
    n_columns = len(PRECISION_BINS) - 1
    figure = new_figure(height_in=9.6)
    panels = figure.subplots(4, n_columns, squeeze=False)
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
                (moved, _debiased(rows), "pit_ks_debiased"),
            ):
                ks = match[0][key] if match else None
                draw_coverage(axes, pit, colour, "no source" if ks is None else f"KS {ks:.3f}")
        errors.set_title(f"{low:g} ≤ σ$_z$/(1+z) < {high:g}")
        errors.set_xlabel("(ẑ − z)/(1 + z)")
        z_scores.set_xlabel("Z-score")
        for axes, text in ((plain, "nominal quantile"), (moved, "nominal quantile, de-biased")):
            axes.set_xlabel(text)
            legend(axes, loc="lower right", fontsize=7)
    panels[0, 0].set_ylabel("density")
    panels[1, 0].set_ylabel("density")
    handles = [
        panels[0, 0].plot([], [], color=PRIOR_COLOURS[name], label=label_of(name))[0] for name in methods
    ]
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=2, fontsize=8)
    return figure


@styled
def chain_convergence(scores: pl.LazyFrame, with_prior: str) -> Figure:
    """R-hat and autocorrelation length of chains with and without the NF prior (Fig. 18).

    Args:
        scores: the score table.
        with_prior: key of the chains that have the NF prior ("latent<n>").
    """
    figure = new_figure(height_in=3.5)
    left, right = figure.subplots(1, 2)
    shown = [(with_prior, "NF prior", BLUE), ("free_uniform", "no prior on u", VERMILION)]
    for axes, name, top in ((left, "rhat", 1.6), (right, "acl", 60.0)):
        twin = None
        for method, label, colour in shown:
            values = finite(of_methods(scores, method).select(name).collect()[name].to_numpy())
            if not values.size:
                continue
            low = 0.99 if name == "rhat" else 0.0
            clipped = np.clip(values, low, top)
            edges = np.linspace(low, top, n_bins(values.size, 40) + 1).tolist()
            median = f"{label}: median {np.median(values):.3g}"
            axes.hist(clipped, edges, histtype="stepfilled", color=colour, alpha=0.35, label=median)
            if twin is None:
                twin = cumulative(axes, clipped)
                twin.set_xlim(low, top)
                twin.lines[0].set_color(colour)
            else:
                ordered = np.sort(clipped)
                twin.plot(
                    ordered, np.arange(1, ordered.size + 1) / ordered.size, color=colour, lw=1.6, ls="--"
                )
        if twin is None:
            empty_note(axes)
        else:
            axes.legend(loc="center right", fontsize=8)
    left.axvline(1.1, color=BLACK, ls="--", lw=1.0)
    left.set(xlabel="split R̂ of z", ylabel="sources")
    right.set(xlabel="autocorrelation length of z [steps]", ylabel="sources")
    return figure


@styled
def rank_histograms(ranks: pl.DataFrame, summary: pl.DataFrame) -> Figure:
    """Ranks of the truth among posterior draws of simulated sources: z, all u_i together, and TARP's coverage.

    Args:
        ranks: of `rank_table`.
        summary: of `rank_summary`.
    """
    figure = new_figure(height_in=3.0)
    panels = figure.subplots(1, 3)
    p_value = dict(summary.select("quantity", "p_value").iter_rows())
    columns = {
        "z": ranks["rank_z"].to_numpy(),
        "u": ranks["rank_u"].to_numpy().ravel() if ranks.height else np.empty(0),
        "TARP": ranks["tarp"].to_numpy(),
    }
    for axes, (name, values) in zip(panels, columns.items(), strict=True):
        if not values.size:
            empty_note(axes)
            continue
        if name == "TARP":
            draw_coverage(axes, values, BLUE, "TARP")
            band = 1.358 / np.sqrt(values.size)
            axes.fill_between([0, 1], [-band, 1 - band], [band, 1 + band], color=GREY, alpha=0.25, lw=0)
            axes.set(xlabel="credibility", ylabel="coverage")
        else:
            bins = n_bins(ranks.height, 20)
            axes.hist(values, np.linspace(0, 1, bins + 1).tolist(), color=BLUE, alpha=0.5)
            axes.axhline(values.size / bins, color=BLACK, lw=1.0, ls="--")
            axes.set(xlabel=f"rank of the true {name}", ylabel="sources")
        least = min(
            (v for key, v in p_value.items() if key.startswith(name[0]) and v is not None), default=None
        )
        if least is not None:
            axes.set_title(f"{'least ' if name == 'u' else ''}p = {least:.2g}")
    return figure


def chains_with_prior(scores: pl.LazyFrame, n_latent: int) -> str:
    """The key of the chains with the NF prior that Fig. 18 shows: those of the chosen size, or the largest there is."""
    sizes = [int(name.removeprefix("latent")) for name in methods_in(scores) if name.startswith("latent")]
    return f"latent{n_latent if n_latent in sizes or not sizes else max(sizes)}"


def _step(axes: Axes, values: np.ndarray, half: float, colour: str) -> None:
    values = finite(values)
    if values.size:
        edges = np.linspace(-half, half, n_bins(values.size, 40) + 1).tolist()
        axes.hist(np.clip(values, -half, half), edges, density=True, histtype="step", color=colour, lw=1.4)
    axes.set_xlim(-half, half)


def _debiased(rows: pl.DataFrame) -> np.ndarray:
    if not rows.height:
        return np.empty(0)
    bias = float(rows["error_true"].mean() or 0.0)  # type: ignore[arg-type]
    return debiased_pit(rows["z_true"].to_numpy(), rows["quantiles"].to_numpy(), bias)
