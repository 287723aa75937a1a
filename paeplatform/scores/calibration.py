"""Calibration, goodness of fit and convergence of per-source posteriors (paper sections V.1, VI.1 and
appendix A).
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from paeplatform.errors import InputError
from paeplatform.inference.results.status import POSTERIOR_STATUSES
from paeplatform.scores.metrics import METRICS

FloatArray = NDArray[np.float64]

RHAT_THRESHOLD = (
    1.1  # the paper's (appendix A), and part of metrics' names; what is trusted is `trust.rhat_max`
)
N_REDSHIFT_PARAMETERS = 1


def pit_from_quantiles(z_true: ArrayLike, quantiles: ArrayLike, levels: ArrayLike) -> FloatArray:
    """Probability integral transform: each posterior's CDF at the true redshift (section VI.1).

    Between quantiles the CDF is linear. Beyond the outermost ones it falls off exponentially with the density
    of the neighbouring interval, so that the tails are spread over (0, levels[0]) and (levels[-1], 1) and not
    piled up on an edge; where the outermost levels are 0 and 1 the result is exactly 0 or 1 there. On tied
    quantiles (a step of the CDF) the middle of the step is returned.

    Args:
        z_true: shape (source,).
        quantiles: posterior quantiles in ascending order, shape (source, level).
        levels: their probabilities, strictly increasing in [0, 1], shape (level,) with at least two.

    Returns:
        Shape (source,), in [0, 1]; NaN where z_true or a quantile of the source is not finite.

    Raises:
        InputError: shapes that do not fit, or levels that do not increase within [0, 1].
    """
    z_true = np.asarray(z_true, dtype=np.float64)
    quantiles = np.asarray(quantiles, dtype=np.float64)
    levels = np.asarray(levels, dtype=np.float64)
    if levels.ndim != 1 or levels.size < 2 or np.any(np.diff(levels) <= 0) or levels[0] < 0 or levels[-1] > 1:
        raise InputError("quantile levels must be at least two, strictly increasing, within [0, 1]")
    if z_true.ndim != 1 or quantiles.shape != (z_true.size, levels.size):
        raise InputError(
            f"quantiles have shape {quantiles.shape}, expected ({z_true.size}, {levels.size}) for z_true "
            "of shape "
            f"{z_true.shape}"
        )
    finite = np.isfinite(z_true) & np.isfinite(quantiles).all(axis=1)
    pit = np.full(z_true.size, np.nan)
    if not finite.any():
        return pit
    z, q = z_true[finite, None], quantiles[finite]
    row = np.arange(q.shape[0])
    below = np.clip((q < z).sum(axis=1), 0, levels.size)  # quantiles strictly below the truth
    upto = np.clip((q <= z).sum(axis=1), 0, levels.size)
    left = np.clip(below - 1, 0, levels.size - 2)
    width = q[row, left + 1] - q[row, left]
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = levels[left] + (levels[left + 1] - levels[left]) * (z[:, 0] - q[row, left]) / width
    value = np.where(width > 0, inside, 0.5 * (levels[left] + levels[left + 1]))
    tied = upto - below >= 2  # the truth sits on a step of the CDF
    value = np.where(
        tied, 0.5 * (levels[np.clip(below, 0, levels.size - 1)] + levels[np.clip(upto - 1, 0, None)]), value
    )
    lower = _tail(levels[0], levels[1], q[:, 0] - z[:, 0], q[:, 1] - q[:, 0])
    upper = 1.0 - _tail(1.0 - levels[-1], 1.0 - levels[-2], z[:, 0] - q[:, -1], q[:, -1] - q[:, -2])
    value = np.where(z[:, 0] < q[:, 0], lower, value)
    value = np.where(z[:, 0] > q[:, -1], upper, value)
    pit[finite] = np.clip(value, 0.0, 1.0)
    return pit


def _tail(edge: float, next_level: float, distance: FloatArray, width: FloatArray) -> FloatArray:
    """Mass beyond `distance` outside the outermost quantile, exponential and continuous in density."""
    if edge == 0.0:
        return np.zeros_like(distance)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = (next_level - edge) / (edge * width)
        return np.where(width > 0, edge * np.exp(-np.maximum(distance, 0.0) * slope), 0.0)


def ks_distance_to_uniform(pit: ArrayLike) -> float:
    """Kolmogorov-Smirnov distance of the PIT values to U(0, 1); NaN entries are ignored, NaN when none is
    left.
    """
    return METRICS["pit_ks"].of(pit)


def pit_coverage(pit: ArrayLike, levels: ArrayLike) -> FloatArray:
    """Fraction of sources whose PIT is at most each level, shape (level,); NaN when no PIT is finite."""
    values = np.asarray(pit, dtype=np.float64)
    values = np.sort(values[np.isfinite(values)])
    levels = np.asarray(levels, dtype=np.float64)
    if values.size == 0:
        return np.full(levels.shape, np.nan)
    return np.searchsorted(values, levels, side="right") / values.size


def converged_fraction(rhat: ArrayLike, threshold: float = RHAT_THRESHOLD) -> float:
    """f(R-hat < threshold) of the sources that have an R-hat (Table 2): posteriors by importance sampling come
    from no chain and have none (NaN). NaN when no source has one.
    """
    values = np.asarray(rhat, dtype=np.float64)
    values = values[~np.isnan(values)]
    return float(np.mean(values < threshold)) if values.size else float("nan")


def reduced_chi2(chi2: ArrayLike, n_bands: ArrayLike, n_latent: int) -> FloatArray:
    """chi^2 / (n_bands - n_latent - 1), shape (source,): latents and redshift count, as in section V.1.

    NaN where chi2 is not finite or no degree of freedom is left.
    """
    chi2 = np.asarray(chi2, dtype=np.float64)
    degrees = np.asarray(n_bands, dtype=np.float64) - (n_latent + N_REDSHIFT_PARAMETERS)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.isfinite(chi2) & (degrees > 0), chi2 / degrees, np.nan)


def posterior_summary(
    posteriors: pl.DataFrame, n_latent: int, prefix: str = "pae"
) -> dict[str, float | int | None]:
    """Sample-wide convergence and goodness of fit of a catalogue of posteriors.

    Args:
        posteriors: one row a source with `<prefix>_rhat`, `_acl`, `_khat`, `_ess`, `_chi2`, `_n_bands`, `_status`.
        n_latent: latent dimension of the model, for the degrees of freedom.
        prefix: of the method, first part of the column names.

    Returns:
        `n_sources`, `n_failed`, `n_misfit`; `f_trusted`, the share with status "converged"; `n_chains`, the
        sources with an R-hat, and `f_rhat_below_1_1` of these; medians `khat_median`, `rhat_median`, `acl_median`,
        `ess_median`; and `chi2_median`, `chi2_reduced_median`, `chi2_reduced_p95`; a statistic of nothing is None.

    Raises:
        InputError: a column is missing.
    """
    names = ("rhat", "acl", "khat", "ess", "chi2", "n_bands", "status")
    column = _columns(posteriors, names, prefix)
    numbers = {key: series.cast(pl.Float64).to_numpy() for key, series in column.items() if key != "status"}
    reduced = reduced_chi2(numbers["chi2"], numbers["n_bands"], n_latent)
    n = posteriors.height
    return {
        "n_sources": n,
        "n_failed": int((column["status"] == "failed").sum()),
        "n_misfit": int((column["status"] == "misfit").sum()),
        "f_trusted": int((column["status"] == "converged").sum()) / n if n else None,
        "n_chains": int(np.isfinite(numbers["rhat"]).sum()),
        "f_rhat_below_1_1": _or_none(converged_fraction(numbers["rhat"])),
        "khat_median": _percentile(numbers["khat"], 50),
        "rhat_median": _percentile(numbers["rhat"], 50),
        "acl_median": _percentile(numbers["acl"], 50),
        "ess_median": _percentile(numbers["ess"], 50),
        "chi2_median": _percentile(numbers["chi2"], 50),
        "chi2_reduced_median": _percentile(reduced, 50),
        "chi2_reduced_p95": _percentile(reduced, 95),
    }


def path_counts(posteriors: pl.DataFrame, prefix: str = "pae") -> pl.DataFrame:
    """How many posteriors were made by which method, and how well.

    Args:
        posteriors: one row a source with `<prefix>_path`, `_status`, `_khat`, `_ess`, `_rhat`.
        prefix: of the method, first part of the column names.

    Returns:
        A row for each path, the most frequent first: path, n, the number of sources with each of
        `POSTERIOR_STATUSES`, and medians khat, ess, rhat, null where no source has one.

    Raises:
        InputError: a column is missing.
    """
    column = _columns(posteriors, ("path", "status", "khat", "ess", "rhat"), prefix)
    table = pl.DataFrame(column)
    statuses = [(pl.col("status") == status).sum().alias(status) for status in POSTERIOR_STATUSES]
    medians = [pl.col(name).cast(pl.Float64).fill_nan(None).median() for name in ("khat", "ess", "rhat")]
    counted = table.group_by("path").agg(pl.len().alias("n"), *statuses, *medians)
    return counted.sort("n", "path", descending=[True, False])


def _columns(posteriors: pl.DataFrame, names: tuple[str, ...], prefix: str) -> dict[str, pl.Series]:
    missing = [f"{prefix}_{name}" for name in names if f"{prefix}_{name}" not in posteriors.columns]
    if missing:
        raise InputError(f"posterior table lacks columns {missing}; it has {posteriors.columns}")
    return {name: posteriors[f"{prefix}_{name}"] for name in names}


def _percentile(values: FloatArray, percent: float) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.percentile(finite, percent)) if finite.size else None


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
