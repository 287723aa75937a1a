"""p(z) read from its quantiles: the CDF is linear between them, and falls off exponentially beyond the outermost two,
where the density goes on from that of the neighbouring interval.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def density_between(
    quantiles: Float[np.ndarray, "*source level"], levels: Float[np.ndarray, " level"], least_width: float
) -> Float[np.ndarray, "*source interval"]:
    """Density per unit redshift in each interval between neighbouring quantiles.

    Args:
        quantiles: redshifts, not falling.
        levels: their probabilities, increasing.
        least_width: intervals count as wide as this at least; quantiles of draws may coincide.
    """
    return np.diff(levels) / np.maximum(np.diff(quantiles, axis=-1), least_width)


def mass_in_cells(
    quantiles: Float[np.ndarray, " level"],
    levels: Float[np.ndarray, " level"],
    edges: Float[np.ndarray, " edge"],
) -> Float[np.ndarray, " cell"]:
    """Probability of one source in each cell, of what lies between the outermost quantiles.

    Args:
        quantiles: redshifts, not falling.
        levels: their probabilities, increasing.
        edges: of the cells, in redshift, increasing.
    """
    return np.diff(np.interp(edges, quantiles, levels))


def cdf_of_quantiles(
    quantiles: Float[np.ndarray, "source level"],
    levels: Float[np.ndarray, " level"],
    at: Float[np.ndarray, " place"],
    least_width: float,
) -> Float[np.ndarray, "source place"]:
    """The CDF of each source at some redshifts, with its tails.

    Args:
        quantiles: redshifts, not falling.
        levels: their probabilities, increasing within (0, 1).
        at: redshifts, the same for all sources.
        least_width: of the e-folding lengths of the tails, in redshift.
    """
    scale_low, scale_high = (
        np.maximum(scale, least_width)[:, None] for scale in tail_scales(quantiles, levels)
    )
    inside = np.stack([np.interp(at, row, levels) for row in quantiles])
    first, last = quantiles[:, :1], quantiles[:, -1:]
    below = levels[0] * np.exp(-np.maximum(first - at, 0.0) / scale_low)
    above = 1.0 - (1.0 - levels[-1]) * np.exp(-np.maximum(at - last, 0.0) / scale_high)
    return np.where(at < first, below, np.where(at > last, above, inside))


def tail_scales(
    quantiles: Float[np.ndarray, "source level"], levels: Float[np.ndarray, " level"]
) -> tuple[Float[np.ndarray, " source"], Float[np.ndarray, " source"]]:
    """e-folding lengths, in redshift, of the CDF below the first quantile and above the last one."""
    low = (quantiles[:, 1] - quantiles[:, 0]) * levels[0] / (levels[1] - levels[0])
    high = (quantiles[:, -1] - quantiles[:, -2]) * (1.0 - levels[-1]) / (levels[-1] - levels[-2])
    return low, high
