"""Figures of training: reconstruction error, latents before and after the flow, example spectra, learning
curves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from paeplatform.errors import InputError
from paeplatform.figures import style
from paeplatform.inference.left_out import Misses
from paeplatform.pae.bundle import RelativeErrors

# Rest wavelengths in vacuum [um] of the features named in Fig. 3.
REST_LINES_UM = {
    "Lyα": 0.1216,
    "[O II]": 0.3728,
    "[O III]": 0.5008,
    "Hα": 0.6565,
    "Paα": 1.8756,
    "Brα": 4.0523,
}
_DIMENSIONS, _POINTS = 5, 4000  # of latents, the leading ones and the first ones, that are drawn
PAH_RANGE_UM = (3.25, 3.45)  # the 3.3 um band and its 3.4 um aliphatic shoulder


@style.styled
def reconstruction_error(
    mse: ArrayLike, wave_um: ArrayLike, mse_per_wave: ArrayLike, target: float | None = None
) -> Figure:
    """Per-galaxy MSE and its mean as a function of rest wavelength (Fig. 3).

    Args:
        mse: mean-squared error of each held-out spectrum in mean-normalised flux, shape (spectrum,).
        wave_um: rest grid [um], shape (wave,).
        mse_per_wave: squared error averaged over spectra, shape (wave,).
        target: the median MSE to stay below, drawn as a line.
    """
    figure, (left, right) = style.figure_of(6.0, 2, 1)
    values = style.finite(mse)
    values = values[values > 0]
    if values.size:
        edges = np.geomspace(values.min(), max(values.max(), values.min() * 1.01), 60)
        left.hist(values, edges, color=style.BLUE, alpha=0.5)
        median, high = np.percentile(values, [50, 95])
        left.axvline(
            median, color=style.BLACK, ls="--", label=f"median {median:.1e}  (√MSE {np.sqrt(median):.1%})"
        )
        left.axvline(high, color=style.VERMILION, ls=":", lw=2, label=f"95th percentile {high:.1e}")
        if target is not None:
            left.axvline(target, color=style.GREEN, lw=2, label=f"target for the median {target:.0e}")
        left.legend(loc="upper right")
        left.set_xscale("log")
    else:
        style.empty_note(left, "no spectra")
    left.set(xlabel="MSE per galaxy (flux with mean 1)", ylabel="galaxies")
    left.set_title(f"{values.size:,} held-out spectra")
    wave, profile = np.asarray(wave_um), np.asarray(mse_per_wave, dtype=np.float64)
    right.plot(wave, np.where(profile > 0, profile, np.nan), color=style.BLUE)
    for position, (name, line) in enumerate(REST_LINES_UM.items()):
        if wave.min() <= line <= wave.max():
            right.axvline(line, color=style.GREY, lw=0.8, ls="--")
            height = (1.02, 1.10)[position % 2] if line < 1.0 else 1.02
            style.name_at(right, line, height, name, ha="center", fontsize=9, color=style.BLACK)
    right.axvspan(*PAH_RANGE_UM, color=style.ORANGE, alpha=0.25, lw=0)
    style.name_at(right, float(np.mean(PAH_RANGE_UM)), 1.02, "PAH", ha="center", fontsize=9)
    right.set(xlabel="rest wavelength [μm]", ylabel="mean squared error", yscale="log")
    right.set_xlim(wave.min(), wave.max())
    return figure


@style.styled
def latent_distributions(latents: ArrayLike, base: ArrayLike) -> Figure:
    """Autoencoder latents and what the flow makes of them, pair by pair (Fig. 4).

    Args:
        latents: autoencoder latents, shape (spectrum, n_latent).
        base: the same spectra in the flow's base variable u, same shape.
    """
    pair = [np.asarray(latents, dtype=np.float64), np.asarray(base, dtype=np.float64)]
    if pair[0].ndim != 2 or pair[0].shape != pair[1].shape:
        raise InputError(
            f"latents {pair[0].shape} and base {pair[1].shape} must share the shape (spectrum, n_latent)"
        )
    n_dim = min(pair[0].shape[1], _DIMENSIONS)
    figure = style.new_figure(height_in=4.5)
    halves = figure.subfigures(1, 2, squeeze=False, wspace=0.03)[0]
    titles = ("autoencoder latents ζ", "flow base variable u, with N(0, 1)")
    for half, data, title, colour, symbol in zip(
        halves, pair, titles, (style.VERMILION, style.BLUE), ("ζ", "u"), strict=True
    ):
        half.suptitle(title, fontsize=11)
        panels = half.subplots(n_dim, n_dim, squeeze=False)
        for row in range(n_dim):
            for column in range(n_dim):
                axes = panels[row, column]
                axes.grid(visible=False)
                axes.set(xticks=[], yticks=[])
                if column > row:
                    axes.set_visible(False)
                elif column == row:
                    _marginal(axes, data[:, row], colour, with_normal=symbol == "u")
                else:
                    dots = data[:_POINTS]
                    axes.plot(dots[:, column], dots[:, row], ".", ms=0.8, color=colour, alpha=0.4)
                    for place, index in ((axes.set_xlim, column), (axes.set_ylim, row)):
                        place(_range(data[:, index], symbol == "u"))
                if row == n_dim - 1:
                    axes.set_xlabel(f"{symbol}$_{{{column + 1}}}$")
                if column == 0 and row > 0:
                    axes.set_ylabel(f"{symbol}$_{{{row + 1}}}$")
    return figure


def _range(values: np.ndarray, is_base: bool) -> tuple[float, float]:
    if is_base:
        return -4.0, 4.0
    low, high = np.percentile(style.finite(values), [0.5, 99.5]) if style.finite(values).size else (0.0, 1.0)
    margin = 0.08 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def _marginal(axes: Axes, values: np.ndarray, colour: str, with_normal: bool) -> None:
    limits = _range(values, with_normal)
    axes.hist(style.finite(values), np.linspace(*limits, 40).tolist(), density=True, color=colour, alpha=0.55)
    if with_normal:
        grid = np.linspace(*limits, 100)
        axes.plot(grid, np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi), color=style.BLACK, lw=1.0)
    axes.set_xlim(*limits)


@style.styled
def example_spectra(
    wave_um: ArrayLike, truth: ArrayLike, reconstruction: ArrayLike, titles: Sequence[str] = ()
) -> Figure:
    """Held-out spectra and their reconstructions with the residual underneath.

    Args:
        wave_um: rest grid [um], shape (wave,).
        truth: mean-normalised f_nu, shape (spectrum, wave); up to four are drawn.
        reconstruction: same shape.
        titles: one a spectrum.
    """
    wave, truth = np.asarray(wave_um), np.atleast_2d(np.asarray(truth))
    model = np.atleast_2d(np.asarray(reconstruction))
    n_shown = min(truth.shape[0], 4) if truth.size else 0
    columns = 1 if n_shown < 2 else 2
    rows = max(1, -(-n_shown // columns))
    figure, grid = style.figure_of(
        3.0 * rows + 0.4, 2 * rows, columns, sharex=True, squeeze=False, height_ratios=[3, 1] * rows
    )
    if n_shown == 0:
        style.empty_note(grid[0, 0], "no spectra")
    for position in range(rows * columns):
        upper, lower = grid[2 * (position // columns) : 2 * (position // columns) + 2, position % columns]
        if position >= max(n_shown, 1):
            upper.set_visible(False)
            lower.set_visible(False)
            continue
        if n_shown == 0:
            continue
        upper.plot(wave, truth[position], color=style.BLACK, lw=1.6, label="input")
        upper.plot(wave, model[position], color=style.ORANGE, lw=1.1, label="reconstruction")
        upper.set_ylim(bottom=min(0.0, float(truth[position].min())))
        lower.axhline(0.0, color=style.BLACK, lw=0.8)
        lower.plot(wave, model[position] - truth[position], color=style.ORANGE, lw=0.9)
        if titles:
            upper.set_title(titles[position], fontsize=10)
        if position % columns == 0:
            upper.set_ylabel(r"$f_\nu$ (mean 1)")
            lower.set_ylabel("residual")
    for axes in grid[-1]:
        axes.set(xlabel="rest wavelength [μm]", xlim=(wave.min(), wave.max()))
    if n_shown:
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure


@style.styled
def training_curves(
    curves: Mapping[str, Mapping[str, ArrayLike]], best_epoch: Mapping[str, int] | None = None
) -> Figure:
    """Training and validation loss by epoch, a panel a model.

    Args:
        curves: per model name a mapping with `epoch`, `train_loss` and `validation_loss` (`val_loss` is
            accepted), each of shape (epoch,).
        best_epoch: per model the epoch whose weights were kept.

    Raises:
        InputError: a model's curves lack one of the three.
    """
    figure = style.new_figure(height_in=3.4)
    panels = figure.subplots(1, max(len(curves), 1), squeeze=False)[0]
    if not curves:
        style.empty_note(panels[0], "no training history")
    for axes, (name, curve) in zip(panels, curves.items(), strict=False):
        validation_key = "validation_loss" if "validation_loss" in curve else "val_loss"
        missing = [key for key in ("epoch", "train_loss", validation_key) if key not in curve]
        if missing:
            raise InputError(f"training curve {name!r} lacks {missing}; it has {sorted(curve)}")
        epoch = np.asarray(curve["epoch"])
        train, validation = (
            np.asarray(curve[key], dtype=np.float64) for key in ("train_loss", validation_key)
        )
        axes.plot(epoch, train, color=style.BLUE, label="training")
        axes.plot(epoch, validation, color=style.VERMILION, label="validation")
        if best_epoch and name in best_epoch:
            axes.axvline(
                best_epoch[name], color=style.GREY, ls="--", lw=1.2, label=f"kept: epoch {best_epoch[name]}"
            )
        positive = style.finite(np.concatenate([train, validation]))
        if positive.size and positive.min() > 0 and positive.max() > 20 * positive.min():
            axes.set_yscale("log")
        axes.set(xlabel="epoch", ylabel="loss")
        axes.set_title(name)
        axes.legend(loc="upper right")
        if epoch.size == 1:
            style.note(axes, "one epoch")
    return figure


@style.styled
def proposal_recovery(z_true: ArrayLike, z_median: ArrayLike, pit: ArrayLike) -> Figure:
    """What the amortised proposal says of simulated sources before importance sampling: redshifts and ranks.

    Args:
        z_true: shape (source,).
        z_median: median of the proposal's draws, shape (source,).
        pit: share of draws below the truth, shape (source,); uniform for a calibrated proposal.
    """
    figure, (left, right) = style.figure_of(3.9, 1, 2)
    true, median = np.asarray(z_true, dtype=np.float64), np.asarray(z_median, dtype=np.float64)
    ranks = style.finite(pit)
    left.set(xlabel="true redshift", ylabel="median of the proposal's draws")
    right.set(xlabel="share of draws below the truth", ylabel="sources", xlim=(0, 1))
    if not ranks.size:
        style.empty_note(left)
        style.empty_note(right)
        return figure
    top = 1.03 * float(max(true.max(), median.max()))
    left.plot(true, median, ".", ms=3, color=style.BLUE, alpha=0.6)
    left.plot([0.0, top], [0.0, top], color=style.BLACK, lw=1.0)
    left.set(xlim=(0.0, top), ylim=(0.0, top))
    bins = 10
    right.hist(ranks, np.linspace(0.0, 1.0, bins + 1).tolist(), color=style.BLUE, alpha=0.5)
    right.axhline(ranks.size / bins, color=style.BLACK, ls="--", lw=1.2)
    style.note(right, f"{ranks.size:,} simulated sources", x=0.97, y=0.06, ha="right")
    return figure


@style.styled
def model_error_figure(errors: RelativeErrors, found: Sequence[Misses]) -> Figure:
    """What models miss of galaxies that they have not seen, and the relative error that follows, by rest wavelength.

    Args:
        errors: the table that the likelihood counts with.
        found: the misses of each fold.
    """
    figure, axes = style.figure_of(6.0)
    wave = np.exp(np.concatenate([part.log_rest.ravel() for part in found]))
    size = 100.0 * np.abs(np.concatenate([part.relative.ravel() for part in found]))
    good = np.isfinite(size) & (size > 0.0)
    shown = np.flatnonzero(good)[:: max(1, good.sum() // _POINTS)]
    axes.plot(
        wave[shown], size[shown], ".", ms=2, color=style.BLUE, alpha=0.3, label="misses of single bands"
    )
    percent = 100.0 * np.asarray(errors.relative)
    axes.plot(errors.rest_wave_um, percent, color=style.VERMILION, lw=2, label="relative error (1 sigma)")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="rest wavelength [um]",
        ylabel="of the model's flux [%]",
        ylim=(1e-3, 100),
    )
    axes.legend(loc="lower left")
    return figure
