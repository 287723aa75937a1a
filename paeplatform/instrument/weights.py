"""Exact filter weights of a piecewise-linear spectrum, from moments of the filter (float64, no quadrature).

For a spectrum linear between grid points x_i the band flux is a weighted sum of its grid values. With the
filter's cumulative moments P(lam) = int T dlam/lam and Q(lam) = int T dlam, both closed forms for a tabulated
filter, the cell [x_i, x_i+1] seen at redshift z gives its right end the weight (dQ/(1+z) - x_i dP) / h and
its left end the rest of dP, where dP, dQ are taken between the cell's observed ends. The derivative in s =
ln(1+z) is as short: only the slope of the spectrum enters, so the right end gets -dQ / ((1+z) h) and the left
end the opposite.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from paeplatform.instrument.filters import FilterCurves


@dataclass(frozen=True, eq=False)
class BandWeights:
    """Weights of one band at n_redshift redshifts on a window of grid points.

    `value` and `slope` (d value / d ln(1+z)) have shape (n_redshift, n_window); column k of row r belongs to
    grid point `start[r] + k`. Values sum to one along a row, slopes to zero.
    """

    start: np.ndarray
    value: np.ndarray
    slope: np.ndarray


class FilterMoments:
    """Cumulative moments of one tabulated filter, normalised by int T dlam/lam."""

    def __init__(self, wave: np.ndarray, transmission: np.ndarray) -> None:
        self._wave = wave
        self._rise = np.diff(transmission) / np.diff(wave)
        self._level = transmission[:-1] - self._rise * wave[:-1]
        left, right = wave[:-1], wave[1:]
        cell_p = self._level * np.log(right / left) + self._rise * (right - left)
        cell_q = self._level * (right - left) + 0.5 * self._rise * (right**2 - left**2)
        self._p = np.concatenate([[0.0], np.cumsum(cell_p)])
        self._q = np.concatenate([[0.0], np.cumsum(cell_q)])
        self.norm = self._p[-1]

    def __call__(self, wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """P and Q at `wave` (any shape), constant outside the table."""
        lam = np.clip(wave, self._wave[0], self._wave[-1])
        cell = np.clip(np.searchsorted(self._wave, lam, side="right") - 1, 0, len(self._rise) - 1)
        left, level, rise = self._wave[cell], self._level[cell], self._rise[cell]
        p = self._p[cell] + level * np.log(lam / left) + rise * (lam - left)
        q = self._q[cell] + level * (lam - left) + 0.5 * rise * (lam**2 - left**2)
        return p / self.norm, q / self.norm


def band_weights(
    wave: np.ndarray, nodes: np.ndarray, transmission: np.ndarray, ln_1z: np.ndarray
) -> BandWeights:
    """Exact weights of one band on the rest grid `wave` (n_wave,) at every s = ln(1+z) in `ln_1z`.

    The spectrum is held constant beyond the grid: what the filter collects there counts for the end points.
    """
    moments = FilterMoments(nodes, transmission)
    factor = np.exp(ln_1z)[:, None]
    first = np.searchsorted(wave, nodes[0] / factor[:, 0], side="right") - 1
    last = np.searchsorted(wave, nodes[-1] / factor[:, 0], side="left")
    n_window = min(int(np.max(last - first)) + 1, len(wave))
    start = np.clip(first, 0, len(wave) - n_window)
    point = wave[start[:, None] + np.arange(n_window)]
    p, q = moments(point * factor)
    d_p, d_q = np.diff(p, axis=1), np.diff(q, axis=1) / factor
    width, left = np.diff(point, axis=1), point[:, :-1]
    right_value, right_slope = (d_q - left * d_p) / width, -d_q / width
    value, slope = np.zeros_like(point), np.zeros_like(point)
    value[:, 1:] += right_value
    value[:, :-1] += d_p - right_value
    value[:, 0] += p[:, 0]
    value[:, -1] += 1.0 - p[:, -1]
    slope[:, 1:] += right_slope
    slope[:, :-1] -= right_slope
    return BandWeights(start=start, value=value, slope=slope)


def all_band_weights(wave: np.ndarray, filters: FilterCurves, ln_1z: np.ndarray) -> list[BandWeights]:
    """`band_weights` of every filter."""
    wave = np.asarray(wave, dtype=np.float64)
    return [
        band_weights(wave, *curve, ln_1z) for curve in zip(filters.wave, filters.transmission, strict=True)
    ]


def as_sparse(weights: np.ndarray, start: np.ndarray, n_wave: int) -> sparse.csr_array:
    """Windowed weights (n_row, n_window) as a sparse (n_row, n_wave) matrix."""
    n_row, n_window = weights.shape
    columns = start[:, None] + np.arange(n_window)
    offsets = np.arange(n_row + 1) * n_window
    return sparse.csr_array((weights.ravel(), columns.ravel(), offsets), shape=(n_row, n_wave))
