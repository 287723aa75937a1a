"""What every sampler hands on: weighted draws of (u, z) for many sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from paeplatform.pae.proposal import Proposal


@dataclass(frozen=True)
class PosteriorDraws:
    """Draws of the posterior over (u, z), float32; a source without a posterior holds NaN throughout.

    Attributes:
        u: (source, draw, n_latent) base variables.
        z: (source, draw) redshifts.
        weight: (source, draw) not negative, sum 1 for each source; all alike for Markov chains.
        log_prob: (source, draw) log density over (u, ln z), up to a constant of the data.
    """

    u: Float[np.ndarray, "source draw latent"]
    z: Float[np.ndarray, "source draw"]
    weight: Float[np.ndarray, "source draw"]
    log_prob: Float[np.ndarray, "source draw"]


def joined(parts: Sequence[PosteriorDraws], order: np.ndarray | slice = slice(None)) -> PosteriorDraws:
    """The draws of several groups of sources as those of one, its sources in this order."""
    arrays = ([getattr(part, field.name) for part in parts] for field in fields(PosteriorDraws))
    return PosteriorDraws(*(np.concatenate(array)[order] for array in arrays))


@dataclass(frozen=True)
class Pool:
    """All draws of one source, with their weights.

    Attributes:
        v: (draw, dim) sampler coordinates.
        log_target: (draw,) log density over v.
        log_weight: (draw,) log of target over the mixture of all proposals, not smoothed.
        base: (draw, dim) where the amortised proposal's map has these draws.
    """

    v: Float[np.ndarray, "draw dim"]
    log_target: Float[np.ndarray, " draw"]
    log_weight: Float[np.ndarray, " draw"]
    base: Float[np.ndarray, "draw dim"]


@dataclass(frozen=True)
class Found:
    """What importance sampling found of some sources, for chains to start from and to jump to.

    Attributes:
        pools: the draws of each source.
        proposal: whose draws the first of each pool are; None when chains shall jump to the pools' hills alone.
    """

    pools: Sequence[Pool]
    proposal: Proposal | None = None

    def rows(self, rows: np.ndarray) -> Found:
        """That of some of the sources, in the order of `rows`; a row may be there twice."""
        return Found([self.pools[row] for row in rows], self.proposal)
