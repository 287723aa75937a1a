"""A flow that depends on redshift: densities at each redshift, learning, its file, and what forgets the redshift."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from paeplatform.errors import ConfigError
from paeplatform.pae.bundle import load_flow, save_flow
from paeplatform.pae.flow import LatentFlow, build_flow
from paeplatform.pae.training import FitOptions, base_moments, latents_to_base, train_flow
from tests.pae.test_flow import DIM, far_from_identity, flow_config, pae_config

ARCHITECTURES = ["coupling", "iaf"]


def config(architecture: str):
    return flow_config(architecture).model_copy(update={"condition": "redshift"})


def moving(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(latents (n, 4), redshifts (n,)): the first coordinate moves with ln(1+z), the second one's width does."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.0, 3.0, n)
    x = rng.normal(size=(n, DIM))
    x[:, 0] = 0.5 * x[:, 0] + 3.0 * np.log1p(z)
    x[:, 1] *= 0.3 + np.log1p(z)
    return (x * [5.0, 2.0, 0.1, 1.0] + [10.0, 0.0, 1.0, -3.0]).astype(np.float32), z.astype(np.float32)


def disturbed(architecture: str) -> LatentFlow:
    """A flow far from the identity, and far from the same at all redshifts."""
    return far_from_identity(build_flow(config(architecture), *moving(500, 0), key=jr.key(0)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_at_each_redshift_it_is_a_bijection_with_its_density(architecture: str) -> None:
    flow = disturbed(architecture)
    u, z = jr.normal(jr.key(3), (100, DIM)), jnp.linspace(0.0, 3.0, 100)

    @eqx.filter_jit
    def applied(flow, u, z):
        latent = jax.vmap(flow.to_latent)(u, z)
        back = jax.vmap(flow.to_base)(latent, z)
        jacobian = jax.vmap(jax.jacfwd(flow.to_base))(latent, z)
        expected = jax.scipy.stats.norm.logpdf(back).sum(axis=1) + jnp.linalg.slogdet(jacobian)[1]
        return latent, back, jax.vmap(flow.log_prob)(latent, z), expected

    latent, back, log_prob, expected = applied(flow, u, z)
    # float32 of numbers of some ten through splines whose slopes reach a hundred
    assert jnp.max(jnp.abs(back - u)) < 1e-3
    np.testing.assert_allclose(log_prob, expected, atol=2e-3)
    elsewhere = applied(flow, u, z[::-1])[0]
    assert jnp.median(jnp.max(jnp.abs(elsewhere - latent) / flow.scale, axis=1)) > 0.05


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_learns_what_depends_on_redshift_and_one_without_does_not(architecture: str) -> None:
    (train, z_train), (held_out, z) = moving(2000, 0), moving(1000, 1)
    cfg, options = pae_config(architecture), FitOptions(progress=False)
    conditional = cfg.model_copy(update={"flow": config(architecture)})
    correlation, density = {}, {}
    for name, settings in (("plain", cfg), ("conditional", conditional)):
        flow, _ = train_flow(settings, train, held_out, seed=0, redshifts=(z_train, z), options=options)
        u = latents_to_base(flow, held_out, z).astype(np.float64)
        moments = base_moments(flow, held_out, z)
        assert moments["round_trip"] < 1e-2 and moments["max_abs_variance_error"] < 0.3
        seen = np.stack([np.log1p(z), np.log1p(z) ** 2])
        correlation[name] = max(
            np.abs(np.corrcoef(np.concatenate([part.T, seen]))[:DIM, DIM:]).max() for part in (u, np.abs(u))
        )
        density[name] = moments["mean_log_prob"]
    # of 1,000 spectra a correlation of nothing has a standard deviation of 0.03
    assert correlation["conditional"] < 0.2 < 0.5 < correlation["plain"]
    # ln(1+z) explains most of the first coordinate and the width of the second
    assert density["conditional"] > density["plain"] + 0.3


def test_the_unconditional_flow_does_not_look_at_redshifts() -> None:
    latents, z = moving(300, 0)
    flow = build_flow(flow_config("coupling"), latents, z, key=jr.key(0))
    assert flow.redshift is None
    assert np.array_equal(latents_to_base(flow, latents, z), latents_to_base(flow, latents))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_is_kept_and_read_back(architecture: str, tmp_path) -> None:
    flow, cfg = disturbed(architecture), config(architecture)
    save_flow(flow, cfg, DIM, tmp_path)
    read = load_flow(tmp_path)
    latents, z = moving(50, 3)
    assert np.array_equal(latents_to_base(read, latents, z), latents_to_base(flow, latents, z))


def test_a_forgotten_redshift_is_named() -> None:
    latents, z = moving(300, 0)
    with pytest.raises(ConfigError, match=r"pae\.flow\.condition is redshift: the flow needs the redshifts"):
        build_flow(config("coupling"), latents, key=jr.key(0))
    settings = pae_config("coupling").model_copy(update={"flow": config("coupling")})
    with pytest.raises(ConfigError, match=r"pae\.flow\.condition is redshift"):
        train_flow(settings, latents, latents, seed=0, options=FitOptions(progress=False))
    flow = build_flow(config("coupling"), latents, z, key=jr.key(0))
    with pytest.raises(ValueError, match="this flow depends on redshift"):
        flow.to_latent(jnp.zeros(DIM))
    with pytest.raises(ValueError, match="this flow depends on redshift"):
        latents_to_base(replace(flow), latents)
