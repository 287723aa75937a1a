"""Toy forward models: small enough to integrate on a grid or to solve on paper."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from paeplatform.config import MclmcConfig


class BumpForward(eqx.Module):
    """A sloped continuum (u0) with a bump of free height (u1) whose observed place gives the redshift."""

    log_wave: np.ndarray

    def __call__(self, u, z):
        rest = self.log_wave - jnp.log1p(z)
        bump = jnp.exp(-0.5 * ((rest - 0.1) / 0.15) ** 2)
        return jnp.exp(0.4 * u[0] * (self.log_wave - 1.0)) * (1.0 + bump * jnp.exp(0.5 * u[1]))


class LinearForward(eqx.Module):
    """offset + slope @ (u, ln z): Gaussian posterior once band 0 pins the amplitude."""

    offset: np.ndarray
    slope: np.ndarray

    def __call__(self, u, z):
        return self.offset + self.slope @ jnp.append(u, jnp.log(z))


@pytest.fixture(scope="session")
def bump_forward():
    return BumpForward(np.linspace(np.log(0.75), np.log(5.0), 24).astype(np.float32))


@pytest.fixture(scope="session")
def linear_forward():
    rng = np.random.default_rng(3)
    slope = rng.normal(size=(12, 4))
    slope[0] = 0.0
    return LinearForward(np.full(12, 1.0, np.float32), slope.astype(np.float32))


@pytest.fixture(scope="session")
def quick_mclmc():
    """Short stages; every chunk length of the sampler occurs (a whole chunk, a rest)."""
    return MclmcConfig(
        n_chains=4,
        n_burnin=150,
        n_tune=200,
        n_steps=1100,
        n_discard=100,
        init_draws=512,
        jump_every=25,
        batch_size=4,
        keep_latent_every=10,
    )
