"""Catalogue photometry against the oracle on its own log-uniform grid."""

from __future__ import annotations

import numpy as np
import pytest

from paeplatform.errors import BandSetError
from paeplatform.instrument.bulk import BulkPhotometer
from paeplatform.instrument.exact import exact_photometry
from paeplatform.instrument.filters import FilterCurves
from paeplatform.sed.grid import hires_grid, library_on_grid
from paeplatform.sed.library import load_library


@pytest.fixture(scope="module")
def hires() -> np.ndarray:
    return hires_grid()


@pytest.fixture(scope="module")
def photometer(hires: np.ndarray, filters: FilterCurves) -> BulkPhotometer:
    return BulkPhotometer(hires, filters)


def test_galaxies_with_lines_agree_with_the_oracle_to_1e_4(
    photometer: BulkPhotometer, hires: np.ndarray, filters: FilterCurves
) -> None:
    spectra = library_on_grid(load_library(), hires)[::2]
    z = np.random.default_rng(2).uniform(0.0, 3.0, len(spectra))
    z[:2] = 0.0, np.expm1(7 * 5e-4)  # no shift, and whole steps
    exact = np.array([exact_photometry(hires, s, zi, filters) for s, zi in zip(spectra, z, strict=True)])
    np.testing.assert_allclose(photometer.photometry(spectra, z), exact, rtol=1e-4)


def test_one_cell_lines_and_white_noise_stay_within_the_operators_tolerance(
    photometer: BulkPhotometer, hires: np.ndarray, filters: FilterCurves
) -> None:
    rng = np.random.default_rng(3)
    spectra = rng.uniform(0.5, 1.5, (30, len(hires)))
    spectra[:, rng.integers(0, len(hires), 200)] *= 30.0
    z = rng.uniform(0.0, 3.0, len(spectra))
    exact = np.array([exact_photometry(hires, s, zi, filters) for s, zi in zip(spectra, z, strict=True)])
    error = np.abs(photometer.photometry(spectra, z) / exact - 1.0)
    assert error.max() < 1e-3
    assert np.sqrt(np.mean(error**2)) < 1e-4


def test_result_does_not_depend_on_batch_mates_or_dtype(
    photometer: BulkPhotometer, hires: np.ndarray
) -> None:
    rng = np.random.default_rng(4)
    spectra = rng.uniform(0.5, 1.5, (150, len(hires))).astype(np.float32)
    z = rng.uniform(0.0, 3.0, 150)
    together = photometer.photometry(spectra, z)
    alone = np.concatenate([photometer.photometry(spectra[i : i + 1], z[i : i + 1]) for i in (0, 77, 149)])
    np.testing.assert_array_equal(together[[0, 77, 149]], alone)
    np.testing.assert_array_equal(photometer.photometry(spectra.astype(np.float64), z), together)


def test_spectrum_is_held_constant_beyond_the_grid(photometer: BulkPhotometer, hires: np.ndarray) -> None:
    spectrum = np.ones((1, len(hires)))
    np.testing.assert_allclose(photometer.photometry(spectrum, np.array([12.0])), 1.0, rtol=1e-12)


def test_bad_input_is_refused(photometer: BulkPhotometer, hires: np.ndarray, filters: FilterCurves) -> None:
    with pytest.raises(BandSetError, match="uniform in ln"):
        BulkPhotometer(np.linspace(0.1, 5.2, 500), filters)
    with pytest.raises(BandSetError, match="filters span"):
        BulkPhotometer(hires[:-200], filters)
    with pytest.raises(BandSetError, match="z, row 1"):
        photometer.photometry(np.ones((2, len(hires))), np.array([0.5, np.nan]))
    with pytest.raises(BandSetError, match="must be"):
        photometer.photometry(np.ones((2, 5)), np.zeros(2))
