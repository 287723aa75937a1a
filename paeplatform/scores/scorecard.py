"""The numbers of each source whose redshift is known that every metric is a statistic of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from paeplatform.errors import InputError
from paeplatform.scores.calibration import pit_from_quantiles
from paeplatform.scores.metrics import FloatArray, Metric, require_columns
from paeplatform.scores.scores import crps_from_quantiles, log_score_from_quantiles


def source_columns(
    z_hat: ArrayLike,
    sigma_z: ArrayLike,
    z_true: ArrayLike,
    quantiles: ArrayLike | None = None,
    levels: ArrayLike = (),
    *,
    z_range: tuple[float, float] | None = None,
) -> dict[str, FloatArray]:
    """What the metrics are statistics of, each of shape (source,).

    Args:
        z_hat: estimates, shape (source,); a missing one is NaN.
        sigma_z: their quoted standard deviations, shape (source,), in redshift.
        z_true: true redshifts, shape (source,).
        quantiles: of p(z), ascending, shape (source, level); None leaves out what needs them.
        levels: probabilities of the quantiles, shape (level,).
        z_range: redshifts of the uniform density that is mixed into the log score; None mixes nothing in.

    Returns:
        error_hat = (z_hat - z_true)/(1 + z_hat), error_true = (z_hat - z_true)/(1 + z_true), z_score =
        (z_hat - z_true)/sigma_z, width = sigma_z/(1 + z_hat) (section VI.1); with quantiles pit, crps, log_score; NaN
        for a source without a usable estimate. usable: 1 with finite values, sigma_z above 0, both redshifts above -1
        and, with quantiles, a finite PIT; otherwise 0.

    Raises:
        InputError: inputs that are not one-dimensional or not of equal length, or quantiles that do not fit.
    """
    z_hat, sigma_z, z_true = (np.asarray(array, dtype=np.float64) for array in (z_hat, sigma_z, z_true))
    shapes = [column.shape for column in (z_hat, sigma_z, z_true)]
    if any(len(shape) != 1 for shape in shapes) or len(set(shapes)) > 1:
        raise InputError(f"metric inputs must be one-dimensional and of equal length, got shapes {shapes}")
    good = np.isfinite(z_hat) & np.isfinite(sigma_z) & np.isfinite(z_true)
    good &= (sigma_z > 0.0) & (z_hat > -1.0) & (z_true > -1.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = {
            "error_hat": (z_hat - z_true) / (1.0 + z_hat),
            "error_true": (z_hat - z_true) / (1.0 + z_true),
            "z_score": (z_hat - z_true) / sigma_z,
            "width": sigma_z / (1.0 + z_hat),
        }
    if quantiles is not None:
        columns["pit"] = pit_from_quantiles(z_true, quantiles, levels)
        columns["crps"] = crps_from_quantiles(z_true, quantiles, levels)
        columns["log_score"] = log_score_from_quantiles(z_true, quantiles, levels, background=z_range)
        good &= np.isfinite(columns["pit"])
    found = {name: np.where(good, values, np.nan) for name, values in columns.items()}
    return found | {"usable": good.astype(np.float64)}


def score_sources(
    posteriors_with_truth: pl.DataFrame, levels: Sequence[float], *, prefix: str, z_range: tuple[float, float]
) -> pl.DataFrame:
    """Each source's part in every metric.

    Args:
        posteriors_with_truth: rows with object_id, z_true and `<prefix>_z_mean`, `_z_std`, `_z_quantiles`, `_status`.
        levels: probabilities of the quantiles.
        prefix: of the method, first part of the column names.
        z_range: of the prior; the log score's background.

    Returns:
        object_id and z_true; the columns of `source_columns`; trusted, 1 for a usable source with status "converged",
        otherwise 0. Sorted by object_id.

    Raises:
        InputError: a column is missing.
    """
    names = [f"{prefix}_{name}" for name in ("z_mean", "z_std", "z_quantiles", "status")]
    require_columns(posteriors_with_truth, ("object_id", "z_true", *names), "posteriors with truth lack")
    rows = posteriors_with_truth.sort("object_id")
    z_hat, sigma, z_true = (rows[name].cast(pl.Float64).to_numpy() for name in (*names[:2], "z_true"))
    columns = source_columns(z_hat, sigma, z_true, rows[names[2]].to_numpy(), levels, z_range=z_range)
    trusted = columns["usable"] * (rows[names[3]] == "converged").cast(pl.Float64).fill_null(0.0).to_numpy()
    return pl.DataFrame({"object_id": rows["object_id"], "z_true": z_true} | columns | {"trusted": trusted})


def metric_values(scores: pl.DataFrame, metric: Metric) -> FloatArray:
    """What a metric is a statistic of: of all sources, or of those with a posterior."""
    rows = scores if metric.of_all else scores.filter(pl.col("usable") > 0.0)
    return rows[metric.column].to_numpy()
