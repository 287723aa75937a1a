"""Redshift priors against scipy, their inverse CDF, their round trip, and what they refuse."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import gengamma, kstest

from paeplatform.config import PriorConfig
from paeplatform.errors import ConfigError
from paeplatform.inference.model.priors import (
    BpzPrior,
    TabulatedPrior,
    UniformPrior,
    prior_from_dict,
    prior_from_preset,
    prior_to_dict,
)

PRIORS = [
    UniformPrior(0.003, 3.0),
    BpzPrior(1.4, 0.6, 1.3, 0.003, 3.0),
    BpzPrior(-0.4, 0.2, 0.7, 0.01, 1.0),
    TabulatedPrior(np.array([0.01, 0.4, 0.5, 2.0]), np.array([0.0, 3.0, 1.0, 0.0])),
]


@pytest.mark.parametrize("prior", PRIORS, ids=lambda p: p.prior_id())
def test_density_is_normalised_and_zero_outside(prior):
    low, high = float(prior.z_min), float(prior.z_max)
    knots = [z for z in getattr(prior, "z", np.array([])).tolist() if low < z < high]
    density = jax.jit(lambda z: jnp.exp(prior.log_prob(z)))
    total, _ = quad(lambda z: float(density(z)), low, high, points=knots or None, epsabs=1e-7, limit=200)
    assert total == pytest.approx(1.0, abs=2e-5)  # float32 densities
    assert float(prior.log_prob(jnp.asarray(0.5 * low))) == -np.inf
    assert float(prior.log_prob(jnp.asarray(1.01 * high))) == -np.inf


@pytest.mark.parametrize("prior", PRIORS, ids=lambda p: p.prior_id())
def test_ppf_inverts_the_integral_of_the_density(prior):
    q = np.array([0.0, 0.05, 0.3, 0.77, 0.99, 1.0])
    z = prior.ppf(q)
    assert z[0] == pytest.approx(float(prior.z_min)) and z[-1] == pytest.approx(float(prior.z_max))
    grid = np.unique(np.concatenate([np.linspace(float(prior.z_min), float(prior.z_max), 20001), z]))
    density = np.exp(np.asarray(jax.vmap(prior.log_density)(jnp.asarray(grid))), dtype=np.float64)
    cdf = np.concatenate([[0.0], np.cumsum(0.5 * np.diff(grid) * (density[1:] + density[:-1]))])
    assert np.interp(z, grid, cdf) == pytest.approx(q, abs=5e-4)
    assert (
        kstest(prior.sample(4000, np.random.default_rng(1)), lambda x: np.interp(x, grid, cdf)).pvalue > 1e-3
    )


def test_bpz_is_a_truncated_generalised_gamma():
    prior = BpzPrior(1.4, 0.6, 1.3, 0.003, 3.0)
    reference = gengamma((1.4 + 1.0) / 1.3, 1.3, scale=0.6)
    z = np.linspace(0.003, 3.0, 50)
    expected = reference.logpdf(z) - np.log(reference.cdf(3.0) - reference.cdf(0.003))
    assert np.asarray(jax.vmap(prior.log_prob)(jnp.asarray(z))) == pytest.approx(expected, abs=2e-5, rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    alpha=st.floats(-0.8, 5.0), beta=st.floats(0.05, 2.0), gamma=st.floats(0.4, 4.0), z=st.floats(1e-4, 4.0)
)
def test_bpz_gradient_is_finite_everywhere(alpha, beta, gamma, z):
    prior = BpzPrior(alpha, beta, gamma, 0.003, 3.0)
    slope = float(jax.grad(prior.log_density)(jnp.asarray(z)))
    assert slope == pytest.approx(alpha / z - gamma / beta * (z / beta) ** (gamma - 1.0), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("prior", PRIORS, ids=lambda p: p.prior_id())
def test_json_round_trip_is_exact(prior):
    again = prior_from_dict(json.loads(json.dumps(prior_to_dict(prior))))
    assert type(again) is type(prior) and again.prior_id() == prior.prior_id()
    assert np.array_equal(again.ppf(np.linspace(0, 1, 9)), prior.ppf(np.linspace(0, 1, 9)))


def test_prior_id_tells_priors_apart():
    assert len({prior.prior_id() for prior in PRIORS}) == len(PRIORS)


@pytest.mark.parametrize(
    ("tree", "named"),
    [
        ({"kind": "gaussian"}, "kind 'gaussian'"),
        ({"kind": "uniform", "z_min": 1.0, "z_max": 0.5}, "z_max 0.5"),
        ({"kind": "uniform", "z_min": 0.1}, "z_max"),
        ({"kind": "bpz", "alpha": 1, "beta": -1, "gamma": 1, "z_min": 0.1, "z_max": 1}, "beta -1"),
        (
            {"kind": "bpz", "alpha": float("nan"), "beta": 1, "gamma": 1, "z_min": 0.1, "z_max": 1},
            "alpha nan",
        ),
        ({"kind": "bpz", "alpha": 1, "beta": 1e-3, "gamma": 4, "z_min": 0.5, "z_max": 1}, "no mass"),
        ({"kind": "tabulated", "z": [0.1, 0.1], "density": [1, 1]}, "z_max 0.1"),
        ({"kind": "tabulated", "z": [0.1, 0.2], "density": [1, -1]}, "density"),
    ],
)
def test_bad_parameters_are_named(tree, named):
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")):
        prior_from_dict(tree)


def test_preset_chooses_the_prior():
    fit = {"alpha": 1.4, "beta": 0.6, "gamma": 1.3, "n_sources": 10}
    assert isinstance(prior_from_preset(PriorConfig(redshift="uniform"), None), UniformPrior)
    assert isinstance(prior_from_preset(PriorConfig(redshift="bpz"), fit), BpzPrior)
    with pytest.raises(ConfigError, match="gamma"):
        prior_from_preset(PriorConfig(redshift="bpz"), {"alpha": 1.4, "beta": 0.6})
