"""Jumps between hills: resampling against fresh independent draws, in between MCLMC steps.

The posterior of a faint galaxy has many shallow hills, and a chain of 2000 steps crosses between them rarely. Prior
draws do reach it: of 131,072 draws, the effective number under the posterior was 2,000 to 55,000 for 32 of 33 mock
galaxies of SNR 10-20, and 17 to 8,100 for 21 of SNR 20-50. So every few steps (`mclmc.jump_every`) each chain picks its
next state among itself and some draws it has not met before, with probabilities in proportion to target over prior.
This is iterated sampling importance resampling (Andrieu, Lee & Vihola 2018, Bernoulli 24, 842): it leaves the
posterior invariant whatever the number of draws, and where the posterior is much narrower than the prior (high SNR)
it hardly ever moves.

It needs a proper prior on u, so it is off without the NF prior, and off when no bank is searched (the paper's
settings).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from paeplatform.config import MclmcConfig

EVERY_DISCARDED = 10  # steps between jumps while draws are discarded: the bank is for those that are kept
MIN_DRAWS = 8  # per jump; below, a jump is not worth its bookkeeping


def jump_times(cfg: MclmcConfig) -> list[int]:
    """Numbers of sampling steps after which chains may jump; the last step is none of them."""
    discarded = range(EVERY_DISCARDED, cfg.n_discard, EVERY_DISCARDED)
    return [*discarded, *range(max(cfg.n_discard, 1), cfg.n_steps, cfg.jump_every)]


class Jumps:
    """Which prior draws each chain meets at each jump, and the choice among them.

    Args:
        log_weight: (source, draw) ln of target over proposal of the bank's draws, up to a constant a source.
        n_jumps: jumps of each chain.
        n_chain: chains of a source.
        rngs: one generator a source.
    """

    def __init__(
        self,
        log_weight: Float[np.ndarray, "source draw"],
        n_jumps: int,
        n_chain: int,
        rngs: list[np.random.Generator],
    ):
        self._log_weight = log_weight
        self.n_draws = log_weight.shape[1] // max(n_jumps, 1)
        self.enabled = n_jumps > 0 and self.n_draws >= MIN_DRAWS
        self._n_jumps, self._n_chain = n_jumps, n_chain
        # the draws are stratified in z in random order, so that any slice of them is a fair sample of the prior
        self._uniform = np.stack([rng.uniform(size=(max(n_jumps, 1), n_chain)) for rng in rngs])

    def choose(
        self, jump: int, log_weight: Float[np.ndarray, "source chain"]
    ) -> Int[np.ndarray, "source chain"]:
        """Index into the bank that each chain moves to, -1 where it stays.

        Args:
            jump: number of the jump, from 0. Chains go through the bank in different order, each meets a draw once.
            log_weight: of the chains' present states, on the scale of the bank's.
        """
        n_source = len(log_weight)
        offset = (jump + np.arange(self._n_chain) * (self._n_jumps // self._n_chain)) % self._n_jumps
        index = offset[:, None] * self.n_draws + np.arange(self.n_draws)  # (chain, draw)
        pool = np.concatenate([log_weight[..., None], self._log_weight[:, index]], axis=-1)
        pool = np.where(np.isfinite(pool), pool, -np.inf)
        top = pool.max(axis=-1, keepdims=True)
        weight = np.exp(pool - np.where(np.isfinite(top), top, 0.0))
        cumulative = np.cumsum(weight, axis=-1)
        threshold = self._uniform[:n_source, jump, :, None] * cumulative[..., -1:]
        picked = np.minimum((cumulative <= threshold).sum(axis=-1), self.n_draws)
        chosen = np.take_along_axis(
            np.broadcast_to(index, (n_source, *index.shape)), picked[..., None] - 1, axis=-1
        )[..., 0]
        return np.where((picked == 0) | ~np.isfinite(top[..., 0]), -1, chosen)
