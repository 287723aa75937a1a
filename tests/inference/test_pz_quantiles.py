"""p(z) from quantiles: densities, masses and tails against the distribution that the quantiles are of."""

import numpy as np
import pytest
from scipy.stats import norm

from paeplatform.inference.results.pz_quantiles import (
    cdf_of_quantiles,
    density_between,
    mass_in_cells,
    tail_scales,
)

LEVELS = np.linspace(0.01, 0.99, 99)
LAW = norm(1.0, 0.1)
QUANTILES = np.stack([LAW.ppf(LEVELS), LAW.ppf(LEVELS) + 0.5])


def test_densities_carry_the_mass_between_the_quantiles():
    density = density_between(QUANTILES, LEVELS, 0.0)
    assert (density * np.diff(QUANTILES, axis=1)).sum(axis=1) == pytest.approx([0.98, 0.98])
    middle = 0.5 * (QUANTILES[0, 1:] + QUANTILES[0, :-1])
    assert density[0] == pytest.approx(LAW.pdf(middle), rel=0.08)
    assert density_between(np.array([1.0, 1.0]), np.array([0.2, 0.3]), 1e-3) == pytest.approx([100.0])


def test_masses_of_cells_add_up_to_what_lies_between_the_outermost_quantiles():
    edges = np.linspace(0.0, 3.0, 301)
    mass = mass_in_cells(QUANTILES[0], LEVELS, edges)
    assert mass.sum() == pytest.approx(0.98)
    assert mass[90:110] == pytest.approx(np.diff(LAW.cdf(edges[90:111])), rel=0.02)


def test_the_cdf_rises_from_zero_to_one_and_meets_every_quantile():
    at = np.concatenate([[-50.0], QUANTILES[0], [50.0]])
    found = cdf_of_quantiles(QUANTILES, LEVELS, at, 1e-6)
    assert found[0, 1:-1] == pytest.approx(LEVELS)
    assert (np.diff(found, axis=1) >= 0.0).all() and found[:, [0, -1]] == pytest.approx(
        np.array([[0.0, 1.0]] * 2)
    )
    low, high = tail_scales(QUANTILES, LEVELS)
    outside = cdf_of_quantiles(QUANTILES[:1], LEVELS, QUANTILES[0, :1] - low[0], 1e-6)
    assert outside[0, 0] == pytest.approx(0.01 / np.e) and high == pytest.approx(low)
