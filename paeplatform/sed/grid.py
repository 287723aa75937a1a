"""Wavelength grids, and rebinning onto them that conserves flux.

Rebinning takes the mean over the cell around each node, exact for a piecewise linear spectrum, instead of
sampling it: a line narrower than a cell keeps its flux, though not its place. It is spread over its cell, whose
middle lies up to half a step from it.
"""

from __future__ import annotations

import numpy as np

from paeplatform.config import RestGridConfig
from paeplatform.sed.library import TemplateLibrary

# The range the packaged templates are stored on: the rest grid and its outer half cells, with a margin.
HIRES_WAVE_MIN_UM = 0.09
HIRES_WAVE_MAX_UM = 5.2
HIRES_DLN_WAVE = 5e-4  # 150 km/s, below the width of a line; SPHEREx at R = 130 resolves 2300 km/s


def rest_grid(cfg: RestGridConfig) -> np.ndarray:
    """The rest-frame grid of the training spectra, (n_wave,) [um]; the paper's (section III) is linear.

    On the paper's steps of 0.01 um, 1.5 % of a wavelength at H alpha, lines lie up to 0.7 % off, and so do the
    redshifts of galaxies with strong lines. Steps even in ln(wave) are as fine at every line.
    """
    if cfg.spacing == "linear":
        return np.linspace(cfg.wave_min_um, cfg.wave_max_um, cfg.n_wave)
    return np.geomspace(cfg.wave_min_um, cfg.wave_max_um, cfg.n_wave)


def hires_grid() -> np.ndarray:
    """The logarithmic grid on which photometry of single templates is made, (n_hires,) [um]."""
    n_hires = int(np.ceil(np.log(HIRES_WAVE_MAX_UM / HIRES_WAVE_MIN_UM) / HIRES_DLN_WAVE)) + 1
    return np.geomspace(HIRES_WAVE_MIN_UM, HIRES_WAVE_MAX_UM, n_hires)


def cell_edges(grid: np.ndarray) -> np.ndarray:
    """Borders of the cells of a grid, (n + 1,): midway between nodes; the end cells are symmetric."""
    middle = 0.5 * (grid[1:] + grid[:-1])
    return np.concatenate([[2 * grid[0] - middle[0]], middle, [2 * grid[-1] - middle[-1]]])


def rebin(wave: np.ndarray, flux: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Mean of a piecewise linear spectrum over each cell of a grid: exact, so flux is conserved.

    Args:
        wave: (n,) strictly increasing [um].
        flux: (..., n) flux density on `wave`; held constant beyond its ends.
        grid: (n_grid,) strictly increasing [um].

    Returns:
        (..., n_grid) float64 cell means, in the units of `flux`.
    """
    wave = np.asarray(wave, dtype=np.float64)
    flux = np.asarray(flux, dtype=np.float64)
    edges = cell_edges(np.asarray(grid, dtype=np.float64))
    pad_low, pad_high = min(edges[0], wave[0]) - 1.0, max(edges[-1], wave[-1]) + 1.0
    wave = np.concatenate([[pad_low], wave, [pad_high]])
    flux = np.concatenate([flux[..., :1], flux, flux[..., -1:]], axis=-1)

    widths = np.diff(wave)
    segment = np.searchsorted(wave, edges, side="right") - 1
    offset = edges - wave[segment]
    slope = np.diff(flux, axis=-1) / widths
    # The pads are wide; they are kept out of the running sum, where they would cost digits.
    areas = 0.5 * (flux[..., 1:] + flux[..., :-1]) * widths
    areas[..., 0] = 0.0
    running = np.concatenate([np.zeros((*flux.shape[:-1], 1)), np.cumsum(areas, axis=-1)], axis=-1)
    within = flux[..., segment] * offset + 0.5 * slope[..., segment] * offset**2
    within -= np.where(segment == 0, flux[..., :1] * widths[0], 0.0)
    return np.diff(running[..., segment] + within, axis=-1) / np.diff(edges)


def library_on_grid(library: TemplateLibrary, grid: np.ndarray) -> np.ndarray:
    """Every template as cell means on one grid, (n_template, n_grid) float64 f_nu."""
    return np.stack([rebin(wave, flux, grid) for wave, flux in zip(library.wave, library.flux, strict=True)])
