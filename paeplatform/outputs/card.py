"""One source on a page: photometry, posterior predictive SED, residuals, p(z) by method, and what made it.

The same card serves a source of a release and one of a user's file: a row of the table without release, bundle or flags
of the catalogue simply has fewer lines.
"""

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
from matplotlib.gridspec import GridSpec

from paeplatform.figures import style
from paeplatform.inference.estimate import Estimator
from paeplatform.inference.results.pz_quantiles import density_between
from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.inference.results.solutions import solutions
from paeplatform.inference.results.status import NOT_USABLE
from paeplatform.inference.results.summaries import ZFlag
from paeplatform.instrument.bands import BandSet
from paeplatform.instrument.measurements import Measurements, channel_of
from paeplatform.instrument.noise import usable_bands
from paeplatform.outputs.flags import in_words
from paeplatform.outputs.seen import Seen, predictions
from paeplatform.outputs.words import (
    PATH_WORDS,
    STATUS_VERDICTS,
    STATUS_WORDS,
    WITH_REDSHIFT,
    printable,
    probability_text,
    redshift_digits,
    redshift_texts,
)
from paeplatform.targets import creator

# Columns of the catalogue in words; methods by the prefix of their columns.
_SHOWN = {
    "pae_status": "status",
    "pae_path": "made by",
    "pae_ess": "effective draws",
    "pae_khat": "Pareto k-hat",
    "pae_rhat": "R-hat",
    "pae_chi2": "chi^2",
    "pae_chi2_best": "chi^2, best model",
    "pae_n_bands": "channels",
    "pae_n_measurements": "measurements",
    "pae_moved": "prior moved by",
}
_MADE_BY = {
    "release": "release",
    "bundle_version": "bundle",
    "model": "model",
    "prior_id": "prior",
    "input_data_version": "photometry",
    "code_version": "code",
    "run_id": "run",
}
_OTHERS = {"tf": ("template fitting", style.VERMILION), "sbi": ("SBI", style.GREEN)}
_Z_DRAWN = (0.005, 0.995)  # share of p(z) in the histogram
_Z_SHOWN = (0.03, 0.97)  # and that the axis holds at least
_RESIDUALS_SHOWN = 0.98  # share of the residuals within the panel; arrows stand for the others
_LEAST_RESIDUAL = 3.5  # that the panel reaches to, in standard deviations
_LONGEST_VALUE = 34  # letters that fit into the column of values


@dataclass(frozen=True)
class Galaxy:
    """What is known of one source.

    Attributes:
        row: of the catalogue, or of the estimator's table with what is known of the source beside it.
        flux, flux_err: (measurement,) [uJy].
        wave_um, width_um: (measurement,) centres and widths of the passbands [um].
        z_draws: (draw,) of p(z) under the prior in force; empty without a posterior.
        name: of the source; its object_id where it has none.
    """

    row: Mapping[str, Any]
    flux: np.ndarray
    flux_err: np.ndarray
    wave_um: np.ndarray
    width_um: np.ndarray
    z_draws: np.ndarray
    name: str = ""

    @property
    def measurements(self) -> Measurements:
        """The measurements as the estimator takes them."""
        parts = (self.flux, self.flux_err, self.wave_um, self.width_um)
        return Measurements(*parts, start=np.array([0, len(self.flux)]))

    @property
    def status(self) -> str:
        """`pae_status`; "failed" for a row without one that has no redshift either."""
        missing = self.row.get("pae_z_median") is None
        return str(self.row.get("pae_status") or ("failed" if missing else "converged"))

    @property
    def has_redshift(self) -> bool:
        """Whether the row has a redshift that may be quoted: that of a misfit may not."""
        return self.status in WITH_REDSHIFT and self.row.get("pae_z_median") is not None


def predict(estimator: Estimator, galaxy: Galaxy) -> Seen | None:
    """The posterior predictive of a galaxy's measurements, each in its own passband; None without a posterior.

    Draws of u are not stored: the source is inferred once more.

    Args:
        estimator: with the bundle and prior of the catalogue's row.
        galaxy: its measurements.
    """
    identity = np.array([galaxy.row["object_id"]])
    _, draws = estimator.estimate_measured(galaxy.measurements, identity, progress=False)
    return predictions(estimator, galaxy.measurements, identity, draws)[0]


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
    verdict = None if galaxy.status == "converged" else STATUS_VERDICTS.get(galaxy.status)
    predicted = seen is not None and bool(seen.there.any())
    # (height in inches, whether there is such a row): verdict, SED, residuals, and p(z) beside the words
    heights = ((0.3, verdict is not None), (3.1, True), (1.1, predicted), (3.0, True))
    shown = [height for height, there in heights if there]
    figure = style.new_figure(height_in=sum(shown) + 0.9, width_in=9.0)
    grid = figure.add_gridspec(len(shown), 2, height_ratios=shown, width_ratios=(1.25, 1.0))
    sed = figure.add_subplot(grid[int(verdict is not None), :])
    _photometry(sed, galaxy, bands, seen if predicted else None)
    _redshift(figure.add_subplot(grid[-1, 0]), galaxy)
    _words(figure.add_subplot(grid[-1, 1]), galaxy)
    if predicted:
        assert seen is not None
        _residuals(figure.add_subplot(grid[-2, :], sharex=sed), seen)
        sed.tick_params(labelbottom=False)
        sed.set_xlabel("")
    if verdict is not None:
        _verdict(figure, grid, verdict)
    figure.suptitle(_title(galaxy), x=0.01, ha="left", fontsize=12, parse_math=False)
    return figure


def _title(galaxy: Galaxy) -> str:
    row = galaxy.row
    parts = [printable(galaxy.name) or str(row["object_id"])]
    if _finite(row.get("ra")) and _finite(row.get("dec")):
        parts.append(f"ra {row['ra']:.5f}°  dec {row['dec']:+.5f}°")
    if _finite(row.get("snr")):
        parts.append(f"SNR {row['snr']:.0f}")
    return "   ".join(parts)


def _verdict(figure: Figure, grid: GridSpec, text: str) -> None:
    axes = figure.add_subplot(grid[0, :])
    axes.axis("off")
    axes.text(
        0.0,
        0.5,
        text,
        transform=axes.transAxes,
        va="center",
        fontsize=11.5,
        fontweight="bold",
        color=style.VERMILION,
    )


def _photometry(axes: Axes, galaxy: Galaxy, bands: BandSet, seen: Seen | None) -> None:
    good = np.isfinite(galaxy.flux) & usable_bands(galaxy.flux_err)
    if seen is not None:
        own, there = seen.measured, seen.there
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
                if level == 0:  # a narrow interval would be no more than a hair
                    axes.plot(wave[here], seen.predictive.flux[0][there][here], color=style.BLUE, lw=0.9)
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
        # without interpolation: a single absurd flux must not stretch the axis
        low = np.quantile(galaxy.flux[good], 0.01, method="higher")
        high = np.quantile(galaxy.flux[good], 0.99, method="lower")
        margin = 0.15 * (high - low) + 2.0 * np.median(galaxy.flux_err[good])
        low, high = min(low, 0.0) - margin, high + margin
        axes.set_ylim(low, high)
        _arrows(axes, galaxy.wave_um[good], galaxy.flux[good], low, high)
    axes.axhline(0.0, color=style.GREY, lw=0.7)
    axes.set(xlabel="wavelength [µm]", ylabel="flux density [µJy]", xlim=(0.7, 5.05))
    n_bands = galaxy.row.get("n_bands", galaxy.row.get("pae_n_bands"))
    axes.set_title(f"{int(good.sum())} measurements, {n_bands} of {len(bands)} channels")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, borderaxespad=0.1)  # above the data


def _residuals(axes: Axes, seen: Seen) -> None:
    there = seen.there
    wave, pull = seen.measured.wave_um[0][there], seen.pull[there]
    limit = max(1.15 * float(np.quantile(np.abs(pull), _RESIDUALS_SHOWN)), _LEAST_RESIDUAL)
    inside = np.abs(pull) <= limit
    axes.axhspan(-1.0, 1.0, color=style.GREY, alpha=0.18, lw=0)
    axes.axhline(0.0, color=style.GREY, lw=0.7)
    axes.plot(wave[inside], pull[inside], "o", ms=2.5, color=style.BLACK)
    _arrows(axes, wave, pull, -limit, limit)
    axes.set(xlabel="wavelength [µm]", ylabel="residual [σ]", ylim=(-limit, limit))


def _arrows(axes: Axes, wave: np.ndarray, values: np.ndarray, low: float, high: float) -> None:
    """Arrows at the edge of a panel for what lies beyond it."""
    inset = 0.035 * (high - low)
    for marker, beyond in (("^", values > high), ("v", values < low)):
        places = np.clip(values[beyond], low + inset, high - inset)
        axes.plot(wave[beyond], places, marker, ms=5, color=style.VERMILION)


def _redshift(axes: Axes, galaxy: Galaxy) -> None:
    draws = galaxy.z_draws[np.isfinite(galaxy.z_draws)]
    shown = []
    if draws.size:
        low, high = np.quantile(draws, _Z_DRAWN)
        n_bin = int(np.clip(np.sqrt(draws.size), 12, 60))
        quoted = galaxy.status != "misfit"
        axes.hist(
            draws,
            np.linspace(low, high, n_bin + 1),
            density=True,
            color=style.BLUE if quoted else style.GREY,
            alpha=0.5,
            label="PAE" if quoted else "PAE, not usable",
        )
        shown.append((low, high))
    for prefix, (label, colour) in _OTHERS.items():
        quantiles = galaxy.row.get(f"{prefix}_z_quantiles")
        if quantiles is None:
            continue
        z, level = np.asarray(quantiles, dtype=np.float64), np.asarray(QUANTILE_LEVELS)
        usable = galaxy.row.get(f"{prefix}_status") not in NOT_USABLE
        style_of = {"color": colour} if usable else {"color": style.GREY, "label": f"{label}, not usable"}
        axes.stairs(density_between(z, level, 1e-5), z, **{"lw": 1.4, "label": label} | style_of)
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
    methods = {"pae": "PAE", **{prefix: label for prefix, (label, _) in _OTHERS.items()}}
    pairs = [
        *(
            (f"z, {label}", _interval(galaxy, prefix))
            for prefix, label in methods.items()
            if f"{prefix}_z_median" in row
        ),
        *_peaks(galaxy),
        *_class(row),
        *(("flags" if place == 0 else "", flag) for place, flag in enumerate(_flags(row))),
        ("", ""),
        *((words, _value(name, row[name])) for name, words in _SHOWN.items() if row.get(name) is not None),
        ("", ""),
        *((words, str(row[name])) for name, words in _MADE_BY.items() if row.get(name) is not None),
    ]
    axes.axis("off")
    step = 1.0 / max(len(pairs), 20)
    for row_number, pair in enumerate(pairs):
        for place, text, colour in zip((0.0, 0.34), pair, (style.GREY, style.BLACK), strict=True):
            axes.text(
                place,
                1.0 - row_number * step,
                text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…",
                transform=axes.transAxes,
                va="top",
                fontsize=8.5,
                color=colour,
                parse_math=False,
            )


def _class(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the source is, with its probability; nothing for a row without classes."""
    best = row.get("class_best")
    if best is None:
        return []
    if best == "none":
        return [("class", "none of those that are known")]
    share = probability_text(float(row[f"class_p_{best}"]))
    return [("class", f"{str(best).replace('_', ' ')}   ({share})")]


def _interval(galaxy: Galaxy, method: str) -> str:
    row = galaxy.row
    median = row.get(f"{method}_z_median")
    if median is None:
        return "none"
    usable = galaxy.has_redshift if method == "pae" else row.get(f"{method}_status") not in NOT_USABLE
    if not usable:
        return "not usable"
    value, interval = redshift_texts(median, row[f"{method}_z_err68_low"], row[f"{method}_z_err68_high"])
    return f"{value}   ({interval})"


def _peaks(galaxy: Galaxy) -> list[tuple[str, str]]:
    """The separate peaks of the PAE's p(z) with their weights, where there are several."""
    draws = galaxy.z_draws[np.isfinite(galaxy.z_draws)]
    found = solutions(draws) if galaxy.has_redshift else []
    if len(found) < 2:
        return []
    gap = galaxy.row.get("pae_chi2_gap")
    fits = ["", f", chi^2 {gap:+.1f}" if _finite(gap) else "", *[""] * len(found)]
    texts = (
        f"{one.z:.{redshift_digits(one.low, one.high)}f}   ({one.weight:.0%}{fit})"
        for one, fit in zip(found, fits, strict=False)
    )
    return [("its peaks" if place == 0 else "", text) for place, text in enumerate(texts)]


def _flags(row: Mapping[str, Any]) -> list[str]:
    """The catalogue's flags, or else those of the posterior, in words."""
    if "catalog_flags" in row:
        names = in_words(int(row["catalog_flags"] or 0)).split("|")
    else:
        names = [str(flag.name) for flag in ZFlag if int(row.get("z_flags") or 0) & int(flag)] or ["none"]
    return [name.lower().replace("_", " ") for name in names]


def _value(name: str, value: object) -> str:
    words = {"pae_status": STATUS_WORDS, "pae_path": PATH_WORDS}.get(name)
    if words is not None:
        return words.get(str(value), str(value))
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))
