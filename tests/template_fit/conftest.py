"""A grid small enough for the formula written out, and mock galaxies seen through it."""

import numpy as np
import pytest

from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.filters import gaussian_filters
from paeplatform.sed.library import TemplateLibrary, load_library
from paeplatform.template_fit.grid import TemplateGridConfig, build_template_grid

TEMPLATES = slice(None, None, 20)  # 8 of the 160, of both sets
CONFIG = TemplateGridConfig(z_max=3.0, z_step=0.03, ebv_step=0.1)


@pytest.fixture(scope="session")
def library():
    every = load_library()
    parts = (every.name, every.source, every.licence, every.wave, every.flux)
    return TemplateLibrary(*(part[TEMPLATES] for part in parts))


@pytest.fixture(scope="session")
def filters():
    return gaussian_filters(load_bands())


@pytest.fixture(scope="session")
def grid(library, filters):
    return build_template_grid(library, filters, CONFIG, progress=False)


@pytest.fixture(scope="session")
def depth():
    return load_bands().depth("mev")


@pytest.fixture(scope="session")
def all_models(grid):
    """(z, template, law, ebv, band) float64."""
    z, template = np.divmod(np.arange(len(grid.config.z) * len(grid.name)), len(grid.name))
    return grid.models(z, template).reshape(len(grid.config.z), len(grid.name), 3, -1, grid.n_band)


@pytest.fixture(scope="session")
def sources(grid, all_models, depth):
    """36 galaxies of the grid with noise, total SNR 5-200, and which models they are."""
    rng = np.random.default_rng(5)
    n = 36
    where = np.column_stack([rng.integers(size, size=n) for size in all_models.shape[:4]])
    where[:, 0] = np.maximum(where[:, 0], 2)
    flux_err = np.tile(depth, (n, 1))
    truth = all_models[tuple(where.T)]
    snr = np.repeat([5.0, 20.0, 60.0, 200.0], n // 4)
    truth *= (snr / np.sqrt(np.sum((truth / flux_err) ** 2, axis=1)))[:, None]
    return truth + flux_err * rng.normal(size=truth.shape), flux_err, where
