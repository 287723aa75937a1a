"""The compiled parts of importance sampling: blocks of draws for many sources.

Sources are split over the devices and, on each device, taken one after the other (`lax.map`): the thousand or two draws
of one source fill the vector units, and what they need stays in cache. Shapes are fixed, so each function is
compiled once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from paeplatform.inference.batches.geometry import metric_lane
from paeplatform.inference.batches.programs import program
from paeplatform.inference.batches.sharding import over_sources
from paeplatform.inference.model.posterior import LogPosterior, WhitenedPhotometry
from paeplatform.inference.modes.mixture import StudentMixture, fit_choices, fit_mixture, log_prob, sample
from paeplatform.inference.modes.starts import Geometry, accept, laplace_evidence, propose
from paeplatform.pae.proposal import LOG_2PI, Proposal

SLOT_DRAWS = 128  # draws whose fluxes over the whole slot table are held at a time: 5 MB


def _over_draws(function: Any, photometry: WhitenedPhotometry, *draws: Array) -> Array:
    """vmap over the draws of a source; with slots in pieces, whose tables of fluxes stay in cache."""
    if photometry.slots is None:
        return jax.vmap(function)(*draws)
    return jax.lax.map(lambda draw: function(*draw), draws, batch_size=SLOT_DRAWS)


def _targets(posterior: LogPosterior, photometry: WhitenedPhotometry, v: Array) -> Array:
    return _over_draws(lambda v: posterior.free_log_prob(v, photometry), photometry, v)


def _flow_block(
    posterior: LogPosterior, proposal: Proposal, photometry: WhitenedPhotometry, base: Array
) -> tuple[Array, Array, Array]:
    context = proposal.context(photometry.in_channels.signal, photometry.in_channels.weight)
    u, log_z, log_q = jax.vmap(lambda eps: proposal.sample(context, eps))(base)
    t = posterior.coordinate_of(log_z)
    v = jnp.concatenate([u, t[:, None]], axis=1)
    # The target is taken where the draw is, not where the float32 round trip through t would put it.
    target = _over_draws(lambda u, log_z: posterior._log_prob(u, log_z, photometry), photometry, u, log_z)
    low, high = posterior._log_limits()
    target = jnp.where((log_z > low) & (log_z < high), target, -jnp.inf)
    bend = posterior.log_bend(t)
    return v, target + bend, log_q + bend


def _flow_base(
    posterior: LogPosterior, proposal: Proposal, photometry: WhitenedPhotometry, v: Array
) -> tuple[Array, Array]:
    context = proposal.context(photometry.in_channels.signal, photometry.in_channels.weight)

    def one(v: Array) -> tuple[Array, Array]:
        base, log_q = proposal.base_and_log_prob(context, v[:-1], posterior.log_z_of(v[-1]))
        return base, log_q + posterior.log_bend(v[-1])

    return jax.vmap(one)(v)


def _climb(
    posterior: LogPosterior, n_steps: int, photometry: WhitenedPhotometry, starts: Array
) -> tuple[Array, Array, Array]:
    """Levenberg-Marquardt from one source's starts: (position, Fisher matrix, Laplace evidence)."""

    def geometry(v: Array) -> Geometry:
        return jax.vmap(lambda v: metric_lane(posterior, photometry, v))(v)

    def step(_: int, carry: tuple) -> tuple:
        position, here, damping = carry
        trial = propose(position, here, damping)
        return accept(position, here, damping, trial, geometry(trial))

    damping = jnp.full(starts.shape[0], 0.1, starts.dtype)
    position, here, _ = jax.lax.fori_loop(0, n_steps, step, (starts, geometry(starts), damping))
    return position, here.fisher, laplace_evidence(posterior, position, here)


@program
def flow_block(
    posterior: LogPosterior,
    proposal: Proposal,
    mesh: Mesh,
    photometry: WhitenedPhotometry,
    base: Array,
    active: Array | None = None,
) -> tuple[Float[Array, "source draw dim"], Float[Array, "source draw"], Float[Array, "source draw"]]:
    """Where each source's proposal takes base points: sampler coordinates v, log target and log proposal over v."""
    return over_sources(_flow_block, (posterior, proposal), mesh, (photometry, base), active)


@program
def densities(
    posterior: LogPosterior,
    proposal: Proposal,
    mesh: Mesh,
    photometry: WhitenedPhotometry,
    v: Array,
    active: Array | None = None,
) -> tuple[Float[Array, "source draw"], Float[Array, "source draw"], Float[Array, "source draw dim"]]:
    """Log target and log proposal over v, at given v, and their base points."""

    def one(posterior: LogPosterior, proposal: Proposal, photometry: WhitenedPhotometry, v: Array) -> tuple:
        base, log_q = _flow_base(posterior, proposal, photometry, v)
        return _targets(posterior, photometry, v), log_q, base

    return over_sources(one, (posterior, proposal), mesh, (photometry, v), active)


@program
def flow_base(
    posterior: LogPosterior, proposal: Proposal, mesh: Mesh, photometry: WhitenedPhotometry, v: Array
) -> tuple[Float[Array, "source draw dim"], Float[Array, "source draw"]]:
    """Base points of the proposal at given v, and log proposal over v."""
    return over_sources(_flow_base, (posterior, proposal), mesh, (photometry, v))


@program
def target_block(
    posterior: LogPosterior, mesh: Mesh, photometry: WhitenedPhotometry, v: Array
) -> Float[Array, "source draw"]:
    """Log target over v, at given v."""
    return over_sources(_targets, (posterior,), mesh, (photometry, v))


@program
def like_block(
    posterior: LogPosterior, mesh: Mesh, photometry: WhitenedPhotometry, v: Array
) -> Float[Array, "source draw"]:
    """ln L of every source at the same draws (draw, dim)."""

    def one(posterior: LogPosterior, v: Array, photometry: WhitenedPhotometry) -> Array:
        def log_like(v: Array) -> Array:
            return posterior.log_likelihood_of(v[:-1], jnp.exp(posterior.log_z_of(v[-1])), photometry)

        return _over_draws(log_like, photometry, v)

    return over_sources(one, (posterior, v), mesh, (photometry,))


@program
def coordinates(
    posterior: LogPosterior, t: Float[Array, "source draw"]
) -> tuple[Float[Array, "source draw"], Float[Array, "source draw"]]:
    """ln z and ln (d ln z / dt) of sampler coordinates."""
    return posterior.log_z_of(t), posterior.log_bend(t)


@program
def log_priors(
    posterior: LogPosterior, mesh: Mesh, v: Float[Array, "source draw dim"]
) -> Float[Array, "source draw"]:
    """Log density over v of the priors alone: what is left of the target without the likelihood."""

    def one(posterior: LogPosterior, v: Array) -> Array:
        return jax.vmap(posterior.free_log_prior)(v)

    return over_sources(one, (posterior,), mesh, (v,))


@program
def climb_block(
    posterior: LogPosterior,
    mesh: Mesh,
    photometry: WhitenedPhotometry,
    starts: Array,
    n_steps: int,
    active: Array | None = None,
) -> tuple[
    Float[Array, "source start dim"], Float[Array, "source start dim dim"], Float[Array, "source start"]
]:
    """Tops of the hills above each source's starts, their Fisher matrices and Laplace evidences."""

    def one(posterior: LogPosterior, photometry: WhitenedPhotometry, starts: Array) -> tuple:
        return _climb(posterior, n_steps, photometry, starts)

    return over_sources(one, (posterior,), mesh, (photometry, starts), active)


def fit_mixtures(
    mesh: Mesh,
    x: Float[np.ndarray, "source draw dim"],
    log_weight: Float[np.ndarray, "source draw"],
    rngs: Sequence[np.random.Generator],
    n_component: int,
    inflation: float,
) -> StudentMixture:
    """A mixture for each source's pooled draws, float64 on the host; `rngs` are the sources'."""
    offset, first = (
        np.asarray(part) for part in zip(*(fit_choices(rng, n_component) for rng in rngs), strict=True)
    )
    with jax.enable_x64(True):
        found = _fit_block(
            mesh, np.asarray(x, dtype=np.float64), log_weight, offset, first, np.asarray(inflation)
        )
        return StudentMixture(*(np.asarray(part) for part in found))


def draw_mixtures(
    mixture: StudentMixture, rngs: Sequence[np.random.Generator], n: int
) -> Float[np.ndarray, "source draw dim"]:
    """`n` draws of each source's mixture in float32: densities are evaluated where the target is."""
    drawn = [sample(StudentMixture(*parts), rng, n) for *parts, rng in zip(*mixture, rngs, strict=True)]
    return np.stack(drawn).astype(np.float32)


@program
def _fit_block(
    mesh: Mesh, x: Array, log_weight: Array, offset: Array, first: Array, inflation: Array
) -> tuple[Array, ...]:
    # inflation is an array, so that another value compiles nothing
    def one(inflation: Array, x: Array, log_weight: Array, offset: Array, first: Array) -> tuple[Array, ...]:
        return tuple(fit_mixture(x, log_weight, offset, first, inflation))

    return over_sources(one, (inflation,), mesh, (x, log_weight, offset, first))


def stretch(
    base: Float[np.ndarray, "source draw dim"], of_proposal: Float[np.ndarray, "source draw"]
) -> Float[np.ndarray, "source draw"]:
    """ln of what takes a density over base points to one over v: the standard normal goes to the proposal."""
    base = np.asarray(base, dtype=np.float64)
    return of_proposal + 0.5 * np.sum(base**2, axis=2) + 0.5 * base.shape[2] * LOG_2PI


def mixture_over(
    mixture: StudentMixture, places: np.ndarray, stretched: np.ndarray | float = 0.0
) -> Float[np.ndarray, "source draw"]:
    """Log density over v of mixtures over v, or over the proposal's base points; NaN counts as zero density.

    Args:
        mixture: (source, ...) float64.
        places: (source, draw, dim) v, or base points.
        stretched: (source, draw) for base points, their `stretch`.
    """
    found = log_prob(mixture, np.asarray(places, dtype=np.float64)) + stretched
    return np.where(np.isnan(found), -np.inf, found)
