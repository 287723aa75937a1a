"""Dust attenuation of a template: Prevot (SMC), Calzetti (starburst) and Allen (Milky Way), as in the paper.

The attenuated spectrum is f_nu * 10^(-0.4 E(B-V) k(lambda)) with k = A(lambda)/E(B-V) and E(B-V) 0-1.

- prevot: Prevot et al. 1984 (A&A 132, 389), mean SMC extinction E(lambda-V)/E(B-V) + R_V, R_V = 2.72 (Bouchet
  et al. 1985), with the near-infrared points and the straight line shortward of 0.1275 um of hyperz and
  LePHARE.
- calzetti: Calzetti et al. 2000 (ApJ 533, 682), eq. 4, R_V = 4.05, 0.12-2.2 um. The two branches of the
  formula miss each other by 0.025 at 0.63 um; the lower one is taken up to where they cross (0.72 um), so
  that k is continuous. Shortward along the tangent at 0.12 um, within 1 % of what Leitherer et al. 2002 (ApJS
  140, 303) measured at 0.1 um.
- allen: Allen 1976 (Astrophysical Quantities, 3rd ed.), A(lambda)/A(V) times R_V = 3.1, with the 0.22 um
  bump; shortward of 0.1 um along its last straight line.

Longward of its last point each law goes on as a power law, never negative and ever falling: lambda^-1.8 for
prevot and allen (Martin & Whittet 1990, ApJ 357, 113) and for calzetti the slope it has at 2.2 um (the
formula itself turns negative at 3.1 um). LePHARE's tables fall to zero in straight lines instead.

`dust_extinction` has none of the three in this form (its SMC and Milky Way curves are later ones; the tests
compare), so the tables stand here, interpolated by monotone cubics in ln k against ln lambda through every
published point.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.interpolate import PchipInterpolator

from paeplatform.errors import InputError

DUST_LAWS = ("prevot", "calzetti", "allen")
TOTAL_TO_SELECTIVE = {"prevot": 2.72, "calzetti": 4.05, "allen": 3.1}  # R_V
EBV_MAX = 1.0

_INFRARED_INDEX = 1.8
# fmt: off
_PREVOT_UM = np.array([
    0.1275, 0.1330, 0.1385, 0.1435, 0.1490, 0.1545, 0.1595, 0.1647, 0.1700, 0.1755, 0.1810, 0.1860, 0.1910,
    0.2000, 0.2115, 0.2220, 0.2335, 0.2445, 0.2550, 0.2665, 0.2778, 0.2890, 0.2995, 0.3105, 0.3704, 0.4255,
    0.5291, 1.25, 1.65, 2.20])
_PREVOT_K = np.array([
    16.26, 15.24, 14.23, 13.52, 12.56, 12.00, 11.78, 11.21, 10.73, 10.43, 9.89, 9.62, 9.48,
    9.10, 8.57, 8.02, 7.25, 6.96, 6.63, 6.21, 5.87, 5.72, 5.37, 5.01, 4.53, 3.72,
    2.72, 0.70, 0.36, 0.25])
_ALLEN_UM = np.array([
    0.100, 0.111, 0.125, 0.143, 0.167, 0.200, 0.222, 0.250, 0.285, 0.333, 0.365, 0.400, 0.440, 0.500,
    0.553, 0.670, 0.900, 1.000, 2.000])
_ALLEN_K = 3.1 * np.array([
    4.20, 3.70, 3.30, 3.00, 2.70, 2.80, 2.90, 2.30, 1.97, 1.69, 1.58, 1.45, 1.32, 1.13,
    1.00, 0.74, 0.46, 0.38, 0.11])
# fmt: on
# wavelengths [um], k there, and dk/dlambda [1/um] shortward of the first point
_TABLES = {"prevot": (_PREVOT_UM, _PREVOT_K, -185.45), "allen": (_ALLEN_UM, _ALLEN_K, -140.91)}


def k_lambda(law: str, wave_um: np.ndarray | float) -> np.ndarray:
    """The attenuation curve k(lambda) = A(lambda)/E(B-V).

    Args:
        law: one of `DUST_LAWS`.
        wave_um: any shape, rest wavelength [um], from 0.06 up.

    Returns:
        float64 of the same shape.

    Raises:
        InputError: unknown law, or a wavelength below 0.06 um, where no law is defined.
    """
    if law not in DUST_LAWS:
        raise InputError(f"unknown dust law {law!r}: give one of {', '.join(DUST_LAWS)}")
    wave = np.asarray(wave_um, dtype=np.float64)
    if wave.size and not np.min(wave) >= 0.06:
        raise InputError(
            f"dust law {law}: wavelength {np.min(wave)} um is outside the accepted range 0.06 um and up"
        )
    return _calzetti(wave) if law == "calzetti" else _tabulated(wave, law)


def attenuation(law: str, wave_um: np.ndarray | float, ebv: float) -> np.ndarray:
    """The factor 10^(-0.4 E(B-V) k(lambda)) by which dust dims a spectrum.

    Raises:
        InputError: unknown law, or E(B-V) outside 0-1.
    """
    check_ebv(np.asarray(ebv))
    return 10.0 ** (-0.4 * ebv * k_lambda(law, wave_um))


def check_ebv(ebv: np.ndarray) -> None:
    """Raises InputError, with the first offending index and value, unless every E(B-V) is within 0-1."""
    good = (ebv >= 0.0) & (ebv <= EBV_MAX)
    if not np.all(good):
        index = int(np.flatnonzero(~np.atleast_1d(good))[0])
        value = float(np.atleast_1d(ebv).ravel()[index])
        raise InputError(f"ebv[{index}] = {value} is outside the accepted range 0-{EBV_MAX:g}")


def _calzetti(wave: np.ndarray) -> np.ndarray:
    r_v = TOTAL_TO_SELECTIVE["calzetti"]
    short, long = 0.12, 2.2
    x = 1.0 / np.clip(wave, short, long)
    optical = 2.659 * (-2.156 + 1.509 * x - 0.198 * x**2 + 0.011 * x**3) + r_v
    infrared = 2.659 * (-1.857 + 1.040 * x) + r_v
    k = np.where(x > 1.3, np.minimum(optical, infrared), infrared)
    tangent = -2.659 * (1.509 / short**2 - 2 * 0.198 / short**3 + 3 * 0.011 / short**4)
    k = k + tangent * np.minimum(wave - short, 0.0)
    k_long = 2.659 * (-1.857 + 1.040 / long) + r_v
    index = 2.659 * 1.040 / long / k_long  # -dlnk/dlnlambda at 2.2 um
    return k * np.maximum(wave / long, 1.0) ** -index


@cache
def _interpolant(law: str) -> PchipInterpolator:
    wave, k, _ = _TABLES[law]
    return PchipInterpolator(np.log(wave), np.log(k))


def _tabulated(wave: np.ndarray, law: str) -> np.ndarray:
    nodes, _, slope = _TABLES[law]
    k = np.exp(_interpolant(law)(np.log(np.clip(wave, nodes[0], nodes[-1]))))
    k = k + slope * np.minimum(wave - nodes[0], 0.0)
    return k * np.maximum(wave / nodes[-1], 1.0) ** -_INFRARED_INDEX
