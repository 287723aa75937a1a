"""Exact fluxes of one spectrum through any number of passbands, each with a centre and a width of its own.

SPHEREx's filter varies continuously over its detectors, so every exposure of a source has its own passband. Its shape
is the one that `filters.gaussian_filters` defines: a Gaussian in wavelength, cut at +-1.5 FWHM, tabulated at 61 nodes
and linear between them. The cumulative moments P(lam) = int T dlam/lam and Q(lam) = int T dlam are closed forms then,
and where the spectrum is linear between x_i and x_i+1 its cell collects f_i dP + slope_i (dQ - x_i dP), exactly, as in
`weights`. Here all passbands go through these formulas together, as one array of (passband, grid point) pairs.
"""

from __future__ import annotations

import numpy as np

from paeplatform.errors import BandSetError
from paeplatform.instrument.filters import HALF_RANGE_FWHM, N_NODES, gaussian_table

CHUNK = 512  # passbands at a time: some 80,000 pairs on the high-resolution grid, so that the arrays stay in the cache
_STEPS_PER_FWHM = (N_NODES - 1) / (2.0 * HALF_RANGE_FWHM)


def passband_fluxes(
    wave: np.ndarray, flux_nu: np.ndarray, z: float, centre: np.ndarray, width: np.ndarray
) -> np.ndarray:
    """Photon-weighted fluxes of a rest-frame spectrum at redshift z through Gaussian passbands.

    The definition is that of `exact.exact_photometry`, with which the result agrees to 1e-10: F = int T(lam)
    f_nu(lam / (1+z)) dlam/lam / int T(lam) dlam/lam. The spectrum is linear between grid points and constant beyond the
    ends of the grid.

    Args:
        wave: (n_wave,) rest-frame wavelengths [um], increasing, of any spacing.
        flux_nu: (n_wave,) flux density per unit frequency.
        z: redshift, > -1.
        centre: (n,) central wavelengths of the passbands [um], observed frame.
        width: (n,) full widths at half maximum of the passbands [um].

    Returns:
        (n,) float64 in the unit of `flux_nu`. As in `exact_photometry`, the factor (1+z) and the distance are left to
        the amplitude.

    Raises:
        BandSetError: the shapes do not fit, or a passband is not finite, has no positive width, or reaches down to
            wavelength zero. The message names the passband, counted from 1.
    """
    observed = np.asarray(wave, dtype=np.float64) * (1.0 + float(z))
    flux_nu, centre, width = (np.asarray(one, dtype=np.float64) for one in (flux_nu, centre, width))
    if observed.ndim != 1 or flux_nu.shape != observed.shape:
        raise BandSetError(f"wave {observed.shape} and flux_nu {flux_nu.shape} must share a shape (n_wave,)")
    if centre.ndim != 1 or width.shape != centre.shape:
        raise BandSetError(f"centre {centre.shape} and width {width.shape} must share a shape (n,)")
    good = np.isfinite(centre) & (width > 0.0) & (centre - HALF_RANGE_FWHM * width > 0.0)
    if not good.all():
        which = int(np.argmin(good))
        raise BandSetError(
            f"passband {which + 1}: centre {centre[which]:g} um and width {width[which]:g} um must be finite, "
            f"the width positive and the centre above {HALF_RANGE_FWHM:g} widths"
        )
    slope = np.diff(flux_nu) / np.diff(observed)
    slope = np.append(slope, 0.0)  # the spectrum is constant beyond its last point
    fluxes = np.empty(len(centre))
    for low in range(0, len(centre), CHUNK):
        part = slice(low, low + CHUNK)
        fluxes[part] = _fluxes(observed, flux_nu, slope, centre[part], width[part])
    return fluxes


def _fluxes(
    observed: np.ndarray, flux_nu: np.ndarray, slope: np.ndarray, centre: np.ndarray, width: np.ndarray
) -> np.ndarray:
    """`passband_fluxes` of one chunk; `observed` is the grid in the observed frame, `slope` that after each point."""
    offset, table = gaussian_table()
    node = centre[:, None] + width[:, None] * offset
    left, right = node[:, :-1], node[:, 1:]
    # Between two nodes the transmission is level + rise * wavelength.
    rise = np.diff(table) / np.diff(offset) / width[:, None]
    level = table[:-1] - rise * left
    # log1p, because the logarithm of a ratio near one would lose digits that the difference of moments needs.
    cell_p = level * np.log1p((right - left) / left) + rise * (right - left)
    cell_q = level * (right - left) + 0.5 * rise * (right - left) * (right + left)
    p_before, q_before = np.cumsum(cell_p, axis=1), np.cumsum(cell_q, axis=1)
    norm = p_before[:, -1].copy()
    p_before -= cell_p
    q_before -= cell_q

    # The grid points from the last one below a passband to the first one above it, one passband after the other.
    n_wave = len(observed)
    first = np.maximum(np.searchsorted(observed, node[:, 0], side="right") - 1, 0)
    last = np.minimum(np.searchsorted(observed, node[:, -1], side="left"), n_wave - 1)
    count = last - first + 1
    ends = np.cumsum(count)
    starts = ends - count
    band = np.repeat(np.arange(len(centre)), count)
    point = np.arange(ends[-1] if len(ends) else 0) - np.repeat(starts - first, count)

    # Moments up to each point. Which cell of the table a point on a node falls in makes no difference: they meet there.
    grid = observed[point]
    lam = np.clip(grid, node[:, 0][band], node[:, -1][band])
    place = (lam - node[:, 0][band]) / width[band] * _STEPS_PER_FWHM
    cell = band * (N_NODES - 1) + np.clip(place.astype(np.int64), 0, N_NODES - 2)
    from_node = left.ravel()[cell]
    step, here_level, here_rise = lam - from_node, level.ravel()[cell], rise.ravel()[cell]
    p = p_before.ravel()[cell] + here_level * np.log1p(step / from_node) + here_rise * step
    q = q_before.ravel()[cell] + step * (here_level + 0.5 * here_rise * (lam + from_node))

    # What each passband collects between a point and the next; after its last point the spectrum is taken as constant,
    # which concerns passbands beyond the end of the grid alone.
    d_p, d_q = np.empty_like(p), np.empty_like(q)
    d_p[:-1], d_q[:-1] = np.diff(p), np.diff(q)
    d_p[ends - 1] = norm - p[ends - 1]
    flux = flux_nu[point]
    collected = flux * d_p
    inner = slope[point] * (d_q - grid * d_p)
    inner[ends - 1] = 0.0
    collected += inner
    collected[starts] += flux[starts] * p[starts]  # below the grid's first point the spectrum is constant too
    return np.add.reduceat(collected, starts) / norm if len(starts) else np.zeros(0)
