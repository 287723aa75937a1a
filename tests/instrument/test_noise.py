"""Noise has the depth asked for and repeats with its seed; unusable photometry is refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from paeplatform.errors import BandSetError
from paeplatform.instrument.bands import BandSet
from paeplatform.instrument.noise import add_noise, check_photometry, total_snr


def test_noise_is_gaussian_at_the_depth_of_each_band(bands: BandSet) -> None:
    n = 4000
    flux = np.full((n, len(bands)), 10.0)
    noisy, flux_err = add_noise(flux, bands.depth("mev"), np.random.default_rng(1))
    np.testing.assert_array_equal(flux_err, np.tile(bands.depth("mev"), (n, 1)))
    z_score = (noisy - flux) / flux_err
    assert np.abs(z_score.mean(axis=0)).max() < 5.0 / np.sqrt(n)
    assert np.abs(z_score.std(axis=0) - 1.0).max() < 5.0 / np.sqrt(2 * n)
    assert np.mean(np.abs(z_score) > 3.0) == pytest.approx(0.0027, abs=0.0005)
    assert (noisy < 0.0).any()


def test_same_seed_same_noise_and_input_untouched(bands: BandSet) -> None:
    flux = np.ones((3, len(bands)))
    one, two = (add_noise(flux, bands.depth("mev"), np.random.default_rng(7))[0] for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert np.all(flux == 1.0)


def test_total_snr_counts_usable_bands_only() -> None:
    flux = np.array([[3.0, 4.0, 100.0, np.nan, 5.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    flux_err = np.array([[1.0, 1.0, np.inf, np.nan, -1.0], [0.0, np.inf, np.nan, -2.0, np.inf]])
    np.testing.assert_allclose(total_snr(flux, flux_err), [5.0, 0.0])


@pytest.mark.parametrize("depth", [np.array([1.0, 0.0]), np.array([1.0, np.nan])])
def test_impossible_depth_is_refused(depth: np.ndarray) -> None:
    with pytest.raises(BandSetError, match="depth, band 2"):
        add_noise(np.ones((1, 2)), depth, np.random.default_rng(0))


def test_legal_photometry_returns_usable_bands() -> None:
    flux = np.array([[-5.0, 1.0, np.nan], [1.0, np.inf, np.nan], [0.0, 0.0, 0.0]])
    flux_err = np.array([[1.0, 1.0, np.inf], [0.0, np.nan, -1.0], [1.0, 2.0, 3.0]])
    assert check_photometry(flux, flux_err, 3).tolist() == [2, 0, 3]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_flux_that_is_not_finite_but_weighted_is_named(bad: float) -> None:
    flux, flux_err = np.ones((4, 102)), np.ones((4, 102))
    flux[2, 16] = bad
    with pytest.raises(
        BandSetError, match=r"flux, row 2, band 17: .*inf|flux, row 2, band 17: nan"
    ) as caught:
        check_photometry(flux, flux_err, 102)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("flux", "flux_err", "message"),
    [
        (np.ones((2, 101)), np.ones((2, 101)), r"flux has shape \(2, 101\), expected \(n_source, 102\)"),
        (np.ones(102), np.ones(102), r"flux has shape \(102,\)"),
        (np.ones((2, 102)), np.ones((3, 102)), r"flux has shape \(2, 102\) but flux_err \(3, 102\)"),
        (np.full((1, 102), "a"), np.ones((1, 102)), "dtype"),
    ],
)
def test_wrong_shapes_and_types_are_refused(flux: np.ndarray, flux_err: np.ndarray, message: str) -> None:
    with pytest.raises(BandSetError, match=message):
        check_photometry(flux, flux_err, 102)
