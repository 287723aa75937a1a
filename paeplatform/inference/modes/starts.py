"""Where chains start, and which of them start anew after burn-in (paper section IV.2.1, stage 1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import log_ndtr

from paeplatform.inference.batches.programs import program
from paeplatform.inference.model.forward_model import PaeForward
from paeplatform.inference.model.posterior import TINY, ForwardModel, LogPosterior, WhitenedPhotometry
from paeplatform.pae.flow import LatentFlow
from paeplatform.pae.small_linalg import log_determinant, solve

CANDIDATES_PER_CHAIN = 6  # prior draws that are climbed from, per chain
CLIMB_STEPS = 12  # Levenberg-Marquardt iterations
# Of one coordinate in one iteration: the Gauss-Newton picture of a spline flow is good for no more.
LARGEST_MOVE = 1.0
REDSHIFTS_PER_LANDMARK = 48
MODEL_CHUNK = 256  # draws whose model fluxes are computed in one compiled call


class Geometry(NamedTuple):
    """Gauss-Newton picture of ln L (amplitude profiled) at lanes' positions.

    Attributes:
        fisher: (lane, dim, dim) J^T J of the whitened residual.
        gradient: (lane, dim) of ln L.
        log_like: (lane,) -chi^2/2.
    """

    fisher: Float[Array, "*lane dim dim"]
    gradient: Float[Array, "*lane dim"]
    log_like: Float[Array, "*lane"]


class PriorBank(NamedTuple):
    """Prior draws with their model fluxes, shared by all sources.

    Attributes:
        position: (draw, dim) sampler coordinates (u, t).
        model: (draw, band) model fluxes at amplitude 1.
        log_prior_ratio: (draw,) ln p(z), up to the constant by which the draws' own density, uniform in z, differs.
    """

    position: np.ndarray
    model: np.ndarray
    log_prior_ratio: np.ndarray


@program
def _bank_chunk(posterior: LogPosterior, u: Array, z: Array) -> tuple[Array, Array, Array]:
    model = jax.vmap(posterior.forward)(u, z)
    return model, posterior.coordinate_of(jnp.log(z)), jax.vmap(posterior.z_prior.log_density)(z)


def prior_draws(
    posterior: LogPosterior, n: int, n_latent: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """u ~ N(0, I), (n, n_latent), and z uniform on the limits in `n` strata (one draw in each, shuffled), (n,)."""
    z_min, z_max = float(posterior.z_prior.z_min), float(posterior.z_prior.z_max)
    strata = (rng.permutation(n) + rng.uniform(size=n)) / n
    u = rng.standard_normal((n, n_latent))
    return u.astype(np.float32), (z_min + strata * (z_max - z_min)).astype(np.float32)


def prior_bank(posterior: LogPosterior, n: int, n_latent: int, seed: int) -> PriorBank:
    """`n` stratified prior draws and their model fluxes; depends on the seed alone, so it serves every source."""
    return _filled(posterior, *prior_draws(posterior, n, n_latent, np.random.default_rng([seed, 0x5742])))


def landmark_bank(
    posterior: LogPosterior, landmarks: Float[np.ndarray, "landmark latent"], seed: int
) -> PriorBank:
    """Every landmark at `REDSHIFTS_PER_LANDMARK` stratified redshifts; no prior draws, so for the search only."""
    rng = np.random.default_rng([seed, 0x4C4D])
    z_min, z_max = float(posterior.z_prior.z_min), float(posterior.z_prior.z_max)
    n = REDSHIFTS_PER_LANDMARK
    strata = (np.arange(n) + rng.uniform(size=(len(landmarks), n))) / n
    z = z_min + strata.ravel() * (z_max - z_min)
    u, z = np.repeat(landmarks, n, axis=0).astype(np.float32), z.astype(np.float32)
    return _filled(posterior, at_redshifts(posterior.forward, u, z), z)


def at_redshifts(
    forward: ForwardModel, u: Float[np.ndarray, "place latent"], z: Float[np.ndarray, " place"]
) -> Float[np.ndarray, "place latent"]:
    """Base variables at these redshifts of the spectra that `u` has at the flow's reference redshift.

    Landmarks are kept as they are there. Of a flow that does not depend on redshift they are `u` itself.
    """
    if not isinstance(forward, PaeForward) or forward.flow.redshift is None:
        return u
    moved = np.asarray(_moved(forward.flow, jnp.asarray(u), jnp.asarray(z)))
    return np.where(np.isfinite(moved).all(axis=1, keepdims=True), moved, u)


@eqx.filter_jit
def _moved(flow: LatentFlow, u: Array, z: Array) -> Array:
    condition = flow.redshift
    reference = None if condition is None else condition.reference
    return jax.vmap(lambda u, z: flow.to_base(flow.to_latent(u, reference), z))(u, z)


def _filled(posterior: LogPosterior, u: np.ndarray, z: np.ndarray) -> PriorBank:
    """The bank of these draws."""
    n, parts = len(z), []
    for first in range(0, n, MODEL_CHUNK):
        rows = np.arange(first, first + MODEL_CHUNK) % n  # one shape, one compilation
        parts.append([np.asarray(part) for part in _bank_chunk(posterior, u[rows], z[rows])])
    model, t, log_prior = (np.concatenate(part)[:n] for part in zip(*parts, strict=True))
    return PriorBank(
        np.column_stack([u, t]).astype(np.float32), model.astype(np.float32), log_prior.astype(np.float32)
    )


def model_fluxes(
    posterior: LogPosterior, u: Float[np.ndarray, "draw latent"], z: Float[np.ndarray, " draw"]
) -> Float[np.ndarray, "draw band"]:
    """Model fluxes of amplitude 1 in the channels, in pieces of one shape, so that one compilation serves all."""
    n, parts = len(z), []
    for first in range(0, n, MODEL_CHUNK):
        rows = np.arange(first, first + MODEL_CHUNK) % n
        parts.append(np.asarray(_models(posterior, u[rows], z[rows])))
    return np.concatenate(parts)[:n]


@program
def _models(posterior: LogPosterior, u: Array, z: Array) -> Array:
    return jax.vmap(posterior.forward)(u, z)


def score_bank(
    bank: PriorBank, photometry: WhitenedPhotometry, amplitude: str
) -> Float[np.ndarray, "source draw"]:
    """ln of posterior over proposal for every draw, ln L + ln p(z), as matrix products over (source, draw).

    Float64: the products give chi^2 as d.d - b^2/a, which float32 gets wrong by 0.03 at a total SNR of 200.
    """
    weight, signal = (np.asarray(part, dtype=np.float64) for part in (photometry.weight, photometry.signal))
    model = bank.model.astype(np.float64).T
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # absurd fluxes overflow: such a score is not finite, see below
        a = weight**2 @ model**2 + TINY
        b = (signal * weight) @ model
        score = bank.log_prior_ratio - 0.5 * np.sum(signal**2, axis=1, keepdims=True)
        if amplitude == "profile":
            score = score + 0.5 * np.maximum(b, 0.0) ** 2 / a
        else:
            score = score + 0.5 * b**2 / a - 0.5 * np.log(a) + log_ndtr(b / np.sqrt(a))
    return np.where(np.isfinite(score), score, -np.inf)


def best_of_strata(
    position: Float[np.ndarray, "draw dim"], score: Float[np.ndarray, "source draw"], n: int
) -> np.ndarray:
    """Indices (source, n): the best draw in each of `n` redshift strata, alike in number of draws.

    The best draws overall may crowd into a few wrong redshifts: far from any fit, chi^2 says little about the hilltops.
    """
    strata = np.array_split(np.argsort(position[:, -1], kind="stable"), n)
    return np.stack([stratum[score[:, stratum].argmax(axis=1)] for stratum in strata], axis=1)


def tempered_weights(score: Float[np.ndarray, " draw"], effective: float) -> Float[np.ndarray, " draw"]:
    """softmax(score / T), T >= 1 the smallest for which the weights' effective number is at least `effective`."""
    shifted = (score - score.max()).astype(np.float64)

    def weights(temperature: float) -> np.ndarray:
        w = np.exp(shifted / temperature)
        return w / w.sum()

    low, high = 0.0, 1.0  # ln T in units of 20: T from 1 to 5e8
    if 1.0 / np.sum(weights(1.0) ** 2) >= effective:
        return weights(1.0)
    for _ in range(30):
        middle = 0.5 * (low + high)
        if 1.0 / np.sum(weights(np.exp(20.0 * middle)) ** 2) < effective:
            low = middle
        else:
            high = middle
    return weights(np.exp(20.0 * high))


def choose_starts(
    score: Float[np.ndarray, " draw"], n: int, rng: np.random.Generator, *, effective: float
) -> np.ndarray | None:
    """Indices (n,) by systematic resampling of `tempered_weights`; None when no draw has a finite score."""
    n_finite = int(np.isfinite(score).sum())
    if n_finite == 0:
        return None
    cumulative = np.cumsum(tempered_weights(score, min(effective, 0.5 * n_finite)))
    points = (np.arange(n) + rng.uniform()) / n
    return np.minimum(np.searchsorted(cumulative, points * cumulative[-1]), len(score) - 1)


@eqx.filter_jit
def propose(position: Array, geometry: Geometry, damping: Array) -> Array:
    """Levenberg-Marquardt move up ln L - |u|^2/2."""
    dim = position.shape[-1]
    prior = jnp.ones(dim).at[-1].set(0.0)

    def one(v: Array, fisher: Array, gradient: Array, damping: Array) -> Array:
        curvature = fisher + jnp.eye(dim)
        curvature = curvature + damping * jnp.diag(jnp.diag(curvature))
        move = solve(curvature, gradient - prior * v)
        return v + jnp.clip(jnp.where(jnp.isfinite(move), move, 0.0), -LARGEST_MOVE, LARGEST_MOVE)

    return jax.vmap(one)(position, geometry.fisher, geometry.gradient, damping)


@eqx.filter_jit
def laplace_evidence(posterior: LogPosterior, position: Array, geometry: Geometry) -> Array:
    """Laplace's estimate of the ln of the posterior mass around each position."""

    def one(v: Array, fisher: Array, log_like: Array) -> Array:
        log_z = posterior.log_z_of(v[-1])
        log_prior = posterior.z_prior.log_density(jnp.exp(log_z)) + log_z + posterior.log_bend(v[-1])
        log_prior = log_prior - 0.5 * jnp.sum(v[:-1] ** 2) * posterior.nf_prior
        return log_like + log_prior - 0.5 * log_determinant(fisher + jnp.eye(v.size))

    return jax.vmap(one)(position, geometry.fisher, geometry.log_like)


def climb(
    posterior: LogPosterior,
    geometry_at: Callable[[np.ndarray], Geometry],
    candidates: Float[np.ndarray, "source chain dim"],
) -> tuple[np.ndarray, np.ndarray]:
    """Takes prior draws to the tops of their hills, so that hills, not draws, compete for the chains.

    At a total SNR of 100 and more even the best of thousands of prior draws is thousands in chi^2 away from the
    posterior, and its chi^2 says little about the top of its hill.

    Args:
        posterior: for the priors.
        geometry_at: Gauss-Newton picture of ln L at (source, chain, dim) positions, flat over lanes.
        candidates: sampler coordinates.

    Returns:
        (position (source, chain, dim), Laplace evidence (source, chain)).
    """
    shape = candidates.shape
    position = jnp.asarray(candidates.reshape(-1, shape[-1]))
    here = Geometry(*(jnp.asarray(np.asarray(part)) for part in geometry_at(np.asarray(position))))
    damping = jnp.full(len(position), 0.1, jnp.float32)
    for _ in range(CLIMB_STEPS):
        trial = propose(position, here, damping)
        there = Geometry(*(jnp.asarray(np.asarray(part)) for part in geometry_at(np.asarray(trial))))
        position, here, damping = accept(position, here, damping, trial, there)
    evidence = laplace_evidence(posterior, position, here)
    return np.asarray(position).reshape(shape), np.asarray(evidence).reshape(shape[:2])


@jax.jit
def accept(position: Array, here: Geometry, damping: Array, trial: Array, there: Geometry) -> tuple:
    """The higher of two places and what was found there, and the damping for the next move."""

    def height(v: Array, geometry: Geometry) -> Array:
        return geometry.log_like - 0.5 * jnp.sum(v[:, :-1] ** 2, axis=1)

    better = height(trial, there) > height(position, here)

    def pick(new: Array, old: Array) -> Array:
        return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return (
        pick(trial, position),
        jax.tree.map(pick, there, here),
        jnp.where(better, 0.3 * damping, 4.0 * damping),
    )


def reinitialise(
    log_like: Float[np.ndarray, "source chain"],
    position: Float[np.ndarray, "source chain dim"],
    fisher: Float[np.ndarray, "source chain dim dim"],
    normal: Float[np.ndarray, "source chain dim"],
    delta: float,
    scatter: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moves chains whose ln L lies more than `delta` below the source's best chain beside it.

    Args:
        log_like: at the chains' positions; not finite counts as worst.
        position: sampler coordinates.
        fisher: mean Fisher matrix of the likelihood along each chain's burn-in.
        normal: standard normal numbers that set the scatter.
        delta: the paper's 5.
        scatter: of the new positions around the best chain, in local posterior widths.

    Returns:
        (position, fisher, moved): new positions (source, chain, dim); one Fisher matrix a source, the mean over
        the chains that stayed, repeated for its chains (source, chain, dim, dim); which chains moved (source,
        chain).
    """
    finite = np.where(np.isfinite(log_like), log_like, -np.inf)
    best = finite.argmax(axis=1)
    rows = np.arange(len(best))
    # a chain at -inf beside a best one at -inf gives NaN: it stays, there is nothing better to move to
    with np.errstate(invalid="ignore"):
        moved = finite[rows, best][:, None] - finite > delta
    stayed = ~moved[..., None, None]
    mean = (fisher * stayed).sum(axis=1) / stayed.sum(axis=1)
    width = np.linalg.cholesky(np.linalg.inv(mean.astype(np.float64) + np.eye(mean.shape[-1])))
    beside = position[rows, best][:, None] + scatter * np.einsum("sij,scj->sci", width, normal)
    position = np.where(moved[..., None], beside, position).astype(np.float32)
    return position, np.broadcast_to(mean[:, None], fisher.shape).astype(np.float32), moved
