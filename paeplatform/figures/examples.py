"""Figures of single sources from asset `example_posteriors` and `profile_likelihoods`: Figs. 7 to 9 and 16."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from paeplatform.figures import style
from paeplatform.figures.inference import predictive_figure, profile_figure
from paeplatform.inference.profile_likelihood import ProfileLikelihood
from paeplatform.inference.results.predictive import Predictive

CORNER_LATENTS = 5  # shown of u, with z
FIT_COLOURS = (
    style.BLUE,
    style.ORANGE,
    style.GREEN,
    style.VERMILION,
)  # of the fits in Fig. 16, by range of redshift


def reconstruction_example(examples: pl.DataFrame, wave: np.ndarray) -> Figure:
    """A bright source: photometry, 68 % and 95 % of the posterior predictive, and p(z) (Fig. 7).

    Args:
        examples: of `example_table`.
        wave: band centres [um].
    """
    return _predictive(examples.filter(pl.col("fraction") == 0.0).head(1), wave)


def missing_band_example(examples: pl.DataFrame, wave: np.ndarray) -> Figure:
    """The same source with a growing part of its bands missing, a row each (Fig. 9)."""
    first = examples["object_id"].head(1).to_list()
    rows = examples.filter(pl.col("object_id").is_in(first)).unique("fraction", keep="first").sort("fraction")
    return _predictive(rows, wave, [f"{fraction:.0%} of the bands missing" for fraction in rows["fraction"]])


@style.styled
def posterior_corner(examples: pl.DataFrame, n_latent: int) -> Figure:
    """Draws of the first latents and z of the source of Fig. 7, pair by pair (Fig. 8).

    Args:
        examples: of `example_table`.
        n_latent: size of u.
    """
    rows = examples.filter(pl.col("fraction") == 0.0).head(1)
    shown = min(n_latent, CORNER_LATENTS)
    if not rows.height:
        return style.empty_figure(7.6)
    z = rows["z_draws"][0].to_numpy().astype(np.float64)
    u = rows["u_draws"][0].to_numpy().astype(np.float64).reshape(len(z), n_latent)
    values = np.concatenate([u[:, :shown], z[:, None]], axis=1)
    labels = [f"u$_{{{k + 1}}}$" for k in range(shown)] + ["z"]
    size = shown + 1
    figure, panels = style.figure_of(7.6, size, size, squeeze=False)
    for row in range(size):
        for column in range(size):
            axes = panels[row, column]
            if column > row:
                axes.set_visible(False)
                continue
            if column == row:
                axes.hist(values[:, row], 25, color=style.BLUE, alpha=0.5)
                axes.set_yticks([])
                if row == size - 1:
                    axes.axvline(rows["z_true"][0], color=style.VERMILION, lw=1.4)
            else:
                axes.plot(
                    values[:, column],
                    values[:, row],
                    ".",
                    ms=1.6,
                    color=style.BLUE,
                    alpha=0.4,
                    rasterized=True,
                )
                if row == size - 1:
                    axes.axhline(rows["z_true"][0], color=style.VERMILION, lw=1.0)
            axes.tick_params(labelsize=7, labelbottom=row == size - 1, labelleft=column == 0 and row > 0)
            if row == size - 1:
                axes.set_xlabel(labels[column])
            if column == 0 and row > 0:
                axes.set_ylabel(labels[row])
    figure.text(0.98, 0.98, "red: true redshift", ha="right", va="top", color=style.BLACK, fontsize=9)
    return figure


def profiles(table: pl.DataFrame, examples: pl.DataFrame) -> Figure:
    """Profile likelihoods of PAE and template fitting and the densities they give (Fig. 16).

    Args:
        table: of `profile_table`.
        examples: of `example_table`: posterior draws of those sources that are in it.
    """
    rows = table.to_dicts()
    n_node = len(rows[0]["z_grid"]) if rows else 1
    chi2 = np.asarray([row["chi2"] for row in rows], dtype=np.float64).reshape(len(rows), n_node)
    found = ProfileLikelihood(
        np.asarray(rows[0]["z_grid"] if rows else [0.0]),
        chi2,
        np.zeros((*chi2.shape, 0)),
        np.zeros(chi2.shape, int),
        np.zeros(chi2.shape, bool),
        False,
    )
    draws = {
        row["object_id"]: row["z_draws"]
        for row in examples.filter(pl.col("fraction") == 0.0).iter_rows(named=True)
    }
    longest = max((len(values) for values in draws.values()), default=1)
    posterior = np.full((len(rows), longest), np.nan)
    for position, row in enumerate(rows):
        values = draws.get(row["object_id"])
        if values is not None:
            posterior[position, : len(values)] = values
    others = None
    if rows:
        others = {"TF profile": (rows[0]["tf_z_grid"], np.asarray([row["tf_chi2"] for row in rows]))}
    return profile_figure(
        found,
        names=[f"{row['why']}: z = {row['z_true']:.3f}, SNR {row['snr']:.1f}" for row in rows],
        z_true=[row["z_true"] for row in rows],
        posterior_z=posterior,
        others=others,
    )


@style.styled
def profiled_fits(table: pl.DataFrame, wave: np.ndarray) -> Figure:
    """The PAE's best fits at several redshifts over the photometry, residuals in sigma below (Fig. 16, left).

    Args:
        table: of `profile_table`.
        wave: band centres [um].
    """
    if not table.height:
        return style.empty_figure(2.4)
    figure, panels = style.figure_of(
        3.4 * table.height, 2 * table.height, 1, sharex=True, height_ratios=[2.4, 1.0] * table.height
    )
    order = np.argsort(wave)
    for row, (main, below) in zip(table.iter_rows(named=True), panels.reshape(-1, 2), strict=True):
        flux, err = (np.asarray(row[name], np.float64)[order] for name in ("flux", "flux_err"))
        known = np.isfinite(err) & (err > 0.0)
        main.errorbar(
            wave[order][known], flux[known], err[known], fmt=".", ms=3, color=style.GREY, lw=0.7, zorder=1
        )
        for number, (z, model) in enumerate(zip(row["fit_z"], row["fit_model"], strict=True)):
            fit = np.asarray(model, np.float64)[order]
            # the first is the one nearest the truth
            look = (
                {"color": style.BLACK, "ls": "--", "lw": 1.6}
                if number == 0
                else {"color": FIT_COLOURS[number - 1], "lw": 1.2}
            )
            main.plot(
                wave[order], fit, label=f"z = {z:.2f}{' (truth)' if number == 0 else ''}", zorder=2, **look
            )
            below.plot(wave[order], (flux - fit) / err, **(look | {"lw": 0.8}))
        below.axhline(0.0, color=style.GREY, lw=0.6)
        below.set(ylim=(-5.0, 5.0), ylabel="residual/σ")
        main.set_ylabel("flux [µJy]")
        main.set_title(f"{row['why']}: z = {row['z_true']:.3f}, total SNR {row['snr']:.1f}")
        main.legend(fontsize=7.5, ncols=5, loc="best")
    panels[-1].set_xlabel("wavelength [µm]")
    return figure


def _predictive(rows: pl.DataFrame, wave: np.ndarray, names: list[str] | None = None) -> Figure:
    def array(name: str) -> np.ndarray:
        return np.asarray(rows[name].to_list(), dtype=np.float64).reshape(rows.height, -1)

    low, high = (
        np.stack([array(f"model_{end}_68"), array(f"model_{end}_95")], axis=1) for end in ("low", "high")
    )
    found = Predictive(np.array([0.6827, 0.9545]), array("model"), low, high, rows["chi2"].to_numpy())
    titles = names or [
        f"z = {z:.3f}, total SNR {snr:.0f}" for z, snr in rows.select("z_true", "snr").iter_rows()
    ]
    return predictive_figure(
        wave,
        array("flux"),
        array("flux_err"),
        found,
        z=array("z_draws"),
        z_true=rows["z_true"].to_numpy(),
        names=titles,
    )
