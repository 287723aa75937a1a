"""Proper scores of p(z) at the truth: continuous ranked probability score and log score in closed form, CDE loss on a
stated grid.

All read a posterior as `inference.pz_quantiles` and `calibration.pit_from_quantiles` do: the CDF is linear between the
quantiles and falls off exponentially beyond the outermost ones. Either of the first two scores is lowest, on
average, for the honest p(z): width and calibration are judged at once (Gneiting & Raftery 2007, JASA 102, 359).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from paeplatform.errors import InputError
from paeplatform.inference.results.pz_quantiles import cdf_of_quantiles, density_between, tail_scales
from paeplatform.scores.calibration import checked_quantiles
from paeplatform.scores.metrics import FloatArray

# Quantiles of draws tie; no density is read from an interval narrower than this, in redshift.
MIN_WIDTH = 1e-6
# Weight of a uniform density mixed into every p(z) before its logarithm: one source whose p(z) rules the truth out
# would otherwise decide the mean of thousands.
BACKGROUND_WEIGHT = 1e-3
# Edges of the cells of the CDE loss: 300 of width 0.01. The loss grows without bound as cells shrink below the width of
# p(z), so that a number without its grid says nothing.
CDE_EDGES = np.linspace(0.0, 3.0, 301)


def crps_from_quantiles(z_true: ArrayLike, quantiles: ArrayLike, levels: ArrayLike) -> FloatArray:
    """Integral of (F(z) - [z >= z_true])^2 over z, in redshift; lower is better.

    Args:
        z_true: shape (source,).
        quantiles: ascending, shape (source, level).
        levels: their probabilities, strictly increasing in (0, 1), shape (level,) with at least two.

    Returns:
        Shape (source,); NaN where z_true or a quantile of the source is not finite.

    Raises:
        InputError: shapes that do not fit, or levels that do not increase within (0, 1).
    """
    z, q, levels, finite = checked_quantiles(z_true, quantiles, levels)
    score = np.full(finite.shape, np.nan)
    if not finite.any():
        return score
    left, right = q[:, :-1], q[:, 1:]
    y = np.clip(z[:, None], left, right)  # splits each interval where the truth lies in it
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(right > left, (y - left) / (right - left), 0.0)
    low, high = levels[:-1], levels[1:]
    at_truth = low + (high - low) * share
    # where F is linear from a to b over a width w, the integral of F^2 is w (a^2 + ab + b^2) / 3
    inside = (y - left) * _mean_square(low, at_truth) + (right - y) * _mean_square(1.0 - at_truth, 1.0 - high)
    scale_low, scale_high = tail_scales(q, levels)
    tails = _tail_crps(levels[0], scale_low, q[:, 0] - z) + _tail_crps(
        1.0 - levels[-1], scale_high, z - q[:, -1]
    )
    score[finite] = inside.sum(axis=1) + tails
    return score


def log_score_from_quantiles(
    z_true: ArrayLike,
    quantiles: ArrayLike,
    levels: ArrayLike,
    background: tuple[float, float] | None = None,
) -> FloatArray:
    """ln p(z_true), natural logarithm of a density per unit redshift; higher is better.

    Quantiles of draws make a rough density, whose mean logarithm is lower than that of the density behind them: by
    some 0.01 with 1,000 effective draws. It is the same for every model whose posteriors are made alike.

    Args:
        z_true: shape (source,).
        quantiles: ascending, shape (source, level).
        levels: their probabilities, strictly increasing in (0, 1), shape (level,) with at least two.
        background: (z_min, z_max) of a uniform density that is mixed in with weight `BACKGROUND_WEIGHT`; it bounds the
            score from below. None mixes nothing in.

    Returns:
        Shape (source,); NaN where z_true or a quantile of the source is not finite.

    Raises:
        InputError: shapes that do not fit, levels that do not increase within (0, 1), or an empty background.
    """
    z, q, levels, finite = checked_quantiles(z_true, quantiles, levels)
    if background is not None and not background[1] > background[0]:
        raise InputError(f"background {background} must be a range of redshifts")
    score = np.full(finite.shape, np.nan)
    if not finite.any():
        return score
    row = np.arange(len(q))
    cell = np.clip((q <= z[:, None]).sum(axis=1) - 1, 0, len(levels) - 2)
    log_density = np.log(density_between(q, levels, MIN_WIDTH)[row, cell])
    scales = (np.maximum(scale, MIN_WIDTH) for scale in tail_scales(q, levels))
    for edge, scale, beyond in zip(
        (levels[0], 1.0 - levels[-1]), scales, (q[:, 0] - z, z - q[:, -1]), strict=True
    ):
        tail = np.log(edge / scale) - np.maximum(beyond, 0.0) / scale
        log_density = np.where(beyond > 0.0, tail, log_density)
    if background is not None:
        uniform = np.log(BACKGROUND_WEIGHT / (background[1] - background[0]))
        log_density = np.logaddexp(np.log1p(-BACKGROUND_WEIGHT) + log_density, uniform)
    score[finite] = log_density
    return score


def cde_loss_from_quantiles(
    z_true: ArrayLike, quantiles: ArrayLike, levels: ArrayLike, edges: ArrayLike = CDE_EDGES
) -> FloatArray:
    """Integral of p^2 minus 2 p(z_true), p the mean density in cells; lower is better (Izbicki & Lee 2017).

    Mass beyond the outermost edges is not in the integral, and p(z_true) is zero for a truth beyond them.

    Args:
        z_true: shape (source,).
        quantiles: ascending, shape (source, level).
        levels: their probabilities, strictly increasing in (0, 1), shape (level,) with at least two.
        edges: of the cells, ascending, shape (cell + 1,).

    Returns:
        Shape (source,); NaN where z_true or a quantile of the source is not finite.

    Raises:
        InputError: shapes that do not fit, levels that do not increase within (0, 1), or edges that do not ascend.
    """
    z, q, levels, finite = checked_quantiles(z_true, quantiles, levels)
    edges = np.asarray(edges, dtype=np.float64)
    if edges.ndim != 1 or edges.size < 2 or np.any(np.diff(edges) <= 0):
        raise InputError("edges of the CDE loss must be at least two and ascend")
    score = np.full(finite.shape, np.nan)
    if not finite.any():
        return score
    width = np.diff(edges)
    density = np.diff(cdf_of_quantiles(q, levels, edges, MIN_WIDTH), axis=1) / width
    cell = np.searchsorted(edges, z, side="right") - 1
    inside = (cell >= 0) & (cell < width.size)
    at_truth = density[np.arange(len(z)), np.clip(cell, 0, width.size - 1)]
    score[finite] = (density**2 * width).sum(axis=1) - 2.0 * np.where(inside, at_truth, 0.0)
    return score


def _mean_square(a: FloatArray, b: FloatArray) -> FloatArray:
    return (a * a + a * b + b * b) / 3.0


def _tail_crps(edge: float, scale: FloatArray, beyond: FloatArray) -> FloatArray:
    """The score's part outside a quantile of tail mass `edge`, the truth `beyond` it (negative: not beyond)."""
    d = np.maximum(beyond, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        decay = np.where(scale > 0.0, np.exp(-d / np.where(scale > 0.0, scale, 1.0)), d <= 0.0)
    to_truth = d - 2.0 * edge * scale * (1.0 - decay) + 0.5 * edge**2 * scale * (1.0 - decay**2)
    return to_truth + 0.5 * edge**2 * scale * decay**2
