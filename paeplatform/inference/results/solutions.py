"""The separate peaks of a p(z) that is given by draws, and its curve.

Draws are kept in ln(1+z), where errors of redshifts are alike from low to high redshift. Equal redshifts count as one
draw of their joint weight. So a list in which each draw stands twice says the same, and n below, Kish's effective
number (sum w)^2 / sum w^2, does not count copies that resampling made.

Density. A Gaussian kernel of width 0.45 s n^(-1/5), s the standard deviation: half of Silverman's rule, which is right
for a single Gaussian and would fill the valley between two peaks. s covers all peaks, so that it says little of each:
therefore p(z) is cut once, where the valley is deepest, and each of the two sides is looked at again with a kernel of
its own width. A close pair beside a distant peak is found in this way, and a narrow peak on a broad one is not torn
into its single draws.

A valley is a cut when three things hold:

- the density there is at most `VALLEY` of the lower one of the highest peaks on both sides, as for the flag MULTIMODAL;
  a peak counts with the height that it has at least, two standard deviations of its number of draws below what it is;
- each side holds at least `LEAST_WEIGHT` of the whole p(z), so that less than that joins its nearest neighbour;
- filled up to the level of the lower peak, the valley would hold `LEAST_MISSING` effective draws more than it does.
  In the thin tail of a Gaussian, neighbouring draws are often far apart, but few are missing there; between separate
  peaks there are many. A p(z) of fewer effective draws than that is never cut.

Of 22,000 samples of 20 to 2,000 draws from a normal, uniform, exponential, Laplace and Student (three degrees of
freedom) distribution, none was cut. Of samples of 500 draws of two equal Gaussians, 91 % were cut at a
distance of 4 standard deviations and all from 5 on, and all where a peak of 5 % of the mass lies 10 of them away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter1d

from paeplatform.errors import InputError
from paeplatform.inference.results.pz_summary import ERROR_LEVELS, draw_quantiles

VALLEY = 0.5
LEAST_WEIGHT = 0.01
LEAST_MISSING = 5.0
KERNEL = 0.45  # times s n^(-1/5)
_CELLS = 1024
_LEVELS = (0.5, *ERROR_LEVELS["err68"])
_LEAST_WIDTH = 1e-5  # of a kernel of `pz_curve`, in ln(1+z): draws of one redshift have a curve too
_ROUNDING = 1e-12  # of sums of weights


@dataclass(frozen=True)
class Solution:
    """One peak of a p(z).

    Attributes:
        z: median of the draws of this peak.
        low, high: their central 68.27 %.
        weight: their share of the whole p(z).
        between: the redshifts between which this peak lies and no other: those of `boundaries` next to it, -1 and
            infinity where it is the first or the last.
    """

    z: float
    low: float
    high: float
    weight: float
    between: tuple[float, float] = (-1.0, np.inf)


def solutions(
    z_draws: Float[ArrayLike, " draw"], weight: Float[ArrayLike, " draw"] | None = None, n: int = 3
) -> list[Solution]:
    """The separate peaks of a p(z), heaviest first.

    Every draw belongs to exactly one peak. Quantiles are those of `pz_summary`.

    Args:
        z_draws: redshifts; an empty list has no peak.
        weight: not negative, any scale; None for equal weights.
        n: at most so many peaks are returned. Weights are shares of the whole p(z) in any case, so that they sum to 1
            only where no peak was left out.

    Raises:
        InputError: n is not positive, a redshift is not finite or not above -1, shapes differ, or weights are
            negative, not finite or all zero.
    """
    if n < 1:
        raise InputError(f"number of solutions {n} must be at least 1")
    z, share = _distinct(z_draws, weight)
    found = []
    for part in _parts(np.log1p(z), share):
        median, low, high = draw_quantiles(z[None, part], share[None, part], _LEVELS)[0]
        at_least = -1.0 if part.start == 0 else 0.5 * (z[part.start - 1] + z[part.start])
        at_most = np.inf if part.stop == len(z) else 0.5 * (z[part.stop - 1] + z[part.stop])
        found.append(
            Solution(
                float(median),
                float(low),
                float(high),
                float(share[part].sum()),
                (float(at_least), float(at_most)),
            )
        )
    return sorted(found, key=lambda one: (-one.weight, one.z))[:n]


def boundaries(
    z_draws: Float[ArrayLike, " draw"], weight: Float[ArrayLike, " draw"] | None = None
) -> Float[np.ndarray, " boundary"]:
    """The redshifts between neighbouring peaks, increasing, midway between the draws next to them; see `solutions`."""
    z, share = _distinct(z_draws, weight)
    return np.array([0.5 * (z[part.start - 1] + z[part.start]) for part in _parts(np.log1p(z), share)[1:]])


def pz_curve(
    z_draws: Float[ArrayLike, " draw"],
    weight: Float[ArrayLike, " draw"] | None = None,
    n_points: int = 64,
) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
    """p(z) as a curve that integrates to 1: each peak is smoothed by Silverman's rule for its own draws.

    Args:
        z_draws: redshifts.
        weight: see `solutions`.
        n_points: for each peak, evenly spaced in ln(1+z); points of several peaks are merged in order.

    Returns:
        Redshifts, increasing, and the density per unit redshift there; both empty without draws.

    Raises:
        InputError: see `solutions`.
    """
    z, share = _distinct(z_draws, weight)
    x = np.log1p(z)
    width = np.empty_like(x)
    places = []
    for part in _parts(x, share):
        std, n = _moments(x[part], share[part])
        width[part] = max(2.0 * KERNEL * std * n**-0.2, _LEAST_WIDTH)
        # where the kernel is 4e-6 of its height: gaps between peaks are wide
        margin = 5.0 * width[part.start]
        places.append(np.linspace(x[part.start] - margin, x[part.stop - 1] + margin, n_points))
    place = np.unique(np.concatenate(places)) if places else np.empty(0)
    away = (place[:, None] - x) / width
    density = np.exp(-0.5 * away**2) @ (share / (np.sqrt(2.0 * np.pi) * width))
    return np.expm1(place), density / np.exp(place)


def _distinct(z_draws: ArrayLike, weight: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """The redshifts in order, each once, and their shares of the weight."""
    z = np.asarray(z_draws, dtype=np.float64)
    share = np.ones(z.shape) if weight is None else np.asarray(weight, dtype=np.float64)
    if z.ndim != 1 or share.shape != z.shape:
        raise InputError(f"z_draws {z.shape} and weight {share.shape} must be lists of the same length")
    if not z.size:
        return z, share
    if not (np.isfinite(z) & (z > -1.0)).all():
        raise InputError(f"z_draws: {z[~(np.isfinite(z) & (z > -1.0))][0]:g} must be finite and above -1")
    if not ((share >= 0.0) & np.isfinite(share)).all() or not share.sum() > 0.0:
        raise InputError("weight must be finite, not negative, and not zero throughout")
    z, place = np.unique(z[share > 0.0], return_inverse=True)
    total = np.bincount(place, weights=share[share > 0.0])
    return z, total / total.sum()


def _parts(x: np.ndarray, share: np.ndarray) -> list[slice]:
    """The peaks as slices of the sorted draws, in order."""
    ready: list[slice] = []
    waiting = [slice(0, len(x))] if len(x) else []
    while waiting:
        part = waiting.pop()
        cut = _cut(x[part], share[part])
        if cut:
            waiting += [slice(part.start, part.start + cut), slice(part.start + cut, part.stop)]
        else:
            ready.append(part)
    return sorted(ready, key=lambda part: part.start)


def _moments(x: np.ndarray, share: np.ndarray) -> tuple[float, float]:
    """Standard deviation and Kish's effective number of some draws."""
    own = share / share.sum()
    return float(np.sqrt(own @ (x - own @ x) ** 2)), float(1.0 / (own @ own))


def _cut(x: np.ndarray, share: np.ndarray) -> int:
    """How many of the sorted draws lie below the deepest valley that is a cut; 0 where there is none."""
    std, n = _moments(x, share)
    width = KERNEL * std * n**-0.2
    low = x[0] - 4.0 * width
    cell = (x[-1] + 4.0 * width - low) / _CELLS
    if n < LEAST_MISSING or not cell > np.spacing(abs(x).max()):
        return 0
    place = np.minimum(((x - low) / cell).astype(np.int64), _CELLS - 1)
    mass = np.bincount(place, weights=share, minlength=_CELLS)
    kernel = max(width / cell, 0.7)
    density = gaussian_filter1d(mass, kernel, mode="constant")
    # Square roots of counts scatter by 1/2: a peak counts with the height that it has at least, two such steps below.
    draws_within = 2.0 * np.sqrt(np.pi) * kernel * n / share.sum()
    height = np.maximum(np.sqrt(density * draws_within) - 1.0, 0.0) ** 2 / draws_within
    level = np.minimum(np.maximum.accumulate(height), np.maximum.accumulate(height[::-1])[::-1])
    # As water stands between hills: cells of one basin share a number, which rises at each cell that stays dry.
    basin = np.cumsum(density >= level)
    missing = np.bincount(basin, weights=np.maximum(level - density, 0.0))[basin] / share.sum() * n
    below = np.cumsum(mass)
    least = LEAST_WEIGHT - _ROUNDING
    allowed = (below >= least) & (below[-1] - below >= least)
    allowed &= (density <= VALLEY * level) & (missing >= LEAST_MISSING)
    if not allowed.any():
        return 0
    depth = np.divide(density, level, out=np.full(_CELLS, np.inf), where=allowed)
    # Where the density is zero, the middle of the widest gap: a stray draw in a valley joins the peak nearer to it.
    deepest = np.flatnonzero(depth <= depth.min())
    gaps = np.split(deepest, np.flatnonzero(np.diff(deepest) > 1) + 1)
    gap = max(gaps, key=len)
    return int(np.searchsorted(place, gap[len(gap) // 2], side="right"))
