"""One galaxy on a page: photometry, posterior predictive SED, p(z) by method, and what made it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from paeplatform.figures import style
from paeplatform.inference.estimate import Estimator
from paeplatform.inference.results.predictive import Predictive, posterior_predictive
from paeplatform.inference.results.pz_quantiles import density_between
from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.instrument.bands import BandSet
from paeplatform.instrument.measurements import Measurements, PaddedMeasurements, channel_of
from paeplatform.outputs.flags import in_words
from paeplatform.targets import creator

# Columns of the catalogue in words; methods by the prefix of their columns.
_SHOWN = {
    "pae_status": "status",
    "pae_path": "made by",
    "pae_ess": "effective draws",
    "pae_khat": "Pareto k-hat",
    "pae_rhat": "R-hat",
    "pae_chi2": "chi^2",
    "pae_n_bands": "channels",
    "pae_n_measurements": "measurements",
    "pae_moved": "prior moved by",
}
_MADE_BY = {
    "release": "release",
    "bundle_version": "bundle",
    "prior_id": "prior",
    "input_data_version": "photometry",
    "code_version": "code",
    "run_id": "run",
}
_OTHERS = {"tf": ("template fitting", style.VERMILION), "sbi": ("SBI", style.GREEN)}
_Z_DRAWN = (0.005, 0.995)  # share of p(z) in the histogram
_Z_SHOWN = (0.03, 0.97)  # and that the axis holds at least


@dataclass(frozen=True)
class Galaxy:
    """What is known of one source.

    Attributes:
        row: of the catalogue.
        flux, flux_err: (measurement,) [uJy].
        wave_um, width_um: (measurement,) centres and widths of the passbands [um].
        z_draws: (draw,) of p(z) under the prior in force; empty without a posterior.
    """

    row: Mapping[str, Any]
    flux: np.ndarray
    flux_err: np.ndarray
    wave_um: np.ndarray
    width_um: np.ndarray
    z_draws: np.ndarray

    @property
    def measurements(self) -> Measurements:
        """The measurements as the estimator takes them."""
        parts = (self.flux, self.flux_err, self.wave_um, self.width_um)
        return Measurements(*parts, start=np.array([0, len(self.flux)]))


@dataclass(frozen=True)
class Seen:
    """What the model predicts of one source.

    Attributes:
        measured: the measurements, in arrays of one row.
        predictive: intervals of the model's fluxes in the same places.
    """

    measured: PaddedMeasurements
    predictive: Predictive


def predict(estimator: Estimator, galaxy: Galaxy) -> Seen:
    """The posterior predictive of a galaxy's measurements, each in its own passband.

    Draws of u are not stored: the source is inferred once more.

    Args:
        estimator: with the bundle and prior of the catalogue's row.
        galaxy: its measurements.
    """
    identity = np.array([galaxy.row["object_id"]])
    _, draws = estimator.estimate_measured(galaxy.measurements, identity, progress=False)
    sources = estimator.measured_sources(galaxy.measurements, identity)[0].sources
    assert sources.measured is not None
    return Seen(sources.measured, posterior_predictive(estimator.posterior, draws, sources))


def card_png(figure: Figure) -> bytes:
    """The card as PNG bytes that say which program drew it, so that `--overwrite` knows its own file again."""
    buffer = io.BytesIO()
    with mpl.rc_context(style.STYLE):
        figure.savefig(buffer, format="png", dpi=style.DPI, metadata={"Software": creator()})
    return buffer.getvalue()


@style.styled
def source_card(galaxy: Galaxy, bands: BandSet, seen: Seen | None) -> Figure:
    """The card.

    Args:
        galaxy: the source.
        bands: channels of the survey, which say which detector a wavelength belongs to.
        seen: what the model predicts; None for a source without a posterior.
    """
    figure = style.new_figure(height_in=7.2, width_in=9.0)
    grid = figure.add_gridspec(2, 2, height_ratios=(1.15, 1.0), width_ratios=(1.25, 1.0))
    _photometry(figure.add_subplot(grid[0, :]), galaxy, bands, seen)
    _redshift(figure.add_subplot(grid[1, 0]), galaxy)
    _words(figure.add_subplot(grid[1, 1]), galaxy)
    figure.suptitle(
        f"{galaxy.row['object_id']}   ra {galaxy.row['ra']:.5f}°  dec {galaxy.row['dec']:+.5f}°   "
        f"SNR {galaxy.row['snr']:.0f}",
        x=0.01,
        ha="left",
        fontsize=12,
    )
    return figure


def _photometry(axes: Axes, galaxy: Galaxy, bands: BandSet, seen: Seen | None) -> None:
    good = np.isfinite(galaxy.flux) & np.isfinite(galaxy.flux_err)
    if seen is not None and np.isfinite(seen.predictive.flux[0]).any():
        own = seen.measured
        there = np.isfinite(own.flux_err[0])
        channel = channel_of(
            Measurements(*(part[0][there] for part in astuple(own)), start=np.array([0, there.sum()])), bands
        )
        detector, wave = bands.detector[channel], own.wave_um[0][there]
        for level, colour, alpha in ((1, style.SKY, 0.35), (0, style.BLUE, 0.45)):
            label = f"model, {seen.predictive.level[level]:.0%}"
            low, high = (
                part[0, level][there] for part in (seen.predictive.flux_low, seen.predictive.flux_high)
            )
            for number in np.unique(detector):
                # along a detector the passbands change smoothly: between measurements the model is a line
                here = np.flatnonzero(detector == number)
                here = here[np.argsort(wave[here])]
                axes.fill_between(
                    wave[here], low[here], high[here], color=colour, alpha=alpha, lw=0, label=label
                )
                label = ""
    axes.errorbar(
        galaxy.wave_um[good],
        galaxy.flux[good],
        galaxy.flux_err[good],
        fmt="o",
        ms=3,
        lw=0.8,
        color=style.BLACK,
        ecolor=(*to_rgb(style.GREY), 0.6),
        label="measured",
    )
    if good.any():
        low, high = np.quantile(galaxy.flux[good], (0.01, 0.99))
        margin = 0.15 * (high - low) + 2.0 * np.median(galaxy.flux_err[good])
        axes.set_ylim(min(low, 0.0) - margin, high + margin)
    axes.axhline(0.0, color=style.GREY, lw=0.7)
    axes.set(xlabel="wavelength [µm]", ylabel="flux density [µJy]", xlim=(0.7, 5.05))
    axes.set_title(f"{int(good.sum())} measurements, {galaxy.row['n_bands']} of {len(bands)} channels")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, borderaxespad=0.1)  # above the data


def _redshift(axes: Axes, galaxy: Galaxy) -> None:
    draws = galaxy.z_draws[np.isfinite(galaxy.z_draws)]
    shown = []
    if draws.size:
        low, high = np.quantile(draws, _Z_DRAWN)
        n_bin = int(np.clip(np.sqrt(draws.size), 12, 60))
        axes.hist(
            draws, np.linspace(low, high, n_bin + 1), density=True, color=style.BLUE, alpha=0.5, label="PAE"
        )
        shown.append((low, high))
    for prefix, (label, colour) in _OTHERS.items():
        quantiles = galaxy.row.get(f"{prefix}_z_quantiles")
        if quantiles is None:
            continue
        z, level = np.asarray(quantiles, dtype=np.float64), np.asarray(QUANTILE_LEVELS)
        axes.stairs(density_between(z, level, 1e-5), z, color=colour, lw=1.4, label=label)
        shown.append(np.interp(_Z_SHOWN, level, z))
    if shown:
        low, high = min(part[0] for part in shown), max(part[1] for part in shown)
        margin = max(0.08 * (high - low), 0.005)
        axes.set_xlim(max(low - margin, 0.0), high + margin)
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, borderaxespad=0.1)
    else:
        axes.text(0.5, 0.5, "no posterior", transform=axes.transAxes, ha="center", color=style.GREY)
    axes.set(xlabel="redshift", ylabel="p(z)")


def _words(axes: Axes, galaxy: Galaxy) -> None:
    row = galaxy.row
    flags = in_words(int(row.get("catalog_flags") or 0)).lower().replace("_", " ").split("|")
    methods = {"pae": "PAE", **{prefix: label for prefix, (label, _) in _OTHERS.items()}}
    pairs = [
        *(
            (f"z, {label}", _interval(row, prefix))
            for prefix, label in methods.items()
            if f"{prefix}_z_median" in row
        ),
        *(("flags" if place == 0 else "", flag) for place, flag in enumerate(flags)),
        ("", ""),
        *((words, _value(row[name])) for name, words in _SHOWN.items() if row.get(name) is not None),
        ("", ""),
        *((words, str(row[name])) for name, words in _MADE_BY.items() if row.get(name) is not None),
    ]
    axes.axis("off")
    step = 1.0 / max(len(pairs), 20)
    for row_number, pair in enumerate(pairs):
        for place, text, colour in zip((0.0, 0.34), pair, (style.GREY, style.BLACK), strict=True):
            height = 1.0 - row_number * step
            axes.text(place, height, text, transform=axes.transAxes, va="top", fontsize=8.5, color=colour)


def _interval(row: Mapping[str, Any], method: str) -> str:
    median = row.get(f"{method}_z_median")
    if median is None:
        return "none"
    low, high = row[f"{method}_z_err68_low"], row[f"{method}_z_err68_high"]
    return f"{median:.4f}   ({low:.4f} to {high:.4f})"


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
