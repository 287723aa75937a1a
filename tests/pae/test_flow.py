"""The flow: round trips, densities against the change of variables, learning, and the base's moments."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from paeplatform.config import FitConfig, FlowConfig, PaeConfig, load_preset
from paeplatform.errors import ConfigError
from paeplatform.pae.flow import STRAIGHT_BEYOND, LatentFlow, TailWarp, build_flow, recentred
from paeplatform.pae.training import FitOptions, base_moments, train_flow

DIM = 4


def flow_config(architecture: str, epochs: int = 15) -> FlowConfig:
    return FlowConfig(
        architecture=architecture,
        n_layers=6 if architecture == "coupling" else 2,
        n_knots=6,
        width=24,
        depth=1,
        jitter=0.02,
        fit=FitConfig(learning_rate=8e-3, batch_size=100, epochs=epochs),
    )


def pae_config(architecture: str, epochs: int = 15) -> PaeConfig:
    demo = load_preset("demo").pae
    return demo.model_copy(update={"flow": flow_config(architecture, epochs)})


@functools.cache
def bananas(n: int, seed: int) -> np.ndarray:
    """(n, 4) two bent pairs of coordinates, off centre and of unlike scales."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, DIM))
    x[:, 1] = 0.3 * x[:, 1] + np.hypot(0.5, x[:, 0])
    x[:, 3] = 0.3 * x[:, 3] - np.hypot(0.5, x[:, 2])
    return (x * [5.0, 2.0, 0.1, 1.0] + [10.0, 0.0, 1.0, -3.0]).astype(np.float32)


to_latent = eqx.filter_jit(lambda flow, u: jax.vmap(flow.to_latent)(u))
to_base = eqx.filter_jit(lambda flow, latent: jax.vmap(flow.to_base)(latent))
log_prob = eqx.filter_jit(lambda flow, latent: jax.vmap(flow.log_prob)(latent))


@functools.cache
def disturbed(architecture: str) -> LatentFlow:
    """A flow far from the identity."""
    return far_from_identity(build_flow(flow_config(architecture), bananas(500, 0), key=jr.key(0)))


def far_from_identity(flow: LatentFlow) -> LatentFlow:
    """The flow with noise on its weights, and recentred."""
    keys = iter(jr.split(jr.key(1), 200))
    layers = jax.tree.map(
        lambda leaf: leaf + 0.15 * jr.normal(next(keys), leaf.shape) if eqx.is_inexact_array(leaf) else leaf,
        flow.layers,
    )
    return recentred(
        eqx.tree_at(lambda f: f.layers, flow, layers), 0.7 * jr.normal(jr.key(2), (50, DIM)) + 0.2
    )


@pytest.mark.parametrize("architecture", ["coupling", "iaf"])
def test_round_trip(architecture: str):
    flow = disturbed(architecture)
    u = jr.normal(jr.key(3), (400, DIM)) * jnp.where(jnp.arange(400) < 300, 1.0, 3.0)[:, None]
    latent = to_latent(flow, u)
    assert jnp.max(jnp.abs(latent - (flow.shift + flow.scale * u)) / flow.scale) > 0.1  # not the identity
    error = jnp.abs(to_base(flow, latent) - u)
    assert jnp.max(error[:300]) < 1e-4
    # far out the flow contracts without bound by data, and float32 loses what it contracts
    assert jnp.max(error[300:]) < 1e-2


@pytest.mark.parametrize("architecture", ["coupling", "iaf"])
def test_log_prob_is_the_change_of_variables(architecture: str):
    flow = disturbed(architecture)
    latent = to_latent(flow, jr.normal(jr.key(3), (50, DIM)))

    @jax.jit
    @jax.vmap
    def expected(x):
        u = flow.to_base(x)
        return jax.scipy.stats.norm.logpdf(u).sum() + jnp.linalg.slogdet(jax.jacfwd(flow.to_base)(x))[1]

    np.testing.assert_allclose(log_prob(flow, latent), expected(latent), atol=2e-3)


@pytest.mark.parametrize("architecture", ["coupling", "iaf"])
def test_untrained_flow_is_nearly_the_standardisation(architecture: str):
    latents = bananas(2000, 0)
    flow = build_flow(flow_config(architecture), latents, key=jr.key(0))
    u = np.asarray(to_base(flow, latents))
    np.testing.assert_allclose(u.mean(axis=0), 0.0, atol=0.05)
    np.testing.assert_allclose(u.std(axis=0), 1.0, atol=0.05)
    z = np.arcsinh((latents - latents.mean(axis=0)) / latents.std(axis=0))
    # up to the permutations, every base variable is one standardised latent
    correlation = np.abs(np.corrcoef(u, z, rowvar=False)[:DIM, DIM:])
    np.testing.assert_array_less(0.97, correlation.max(axis=1))


@pytest.mark.parametrize("architecture", ["coupling", "iaf"])
def test_training_makes_held_out_latents_gaussian(architecture: str):
    train, held_out = bananas(2000, 0), bananas(1000, 1)
    flow, result = train_flow(
        pae_config(architecture), train, held_out, seed=0, options=FitOptions(progress=False)
    )
    moments = base_moments(flow, held_out)
    assert moments["max_abs_mean"] < 0.1
    assert moments["max_abs_variance_error"] < 0.2
    u = np.asarray(to_base(flow, held_out))
    # the bend is gone: |x_0| and x_1 correlate by 0.9 before
    assert np.abs(np.corrcoef(np.abs(u), u, rowvar=False)[:DIM, DIM:][~np.eye(DIM, dtype=bool)]).max() < 0.2
    # the target's own mean log density: two normal pairs, whose shears keep the volume
    truth = -(0.5 * DIM * np.log(2 * np.pi * np.e) + 2 * np.log(0.3) + np.log([5.0, 2.0, 0.1, 1.0]).sum())
    assert truth - 0.25 < moments["mean_log_prob"] < truth + 0.05
    assert result.history[-1].validation_loss < result.history[0].validation_loss


def test_recentring_sets_the_moments_and_keeps_the_density_normalised():
    flow = build_flow(flow_config("coupling"), bananas(500, 0), key=jr.key(0))
    u = 0.5 * jr.normal(jr.key(5), (3000, DIM)) + 1.0
    shifted = recentred(flow, u)
    latents = to_latent(flow, u)
    again = to_base(shifted, latents)
    np.testing.assert_allclose(again.mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(again.std(axis=0), 1.0, atol=1e-3)
    gain = log_prob(shifted, latents).mean() - log_prob(flow, latents).mean()
    expected = -0.5 * DIM + 0.5 * float((u**2).sum(axis=1).mean()) - float(jnp.log(u.std(axis=0)).sum())
    assert float(gain) == pytest.approx(expected, abs=1e-2)


def test_the_warp_is_asinh_and_straight_further_out():
    z = np.random.default_rng(0).standard_t(3, size=(500, DIM)).astype(np.float32)
    warp = TailWarp.of(jnp.asarray(z))
    edge, slope = STRAIGHT_BEYOND, 1.0 / np.sqrt(1.0 + STRAIGHT_BEYOND**2)

    def bent(x):
        tail = np.sign(x) * (np.arcsinh(edge) + (abs(x) - edge) * slope)
        return np.where(abs(x) > edge, tail, np.arcsinh(x))

    far = np.linspace(-60.0, 60.0, 481)[:, None] * np.ones(DIM)
    sample = bent(z.astype(np.float64))
    expected = (bent(far) - sample.mean(axis=0)) / sample.std(axis=0)
    np.testing.assert_allclose(jax.vmap(warp.forward)(far), expected, rtol=2e-6, atol=1e-5)
    back = jax.vmap(warp.inverse)(jax.vmap(warp.forward)(jnp.asarray(far)))
    np.testing.assert_allclose(back, far, rtol=2e-6, atol=2e-6)
    for row in (far[3], far[200], far[250]):
        expected = jnp.linalg.slogdet(jax.jacfwd(warp.forward)(jnp.asarray(row)))[1]
        np.testing.assert_allclose(warp.log_slope(jnp.asarray(row)), expected, atol=1e-5)


@pytest.mark.parametrize("tails", ["asinh", "linear"])
def test_an_island_far_out_gets_its_share_of_the_prior(tails: str):
    """One galaxy in a hundred is 7 sigma from all others, as one of the 160 templates was: with it in reach of the
    splines |u| is that of a source in a hundred (3.6 in four dimensions), without it stays where no prior draw goes.
    """
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(3000, DIM))
    island = np.arange(3000) % 100 == 0
    latents[island] = 0.1 * latents[island] + [-10.0, 10.0, 0.0, 0.0]
    cfg = flow_config("coupling", 12).model_copy(update={"tails": tails})
    cfg = load_preset("demo").pae.model_copy(update={"flow": cfg})
    flow, _ = train_flow(
        cfg,
        latents[500:].astype(np.float32),
        latents[:500].astype(np.float32),
        seed=0,
        options=FitOptions(progress=False),
    )
    norm = np.median(np.linalg.norm(to_base(flow, latents[island].astype(np.float32)), axis=1))
    if tails == "asinh":
        assert norm < 5.0
    else:
        assert norm > 7.0


def test_one_dimension_is_refused():
    with pytest.raises(ConfigError, match="at least 2"):
        build_flow(flow_config("coupling"), np.zeros((5, 1)), key=jr.key(0))
