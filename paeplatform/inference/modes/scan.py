"""The best spectrum at each of some hundred redshifts: a search of the whole range that owes nothing to the proposal.

Draws, and climbs from draws, find what lies near them. An object that the training has not seen, say a quasar, can be
described best by a spectrum that no draw comes close to (|u| = 13), at a redshift that no draw looks at. The scan
starts at every redshift from the landmark (`pae.landmarks`) that fits best and takes Levenberg-Marquardt steps in the
latents with the redshift held; at each step a redshift may take over the spectrum of a neighbour that fits better
there. What it maximises is ln L + ln N(u; 0, I), so that u is bounded by its prior alone.

It reads the channels, which are cheap, and serves to find places: whoever uses them climbs on from there with the
photometry that the posterior is of.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from paeplatform.inference.batches.programs import program
from paeplatform.inference.batches.sharding import over_sources
from paeplatform.inference.model.forward_model import PaeForward
from paeplatform.inference.model.posterior import TINY, ForwardModel, LogPosterior, WhitenedPhotometry
from paeplatform.inference.modes.starts import PriorBank, at_redshifts, model_fluxes, score_bank
from paeplatform.pae.small_linalg import solve

N_STEPS = 24  # Levenberg-Marquardt steps at each redshift
OFFSETS = (8, 4, 2, 1)  # to the neighbours that are asked for their spectrum, step by step in turn
N_POOL = 160  # landmarks, or prior draws, among which each redshift's start is chosen
FIRST_DAMPING, SMALLEST_DAMPING, LARGEST_DAMPING = 0.1, 1e-6, 1e6
FACTORS, RAISED = (0.03, 0.3, 3.0), 30.0  # on the damping: tried at each step, and where none of them helps
LARGEST_MOVE = 3.0  # of one latent in one step, in standard deviations of the training set's
_KEPT = 2  # forward models whose fluxes of the pool are kept, 6 MB each
_fluxes: OrderedDict[tuple, tuple[ForwardModel, np.ndarray]] = OrderedDict()


class Scanned(NamedTuple):
    """What a scan found of some sources.

    Attributes:
        v: (source, redshift, dim) sampler coordinates of the best spectrum at each redshift.
        height: (source, redshift) ln posterior density over (u, ln z) there, up to a constant of the source, by the
            channels; -inf where nothing finite was found.
    """

    v: Float[np.ndarray, "source redshift dim"]
    height: Float[np.ndarray, "source redshift"]

    def best(self, n: int) -> Float[np.ndarray, "source start dim"]:
        """`n` places to climb from: the highest of the hills over redshift, then the highest of what is left."""
        height = np.where(np.isfinite(self.height), self.height, -1e30)
        padded = np.pad(height, ((0, 0), (1, 1)), constant_values=-np.inf)
        on_hill = (height >= padded[:, :-2]) & (height >= padded[:, 2:])
        order = np.lexsort((-height, ~on_hill), axis=1)[:, :n]
        order = order[:, np.arange(n) % order.shape[1]]
        return np.take_along_axis(self.v, order[..., None], axis=1)


class RedshiftScan:
    """Scans for sources of one posterior; the pool of starts gets its fluxes when the first source needs them."""

    def __init__(
        self,
        posterior: LogPosterior,
        n_redshifts: int,
        n_latent: int,
        landmarks: Float[np.ndarray, "landmark latent"] | None,
        seed: int,
    ) -> None:
        """Nothing is computed yet.

        Args:
            posterior: forward model and priors.
            n_redshifts: even in ln(1+z) over the prior's range.
            n_latent: size of u.
            landmarks: places in u to start from; None takes draws of the prior.
            seed: of these draws.
        """
        self.posterior = posterior
        low, high = float(posterior.z_prior.z_min), float(posterior.z_prior.z_max)
        z = np.expm1(np.linspace(np.log1p(low), np.log1p(high), n_redshifts))
        self.z = np.clip(z, low, high).astype(np.float32)
        if landmarks is None:
            pool = np.random.default_rng([seed, 0x5343]).standard_normal((N_POOL, n_latent))
        else:
            pool = np.asarray(landmarks)[np.linspace(0, len(landmarks) - 1, N_POOL).astype(int)]
        self.pool = np.concatenate([np.zeros((1, n_latent)), pool]).astype(np.float32)

    def run(self, mesh: Mesh, photometry: WhitenedPhotometry, active: np.ndarray | None = None) -> Scanned:
        """The scan of some sources.

        Args:
            mesh: devices; the sources must be a multiple of their number.
            photometry: of the sources, in channels.
            active: which of them are wanted; None for all.
        """
        u, height = _scan(self.posterior, mesh, photometry, self.z, self._starts(photometry), active)
        t, log_prior = (np.asarray(part) for part in _redshift_terms(self.posterior, self.z))
        u, height = np.asarray(u), np.asarray(height, dtype=np.float64) + log_prior
        t = np.broadcast_to(t[None, :, None], (*u.shape[:2], 1))
        good = np.isfinite(height) & np.isfinite(u).all(axis=2)
        v = np.where(good[..., None], np.concatenate([u, t], axis=2), 0.0)
        return Scanned(v.astype(np.float32), np.where(good, height, -np.inf))

    def _starts(self, photometry: WhitenedPhotometry) -> Float[np.ndarray, "source redshift latent"]:
        """The member of the pool that fits best at each redshift, its prior counted."""
        unused = np.zeros((len(self.z) * len(self.pool), 1), np.float32)
        bank = PriorBank(unused, _pool_fluxes(self.posterior, self.pool, self.z), unused[:, 0])
        score = score_bank(bank, photometry, self.posterior.amplitude)
        score = score.reshape(len(score), len(self.z), len(self.pool))
        pool = _pool_at(self.posterior, self.pool, self.z)
        score = score - 0.5 * np.sum(pool.astype(np.float64) ** 2, axis=2)
        return pool[np.arange(len(self.z)), score.argmax(axis=2)]


def _pool_at(posterior: LogPosterior, pool: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The pool's spectra as base variables at each redshift, (redshift, member, latent)."""
    flat = at_redshifts(posterior.forward, np.tile(pool, (len(z), 1)), np.repeat(z, len(pool)))
    return flat.reshape(len(z), *pool.shape)


def _pool_fluxes(posterior: LogPosterior, pool: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Fluxes of every member of a pool at every redshift; kept for the last few forward models, for the next cells."""
    key = (id(posterior.forward), pool.tobytes(), z.tobytes())
    if key not in _fluxes:
        places = _pool_at(posterior, pool, z).reshape(-1, pool.shape[1])
        flat = model_fluxes(posterior, places, np.repeat(z, len(pool)))
        _fluxes[key] = (posterior.forward, flat)  # the forward model is held, so that its id stays its own
        while len(_fluxes) > _KEPT:
            _fluxes.popitem(last=False)
    _fluxes.move_to_end(key)
    return _fluxes[key][1]


@program
def _redshift_terms(posterior: LogPosterior, z: Array) -> tuple[Array, Array]:
    """(sampler coordinate, ln prior density over ln z) of redshifts."""
    log_z = jnp.log(z)
    return posterior.coordinate_of(log_z), jax.vmap(posterior.z_prior.log_density)(z) + log_z


@program
def _scan(
    posterior: LogPosterior,
    mesh: Mesh,
    photometry: WhitenedPhotometry,
    z: Array,
    starts: Array,
    active: Array | None,
) -> tuple[Array, Array]:
    """(u (source, redshift, latent), ln L + ln N(u; 0, I) without its constant (source, redshift))."""

    def one(posterior: LogPosterior, z: Array, photometry: WhitenedPhotometry, u: Array) -> tuple:
        return _scan_source(posterior, photometry, z, u)

    return over_sources(one, (posterior, z), mesh, (photometry, starts), active)


def _scan_source(
    posterior: LogPosterior, photometry: WhitenedPhotometry, z: Array, u: Array
) -> tuple[Array, Array]:
    offsets, factors = jnp.asarray(OFFSETS), jnp.asarray(FACTORS)
    to_latent, to_base, model = _coordinates_of(posterior.forward)

    def residual(latent: Array, z: Array) -> Array:
        """Whose square is chi^2 and what the prior of u adds to it."""
        fluxes = photometry.weight * model(latent, z)
        amplitude = jnp.sum(photometry.signal * fluxes) / (jnp.sum(fluxes**2) + TINY)
        return jnp.concatenate([photometry.signal - jnp.maximum(amplitude, 0.0) * fluxes, to_base(latent, z)])

    def height(latent: Array, z: Array) -> Array:
        value = -0.5 * jnp.sum(residual(latent, z) ** 2)
        return jnp.where(jnp.isfinite(value), value, -jnp.inf)

    def trials(latent: Array, z: Array, damping: Array) -> Array:
        jacobian, r = jax.jacfwd(lambda x: (residual(x, z),) * 2, has_aux=True)(latent)
        curvature = jacobian.T @ jacobian
        diagonal = jnp.diag(jnp.diag(curvature) + TINY)

        def one(factor: Array) -> Array:
            move = solve(curvature + factor * damping * diagonal, -jacobian.T @ r)
            return latent + jnp.clip(jnp.where(jnp.isfinite(move), move, 0.0), -LARGEST_MOVE, LARGEST_MOVE)

        return jax.vmap(one)(factors)

    def step(i: Array, carry: tuple) -> tuple:
        latent, value, damping = carry
        shift = offsets[i % len(OFFSETS)]
        # rolling offers the spectra of the highest redshifts to the lowest ones too, where they only can help
        offered = jnp.stack([jnp.roll(latent, -shift, axis=0), jnp.roll(latent, shift, axis=0)], axis=1)
        latent, value, moved, _ = _best_of(offered, latent, value, height, z)
        damping = jnp.where(moved, FIRST_DAMPING, damping)
        tried = jax.vmap(trials)(latent, z, damping)
        latent, value, moved, choice = _best_of(tried, latent, value, height, z)
        damping = damping * jnp.where(moved, factors[choice], RAISED)
        return latent, value, jnp.clip(damping, SMALLEST_DAMPING, LARGEST_DAMPING)

    latent = jax.vmap(to_latent)(u, z)
    start = (latent, jax.vmap(height)(latent, z), jnp.full(z.shape, FIRST_DAMPING, u.dtype))
    latent, value, _ = jax.lax.fori_loop(0, N_STEPS, step, start)
    return jax.vmap(to_base)(latent, z), value


def _best_of(
    offered: Float[Array, "redshift offer latent"],
    latent: Float[Array, "redshift latent"],
    value: Float[Array, " redshift"],
    height: Callable[[Array, Array], Array],
    z: Float[Array, " redshift"],
) -> tuple[Array, Array, Array, Array]:
    """(place, its height, whether it is one of the offers, which), the highest at each redshift."""
    heights = jax.vmap(lambda some, z: jax.vmap(lambda one: height(one, z))(some))(offered, z)
    choice = heights.argmax(axis=1)
    best = jnp.take_along_axis(heights, choice[:, None], axis=1)[:, 0]
    place = jnp.take_along_axis(offered, choice[:, None, None], axis=1)[:, 0]
    moved = best > value
    return jnp.where(moved[:, None], place, latent), jnp.where(moved, best, value), moved, choice


def _coordinates_of(forward: ForwardModel) -> tuple[Callable, Callable, ForwardModel]:
    """(u to the coordinates of the search, back, the model in these coordinates).

    Those of a PAE are its latents, on the scale of the training set's: a spectrum is a smoother function of them than
    of u, which the flow bends, most of all far out.
    """
    if not isinstance(forward, PaeForward):
        return lambda u, z: u, lambda u, z: u, forward
    flow = forward.flow

    def latent_of(x: Array) -> Array:
        return flow.shift + flow.scale * x

    return (
        lambda u, z: (flow.to_latent(u, z) - flow.shift) / flow.scale,
        lambda x, z: flow.to_base(latent_of(x), z),
        lambda x, z: forward.of_latent(latent_of(x), z),
    )
