"""Rows that are set aside, each with its reasons; none is dropped."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import numpy as np
import polars as pl

from paeplatform.instrument.bands import BandSet
from paeplatform.release.calibration import collections_beside
from paeplatform.release.flags import Flag
from paeplatform.release.manifest import Manifest
from paeplatform.release.schema import DETECTOR_RANGE_UM, with_observation

# Limits of public readers of the tool's tables; uJy.
FLUX_LIMITS = (-1e3, 1e4)
LEAST_SNR = -5.0
PLACEHOLDER_ERROR = 4e4  # missing values are written as errors near 5e4
WIDTH_SLACK = 0.20  # of the channel's bandwidth
SPIKE_FACTOR = 100.0  # of the mean over the band, and of the source's own level
PERIOD_DAYS = 10.0  # an observation lies in its planning week, give or take
_DERIVED = ("obs_id", "obs_collection", "obs_mjd", "obs_detector", "channel", "channel_width")


class SetAside(StrEnum):
    """Why a row is not used. In this order in `reason`."""

    TIME_OUTSIDE_WINDOW = "time_outside_window"  # MJD not finite or outside the manifest's window
    BAD_OBSERVATION_ID = "bad_observation_id"  # obs_publisher_did has not the documented form
    OBSERVATION_MISMATCH = (
        "observation_mismatch"  # its detector, planning week or collection is not the row's
    )
    UNKNOWN_DETECTOR = "unknown_detector"  # det_id is not 1 to 6
    WRONG_RELEASE = "wrong_release"  # data_collection is of another calibration: other gains
    FLUX_NOT_FINITE = "flux_not_finite"
    FLUX_OUTLIER = "flux_outlier"  # below -1e3 or above 1e4 uJy, or SNR below -5
    FLUX_FAR_ABOVE_BAND = "flux_far_above_band"  # over 100 times its band's mean, and its own source's level
    ERROR_NOT_POSITIVE = "error_not_positive"  # or not finite
    ERROR_PLACEHOLDER = "error_placeholder"  # above 4e4 uJy
    WAVELENGTH_OUTSIDE_DETECTOR = "wavelength_outside_detector"
    WIDTH_OFF_CHANNEL = "width_off_channel"  # over 20 % off the channel's bandwidth
    SOURCE_BIT_MISSING = "source_bit_missing"  # every forced-photometry row has it
    DUPLICATE_EXPOSURE = "duplicate_exposure"  # same observation, detector and source; the first is kept


def set_aside(rows: pl.DataFrame, manifest: Manifest, bands: BandSet) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Splits the rows of a cell.

    Args:
        rows: exposures with object_id.
        manifest: of the delivery: its window in time and its data collection.
        bands: channels, for the widths.

    Returns:
        (rows to use, with `channel` (i16, 1-102); rows set aside, with `reason`: names of `SetAside`, joined by ";").
    """
    judged = with_channel(with_observation(rows), bands)
    reasons = {reason: rule.fill_null(True) for reason, rule in _rules(manifest)}
    reasons[SetAside.FLUX_FAR_ABOVE_BAND] = _far_above_band(reasons)
    broken = judged.with_columns(**{reason.value: rule for reason, rule in reasons.items()})
    duplicate = (
        ~pl.struct("obs_id", "det_id", "object_id").is_first_distinct() & pl.col("obs_id").is_not_null()
    )
    broken = broken.with_columns(duplicate.alias(SetAside.DUPLICATE_EXPOSURE))
    named = [pl.when(pl.col(reason.value)).then(pl.lit(reason.value)).otherwise(None) for reason in SetAside]
    broken = broken.with_columns(pl.concat_list(named).list.drop_nulls().list.join(";").alias("reason")).drop(
        [reason.value for reason in SetAside]
    )
    fine = pl.col("reason") == ""
    kept = broken.filter(fine).drop("reason", *(name for name in _DERIVED if name != "channel"))
    return kept, broken.filter(~fine).drop(_DERIVED)


def with_channel(rows: pl.DataFrame, bands: BandSet) -> pl.DataFrame:
    """Adds channel (i16; of the row's detector, the one whose centre is nearest) and channel_width [um], or null."""
    detector = rows["det_id"].fill_null(0).to_numpy()
    wave = rows["lambda"].fill_null(np.nan).to_numpy()
    place = np.full(rows.height, -1)
    for number in np.unique(bands.detector):
        inside = np.flatnonzero(bands.detector == number)
        here = np.flatnonzero((detector == number) & np.isfinite(wave))
        order = inside[np.argsort(bands.wave_um[inside])]
        middle = 0.5 * (bands.wave_um[order][1:] + bands.wave_um[order][:-1])
        place[here] = order[np.searchsorted(middle, wave[here])]
    none = place < 0
    channel = np.where(none, 0, bands.channel[place])
    width = np.where(none, np.nan, bands.bandwidth_um[place])
    return rows.with_columns(
        pl.Series("channel", channel, dtype=pl.Int16).replace(0, None),
        pl.Series("channel_width", width).fill_nan(None),
    )


def _rules(manifest: Manifest) -> Iterator[tuple[SetAside, pl.Expr]]:
    """What is wrong, true where it is; null, where the value itself is missing, counts as wrong."""
    flux, error, wave = pl.col("flux"), pl.col("flux_err"), pl.col("lambda")
    detector, observed = pl.col("det_id"), pl.col("obs_id").is_not_null()
    beside = collections_beside(manifest.data_collection)
    low, high = (
        detector.replace_strict(
            {number: limits[side] for number, limits in DETECTOR_RANGE_UM.items()}, default=None
        )
        for side in (0, 1)
    )
    week = pl.col("obs_mjd")
    in_week = pl.col("mjd").is_between(week - PERIOD_DAYS, week + 7.0 + PERIOD_DAYS)
    finite_flux, good_error = (
        flux.is_finite().fill_null(False),
        (error.is_finite() & (error > 0.0)).fill_null(False),
    )
    yield SetAside.TIME_OUTSIDE_WINDOW, ~pl.col("mjd").is_between(manifest.mjd_min, manifest.mjd_max)
    yield SetAside.BAD_OBSERVATION_ID, ~observed
    other = (pl.col("obs_detector") != detector) | (pl.col("obs_collection") != pl.col("data_collection"))
    yield SetAside.OBSERVATION_MISMATCH, observed & (other | ~in_week)
    yield SetAside.UNKNOWN_DETECTOR, ~detector.is_in(list(DETECTOR_RANGE_UM))
    yield SetAside.WRONG_RELEASE, ~pl.col("data_collection").is_in(beside)
    yield SetAside.FLUX_NOT_FINITE, ~finite_flux
    outlier = ~flux.is_between(*FLUX_LIMITS) | (good_error & (flux < LEAST_SNR * error))
    yield SetAside.FLUX_OUTLIER, finite_flux & outlier
    yield SetAside.ERROR_NOT_POSITIVE, ~good_error
    yield SetAside.ERROR_PLACEHOLDER, good_error & (error > PLACEHOLDER_ERROR)
    yield SetAside.WAVELENGTH_OUTSIDE_DETECTOR, ~wave.is_between(low, high)
    width = pl.col("channel_width")
    yield SetAside.WIDTH_OFF_CHANNEL, ((pl.col("lambda_width") - width).abs() > WIDTH_SLACK * width)
    yield SetAside.SOURCE_BIT_MISSING, (pl.col("flags") & (1 << Flag.SOURCE)) == 0


def _far_above_band(reasons: dict[SetAside, pl.Expr]) -> pl.Expr:
    """Single exposures far above all they can be compared with; a source that is bright in all of its own is not.

    Compared with the mean of the band over the cell without the row, and with the median of the source in the
    detector; rows that are at fault already take no part.
    """
    flux = pl.when(~pl.any_horizontal(reasons.values())).then(pl.col("flux"))
    others = (flux.count() - 1).clip(1)
    mean = ((flux.sum() - flux) / others).over("channel")
    level = flux.abs().median().over("object_id", "det_id")
    above = (flux > SPIKE_FACTOR * mean.abs()) & (flux > SPIKE_FACTOR * level)
    return (above & (flux.count().over("channel") > 1)).fill_null(False)
