"""The marginals of the joint draw against their formulae."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from paeplatform.catalog.population import (
    GALAXY_TYPES,
    draw_ebv,
    draw_mag_i,
    draw_redshift,
    draw_type,
    redshift_law,
    type_fractions,
)


def test_counts_slope_is_found_again_by_maximum_likelihood():
    slope, low, high, n = 0.42, 18.0, 25.0, 20000
    mag = draw_mag_i(np.random.default_rng(1), n, slope, low, high)
    assert low <= mag.min()
    assert mag.max() <= high

    def negative_log_like(s):
        rate = s * np.log(10.0)
        return -(np.log(rate) - np.log(np.expm1(rate * (high - low))) + rate * (mag - low).mean())

    found = optimize.minimize_scalar(negative_log_like, bounds=(0.1, 1.0), method="bounded").x
    assert found == pytest.approx(slope, abs=4.0 * slope / np.sqrt(n))


@given(st.floats(15.0, 28.0))
def test_type_fractions_are_probabilities(mag):
    fractions = type_fractions(np.array([mag]))
    assert fractions.shape == (1, 4)
    assert np.all(fractions > 0.0)
    assert fractions.sum() == pytest.approx(1.0)


def test_type_fractions_follow_lephare():
    """Ratios at i = 20 and 23 worked out by hand from the constants of `nzprior`; held constant below i =
    20."""
    at_20, at_23 = type_fractions(np.array([20.0, 23.0]))
    np.testing.assert_allclose(
        at_20[1:] / at_20[0], np.array([0.07995, 0.31162, 0.21220]) / 0.43199, rtol=1e-12
    )
    assert at_23[0] == pytest.approx(0.1049426 / (0.1049426 + 0.0318666 + 0.2127997 + 0.5962640), rel=1e-4)
    np.testing.assert_array_equal(type_fractions(np.array([18.0])), type_fractions(np.array([20.0])))


@pytest.mark.parametrize("mag", [19.0, 22.0, 24.5])
def test_types_are_drawn_with_their_fractions(mag):
    n = 20000
    kind = draw_type(np.random.default_rng(2), np.full(n, mag))
    expected = type_fractions(np.array([mag]))[0] * n
    assert stats.chisquare(np.bincount(kind, minlength=4), expected).pvalue > 1e-3


@pytest.mark.parametrize("mag", [18.5, 21.0, 24.0])
@pytest.mark.parametrize("kind", range(4))
def test_redshifts_follow_the_truncated_law_of_their_type(kind, mag):
    """Against scipy's generalised gamma: z^a exp(-(z/z0)^a) has shape (a+1)/a and exponent a."""
    z_max, n = 1.5, 4000
    z = draw_redshift(np.random.default_rng(3 + kind), np.full(n, kind), np.full(n, mag), z_max)
    galaxy = GALAXY_TYPES[kind]
    z0 = galaxy.z0 + galaxy.z0_slope * max(mag - 20.0, 0.0)
    law = stats.gengamma((galaxy.alpha + 1.0) / galaxy.alpha, galaxy.alpha, scale=z0)
    assert stats.kstest(z, lambda v: law.cdf(v) / law.cdf(z_max)).pvalue > 1e-3
    assert z.min() > 0.0
    assert z.max() <= z_max


@given(st.integers(0, 3), st.floats(14.0, 28.0))
def test_redshift_scale_stays_positive_for_bright_sources(kind, mag):
    """LePHARE's linear z0 is negative above i = 18.5 for three of the types."""
    alpha, z0 = redshift_law(np.array([kind]), np.array([mag]))
    assert alpha[0] > 1.0
    assert z0[0] >= GALAXY_TYPES[kind].z0


def test_extra_reddening_is_a_truncated_exponential_and_none_for_ellipticals():
    n, ebv_max = 20000, 0.4
    kind = np.repeat([0, 3], n)
    ebv = draw_ebv(np.random.default_rng(5), kind, ebv_max)
    assert np.all(ebv[:n] == 0.0)
    scale = GALAXY_TYPES[3].ebv_scale
    law = stats.truncexpon(b=ebv_max / scale, scale=scale)
    assert stats.kstest(ebv[n:], law.cdf).pvalue > 1e-3
    assert ebv[n:].max() <= ebv_max
    assert np.all(draw_ebv(np.random.default_rng(5), kind, 0.0) == 0.0)
