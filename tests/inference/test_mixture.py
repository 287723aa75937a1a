"""Mixtures of Student t: density and draws against SciPy and closed forms; fits that find every mode or stay finite."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, multivariate_t

from paeplatform.inference.modes.mixture import (
    FREEDOM,
    INFLATION,
    StudentMixture,
    fit_choices,
    fit_mixture,
    log_prob,
    sample,
    tempered,
)

DIM = 3
N_DRAW = 4000


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


@functools.cache
def a_mixture():
    rng = np.random.default_rng(2)
    mean = rng.normal(size=(4, DIM)) * 3.0
    # widths a thousand apart within one component, as for a bright source
    factor = np.tril(rng.normal(size=(4, DIM, DIM))) * np.geomspace(1e-3, 1.0, DIM)[:, None]
    factor[:, np.arange(DIM), np.arange(DIM)] = np.geomspace(1e-3, 1.0, DIM) * rng.uniform(0.5, 2.0, (4, DIM))
    return mean, factor, np.log([0.5, 0.3, 0.15, 0.05])


def in_jax(mixture):
    return StudentMixture(*(jnp.asarray(part) for part in mixture))


def shapes(factor):
    return np.einsum("kij,klj->kil", factor, factor)


def density_of(mixture, x):
    return log_prob(mixture, np.asarray(x))


jitted_fit = jax.jit(fit_mixture)
compiled_tempered = jax.jit(tempered)


def compiled_fit(x, log_weight, seed, n_component):
    choices = fit_choices(np.random.default_rng(seed), n_component)
    return jitted_fit(x, log_weight, *choices, INFLATION)


def drawn(mixture, seed, n):
    return sample(mixture, np.random.default_rng(seed), n)


def test_density_is_that_of_scipy():
    mean, factor, log_share = a_mixture()
    rng = np.random.default_rng(0)
    # in every component's core, in its tails, and far from all
    near = mean[:, None] + np.einsum("kij,knj->kni", factor, rng.standard_t(1.0, size=(4, 990, DIM)))
    x = np.concatenate([near.reshape(-1, DIM), rng.normal(size=(40, DIM)) * 1e4])
    parts = [
        multivariate_t(loc, shape, df=FREEDOM).logpdf(x) + share
        for loc, shape, share in zip(mean, shapes(factor), log_share, strict=True)
    ]
    got = density_of(in_jax(a_mixture()), jnp.asarray(x))
    assert got.dtype == np.float64
    # SciPy whitens by an eigendecomposition of a matrix of condition 1e6: ten digits are what it has
    assert np.asarray(got) == pytest.approx(logsumexp(parts, axis=0), abs=1e-8, rel=1e-10)


def test_moments_of_draws_have_their_closed_form():
    """Mean sum w_k m_k; covariance sum w_k (nu/(nu-2) S_k + m_k m_k^T) - mean mean^T; each in standard errors."""
    mean, factor, log_share = a_mixture()
    n = 40000
    x = drawn(in_jax(a_mixture()), 3, n)
    share = np.exp(log_share)
    expected = share @ mean
    spread = FREEDOM / (FREEDOM - 2.0) * shapes(factor) + np.einsum("ki,kj->kij", mean, mean)
    covariance = np.einsum("k,kij->ij", share, spread) - np.outer(expected, expected)
    error = np.sqrt(np.diag(covariance) / n)
    assert np.all(np.abs(x.mean(axis=0) - expected) < 4.0 * error)
    products = (x - expected)[:, :, None] * (x - expected)[:, None, :]
    assert np.all(np.abs(products.mean(axis=0) - covariance) < 4.5 * products.std(axis=0) / np.sqrt(n))
    # one component's draws alone: the tails are those of Student's t, not of a normal
    own = np.abs(x - mean[0]) < np.abs(x[:, None] - mean[1:]).min(axis=1)
    whitened = np.linalg.solve(factor[0], (x[own.all(axis=1)] - mean[0]).T)
    assert (np.abs(whitened[1]) > 4.0).mean() > 3.0 * 6.3e-5


def test_draws_follow_the_density():
    """The mean of p/q over draws of q is 1 for any density p that q covers: a normal under the first component."""
    mean, factor, _ = a_mixture()
    x = drawn(in_jax(a_mixture()), 8, 40000)
    target = multivariate_normal(mean[0], shapes(factor)[0]).logpdf(x)
    ratio = np.exp(target - np.asarray(density_of(in_jax(a_mixture()), jnp.asarray(x))))
    assert abs(ratio.mean() - 1.0) < 4.0 * ratio.std() / np.sqrt(len(x))


@settings(max_examples=100)
@given(
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([0.1, 1.0, 30.0, 1e4]),
    n_zero=st.integers(0, 199),
    effective=st.sampled_from([2.0, 20.0, 60.0]),
)
def test_tempered_weights_reach_their_number_or_are_left_alone(seed, scale, n_zero, effective):
    with jax.enable_x64(True):
        rng = np.random.default_rng(seed)
        log_weight = scale * rng.normal(size=200) + rng.choice([0.0, -1e3, 1e3])
        log_weight[rng.permutation(200)[:n_zero]] = -np.inf
        weight, number = (np.asarray(part) for part in compiled_tempered(jnp.asarray(log_weight), effective))
    plain = np.exp(log_weight - logsumexp(log_weight))
    assert weight.sum() == pytest.approx(1.0)
    assert number == pytest.approx(1.0 / np.sum(weight**2))
    assert np.all(weight[np.isneginf(log_weight)] == 0.0)
    finite = np.isfinite(log_weight)
    # a heavier draw stays the heavier one
    order = np.argsort(log_weight[finite])
    assert np.all(np.diff(weight[finite][order]) >= 0.0)
    if 1.0 / np.sum(plain**2) >= effective:
        assert weight == pytest.approx(plain, abs=1e-12)
    elif finite.sum() > 1.1 * effective:
        # the smallest temperature that does: no more draws than were asked for
        assert effective * (1.0 - 1e-9) <= number <= effective * (1.0 + 1e-3)
    else:
        assert number > 0.99 * min(effective, finite.sum())


def two_hills():
    """Normals six widths of the bigger one apart; shares 0.7 and 0.3."""
    big, small = np.diag([1.0, 0.4, 0.05]) ** 2, np.diag([0.2, 0.6, 0.02]) ** 2
    big[0, 1] = big[1, 0] = 0.3
    centres = np.array([[-3.0, 0.0, 0.2]]), np.array([[3.0, 1.0, -0.3]])

    def log_target(x):
        parts = [
            multivariate_normal(centres[0][0], big).logpdf(x) + np.log(0.7),
            multivariate_normal(centres[1][0], small).logpdf(x) + np.log(0.3),
        ]
        return logsumexp(parts, axis=0)

    return log_target


def efficiency(weight):
    return weight.sum() ** 2 / np.sum(weight**2) / len(weight)


def test_fit_recovers_two_modes_from_weighted_draws_of_a_wide_proposal():
    """Population Monte Carlo in small: a fit to wide draws, then fits to the draws of the fit before."""
    log_target = two_hills()
    wide_scale = np.array([4.0, 1.5, 0.5])
    log_wide = multivariate_normal(np.zeros(DIM), np.diag(wide_scale**2)).logpdf
    reached, shares = [], []
    for seed in range(8):
        x = np.random.default_rng(seed).normal(size=(N_DRAW, DIM)) * wide_scale
        log_weight = log_target(x) - log_wide(x)
        found = [efficiency(np.exp(log_weight))]
        for stage in range(3):
            mixture = compiled_fit(jnp.asarray(x), jnp.asarray(log_weight), 9 * seed + stage, n_component=6)
            x = drawn(mixture, 100 + stage, N_DRAW)
            log_weight = log_target(x) - np.asarray(density_of(mixture, jnp.asarray(x)))
            weight = np.exp(log_weight)
            found.append(efficiency(weight))
            if found[-1] > 0.3:  # below, a few weights decide and their scatter does not know of larger ones
                # the mean weight is the integral, 1, and what lies on the right is 0.3 of it
                right = weight * (x[:, 0] > 0.0)
                for values, expected in ((weight, 1.0), (right, 0.3)):
                    assert abs(values.mean() - expected) < 4.5 * values.std() / np.sqrt(N_DRAW)
        reached.append(found)
        share = np.exp(np.asarray(mixture.log_share))
        assert share.sum() == pytest.approx(1.0)
        shares.append(share[np.asarray(mixture.mean)[:, 0] > 0.0].sum())
    reached = np.median(reached, axis=0)
    assert reached[0] < 0.01  # the first weights are anything but alike
    # the mixture is INFLATION times wider than the target, on purpose: it cannot reach an efficiency of 1
    assert reached[1] > 0.05 and reached[2] > 0.35 and reached[3] > 0.5
    assert np.median(shares) == pytest.approx(0.3, abs=0.06)


def test_weights_count_as_draws_do():
    """Draws of one hill only have weight: the fit is of that hill, wherever the others lie."""
    rng = np.random.default_rng(5)
    covariance = np.array([[1.0, 0.8, 0.0], [0.8, 1.0, 0.0], [0.0, 0.0, 1e-4]])
    x = rng.multivariate_normal([1.0, 2.0, 3.0], covariance, size=N_DRAW)
    log_weight = np.zeros(N_DRAW)
    x[::2] += 50.0
    log_weight[::2] = -np.inf
    mixture = compiled_fit(jnp.asarray(x), jnp.asarray(log_weight), 4, n_component=6)
    y = drawn(mixture, 5, N_DRAW)
    assert np.all(np.abs(y.mean(axis=0) - [1.0, 2.0, 3.0]) < 0.15 * np.sqrt(np.diag(covariance)))
    wider = y.std(axis=0) / np.sqrt(np.diag(covariance))
    assert np.all((wider > 1.0) & (wider < 1.2 * INFLATION))  # on purpose; 1.2 for the tails of Student's t
    assert np.corrcoef(y.T)[0, 1] == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize("case", ["one draw", "two draws", "equal draws", "one place", "huge spread"])
def test_degenerate_draws_give_a_mixture_that_can_be_drawn_from(case):
    rng = np.random.default_rng(6)
    x, log_weight = rng.normal(size=(N_DRAW, DIM)), np.zeros(N_DRAW)
    if case == "one draw":
        log_weight[1:] = -np.inf
    elif case == "two draws":
        log_weight[2:] = -np.inf
    elif case == "equal draws":
        x[:] = x[0]
    elif case == "one place":
        log_weight[17] = 1e5
        x[17] = 1e3
    else:
        x *= np.geomspace(1e-8, 1e8, N_DRAW)[:, None]
        log_weight = -100.0 * rng.uniform(size=N_DRAW)
    mixture = compiled_fit(jnp.asarray(x), jnp.asarray(log_weight), 0, n_component=6)
    for part in mixture:
        assert np.isfinite(np.asarray(part)).all()
    assert np.all(np.diagonal(np.asarray(mixture.factor), axis1=1, axis2=2) > 0.0)
    assert np.exp(np.asarray(mixture.log_share)).sum() == pytest.approx(1.0)
    y = drawn(mixture, 1, N_DRAW)
    assert np.isfinite(np.asarray(y)).all()
    assert np.isfinite(np.asarray(density_of(mixture, y))).all()


def test_no_component_is_given_up():
    """More components than hills: each keeps a share that draws from it now and then."""
    x = np.random.default_rng(7).normal(size=(N_DRAW, DIM))
    mixture = compiled_fit(jnp.asarray(x), jnp.zeros(N_DRAW), 0, n_component=6)
    assert np.exp(np.asarray(mixture.log_share)).min() >= 0.9 * 0.02 / 6
