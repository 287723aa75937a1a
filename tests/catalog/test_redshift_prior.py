"""Eq. 7: the density against scipy, and the fit against draws of known parameters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from paeplatform.catalog.redshift_prior import bpz_cdf, bpz_log_density, fit_bpz
from paeplatform.errors import InputError

Z_MAX = 3.0
SHAPES = {"alpha": st.floats(0.0, 4.0), "beta": st.floats(0.1, 1.5), "gamma": st.floats(0.7, 4.0)}


def _gengamma(alpha, beta, gamma):
    """Eq. 7 is scipy's generalised gamma distribution with a = (alpha+1)/gamma, c = gamma."""
    return stats.gengamma((alpha + 1.0) / gamma, gamma, scale=beta)


@given(**SHAPES)
def test_density_and_cdf_are_the_truncated_generalised_gamma(alpha, beta, gamma):
    z = np.array([0.01, 0.1, 0.5, 1.0, 2.0, Z_MAX])
    law = _gengamma(alpha, beta, gamma)
    log_expected = law.logpdf(z) - law.logcdf(Z_MAX)
    np.testing.assert_allclose(
        bpz_log_density(z, alpha, beta, gamma, Z_MAX), log_expected, rtol=1e-8, atol=1e-8
    )
    np.testing.assert_allclose(bpz_cdf(z, alpha, beta, gamma, Z_MAX), law.cdf(z) / law.cdf(Z_MAX), rtol=1e-9)


@pytest.mark.parametrize(
    "parameters", [(1.5, 0.35, 1.1), (0.7, 1.07, 3.4), (2.0, 0.26, 0.94), (1.2, 2.5, 3.0)]
)
def test_density_integrates_to_one_on_its_support_and_is_zero_outside(parameters):
    total, _ = integrate.quad(
        lambda z: float(np.exp(bpz_log_density(z, *parameters, Z_MAX))), 0.0, Z_MAX, limit=200
    )
    assert total == pytest.approx(1.0, abs=1e-7)
    assert np.all(bpz_log_density(np.array([-0.1, 0.0, Z_MAX + 1e-6]), *parameters, Z_MAX) == -np.inf)


def _draw(parameters, n, seed):
    law = _gengamma(*parameters)
    return law.ppf((1.0 - np.random.default_rng(seed).random(n)) * law.cdf(Z_MAX))


@pytest.mark.parametrize("parameters", [(1.5, 0.35, 1.1), (0.9, 1.0, 2.5)])
def test_fit_recovers_known_parameters_within_the_statistical_error(parameters):
    """The errors are the scatter of eight independent samples; the mean must agree within four of its
    errors."""
    fits = [fit_bpz(_draw(parameters, 4000, seed), Z_MAX) for seed in range(8)]
    found = np.array([(fit.alpha, fit.beta, fit.gamma) for fit in fits])
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    assert np.all(np.abs(found.mean(axis=0) - parameters) < 4.0 * error + 0.005)
    assert np.all(found.std(axis=0) < 0.35 * np.array(parameters))


def test_fit_is_the_maximum_and_fits():
    z = _draw((1.5, 0.35, 1.1), 5000, seed=3)
    fit = fit_bpz(z, Z_MAX)

    def log_like(alpha, beta, gamma):
        return bpz_log_density(z, alpha, beta, gamma, Z_MAX).sum()

    best = log_like(fit.alpha, fit.beta, fit.gamma)
    assert best >= log_like(1.5, 0.35, 1.1)
    for factors in np.vstack([np.eye(3) * 0.02, -np.eye(3) * 0.02]) + 1.0:
        assert best > log_like(fit.alpha * factors[0], fit.beta * factors[1], fit.gamma * factors[2])
    assert fit.n_sources == 5000
    assert stats.kstwo.sf(fit.ks, 5000) > 0.05


def test_ks_tells_a_bad_model():
    """Two narrow peaks are not of the form of eq. 7."""
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(0.3, 0.02, 1000), rng.normal(1.5, 0.02, 1000)])
    assert fit_bpz(z, Z_MAX).ks > 0.1


@pytest.mark.parametrize(
    ("z", "named"),
    [
        (np.full(50, np.nan), "row 0 has z = nan"),
        (np.append(np.linspace(0.1, 1.0, 49), 3.5), r"row 49 has z = 3.5, outside \(0, 3.0\]"),
        (np.append(0.0, np.linspace(0.1, 1.0, 49)), "row 0 has z = 0.0"),
        (np.full(50, 0.5), "all 50 redshifts equal 0.5"),
        (np.linspace(0.1, 1.0, 5), "at least 20"),
    ],
)
def test_unusable_redshifts_are_refused(z, named):
    with pytest.raises(InputError, match=named):
        fit_bpz(z, Z_MAX)
