"""Catalogue columns of p(z), the same whichever method made it: weighted draws, or a density on a grid.

Weighted quantiles are those of Akinshin 2023 (arXiv:2304.07265), type 7: the mean of the inverse CDF over a
window of width 1/n, n = (sum w)^2 / sum w^2 (Kish's effective size), that starts at q (n - 1) / n. Equal weights
give `np.quantile`'s "linear", draws of weight zero change nothing, and a quantile lies at most 1/n from the
weighted CDF. A draw split in two equal ones moves n alone, hence the window by no more than 1/n.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from paeplatform.errors import InputError

# Cumulative probabilities of `<prefix>_z_quantiles`; the middle one is the median.
QUANTILE_LEVELS = np.linspace(0.01, 0.99, 51)
ERROR_LEVELS = {
    "err68": (0.1586553, 0.8413447),
    "err95": (0.0227501, 0.9772499),
}  # central 68.27 % and 95.45 %
QUARTILES = (0.25, 0.75)
EDGE_RANGE, EDGE_FRACTION = 0.02, 0.05
MODE_FRACTION = 0.05
MODE_PROMINENCE = 0.5  # of a peak's own height
DENSITY_CELLS = 1024
# Draws that together weigh less do not widen the range the mode is looked for in; equal weights are never so light
# below 1e5 draws.
NEGLIGIBLE_MASS = 1e-5
_ROWS = 64  # sources at a time: 64 x 16,000 draws are 8 MB an array

_levels = np.concatenate([QUANTILE_LEVELS, *ERROR_LEVELS.values(), QUARTILES])


class _Chunk(NamedTuple):
    """Statistics of some sources, a row each; `quantile` at `_levels`."""

    mean: np.ndarray
    std: np.ndarray
    mode: np.ndarray
    quantile: np.ndarray
    multimodal: np.ndarray
    at_edge: np.ndarray


def redshift_columns(
    z: Float[np.ndarray, "source draw"],
    weight: Float[np.ndarray, "source draw"] | None,
    *,
    z_min: float,
    z_max: float,
    prefix: str,
) -> dict[str, np.ndarray]:
    """Redshift statistics of weighted draws.

    The mode is that of a Gaussian kernel density of width 0.9 n_eff^-1/5 times the smaller of standard deviation
    and interquartile range / 1.34, halved so that narrow peaks of a multimodal p(z) survive; n_eff is a tenth of
    Kish's effective size, since draws of a chain are not independent.

    Args:
        z: redshifts; a row with a value that is not finite has no posterior.
        weight: not negative, any scale; None for equal weights. A row that sums to zero, or holds a weight
            that is negative or not finite, has no posterior.
        z_min: lower end of the prior's range.
        z_max: upper end.
        prefix: of the columns, e.g. "pae".

    Returns:
        float64 columns {prefix}_z_mean, _z_median, _z_mode, _z_std, _z_err68_low/high, _z_err95_low/high (bounds),
        _z_quantiles (source, 51) at `QUANTILE_LEVELS`, NaN without a posterior; and two boolean arrays, False
        without one: `multimodal` (a second peak, behind a dip below half its height, with over 5 % of the mass) and
        `at_edge` (over 5 % of the mass within 2 %, in ln(1+z) of the range, of z_min or z_max).

    Raises:
        InputError: shapes do not agree, there is no draw, or z_max does not exceed z_min.
    """
    z = np.asarray(z)
    if z.ndim != 2 or z.shape[1] < 1 or (weight is not None and np.shape(weight) != z.shape):
        shape = None if weight is None else np.shape(weight)
        raise InputError(f"z {z.shape} and weight {shape} must both be (source, draw), with one draw or more")
    _check_limits(z_min, z_max)
    good = np.isfinite(z).all(axis=1)
    if weight is not None:
        weight = np.asarray(weight)
        with np.errstate(invalid="ignore", over="ignore"):
            total = weight.sum(axis=1, dtype=np.float64)
            good &= (weight >= 0.0).all(axis=1) & np.isfinite(total) & (total > 0.0)
    rows = np.flatnonzero(good)
    chunks = []
    for first in range(0, len(rows), _ROWS):
        chunk = rows[first : first + _ROWS]
        chunks.append(_of_draws(z[chunk], None if weight is None else weight[chunk], z_min, z_max))
    return _columns(chunks, good, prefix)


def draw_quantiles(
    z: Float[np.ndarray, "source draw"],
    weight: Float[np.ndarray, "source draw"],
    levels: Sequence[float],
) -> Float[np.ndarray, "source level"]:
    """The quantiles of `redshift_columns` at any levels, digit for digit, without the other statistics.

    Args:
        z: finite redshifts, one draw or more.
        weight: not negative, any scale, not zero throughout a row.
        levels: cumulative probabilities, from 0 to 1.
    """
    return _draw_quantiles(*_in_order(z, weight), np.asarray(levels, dtype=np.float64)).quantile


def summarise_pz_grid(
    z_grid: Float[np.ndarray, " node"] | Float[np.ndarray, "source node"],
    pz: Float[np.ndarray, "source node"],
    *,
    prefix: str,
    z_min: float | None = None,
    z_max: float | None = None,
) -> dict[str, np.ndarray]:
    """Redshift statistics of densities tabulated on a grid and linear between its nodes; all of them exact.

    Args:
        z_grid: over -1; the density is zero outside it. One grid for all sources increases strictly; with one for
            each, neighbouring nodes may coincide.
        pz: not negative, any scale. A row that is zero throughout, or holds a value that is negative or not
            finite, has no posterior.
        prefix: of the columns, e.g. "tf".
        z_min: lower end of the range that `at_edge` refers to; None for the first node of all.
        z_max: upper end; None for the last node of all.

    Returns:
        The columns of `redshift_columns`. The mode is the highest node (the first of several), and a peak counts
        when it stands above its surroundings by half its height and has over 5 % of the mass.

    Raises:
        InputError: shapes do not agree, or the grid does not increase or has fewer than two nodes.
    """
    z_grid, pz = np.asarray(z_grid, dtype=np.float64), np.asarray(pz)
    own = z_grid.ndim == 2  # a grid for each source
    if pz.ndim != 2 or z_grid.shape != (pz.shape if own else pz.shape[1:]) or z_grid.shape[-1] < 2:
        raise InputError(
            f"z_grid {z_grid.shape} and pz {pz.shape} must be (node,) or (source, node) and (source, node), "
            "2 nodes or more"
        )
    step = np.diff(z_grid, axis=-1)
    if not (np.isfinite(z_grid).all() and np.all(step >= 0.0 if own else step > 0.0)):
        raise InputError(f"z_grid must be finite and increase{'' if own else ' strictly'}")
    z_min = float(z_grid.min(initial=np.inf)) if z_min is None else z_min
    z_max = float(z_grid.max(initial=-np.inf)) if z_max is None else z_max
    _check_limits(z_min, z_max)
    with np.errstate(invalid="ignore", over="ignore"):
        total = pz.sum(axis=1, dtype=np.float64)
        good = (pz >= 0.0).all(axis=1) & np.isfinite(total) & (total > 0.0)
    rows = np.flatnonzero(good)
    chunks = [
        _of_grid(z_grid[chunk] if own else z_grid, pz[chunk].astype(np.float64), z_min, z_max)
        for chunk in (rows[first : first + _ROWS] for first in range(0, len(rows), _ROWS))
    ]
    return _columns(chunks, good, prefix)


def _check_limits(z_min: float, z_max: float) -> None:
    if not -1.0 < z_min < z_max < np.inf:
        raise InputError(f"z_max {z_max:g} must exceed z_min {z_min:g}, and z_min must exceed -1")


def _columns(chunks: list[_Chunk], good: np.ndarray, prefix: str) -> dict[str, np.ndarray]:
    """Chunks of the good sources put together, NaN (or False) for the others."""
    n_levels = len(_levels)
    none, never = np.empty(0), np.empty(0, bool)
    empty = _Chunk(none, none, none, np.empty((0, n_levels)), never, never)
    whole = _Chunk(*(np.concatenate(parts) for parts in zip(empty, *chunks, strict=True)))

    def spread(values: np.ndarray) -> np.ndarray:
        column = np.full((len(good), *values.shape[1:]), False if values.dtype == bool else np.nan)
        column[good] = values
        return column

    quantile = spread(whole.quantile)
    n = len(QUANTILE_LEVELS)
    columns = {
        "mean": spread(whole.mean),
        "median": quantile[:, n // 2].copy(),
        "mode": spread(whole.mode),
        "std": spread(whole.std),
    }
    for at, name in zip(range(n, n_levels, 2), ERROR_LEVELS, strict=False):
        columns |= {f"{name}_low": quantile[:, at].copy(), f"{name}_high": quantile[:, at + 1].copy()}
    columns["quantiles"] = quantile[:, :n].copy()
    named = {f"{prefix}_z_{name}": values for name, values in columns.items()}
    return named | {"multimodal": spread(whole.multimodal), "at_edge": spread(whole.at_edge)}


# ---------------------------------------------------------------- weighted draws
class _Ordered(NamedTuple):
    """Sorted draws of some sources: means, distances from them, effective numbers, cumulative shares, quantiles."""

    mean: np.ndarray
    offset: np.ndarray
    n_eff: np.ndarray
    cdf: np.ndarray
    quantile: np.ndarray


def _in_order(z: np.ndarray, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The draws of each source, sorted, and their shares of its weight."""
    if weight is None:
        z = np.sort(z.astype(np.float64), axis=1)
        return z, np.full_like(z, 1.0 / z.shape[1])
    order = np.argsort(z, axis=1)
    z = np.take_along_axis(z, order, axis=1).astype(np.float64)
    share = np.take_along_axis(weight, order, axis=1).astype(np.float64)
    share /= share.sum(axis=1, keepdims=True)
    return z, share


def _draw_quantiles(z: np.ndarray, share: np.ndarray, levels: np.ndarray) -> _Ordered:
    mean = np.einsum("sd,sd->s", share, z)
    offset = z - mean[:, None]
    n_eff = 1.0 / np.einsum("sd,sd->s", share, share)
    cdf = np.cumsum(share, axis=1)
    quantile = mean[:, None] + _weighted_quantiles(offset, share, cdf, n_eff, levels)
    # sums and differences of the mean must not carry a quantile beyond the draws
    return _Ordered(mean, offset, n_eff, cdf, np.clip(quantile, z[:, :1], z[:, -1:]))


def _of_draws(z: np.ndarray, weight: np.ndarray | None, z_min: float, z_max: float) -> _Chunk:
    z, share = _in_order(z, weight)
    n_source = len(z)
    mean, offset, n_eff, cdf, quantile = _draw_quantiles(z, share, _levels)
    std = np.sqrt(np.einsum("sd,sd,sd->s", share, offset, offset))

    scale = np.minimum(std, (quantile[:, -1] - quantile[:, -2]) / 1.34)
    scale = np.where(scale > 0.0, scale, std)
    width = 0.45 * scale * np.maximum(n_eff / 10.0, 1.0) ** -0.2
    row = np.arange(n_source)
    low = z[row, np.argmax(cdf > NEGLIGIBLE_MASS, axis=1)]
    high = z[row, np.argmax(cdf >= 1.0 - NEGLIGIBLE_MASS, axis=1)]
    mode, multimodal = _kernel_peaks(z, share, low, high, width, quantile[:, len(QUANTILE_LEVELS) // 2])

    border = np.expm1(np.interp([EDGE_RANGE, 1.0 - EDGE_RANGE], [0.0, 1.0], np.log1p([z_min, z_max])))
    outside = (z < border[0]) | (z > border[1])
    at_edge = np.einsum("sd,sd->s", share, outside) > EDGE_FRACTION
    return _Chunk(mean, std, mode, quantile, multimodal, at_edge)


def _weighted_quantiles(
    z: np.ndarray, weight: np.ndarray, cdf: np.ndarray, n_eff: np.ndarray, levels: np.ndarray
) -> np.ndarray:
    """Akinshin's type 7 of sorted draws: n (I(b) - I(a)), I the integral of the inverse CDF, b - a = 1/n."""
    begin = levels * (1.0 - 1.0 / n_eff)[:, None]
    ends = np.concatenate([begin, begin + 1.0 / n_eff[:, None]], axis=1)
    integral = np.cumsum(weight * z, axis=1)
    at = _first_at_least(cdf, ends)
    row = np.arange(len(z))[:, None]
    value = integral[row, at] - (cdf[row, at] - np.minimum(ends, cdf[:, -1:])) * z[row, at]
    return (value[:, len(levels) :] - value[:, : len(levels)]) * n_eff[:, None]


def _first_at_least(cdf: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Per row, the first index where `cdf` (0 to 1, rising) reaches each value; the last one at most."""
    n_row, n = cdf.shape
    step = 2.0 * np.arange(n_row)[:, None]  # one sorted sequence of all rows, to be searched at once
    place = np.searchsorted((cdf + step).ravel(), (values + step).ravel()).reshape(values.shape)
    return np.clip(place - n * np.arange(n_row)[:, None], 0, n - 1)


def _kernel_peaks(
    z: np.ndarray,
    weight: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    width: np.ndarray,
    median: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Mode, and whether there are several peaks, of each row's kernel density between `low` and `high`."""
    first, last = low - 4.0 * width, high + 4.0 * width
    cell = (last - first) / DENSITY_CELLS
    # draws left out by `NEGLIGIBLE_MASS` would pile up in the end cells: they count for nothing
    inside = (z >= low[:, None]) & (z <= high[:, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        place = np.where(inside & (cell > 0.0)[:, None], (z - first[:, None]) / cell[:, None], 0.0)
    place = np.minimum(place.astype(np.int64), DENSITY_CELLS - 1)
    place += DENSITY_CELLS * np.arange(len(z))[:, None]
    mass = np.bincount(place.ravel(), (weight * inside).ravel(), DENSITY_CELLS * len(z)).reshape(len(z), -1)

    mode, multimodal = median.copy(), np.zeros(len(z), bool)
    for row in np.flatnonzero((high > low) & (width > 0.0)):
        density = gaussian_filter1d(mass[row], max(width[row] / cell[row], 0.7), mode="constant")
        centre = first[row] + (density.argmax() + 0.5) * cell[row]
        mode[row] = np.clip(centre, low[row], high[row])
        multimodal[row] = _several_peaks(density, np.concatenate([[0.0], np.cumsum(mass[row])]))
    return mode, multimodal


def _several_peaks(
    density: Float[np.ndarray, " place"], mass_before: Float[np.ndarray, " place_or_more"]
) -> bool:
    """Whether two prominent peaks hold over `MODE_FRACTION` of the mass each.

    `mass_before[i]` is the mass below place i; its last entry is the whole.
    """
    found, info = find_peaks(density, prominence=0.0)
    prominent = found[info["prominences"] > MODE_PROMINENCE * density[found]]
    if len(prominent) < 2:
        return False
    dips = [a + int(density[a:b].argmin()) for a, b in itertools.pairwise(prominent)]
    mass = np.diff(np.concatenate([[0.0], mass_before[dips], mass_before[-1:]]))
    return bool((mass > MODE_FRACTION).sum() > 1)


# ---------------------------------------------------------------- a density on a grid
def _of_grid(z: np.ndarray, pz: np.ndarray, z_min: float, z_max: float) -> _Chunk:
    z = np.broadcast_to(z, pz.shape)
    width = np.diff(z, axis=1)
    pz = pz / pz.max(axis=1, keepdims=True)  # so that a scale of 1e-300 loses nothing
    pz /= (0.5 * width * (pz[:, 1:] + pz[:, :-1])).sum(axis=1, keepdims=True)
    left, right = pz[:, :-1], pz[:, 1:]
    cdf = np.concatenate([np.zeros((len(pz), 1)), np.cumsum(0.5 * width * (left + right), axis=1)], axis=1)
    a, b = z[:, :-1], z[:, 1:]
    mean = (width / 6.0 * (left * (2.0 * a + b) + right * (a + 2.0 * b))).sum(axis=1)
    a, b = a - mean[:, None], b - mean[:, None]
    moment = left * (3.0 * a**2 + 2.0 * a * b + b**2) + right * (a**2 + 2.0 * a * b + 3.0 * b**2)
    std = np.sqrt((width / 12.0 * moment).sum(axis=1))

    row = np.arange(len(pz))[:, None]
    levels = np.broadcast_to(_levels, (len(pz), len(_levels)))
    cell = np.maximum(_first_at_least(cdf, levels) - 1, 0)
    area = levels - cdf[row, cell]
    slope = np.divide(right - left, width, out=np.zeros_like(left), where=width > 0.0)[row, cell]
    base = left[row, cell]
    # the root of base d + slope d^2 / 2 = area, written so that slope = 0 needs no special case
    root = base + np.sqrt(np.maximum(base**2 + 2.0 * slope * area, 0.0))
    step = np.divide(2.0 * area, root, out=np.zeros_like(area), where=root > 0.0)
    quantile = z[row, cell] + np.clip(step, 0.0, width[row, cell])

    border = np.expm1(np.interp([EDGE_RANGE, 1.0 - EDGE_RANGE], [0.0, 1.0], np.log1p([z_min, z_max])))
    between = _mass_between(z, pz, cdf, float(border[0]), float(border[1]))
    multimodal = [
        # a density may peak at the grid's end: zeros beyond it make a peak of that too
        _several_peaks(np.pad(p, 1), np.concatenate([[0.0], c, c[-1:]]))
        for p, c in zip(pz, cdf, strict=True)
    ]
    mode = z[row[:, 0], pz.argmax(axis=1)]
    return _Chunk(mean, std, mode, quantile, np.array(multimodal), 1.0 - between > EDGE_FRACTION)


def _mass_between(
    z: np.ndarray, pz: np.ndarray, cdf: np.ndarray, low: float, high: float
) -> Float[np.ndarray, " source"]:
    """Integral of the piecewise linear densities from `low` to `high`."""
    row = np.arange(len(z))

    def below(at: float) -> np.ndarray:
        place = np.clip(at, z[:, 0], z[:, -1])
        cell = np.clip((z[:, :-1] < place[:, None]).sum(axis=1) - 1, 0, z.shape[1] - 2)
        left, width = z[row, cell], z[row, cell + 1] - z[row, cell]
        rise = pz[row, cell + 1] - pz[row, cell]
        slope = np.divide(rise, width, out=np.zeros_like(rise), where=width > 0.0)
        d = place - left
        return cdf[row, cell] + pz[row, cell] * d + 0.5 * slope * d**2

    return below(high) - below(low)
