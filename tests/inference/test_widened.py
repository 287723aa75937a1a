"""p(z) of a misfit: wider about its median by the factor that its chi^2 gives, partly the prior, all else as it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from paeplatform.inference.model.draws import PosteriorDraws
from paeplatform.inference.model.priors import BpzPrior
from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS, redshift_columns
from paeplatform.inference.results.summaries import PosteriorSummaries
from paeplatform.inference.samplers import widened

LIMITS = (0.01, 3.0)
PRIOR = BpzPrior(1.2, 0.6, 1.5, *LIMITS)
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
    after = widened(before, np.array([True, False, True]), np.array([5.0, 9.0, 1.0]), PRIOR, 0.0)
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
    after = widened(found(z), np.array([True]), np.array([30.0]), PRIOR, 0.0)
    assert after.z_kept.min() == LIMITS[0] and after.z_kept.max() < LIMITS[1]
    assert after.columns["at_edge"][0]


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_share_of_a_misfits_pz_is_the_prior(share):
    rng = np.random.default_rng(3)
    before = found(1.4 + 0.01 * rng.standard_normal((2, N)))
    rows, scale = np.array([True, False]), np.array([2.0, 1.0])
    spread = widened(before, rows, scale, PRIOR, 0.0)
    after = widened(before, rows, scale, PRIOR, share)
    z = np.linspace(*LIMITS, 4000)
    density = np.exp(jax.vmap(PRIOR.log_prob)(jnp.asarray(z)))
    below = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(z))])
    mixed = share * below + (1.0 - share) * np.mean(spread.z_kept[0] < z[:, None], axis=1)
    # both parts are quantiles, so that a count of the kept redshifts is off by one of each at the most
    assert np.mean(after.z_kept[0] < z[:, None], axis=1) == pytest.approx(mixed, abs=3.0 / N)
    levels = after.columns["pae_z_quantiles"][0]
    assert np.interp(levels, z, mixed) == pytest.approx(np.array(QUANTILE_LEVELS), abs=0.01)
    assert after.columns["pae_z_std"][0] > 0.2
    # the peak stays where the least bad models are
    assert after.columns["pae_z_mode"][0] == spread.columns["pae_z_mode"][0] == pytest.approx(1.4, abs=0.02)
    assert np.array_equal(after.z_kept[1], before.z_kept[1]) and after.z_kept.shape == before.z_kept.shape


def test_nothing_to_widen_is_the_same_object():
    before = found(np.full((2, N), 0.5) + 0.01 * np.random.default_rng(2).standard_normal((2, N)))
    assert widened(before, np.zeros(2, bool), np.ones(2), PRIOR, 0.5) is before
