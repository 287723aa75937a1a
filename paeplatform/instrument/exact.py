"""The oracle: band fluxes integrated exactly in float64, against which the fast operators are tested."""

from __future__ import annotations

import numpy as np

from paeplatform.instrument.filters import FilterCurves

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


def exact_photometry(wave: np.ndarray, flux_nu: np.ndarray, z: float, filters: FilterCurves) -> np.ndarray:
    """Photon-weighted band fluxes of a rest-frame spectrum seen at redshift z (paper eq. 3, written in f_nu).

    F_b = int T_b(lam) f_nu(lam / (1+z)) dlam/lam / int T_b(lam) dlam/lam. Spectrum and filter are piecewise
    linear, so between merged nodes the integrand is a quadratic over lam; eight Gauss-Legendre points reach
    float64 rounding there.

    Args:
        wave: (n_wave,) rest-frame wavelength [um], increasing, any spacing.
        flux_nu: (n_wave,) flux density per unit frequency; held constant beyond the ends of `wave`.
        z: redshift, > -1.
        filters: n_band tabulated curves.

    Returns:
        (n_band,) float64 in the unit of `flux_nu`; the factor (1+z) and the distance are left to the
        amplitude.
    """
    wave, flux_nu = np.asarray(wave, dtype=np.float64), np.asarray(flux_nu, dtype=np.float64)
    observed = wave * (1.0 + float(z))
    fluxes = np.empty(len(filters))
    for band, (nodes, transmission) in enumerate(zip(filters.wave, filters.transmission, strict=True)):
        inside = observed[(observed > nodes[0]) & (observed < nodes[-1])]
        edges = np.unique(np.concatenate([nodes, inside]))
        half = 0.5 * np.diff(edges)[:, None]
        lam = 0.5 * (edges[1:] + edges[:-1])[:, None] + half * _NODES
        weight = half * _WEIGHTS * np.interp(lam, nodes, transmission) / lam
        fluxes[band] = np.sum(weight * np.interp(lam, observed, flux_nu)) / np.sum(weight)
    return fluxes
