"""How many sources of each class there are on the sky: the prior of the classification.

Numbers of each class per square degree and magnitude at the AB magnitude J near 1.2 um, where all four classes have
flux. They are meant to be right within a factor of two, 0.7 in the ln of the odds: spectra with a total signal-to-noise
above 20 usually differ by far more.

- Galaxies: 1,500 at i = 20, rising by 10^(0.36 i) as in deep fields (Capak et al. 2007, ApJS 172, 99) and by 10^(0.6 i)
  below i = 18 (Yasuda et al. 2001, AJ 122, 1104); i - J = 0.6.
- Quasars: a double power law in i, slopes 0.8 and 0.2, break at i = 19.2 with 14.5 there. It has 9 brighter than the
  break (Richards et al. 2006, AJ 131, 2766) and 174 to i = 22.2, as the 176 with g < 22.5 of Palanque-Delabrouille et
  al. 2013 (A&A 551, A29); i - J = 0.3.
- Stars: exponential discs with the luminosity function of Bahcall & Soneira 1980 (ApJS 44, 73): scale height 90 pc for
  bright stars, 300 pc from M_V = 5 on, and a thick disc, 12 % of the stars later than M_V = 4, with 900 pc (Juric et
  al. 2008, ApJ 673, 864). There is no halo, no dust and no dependence on the Galactic longitude.
- Brown dwarfs, M7 and later: 4.9e-3 / pc^3 of M7-M9.5 and 3.8e-3 of L (Cruz et al. 2007, AJ 133, 439), 5e-3 of T (near
  Kirkpatrick et al. 2021, ApJS 253, 7), scale height 300 pc.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.special import gamma

from paeplatform.catalog.population import GALAXY_TYPES, redshift_law, type_fractions
from paeplatform.classes.grid import CLASSES
from paeplatform.errors import ConfigError
from paeplatform.instrument.bands import BandSet

AB_ZERO_UJY = 23.9  # AB magnitude of 1 uJy
DEFAULT_LATITUDE_DEG = 45.0  # where the position is not known
LATITUDE_MIN_DEG = 5.0  # the discs are not followed closer to the plane
MAG_MIN, MAG_MAX = 8.0, 25.0  # limits within which counts are used
MAG_RANGE_UM = (1.1, 1.35)
I_MINUS_J_GALAXY, I_MINUS_J_QUASAR = 0.6, 0.3
REDSHIFT_FLOOR = 0.002
POLE_RA_DEG, POLE_DEC_DEG = 192.85948, 27.12825  # of the Galaxy, J2000
J_AB_MINUS_VEGA = 0.94
SQUARE_DEGREE_SR = (np.pi / 180.0) ** 2
# main sequence: M_V and M_J (Vega), rounded from Pecaut & Mamajek 2013 (ApJS 208, 9)
MAIN_SEQUENCE = np.array(
    [
        (-3.0, -2.4),
        (1.5, 1.3),
        (4.8, 3.7),
        (7.0, 5.2),
        (9.0, 6.2),
        (11.0, 7.3),
        (13.0, 8.7),
        (15.0, 9.7),
        (17.0, 10.4),
    ]
)
# M_J (Vega) from, to, number density [pc^-3]
BROWN_DWARFS = ((10.4, 11.7, 4.9e-3), (11.7, 14.3, 3.8e-3), (14.3, 16.5, 5.0e-3))
THIN_PC, BRIGHT_PC, THICK_PC, THICK_SHARE = 300.0, 90.0, 900.0, 0.12


def class_counts(
    mag: Float[np.ndarray, " source"], latitude_deg: Float[np.ndarray, " source"]
) -> Float[np.ndarray, "source 4"]:
    """Sources per square degree and magnitude, in the order of `CLASSES`.

    Args:
        mag: AB magnitudes near 1.2 um; taken to within 8-25.
        latitude_deg: Galactic latitudes b, either sign; abs(b) is taken to be at least 5.
    """
    mag = np.clip(np.asarray(mag, np.float64), MAG_MIN, MAG_MAX)
    sine = np.sin(np.radians(np.maximum(np.abs(latitude_deg), LATITUDE_MIN_DEG)))
    i_galaxy, i_quasar = mag + I_MINUS_J_GALAXY, mag + I_MINUS_J_QUASAR - 19.2
    galaxy = 1500.0 * 10.0 ** (
        0.36 * (np.maximum(i_galaxy, 18.0) - 20.0) + 0.6 * np.minimum(i_galaxy - 18.0, 0.0)
    )
    quasar = 29.0 / (10.0 ** (-0.8 * i_quasar) + 10.0 ** (-0.2 * i_quasar))
    counts = {
        "galaxy": galaxy,
        "quasar": quasar,
        "star": _star_counts(mag, sine),
        "brown_dwarf": _dwarf_counts(mag, sine),
    }
    return np.stack([counts[name] for name in CLASSES], axis=-1)


def galaxy_redshift_density(
    z: Float[np.ndarray, " z"], mag: Float[np.ndarray, " source"]
) -> Float[np.ndarray, "source z"]:
    """p(z | m) of galaxies: LePHARE's law of types and redshifts (`catalog.population`) at i = J + 0.6.

    It forbids what counts alone do not: a galaxy at z = 2.5 that is as bright as J = 20. A floor of 0.002 up to z = 6
    stands for the few that the law leaves out.

    Args:
        z: redshifts above 0.
        mag: AB magnitudes near 1.2 um.

    Returns:
        Densities, which integrate to 1 over z up to the floor's 1 %.
    """
    kinds, mag_i = np.arange(len(GALAXY_TYPES)), np.clip(mag, MAG_MIN, MAG_MAX) + I_MINUS_J_GALAXY
    share = type_fractions(mag_i)  # source, type
    density = np.full((len(mag_i), len(z)), REDSHIFT_FLOOR)
    for kind in kinds:
        alpha, z0 = redshift_law(np.full(len(mag_i), kind), mag_i)
        ratio = (z / z0[:, None]) ** alpha[:, None]
        norm = alpha / (z0 * gamma(1.0 + 1.0 / alpha))
        density += (share[:, kind] * norm)[:, None] * ratio * np.exp(-ratio)
    return density


def galactic_latitude(
    ra_deg: Float[np.ndarray, " source"], dec_deg: Float[np.ndarray, " source"]
) -> Float[np.ndarray, " source"]:
    """Galactic latitude b [deg] of J2000 positions [deg]; 45 where a position is NaN.

    Raises:
        ConfigError: a declination is outside of -90 to 90; names the row.
    """
    ra, dec = (np.radians(np.asarray(part, np.float64)) for part in (ra_deg, dec_deg))
    outside = np.abs(dec) > np.pi / 2.0 + 1e-9
    if outside.any():
        row = int(np.argmax(outside))
        raise ConfigError(f"dec_deg, row {row}: {np.degrees(dec[row]):g} must be within -90 and 90")
    pole_ra, pole_dec = np.radians(POLE_RA_DEG), np.radians(POLE_DEC_DEG)
    sine = np.sin(dec) * np.sin(pole_dec) + np.cos(dec) * np.cos(pole_dec) * np.cos(ra - pole_ra)
    latitude = np.degrees(np.arcsin(np.clip(sine, -1.0, 1.0)))
    return np.where(np.isfinite(latitude), latitude, DEFAULT_LATITUDE_DEG)


def reference_magnitude(
    flux: Float[np.ndarray, "source band"],
    flux_err: Float[np.ndarray, "source band"],
    usable: np.ndarray,
    bands: BandSet,
) -> Float[np.ndarray, " source"]:
    """AB magnitude of the mean flux in 1.1-1.35 um, weighted by 1/sigma^2.

    A source without a usable channel there takes the mean of all its channels. A mean below twice its error counts as
    twice its error. A source without any usable band has NaN.

    Args:
        flux: [uJy].
        flux_err: 1 sigma [uJy].
        usable: (source, band) bands to use.
        bands: the channels.
    """
    inside = (bands.wave_um >= MAG_RANGE_UM[0]) & (bands.wave_um <= MAG_RANGE_UM[1])
    near = usable & inside
    use = np.where(near.any(axis=1, keepdims=True), near, usable)
    weight = np.where(use, 1.0 / np.where(use, flux_err, 1.0) ** 2, 0.0)
    total = weight.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.sum(weight * np.where(use, flux, 0.0), axis=1) / total
        mean = np.maximum(mean, 2.0 / np.sqrt(total))
        return AB_ZERO_UJY - 2.5 * np.log10(mean)


def luminosity_function(mag_v: Float[np.ndarray, " mag"]) -> Float[np.ndarray, " mag"]:
    """Disc stars per pc^3 and magnitude at absolute magnitudes M_V (Bahcall & Soneira 1980, equation 1)."""
    above = np.minimum(mag_v, 15.0) - 1.28  # constant beyond 15
    return 4.03e-3 * 10.0 ** (0.04 * above) / (1.0 + 10.0 ** (-(0.74 - 0.04) * above / 3.40)) ** 3.40


def _star_counts(mag: np.ndarray, sine: np.ndarray) -> np.ndarray:
    step = 0.25
    mag_v = np.arange(-3.0, 16.5 + step / 2.0, step)
    mag_j = np.interp(mag_v, *MAIN_SEQUENCE.T) + J_AB_MINUS_VEGA
    density = step * luminosity_function(mag_v)
    height = np.clip(BRIGHT_PC + (THIN_PC - BRIGHT_PC) * (mag_v - 2.3) / 2.7, BRIGHT_PC, THIN_PC)
    thick = np.where(mag_v >= 4.0, THICK_SHARE, 0.0)
    return _disc_counts(mag, sine, mag_j, density * (1.0 - thick), height) + _disc_counts(
        mag, sine, mag_j, density * thick, np.full_like(height, THICK_PC)
    )


def _dwarf_counts(mag: np.ndarray, sine: np.ndarray) -> np.ndarray:
    parts = []
    for first, last, density in BROWN_DWARFS:
        at = np.linspace(first, last, 11)
        middle = 0.5 * (at[1:] + at[:-1]) + J_AB_MINUS_VEGA
        parts.append(np.stack([middle, np.full(10, density / 10.0)]))
    mag_j, density = np.concatenate(parts, axis=1)
    return _disc_counts(mag, sine, mag_j, density, np.full_like(mag_j, THIN_PC))


def _disc_counts(
    mag: np.ndarray, sine: np.ndarray, absolute: np.ndarray, density: np.ndarray, height_pc: np.ndarray
) -> np.ndarray:
    """Per square degree and magnitude: sum over populations of density r^3 exp(-r sin b / h) ln(10)/5, r of m - M."""
    distance = 10.0 ** (0.2 * (mag[:, None] - absolute) + 1.0)
    fall = np.exp(-distance * sine[:, None] / height_pc)
    return SQUARE_DEGREE_SR * np.log(10.0) / 5.0 * np.sum(density * distance**3 * fall, axis=1)
