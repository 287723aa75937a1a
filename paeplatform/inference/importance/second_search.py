"""Whether a posterior found lacks the best place that the scan over redshift finds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logsumexp

from paeplatform.pae.proposal import LOG_2PI

# A hill is missed when it should hold this share of the posterior and the draws near it have less than a tenth of that;
# or when its top stands so far above the highest draw (in ln) as no posterior's does: among 500 draws in 11 dimensions
# the highest is 1 below the top.
MISSED_SHARE, MISSED_HEIGHT = 0.05, 10.0
NEAR = 5.0  # standard deviations of redshift within which draws are near a hill


class Hills(NamedTuple):
    """Tops that were climbed to from the places that a scan found, for one source.

    Attributes:
        position: (hill, dim) sampler coordinates.
        fisher: (hill, dim, dim) J^T J of the whitened residual.
        evidence: (hill,) Laplace's, as of `starts.laplace_evidence`; -inf for no hill.
    """

    position: Float[np.ndarray, "hill dim"]
    fisher: Float[np.ndarray, "hill dim dim"]
    evidence: Float[np.ndarray, " hill"]

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return bool(np.isfinite(self.evidence).any())


class FoundDraws(NamedTuple):
    """The draws of one source.

    Attributes:
        t: (draw,) sampler coordinate of redshift.
        log_target: (draw,) log density over v.
        log_weight: (draw,) log of target over what they were drawn from, which is normalised.
    """

    t: Float[np.ndarray, " draw"]
    log_target: Float[np.ndarray, " draw"]
    log_weight: Float[np.ndarray, " draw"]


def lacks(draws: FoundDraws, hills: Hills) -> bool:
    """Whether the posterior that the draws make lacks the best of the hills, by its share or by its height.

    The mean weight is the integral of the target, so that it can be held against Laplace's estimate of the hill's.
    """
    best = int(np.argmax(hills.evidence))
    curvature = hills.fisher[best] + np.eye(hills.fisher.shape[-1])
    n_latent = len(curvature) - 1
    log_det = np.linalg.slogdet(curvature)[1]
    # the evidence leaves out the constants of N(u; 0, I), n_latent of them, and of its own Gaussian, one more
    top = hills.evidence[best] + 0.5 * log_det - 0.5 * n_latent * LOG_2PI
    if top - draws.log_target.max() > MISSED_HEIGHT:
        return True
    whole = _log_sum(draws.log_weight)
    if not np.isfinite(whole):
        return True
    share = expit(hills.evidence[best] + 0.5 * LOG_2PI - (whole - np.log(len(draws.t))))
    reach = NEAR * np.sqrt(np.linalg.inv(curvature)[-1, -1])
    near = np.abs(draws.t - hills.position[best, -1]) < reach
    there = np.exp(_log_sum(draws.log_weight[near]) - whole)
    return bool(share > MISSED_SHARE and there < 0.1 * share)


def _log_sum(log_weight: np.ndarray) -> float:
    """ln of the sum of weights; -inf for none."""
    return float(logsumexp(log_weight)) if log_weight.size else -np.inf
