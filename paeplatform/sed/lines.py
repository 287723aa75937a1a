"""Nebular emission lines for templates that have none (the COSMOS set), tied to their own ultraviolet light.

The scheme is that of Ilbert et al. 2009 (ApJ 690, 1236, section 3.2): dust-free ultraviolet luminosity ->
star formation rate -> [O II] luminosity -> every other line by a fixed ratio. Line luminosity is proportional
to ultraviolet luminosity *density*, so no absolute scale is needed:

    F([O II] 3727) = OII_PER_UV_HZ * f_nu(0.23 um).

Ilbert et al. give log F([O II]) = -0.4 M_UV + 10.65 - 0.4 DM(z), with F in 1e-17 erg/s/cm2 and M_UV the
dust-corrected AB magnitude at 2300 A. With f_nu = 10^(-0.4 (M_UV + DM + 48.60)) the factor is 10^(10.65 - 17
+ 19.44) = 10^13.09 Hz. The two relations of Kennicutt 1998 (ARA&A 36, 189; SFR = 1.4e-28 L_nu(UV) = 1.4e-41
L([O II])) alone give 10^13.00 Hz; the lines of real galaxies scatter by more than a factor of two about
either.

Ratios in `LINES`:
- Hbeta, [O III] 5007, Halpha to [O II]: 0.61, 0.36, 1.77, those of Ilbert et al. 2009;
- [O III] 5007/4959 = 2.98 and [N II] 6584/6548 = 3.05 (Storey & Zeippen 2000, MNRAS 312, 813);
- other hydrogen lines to Hbeta: case B, 10^4 K, 100 cm^-3 (Osterbrock & Ferland 2006, table 4.4);
- [N II] 6584, [S II] 6717, [S II] 6731 to Halpha: 0.30, 0.18, 0.14, round numbers for integrated spectra of
  star-forming galaxies (Kennicutt 1992, ApJ 388, 310; Moustakas & Kennicutt 2006, ApJS 164, 81).

Left out: Lyman alpha (it enters the SPHEREx range only at z > 5, and how much of it escapes is not
predictable), He I and [S III] (their ratios vary too much to state one). The spectra of Brown+2014 carry
their lines and the 3.3 um PAH feature as observed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SPEED_OF_LIGHT_UM_HZ = 2.99792458e14
SPEED_OF_LIGHT_KM_S = 2.99792458e5
OII_PER_UV_HZ = 10**13.09
UV_WAVE_UM = 0.23
LINE_SIGMA_KM_S = 200.0
# Redder than this a galaxy is of the E/S0 class of LePHARE's redshift prior (which draws the lines only to
# 4.0): its ultraviolet light is that of old stars, Kennicutt's relation does not hold, and it gets no lines.
QUIESCENT_NUV_R = 4.25


@dataclass(frozen=True)
class EmissionLine:
    """One line: vacuum wavelength [um] and flux in units of [O II] 3727."""

    name: str
    wave_um: float
    ratio: float


_HBETA, _HALPHA = 0.61, 1.77
_OII_SPLIT = 1.0 / 2.35  # 3729/3726 = 1.35, common in H II regions; the pair adds to 1

LINES = (
    EmissionLine("[OII]3726", 0.372709, _OII_SPLIT),
    EmissionLine("[OII]3729", 0.372988, 1.0 - _OII_SPLIT),
    EmissionLine("Hdelta", 0.410289, 0.259 * _HBETA),
    EmissionLine("Hgamma", 0.434168, 0.468 * _HBETA),
    EmissionLine("Hbeta", 0.486268, _HBETA),
    EmissionLine("[OIII]4959", 0.496030, 0.36 / 2.98),
    EmissionLine("[OIII]5007", 0.500824, 0.36),
    EmissionLine("[NII]6548", 0.654986, 0.30 * _HALPHA / 3.05),
    EmissionLine("Halpha", 0.656461, _HALPHA),
    EmissionLine("[NII]6584", 0.658527, 0.30 * _HALPHA),
    EmissionLine("[SII]6717", 0.671829, 0.18 * _HALPHA),
    EmissionLine("[SII]6731", 0.673267, 0.14 * _HALPHA),
    EmissionLine("Pdelta", 1.00521, 0.0555 * _HBETA),
    EmissionLine("Pgamma", 1.09411, 0.0904 * _HBETA),
    EmissionLine("Pbeta", 1.28216, 0.163 * _HBETA),
    EmissionLine("Palpha", 1.87561, 0.339 * _HBETA),
    EmissionLine("Brgamma", 2.16612, 0.0278 * _HBETA),
    EmissionLine("Brbeta", 2.62587, 0.0455 * _HBETA),
    EmissionLine("Bralpha", 4.05228, 0.0802 * _HBETA),
)


def nuv_minus_r(wave: np.ndarray, flux: np.ndarray) -> float:
    """Rest-frame NUV - r [AB mag] in boxes, 0.21-0.25 and 0.55-0.65 um, as in LePHARE's galaxy types.

    Args:
        wave: (n,) [um], covering the boxes.
        flux: (n,) f_nu, any scale.
    """
    return float(-2.5 * np.log10(_box_flux(wave, flux, 0.21, 0.25) / _box_flux(wave, flux, 0.55, 0.65)))


def add_emission_lines(wave: np.ndarray, flux: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Adds `LINES` to a dust-free, line-free template; quiescent templates come back unchanged.

    Each line is a Gaussian of `LINE_SIGMA_KM_S` on extra nodes every half sigma, scaled so that its flux is
    exact in the piecewise linear spectrum.

    Args:
        wave: (n,) strictly increasing [um].
        flux: (n,) f_nu, any scale.

    Returns:
        wave and flux with the added nodes, and whether lines were added.
    """
    if nuv_minus_r(wave, flux) > QUIESCENT_NUV_R:
        return wave, flux, False
    present = [line for line in LINES if wave[0] < line.wave_um * 0.99 and line.wave_um * 1.01 < wave[-1]]
    sigma_over_wave = LINE_SIGMA_KM_S / SPEED_OF_LIGHT_KM_S
    offsets = np.arange(-9, 10) * 0.5 * sigma_over_wave
    nodes = _merged(wave, np.concatenate([line.wave_um * (1.0 + offsets) for line in present]))
    continuum = np.interp(nodes, wave, flux)
    oii_flux = OII_PER_UV_HZ * float(np.interp(UV_WAVE_UM, wave, flux))
    total = continuum.copy()
    for line in present:
        x = (nodes / line.wave_um - 1.0) / sigma_over_wave
        profile = np.where(np.abs(x) < 4.75, np.exp(-0.5 * x**2), 0.0)
        unit_flux = np.trapezoid(profile * SPEED_OF_LIGHT_UM_HZ / nodes**2, nodes)  # int f_nu dnu
        total += profile * oii_flux * line.ratio / unit_flux
    return nodes, total, True


def _merged(wave: np.ndarray, extra: np.ndarray) -> np.ndarray:
    """Sorted union without the extra nodes within 5 km/s of another, which float32 storage might merge."""
    keep = [wave]
    taken = np.sort(wave)
    for node in np.sort(extra):
        i = int(np.searchsorted(taken, node))
        near = taken[max(i - 1, 0) : i + 1]
        if np.all(np.abs(near / node - 1.0) > 1.7e-5):
            taken = np.insert(taken, i, node)
            keep.append(np.array([node]))
    return np.sort(np.concatenate(keep))


def _box_flux(wave: np.ndarray, flux: np.ndarray, low_um: float, high_um: float) -> float:
    """Mean f_nu through a box, photon-weighted."""
    nodes = np.linspace(low_um, high_um, 401)
    return float(np.trapezoid(np.interp(nodes, wave, flux) / nodes, nodes) / np.log(high_um / low_um))
