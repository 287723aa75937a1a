"""Bad input, source by source: what can be masked is masked and said, and no source spoils its neighbours.

A call with arrays of the wrong shape is refused whole. Within a call each source is judged alone, and each
of its bands too, but for the last row:

| flux | flux_err | what happens | fault |
|---|---|---|---|
| finite | finite, positive | used | |
| anything | +inf or NaN | masked: the documented way to say so | |
| NaN, +-inf | finite, positive | masked | FLUX_NOT_FINITE |
| anything | zero, negative, -inf | masked | ERROR_NOT_POSITIVE |
| finite | finite, positive, but absurd | masked | OUT_OF_RANGE |
| the same negative number again and again | finite, positive | masked | SENTINEL |

Absurd is a |flux| / flux_err above `MAX_SNR`, or a number outside `LIMITS` [uJy].

A sentinel is a number that stands for none, like -99 or -9999, and may have a good error beside it. No real flux
repeats to the last digit far below zero. So a negative flux is taken for one where it stands in a source at least
`SENTINEL_REPEATS` times with flux / flux_err below `SENTINEL_SNR`, in whatever unit the file was. The same number with
a larger error beside it is then one too.

Measurements at their own wavelengths are judged by the same table, and in addition by their passbands:

| passband | fault |
|---|---|
| centre NaN, infinite, or outside `WAVE_LIMITS` | WAVELENGTH_OUT_OF_RANGE |
| width NaN, infinite, zero or negative | WIDTH_NOT_POSITIVE |
| centre over width that no detector has there (`slots.SPHEREX_PASSBANDS`) | RESOLVING_POWER_OUT_OF_RANGE |

A source that keeps one band or more is inferred from what is left, its faults recorded (repaired). One that keeps
none has NO_USABLE_BAND, which is fatal: it gets no posterior. So a whole row in a wrong unit ends as fatal, a single
bad channel does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from jaxtyping import Bool, Float, Int

from paeplatform.instrument.measurements import Measurements
from paeplatform.instrument.noise import check_photometry, usable_bands
from paeplatform.instrument.slots import belongs_to_a_family

MAX_SNR = (
    1e6  # of one band; SPHEREx reaches some 1e3, and residuals of float32 lose their first digit near 1e6
)
WAVE_LIMITS = (0.7, 5.1)  # of a passband's centre [um]: what the instrument sees, with a margin
SENTINEL_SNR = -5.0  # noise has fewer than one in a million measurements below it
SENTINEL_REPEATS = 3
LIMITS = (1e-30, 1e30)  # of flux_err, and the upper one of |flux|: squares of ratios stay inside float32


class InputFault(IntFlag):
    """What was found in a source's photometry; bits, so that they add up.

    Attributes:
        FLUX_NOT_FINITE: repaired; some band's flux is NaN or infinite although its error is usable.
        ERROR_NOT_POSITIVE: repaired; some band's error is zero or negative.
        OUT_OF_RANGE: repaired; some band has an absurd signal-to-noise or a number no flux in uJy can be.
        NO_USABLE_BAND: fatal; every band is masked, by the user or for the faults above.
        WAVELENGTH_OUT_OF_RANGE: repaired; some measurement's wavelength is no number or outside `WAVE_LIMITS`.
        WIDTH_NOT_POSITIVE: repaired; some measurement's width is no positive number.
        RESOLVING_POWER_OUT_OF_RANGE: repaired; no detector has some measurement's wavelength over width there.
        SENTINEL: repaired; some flux far below zero repeats exactly, as a number that stands for none.
    """

    FLUX_NOT_FINITE = 1
    ERROR_NOT_POSITIVE = 2
    OUT_OF_RANGE = 4
    NO_USABLE_BAND = 8
    WAVELENGTH_OUT_OF_RANGE = 16
    WIDTH_NOT_POSITIVE = 32
    RESOLVING_POWER_OUT_OF_RANGE = 64
    SENTINEL = 128


FATAL = InputFault.NO_USABLE_BAND
# the fatal one leads, so that a reason begins with what decided
_NAMED = sorted(InputFault, key=lambda fault: not fault & FATAL)


@dataclass(frozen=True)
class Screened:
    """Photometry that nothing downstream can stumble over.

    Attributes:
        flux: [uJy], finite everywhere; 0 in masked bands.
        flux_err: [uJy], positive everywhere; inf in masked bands.
        faults: `InputFault` bits, 0 for a source without fault.
        n_repaired: bands masked because of a fault; masks the user set do not count.
        reason: the faults in lower case joined by commas, the fatal one first; None for a source without fault.
    """

    flux: Float[np.ndarray, "source band"]
    flux_err: Float[np.ndarray, "source band"]
    faults: Int[np.ndarray, " source"]
    n_repaired: Int[np.ndarray, " source"]
    reason: np.ndarray

    @property
    def fatal(self) -> Bool[np.ndarray, " source"]:
        """Sources that get no posterior."""
        return (self.faults & int(FATAL)) != 0


def screen(flux: np.ndarray, flux_err: np.ndarray, n_bands: int) -> Screened:
    """Judges photometry by the table at the top of this module.

    Args:
        flux: (source, band) [uJy]; negative values are legal.
        flux_err: (source, band) 1 sigma [uJy].
        n_bands: bands a source must have.

    Returns:
        Copies in the given floating type (integers become float64). A row depends on no other row, and values of
        bands in use are unchanged to the bit.

    Raises:
        BandSetError: the arrays are not both (source, `n_bands`) of real numbers; nothing was looked at.
    """
    flux, flux_err = np.asarray(flux), np.asarray(flux_err)
    real = np.issubdtype(flux.dtype, np.floating)
    check_photometry(np.where(np.isfinite(flux), flux, 0.0) if real else flux, flux_err, n_bands)
    flux, flux_err = (
        array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)
        for array in (flux, flux_err)
    )
    use, found = _judged(flux, flux_err, np.broadcast_to(np.arange(len(flux))[:, None], flux.shape))
    faults = np.zeros(len(flux), np.int32)
    for fault, where in found.items():
        faults[where.any(axis=1)] |= int(fault)
    faults[~use.any(axis=1)] |= int(InputFault.NO_USABLE_BAND)
    n_repaired = np.sum([where.sum(axis=1) for where in found.values()], axis=0, dtype=np.int64)
    return Screened(
        flux=np.where(use, flux, np.zeros((), flux.dtype)),
        flux_err=np.where(use, flux_err, np.asarray(np.inf, flux_err.dtype)),
        faults=faults,
        n_repaired=n_repaired,
        reason=_reasons(faults),
    )


@dataclass(frozen=True, eq=False)
class ScreenedMeasurements:
    """Measurements that nothing downstream can stumble over.

    Attributes:
        measurements: those in use; every source is there, if need be with none.
        faults, n_repaired, reason: as of `Screened`.
    """

    measurements: Measurements
    faults: Int[np.ndarray, " source"]
    n_repaired: Int[np.ndarray, " source"]
    reason: np.ndarray


def screen_measurements(measurements: Measurements) -> ScreenedMeasurements:
    """Judges measurements by the tables at the top of this module; no source changes another."""
    wave, width = measurements.wave_um, measurements.width_um
    use, found = _judged(measurements.flux, measurements.flux_err, measurements.source)
    # What is masked anyway has no fault of its passband.
    seen = np.isfinite(wave) & (wave >= WAVE_LIMITS[0]) & (wave <= WAVE_LIMITS[1])
    wide = np.isfinite(width) & (width > 0.0)
    known = belongs_to_a_family(wave, width)
    found[InputFault.WAVELENGTH_OUT_OF_RANGE] = use & ~seen
    found[InputFault.WIDTH_NOT_POSITIVE] = use & seen & ~wide
    found[InputFault.RESOLVING_POWER_OUT_OF_RANGE] = use & seen & wide & ~known
    use &= known
    faults = np.zeros(len(measurements), np.int32)
    n_repaired = np.zeros(len(measurements), np.int64)
    for fault, where in found.items():
        count = np.bincount(measurements.source[where], minlength=len(measurements))
        faults[count > 0] |= int(fault)
        n_repaired += count
    kept = measurements.where(use)
    faults[kept.count == 0] |= int(InputFault.NO_USABLE_BAND)
    return ScreenedMeasurements(kept, faults, n_repaired, _reasons(faults))


def _judged(
    flux: np.ndarray, flux_err: np.ndarray, source: np.ndarray
) -> tuple[np.ndarray, dict[InputFault, np.ndarray]]:
    """Which numbers are to be used, and where each fault is; any shape, with the source of each number."""
    given, finite = usable_bands(flux_err), np.isfinite(flux)
    low, high = LIMITS
    sane = (flux_err >= low) & (flux_err <= high) & (np.abs(np.where(finite, flux, 0.0)) <= high)
    # in float64, and only between sane numbers: neither can overflow
    use = given & finite & sane
    snr = np.divide(flux, flux_err, out=np.zeros(flux.shape), where=use, dtype=np.float64)
    use &= np.abs(snr) <= MAX_SNR
    sentinel = _sentinels(flux, snr, use, source)
    return use & ~sentinel, {
        InputFault.FLUX_NOT_FINITE: given & ~finite,
        InputFault.ERROR_NOT_POSITIVE: flux_err <= 0.0,  # -inf too, NaN not
        InputFault.OUT_OF_RANGE: given & finite & ~use,
        InputFault.SENTINEL: sentinel,
    }


def _sentinels(flux: np.ndarray, snr: np.ndarray, use: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Of the numbers in use, those that stand for none."""
    found = np.zeros(flux.shape, bool)
    far = use & (snr < SENTINEL_SNR)
    if not far.any():  # as in most calls
        return found
    suspect = np.zeros(int(source.max()) + 1, bool)
    suspect[source[far]] = True
    places = np.flatnonzero(use & (flux < 0.0) & suspect[source])
    key = np.stack([source.ravel()[places].astype(np.float64), flux.ravel()[places].astype(np.float64)])
    _, number = np.unique(key, axis=1, return_inverse=True)
    number = number.reshape(-1)
    repeats = np.bincount(number, weights=far.ravel()[places])
    found.ravel()[places] = repeats[number] >= SENTINEL_REPEATS
    return found


def _reasons(faults: np.ndarray) -> np.ndarray:
    reason = np.full(len(faults), None, dtype=object)
    for row in np.flatnonzero(faults):
        reason[row] = reason_text(int(faults[row]))
    return reason


def reason_text(faults: int) -> str | None:
    """Names of the faults in lower case, the fatal one first; None for 0."""
    return ",".join(str(fault.name).lower() for fault in _NAMED if faults & fault) or None
