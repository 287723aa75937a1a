"""Proper scores against closed forms and numerical integrals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from paeplatform.errors import InputError
from paeplatform.scores.calibration import pit_from_quantiles
from paeplatform.scores.scores import (
    BACKGROUND_WEIGHT,
    crps_from_quantiles,
    log_score_from_quantiles,
)

LEVELS = np.linspace(0.01, 0.99, 51)
FINE = np.linspace(0.0005, 0.9995, 2001)


def gaussian(mean, sigma, levels=LEVELS):
    return mean[:, None] + sigma[:, None] * stats.norm.ppf(levels)


def gaussian_crps(z, mean, sigma):
    """Closed form (Gneiting & Raftery 2007, eq. 21)."""
    x = (z - mean) / sigma
    return sigma * (x * (2 * stats.norm.cdf(x) - 1) + 2 * stats.norm.pdf(x) - 1 / np.sqrt(np.pi))


@pytest.mark.parametrize(("levels", "tolerance"), [(LEVELS, 0.01), (FINE, 1e-4)])
def test_crps_of_a_gaussian_is_its_closed_form(levels, tolerance):
    rng = np.random.default_rng(3)
    mean, sigma = rng.uniform(0.2, 2, 3000), rng.uniform(0.005, 0.2, 3000)
    z = mean + sigma * rng.uniform(-6, 6, 3000)
    score = crps_from_quantiles(z, gaussian(mean, sigma, levels), levels)
    np.testing.assert_allclose(score / sigma, gaussian_crps(z, mean, sigma) / sigma, atol=tolerance)


@given(seed=st.integers(0, 10_000), z=st.floats(-0.5, 3.5))
@settings(max_examples=25, deadline=None)
def test_crps_is_the_integral_over_the_cdf_that_pit_reads(seed, z):
    rng = np.random.default_rng(seed)
    quantiles = np.sort(rng.uniform(0, 3, (1, 11)), axis=1)
    levels = np.linspace(0.02, 0.95, 11)
    grid = np.linspace(-60.0, 60.0, 400_001)
    cdf = pit_from_quantiles(grid, np.repeat(quantiles, len(grid), axis=0), levels)
    wanted = integrate.trapezoid((cdf - (grid >= z)) ** 2, grid)
    assert crps_from_quantiles([z], quantiles, levels)[0] == pytest.approx(wanted, rel=1e-3, abs=4e-4)


def test_crps_of_a_point_is_the_distance():
    point = np.full((3, 51), 0.7)
    np.testing.assert_allclose(
        crps_from_quantiles([0.7, 0.2, 1.5], point, LEVELS), [0.0, 0.5, 0.8], atol=1e-12
    )


def test_log_score_of_a_gaussian_is_its_log_density():
    rng = np.random.default_rng(4)
    mean, sigma = rng.uniform(0.2, 2, 3000), rng.uniform(0.01, 0.2, 3000)
    z = mean + sigma * rng.uniform(-2, 2, 3000)  # where the levels are dense
    score = log_score_from_quantiles(z, gaussian(mean, sigma, FINE), FINE)
    np.testing.assert_allclose(score, stats.norm.logpdf(z, mean, sigma), atol=0.02)


def test_log_score_integrates_to_one_with_its_tails():
    rng = np.random.default_rng(5)
    quantiles = np.sort(rng.uniform(0.5, 1.5, (1, 51)), axis=1)
    grid = np.linspace(-10, 10, 2_000_001)
    density = np.exp(log_score_from_quantiles(grid[:200_000], np.repeat(quantiles, 200_000, axis=0), LEVELS))
    below = integrate.trapezoid(density, grid[:200_000])
    assert below == pytest.approx(0.0, abs=1e-6), "nothing far below"
    fine = np.linspace(0.0, 2.0, 400_001)
    density = np.exp(log_score_from_quantiles(fine, np.repeat(quantiles, len(fine), axis=0), LEVELS))
    assert integrate.trapezoid(density, fine) == pytest.approx(1.0, abs=2e-3)


def test_background_bounds_the_score_and_hardly_moves_a_good_one():
    quantiles = gaussian(np.array([0.5, 0.5]), np.array([0.01, 0.01]))
    plain = log_score_from_quantiles([0.5, 2.5], quantiles, LEVELS)
    mixed = log_score_from_quantiles([0.5, 2.5], quantiles, LEVELS, background=(0.0, 3.0))
    assert plain[1] < -100.0
    assert mixed[1] == pytest.approx(np.log(BACKGROUND_WEIGHT / 3.0))
    assert mixed[0] == pytest.approx(plain[0] + np.log1p(-BACKGROUND_WEIGHT), abs=1e-4)


@pytest.mark.parametrize("score", [crps_from_quantiles, lambda *a: -log_score_from_quantiles(*a)])
def test_the_honest_width_scores_best(score):
    rng = np.random.default_rng(6)
    mean, sigma = np.full(20_000, 1.0), np.full(20_000, 0.05)
    z = mean + sigma * rng.standard_normal(20_000)
    means = [score(z, gaussian(mean, factor * sigma), LEVELS).mean() for factor in (0.6, 1.0, 1.7)]
    assert means[1] < min(means[0], means[2])


def test_a_source_without_posterior_has_no_score_and_bad_shapes_are_refused():
    quantiles = np.array([[0.1, 0.2], [np.nan, np.nan], [0.1, 0.2]])
    for score in (crps_from_quantiles, log_score_from_quantiles):
        assert np.isnan(score([0.15, 0.15, np.nan], quantiles, [0.1, 0.9])).tolist() == [False, True, True]
        assert score([], np.empty((0, 2)), [0.1, 0.9]).shape == (0,)
        with pytest.raises(InputError, match=r"\(1, 3\)"):
            score([0.1], np.zeros((1, 3)), [0.1, 0.9])
        with pytest.raises(InputError, match=r"within \(0, 1\)"):
            score([0.1], np.zeros((1, 2)), [0.0, 0.9])
    with pytest.raises(InputError, match="background"):
        log_score_from_quantiles([0.1], np.array([[0.1, 0.2]]), [0.1, 0.9], background=(3.0, 1.0))
