"""Convergence diagnostics against arviz and direct sums."""

import arviz
import numpy as np
import pytest

from paeplatform.inference.mclmc.diagnostics import (
    autocorrelation_length,
    autocorrelation_time,
    effective_sample_size,
    split_rhat,
)


def ar1(phi, shape, seed):
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=shape)
    chain = np.empty(shape)
    chain[..., 0] = noise[..., 0] / np.sqrt(1.0 - phi**2)
    for i in range(1, shape[-1]):
        chain[..., i] = phi * chain[..., i - 1] + noise[..., i]
    return chain


@pytest.mark.parametrize("n_draw", [1000, 333])
def test_split_rhat_is_arviz_split(n_draw):
    draws = ar1(0.9, (6, 4, n_draw), 0)
    draws[2, 1] += 3.0
    draws[4] += np.linspace(0, 5, n_draw)
    if n_draw % 2 == 0:
        expected = [arviz.rhat(source, method="split") for source in draws]
        assert split_rhat(draws) == pytest.approx(expected, rel=1e-10)
    assert split_rhat(draws)[[0, 1, 3, 5]].max() < 1.1
    assert split_rhat(draws)[[2, 4]].min() > 1.1


def test_chains_that_sit_apart_are_found_and_still_chains_never_pass():
    rng = np.random.default_rng(1)
    together = 0.5 + 0.01 * rng.normal(size=(1, 4, 500))
    apart = together + np.array([0.0, 0.0, 0.05, 0.05])[:, None]
    assert split_rhat(together)[0] < 1.02
    assert split_rhat(apart)[0] > 2.0
    assert split_rhat(np.full((1, 4, 100), 0.7))[0] == np.inf
    with pytest.raises(ValueError, match="4 draws"):
        split_rhat(np.zeros((1, 2, 3)))


def direct_tau(chain, c=5.0):
    """Sokal's window by plain sums."""
    x = chain - chain.mean()
    rho = np.array([np.sum(x[: len(x) - k] * x[k:]) for k in range(len(x))]) / np.sum(x * x)
    for m in range(len(x)):
        tau = 1.0 + 2.0 * rho[1 : m + 1].sum()
        if m >= c * tau:
            return tau
    return tau


def test_autocorrelation_time_is_the_direct_sum():
    draws = np.stack([ar1(phi, (3, 400), 7) for phi in (0.0, 0.6, 0.95)])
    expected = np.array([[direct_tau(chain) for chain in source] for source in draws])
    assert autocorrelation_time(draws) == pytest.approx(expected, rel=1e-9)
    assert autocorrelation_length(draws) == pytest.approx(expected.mean(axis=1), rel=1e-9)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_autocorrelation_of_a_known_process(phi):
    """AR(1) has tau = (1+phi)/(1-phi)."""
    draws = ar1(phi, (1, 8, 20000), 11)
    truth = (1.0 + phi) / (1.0 - phi)
    # Sokal: relative variance of tau is 2(2M+1)/n with M = 5 tau; 8 chains averaged, three sigma
    error = 3.0 * truth * np.sqrt(2.0 * (10.0 * truth + 1.0) / 20000 / 8)
    assert autocorrelation_length(draws)[0] == pytest.approx(truth, abs=error)
    assert effective_sample_size(draws)[0] == pytest.approx(160000 / truth, rel=2 * error / truth)


def test_a_still_chain_counts_as_one_draw():
    assert effective_sample_size(np.full((1, 4, 100), 0.3))[0] == pytest.approx(4.0)
