"""Bands, filters, the rest grid and galaxy spectra on it, made once for the tests of this folder."""

from __future__ import annotations

import numpy as np
import pytest

from paeplatform.config import RestGridConfig
from paeplatform.instrument.bands import BandSet, load_bands
from paeplatform.instrument.filters import FilterCurves, gaussian_filters
from paeplatform.sed.dust import DUST_LAWS
from paeplatform.sed.grid import library_on_grid, rest_grid
from paeplatform.sed.library import load_library
from paeplatform.sed.spectra import attenuated_spectra


@pytest.fixture(scope="session")
def bands() -> BandSet:
    return load_bands()


@pytest.fixture(scope="session")
def filters(bands: BandSet) -> FilterCurves:
    return gaussian_filters(bands)


@pytest.fixture(scope="session")
def wave() -> np.ndarray:
    return rest_grid(RestGridConfig())


@pytest.fixture(scope="session")
def galaxies(wave: np.ndarray) -> np.ndarray:
    """The packaged templates under random dust, E(B-V) in 0-1: (n_template, n_wave) float64."""
    rng = np.random.default_rng(11)
    templates = library_on_grid(load_library(), wave)
    n = len(templates)
    law, ebv = rng.integers(0, len(DUST_LAWS), n), rng.uniform(0.0, 1.0, n)
    return attenuated_spectra(templates, wave, np.arange(n), law, ebv).astype(np.float64)
