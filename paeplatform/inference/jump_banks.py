"""Draws for each source's chains to start from and to jump to, made from its importance-weighted draws.

The mixture fitted to a source's draws (`mixture`) covers every hill that importance sampling met. Chains of MCLMC that
jump to independent draws of it, accepted by target over mixture (`jumps`), pass between hills however narrow;
prior draws, which serve faint sources as well, never land on the hills of a bright one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from paeplatform.inference.blocks import fit_block, mixture_density, sample_block, target_block
from paeplatform.inference.draws import Pool
from paeplatform.inference.lanes import lane_keys, stage_keys
from paeplatform.inference.mixture import StudentMixture
from paeplatform.inference.posterior import LogPosterior, Photometry

N_COMPONENT = 8
N_DRAW = 16384
PADDED = 4096  # pools are padded to a multiple of it: few shapes, few compilations


@dataclass(frozen=True)
class JumpBank:
    """Independent draws of one mixture a source.

    Attributes:
        mixture: (source, ...) what they were drawn from; float64.
        v: (source, draw, dim) sampler coordinates, float32.
        log_weight: (source, draw) ln of target over mixture.
    """

    mixture: StudentMixture
    v: Float[np.ndarray, "source draw dim"]
    log_weight: Float[np.ndarray, "source draw"]

    def log_density(self, mesh: Mesh, v: np.ndarray) -> Float[np.ndarray, "source chain"]:
        """ln of each source's mixture at its chains' places (source, chain, dim)."""
        with jax.enable_x64(True):
            return np.asarray(mixture_density(mesh, self.mixture, np.asarray(v, dtype=np.float64)))


def jump_bank(
    posterior: LogPosterior,
    photometry: Photometry,
    pools: Sequence[Pool],
    mesh: Mesh,
    seed: int,
    object_id: np.ndarray,
) -> JumpBank:
    """The banks of a batch of sources; its size must be a multiple of the mesh's.

    Args:
        posterior: the target.
        photometry: (source, band) whitened.
        pools: weighted draws, one of each source.
        mesh: devices.
        seed: with the object ids, of everything random.
        object_id: (source,) int64.
    """
    most = max(len(pool.log_weight) for pool in pools)
    most = -(-most // PADDED) * PADDED
    v = np.zeros((len(pools), most, pools[0].v.shape[1]))
    log_weight = np.full((len(pools), most), -np.inf)
    for i, pool in enumerate(pools):
        v[i, : len(pool.v)], log_weight[i, : len(pool.v)] = pool.v, pool.log_weight
        if not np.isfinite(pool.log_weight).any():  # nothing to fit: all draws alike
            log_weight[i, : len(pool.v)] = 0.0
    unsigned = object_id.astype(np.int64).view(np.uint64)
    low, high = (unsigned & 0xFFFFFFFF).astype(np.uint32), (unsigned >> np.uint64(32)).astype(np.uint32)
    keys = lane_keys(np.uint32((seed ^ 0x4A42) % 2**32), low, high, 1)
    fit_keys, draw_keys = (np.asarray(stage_keys(keys, np.int32(stage))) for stage in (0, 1))
    with jax.enable_x64(True):
        mixture = fit_block(mesh, v, log_weight, fit_keys, N_COMPONENT)
        mixture = StudentMixture(*(np.asarray(part) for part in mixture))
        drawn = np.asarray(sample_block(mesh, mixture, draw_keys, N_DRAW))
        log_q = np.asarray(mixture_density(mesh, mixture, drawn))
    drawn = np.where(np.isfinite(drawn), drawn, 0.0).astype(np.float32)
    target = np.asarray(target_block(posterior, mesh, photometry, drawn), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        weight = target - log_q
    return JumpBank(mixture, drawn, np.where(np.isnan(weight), -np.inf, weight))
