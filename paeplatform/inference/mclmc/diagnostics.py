"""Convergence of chains, for many sources at once (paper appendix A). NumPy, float64.

Arrays are (source, chain, draw); each function reduces the last two axes.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.fft import irfft, next_fast_len, rfft

SOKAL_C = 5.0  # window of the autocorrelation estimate, in autocorrelation lengths


def split_rhat(draws: Float[np.ndarray, "source chain draw"]) -> Float[np.ndarray, " source"]:
    """Classical split R-hat (Gelman et al. 2013): each chain cut in halves, no rank normalisation.

    A source with only constant chains gets inf: such chains have not moved, whether or not they agree.
    """
    draws = np.asarray(draws, dtype=np.float64)
    half = draws.shape[-1] // 2
    if half < 2:
        raise ValueError(f"split R-hat needs at least 4 draws a chain, got {draws.shape[-1]}")
    halves = np.concatenate([draws[..., :half], draws[..., -half:]], axis=-2)
    within = halves.var(axis=-1, ddof=1).mean(axis=-1)
    between = half * halves.mean(axis=-1).var(axis=-1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rhat = np.sqrt((half - 1.0) / half + between / (half * within))
    # the range, not the variance: the variance of equal numbers need not round to zero
    return np.where(np.ptp(halves, axis=-1).max(axis=-1) > 0.0, rhat, np.inf)


def autocorrelation_time(draws: Float[np.ndarray, "source chain draw"]) -> Float[np.ndarray, "source chain"]:
    """Integrated autocorrelation time of each chain, in steps, with Sokal's automatic window.

    tau(M) = 1 + 2 sum_{k=1..M} rho_k at the first M >= c tau(M); the largest M when there is none. A constant
    chain gets its own length: it holds one draw's worth of information.
    """
    draws = np.asarray(draws, dtype=np.float64)
    n = draws.shape[-1]
    centred = draws - draws.mean(axis=-1, keepdims=True)
    # padded: the circular correlation of a finite transform must not wrap
    size = int(next_fast_len(2 * n, real=True))
    power = np.abs(np.asarray(rfft(centred, size, axis=-1))) ** 2
    covariance = np.asarray(irfft(power, size, axis=-1))[..., :n]
    variance = covariance[..., :1]
    moving = np.ptp(draws, axis=-1) > 0.0
    rho = covariance / np.where(variance > 0.0, variance, 1.0)
    tau = 2.0 * np.cumsum(rho, axis=-1) - 1.0
    closed = np.arange(n) >= SOKAL_C * tau
    window = np.where(closed.any(axis=-1), closed.argmax(axis=-1), n - 1)
    chosen = np.take_along_axis(tau, window[..., None], axis=-1)[..., 0]
    return np.where(moving, chosen, float(n))


def autocorrelation_length(draws: Float[np.ndarray, "source chain draw"]) -> Float[np.ndarray, " source"]:
    """Autocorrelation time averaged over the chains of each source, in steps."""
    return autocorrelation_time(draws).mean(axis=-1)


def effective_sample_size(draws: Float[np.ndarray, "source chain draw"]) -> Float[np.ndarray, " source"]:
    """Draws of all chains over the mean autocorrelation length (the paper's ESS).

    It says how well each chain explored where it is; whether chains agree is R-hat's question. Anticorrelated chains
    (tau < 1) may exceed the number of draws; that gain is not counted.
    """
    _, chain, draw = draws.shape
    return chain * draw / np.maximum(autocorrelation_length(draws), 1.0)
