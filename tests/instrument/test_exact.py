"""The oracle against scipy.integrate.quad and closed forms; the moment weights against the oracle."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from paeplatform.instrument.exact import exact_photometry
from paeplatform.instrument.filters import FilterCurves
from paeplatform.instrument.weights import all_band_weights, as_sparse


def _top_hat(left: float, right: float) -> FilterCurves:
    return FilterCurves(np.array([[left, right]]), np.ones((1, 2)))


@pytest.mark.parametrize("z", [0.0, 0.4, 2.7])
def test_oracle_agrees_with_adaptive_quadrature(filters: FilterCurves, wave: np.ndarray, z: float) -> None:
    spectrum = np.random.default_rng(3).uniform(0.1, 2.0, len(wave))
    fluxes = exact_photometry(wave, spectrum, z, filters)
    for band in (0, 33, 60, 101):
        nodes, transmission = filters.wave[band], filters.transmission[band]
        kinks = wave * (1.0 + z)
        edges = np.unique(np.concatenate([nodes, kinks[(kinks > nodes[0]) & (kinks < nodes[-1])]]))

        def weight(lam: float, nodes: np.ndarray = nodes, transmission: np.ndarray = transmission) -> float:
            return float(np.interp(lam, nodes, transmission)) / lam

        def collected(lam: float, weight=weight) -> float:
            return weight(lam) * float(np.interp(lam / (1.0 + z), wave, spectrum))

        pieces = list(itertools.pairwise(edges))
        expected = sum(quad(collected, *p)[0] for p in pieces) / sum(quad(weight, *p)[0] for p in pieces)
        assert fluxes[band] == pytest.approx(expected, rel=1e-11)


@settings(max_examples=20, deadline=None)
@given(z=st.floats(0.0, 6.0), level=st.floats(1e-3, 1e3))
def test_flat_spectrum_keeps_its_level_at_any_redshift(filters: FilterCurves, z: float, level: float) -> None:
    fluxes = exact_photometry(np.array([0.1, 5.0]), np.full(2, level), z, filters)
    np.testing.assert_allclose(fluxes, level, rtol=1e-13)


@settings(max_examples=30, deadline=None)
@given(
    z=st.floats(0.0, 3.0), left=st.floats(0.8, 4.0), width=st.floats(0.01, 0.5), slope=st.floats(-0.15, 3.0)
)
def test_linear_spectrum_through_a_top_hat(z: float, left: float, width: float, slope: float) -> None:
    right = left + width
    flux = exact_photometry(
        np.array([0.1, 5.0]), 1.0 + slope * np.array([0.1, 5.0]), z, _top_hat(left, right)
    )
    expected = 1.0 + slope / (1.0 + z) * width / np.log(right / left)
    assert flux[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("power", [-2.0, 0.7, 3.0])
def test_power_law_through_a_top_hat(power: float) -> None:
    wave = np.geomspace(0.1, 5.0, 20_000)
    z, left, right = 0.8, 2.0, 2.2
    flux = exact_photometry(wave, wave**power, z, _top_hat(left, right))
    expected = (right**power - left**power) / (power * np.log(right / left)) / (1.0 + z) ** power
    assert flux[0] == pytest.approx(expected, rel=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), z=st.floats(0.0, 8.0), n_wave=st.integers(20, 600))
def test_moment_weights_reproduce_the_oracle_on_any_grid(
    filters: FilterCurves, seed: int, z: float, n_wave: int
) -> None:
    rng = np.random.default_rng(seed)
    wave = np.sort(rng.uniform(0.2, 4.0, n_wave))  # bands reach beyond both ends
    wave = wave[np.concatenate([[True], np.diff(wave) > 1e-3])]
    spectrum = rng.uniform(0.5, 2.0, len(wave))
    weights = all_band_weights(wave, filters, np.log1p([z]))
    fluxes = [(as_sparse(w.value, w.start, len(wave)) @ spectrum)[0] for w in weights]
    # a weight is a difference of moments over the width of a cell: of cells of 1e-3 um, rounding leaves some 1e-8
    np.testing.assert_allclose(fluxes, exact_photometry(wave, spectrum, z, filters), rtol=1e-7)


def test_slopes_are_the_derivative_of_the_oracle(
    filters: FilterCurves, wave: np.ndarray, galaxies: np.ndarray
) -> None:
    s, step = np.log1p(0.37), 1e-5
    weights = all_band_weights(wave, filters, np.array([s]))
    slopes = np.array([(as_sparse(w.slope, w.start, len(wave)) @ galaxies[5])[0] for w in weights])
    above, below = (exact_photometry(wave, galaxies[5], np.expm1(s + h), filters) for h in (step, -step))
    np.testing.assert_allclose(slopes, (above - below) / (2.0 * step), atol=1e-6 * np.abs(slopes).max())
