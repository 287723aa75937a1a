"""Microcanonical Langevin Monte Carlo over many sources at once (paper section IV.2.1).

Stages per source: starts (`starts`: the best of many prior draws, climbed; or the paper's plain prior draws; or,
given weighted draws of importance sampling, some of these), burn-in, re-initialisation of chains left behind,
BlackJAX's tuning of step size and L, sampling with jumps between hills (`jumps`). The metric is renewed during
burn-in and frozen before tuning (`lanes`).

Sources travel in batches of one fixed shape. Each source's random numbers come from (seed, object id), so its result
depends neither on its batch mates nor on its place. The axis of lanes (chains of sources) is split over all devices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float

from paeplatform.config import MclmcConfig
from paeplatform.inference.batches.blocks import like_block
from paeplatform.inference.batches.geometry import metric, whitening
from paeplatform.inference.batches.keys import lane_keys, normals, stage_keys
from paeplatform.inference.batches.progress import SHOWN, Progress
from paeplatform.inference.batches.runtime import source_mesh
from paeplatform.inference.batches.sharding import LANE
from paeplatform.inference.mclmc.jump_banks import jump_bank
from paeplatform.inference.mclmc.jumps import Jumps, jump_times
from paeplatform.inference.mclmc.kernel import (
    CHUNK,
    FIRST_STEP,
    Drawn,
    Frame,
    Lane,
    Tuning,
    Walker,
    advance,
    land,
    leave,
    log_weight,
    shared_tuning,
    tune,
)
from paeplatform.inference.model.draws import Found, Pool
from paeplatform.inference.model.posterior import LogPosterior
from paeplatform.inference.modes.starts import (
    CANDIDATES_PER_CHAIN,
    Geometry,
    PriorBank,
    best_of_strata,
    choose_starts,
    climb,
    landmark_bank,
    prior_bank,
    prior_draws,
    reinitialise,
    score_bank,
)
from paeplatform.inference.sources import Sources
from paeplatform.instrument.noise import usable_bands
from paeplatform.random_keys import halves_of_ids, seeded_generator

METRIC_EVERY = 50  # burn-in steps between two looks at the local geometry


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
        jumped: (source,) fraction of the offered jumps that were taken (`jumps`).
        n_steps: steps of each chain, burn-in and tuning included.
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
    jumped: np.ndarray
    failed: np.ndarray
    n_steps: int = 0

    @property
    def z_kept(self) -> Float[np.ndarray, "source chain kept"]:
        """Redshifts that belong to `u`."""
        return self.z[..., self.keep_every - 1 :: self.keep_every][..., : self.u.shape[2]]


def run_mclmc(
    posterior: LogPosterior,
    sources: Sources,
    cfg: MclmcConfig,
    *,
    n_latent: int,
    landmarks: Float[np.ndarray, "landmark latent"] | None = None,
    found: Found | None = None,
    independent_starts: bool = False,
    progress: Progress = SHOWN,
) -> PosteriorSamples:
    """Samples the posterior of every source.

    Args:
        posterior: forward model, priors and treatment of the amplitude.
        sources: photometry and what the random numbers are made from.
        cfg: chains, stages and batch size. The batch is `batch_size` sources a device, padded to that shape.
        n_latent: size of u.
        found: by importance sampling, of each source. Where given, chains start from these draws and jump to draws of
            a mixture fitted to them, instead of searching the prior. With a proposal, half of the jumps' draws are
            its, which suits faint sources better than any mixture.
        independent_starts: where draws were found, start from the search of the prior all the same: what chains
            agree on then owes nothing to the draws they jump to.
        landmarks: places in u where the search for starts looks beside the prior draws (`pae.landmarks`).
        progress: how it is shown, in galaxies' worth of steps.

    Returns:
        Draws in the order of the input. No source is dropped; see `failed`.
    """
    sources = sources.single()
    n_source = len(sources)
    mesh = source_mesh()
    size = cfg.batch_size * mesh.size
    bank = known = None
    if (found is None or independent_starts) and cfg.init_draws > cfg.n_chains and n_source:
        bank = prior_bank(posterior, cfg.init_draws, n_latent, sources.seed)
        known = None if landmarks is None else landmark_bank(posterior, landmarks, sources.seed)
    parts = []
    order = _by_snr(sources)
    with progress.bar(n_source, cfg.n_burnin + cfg.n_tune + cfg.n_steps, "MCLMC") as bar:
        for first in range(0, n_source, size):
            rows = order[first : first + size]
            bar.begin(len(rows))
            padded = np.resize(rows, size)
            batch = _Batch(
                posterior,
                sources.rows(padded),
                cfg,
                n_latent,
                (bank, known),
                None if found is None else found.rows(padded),
                mesh,
                bar.step,
            )
            parts.append({name: array[: len(rows)] for name, array in batch.run().items()})
    if not parts:
        parts = [_empty(cfg, n_latent)]
    back = np.argsort(order)
    merged = {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}
    n_steps = cfg.n_burnin + cfg.n_tune + cfg.n_steps
    return PosteriorSamples(keep_every=cfg.keep_latent_every, n_steps=n_steps, **merged)


class _Batch:
    """One padded batch on its way through the stages."""

    def __init__(
        self,
        posterior: LogPosterior,
        sources: Sources,
        cfg: MclmcConfig,
        n_latent: int,
        banks: tuple[PriorBank | None, PriorBank | None],  # prior draws and landmarks, to start from
        found: Found | None,
        mesh: Mesh,
        tick: Callable[[int], None],
    ):
        self.posterior, self.cfg = posterior, cfg
        self.bank, self.known = banks
        self.mesh, self.tick = mesh, tick
        self.by_chain = (len(sources), cfg.n_chains)
        self.n_lane, self.dim = len(sources) * cfg.n_chains, n_latent + 1
        self.to_lanes = NamedSharding(mesh, LANE)
        self.photometry = sources.whitened(posterior)
        self.lanes = jax.tree.map(
            lambda part: self._put(np.repeat(part, cfg.n_chains, axis=0)), self.photometry
        )
        self.score = None if self.bank is None else self._score(self.bank)
        low, high = halves_of_ids(sources.object_id)
        self.keys = self._put(lane_keys(np.uint32(sources.seed % 2**32), low, high, cfg.n_chains))
        self.rngs = [seeded_generator(sources.seed, key) for key in sources.object_id]
        self.stage = 0
        self.failed = ~(self.photometry.weight > 0.0).any(axis=1)
        self.found, self.hills = found, None
        if found is not None:
            self.hills = jump_bank(posterior, self.photometry, found, sources, mesh)

    def run(self) -> dict[str, np.ndarray]:
        """All stages; arrays (source, ...) of the batch's size, named as in `PosteriorSamples`."""
        root = np.sqrt(self.dim)
        tuning = Tuning(
            self._put(np.full(self.n_lane, FIRST_STEP * root, np.float32)),
            self._put(np.full(self.n_lane, root, np.float32)),
            self._put(np.ones((self.n_lane, self.dim), np.float32)),
        )
        position, fisher, moved, tuning = self._burn_in(self._starts(), tuning)
        frame = Frame(position, whitening(fisher))
        walker, _, _ = self._advance(frame, self._at_rest(position), tuning, 0, False)  # density and gradient
        lanes = Lane(self.lanes, frame, walker, tuning, self._keys())
        walker, tuned = tune(self.posterior, self.mesh, lanes, self.cfg.n_tune)
        tuning = Tuning(*(self._put(part) for part in shared_tuning(tuned, self.cfg.n_chains)))
        self.tick(self.cfg.n_tune)
        drawn = self._sample(frame, walker, tuning)
        failed = self.failed | ~np.isfinite(drawn["z"]).all(axis=(1, 2))
        for name in ("z", "u", "log_prob"):
            drawn[name][failed] = np.nan
        return drawn | {
            "n_reinit": moved.sum(axis=1).astype(np.int16),
            "step_size": np.asarray(tuning.step_size).reshape(self.by_chain),
            "decoherence": np.asarray(tuning.decoherence).reshape(self.by_chain),
            "failed": failed,
        }

    # -- stages ------------------------------------------------------------------------------------------------
    def _starts(self) -> np.ndarray:
        """Sampler coordinates (source, chain, dim)."""
        n_source, n_chain = self.by_chain
        if self.found is not None and self.bank is None:
            pools = zip(self.found.pools, self.rngs, strict=True)
            return np.stack([_from_pool(pool, n_chain, rng) for pool, rng in pools])
        if self.bank is None or self.score is None:  # the paper's way: one prior draw a chain
            draws = [prior_draws(self.posterior, n_chain, self.dim - 1, rng) for rng in self.rngs]
            t = self.posterior.coordinate_of(jnp.log(jnp.asarray([z for _, z in draws])))
            return np.concatenate([np.stack([u for u, _ in draws]), np.asarray(t)[..., None]], axis=-1)
        self.failed |= ~np.isfinite(self.score).any(axis=1)
        pool, score = self.bank.position, self.score
        if self.known is not None:
            pool = np.concatenate([pool, self.known.position])
            score = np.concatenate([score, self._score(self.known)], axis=1)
        n_candidate = min(CANDIDATES_PER_CHAIN, len(pool) // n_chain) * n_chain
        candidates = pool[best_of_strata(pool, score, n_candidate)]
        rounds = [
            climb(self.posterior, self._geometry, candidates[:, k : k + n_chain])
            for k in range(0, n_candidate, n_chain)
        ]
        position, evidence = (np.concatenate(part, axis=1) for part in zip(*rounds, strict=True))
        starts = np.empty((n_source, n_chain, self.dim), np.float32)
        for i, rng in enumerate(self.rngs):
            chosen = choose_starts(evidence[i], n_chain, rng, effective=1.0)
            starts[i] = candidates[i, :n_chain] if chosen is None else position[i, chosen]
        return starts

    def _burn_in(self, starts: np.ndarray, tuning: Tuning) -> tuple[Array, Array, np.ndarray, Tuning]:
        """Positions and Fisher matrices (lane, ...) after burn-in and re-initialisation, and which chains moved.

        The metric is renewed every METRIC_EVERY steps; what the second half of burn-in meets makes the final
        one. A mean of many Fisher matrices, since the flow bends: one place's matrix misses how stiff the next
        place is.
        """
        position = self._put(starts.reshape(-1, self.dim))
        total, n_summed, recent, done = np.zeros((self.n_lane, self.dim, self.dim), np.float32), 0, None, 0
        while done < self.cfg.n_burnin:
            fisher = metric(self.posterior, self.mesh, self.lanes, position).fisher
            recent = fisher if recent is None else 0.5 * (recent + fisher)
            if 2 * done >= self.cfg.n_burnin:
                total, n_summed = total + np.asarray(fisher), n_summed + 1
            n = min(METRIC_EVERY, self.cfg.n_burnin - done)
            frame = Frame(position, whitening(recent))
            walker, tuning, _ = self._advance(frame, self._at_rest(position), tuning, n, True)
            position, done = leave(frame, walker.position), done + n
        last = metric(self.posterior, self.mesh, self.lanes, position)
        mean = (total + np.asarray(last.fisher)) / (n_summed + 1)
        moved_position, shared, moved = reinitialise(
            np.asarray(last.log_like).reshape(self.by_chain),
            np.asarray(position).reshape(*self.by_chain, self.dim),
            mean.reshape(*self.by_chain, self.dim, self.dim),
            np.asarray(normals(self._keys(), self.dim)).reshape(*self.by_chain, self.dim),
            self.cfg.reinit_delta_log_like,
            self.cfg.reinit_scatter,
        )
        position = self._put(moved_position.reshape(-1, self.dim))
        return position, self._put(shared.reshape(-1, self.dim, self.dim)), moved, tuning

    def _sample(self, frame: Frame, walker: Walker, tuning: Tuning) -> dict[str, np.ndarray]:
        """Sampling; what is kept leaves the device stretch by stretch."""
        cfg, n_draw = self.cfg, self.cfg.n_steps - self.cfg.n_discard
        z, log_prob = np.empty((2, self.n_lane, n_draw), np.float32)
        wanted = np.arange(cfg.keep_latent_every - 1, n_draw, cfg.keep_latent_every)
        u = np.empty((self.n_lane, len(wanted), self.dim - 1), np.float32)
        undone, jumped, done = np.zeros(self.n_lane), np.zeros(self.by_chain), 0
        times = jump_times(cfg)
        jumps, bank = None, self.score if self.hills is None else self.hills.log_weight
        if bank is not None and self.posterior.nf_prior:
            jumps = Jumps(bank, len(times), cfg.n_chains, self.rngs)
        jumping = jumps is not None and jumps.enabled
        # a stretch of steps ends at a jump, where the kept draws begin, and at the end
        ends = sorted({*(times if jumping else ()), cfg.n_discard, cfg.n_steps})
        number = 0
        while done < cfg.n_steps:
            n = min(next(end for end in ends if end > done) - done, CHUNK)
            walker, _, drawn = self._advance(frame, walker, tuning, n, False)
            first, done = done - cfg.n_discard, done + n
            if first >= 0:
                z[:, first : first + n], log_prob[:, first : first + n] = (
                    drawn.z[:, :n],
                    drawn.log_prob[:, :n],
                )
                here = (wanted >= first) & (wanted < first + n)
                u[:, here] = np.asarray(drawn.u)[:, wanted[here] - first]
                undone += np.asarray(drawn.undone)
            if jumps is not None and jumping and done == times[min(number, len(times) - 1)]:
                walker, moves = self._jump(jumps, number, frame, walker)
                number, jumped = number + 1, jumped + moves
        return {
            "z": z.reshape(*self.by_chain, n_draw),
            "u": u.reshape(*self.by_chain, len(wanted), self.dim - 1),
            "log_prob": log_prob.reshape(*self.by_chain, n_draw),
            "rejected": undone.reshape(self.by_chain).mean(axis=1) / n_draw,
            "jumped": jumped.mean(axis=1) / max(len(times), 1),
        }

    def _jump(self, jumps: Jumps, number: int, frame: Frame, walker: Walker) -> tuple[Walker, np.ndarray]:
        if self.hills is not None:
            v = np.asarray(leave(frame, walker.position)).reshape(*self.by_chain, self.dim)
            log_target = np.asarray(walker.log_prob, np.float64).reshape(self.by_chain)
            target = jumps.choose(number, log_target - self.hills.log_density(self.mesh, v))
            place = self.hills.v[np.arange(len(v))[:, None], np.maximum(target, 0)]
        else:
            assert self.bank is not None
            here = np.asarray(log_weight(self.posterior, frame, walker), np.float64).reshape(self.by_chain)
            target = jumps.choose(number, here)
            place = self.bank.position[target]
        landing = self._put(place.reshape(-1, self.dim))
        moves = self._put((target >= 0).reshape(-1))
        return land(frame, walker, self._at_rest(landing), landing, moves), target >= 0

    # -- small steps -------------------------------------------------------------------------------------------
    def _put(self, array: np.ndarray | Array) -> Array:
        return jax.device_put(array, self.to_lanes)

    def _keys(self) -> Array:
        """Fresh keys, one a lane; the n-th call gives the same ones whatever else is in the batch."""
        self.stage += 1
        return stage_keys(self.keys, np.int32(self.stage))

    def _score(self, bank: PriorBank) -> Float[np.ndarray, "source draw"]:
        """ln of posterior over proposal for every draw of a bank, exact: jumps to the draws are accepted by it."""
        if self.photometry.channels is None and self.posterior.noise_alone:
            return score_bank(bank, self.photometry, self.posterior.amplitude)
        log_like = like_block(self.posterior, self.mesh, self.photometry, jnp.asarray(bank.position))
        score = np.asarray(log_like, np.float64) + bank.log_prior_ratio
        return np.where(np.isfinite(score), score, -np.inf)

    def _geometry(self, position: np.ndarray) -> Geometry:
        return metric(self.posterior, self.mesh, self.lanes, self._put(position.reshape(-1, self.dim)))

    def _at_rest(self, position: Array) -> Walker:
        """Walkers at the centre of a frame with random momenta; density and gradient come with their step zero."""
        momentum = normals(self._keys(), self.dim)
        momentum = momentum / jnp.linalg.norm(momentum, axis=1, keepdims=True)
        return Walker(
            jnp.zeros_like(position), momentum, jnp.zeros_like(position[:, 0]), jnp.zeros_like(position)
        )

    def _advance(
        self, frame: Frame, walker: Walker, tuning: Tuning, n: int, adapt: bool
    ) -> tuple[Walker, Tuning, Drawn]:
        lanes = Lane(self.lanes, frame, walker, tuning, self._keys())
        out = jax.block_until_ready(advance(self.posterior, self.mesh, lanes, np.int32(n), np.bool_(adapt)))
        self.tick(n)
        return out


def _by_snr(sources: Sources) -> np.ndarray:
    """Rows from faint to bright: sources of a batch then need about the same step size and metric (section VIII)."""
    flux, flux_err = sources.flux, sources.flux_err
    usable = usable_bands(flux_err)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        snr = np.sum(np.where(usable, flux / flux_err, 0.0).astype(np.float64) ** 2, axis=1)
    return np.argsort(np.where(np.isfinite(snr), snr, np.inf), kind="stable")


def _from_pool(pool: Pool, n_chain: int, rng: np.random.Generator) -> Float[np.ndarray, "chain dim"]:
    """Starts by systematic resampling of a source's weighted draws, tempered so that several hills get one."""
    chosen = choose_starts(pool.log_weight, n_chain, rng, effective=4.0 * n_chain)
    return pool.v[rng.integers(len(pool.v), size=n_chain) if chosen is None else chosen]


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
        "jumped": np.empty(0),
        "failed": np.empty(0, bool),
    }
