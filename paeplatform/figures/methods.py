"""Figures that set methods side by side on the validation sample: Figs. 10 to 13 and 17."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from paeplatform.figures import style
from paeplatform.inference.results.pz_quantiles import mass_in_cells
from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.paper.sample_scores import FIDUCIAL, of_methods
from paeplatform.paper.table_rows import present
from paeplatform.paper.tables import BRIGHT, pair
from paeplatform.scores.calibration import pit_coverage
from paeplatform.scores.metrics import OUTLIER_ERROR, PRECISION_BINS, SIGMA_CUTS

COLOURS = {"tf": style.BLACK, "nf_bpz": style.BLUE, "sbi": style.GREEN}
_CELLS = 240  # of a density
SHORT = {"tf": "TF", "nf_bpz": "PAE", "sbi": "SBI"}
_DOTS_UPTO = 3000
_IN_GALLERY = 10  # panels at most


@style.styled
def pz_gallery(scores: pl.LazyFrame, seed: int = 0, z_max: float = 3.0) -> Figure:
    """p(z) of template fitting and PAE with the truth, sources drawn at random in bins of growing width (Fig. 10).

    Args:
        scores: with rows of TF and of the fiducial PAE.
        seed: of the draw.
        z_max: end of the axes of wide p(z).
    """
    both = pair(scores).collect().sort("width")
    rng = np.random.default_rng(seed)
    groups = np.array_split(np.arange(both.height), max(min(_IN_GALLERY, both.height), 1))
    chosen = [int(rng.choice(part)) for part in groups if part.size]
    figure, panels, _ = style.panel_grid(len(chosen), 5, 2.1)
    for axes, row in zip(panels, chosen, strict=False):
        source = both.row(row, named=True)
        for key, method in (("quantiles_tf", "tf"), ("quantiles", FIDUCIAL)):
            z, density = density_of(source[key])
            axes.plot(z, density / density.max(), color=COLOURS[method], lw=1.4, label=SHORT[method])
        axes.axvline(source["z_true"], color=style.VERMILION, lw=1.3, label="truth")
        nodes = np.concatenate([source["quantiles"], source["quantiles_tf"], [source["z_true"]]])
        margin = 0.15 * np.ptp(nodes) + 0.005
        axes.set(xlim=(max(nodes.min() - margin, 0.0), min(nodes.max() + margin, z_max + 0.1)), yticks=[])
        axes.set_title(f"σ/(1+z) {source['width']:.3f}", fontsize=8.5)
        axes.tick_params(labelsize=8)
    if chosen:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
        figure.supxlabel("redshift", fontsize=10)
    return figure


@style.styled
def recovery_by_method(scores: pl.LazyFrame, table: pl.DataFrame, z_max: float = 3.0) -> Figure:
    """Estimated against true redshift of TF and PAE, a row each, a column a cut in its own uncertainty (Fig. 11).

    Args:
        scores: the score table.
        table: of `sigma_cut_table`; the panels' numbers are its rows.
        z_max: end of both axes.
    """
    shown = present(scores, "tf", FIDUCIAL)
    if not shown:
        return style.empty_figure(2.4)
    figure, panels = style.figure_of(
        2.4 * max(len(shown), 1) + 0.4,
        max(len(shown), 1),
        len(SIGMA_CUTS),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for line, method in zip(panels, shown, strict=True):
        rows = _good(scores, method)
        for axes, cut in zip(line, SIGMA_CUTS, strict=True):
            chosen = rows.filter(pl.col("width") < cut)
            scatter(axes, chosen["z_true"].to_numpy(), chosen["z_hat"].to_numpy(), z_max)
            match = table.filter((pl.col("method") == method) & (pl.col("cut") == cut)).to_dicts()
            if match and match[0]["n"]:
                style.note(axes, _numbers(match[0]), fontsize=7.5)
            if method == shown[0]:
                axes.set_title(f"σ$_z$/(1+z) < {cut:g}")
        line[0].set_ylabel(f"{SHORT.get(method, method)}: estimated z")
    for axes in panels[-1]:
        axes.set_xlabel("true z")
    return figure


@style.styled
def error_scatter(scores: pl.LazyFrame, table: pl.DataFrame) -> Figure:
    """Redshift errors of PAE against template fitting, and their correlation by bin (Fig. 12).

    Args:
        scores: with rows of both.
        table: of `error_correlation`.
    """
    figure, (top, main) = style.figure_of(5.6, 2, 1, height_ratios=[1.0, 2.6])
    both = pair(scores).collect()
    x = np.arange(table.height)
    known = table["pearson"].is_not_null().to_numpy()
    value, error = (table[name].fill_null(0.0).to_numpy() for name in ("pearson", "pearson_err"))
    top.errorbar(x[known], value[known], error[known], fmt="o", color=style.BLUE, capsize=3, label="here")
    low, high = (table[name].cast(pl.Float64).to_numpy() for name in ("paper_low", "paper_high"))
    quoted = np.isfinite(low)
    top.bar(
        x[quoted], (high - low)[quoted], 0.8, low[quoted], color=style.GREY, alpha=0.3, label="paper's range"
    )
    top.set_xticks(x, [name.replace("sigma_PAE/(1+z)", "σ") for name in table["bin"]], fontsize=7.5)
    top.set(ylim=(-0.3, 1.5), ylabel="Pearson ρ")
    style.legend(top, loc="upper right", ncols=2)
    if both.height:
        errors = [(both[name] - both["z_true"]).to_numpy() for name in ("z_hat_tf", "z_hat")]
        dots = main.scatter(
            *errors, c=both["width"].to_numpy(), s=8, norm=LogNorm(0.003, 0.3), rasterized=True, lw=0
        )
        figure.colorbar(dots, ax=main, label="σ$_z$/(1+z) of the PAE")
        half = max(float(np.percentile(np.abs(errors), 98)) * 1.1, 0.01)
        main.plot([-half, half], [-half, half], color=style.GREY, lw=1.0)
        main.set(xlim=(-half, half), ylim=(-half, half))
    else:
        style.empty_note(main)
    main.set(xlabel="TF: ẑ − z", ylabel="PAE: ẑ − z")
    return figure


@style.styled
def flagged_recovery(scores: pl.LazyFrame, table: pl.DataFrame, z_max: float = 3.0) -> Figure:
    """Recovery of all, unflagged and flagged sources by bin of TF's precision; the last two columns are the PAE's
    (Fig. 13).

    Args:
        scores: with rows of TF and of the fiducial PAE.
        table: of `flag_table`; the panels' numbers are its rows.
        z_max: end of both axes.
    """
    both = pair(scores).collect()
    names = (("tf", "all"), ("tf", "unflagged"), ("tf", "flagged"), ("pae", "unflagged"), ("pae", "flagged"))
    n_rows = len(PRECISION_BINS) - 1
    figure, panels = style.figure_of(
        1.9 * n_rows + 0.5, n_rows, len(names), sharex=True, sharey=True, squeeze=False
    )
    for index, line in enumerate(panels):
        low, high = PRECISION_BINS[index : index + 2]
        inside = both.filter((pl.col("width_tf") >= low) & (pl.col("width_tf") < high))
        for axes, (method, group) in zip(line, names, strict=True):
            chosen = {"all": pl.lit(True), "flagged": pl.col("flagged"), "unflagged": ~pl.col("flagged")}[
                group
            ]
            rows = inside.filter(chosen)
            hat = rows["z_hat_tf" if method == "tf" else "z_hat"].to_numpy()
            scatter(axes, rows["z_true"].to_numpy(), hat, z_max)
            match = table[3 * index : 3 * index + 3].filter(pl.col("sources") == group).to_dicts()
            if match and match[0]["n"]:
                eta, bias = match[0][f"{method}_eta_3sigma"], match[0][f"{method}_mean_bias"]
                style.note(axes, f"N = {match[0]['n']:,}\nη = {eta:.1%}\nbias {bias:+.3f}", fontsize=7)
            if index == 0:
                axes.set_title(f"{method.upper()}, {group}", fontsize=9)
        line[0].set_ylabel(f"{low:g} ≤ σ$_{{TF}}$ < {high:g}\nestimated z", fontsize=8.5)
    for axes in panels[-1]:
        axes.set_xlabel("true z", fontsize=9)
    return figure


@style.styled
def method_recovery(scores: pl.LazyFrame, table: pl.DataFrame, z_max: float = 3.0) -> Figure:
    """PAE and SBI on the same sources, bright and all: recovery, errors, coverage (Fig. 17).

    Args:
        scores: with rows of the fiducial PAE and SBI.
        table: of `comparison_table`; the legends' numbers are its rows.
        z_max: end of the recovery panels' axes.
    """
    methods = present(scores, FIDUCIAL, "sbi")
    if not methods:
        return style.empty_figure(2.4)
    limits = table["selection"].unique(maintain_order=True).to_list()
    figure, panels = style.figure_of(2.9 * max(len(limits), 1), max(len(limits), 1), 3, squeeze=False)
    for line, selection in zip(panels, limits, strict=True):
        limit = float(selection.split("<")[1])
        for method in methods:
            rows = _good(scores, method).filter(pl.col("mag_z") < limit)
            colour = COLOURS[method]
            match = table.filter((pl.col("method") == method) & (pl.col("selection") == selection)).to_dicts()
            label = SHORT[method]
            if match and match[0]["n"]:
                label += f": NMAD {match[0]['nmad_paper']:.4f}, η {match[0]['eta_3sigma']:.1%}"
            line[0].plot(rows["z_true"], rows["z_hat"], ".", ms=3, color=colour, alpha=0.5, rasterized=True)
            error = rows["error_true"].to_numpy()
            half = 0.05 if limit <= BRIGHT else 0.3
            line[1].hist(
                np.clip(error, -half, half),
                np.linspace(-half, half, 41).tolist(),
                histtype="step",
                color=colour,
                lw=1.6,
                label=label,
            )
            draw_coverage(line[2], rows["pit"].to_numpy(), colour, SHORT[method])
        line[0].plot([0, z_max], [0, z_max], color=style.GREY, lw=1.0)
        line[0].set(xlim=(0, z_max), ylim=(0, z_max), ylabel="estimated z", title=selection)
        style.legend(line[1], loc="upper left", fontsize=7)
        line[1].set(ylabel="sources")
        line[1].set_ylim(0, line[1].get_ylim()[1] * 1.35)
        style.legend(line[2], loc="lower right", fontsize=8)
    for axes, label in zip(panels[-1], ("true z", "(ẑ − z)/(1 + z)", "nominal quantile"), strict=True):
        axes.set_xlabel(label)
    return figure


def draw_coverage(axes: Axes, pit: np.ndarray, colour: str, label: str) -> None:
    """Empirical against nominal coverage, with the diagonal."""
    axes.plot([0, 1], [0, 1], color=style.GREY, lw=1.0)
    if np.isfinite(pit).any():
        grid = np.linspace(0.0, 1.0, 101)
        axes.plot(grid, pit_coverage(pit, grid), color=colour, label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="fraction below")


def density_of(quantiles: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(z, p(z)) from quantiles: differences of the interpolated CDF over equal cells, lightly smoothed."""
    q = np.asarray(quantiles, dtype=np.float64)
    edges = np.linspace(q[0], q[-1], _CELLS + 1)
    mass = mass_in_cells(q, QUANTILE_LEVELS, edges)
    kernel = np.hanning(9)
    smooth = np.convolve(np.pad(mass, 4, mode="edge"), kernel / kernel.sum(), mode="valid")
    width = max(edges[1] - edges[0], 1e-9)
    return 0.5 * (edges[1:] + edges[:-1]), np.maximum(smooth / width, 1e-12)


def scatter(axes: Axes, true: np.ndarray, hat: np.ndarray, z_max: float) -> None:
    """Estimated against true redshift, as dots or, for many sources, as a map; equality and |dz|/(1+z) = 0.15."""
    if not true.size:
        style.empty_note(axes)
    elif true.size <= _DOTS_UPTO:
        axes.plot(true, hat, ".", ms=3.0, color=style.BLUE, alpha=0.6, rasterized=True)
    else:
        edges = np.linspace(0.0, z_max, 81)
        counts = np.histogram2d(true, hat, bins=(edges, edges))[0]
        axes.pcolormesh(edges, edges, np.where(counts > 0, counts, np.nan).T, norm=LogNorm(), rasterized=True)
    line = np.array([0.0, z_max])
    axes.plot(line, line, color=style.BLACK, lw=0.9)
    for sign in (-1, 1):
        axes.plot(line, line + sign * OUTLIER_ERROR * (1 + line), color=style.GREY, lw=0.8, ls="--")
    axes.set(xlim=(0, z_max), ylim=(0, z_max))


def _good(scores: pl.LazyFrame, method: str) -> pl.DataFrame:
    return of_methods(scores, method).filter(pl.col("usable") > 0.5).collect()


def _numbers(row: dict) -> str:
    return f"N = {row['n']:,}\nNMAD {row['nmad_paper']:.4f}\nbias {row['mean_bias']:+.4f}\nη {row['eta_3sigma']:.1%}"
