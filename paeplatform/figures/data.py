"""Figures of the inputs: templates, bands, the catalogue's N(z) and mock photometry."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from paeplatform.figures import style

_IN_COLOUR = 6  # templates of a source
_BIN_WIDTH = 0.1  # in redshift


@style.styled
def template_overview(
    wave: Sequence[ArrayLike],
    flux: Sequence[ArrayLike],
    source: Sequence[str],
) -> Figure:
    """All templates of each source as thin lines, some of them, evenly spaced in the list, in colour.

    Args:
        wave: rest wavelengths per template [um], each shape (n_wave,).
        flux: f_nu per template, mean 1 over the rest grid, each shape (n_wave,).
        source: where each template comes from; one panel a distinct source.
    """
    origins = list(dict.fromkeys(source))
    figure = style.new_figure(height_in=3.1 * max(len(origins), 1))
    panels = figure.subplots(max(len(origins), 1), 1, sharex=True, squeeze=False)[:, 0]
    if not origins:
        style.empty_note(panels[0], "no templates")
    for axes, origin in zip(panels, origins, strict=False):
        members = [i for i, name in enumerate(source) if name == origin]
        for i in members:
            axes.plot(wave[i], flux[i], color=style.GREY, lw=0.4, alpha=0.35)
        chosen = np.unique(np.linspace(0, len(members) - 1, _IN_COLOUR).astype(int))
        for colour, position in zip(style.CYCLE * len(chosen), chosen, strict=False):
            axes.plot(wave[members[position]], flux[members[position]], color=colour, lw=1.2)
        low, high = np.percentile(np.concatenate([style.finite(flux[i]) for i in members]), [1.0, 99.9])
        axes.set(xscale="log", yscale="log", ylim=(max(low, 1e-5) / 2, high * 2), ylabel=r"$f_\nu$ (mean 1)")
        short = origin.split(" (")[0]  # the reference; where the file came from would not fit
        axes.set_title(f"{short}: {len(members)} templates")
    _log_wavelength_ticks(panels[-1], (0.1, 0.2, 0.5, 1, 2, 5))
    panels[-1].set(xlim=(0.1, 5.0), xlabel="rest wavelength [μm]")
    return figure


@style.styled
def band_depths(
    wave_um: ArrayLike,
    depths_ujy: dict[str, ArrayLike],
    detector: ArrayLike,
    bandwidth_um: ArrayLike | None = None,
) -> Figure:
    """1-sigma depth of every channel, and its resolving power.

    Args:
        wave_um: channel centres [um], shape (band,).
        depths_ujy: 1-sigma depths [uJy] per name, each shape (band,).
        detector: detector number of each channel, shape (band,); alternate ones are shaded.
        bandwidth_um: full widths at half maximum [um], shape (band,); None leaves the lower panel out.
    """
    wave = np.asarray(wave_um, dtype=np.float64)
    panels_wanted = 1 if bandwidth_um is None else 2
    figure = style.new_figure(height_in=3.4 if panels_wanted == 1 else 4.8)
    ratios = [2.2, 1.0][:panels_wanted]
    panels = figure.subplots(panels_wanted, 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    for colour, (name, depth) in zip(style.CYCLE, depths_ujy.items(), strict=False):
        panels[0].plot(wave, depth, marker="o", ms=3.2, lw=1.0, color=colour, label=name)
    panels[0].set(ylabel="1σ depth [μJy]")
    panels[0].set_ylim(bottom=0.0)
    panels[0].legend(loc="upper left")
    if bandwidth_um is not None:
        panels[1].plot(wave, wave / np.asarray(bandwidth_um), marker="o", ms=3.2, lw=1.0, color=style.BLACK)
        panels[1].set(ylabel="R = λ / Δλ")
        panels[1].set_ylim(bottom=0.0)
    numbers = np.asarray(detector)
    for position, number in enumerate(dict.fromkeys(numbers.tolist())):
        inside = wave[numbers == number]
        for axes in panels:
            if position % 2 == 0:
                axes.axvspan(inside.min(), inside.max(), color="#eef2f7", lw=0, zorder=0)
        style.name_at(panels[0], inside.mean(), 0.02, f"{number}", color=style.GREY, ha="center")
    panels[-1].set(xlabel="wavelength [μm]   (shading and numbers: detectors)", xlim=(wave.min(), wave.max()))
    return figure


def _log_wavelength_ticks(axes: Axes, ticks: Sequence[float]) -> None:
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


@style.styled
def redshift_distribution(
    z: ArrayLike,
    prior_z: ArrayLike,
    prior_density: ArrayLike,
    label: str = "p_BPZ fit",
) -> Figure:
    """N(z) of the catalogue in bins of 0.1 with the fitted prior (Fig. 2).

    Args:
        z: catalogue redshifts, shape (source,).
        prior_z: redshifts at which the prior is given, shape (node,).
        prior_density: normalised density of the prior there, shape (node,).
        label: legend entry of the prior, for instance with its parameters.
    """
    figure, axes = style.figure_of(4.0)
    values, nodes = style.finite(z), np.asarray(prior_z, dtype=np.float64)
    top = max(nodes.max(), values.max() if values.size else 0.0)
    edges = np.arange(0.0, top + _BIN_WIDTH, _BIN_WIDTH)
    counts, _ = np.histogram(values, edges)
    axes.stairs(counts, edges, fill=True, color=style.BLUE, alpha=0.35)
    axes.stairs(counts, edges, color=style.BLUE, label=f"mock catalogue, {values.size:,} sources")
    expected = np.asarray(prior_density) * values.size * _BIN_WIDTH
    axes.plot(nodes, expected, color=style.VERMILION, lw=2.2, label=label)
    axes.set(xlim=(0.0, top), xlabel="redshift z", ylabel=f"sources per Δz = {_BIN_WIDTH:g}")
    axes.legend(loc="upper right")
    return figure


@style.styled
def photometry_examples(
    wave_um: ArrayLike,
    flux: ArrayLike,
    flux_err: ArrayLike,
    flux_true: ArrayLike | None = None,
    titles: Sequence[str] = (),
    model: ArrayLike | None = None,
) -> Figure:
    """Measured spectra of some sources with their noiseless truth and, when given, the fitted model.

    Args:
        wave_um: channel centres [um], shape (band,).
        flux: measured fluxes [uJy], shape (source, band); up to six sources are drawn.
        flux_err: their 1-sigma errors [uJy], same shape; a non-finite or non-positive one hides the band.
        flux_true: noiseless fluxes [uJy], same shape.
        titles: one a source, for instance redshift and SNR.
        model: fluxes of a fitted model [uJy], same shape.
    """
    flux, error = np.atleast_2d(np.asarray(flux)), np.atleast_2d(np.asarray(flux_err))
    n_source = min(flux.shape[0], 6) if flux.size else 0
    figure, panels, columns = style.panel_grid(n_source, 2, 2.5, 0.3, sharex=True)
    for i, axes in enumerate(panels[:n_source]):
        seen = np.isfinite(error[i]) & (error[i] > 0) & np.isfinite(flux[i])
        wave = np.asarray(wave_um)
        look = {"fmt": "o", "ms": 2.6, "lw": 0.7, "color": style.BLUE, "ecolor": "#9dbfd9"}
        axes.errorbar(wave[seen], flux[i][seen], error[i][seen], **look, label="measured")
        if flux_true is not None:
            axes.plot(
                wave,
                np.atleast_2d(np.asarray(flux_true))[i],
                color=style.BLACK,
                lw=1.2,
                zorder=3,
                label="noiseless",
            )
        if model is not None:
            axes.plot(
                wave, np.atleast_2d(np.asarray(model))[i], color=style.ORANGE, lw=1.6, zorder=4, label="model"
            )
        if titles:
            axes.set_title(titles[i], fontsize=10)
        if i % columns == 0:
            axes.set_ylabel("flux [μJy]")
        if i >= n_source - columns:
            axes.set_xlabel("wavelength [μm]")
            axes.tick_params(labelbottom=True)
    if n_source:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return figure
