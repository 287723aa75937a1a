"""Calibration, goodness of fit and convergence of per-source posteriors (paper sections V.1, VI.1 and
appendix A).
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from paeplatform.errors import InputError
from paeplatform.inference.results.status import POSTERIOR_STATUSES
from paeplatform.scores.metrics import METRICS, FloatArray, require_columns

# the paper's (appendix A), and part of metrics' names; what is trusted is `trust.rhat_max`
RHAT_THRESHOLD = 1.1
N_REDSHIFT_PARAMETERS = 1


def checked_quantiles(
    z_true: ArrayLike, quantiles: ArrayLike, levels: ArrayLike, *, with_ends: bool = False
) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.bool_]]:
    """Finite sources' truth and quantiles, the levels, and which sources these are.

    Args:
        z_true: shape (source,).
        quantiles: shape (source, level).
        levels: shape (level,).
        with_ends: whether the outermost levels may be 0 and 1.

    Raises:
        InputError: shapes that do not fit, or levels that do not increase within (0, 1) or its ends.
    """
    z, q, levels = (np.asarray(array, dtype=np.float64) for array in (z_true, quantiles, levels))
    fit = levels.ndim == 1 and levels.size >= 2 and bool(np.all(np.diff(levels) > 0))
    if fit and with_ends:
        fit = levels[0] >= 0 and levels[-1] <= 1
    elif fit:
        fit = levels[0] > 0 and levels[-1] < 1
    if not fit:
        ends = "[0, 1]" if with_ends else "(0, 1)"
        raise InputError(f"quantile levels must be at least two, strictly increasing, within {ends}")
    if z.ndim != 1 or q.shape != (z.size, levels.size):
        raise InputError(
            f"quantiles have shape {q.shape}, expected ({z.size}, {levels.size}) for z_true of shape {z.shape}"
        )
    finite = np.isfinite(z) & np.isfinite(q).all(axis=1)
    return z[finite], q[finite], levels, finite


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
    z, q, levels, finite = checked_quantiles(z_true, quantiles, levels, with_ends=True)
    pit = np.full(finite.shape, np.nan)
    if not finite.any():
        return pit
    row = np.arange(q.shape[0])
    below = (q < z[:, None]).sum(axis=1)  # quantiles strictly below the truth
    upto = (q <= z[:, None]).sum(axis=1)
    left = np.clip(below - 1, 0, levels.size - 2)
    width = q[row, left + 1] - q[row, left]
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = levels[left] + (levels[left + 1] - levels[left]) * (z - q[row, left]) / width
    value = np.where(width > 0, inside, 0.5 * (levels[left] + levels[left + 1]))
    tied = upto - below >= 2  # the truth sits on a step of the CDF
    value = np.where(
        tied, 0.5 * (levels[np.clip(below, 0, levels.size - 1)] + levels[np.clip(upto - 1, 0, None)]), value
    )
    lower = _tail(levels[0], levels[1], q[:, 0] - z, q[:, 1] - q[:, 0])
    upper = 1.0 - _tail(1.0 - levels[-1], 1.0 - levels[-2], z - q[:, -1], q[:, -1] - q[:, -2])
    value = np.where(z < q[:, 0], lower, value)
    value = np.where(z > q[:, -1], upper, value)
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


def converged_fraction(rhat: ArrayLike) -> float:
    """f(R-hat < 1.1) of the sources that have an R-hat (Table 2): posteriors by importance sampling come
    from no chain and have none (NaN). NaN when no source has one.
    """
    values = np.asarray(rhat, dtype=np.float64)
    values = values[~np.isnan(values)]
    return float(np.mean(values < RHAT_THRESHOLD)) if values.size else float("nan")


def summed_over(posteriors: pl.DataFrame, prefix: str = "pae") -> str:
    """The column with the number of terms of a method's chi^2: measurements, or channels where it fits these."""
    measured = f"{prefix}_n_measurements"
    return measured if measured in posteriors.columns else f"{prefix}_n_bands"


def reduced_chi2(chi2: ArrayLike, n_terms: ArrayLike, n_latent: int) -> FloatArray:
    """chi^2 / (n_terms - n_latent - 1), shape (source,): latents and redshift count, as in section V.1.

    Terms are the measurements or channels that chi^2 is a sum over (`summed_over`). NaN where chi2 is not finite or
    no degree of freedom is left.
    """
    chi2 = np.asarray(chi2, dtype=np.float64)
    degrees = np.asarray(n_terms, dtype=np.float64) - (n_latent + N_REDSHIFT_PARAMETERS)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.isfinite(chi2) & (degrees > 0), chi2 / degrees, np.nan)


def posterior_summary(posteriors: pl.DataFrame, n_latent: int) -> dict[str, float | int | None]:
    """Sample-wide convergence and goodness of fit of a catalogue of posteriors.

    Args:
        posteriors: one row a source with `pae_rhat`, `_acl`, `_khat`, `_ess`, `_chi2`, `_status` and
            that of `summed_over`.
        n_latent: latent dimension of the model, for the degrees of freedom.

    Returns:
        `n_sources`, `n_failed`, `n_misfit`; `f_trusted`, the share with status "converged"; `n_chains`, the
        sources with an R-hat, and `f_rhat_below_1_1` of these; medians `khat_median`, `rhat_median`, `acl_median`,
        `ess_median`; and `chi2_median`, `chi2_reduced_median`, `chi2_reduced_p95`; a statistic of nothing is None.

    Raises:
        InputError: a column is missing.
    """
    terms = summed_over(posteriors).removeprefix("pae_")
    names = ("rhat", "acl", "khat", "ess", "chi2", terms, "status")
    column = _columns(posteriors, names)
    numbers = {key: series.cast(pl.Float64).to_numpy() for key, series in column.items() if key != "status"}
    reduced = reduced_chi2(numbers["chi2"], numbers[terms], n_latent)
    n = posteriors.height
    return {
        "n_sources": n,
        "n_failed": int((column["status"] == "failed").sum()),
        "n_misfit": int((column["status"] == "misfit").sum()),
        "f_trusted": int((column["status"] == "converged").sum()) / n if n else None,
        "n_chains": int(np.isfinite(numbers["rhat"]).sum()),
        "f_rhat_below_1_1": _or_none(converged_fraction(numbers["rhat"])),
        **{f"{key}_median": _percentile(numbers[key], 50) for key in ("khat", "rhat", "acl", "ess", "chi2")},
        "chi2_reduced_median": _percentile(reduced, 50),
        "chi2_reduced_p95": _percentile(reduced, 95),
    }


def path_counts(posteriors: pl.DataFrame) -> pl.DataFrame:
    """How many posteriors were made by which method, and how well.

    Args:
        posteriors: one row a source with `pae_path`, `_status`, `_khat`, `_ess`, `_rhat`.

    Returns:
        A row for each path, the most frequent first: path, n, the number of sources with each of
        `POSTERIOR_STATUSES`, and medians khat, ess, rhat, null where no source has one.

    Raises:
        InputError: a column is missing.
    """
    table = pl.DataFrame(_columns(posteriors, ("path", "status", "khat", "ess", "rhat")))
    statuses = [(pl.col("status") == status).sum().alias(status) for status in POSTERIOR_STATUSES]
    medians = [pl.col(name).cast(pl.Float64).fill_nan(None).median() for name in ("khat", "ess", "rhat")]
    counted = table.group_by("path").agg(pl.len().alias("n"), *statuses, *medians)
    return counted.sort("n", "path", descending=[True, False])


def _columns(posteriors: pl.DataFrame, names: tuple[str, ...]) -> dict[str, pl.Series]:
    require_columns(posteriors, (f"pae_{name}" for name in names), "posterior table lacks")
    return {name: posteriors[f"pae_{name}"] for name in names}


def _percentile(values: FloatArray, percent: float) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.percentile(finite, percent)) if finite.size else None


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
