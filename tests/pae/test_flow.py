"""The flow: round trips, densities against the change of variables, learning, and the base's moments."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from paeplatform.config import FitConfig, FlowConfig, PaeConfig, load_preset
from paeplatform.errors import ConfigError
from paeplatform.pae.flow import LatentFlow, build_flow, recentred
from paeplatform.pae.training import base_moments, train_flow

DIM = 4


def flow_config(architecture: str, epochs: int = 12) -> FlowConfig:
    return FlowConfig(
        architecture=architecture,
        n_layers=4,
        n_knots=6,
        width=24,
        jitter=0.02,
        fit=FitConfig(learning_rate=4e-3, batch_size=128, epochs=epochs),
    )


def pae_config(architecture: str, epochs: int = 12) -> PaeConfig:
    demo = load_preset("demo").pae
    return demo.model_copy(update={"flow": flow_config(architecture, epochs)})


def bananas(n: int, seed: int) -> np.ndarray:
    """(n, 4) two bent pairs of coordinates, off centre and of unlike scales."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, DIM))
    x[:, 1] = 0.3 * x[:, 1] + 0.5 * x[:, 0] ** 2
    x[:, 3] = 0.3 * x[:, 3] - 0.5 * x[:, 2] ** 2
    return (x * [5.0, 2.0, 0.1, 1.0] + [10.0, 0.0, 1.0, -3.0]).astype(np.float32)


def disturbed(architecture: str) -> LatentFlow:
    """A flow far from the identity."""
    flow = build_flow(flow_config(architecture), bananas(500, 0), key=jr.key(0))
    keys = iter(jr.split(jr.key(1), 200))
    layers = jax.tree.map(
        lambda leaf: leaf + 0.15 * jr.normal(next(keys), leaf.shape) if eqx.is_inexact_array(leaf) else leaf, flow.layers
    )
    return recentred(eqx.tree_at(lambda f: f.layers, flow, layers), 0.7 * jr.normal(jr.key(2), (50, DIM)) + 0.2)


@pytest.mark.parametrize("architecture", ["coupling", "iaf"])
@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_round_trip(architecture: str, spread: float):
    flow = disturbed(architecture)
    u = spread * jr.normal(jr.key(3), (400, DIM))
    latent = jax.vmap(flow.to_latent)(u)
    assert jnp.max(jnp.abs(latent - (flow.shift + flow.scale * u)) / flow.scale) > 0.1  # not the identity
    np.testing.assert_allclose(jax.vmap(flow.to_base)(latent), u, atol=1e-4)


@pytest.mark.parametrize("architecture", ["coupling", "iaf"])
def test_log_prob_is_the_change_of_variables(architecture: str):
    flow = disturbed(architecture)
    latent = jax.vmap(flow.to_latent)(jr.normal(jr.key(3), (50, DIM)))

    def expected(x):
        u = flow.to_base(x)
        return jax.scipy.stats.norm.logpdf(u).sum() + jnp.linalg.slogdet(jax.jacfwd(flow.to_base)(x))[1]

    np.testing.assert_allclose(jax.vmap(flow.log_prob)(latent), jax.vmap(expected)(latent), atol=2e-3)


@pytest.mark.parametrize("architecture", ["coupling", "iaf"])
def test_untrained_flow_is_nearly_the_z_score(architecture: str):
    latents = bananas(2000, 0)
    flow = build_flow(flow_config(architecture), latents, key=jr.key(0))
    u = np.asarray(jax.vmap(flow.to_base)(latents))
    np.testing.assert_allclose(u.mean(axis=0), 0.0, atol=0.05)
    np.testing.assert_allclose(u.std(axis=0), 1.0, atol=0.05)
    z = (latents - latents.mean(axis=0)) / latents.std(axis=0)
    # up to the permutations, every base variable is one z-scored latent
    correlation = np.abs(np.corrcoef(u, z, rowvar=False)[:DIM, DIM:])
    np.testing.assert_array_less(0.97, correlation.max(axis=1))


@pytest.mark.parametrize("architecture", ["coupling", "iaf"])
def test_training_makes_held_out_latents_gaussian(architecture: str):
    train, held_out = bananas(4000, 0), bananas(2000, 1)
    flow, result = train_flow(pae_config(architecture), train, held_out, seed=0, progress=False)
    moments = base_moments(flow, held_out)
    assert moments["max_abs_mean"] < 0.1
    assert moments["max_abs_variance_error"] < 0.2
    u = np.asarray(jax.vmap(flow.to_base)(held_out))
    assert np.abs(np.mean(u**3, axis=0)).max() < 0.25  # the bend is gone (skewness about 1.5 before)
    # entropy of the target: two Gaussian pairs, shears keep the volume
    truth = -(0.5 * DIM * np.log(2 * np.pi * np.e) + 2 * np.log(0.3) + np.log([5.0, 2.0, 0.1, 1.0]).sum())
    assert moments["mean_log_prob"] == pytest.approx(truth, abs=0.2)
    assert result.history[-1].validation_loss < result.history[0].validation_loss


def test_recentring_sets_the_moments_and_keeps_the_density_normalised():
    flow = build_flow(flow_config("coupling"), bananas(500, 0), key=jr.key(0))
    u = 0.5 * jr.normal(jr.key(5), (3000, DIM)) + 1.0
    shifted = recentred(flow, u)
    latents = jax.vmap(flow.to_latent)(u)
    again = jax.vmap(shifted.to_base)(latents)
    np.testing.assert_allclose(again.mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(again.std(axis=0), 1.0, atol=1e-3)
    gain = jax.vmap(shifted.log_prob)(latents).mean() - jax.vmap(flow.log_prob)(latents).mean()
    expected = -0.5 * DIM + 0.5 * float((u**2).sum(axis=1).mean()) - float(jnp.log(u.std(axis=0)).sum())
    assert float(gain) == pytest.approx(expected, abs=1e-2)


def test_one_dimension_is_refused():
    with pytest.raises(ConfigError, match="at least 2"):
        build_flow(flow_config("coupling"), np.zeros((5, 1)), key=jr.key(0))
