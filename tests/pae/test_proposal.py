"""The proposal: draws and density are one distribution, inside the limits, blind to masked bands."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from paeplatform.config import FitConfig, ProposalConfig
from paeplatform.inference.model.posterior import whiten
from paeplatform.inference.screening import MAX_SNR
from paeplatform.pae.proposal import Proposal, build_proposal, features, logit_z

N_LATENT, N_BAND, LIMITS = 10, 9, (0.05, 2.5)
LOW, HIGH = np.log(LIMITS).astype(np.float32)
CONFIG = ProposalConfig(
    encoder_widths=(24, 16),
    n_layers=4,
    width=16,
    n_knots=6,
    fit=FitConfig(learning_rate=1e-3, batch_size=64, epochs=1),
)


def untrained(n_latent, seed=0):
    return build_proposal(CONFIG, n_latent, N_BAND, LIMITS, key=jr.key(seed), t_moments=(-0.4, 1.1))


@functools.cache
def disturbed(n_latent):
    """Far from the standard normal: bent, shifted, correlated, and different for every source."""
    proposal = untrained(n_latent)
    rng = np.random.default_rng(1)

    def shaken(part, scale):
        def one(leaf):
            if not eqx.is_inexact_array(leaf):
                return leaf
            return leaf + jnp.asarray(scale * rng.normal(size=leaf.shape), jnp.float32)

        return jax.tree.map(one, part)

    return eqx.tree_at(
        lambda p: (p.to_hidden, p.to_affine, p.layers),
        proposal,
        (shaken(proposal.to_hidden, 0.3), shaken(proposal.to_affine, 0.15), shaken(proposal.layers, 0.15)),
    )


def photometry(seed=0, masked=()):
    rng = np.random.default_rng(seed)
    flux, flux_err = rng.normal(5.0, 3.0, N_BAND), rng.uniform(0.3, 2.0, N_BAND)
    flux_err[list(masked)] = np.inf
    return flux, flux_err


@eqx.filter_jit
def context_of(proposal, flux, flux_err):
    return proposal.context(*whiten(jnp.asarray(flux, jnp.float32), jnp.asarray(flux_err, jnp.float32))[:2])


@eqx.filter_jit
def drawn(proposal: Proposal, context, key, n):
    eps = jr.normal(key, (n, proposal.dim))
    return jax.vmap(lambda eps: proposal.sample(context, eps))(eps)


@eqx.filter_jit
def density(proposal, context, u, log_z):
    return jax.vmap(lambda u, log_z: proposal.log_prob(context, u, log_z))(u, log_z)


@eqx.filter_jit
def density_and_slopes(proposal, context, u, log_z):
    """ln q and its derivatives by u and ln z."""
    both = jax.value_and_grad(lambda u, log_z: proposal.log_prob(context, u, log_z), argnums=(0, 1))
    return jax.vmap(both)(u, log_z)


def test_draws_carry_the_density_that_log_prob_gives_them():
    proposal = disturbed(N_LATENT)
    for seed in (0, 1):
        context = context_of(proposal, *photometry(seed, masked=(2,) * seed))
        u, log_z, log_q = drawn(proposal, context, jr.key(seed), 800)
        got, slopes = density_and_slopes(proposal, context, u, log_z)
        got, du, dlog_z = (np.asarray(part, np.float64) for part in (got, *slopes))
        # a coordinate is the sum of terms as large as |mean| + |factor| |y|, each rounded by 6e-8 of itself, and ln z
        # is rounded at its own size; some ten such roundings on the way there and back, and ln q feels them by
        # its slope. The terms of ln q itself, rounded once per layer, are of the order of the dimension.
        size = (
            np.abs(np.asarray(context.mean))[:-1] + 5.0 * np.abs(np.asarray(context.factor)).sum(axis=1)[:-1]
        )
        slack = np.abs(du) @ (size + 1.0) + np.abs(dlog_z) * (np.abs(np.asarray(log_z)) + HIGH - LOW)
        slack += np.abs(got) + 30.0 * N_LATENT
        assert np.all(np.abs(got - np.asarray(log_q)) < 12.0 * 6e-8 * slack)
        # that allowance is small beside what matters to a weight
        assert np.quantile(12.0 * 6e-8 * slack, 0.9) < 0.01


def test_density_integrates_to_one_and_gives_the_draws_moments():
    """One latent: quadrature over a grid in (u, ln z), independent of `sample` and of its Jacobian."""
    proposal = disturbed(1)
    context = context_of(proposal, *photometry(3))
    u_draws, log_z_draws, _ = (
        np.asarray(part, np.float64) for part in drawn(proposal, context, jr.key(5), 40000)
    )
    centre, width = u_draws.mean(), u_draws.std()
    u = np.linspace(min(u_draws.min(), centre - 8 * width), max(u_draws.max(), centre + 8 * width), 601)
    # even in the logit, where the density is smooth up to the limits; d ln z / d logit = s (1 - s) (high - low)
    raw = np.linspace(-13.0, 13.0, 801)
    place = 1.0 / (1.0 + np.exp(-raw))
    log_z = LOW + (HIGH - LOW) * place
    grid_u, grid_z = np.meshgrid(u, log_z, indexing="ij")
    log_q = density(
        proposal,
        context,
        jnp.asarray(grid_u.reshape(-1, 1), jnp.float32),
        jnp.asarray(grid_z.ravel(), jnp.float32),
    )
    mass = np.exp(np.asarray(log_q, np.float64)).reshape(grid_u.shape)
    mass *= (u[1] - u[0]) * (raw[1] - raw[0]) * place * (1.0 - place) * (HIGH - LOW)
    assert mass.sum() == pytest.approx(1.0, abs=3e-3)
    # moments of the draws: four standard errors, and the grid's own error
    for values, draws in ((grid_u, u_draws[:, 0]), (grid_z, log_z_draws)):
        mean = (values * mass).sum()
        std = np.sqrt(((values - mean) ** 2 * mass).sum())
        assert abs(draws.mean() - mean) < 4.0 * std / 200.0 + 5e-3 * std
        assert draws.std() / std == pytest.approx(1.0, abs=0.03)
    correlation = np.corrcoef(u_draws[:, 0], log_z_draws)[0, 1]
    assert abs(correlation) > 0.05  # the case is not the trivial one


def test_redshifts_lie_inside_the_limits_and_density_vanishes_outside():
    proposal = disturbed(N_LATENT)
    context = context_of(proposal, *photometry(1))
    _, log_z, log_q = drawn(proposal, context, jr.key(0), 20000)
    assert np.all((np.asarray(log_z) > LOW) & (np.asarray(log_z) < HIGH))
    assert np.isfinite(np.asarray(log_q)).all()
    outside = [LOW - 1.0, LOW - 1e-5, LOW, HIGH, HIGH + 1e-5, 40.0]
    inside = [LOW + 1e-3, LOW + 0.1, -1.0, 0.0, HIGH - 0.1, HIGH - 1e-3]
    at = np.resize(np.array(outside + inside, np.float32), 800)
    log_q, slopes = density_and_slopes(proposal, context, jnp.ones((800, N_LATENT)), jnp.asarray(at))
    is_outside = np.resize([True] * 6 + [False] * 6, 800)
    assert np.all(np.asarray(log_q)[is_outside] == -np.inf)
    assert np.isfinite(np.asarray(log_q)[~is_outside]).all()
    # a row at or beyond a limit must not turn a batch's gradient into NaN
    for slope in slopes:
        assert np.isfinite(np.asarray(slope)).all()


def test_fluxes_of_masked_bands_are_not_seen():
    proposal, masked = disturbed(N_LATENT), (0, 4, 5)
    flux, flux_err = photometry(2, masked)
    seen = context_of(proposal, flux, flux_err)
    for value in (0.0, -1e6, np.nan, np.inf):
        flux[list(masked)] = value
        for error in (np.inf, np.nan, 0.0, -2.0):
            flux_err[list(masked)] = error
            other = context_of(proposal, flux, flux_err)
            for one, two in zip(seen, other, strict=True):
                assert np.array_equal(np.asarray(one), np.asarray(two))
    # but which bands are masked is
    flux, flux_err = photometry(2, (0, 4))
    flux[5] = 0.0
    assert not np.array_equal(np.asarray(context_of(proposal, flux, flux_err).mean), np.asarray(seen.mean))


def test_units_are_not_seen():
    """Flux and error times one power of two: the same context, to the bit."""
    proposal = disturbed(N_LATENT)
    flux, flux_err = photometry(4, (3,))
    one, two = (context_of(proposal, flux * unit, flux_err * unit) for unit in (1.0, 2.0**40))
    assert np.array_equal(np.asarray(one.mean), np.asarray(two.mean))
    assert np.array_equal(np.asarray(one.factor), np.asarray(two.factor))


def test_an_untrained_proposal_is_nearly_the_standard_normal():
    """Whatever the photometry; in the coordinate t, which is the logit standardised by the moments it was given."""
    proposal = untrained(N_LATENT)
    for seed, masked in ((0, ()), (1, tuple(range(1, N_BAND)))):
        context = context_of(proposal, *photometry(seed, masked))
        u, log_z, _ = (np.asarray(part, np.float64) for part in drawn(proposal, context, jr.key(9), 20000))
        t = (np.asarray(logit_z(jnp.asarray(log_z), LOW, HIGH), np.float64) + 0.4) / 1.1
        x = np.column_stack([u, t])
        assert np.all(np.abs(x.mean(axis=0)) < 0.1)
        # the bounded log scale is -0.19, not 0, where the network says nothing
        assert np.all(np.abs(np.log(x.std(axis=0)) + 0.1) < 0.2)
        assert np.all(np.abs(np.corrcoef(x.T) - np.eye(N_LATENT + 1)) < 0.1)


def test_one_key_makes_one_proposal_and_one_set_of_draws():
    leaves = [jax.tree.leaves(eqx.filter(untrained(N_LATENT, seed), eqx.is_array)) for seed in (7, 7, 8)]
    raw = [[np.asarray(leaf).tobytes() for leaf in part] for part in leaves]
    assert raw[0] == raw[1] and raw[0] != raw[2]
    proposal = disturbed(N_LATENT)
    context = context_of(proposal, *photometry(0))
    one, two, other = (drawn(proposal, context, jr.key(seed), 800)[0] for seed in (1, 1, 2))
    assert np.asarray(one).tobytes() == np.asarray(two).tobytes() != np.asarray(other).tobytes()


@pytest.mark.parametrize("snr", [0.0, 1e-30, 1.0, 1e3, MAX_SNR, -MAX_SNR])
def test_features_and_scales_are_finite_for_all_signals_that_screening_lets_pass(snr):
    signal = jnp.full(N_BAND, snr, jnp.float32)
    weight = jnp.ones(N_BAND)
    assert features(signal, weight).shape == (3 * N_BAND + 1,)
    assert np.isfinite(np.asarray(features(signal, weight))).all()
    # one band that outshines all the others, or is the only one
    for seen in (jnp.zeros(N_BAND).at[3].set(1.0), jnp.full(N_BAND, 1e-3).at[3].set(1.0)):
        found = features(signal * seen, seen * np.sqrt(N_BAND))
        assert np.isfinite(np.asarray(found)).all()
    proposal = disturbed(N_LATENT)
    context = context_of(proposal, signal, weight)
    scale = np.diagonal(np.asarray(context.factor))
    assert np.isfinite(np.asarray(context.mean)).all()
    # a source of any brightness keeps a width that float32 can hold
    assert np.all((scale > 1e-3) & (scale < 10.0))


def test_gradient_of_the_features_is_finite_without_any_signal():
    slope = jax.jacfwd(lambda signal: features(signal, jnp.ones(N_BAND)))(jnp.zeros(N_BAND))
    assert np.isfinite(np.asarray(slope)).all()


def test_sizes_follow_the_configuration():
    cfg = CONFIG.model_copy(update={"n_layers": 2})
    proposal = eqx.filter_eval_shape(build_proposal, cfg, 10, 102, LIMITS, key=jr.key(0))
    assert proposal.dim == 11 and proposal.layers.order.shape == (2, 11)
    assert proposal.encoder.layers[0].weight.shape == (24, 307)
    orders = np.asarray(disturbed(N_LATENT).layers.order)
    assert np.array_equal(np.sort(orders, axis=1), np.tile(np.arange(N_LATENT + 1), (CONFIG.n_layers, 1)))
