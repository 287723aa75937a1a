"""Pareto smoothed importance sampling (Vehtari et al. 2024, JMLR 25, 72), for many sources at once. NumPy, float64.

The largest weights of each source are replaced by the expected order statistics of a generalised Pareto
distribution fitted to them. Its shape k-hat says whether the weighted mean can be trusted: below 0.7 it can, for
the sample sizes used here; at 1 and above the mean of the weights need not even exist.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

_MIN_TAIL = 5  # draws in the tail; with fewer no distribution is fitted
# Zhang & Stephens 2009 (Technometrics 51, 316): scale of the prior on theta; points of theta are so many and
# the square root of the tail's size
_PRIOR_SCALE = 3.0
_LEAST_POINTS = 30
# Vehtari et al. 2024, appendix G: k-hat is drawn towards 0.5 as if by ten further draws
_PRIOR_K, _PRIOR_DRAWS = 0.5, 10.0
_LOG_TINY = float(np.log(np.finfo(np.float64).tiny))
_NEGLIGIBLE = 10.0 * float(np.finfo(np.float64).eps)


def tail_size(n_draw: int) -> int:
    """Number of largest weights that are smoothed: min(S / 5, 3 sqrt(S)), rounded up."""
    return int(np.ceil(min(n_draw / 5.0, 3.0 * np.sqrt(n_draw))))


def pareto_smooth(
    log_weight: Float[np.ndarray, "source draw"],
) -> tuple[Float[np.ndarray, "source draw"], Float[np.ndarray, " source"]]:
    """Smooths the largest importance weights of each source and measures their tail.

    Args:
        log_weight: ln of target over proposal, up to a constant a source. -inf is a draw the target excludes. NaN
            counts as -inf, and so does +inf.

    Returns:
        (smoothed log weights, normalised so that the weights of a source sum to 1; k-hat (source,)), float64.
        k-hat is inf where fewer than five draws carry the tail or a weight was +inf, and where every draw is
        excluded; the weights of such a last source are all -inf. When the largest weight is shared by more draws
        than the tail holds (all weights alike, for instance) there is no tail, and k-hat is 0.

    Raises:
        ValueError: the array is not (source, draw) with two or more draws.
    """
    raw = np.asarray(log_weight, dtype=np.float64)
    if raw.ndim != 2 or raw.shape[1] < 2:
        raise ValueError(f"log_weight has shape {raw.shape}, expected (source, draw) with 2 or more draws")
    overflow = (raw == np.inf).any(axis=1)
    x = np.where(np.isfinite(raw), raw, -np.inf)
    largest = x.max(axis=1, keepdims=True)
    x -= np.where(np.isfinite(largest), largest, 0.0)

    n_draw = x.shape[1]
    m = min(tail_size(n_draw), n_draw - 1)
    place = np.argpartition(x, n_draw - m - 1, axis=1)[:, n_draw - m - 1 :]
    top = np.take_along_axis(x, place, axis=1)
    order = np.argsort(top, axis=1)
    place, top = np.take_along_axis(place, order, axis=1), np.take_along_axis(top, order, axis=1)
    cut, tail, place = np.maximum(top[:, :1], _LOG_TINY), top[:, 1:], place[:, 1:]
    n_tail = (tail > cut).sum(axis=1)  # ties with the cut are no part of the tail

    khat = np.where((n_tail == 0) & (cut[:, 0] == 0.0), 0.0, np.inf)
    # excesses over the cut, in weight; 0 for what is not in the tail
    excess = np.exp(tail) - np.exp(cut)
    excess = np.where(tail > cut, excess, 0.0)
    quartile = m - n_tail + np.maximum((n_tail / 4.0 + 0.5).astype(int) - 1, 0)
    first = np.take_along_axis(excess, np.minimum(quartile, m - 1)[:, None], axis=1)[:, 0]
    # a quartile that underflows beside the largest weight: no tail that could be fitted
    fit = np.flatnonzero((n_tail >= _MIN_TAIL) & (first > 1e-290))
    if len(fit):
        khat[fit], scale = _fit(excess[fit], n_tail[fit], first[fit])
        rank = np.arange(m)[None] - (m - n_tail[fit])[:, None]
        inside = rank >= 0
        fraction = np.where(inside, (rank + 0.5) / n_tail[fit][:, None], 0.5)
        smooth = _quantile(fraction, khat[fit][:, None], scale[:, None])
        smooth = np.minimum(np.log(smooth + np.exp(cut[fit])), 0.0)  # truncated at the largest raw weight
        x[fit[:, None], place[fit]] = np.where(inside, smooth, tail[fit])
    khat[overflow] = np.inf
    return x - _log_sum(x), khat


def effective_draws(log_weight: Float[np.ndarray, "source draw"]) -> Float[np.ndarray, " source"]:
    """Kish's effective number of draws, (sum w)^2 / sum w^2; 0 where every draw has weight zero."""
    x = np.asarray(log_weight, dtype=np.float64)
    largest = x.max(axis=1, keepdims=True)
    weight = np.exp(x - np.where(np.isfinite(largest), largest, 0.0))
    squares = (weight**2).sum(axis=1)
    return weight.sum(axis=1) ** 2 / np.where(squares > 0.0, squares, 1.0)


def _log_sum(x: np.ndarray) -> np.ndarray:
    """ln sum exp over the draws, (source, 1), for rows whose maximum is near 0; 0 where all are -inf."""
    total = np.exp(x).sum(axis=1, keepdims=True)
    return np.log(np.where(total > 0.0, total, 1.0))


def _fit(excess: np.ndarray, n_tail: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Generalised Pareto shape and scale of each row (Zhang & Stephens 2009, with the prior on k).

    Args:
        excess: (source, tail) ascending, padded with zeros in front: those add nothing to the sums of ln(1 - theta x).
        n_tail: (source,) how many belong to the tail.
        first: (source,) their first quartile.
    """
    n = n_tail[:, None].astype(np.float64)
    n_points = _LEAST_POINTS + np.floor(np.sqrt(n))
    # as many points for every row, whatever its company, so that the sums round alike
    j = np.arange(1, _LEAST_POINTS + int(np.sqrt(excess.shape[1])) + 1)[None]
    real = j <= n_points
    theta = (1.0 - np.sqrt(n_points / (j - 0.5))) / (_PRIOR_SCALE * first[:, None]) + 1.0 / excess[:, -1:]
    mean = excess.sum(axis=1, keepdims=True) / n

    def shape(theta: np.ndarray) -> np.ndarray:
        # the points that a row does not use lie beyond the support; they carry no weight below
        return np.log1p(-np.minimum(theta[..., None] * excess[:, None], 1.0 - 1e-15)).sum(axis=-1) / n

    def scale(theta: np.ndarray, k: np.ndarray) -> np.ndarray:
        return np.where(theta == 0.0, mean, -k / np.where(theta == 0.0, 1.0, theta))

    k = shape(theta)
    with np.errstate(divide="ignore"):
        log_like = np.where(real, -n * (np.log(scale(theta, k)) + k + 1.0), -np.inf)
    weight = np.exp(log_like - log_like.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    weight = np.where(weight >= _NEGLIGIBLE, weight, 0.0)
    best = (weight * theta).sum(axis=1, keepdims=True) / weight.sum(axis=1, keepdims=True)
    k = shape(best)
    sigma = scale(best, k)
    k = (n * k + _PRIOR_DRAWS * _PRIOR_K) / (n + _PRIOR_DRAWS)
    return k[:, 0], sigma[:, 0]


def _quantile(p: np.ndarray, k: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Quantiles of the generalised Pareto distribution; exponential at k = 0."""
    exponent = -np.log1p(-p)
    flat = np.abs(k) < np.finfo(np.float64).eps
    with np.errstate(over="ignore"):  # a shape of a hundred: what overflows is cut at the largest weight
        return scale * np.where(flat, exponent, np.expm1(k * exponent) / np.where(flat, 1.0, k))
