"""Microcanonical Langevin Monte Carlo over many sources at once (row I2, paper section IV.2.1).

Stages per source: starts from the best of many prior draws, burn-in, re-initialisation of chains left behind, BlackJAX's
tuning of step size, diagonal metric and L per chain, sampling. Sources travel in batches of one fixed shape; each source's
random numbers come from (seed, object id), so its result depends neither on its batch mates nor on its place.

Cost. Compilation is dominated by copies of the gradient of flow, decoder and forward table. The integrator's two
gradients per step are one `lax.scan` over the half steps, burn-in and sampling are the same compiled `_advance`, and a
chain's first gradient is a step of size zero: five copies in all, where the plain composition makes eleven.

Metric. Chains move in whitened coordinates y with v = centre + factor y, factor factor^T = (J^T J + 1)^-1 from the Jacobian
J of the whitened residual (Gauss-Newton). It is renewed every chunk of burn-in and frozen before tuning. At a total SNR of
100 the posterior's widths differ by a factor of 100 and more, which a step size and a diagonal metric alone cannot bridge
in 2000 steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import blackjax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from blackjax.adaptation.mclmc_adaptation import MCLMCAdaptationState
from blackjax.mcmc.integrators import IntegratorState, esh_dynamics_momentum_update_one_step, mclachlan_coefficients
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float
from tqdm.auto import tqdm

from paeplatform.config import MclmcConfig
from paeplatform.inference.posterior import LogPosterior, Photometry, whiten
from paeplatform.inference.runtime import source_mesh
from paeplatform.inference.starts import (
    CANDIDATES_PER_CHAIN,
    Geometry,
    PriorBank,
    choose_starts,
    climb,
    prior_bank,
    prior_draws,
    reinitialise,
    score_bank,
)

METRIC_EVERY = 50  # burn-in steps between two looks at the local geometry
CHUNK = 100  # steps per compiled call: the grain of the progress bar and of the metric's renewal in burn-in
ENERGY_VARIANCE = 5e-4  # wanted variance of the energy error per dimension (BlackJAX's default)
FIRST_STEP = 0.25  # of sqrt(dim): step size before anything is known (BlackJAX's default)
MEMORY = 149.0 / 151.0  # forgetting of the burn-in step size average: 150 effective steps
LANE = PartitionSpec("lane")


@dataclass(frozen=True)
class PosteriorSamples:
    """Draws after the discarded ones, float32.

    Attributes:
        z: (source, chain, draw) redshift of every draw.
        u: (source, chain, kept, n_latent) base variable of every `keep_every`-th draw.
        log_prob: (source, chain, draw) log density over (u, ln z), up to a constant of the data.
        keep_every: draw k of `u` is draw (k+1) keep_every - 1 of `z`.
        n_reinit: (source,) chains re-initialised after burn-in.
        step_size, decoherence: (source, chain) tuned step size and L, in whitened coordinates.
        rejected: (source,) fraction of steps undone because they met a non-finite density.
        failed: (source,) no usable band, or no start of finite density; the source's draws are NaN.
    """

    z: Float[np.ndarray, "source chain draw"]
    u: Float[np.ndarray, "source chain kept latent"]
    log_prob: Float[np.ndarray, "source chain draw"]
    keep_every: int
    n_reinit: np.ndarray
    step_size: np.ndarray
    decoherence: np.ndarray
    rejected: np.ndarray
    failed: np.ndarray

    @property
    def z_kept(self) -> Float[np.ndarray, "source chain kept"]:
        """Redshifts that belong to `u`."""
        return self.z[..., self.keep_every - 1 :: self.keep_every][..., : self.u.shape[2]]


class _Frame(NamedTuple):
    """Whitened coordinates of a lane (one chain of one source): v = centre + factor @ y."""

    centre: Array
    factor: Array


class _Walker(NamedTuple):
    """What a lane carries from one compiled call to the next."""

    position: Array  # y
    momentum: Array
    log_prob: Array
    gradient: Array


class _Tuning(NamedTuple):
    step_size: Array
    decoherence: Array  # L
    inverse_mass: Array


class _Drawn(NamedTuple):
    """Steps of one compiled call: (CHUNK, ...) arrays, and the number of undone steps."""

    u: Array
    z: Array
    log_prob: Array
    undone: Array


# -- one lane --------------------------------------------------------------------------------------------------------
def _scanned_mclachlan(logdensity_fn: Any, inverse_mass_matrix: Array) -> Any:
    """BlackJAX's isokinetic McLachlan integrator with its two gradient evaluations as one scan: half the graph."""
    momentum_update = esh_dynamics_momentum_update_one_step(inverse_mass_matrix)
    value_and_grad = jax.value_and_grad(logdensity_fn)
    first, drift, middle, _, last = mclachlan_coefficients

    def one_step(state: IntegratorState, step_size: Array) -> tuple[IntegratorState, Array]:
        momentum, velocity, kinetic = momentum_update(state.momentum, state.logdensity_grad, step_size, first, None)

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


def _density(posterior: LogPosterior, photometry: Photometry, frame: _Frame) -> Any:
    return lambda y: posterior.free_log_prob(frame.centre + frame.factor @ y, photometry)


def _metric_lane(posterior: LogPosterior, photometry: Photometry, v: Array) -> Geometry:
    """Gauss-Newton picture of ln L at v; zero matrix, zero gradient and -inf where something is not finite."""

    def residual(v: Array) -> tuple[Array, Array]:
        r = posterior.free_residual(v, photometry)
        return r, r

    jacobian, r = jax.jacfwd(residual, has_aux=True)(v)
    fisher, gradient, log_like = jacobian.T @ jacobian, -jacobian.T @ r, -0.5 * jnp.sum(r**2)
    good = jnp.isfinite(fisher).all() & jnp.isfinite(gradient).all() & jnp.isfinite(log_like)
    return Geometry(jnp.where(good, fisher, 0.0), jnp.where(good, gradient, 0.0), jnp.where(good, log_like, -jnp.inf))


@jax.jit
def _factor(fisher: Array) -> Array:
    """A square root of (fisher + 1)^-1, (lane, dim, dim); 1 is the prior's share."""
    eye = jnp.eye(fisher.shape[-1])

    def one(fisher: Array) -> Array:
        root = jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(fisher + eye), eye, lower=True).T
        return jnp.where(jnp.isfinite(root).all(), root, eye)

    return jax.vmap(one)(fisher)


def _advance_lane(
    posterior: LogPosterior,
    photometry: Photometry,
    frame: _Frame,
    walker: _Walker,
    tuning: _Tuning,
    key: Array,
    n_active: Array,
    adapt: Array,
) -> tuple[_Walker, _Tuning, _Drawn]:
    """`n_active` steps, at most CHUNK; with `adapt` the step size follows the energy error as in BlackJAX's tuning."""
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
        v = frame.centre + frame.factor @ state.position
        # the density over (u, ln z), not over (u, t)
        log_prob = state.logdensity - posterior.log_bend(v[-1])
        row = (v[:-1], jnp.exp(posterior.log_z_of(v[-1])), log_prob, ~info.nonans)
        return state, learned, jax.tree.map(lambda buffer, value: buffer.at[i].set(value), trace, row)

    zero, long = jnp.zeros(()), jnp.zeros(CHUNK + 1)
    trace = (jnp.zeros((CHUNK + 1, dim - 1)), long, long, jnp.zeros(CHUNK + 1, bool))
    state = IntegratorState(walker.position, walker.momentum, walker.log_prob, walker.gradient)
    carry = (state, (tuning.step_size, zero, zero, jnp.asarray(jnp.inf)), trace)
    state, learned, (u, z, log_prob, undone) = jax.lax.fori_loop(0, n_active + 1, step, carry)
    drawn = _Drawn(u[1:], z[1:], log_prob[1:], jnp.sum(undone))
    return _Walker(*state), tuning._replace(step_size=learned[0]), drawn


def _tune_lane(
    posterior: LogPosterior,
    photometry: Photometry,
    frame: _Frame,
    walker: _Walker,
    tuning: _Tuning,
    key: Array,
    n_tune: int,
) -> tuple[_Walker, _Tuning]:
    """BlackJAX's adaptation of step size and L, `n_tune` steps together."""
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
        diagonal_preconditioning=False,  # the frame is whitened already, and 200 correlated draws only add noise to it
        params=params,
    )
    dim = walker.position.size
    sound = jnp.isfinite(params.step_size) & (params.step_size > 0.0) & jnp.isfinite(params.L)
    step_size = jnp.where(sound, params.step_size, tuning.step_size)
    decoherence = jnp.where(sound, params.L, tuning.decoherence)
    decoherence = jnp.clip(decoherence, 2.0 * step_size, 4.0 * jnp.sqrt(1.0 * dim))
    tuned = tuning._replace(step_size=step_size, decoherence=decoherence)
    return _Walker(*state), tuned


# -- all lanes, over all devices -------------------------------------------------------------------------------------
def _sharded(function: Any, posterior: LogPosterior, mesh: Mesh, lanes: tuple, shared: tuple = ()) -> Any:
    """vmap of `function(posterior, *lanes, *shared)` over lanes, lanes split over the mesh's devices."""
    arrays, static = eqx.partition(posterior, eqx.is_array)

    def local(arrays: Any, lanes: tuple, shared: tuple) -> Any:
        one = partial(function, eqx.combine(arrays, static))
        return jax.vmap(lambda lane: one(*lane, *shared))(lanes)

    specs = (PartitionSpec(), LANE, PartitionSpec())
    return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=LANE, check_vma=False)(arrays, lanes, shared)


@eqx.filter_jit
def _metric(posterior: LogPosterior, mesh: Mesh, photometry: Photometry, v: Array) -> Geometry:
    return _sharded(_metric_lane, posterior, mesh, (photometry, v))


@eqx.filter_jit
def _advance(posterior: LogPosterior, mesh: Mesh, lanes: tuple, n_active: Array, adapt: Array) -> Any:
    return _sharded(_advance_lane, posterior, mesh, lanes, (n_active, adapt))


@eqx.filter_jit
def _tune(posterior: LogPosterior, mesh: Mesh, lanes: tuple, n_tune: int) -> Any:
    return _sharded(partial(_tune_lane, n_tune=n_tune), posterior, mesh, lanes)


@eqx.filter_jit
def _lane_keys(seed: Array, low: Array, high: Array, n_chains: int) -> Array:
    def one(low: Array, high: Array) -> Array:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.PRNGKey(seed), low), high)
        return jax.vmap(lambda chain: jax.random.fold_in(key, chain))(jnp.arange(n_chains))

    return jax.vmap(one)(low, high).reshape(-1, 2)


@jax.jit
def _stage(keys: Array, stage: Array) -> Array:
    return jax.vmap(lambda key: jax.random.fold_in(key, stage))(keys)


@eqx.filter_jit
def _normals(keys: Array, dim: int) -> Array:
    return jax.vmap(lambda key: jax.random.normal(key, (dim,)))(keys)


# -- batches ---------------------------------------------------------------------------------------------------------
def run_mclmc(
    posterior: LogPosterior,
    flux: Float[np.ndarray, "source band"],
    flux_err: Float[np.ndarray, "source band"],
    cfg: MclmcConfig,
    *,
    n_latent: int,
    seed: int,
    object_id: np.ndarray | None = None,
    progress: bool = True,
    on_progress: Callable[[float], None] | None = None,
) -> PosteriorSamples:
    """Samples the posterior of every source.

    Args:
        posterior: forward model, priors and treatment of the amplitude.
        flux: [uJy].
        flux_err: 1 sigma [uJy]; not finite or not positive masks the band.
        cfg: chains, stages and batch size. The batch is `batch_size` sources a device, padded to that shape.
        n_latent: size of u.
        seed: of everything random, together with the object ids.
        object_id: (source,) int64; the row number when not given. Equal ids get equal random numbers.
        progress: shows a bar in galaxies, with galaxies per hour.
        on_progress: called with the number of galaxies' worth of steps done since the last call.

    Returns:
        Draws in the order of the input. No source is dropped; see `failed`.
    """
    flux, flux_err = np.asarray(flux, dtype=np.float32), np.asarray(flux_err, dtype=np.float32)
    n_source = len(flux)
    object_id = np.arange(n_source) if object_id is None else np.asarray(object_id)
    mesh = source_mesh()
    batch = cfg.batch_size * mesh.size
    bank = prior_bank(posterior, cfg.init_draws, n_latent, seed) if cfg.init_draws > cfg.n_chains else None
    parts = []
    with _Progress(n_source, batch, cfg, progress, on_progress) as bar:
        for first in range(0, n_source, batch):
            rows = np.arange(first, min(first + batch, n_source))
            padded = np.resize(rows, batch)
            bar.begin(len(rows))
            part = _run_batch(
                posterior, mesh, flux[padded], flux_err[padded], object_id[padded], cfg, n_latent, seed, bank, bar.step
            )
            parts.append({name: array[: len(rows)] for name, array in part.items()})
    if not parts:
        parts = [_empty(cfg, n_latent)]
    merged = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return PosteriorSamples(keep_every=cfg.keep_latent_every, **merged)


def _run_batch(
    posterior: LogPosterior,
    mesh: Mesh,
    flux: np.ndarray,
    flux_err: np.ndarray,
    object_id: np.ndarray,
    cfg: MclmcConfig,
    n_latent: int,
    seed: int,
    bank: PriorBank | None,
    tick: Callable[[int], None],
) -> dict[str, np.ndarray]:
    """All stages for one padded batch; arrays (source, ...) of the batch's size."""
    n_source, n_chain, dim = len(flux), cfg.n_chains, n_latent + 1
    photometry = Photometry(*(np.asarray(part) for part in whiten(jnp.asarray(flux), jnp.asarray(flux_err))))
    to_lanes = NamedSharding(mesh, LANE)
    unsigned = object_id.astype(np.int64).view(np.uint64)
    low, high = (unsigned & 0xFFFFFFFF).astype(np.uint32), (unsigned >> np.uint64(32)).astype(np.uint32)
    keys = jax.device_put(_lane_keys(np.uint32(seed % 2**32), low, high, n_chain), to_lanes)
    lanes = Photometry(*(jax.device_put(np.repeat(part, n_chain, axis=0), to_lanes) for part in photometry))

    def geometry(position: np.ndarray) -> Geometry:
        return _metric(posterior, mesh, lanes, jax.device_put(position.reshape(-1, dim), to_lanes))

    position, failed = _starts(posterior, photometry, object_id, cfg, n_latent, seed, bank, geometry)
    failed |= ~(photometry.weight > 0.0).any(axis=1)
    position = jax.device_put(position.reshape(-1, dim), to_lanes)
    n_lane = n_source * n_chain
    tuning = _Tuning(
        jax.device_put(np.full(n_lane, FIRST_STEP * np.sqrt(dim), np.float32), to_lanes),
        jax.device_put(np.full(n_lane, np.sqrt(dim), np.float32), to_lanes),
        jax.device_put(np.ones((n_lane, dim), np.float32), to_lanes),
    )
    stage = iter(range(1_000_000))

    def next_keys() -> Array:
        return _stage(keys, np.int32(next(stage)))

    def walker_at(position: Array) -> _Walker:
        momentum = _normals(next_keys(), dim)
        momentum = momentum / jnp.linalg.norm(momentum, axis=1, keepdims=True)
        return _Walker(jnp.zeros_like(position), momentum, jnp.zeros_like(position[:, 0]), jnp.zeros_like(position))

    def advance(frame: _Frame, walker: _Walker, tuning: _Tuning, n: int, adapt: bool) -> Any:
        lane = (lanes, frame, walker, tuning, next_keys())
        out = _advance(posterior, mesh, lane, np.int32(n), np.bool_(adapt))
        jax.block_until_ready(out)
        tick(n)
        return out

    # 1: burn-in, the metric renewed every METRIC_EVERY steps; what its second half meets makes the final metric
    by_chain = (n_source, n_chain)
    fisher_sum, mean_fisher, done = np.zeros((n_lane, dim, dim), np.float32), None, 0
    while done < cfg.n_burnin:
        fisher = _metric(posterior, mesh, lanes, position).fisher
        mean_fisher = fisher if mean_fisher is None else 0.5 * (mean_fisher + fisher)
        frame = _Frame(position, _factor(mean_fisher))
        n = min(METRIC_EVERY, cfg.n_burnin - done)
        walker, tuning, _ = advance(frame, walker_at(position), tuning, n, True)
        position = _leave(frame, walker.position)
        if 2 * done >= cfg.n_burnin:
            fisher_sum += np.asarray(fisher)
        done += n
    fisher, _, log_like = _metric(posterior, mesh, lanes, position)
    fisher_sum += np.asarray(fisher)
    position, fisher, moved = reinitialise(
        np.asarray(log_like).reshape(by_chain),
        np.asarray(position).reshape(*by_chain, dim),
        fisher_sum.reshape(*by_chain, dim, dim) / (1 + len(range((cfg.n_burnin + 1) // 2, cfg.n_burnin, METRIC_EVERY))),
        np.asarray(_normals(next_keys(), dim)).reshape(*by_chain, dim),
        cfg.reinit_delta_log_like,
        cfg.reinit_scatter,
    )
    # 2: tuning, in the frame that sampling keeps
    position = jax.device_put(position.reshape(-1, dim), to_lanes)
    frame = _Frame(position, _factor(jax.device_put(fisher.reshape(-1, dim, dim), to_lanes)))
    walker, tuning, _ = advance(frame, walker_at(position), tuning, 0, False)
    walker, tuned = _tune(posterior, mesh, (lanes, frame, walker, tuning, next_keys()), cfg.n_tune)
    tuning = jax.device_put(_agreed(tuned, n_chain), to_lanes)
    tick(cfg.n_tune)
    # 3: sampling; what is kept leaves the device chunk by chunk
    for n in _chunks(cfg.n_discard):
        walker, _, _ = advance(frame, walker, tuning, n, False)
    n_draw, every = cfg.n_steps - cfg.n_discard, cfg.keep_latent_every
    z, log_prob = np.empty((2, n_lane, n_draw), np.float32)
    u = np.empty((n_lane, n_draw // every, n_latent), np.float32)
    undone, first = np.zeros(n_lane), 0
    for n in _chunks(n_draw):
        walker, _, drawn = advance(frame, walker, tuning, n, False)
        z[:, first : first + n], log_prob[:, first : first + n] = drawn.z[:, :n], drawn.log_prob[:, :n]
        wanted = np.arange(every - 1, n_draw, every)
        here = (wanted >= first) & (wanted < first + n)
        u[:, np.flatnonzero(here)] = np.asarray(drawn.u)[:, wanted[here] - first]
        undone += np.asarray(drawn.undone)
        first += n
    failed |= ~np.isfinite(z.reshape(n_source, -1)).all(axis=1)
    result = {
        "z": z.reshape(*by_chain, n_draw),
        "u": u.reshape(*by_chain, -1, n_latent),
        "log_prob": log_prob.reshape(*by_chain, n_draw),
    }
    for array in result.values():
        array[failed] = np.nan
    return result | {
        "n_reinit": moved.sum(axis=1).astype(np.int16),
        "step_size": np.asarray(tuning.step_size).reshape(by_chain),
        "decoherence": np.asarray(tuning.decoherence).reshape(by_chain),
        "rejected": undone.reshape(by_chain).mean(axis=1) / max(n_draw, 1),
        "failed": failed,
    }


@jax.jit
def _leave(frame: _Frame, y: Array) -> Array:
    return frame.centre + jnp.einsum("lij,lj->li", frame.factor, y)


def _agreed(tuning: _Tuning, n_chain: int) -> _Tuning:
    """Step size and L of each chain replaced by the median of its source's chains.

    The chains share one metric, and 200 steps each settle the step size to a factor of two or so; a chain left with a
    tenth of the others' step would decide R-hat.
    """

    def median(values: Array) -> np.ndarray:
        by_source = np.asarray(values).reshape(-1, n_chain)
        return np.repeat(np.median(by_source, axis=1), n_chain).astype(np.float32)

    return tuning._replace(step_size=median(tuning.step_size), decoherence=median(tuning.decoherence))


def _chunks(n: int) -> list[int]:
    return [CHUNK] * (n // CHUNK) + ([n % CHUNK] if n % CHUNK else [])


def _starts(
    posterior: LogPosterior,
    photometry: Photometry,
    object_id: np.ndarray,
    cfg: MclmcConfig,
    n_latent: int,
    seed: int,
    bank: PriorBank | None,
    geometry: Callable[[np.ndarray], Geometry],
) -> tuple[np.ndarray, np.ndarray]:
    """Sampler coordinates (source, chain, dim) of the starts, and which sources have none of finite density."""
    n_source, n_chain = len(object_id), cfg.n_chains
    failed = np.zeros(n_source, bool)
    rngs = [np.random.default_rng([seed, int(np.int64(name).view(np.uint64))]) for name in object_id]
    if bank is None:  # the paper's way: one prior draw a chain
        draws = [prior_draws(posterior, n_chain, n_latent, rng) for rng in rngs]
        t = posterior.coordinate_of(jnp.log(jnp.asarray([z for _, z in draws])))
        return np.concatenate([np.stack([u for u, _ in draws]), np.asarray(t)[..., None]], axis=-1), failed
    score = score_bank(bank, photometry)
    n_candidate = CANDIDATES_PER_CHAIN * n_chain
    candidates = np.repeat(bank.position[None, :n_candidate], n_source, axis=0)
    for i, rng in enumerate(rngs):
        chosen = choose_starts(score[i], n_candidate, rng, effective=n_candidate)
        failed[i] = chosen is None
        if chosen is not None:
            candidates[i] = bank.position[rng.permutation(chosen)]
    rounds = [
        climb(posterior, geometry, candidates[:, k : k + n_chain]) for k in range(0, n_candidate, n_chain)
    ]
    position, evidence = (np.concatenate(part, axis=1) for part in zip(*rounds, strict=True))
    starts = np.empty((n_source, n_chain, n_latent + 1), np.float32)
    for i, rng in enumerate(rngs):
        chosen = choose_starts(evidence[i], n_chain, rng, effective=1.0)
        starts[i] = candidates[i, :n_chain] if chosen is None else position[i, chosen]
    return starts, failed


def _empty(cfg: MclmcConfig, n_latent: int) -> dict[str, np.ndarray]:
    n_draw = cfg.n_steps - cfg.n_discard
    draws, chains = np.empty((0, cfg.n_chains, n_draw), np.float32), np.empty((0, cfg.n_chains))
    return {
        "z": draws,
        "u": np.empty((0, cfg.n_chains, n_draw // cfg.keep_latent_every, n_latent), np.float32),
        "log_prob": draws,
        "n_reinit": np.empty(0, np.int16),
        "step_size": chains,
        "decoherence": chains,
        "rejected": np.empty(0),
        "failed": np.empty(0, bool),
    }


class _Progress:
    """A bar in galaxies that moves with the steps inside a batch."""

    def __init__(
        self, n_source: int, batch: int, cfg: MclmcConfig, show: bool, on_progress: Callable[[float], None] | None
    ):
        self._bar = tqdm(
            total=n_source,
            disable=not show,
            unit="galaxy",
            desc="MCLMC",
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total} galaxies [{elapsed}<{remaining}{postfix}]",
        )
        self._steps = cfg.n_burnin + cfg.n_tune + cfg.n_steps
        self._on_progress, self._in_batch = on_progress, batch

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def begin(self, n_in_batch: int) -> None:
        self._in_batch = n_in_batch

    def step(self, n_steps: int) -> None:
        galaxies = self._in_batch * n_steps / self._steps
        elapsed = self._bar.format_dict["elapsed"]
        self._bar.update(galaxies)
        if elapsed > 0.0:
            self._bar.set_postfix_str(f"{3600.0 * self._bar.n / elapsed:,.0f} galaxies/h", refresh=False)
        if self._on_progress is not None:
            self._on_progress(galaxies)
