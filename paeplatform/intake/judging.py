"""Measurements that are set aside, each for one reason; none is dropped without.

These are the quality rules of releases that make sense without a manifest. What a source keeps is judged once more,
source by source, before it is inferred (`inference.screening`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import polars as pl

from paeplatform.intake.plausibility import WAVE_LIMITS
from paeplatform.release.flags import Flag
from paeplatform.release.rows import LEAST_SNR
from paeplatform.release.schema import DETECTOR_RANGE_UM

DETECTOR_MARGIN = (
    0.01  # of the wavelength, beyond a detector's range; calibrations of the range differ by 0.4 %
)
SENTINELS = tuple(
    -float(digits) for digits in ("9", "99", "999", "9999", "99999", "99.9", "99.99", "99.999", "999.9")
)


class Reason(StrEnum):
    """Why a measurement is set aside. The first that fits is given."""

    SOURCE_MISSING = (
        "source_missing"  # no id, name or position where the file tells its sources apart by these
    )
    FLUX_NOT_FINITE = "flux_not_finite"  # or missing
    ERROR_NOT_POSITIVE = "error_not_positive"  # or missing, or not finite
    WAVELENGTH_OUT_OF_RANGE = "wavelength_out_of_range"  # or missing; outside 0.7-5.1 um
    WIDTH_NOT_POSITIVE = "width_not_positive"  # or missing
    FLAGGED = "flagged"  # followed by the flags' names
    UNKNOWN_DETECTOR = "unknown_detector"  # a number other than 1 to 6
    WAVELENGTH_OUTSIDE_DETECTOR = "wavelength_outside_detector"
    SENTINEL = "sentinel"  # a number that stands for none, like -99
    DUPLICATE_EXPOSURE = "duplicate_exposure"  # the first is kept


@dataclass(frozen=True, eq=False)
class Judged:
    """What became of measurements.

    Attributes:
        use: (measurement,) whether each is in use.
        reason: (measurement,) str, null for those in use.
    """

    use: np.ndarray
    reason: pl.Series


def judge(measured: pl.DataFrame, file: np.ndarray, source: np.ndarray, reject: int) -> Judged:
    """Judges measurements.

    Args:
        measured: the columns of `rows.FileRows.measured`, of all files one after the other.
        file: (measurement,) index of the file.
        source: (measurement,) index of the source; -1 for none.
        reject: bits of the flags that take a measurement out.
    """
    names = list(Reason)
    code = np.full(len(source), -1, np.int64)

    def mark(reason: Reason, where: np.ndarray) -> None:
        code[(code < 0) & where] = names.index(reason)

    flux, flux_err, wave, width = (
        measured[name].to_numpy() for name in ("flux", "flux_err", "wave", "width")
    )
    flags, detector = measured["flags"].to_numpy(), measured["detector"].to_numpy()
    bad_bits = flags & np.uint64(reject)
    mark(Reason.SOURCE_MISSING, source < 0)
    mark(Reason.FLUX_NOT_FINITE, ~np.isfinite(flux))
    mark(Reason.ERROR_NOT_POSITIVE, ~(np.isfinite(flux_err) & (flux_err > 0.0)))
    mark(Reason.WAVELENGTH_OUT_OF_RANGE, ~((wave >= WAVE_LIMITS[0]) & (wave <= WAVE_LIMITS[1])))
    mark(Reason.WIDTH_NOT_POSITIVE, ~(np.isfinite(width) & (width > 0.0)))
    mark(Reason.FLAGGED, bad_bits != 0)
    mark(Reason.UNKNOWN_DETECTOR, (detector >= 0) & ~np.isin(detector, list(DETECTOR_RANGE_UM)))
    for number, (low, high) in DETECTOR_RANGE_UM.items():
        inside = (wave >= low * (1.0 - DETECTOR_MARGIN)) & (wave <= high * (1.0 + DETECTOR_MARGIN))
        mark(Reason.WAVELENGTH_OUTSIDE_DETECTOR, (detector == number) & ~inside)
    faint = np.flatnonzero((code < 0) & (flux < LEAST_SNR * flux_err))
    mark(Reason.SENTINEL, _sentinels(measured["given_flux"].to_numpy(), file, faint))
    mark(Reason.DUPLICATE_EXPOSURE, _again(measured, source, code < 0))
    reasons = pl.Series([reason.value for reason in names] + [None], dtype=pl.String)
    text = reasons.gather(np.where(code < 0, len(names), code))
    flagged = code == names.index(Reason.FLAGGED)
    if flagged.any():
        text = text.scatter(np.flatnonzero(flagged), _flag_names(bad_bits[flagged]))
    return Judged(code < 0, text.alias("reason"))


def _sentinels(given: np.ndarray, file: np.ndarray, faint: np.ndarray) -> np.ndarray:
    """Of the measurements far below zero, those whose number repeats in the file or is one that stands for none."""
    found = np.zeros(len(given), bool)
    if len(faint):
        key = np.stack([file[faint].astype(np.float64), given[faint]])
        _, inverse, count = np.unique(key, axis=1, return_inverse=True, return_counts=True)
        usual = np.isclose(given[faint][:, None], SENTINELS, rtol=1e-6, atol=0.0).any(axis=1)
        found[faint] = (count[inverse.reshape(-1)] > 1) | usual
    return found


def _again(measured: pl.DataFrame, source: np.ndarray, open_cases: np.ndarray) -> np.ndarray:
    """Measurements that stand there a second time: same source, time, wavelength and flux.

    Without a time, the errors have to be the same too: printed wavelengths and fluxes can agree by chance.
    """
    rows = np.flatnonzero(open_cases)
    again = np.zeros(len(source), bool)
    timed = measured["mjd"].is_nan()
    some = measured.with_columns(
        pl.Series("source", source), pl.when(timed).then(pl.col("flux_err")).otherwise(0.0).alias("untimed")
    )[rows]
    first = some.select(pl.struct("source", "mjd", "wave", "flux", "untimed").is_first_distinct()).to_series()
    again[rows] = ~first.to_numpy()
    return again


def _flag_names(bits: np.ndarray) -> pl.Series:
    """The reason of each flagged measurement; few different combinations of bits occur."""
    different, inverse = np.unique(bits, return_inverse=True)
    names = []
    for value in different.tolist():
        numbers = [bit for bit in range(64) if value >> bit & 1]
        known = {int(flag): flag.name for flag in Flag}
        names.append(f"{Reason.FLAGGED.value} {','.join(known.get(bit, f'bit {bit}') for bit in numbers)}")
    return pl.Series(names, dtype=pl.String).gather(inverse)
