"""Draws for each source's chains to jump to: of the amortised proposal, and of a mixture fitted to weighted draws.

The mixture fitted to a source's draws (`mixture`) covers every hill that importance sampling met. Chains of MCLMC that
jump to independent draws of it, accepted by target over proposal (`jumps`), pass between hills however narrow;
prior draws, which serve faint sources as well, never land on the hills of a bright one. A mixture of Student t is a
poor picture of a faint source's bent and broad posterior, for which the amortised proposal is nearly exact: half of
the draws are the proposal's, and all are weighted against both together (decision 13). Where there is a proposal, the
mixture is one over its base points (decision 16).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from paeplatform.inference.batches.blocks import (
    draw_mixtures,
    fit_mixtures,
    flow_base,
    flow_block,
    mixture_over,
    stretch,
    target_block,
)
from paeplatform.inference.model.draws import Found, Pool
from paeplatform.inference.model.posterior import LogPosterior, WhitenedPhotometry
from paeplatform.inference.modes.mixture import BASE_INFLATION, INFLATION, StudentMixture
from paeplatform.inference.sources import Sources
from paeplatform.pae.proposal import Proposal
from paeplatform.random_keys import seeded_generator

N_COMPONENT = 8
N_DRAW = 16384
BLOCK = 2048  # draws evaluated at a time: what they need stays in cache
PADDED = 4096  # pools are padded to a multiple of it: few shapes, few compilations


@dataclass(frozen=True)
class JumpBank:
    """Independent draws for the chains of a batch of sources.

    Attributes:
        mixture: (source, ...) what half of them, or all without a proposal, were drawn from; float64. Over base points
            of the proposal where there is one, over v otherwise.
        v: (source, draw, dim) sampler coordinates, float32, in random order.
        log_weight: (source, draw) ln of target over what they were drawn from.
        posterior: the target.
        photometry: (source, band) whitened.
        proposal: what the other half was drawn from.
    """

    mixture: StudentMixture
    v: Float[np.ndarray, "source draw dim"]
    log_weight: Float[np.ndarray, "source draw"]
    posterior: LogPosterior
    photometry: WhitenedPhotometry
    proposal: Proposal | None

    def log_density(self, mesh: Mesh, v: np.ndarray) -> Float[np.ndarray, "source chain"]:
        """ln density of what the draws came from, at each source's chains' places (source, chain, dim)."""
        if self.proposal is None:
            return mixture_over(self.mixture, v)
        return _evenly(*self.log_densities(mesh, v))

    def log_densities(self, mesh: Mesh, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ln density over v of the mixture and of the proposal, each (source, chain); only with a proposal."""
        assert self.proposal is not None
        found = flow_base(self.posterior, self.proposal, mesh, self.photometry, v)
        base, of_proposal = (np.asarray(part) for part in found)
        return mixture_over(self.mixture, base, stretch(base, of_proposal)), of_proposal


def jump_bank(
    posterior: LogPosterior,
    photometry: WhitenedPhotometry,
    found: Found,
    sources: Sources,
    mesh: Mesh,
) -> JumpBank:
    """The banks of a batch of sources; its size must be a multiple of the mesh's.

    Args:
        posterior: the target.
        photometry: (source, band) whitened.
        found: weighted draws of each source. With a proposal half of the bank is drawn from it; without one all draws
            are the mixture's.
        sources: the same sources; their ids and seed decide the draws.
        mesh: devices.
    """
    pools, proposal = found.pools, found.proposal
    rngs = [seeded_generator(sources.seed, identity, 0x4A42) for identity in sources.object_id.tolist()]
    n_mixture = N_DRAW if proposal is None else N_DRAW // 2
    inflation = INFLATION if proposal is None else BASE_INFLATION
    places, pooled_weight = _padded(pools, over_base=proposal is not None)
    mixture = fit_mixtures(mesh, places, pooled_weight, rngs, N_COMPONENT, inflation)
    drawn = draw_mixtures(mixture, rngs, n_mixture)
    drawn = np.where(np.isfinite(drawn), drawn, 0.0)
    if proposal is None:
        target = _in_blocks(lambda part: (target_block(posterior, mesh, photometry, part),), drawn)[0]
        log_weight = _weights(target, mixture_over(mixture, drawn))
        return JumpBank(mixture, drawn, log_weight, posterior, photometry, None)
    parts = []
    for block in range(N_DRAW // BLOCK):
        if block < n_mixture // BLOCK:
            base = drawn[:, block * BLOCK : (block + 1) * BLOCK]
        else:
            base = np.stack([rng.standard_normal((BLOCK, proposal.dim), np.float32) for rng in rngs])
        v, target, of_proposal = (
            np.asarray(part) for part in flow_block(posterior, proposal, mesh, photometry, base)
        )
        v = np.where(np.isfinite(v), v, 0.0)
        of_mixture = mixture_over(mixture, base, stretch(base, of_proposal))
        parts.append((v, target, _evenly(of_mixture, of_proposal)))
    v, target, log_q = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    # In random order, each jump's handful is as good as drawn from the half-and-half mixture: among 80 of 16,384,
    # how many are the proposal's varies by 0.5 % less than it would.
    order = np.stack([rng.permutation(N_DRAW) for rng in rngs])
    v = np.take_along_axis(v, order[..., None], axis=1)
    log_weight = np.take_along_axis(_weights(target, log_q), order, axis=1)
    return JumpBank(mixture, v, log_weight, posterior, photometry, proposal)


def _padded(pools: Sequence[Pool], *, over_base: bool) -> tuple[np.ndarray, np.ndarray]:
    """(base points or v, log_weight) of all pools, with places of weight zero up to one length."""
    most = max(len(pool.log_weight) for pool in pools)
    most = -(-most // PADDED) * PADDED
    places = np.zeros((len(pools), most, pools[0].v.shape[1]))
    log_weight = np.full((len(pools), most), -np.inf)
    for i, pool in enumerate(pools):
        n = len(pool.v)
        places[i, :n], log_weight[i, :n] = pool.base if over_base else pool.v, pool.log_weight
        if not np.isfinite(pool.log_weight).any():  # nothing to fit: all draws alike
            log_weight[i, :n] = 0.0
    return places, log_weight


def _in_blocks(function: Callable[[np.ndarray], tuple], v: np.ndarray) -> list[np.ndarray]:
    """`function` of (source, draw, dim), `BLOCK` draws at a time."""
    blocks = [function(v[:, first : first + BLOCK]) for first in range(0, v.shape[1], BLOCK)]
    return [np.concatenate([np.asarray(x) for x in part], axis=1) for part in zip(*blocks, strict=True)]


def _evenly(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """ln of the mean of two densities given as logarithms; NaN counts as zero density."""
    parts = (np.where(np.isnan(part), -np.inf, part.astype(np.float64)) for part in (one, other))
    return np.logaddexp(*parts) - np.log(2.0)


def _weights(target: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        weight = target.astype(np.float64) - log_q
    return np.where(np.isnan(weight), -np.inf, weight)
