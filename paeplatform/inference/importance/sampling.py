"""The exact posterior by importance sampling, in stages.

Stage 1, every source: draws of the amortised proposal (`pae.proposal`), weighted by target over proposal. Most faint
sources are done. Where it falls short, rounds of adaptation (population Monte Carlo; Cappe et al. 2008,
arXiv:0710.4242) follow: a mixture of Student t is fitted to the weighted draws so far, over the base points of the
proposal's map, which straightens much of what is bent in the posterior (decision 16). Where the first draws are next to
nothing, a mixture over v is set on the tops of the hills above some of them (Levenberg-Marquardt). Draws of it are
added. All draws of a source, of whichever stage, are weighted against the mixture of everything they were drawn from
(deterministic mixture weights; Owen & Zhou 2000, JASA 95, 135), so no draw is wasted and the proposal's draws, which
reach all over the prior, guard against a hill that an adapted mixture forgot.

A source that is bright, that no draw describes, or whose draws are not to be trusted, is searched over all redshifts
(`modes.scan`) before it is done: draws and climbs from draws find what lies near them. Where the best place that the
search found is no part of the posterior found, or this is not to be trusted, the rounds start again, the first of them
from there.

The largest weights are Pareto smoothed. A source is trusted when k-hat and its effective number of draws are within
the limits of section `trust` of the preset. Whoever is not trusted is for MCLMC (`inference.estimate`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import jax
import numpy as np
from jaxtyping import Bool, Float
from scipy.special import logsumexp

from paeplatform.config import ImportanceConfig, TrustConfig
from paeplatform.inference.batches.blocks import (
    climb_block,
    coordinates,
    densities,
    draw_mixtures,
    fit_mixtures,
    flow_block,
    log_priors,
    mixture_over,
    stretch,
)
from paeplatform.inference.batches.progress import SHOWN, GalaxyBar, Progress
from paeplatform.inference.batches.runtime import source_mesh
from paeplatform.inference.importance.round_mixtures import RoundMixtures
from paeplatform.inference.importance.second_search import FoundDraws, Hills, lacks
from paeplatform.inference.model.draws import Pool, PosteriorDraws, joined
from paeplatform.inference.model.posterior import LogPosterior, WhitenedPhotometry
from paeplatform.inference.modes.mixture import BASE_INFLATION, INFLATION, StudentMixture
from paeplatform.inference.modes.scan import RedshiftScan
from paeplatform.inference.results.pareto import effective_draws, pareto_smooth
from paeplatform.inference.results.pz_summary import redshift_columns
from paeplatform.inference.results.status import misses_data
from paeplatform.inference.sources import Sources
from paeplatform.pae.proposal import Proposal
from paeplatform.random_keys import seeded_generator

GROUP = 128  # sources whose draws are held at a time: some 400 MB
CLIMB_STEPS = 8
SMALL_BATCH = 2  # sources per compiled call and device where there are no more
LEAST_LOG_SHARE = -8.0  # of a hill's component, relative to the highest hill's
KEPT_STARTS = 4  # of the draws found so far, among the starts of a second search

PATHS = ("proposal", "adapted", "none")  # which stage made a posterior


@dataclass(frozen=True)
class ImportanceResult:
    """Outcome of `run_importance`, rows in the order of the input.

    Attributes:
        columns: of `redshift_columns` with prefix "pae", from all weighted draws; NaN without a posterior.
        draws: `n_kept` resampled draws of equal weight.
        ess: (source,) effective number of weighted draws.
        khat: (source,) Pareto shape of the weights.
        n_draws: (source,) draws that are weighted: evaluations of the exact density, those before a restart left out.
        path: (source,) one of `PATHS`.
        trusted: (source,) k-hat and number of effective draws are within their limits.
        scanned: (source,) searched over all redshifts.
        restarted: (source,) the rounds started again from what the scan found.
        log_evidence: (source,) ln of the mean weight: ln of the integral of L over the normalised prior; NaN without
            draws.
        pools: all draws of the sources that are not trusted (of all sources on request), by row; what MCLMC starts
            from and jumps to.
    """

    columns: dict[str, np.ndarray]
    draws: PosteriorDraws
    ess: Float[np.ndarray, " source"]
    khat: Float[np.ndarray, " source"]
    n_draws: np.ndarray
    path: np.ndarray
    trusted: Bool[np.ndarray, " source"]
    scanned: Bool[np.ndarray, " source"]
    restarted: Bool[np.ndarray, " source"]
    log_evidence: Float[np.ndarray, " source"]
    pools: dict[int, Pool]


def run_importance(
    posterior: LogPosterior,
    proposal: Proposal,
    sources: Sources,
    cfg: ImportanceConfig,
    trust: TrustConfig,
    *,
    n_kept: int = 500,
    keep_pools: bool = False,
    landmarks: Float[np.ndarray, "landmark latent"] | None = None,
    progress: Progress = SHOWN,
) -> ImportanceResult:
    """Weighted draws of every source's posterior.

    Args:
        posterior: forward model, priors and treatment of the amplitude; needs the NF prior (without it u is flat
            and no proposal covers the posterior: use MCLMC).
        proposal: trained for this forward model.
        sources: photometry and what the random numbers are made from.
        cfg: stages and sizes.
        trust: limits of k-hat and of the number of effective draws.
        n_kept: equally weighted draws kept of each source.
        keep_pools: keep every source's draws, not only those of sources that are not trusted.
        landmarks: of the bundle; where the scan over redshift starts. None takes draws of the prior.
        progress: how it is shown, in galaxies finished.

    Returns:
        A row for every source; one without usable bands has path "none" and NaN.

    Raises:
        ValueError: the posterior has no NF prior.
    """
    if not posterior.nf_prior:
        raise ValueError("importance sampling needs the NF prior; without it use MCLMC")
    sources = sources.single()
    scan = (
        RedshiftScan(posterior, cfg.n_scanned, proposal.dim - 1, landmarks, sources.seed)
        if cfg.n_scanned
        else None
    )
    parts = []
    with progress.bar(len(sources), 1, "importance") as bar:
        for first in range(0, len(sources), GROUP) if len(sources) else [0]:
            some = sources.rows(slice(first, min(first + GROUP, len(sources))))
            group = _Group(posterior, proposal, some, cfg, trust, scan, bar, n_kept, keep_pools)
            parts.append(group.run(first))
    return _joined(parts)


class _Group:
    """Some hundred sources on their way through the stages; arrays are (source, ...), draws padded to the most."""

    def __init__(
        self,
        posterior: LogPosterior,
        proposal: Proposal,
        sources: Sources,
        cfg: ImportanceConfig,
        trust: TrustConfig,
        scan: RedshiftScan | None,
        bar: GalaxyBar,
        n_kept: int,
        keep_pools: bool,
    ):
        self.posterior, self.proposal, self.scan, self.bar = posterior, proposal, scan, bar
        self.cfg, self.trust = cfg, trust
        self.n_kept, self.keep_pools = n_kept, keep_pools
        self.mesh = source_mesh()
        self.photometry = sources.whitened(posterior)
        self.seed, self.identity = sources.seed, sources.object_id.tolist()
        self.rngs = [seeded_generator(self.seed, identity, 0x4953) for identity in self.identity]
        n_source, dim = len(sources), proposal.dim
        # A batch is padded by repeating sources, which a handful of them should not pay for. Not fewer than two a
        # device: of a loop that runs once XLA makes another program, whose last digits differ.
        small = n_source <= SMALL_BATCH * self.mesh.size
        self.batch = self.mesh.size * (min(SMALL_BATCH, cfg.batch_size) if small else cfg.batch_size)
        most = cfg.n_proposal + cfg.n_rounds * cfg.n_adapted
        self.v = np.zeros((n_source, most, dim), np.float32)
        self.base = np.zeros((n_source, most, dim), np.float32)  # where the proposal's map has its draws
        self.log_target = np.full((n_source, most), -np.inf)
        # ln density of each stage's proposal at each draw, whichever stage drew it
        self.log_q = np.full((n_source, 1 + cfg.n_rounds, most), -np.inf)
        self.n_rounds = np.zeros(n_source, int)
        # whether a round's mixture is one over v, not over base points
        self.over_v = np.zeros((n_source, 1 + cfg.n_rounds), bool)
        self.mixtures = RoundMixtures()
        self.fatal = ~(self.photometry.weight > 0.0).any(axis=1)
        self.ess, self.khat = np.zeros(n_source), np.full(n_source, np.inf)
        self.scanned, self.restarted = np.zeros((2, n_source), bool)

    def run(self, first: int) -> ImportanceResult:
        """All stages; `first` is the row of the group's first source."""
        cfg = self.cfg
        usable = np.flatnonzero(~self.fatal)
        self.bar.begin(int(self.fatal.sum()))
        self.bar.step(1)
        self._proposal_stage(usable)
        left = self._judge(usable)
        self._tick(len(usable) - len(left))
        lost = self.ess[left] < cfg.climb_below_ess
        left = self._rounds(left, {row: self._starts(row, cfg.n_proposal) for row in left[lost].tolist()})
        if self.scan is not None:
            starts = self._missed(self._suspect(usable))
            self._forget(np.asarray(list(starts), dtype=int))
            self._rounds(np.asarray(list(starts), dtype=int), starts, count=False)
        self._tick(len(left))
        return self._result(first)

    def _rounds(self, left: np.ndarray, starts: dict[int, np.ndarray], *, count: bool = True) -> np.ndarray:
        """Rounds of adaptation, the first of the sources in `starts` from there; returns who falls short."""
        for stage in range(1, self.cfg.n_rounds + 1):
            if not len(left):
                break
            from_hills = np.isin(left, list(starts)) & (stage == 1)
            far = self.restarted[left] & ~from_hills
            self._adapt(left[from_hills], stage, over_v=True, starts=starts)
            self._adapt(left[far], stage, over_v=True)
            self._adapt(left[~from_hills & ~far], stage, over_v=False)
            before, left = len(left), self._judge(left)
            if count:
                self._tick(before - len(left))
        return left

    # -- the scan over redshift ------------------------------------------------------------------------------------
    def _suspect(self, usable: np.ndarray) -> np.ndarray:
        """The sources to be scanned: bright, not to be trusted, or not described by their highest draw."""
        if not len(usable):
            return usable
        highest = np.zeros((len(self.fatal), 1, self.v.shape[2]), np.float32)
        rows = np.arange(len(highest))
        at = self.log_target.argmax(axis=1)
        highest[:, 0] = self.v[rows, at]
        log_prior = self._in_batches(
            rows, lambda padded: log_priors(self.posterior, self.mesh, highest[padded]), (1,), np.float64
        )[:, 0]
        chi2 = -2.0 * (self.log_target[rows, at] - log_prior)
        channels = self.photometry.in_channels.weight > 0.0
        misfit = misses_data(
            np.where(np.isfinite(chi2), chi2, np.nan),
            channels.sum(axis=1),
            self.v.shape[2] + 1,
            self.trust,
            (self.photometry.weight > 0.0).sum(axis=1),
        )
        snr = np.sqrt(np.sum(np.asarray(self.photometry.in_channels.signal, dtype=np.float64) ** 2, axis=1))
        bright = snr > self.cfg.scan_above_snr
        return usable[(misfit | bright | ~np.isfinite(chi2) | ~self._trusted())[usable]]

    def _missed(self, suspect: np.ndarray) -> dict[int, np.ndarray]:
        """Where to start again: of the sources whose posterior lacks the best place that the scan finds, or fails."""
        assert self.scan is not None
        starts, trusted = {}, self._trusted()
        n_start = self.cfg.n_starts
        for chunk, padded in self._batches(suspect):
            active = self._active(len(chunk))
            found = self.scan.run(self.mesh, self._photometry(padded).in_channels, active)
            position, fisher, evidence = self._climbed(padded, len(chunk), found.best(n_start))
            weight = self._log_weight(padded)
            for i, row in enumerate(chunk.tolist()):
                self.scanned[row] = True
                n = int(self._n_draws(self.n_rounds[row]))
                draws = FoundDraws(self.v[row, :n, -1], self.log_target[row, :n], weight[i, :n])
                hills = Hills(position[i], fisher[i], evidence[i])
                if hills.any and (not trusted[row] or lacks(draws, hills)):
                    order = np.argsort(evidence[i])[::-1][: n_start - KEPT_STARTS]
                    kept = self.v[row, np.argsort(self.log_target[row])[::-1][:KEPT_STARTS]]
                    starts[row] = np.concatenate([position[i, order], kept]).astype(np.float32)
        self.restarted[list(starts)] = True
        return starts

    def _forget(self, rows: np.ndarray) -> None:
        """Takes back all rounds of these sources; the draws of the proposal stay."""
        n = self.cfg.n_proposal
        self.log_target[rows, n:], self.log_q[rows, 1:] = -np.inf, -np.inf
        self.n_rounds[rows], self.over_v[rows] = 0, False
        self.mixtures.forget(rows)

    # -- stages ------------------------------------------------------------------------------------------------
    def _proposal_stage(self, rows: np.ndarray) -> None:
        n = self.cfg.n_proposal
        for chunk, padded in self._batches(rows):
            base = np.stack(
                [rng.standard_normal((n, self.proposal.dim), np.float32) for rng in self._fresh(padded, 0)]
            )
            self._keep(chunk, slice(0, n), base, *self._mapped(padded, len(chunk), base))

    def _adapt(
        self, rows: np.ndarray, stage: int, *, over_v: bool, starts: dict[int, np.ndarray] | None = None
    ) -> None:
        """One more proposal for each of these sources, and its draws.

        Args:
            rows: the sources.
            stage: number of the round.
            over_v: whether the mixture is one over v, or over base points of the proposal's map, which are of no use
                where the proposal has no draws.
            starts: where to climb from to the hills that the mixture is set on; None fits it to the draws so far.
        """
        cfg, n_done = self.cfg, self._n_draws(stage - 1)
        new = slice(n_done, n_done + cfg.n_adapted)
        self.over_v[rows, stage] = over_v
        for chunk, padded in self._batches(rows):
            n = len(chunk)
            rngs = self._fresh(padded, stage)
            mixture = self._fitted(padded, rngs, over_v) if starts is None else self._hills(padded, n, starts)
            drawn = draw_mixtures(mixture, rngs, cfg.n_adapted)
            if over_v:
                target, log_q, base = densities(
                    self.posterior,
                    self.proposal,
                    self.mesh,
                    self._photometry(padded),
                    drawn,
                    self._active(n),
                )
                self._keep(chunk, new, base, drawn, target, log_q)
            else:
                self._keep(chunk, new, drawn, *self._mapped(padded, n, drawn))
            for older in range(1, stage):
                known = self.mixtures.of(older, padded)
                self.log_q[chunk, older, new] = self._density(known, padded, older, new)[:n]
            self.mixtures.add(stage, chunk, StudentMixture(*(part[:n] for part in mixture)))
            for block in self._blocks(stage):
                self.log_q[chunk, stage, block] = self._density(mixture, padded, stage, block)[:n]
            self.n_rounds[chunk] = stage

    def _mapped(self, padded: np.ndarray, n: int, base: np.ndarray | jax.Array) -> tuple:
        photometry, active = self._photometry(padded), self._active(n)
        return flow_block(self.posterior, self.proposal, self.mesh, photometry, base, active)

    def _active(self, n: int) -> np.ndarray:
        """Of a padded batch the first `n` sources, which alone are computed."""
        return np.arange(self.batch) < n

    def _keep(self, chunk: np.ndarray, place: slice, *found: np.ndarray | jax.Array) -> None:
        """Stores new draws (base points, v, ln target, ln proposal); what is not finite can never have weight."""
        base, v, target, log_q = (np.asarray(part)[: len(chunk)] for part in found)
        good = np.isfinite(v).all(axis=2) & np.isfinite(base).all(axis=2) & np.isfinite(target)
        good &= ~np.isnan(log_q)
        self.v[chunk, place] = np.where(good[..., None], v, 0.0)
        self.base[chunk, place] = np.where(good[..., None], base, 0.0)
        self.log_target[chunk, place] = np.where(good, target, -np.inf)
        self.log_q[chunk, 0, place] = np.where(good, log_q, 0.0)

    def _fitted(self, padded: np.ndarray, rngs: list[np.random.Generator], over_v: bool) -> StudentMixture:
        places = self.v if over_v else self.base
        inflation = INFLATION if over_v else BASE_INFLATION
        return fit_mixtures(
            self.mesh, places[padded], self._log_weight(padded), rngs, self.cfg.n_components, inflation
        )

    def _fresh(self, rows: np.ndarray, stage: int) -> list[np.random.Generator]:
        """A generator of one stage for each source; where a row is there twice, two alike."""
        return [seeded_generator(self.seed, self.identity[row], 0x5354, stage) for row in rows.tolist()]

    def _hills(self, padded: np.ndarray, n: int, starts: dict[int, np.ndarray]) -> StudentMixture:
        """One component on the top of the hill above each start."""
        position, fisher, evidence = self._climbed(
            padded, n, np.stack([starts[row] for row in padded.tolist()])
        )
        best = np.max(evidence, axis=1, keepdims=True)
        # half the evidence: Laplace's is rough, and a hill that it belittles must still be visited
        with np.errstate(invalid="ignore"):
            share = np.where(np.isfinite(best), np.maximum(0.5 * (evidence - best), LEAST_LOG_SHARE), 0.0)
        share = np.where(np.isnan(share), LEAST_LOG_SHARE, share)
        return StudentMixture(
            mean=position,
            factor=_root_of_inverse(fisher + np.eye(fisher.shape[-1])),
            log_share=share - logsumexp(share, axis=1, keepdims=True),
        )

    def _climbed(
        self, padded: np.ndarray, n: int, starts: Float[np.ndarray, "source start dim"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(top, Fisher matrix, Laplace evidence) of the hill above each start, float64; evidence -inf for no hill."""
        position, fisher, evidence = (
            np.asarray(part, dtype=np.float64)
            for part in climb_block(
                self.posterior, self.mesh, self._photometry(padded), starts, CLIMB_STEPS, self._active(n)
            )
        )
        return (
            np.where(np.isfinite(position), position, 0.0),
            fisher,
            np.where(np.isfinite(evidence), evidence, -np.inf),
        )

    def _starts(self, row: int, n: int) -> np.ndarray:
        """Of the first `n` draws some to climb from: half by their height, half spread over redshift."""
        n_start = self.cfg.n_starts
        target, v = self.log_target[row, :n], self.v[row, :n]
        strata = np.array_split(np.argsort(v[:, -1], kind="stable"), max(n_start // 2, 1))
        spread = [stratum[target[stratum].argmax()] for stratum in strata]
        score = np.where(np.isfinite(target), target, -1e30)
        best = np.argsort(score)[::-1][: 4 * n_start]
        picked = self.rngs[row].choice(best, n_start - len(spread), replace=len(best) < n_start)
        picked[0] = best[0]
        return v[np.concatenate([picked, spread])]

    # -- weights -----------------------------------------------------------------------------------------------
    def _log_weight(self, rows: np.ndarray) -> Float[np.ndarray, "source draw"]:
        """ln of target over the mixture of all stages so far; -inf for places not yet filled."""
        out = np.full((len(rows), self.v.shape[1]), -np.inf)
        for n_rounds in np.unique(self.n_rounds[rows]):
            here = np.flatnonzero(self.n_rounds[rows] == n_rounds)
            n = self._n_draws(n_rounds)
            share = np.full(1 + n_rounds, self.cfg.n_adapted / n)
            share[0] = self.cfg.n_proposal / n
            log_q = logsumexp(self.log_q[rows[here], : 1 + n_rounds, :n] + np.log(share)[:, None], axis=1)
            with np.errstate(invalid="ignore"):
                weight = self.log_target[rows[here], :n] - log_q
            out[here, :n] = np.where(np.isfinite(weight), weight, -np.inf)
        return out

    def _judge(self, rows: np.ndarray) -> np.ndarray:
        """Sets ess and k-hat; returns the rows that fall short of the target."""
        if not len(rows):
            return rows
        n = self._n_draws(int(self.n_rounds[rows].max()))
        smoothed, self.khat[rows] = pareto_smooth(self._log_weight(rows)[:, :n])
        self.ess[rows] = effective_draws(smoothed)
        return rows[(self.ess[rows] < self.cfg.ess_target) | ~(self.khat[rows] < self.trust.khat_max)]

    def _trusted(self) -> Bool[np.ndarray, " source"]:
        return (self.khat < self.trust.khat_max) & (self.ess >= self.trust.ess_min)

    # -- result ------------------------------------------------------------------------------------------------
    def _result(self, first: int) -> ImportanceResult:
        n_source, z_prior = len(self.fatal), self.posterior.z_prior
        limits = {"z_min": float(z_prior.z_min), "z_max": float(z_prior.z_max)}
        columns: dict[str, np.ndarray] = {}
        n_latent = self.v.shape[2] - 1
        u = np.full((n_source, self.n_kept, n_latent), np.nan, np.float32)
        z, log_prob = np.full((2, n_source, self.n_kept), np.nan, np.float32)
        trusted, log_evidence = self._trusted(), np.full(n_source, np.nan)
        pools = {}
        log_z, bend = self._coordinates()
        for n_rounds in np.unique(self.n_rounds):
            rows = np.flatnonzero(self.n_rounds == n_rounds)
            n = self._n_draws(n_rounds)
            raw = self._log_weight(rows)[:, :n]
            weight = np.exp(pareto_smooth(raw)[0])
            log_evidence[rows] = logsumexp(raw, axis=1) - np.log(n)
            redshift = np.exp(log_z[rows, :n])
            redshift[self.fatal[rows]] = np.nan
            for name, values in redshift_columns(redshift, weight, prefix="pae", **limits).items():
                if name not in columns:
                    blank = False if values.dtype == bool else np.nan
                    columns[name] = np.full((n_source, *values.shape[1:]), blank, values.dtype)
                columns[name][rows] = values
            for i, row in enumerate(rows):
                if self.fatal[row]:
                    continue
                if self.keep_pools or not trusted[row]:
                    v, target, base = (part[row, :n].copy() for part in (self.v, self.log_target, self.base))
                    pools[first + row] = Pool(v, target, raw[i], base)
                if not weight[i].sum() > 0.0:  # nothing to draw from; chains may still find something
                    continue
                index = _systematic(weight[i], self.n_kept, self.rngs[row])
                u[row], z[row] = self.v[row, index, :-1], redshift[i, index]
                log_prob[row] = self.log_target[row, index] - bend[row, index]
        n_draws = np.where(self.fatal, 0, self._n_draws(self.n_rounds))
        path = np.where(self.fatal, "none", np.where(self.n_rounds > 0, "adapted", "proposal"))
        draws = PosteriorDraws(u, z, np.full_like(z, 1.0 / self.n_kept), log_prob)
        return ImportanceResult(
            columns,
            draws,
            self.ess,
            self.khat,
            n_draws,
            path,
            trusted & ~self.fatal,
            self.scanned,
            self.restarted,
            np.where(self.fatal | ~np.isfinite(log_evidence), np.nan, log_evidence),
            pools,
        )

    def _coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        """ln z (float64) and ln (d ln z / dt) of all draws."""
        log_z, bend = np.empty(self.log_target.shape), np.empty(self.log_target.shape)
        for chunk, padded in self._batches(np.arange(len(log_z))):
            found = coordinates(self.posterior, self.v[padded, :, -1])
            log_z[chunk], bend[chunk] = (np.asarray(part)[: len(chunk)] for part in found)
        return log_z, bend

    # -- small steps -------------------------------------------------------------------------------------------
    def _n_draws(self, n_rounds: int | np.ndarray) -> int | np.ndarray:
        return self.cfg.n_proposal + n_rounds * self.cfg.n_adapted

    def _blocks(self, stage: int) -> list[slice]:
        """The draws so far in pieces of `n_adapted`, whose whitened places fit into the cache."""
        n, size = int(self._n_draws(stage)), self.cfg.n_adapted
        return [slice(max(end - size, 0), end) for end in range(n, 0, -size)]

    def _density(
        self, mixture: StudentMixture, padded: np.ndarray, stage: int, block: slice
    ) -> Float[np.ndarray, "source draw"]:
        """ln density over v of a stage's mixtures at these draws."""
        over_v = self.over_v[padded, stage]
        base = self.base[padded, block]
        places = np.where(over_v[:, None, None], self.v[padded, block], base)
        stretched = np.where(over_v[:, None], 0.0, stretch(base, self.log_q[padded, 0, block]))
        return mixture_over(mixture, places, stretched)

    def _photometry(self, rows: np.ndarray) -> WhitenedPhotometry:
        return self.photometry.rows(rows)

    def _batches(self, rows: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """(rows, the same padded to the batch size) of each batch."""
        chunks = [rows[first : first + self.batch] for first in range(0, len(rows), self.batch)]
        return [(chunk, np.resize(chunk, self.batch)) for chunk in chunks]

    def _in_batches(self, rows: np.ndarray, function: Callable, shape: tuple, dtype: type) -> np.ndarray:
        out = np.empty((len(rows), *shape), dtype)
        for chunk, padded in self._batches(rows):
            out[chunk] = np.asarray(function(padded))[: len(chunk)]
        return out

    def _tick(self, n: int) -> None:
        self.bar.begin(n)
        self.bar.step(1)


def _root_of_inverse(curvature: Float[np.ndarray, "*lane dim dim"]) -> Float[np.ndarray, "*lane dim dim"]:
    """Lower triangular L with L L^T = curvature^-1, for curvatures that are 1 or more in every direction.

    By eigenvalues, cut at 1: rounding in float32 takes the small ones of a very bright source below zero.
    """
    value, vector = np.linalg.eigh(0.5 * (curvature + np.swapaxes(curvature, -1, -2)))
    root = np.swapaxes(vector, -1, -2) / np.sqrt(np.maximum(value, 1.0))[..., None]
    upper = np.linalg.qr(root, mode="r")
    sign = np.where(np.diagonal(upper, axis1=-2, axis2=-1) < 0.0, -1.0, 1.0)
    return np.swapaxes(upper * sign[..., None], -1, -2)


def _systematic(weight: Float[np.ndarray, " draw"], n: int, rng: np.random.Generator) -> np.ndarray:
    """Indices (n,) by systematic resampling, in random order."""
    cumulative = np.cumsum(weight)
    points = (np.arange(n) + rng.uniform()) / n
    index = np.minimum(np.searchsorted(cumulative, points * cumulative[-1], side="right"), len(weight) - 1)
    return rng.permutation(index)


def _joined(parts: list[ImportanceResult]) -> ImportanceResult:
    arrays = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(ImportanceResult)
        if field.name not in ("columns", "draws", "pools")
    }
    columns = {
        name: np.concatenate([part.columns[name] for part in parts]) for name in (parts[0].columns or {})
    }
    draws = joined([part.draws for part in parts])
    pools = {row: pool for part in parts for row, pool in part.pools.items()}
    return ImportanceResult(columns=columns, draws=draws, pools=pools, **arrays)
