"""What can be done to a user's measurements before they are fitted: dereddening, an error floor, confusion noise.

Extinction. flux and error are multiplied by 10^(0.4 E(B-V) k(lambda)) at the centre of each passband, with the law
of Gordon, Clayton, Decleir, Fitzpatrick et al. (2023, ApJ 950, 86) for R_V = 3.1, as the library `dust_extinction`
has it (`G23`). That law joins the curves that the same group measured from the far ultraviolet to 32 um, Fitzpatrick et
al. (2019) among them. The older laws F99, F04, F19 and CCM89 of the same library end at 3.33 um, which leaves a third
of SPHEREx's range without a law; between 0.75 and 3.3 um the choice between F99 and G23 changes fluxes by less than
1.5 % for E(B-V) = 0.1. Over one passband k changes by some 5 %, so that its value at the centre is enough.

E(B-V) is on the scale of Schlafly & Finkbeiner (2011, ApJ 737, 103), which IRSA's dust service calls "S & F". A value
read from the map of Schlegel, Finkbeiner & Davis (1998) must be multiplied by 0.86 first.

Errors. A floor in per cent of the measured flux stands for what all measurements of a bright source share and the
quoted errors leave out, such as calibration. Confusion noise stands for unresolved neighbours: in deep fields, where
many visits have made the quoted errors small, their flux under the passband changes from source to source by an amount
that no visit averages out. Both are added in quadrature, to the data as observed, before the dereddening.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from paeplatform.errors import InputError
from paeplatform.instrument.measurements import Measurements

R_V = 3.1
LAW_UM = (0.0912, 32.0)  # that the law is defined for
EBV_MAX = 10.0
FLOOR_MAX = 100.0  # per cent


def corrected(
    measurements: Measurements,
    ebv_mw: Float[ArrayLike, " source"] | float | None = None,
    error_floor: float = 0.0,
    confusion_ujy: float = 0.0,
    *,
    name: Sequence[str] | None = None,
) -> Measurements:
    """Measurements with Milky Way extinction taken off and errors enlarged; the top of this module says how.

    Errors that are not finite and positive, which mask a measurement or are a fault, stay such, so that no correction
    makes a bad measurement look good. Where a flux is not finite, the floor adds nothing. Wavelengths that the law does
    not know are left alone: SPHEREx does not see them, and `inference.screening` sets them aside.

    Args:
        measurements: as observed.
        ebv_mw: E(B-V) of the Milky Way towards each source, or one for all; None, or NaN for all sources, where none is
            known, and fluxes are then left as they are.
        error_floor: [per cent of the flux].
        confusion_ujy: [uJy].
        name: of the sources, for messages; their numbers, from 1, without.

    Raises:
        InputError: an E(B-V) is outside 0-10 or missing for some sources only, the floor outside 0-100 per cent, or the
            confusion noise negative or not finite.
    """
    check_noise(error_floor, confusion_ujy)
    ebv = _checked_ebv(ebv_mw, len(measurements), name)
    flux = np.asarray(measurements.flux, dtype=np.float64)
    error = np.asarray(measurements.flux_err, dtype=np.float64)
    sound = np.isfinite(error) & (error > 0.0)
    share = 0.01 * error_floor * np.abs(np.where(np.isfinite(flux), flux, 0.0))
    # hypot neither overflows nor underflows where the squares would
    error = np.where(sound, np.hypot(np.hypot(np.where(sound, error, 1.0), share), confusion_ujy), error)
    if ebv is not None:
        ebv = ebv[measurements.source]
        known = (ebv > 0.0) & within_law(measurements.wave_um)
        factor = np.ones_like(flux)
        factor[known] = 10.0 ** (0.4 * ebv[known] * milky_way_k(measurements.wave_um[known]))
        flux, error = flux * factor, error * factor
    return Measurements(flux, error, measurements.wave_um, measurements.width_um, measurements.start)


def check_noise(error_floor: float, confusion_ujy: float) -> None:
    """Raises InputError unless both are in their range; see `corrected`."""
    if not 0.0 <= error_floor <= FLOOR_MAX:
        raise InputError(
            f"error floor {error_floor:g}: must be within 0 and {FLOOR_MAX:g} per cent of the flux"
        )
    if not (confusion_ujy >= 0.0 and math.isfinite(confusion_ujy)):
        raise InputError(f"confusion noise {confusion_ujy:g}: must be a number of uJy, 0 or more")


def check_ebv(ebv_mw: float) -> None:
    """Raises InputError unless one E(B-V) for all sources is in its range; see `corrected`."""
    _checked_ebv(ebv_mw, 1, None)


def milky_way_k(wave_um: Float[ArrayLike, " wave"]) -> Float[np.ndarray, " wave"]:
    """k(lambda) = A(lambda) / E(B-V) of the Milky Way.

    Args:
        wave_um: [um], within the law's range, 0.0912 to 32 um.

    Raises:
        InputError: a wavelength is outside that range.
    """
    import astropy.units as u
    from dust_extinction.parameter_averages import G23

    wave = np.asarray(wave_um, dtype=np.float64)
    known = within_law(wave)
    if not known.all():
        raise InputError(
            f"wavelength {wave[~known][0]:g} um: must be within {LAW_UM[0]:g} and {LAW_UM[1]:g} um"
        )
    return R_V * np.asarray(G23(Rv=R_V)(1.0 / wave / u.um), dtype=np.float64) if wave.size else wave


def within_law(wave_um: Float[ArrayLike, " wave"]) -> Bool[np.ndarray, " wave"]:
    """Which wavelengths [um] the law is defined at."""
    wave = np.asarray(wave_um, dtype=np.float64)
    return (wave >= LAW_UM[0]) & (wave <= LAW_UM[1])


def _checked_ebv(ebv_mw: ArrayLike | None, n_source: int, name: Sequence[str] | None) -> np.ndarray | None:
    """One value for each source; None where nothing is to be dereddened."""
    if ebv_mw is None:
        return None
    given = np.asarray(ebv_mw, dtype=np.float64)
    if given.shape not in ((), (n_source,)):
        raise InputError(
            f"E(B-V) {given.shape}: must be one number, or one for each of the {n_source} sources"
        )
    if given.ndim and np.isnan(given).all():
        return None
    bad = ~((given >= 0.0) & (given <= EBV_MAX))
    if not bad.any():
        return np.broadcast_to(given, (n_source,))
    if not given.ndim:
        raise InputError(f"E(B-V) {given:g}: must be within 0 and {EBV_MAX:g} mag")
    row = int(np.argmax(bad))
    who = repr(name[row]) if name is not None else str(row + 1)
    what = "is missing, though other sources have one" if np.isnan(given[row]) else f"{given[row]:g}"
    raise InputError(f"source {who}: E(B-V) {what}: must be within 0 and {EBV_MAX:g} mag")
