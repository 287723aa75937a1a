"""p(z) of a misfit: wider about its median by the factor that its chi^2 gives, and everything else as it was."""

import numpy as np
import pytest

from paeplatform.inference.model.draws import PosteriorDraws
from paeplatform.inference.results.pz_summary import redshift_columns
from paeplatform.inference.results.summaries import PosteriorSummaries
from paeplatform.inference.samplers import widened

LIMITS = (0.01, 3.0)
N = 500


def found(z):
    n_source = len(z)
    columns = redshift_columns(z, None, prefix="pae", z_min=LIMITS[0], z_max=LIMITS[1])
    draws = PosteriorDraws(np.zeros((n_source, N, 2)), z, np.full(z.shape, 1.0 / N), np.zeros(z.shape))
    blank, ones = np.full(n_source, np.nan), np.ones(n_source, np.int16)
    return PosteriorSummaries(
        columns,
        draws,
        z,
        np.full(n_source, "adapted", object),
        ones > 0,
        blank,
        blank,
        blank,
        blank,
        blank,
        ones,
        ones,
    )


def test_a_normal_in_ln_one_plus_z_gets_the_factor_of_its_width_and_keeps_its_median():
    rng = np.random.default_rng(0)
    log_z = np.log1p(1.0) + 0.004 * rng.standard_normal((3, N))
    before = found(np.expm1(log_z))
    after = widened(before, np.array([True, False, True]), np.array([5.0, 9.0, 1.0]), LIMITS)
    for name, values in before.columns.items():
        assert np.array_equal(after.columns[name][1], values[1], equal_nan=values.dtype.kind == "f"), name
        # a factor of one changes nothing but the last digits
        if values.dtype == float:
            assert after.columns[name][2] == pytest.approx(values[2], rel=1e-9)
    # of an even number of draws the median lies between two, in z and in ln(1+z) not at the same place
    assert after.columns["pae_z_median"][0] == pytest.approx(before.columns["pae_z_median"][0], rel=1e-7)
    for name in ("pae_z_err68_low", "pae_z_err68_high", "pae_z_err95_low", "pae_z_err95_high"):
        old = np.log1p(before.columns[name][0]) - np.median(log_z[0])
        # quantiles of the draws themselves: the map is monotone, and linear between neighbouring draws but for e^x
        assert np.log1p(after.columns[name][0]) - np.median(log_z[0]) == pytest.approx(5.0 * old, rel=1e-3)
    assert np.log1p(after.z_kept[0]).std() == pytest.approx(5.0 * log_z[0].std(), rel=1e-9)
    # what the model predicts is still what fits best
    assert after.draws is before.draws


def test_spread_redshifts_end_at_the_limits_of_the_prior():
    z = np.expm1(np.log1p(0.05) + 0.01 * np.random.default_rng(1).standard_normal((1, N)))
    after = widened(found(z), np.array([True]), np.array([30.0]), LIMITS)
    assert after.z_kept.min() == LIMITS[0] and after.z_kept.max() < LIMITS[1]
    assert after.columns["at_edge"][0]


def test_nothing_to_widen_is_the_same_object():
    before = found(np.full((2, N), 0.5) + 0.01 * np.random.default_rng(2).standard_normal((2, N)))
    assert widened(before, np.zeros(2, bool), np.ones(2), LIMITS) is before
