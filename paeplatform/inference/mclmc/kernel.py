"""One MCLMC chain, and all chains over all devices: the compiled part of the sampler.

A lane is one chain of one source. Compilation is dominated by copies of the gradient of flow, decoder and
forward table. The integrator's two gradients per step are one `lax.scan` over the half steps; burn-in and
sampling are the same compiled `advance`; a chain's first gradient is a step of size zero. That leaves three
copies (one here, two in BlackJAX's tuning) and one forward-mode Jacobian; composing BlackJAX's parts as they come
makes eleven.

Chains move in whitened coordinates y with v = centre + factor y (`Frame`), factor factor^T = (F + 1)^-1 with
the Fisher matrix F = J^T J of the whitened residual. At a total SNR of 100 the posterior's widths differ by a
factor of 100 and more, which a step size alone cannot bridge in 2000 steps.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import blackjax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.adaptation.mclmc_adaptation import MCLMCAdaptationState
from blackjax.mcmc.integrators import (
    IntegratorState,
    esh_dynamics_momentum_update_one_step,
    mclachlan_coefficients,
)
from jax.sharding import Mesh
from jaxtyping import Array

from paeplatform.inference.batches.sharding import sharded
from paeplatform.inference.model.posterior import LOG_2PI, LogPosterior, WhitenedPhotometry

CHUNK = 100  # steps per compiled call: the grain of the progress bar and of the metric's renewal in burn-in
# Wanted variance of the energy error per dimension, ten times BlackJAX's default: steps grow as its sixth root, by
# 1.5. The bias stays within the Monte Carlo error of the tests against closed and integrated posteriors, which have
# 3 and 4 dimensions; at 11 it has not been measured.
ENERGY_VARIANCE = 5e-3
# Momentum is kept over at least this many sqrt(dim) whitened widths. BlackJAX estimates L from the
# autocorrelation of the last 0.3 n_tune steps, which cannot see the slow directions. Measured without jumps on
# 16 real-template sources of SNR 10-30: the median of R-hat - 1 fell from 0.13 (L as estimated, about 4.5) to
# 0.07 (L = 10).
SHORTEST_L, LONGEST_L = 3.0, 6.0
FIRST_STEP = 0.25  # of sqrt(dim): step size before anything is known (BlackJAX's default)
MEMORY = 149.0 / 151.0  # forgetting of the burn-in step size average: 150 effective steps


class Frame(NamedTuple):
    """Whitened coordinates of a lane (one chain of one source): v = centre + factor @ y."""

    centre: Array
    factor: Array


class Walker(NamedTuple):
    """What a lane carries from one compiled call to the next."""

    position: Array  # y
    momentum: Array
    log_prob: Array
    gradient: Array


class Tuning(NamedTuple):
    """What tuning settles for a lane; `decoherence` is L."""

    step_size: Array
    decoherence: Array
    inverse_mass: Array


class Lane(NamedTuple):
    """What a compiled call takes of a lane."""

    photometry: WhitenedPhotometry
    frame: Frame
    walker: Walker
    tuning: Tuning
    key: Array


class Drawn(NamedTuple):
    """Steps of one compiled call: (CHUNK, ...) arrays, and the number of undone steps."""

    u: Array
    z: Array
    log_prob: Array
    undone: Array


def _scanned_mclachlan(logdensity_fn: Any, inverse_mass_matrix: Array) -> Any:
    """BlackJAX's isokinetic McLachlan integrator with its two gradient evaluations as one scan: half the graph."""
    momentum_update = esh_dynamics_momentum_update_one_step(inverse_mass_matrix)
    value_and_grad = jax.value_and_grad(logdensity_fn)
    first, drift, middle, _, last = mclachlan_coefficients

    def one_step(state: IntegratorState, step_size: Array) -> tuple[IntegratorState, Array]:
        momentum, velocity, kinetic = momentum_update(
            state.momentum, state.logdensity_grad, step_size, first, None
        )

        def half(carry: tuple, kick: Array) -> tuple[tuple, None]:
            position, momentum, velocity, kinetic, _, _ = carry
            position = position + step_size * drift * velocity
            log_prob, gradient = value_and_grad(position)
            momentum, velocity, kinetic = momentum_update(momentum, gradient, step_size, kick, kinetic)
            return (position, momentum, velocity, kinetic, log_prob, gradient), None

        carry = (state.position, momentum, velocity, kinetic, state.logdensity, state.logdensity_grad)
        carry, _ = jax.lax.scan(half, carry, jnp.asarray([middle, last]))
        position, momentum, _, kinetic, log_prob, gradient = carry
        return IntegratorState(position, momentum, log_prob, gradient), kinetic

    return one_step


_kernel = blackjax.mcmc.mclmc.build_kernel(integrator=_scanned_mclachlan)


def _density(posterior: LogPosterior, photometry: WhitenedPhotometry, frame: Frame) -> Any:
    return lambda y: posterior.free_log_prob(frame.centre + frame.factor @ y, photometry)


def _advance_lane(
    posterior: LogPosterior, lane: Lane, n_active: Array, adapt: Array
) -> tuple[Walker, Tuning, Drawn]:
    """`n_active` steps, at most CHUNK; with `adapt` the step size follows the energy error as BlackJAX's tuning."""
    photometry, frame, walker, tuning, key = lane
    logdensity = _density(posterior, photometry, frame)
    dim = walker.position.size

    def step(i: Array, carry: tuple) -> tuple:
        state, (step_size, time_sum, x_sum, ceiling), trace = carry
        # step 0 has size zero: it leaves the walker where it is and computes the gradient there
        size = jnp.where(i == 0, 0.0, step_size)
        step_key = jax.random.fold_in(key, i)
        state, info = _kernel(step_key, state, logdensity, tuning.inverse_mass, tuning.decoherence, size)
        # Var[energy error] grows as step_size^6: invert a weighted running mean of error^2 / step_size^6
        xi = info.energy_change**2 / (dim * ENERGY_VARIANCE) + 1e-8
        good = info.nonans & jnp.isfinite(xi)
        weight = jnp.where(good, jnp.exp(-0.5 * (jnp.log(xi) / 9.0) ** 2), 0.0)
        x_new = MEMORY * x_sum + jnp.where(good, weight * xi / step_size**6, 0.0)
        time_new = MEMORY * time_sum + weight
        ceiling_new = jnp.where(good, ceiling, 0.8 * step_size)
        wanted = jnp.where(time_new > 0.0, (x_new / jnp.maximum(time_new, 1e-30)) ** (-1.0 / 6.0), step_size)
        wanted = jnp.clip(jnp.minimum(wanted, ceiling_new), 1e-3, 2.0 * jnp.sqrt(1.0 * dim))
        learned = jax.tree.map(
            lambda new, old: jnp.where(adapt & (i > 0), new, old),
            (wanted, time_new, x_new, ceiling_new),
            (step_size, time_sum, x_sum, ceiling),
        )
        v = frame.centre + frame.factor @ jnp.asarray(state.position)
        # the density over (u, ln z), not over (u, t)
        log_prob = state.logdensity - posterior.log_bend(v[-1])
        row = (v[:-1], jnp.exp(posterior.log_z_of(v[-1])), log_prob, ~info.nonans)
        return state, learned, jax.tree.map(lambda buffer, value: buffer.at[i].set(value), trace, row)

    zero, long = jnp.zeros(()), jnp.zeros(CHUNK + 1)
    trace = (jnp.zeros((CHUNK + 1, dim - 1)), long, long, jnp.zeros(CHUNK + 1, bool))
    state = IntegratorState(walker.position, walker.momentum, walker.log_prob, walker.gradient)
    carry = (state, (tuning.step_size, zero, zero, jnp.asarray(jnp.inf)), trace)
    state, learned, (u, z, log_prob, undone) = jax.lax.fori_loop(0, n_active + 1, step, carry)
    drawn = Drawn(u[1:], z[1:], log_prob[1:], jnp.sum(undone))
    return Walker(*state), tuning._replace(step_size=learned[0]), drawn


def _tune_lane(posterior: LogPosterior, lane: Lane, n_tune: int) -> tuple[Walker, Tuning]:
    """BlackJAX's adaptation of step size and L, `n_tune` steps together."""
    photometry, frame, walker, tuning, key = lane
    logdensity = _density(posterior, photometry, frame)
    state = IntegratorState(walker.position, walker.momentum, walker.log_prob, walker.gradient)
    params = MCLMCAdaptationState(tuning.decoherence, tuning.step_size, tuning.inverse_mass)
    state, params, _ = blackjax.mclmc_find_L_and_step_size(
        mclmc_kernel=_kernel,
        num_steps=n_tune,
        state=state,
        rng_key=key,
        logdensity_fn=logdensity,
        frac_tune1=0.35,
        frac_tune2=0.35,
        frac_tune3=0.3,
        desired_energy_var=ENERGY_VARIANCE,
        diagonal_preconditioning=False,  # the frame is whitened; 200 correlated draws would only add noise
        params=params,
    )
    dim = walker.position.size
    sound = jnp.isfinite(params.step_size) & (params.step_size > 0.0) & jnp.isfinite(params.L)
    step_size = jnp.where(sound, params.step_size, tuning.step_size)
    decoherence = jnp.where(sound, params.L, tuning.decoherence)
    decoherence = jnp.clip(decoherence, SHORTEST_L * jnp.sqrt(1.0 * dim), LONGEST_L * jnp.sqrt(1.0 * dim))
    tuned = tuning._replace(step_size=step_size, decoherence=decoherence)
    return Walker(*state), tuned


@eqx.filter_jit
def advance(
    posterior: LogPosterior, mesh: Mesh, lanes: Lane, n_active: Array, adapt: Array
) -> tuple[Walker, Tuning, Drawn]:
    """`n_active` steps of all lanes."""
    return sharded(_advance_lane, posterior, mesh, (lanes,), (n_active, adapt))


@eqx.filter_jit
def tune(posterior: LogPosterior, mesh: Mesh, lanes: Lane, n_tune: int) -> tuple[Walker, Tuning]:
    """BlackJAX's tuning of all lanes."""
    return sharded(partial(_tune_lane, n_tune=n_tune), posterior, mesh, (lanes,))


@eqx.filter_jit
def log_weight(posterior: LogPosterior, frame: Frame, walker: Walker) -> Array:
    """ln L + ln p(z) of the walkers, from the density they carry: what `score_bank` gives the bank's draws."""
    v = leave(frame, walker.position)
    t, u = v[:, -1], v[:, :-1]
    log_normal = -0.5 * jnp.sum(u**2, axis=1) - 0.5 * u.shape[1] * LOG_2PI
    return walker.log_prob - posterior.log_bend(t) - posterior.log_z_of(t) - log_normal


@jax.jit
def land(frame: Frame, walker: Walker, fresh: Walker, landing: Array, moves: Array) -> Walker:
    """Walkers that jump take `fresh` momenta at `landing`; density and gradient come with the next step zero."""
    y = jnp.linalg.solve(frame.factor, (landing - frame.centre)[..., None])[..., 0]
    return jax.tree.map(
        lambda new, old: jnp.where(moves.reshape(-1, *[1] * (new.ndim - 1)), new, old),
        fresh._replace(position=y),
        walker,
    )


@jax.jit
def leave(frame: Frame, y: Array) -> Array:
    """Sampler coordinates v of whitened positions."""
    return frame.centre + jnp.einsum("lij,lj->li", frame.factor, y)


def shared_tuning(tuning: Tuning, n_chain: int) -> Tuning:
    """Step size and L of each chain replaced by the median of its source's chains.

    The chains share one metric, and 200 steps each settle the step size to a factor of two or so; a chain left with a
    tenth of the others' step would decide R-hat.
    """

    def median(values: Array) -> np.ndarray:
        by_source = np.asarray(values).reshape(-1, n_chain)
        return np.repeat(np.median(by_source, axis=1), n_chain).astype(np.float32)

    return tuning._replace(step_size=median(tuning.step_size), decoherence=median(tuning.decoherence))
