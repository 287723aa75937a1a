"""Which galaxies there are: number counts, spectral types and redshifts.

Types and redshifts follow the prior that LePHARE uses (Ilbert et al. 2006, calibrated on VVDS; function
`nzprior` of its `onesource.cpp`): p(T|i) ~ f_T exp(-k_T (i - 20)), normalised over the four types, and
p(z|T,i) ~ z^a exp(-(z/z0)^a) with z0 = z0_T + s_T (i - 20). LePHARE applies it at i >= 20 only, and its z0
turns negative near i = 18.5; we hold both laws at their i = 20 values for brighter sources.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

PRIOR_MAG_MIN = 20.0  # LePHARE's prior is calibrated from here on


@dataclass(frozen=True)
class GalaxyType:
    """One class of LePHARE's prior.

    Attributes:
        name: as in the catalogue's column `galaxy_type`.
        nuv_r_min: lower edge of the rest-frame NUV - r colour [AB mag]; the upper edge is the redder class's
            lower one.
        fraction: f_T, relative number at i = 20.
        fraction_slope: k_T [1/mag].
        z0: scale of the redshift law at i = 20.
        z0_slope: its change [1/mag].
        alpha: exponent a, used twice.
        ebv_scale: e-folding of the extra E(B-V) [mag], this project's choice: see `draw_ebv`.
    """

    name: str
    nuv_r_min: float
    fraction: float
    fraction_slope: float
    z0: float
    z0_slope: float
    alpha: float
    ebv_scale: float


GALAXY_TYPES = (
    GalaxyType("E/S0", 4.25, 0.43199, 0.47165, 0.45181, 0.13677, 3.33078, 0.0),
    GalaxyType("Sbc", 3.19, 0.07995, 0.30663, 0.16560, 0.12983, 1.42815, 0.10),
    GalaxyType("Scd", 1.90, 0.31162, 0.12715, 0.21072, 0.14008, 1.58310, 0.15),
    GalaxyType("Irr", -np.inf, 0.21220, -0.34437, 0.20418, 0.13773, 1.34500, 0.15),
)
TYPE_NAMES = tuple(kind.name for kind in GALAXY_TYPES)


def _column(attribute: str) -> np.ndarray:
    return np.array([getattr(kind, attribute) for kind in GALAXY_TYPES])


def type_fractions(mag_i: np.ndarray) -> np.ndarray:
    """p(T|i), shape (n, 4).

    Normalised by the sum over the types, as LePHARE does; no class takes the remainder, which would turn
    negative for bright sources.
    """
    depth = np.maximum(np.asarray(mag_i, dtype=np.float64), PRIOR_MAG_MIN)[:, None] - PRIOR_MAG_MIN
    weight = _column("fraction") * np.exp(-_column("fraction_slope") * depth)
    return weight / weight.sum(axis=1, keepdims=True)


def redshift_law(type_index: np.ndarray, mag_i: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(a, z0) of p(z|T,i) ~ z^a exp(-(z/z0)^a), each of shape (n,)."""
    depth = np.maximum(np.asarray(mag_i, dtype=np.float64), PRIOR_MAG_MIN) - PRIOR_MAG_MIN
    return _column("alpha")[type_index], _column("z0")[type_index] + _column("z0_slope")[type_index] * depth


# Every draw below is an inverse CDF of one uniform number per source, so that a longer catalogue begins with
# the shorter one of the same seed.


def draw_mag_i(rng: np.random.Generator, n: int, slope: float, mag_min: float, mag_max: float) -> np.ndarray:
    """Magnitudes in i [AB], shape (n,), from dN/di ~ 10^(slope i) on [mag_min, mag_max]."""
    rate = slope * np.log(10.0)
    return mag_max + np.log1p(-rng.random(n) * -np.expm1(-rate * (mag_max - mag_min))) / rate


def draw_type(rng: np.random.Generator, mag_i: np.ndarray) -> np.ndarray:
    """Index into GALAXY_TYPES, shape (n,), from p(T|i)."""
    edges = np.cumsum(type_fractions(mag_i), axis=1)[:, :-1]
    return (rng.random(len(mag_i))[:, None] >= edges).sum(axis=1)


def draw_redshift(
    rng: np.random.Generator, type_index: np.ndarray, mag_i: np.ndarray, z_max: float
) -> np.ndarray:
    """Redshifts on (0, z_max], shape (n,), from p(z|T,i).

    With t = (z/z0)^a the law is a Gamma distribution of shape 1 + 1/a, whose inverse CDF is exact.
    """
    alpha, z0 = redshift_law(type_index, mag_i)
    shape = 1.0 + 1.0 / alpha
    uniform = 1.0 - rng.random(len(alpha))  # (0, 1]: z = 0 never occurs
    t = special.gammaincinv(shape, uniform * special.gammainc(shape, (z_max / z0) ** alpha))
    return np.minimum(z0 * t ** (1.0 / alpha), z_max)


def draw_ebv(rng: np.random.Generator, type_index: np.ndarray, ebv_max: float) -> np.ndarray:
    """Extra reddening E(B-V) [mag] on [0, ebv_max], shape (n,): an exponential truncated at `ebv_max`.

    The templates of Brown et al. are observed galaxies and carry their own dust, so the extra amount is
    small: none for E/S0, a scale of 0.10 (Sbc) and 0.15 (Scd, Irr) for the rest, which leaves 3 % of the
        latter above 0.5.
    """
    scale = _column("ebv_scale")[type_index]
    uniform = rng.random(len(scale))
    safe = np.where(scale > 0.0, scale, 1.0)
    return np.where(scale > 0.0, -safe * np.log1p(uniform * np.expm1(-ebv_max / safe)), 0.0)
