"""Resampling of sources with replacement: the errors of every table and the intervals of the gate come from here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# Larger samples are resampled at this size, and the spread is scaled by sqrt(m/n): every statistic here converges as
# n^-1/2. 200 resamples give an error to 1/sqrt(400) = 5 %. Measured on 60,000 sources, the error of a mean, an NMAD and
# a share scatters by 5 to 6 % with 5,000 drawn sources and with 20,000 alike: more cost time and change nothing.
MAX_SOURCES = 5_000
_BLOCK_VALUES = 2_000_000  # float64 values in a block of resamples: 16 MB


def resampled(
    values: FloatArray,
    statistic: Callable[[FloatArray], FloatArray],
    n_resamples: int,
    seed: int,
    n_drawn: int | None = None,
) -> FloatArray:
    """A statistic of every resample, shape (resample,). The same arguments give the same resamples.

    Args:
        values: shape (..., source); sources are drawn along the last axis, all leading rows together.
        statistic: of (..., resample, source), along the last axis, to (resample,).
        n_resamples: how many.
        seed: seeds the draws, together with the number of sources.
        n_drawn: sources in a resample; None draws as many as there are.
    """
    n = values.shape[-1]
    size = n if n_drawn is None else n_drawn
    rng = np.random.default_rng([seed, n])
    height = max(1, _BLOCK_VALUES // max(size, 1))
    return np.concatenate(
        [
            statistic(values[..., rng.integers(0, n, size=(min(height, n_resamples - start), size))])
            for start in range(0, n_resamples, height)
        ]
    )


def bootstrap_error(
    values: FloatArray,
    statistic: Callable[[FloatArray], FloatArray],
    n_bootstrap: int,
    seed: int,
    *,
    n_total: int | None = None,
    fraction: float | None = None,
) -> float | None:
    """Standard deviation of a statistic over resamples of at most `MAX_SOURCES` sources.

    Args:
        values: shape (..., source).
        statistic: as in `resampled`.
        n_bootstrap: resamples.
        seed: seeds the draws.
        n_total: size of the sample that the error is for, when `values` are a random part of it; None takes `values`
            for the whole sample.
        fraction: the value of a statistic that is a share of the sources. When it is the same in all resamples, because
            all or none of the sources count, the error is that of its Jeffreys posterior.

    Returns:
        None with fewer than two sources or resamples, or with fewer than two finite values among the resamples.
    """
    n = values.shape[-1]
    if n < 2 or n_bootstrap < 2:
        return None
    n_total, m = n if n_total is None else n_total, min(n, MAX_SOURCES)
    drawn = resampled(values, statistic, n_bootstrap, seed, m)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < 2:
        return None
    spread = float(np.std(drawn, ddof=1))
    if spread == 0.0 and fraction is not None:
        return fraction_error(fraction, n_total)
    return spread * float(np.sqrt(m / n_total))


def fraction_error(fraction: float, n: int) -> float:
    """Standard deviation of the Jeffreys posterior of a fraction of n sources."""
    a, b = fraction * n + 0.5, (1.0 - fraction) * n + 0.5
    return float(np.sqrt(a * b / ((a + b) ** 2 * (a + b + 1.0))))
