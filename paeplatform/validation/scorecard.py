"""How good a model's posteriors are on sources whose redshift is known: what the promotion gate compares.

`score_sources` reduces each posterior to a handful of numbers; every metric is a statistic of one of them over
sources, so that resampling sources gives its interval, and resampling the same sources for two models the interval of
their difference.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from paeplatform.errors import InputError
from paeplatform.validation.calibration import posterior_pit
from paeplatform.validation.metrics import (
    OUTLIER_THRESHOLD,
    PAPER_NMAD_FACTOR,
    USUAL_NMAD_FACTOR,
    fractional_errors,
    usable,
    z_scores,
)
from paeplatform.validation.scores import crps_from_quantiles, log_score_from_quantiles

FloatArray = NDArray[np.float64]
Statistic = Callable[[FloatArray], FloatArray]  # along the last axis

INTERVAL = (0.025, 0.975)  # of the resamples: what `metric_intervals` gives as low and high
_CHUNK_VALUES = 2_000_000  # float64 values per resampled block: 16 MB
THROUGHPUT = "galaxies_per_hour"


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: as in tables, rules and tags.
        column: of `score_sources` that it is a statistic of.
        statistic: along the last axis.
        ideal: the value that no model betters: 0, a coverage's level, or infinity either way.
        of_all: over all sources; else over those with a posterior.
    """

    name: str
    column: str
    statistic: Statistic
    ideal: float
    of_all: bool = False

    def loss(self, value: Any) -> Any:
        """How far from the ideal: lower is better, whatever the metric."""
        if np.isinf(self.ideal):
            return -np.sign(self.ideal) * np.asarray(value)
        return np.abs(np.asarray(value) - self.ideal)


def _mean(values: FloatArray) -> FloatArray:
    return np.mean(values, axis=-1)


def _median_abs(values: FloatArray) -> FloatArray:
    return PAPER_NMAD_FACTOR * np.median(np.abs(values), axis=-1)


def _mad(values: FloatArray) -> FloatArray:
    centre = np.median(values, axis=-1, keepdims=True)
    return USUAL_NMAD_FACTOR * np.median(np.abs(values - centre), axis=-1)


def _beyond(limit: float) -> Statistic:
    return lambda values: np.mean(np.abs(values) > limit, axis=-1)


def _central(level: float) -> Statistic:
    return lambda pit: np.mean(np.abs(pit - 0.5) <= 0.5 * level, axis=-1)


def _ks(pit: FloatArray) -> FloatArray:
    values, n = np.sort(pit, axis=-1), pit.shape[-1]
    grid = np.arange(n + 1) / n
    return np.maximum((grid[1:] - values).max(axis=-1), (values - grid[:-1]).max(axis=-1))


METRICS: tuple[Metric, ...] = (
    Metric("nmad_paper", "error_hat", _median_abs, 0.0),
    Metric("nmad_usual", "error_true", _mad, 0.0),
    Metric("mean_bias", "error_true", _mean, 0.0),
    Metric("eta_3sigma", "z_score", _beyond(3.0), 0.0),
    Metric("eta_015", "error_true", _beyond(OUTLIER_THRESHOLD), 0.0),
    Metric("coverage_50", "pit", _central(0.50), 0.50),
    Metric("coverage_68", "pit", _central(0.68), 0.68),
    Metric("coverage_95", "pit", _central(0.95), 0.95),
    Metric("pit_ks", "pit", _ks, 0.0),
    Metric("crps", "crps", _mean, 0.0),
    Metric("log_score", "log_score", _mean, np.inf),
    Metric("usable", "usable", _mean, 1.0, of_all=True),
    Metric("trusted", "trusted", _mean, 1.0, of_all=True),
)
METRIC_NAMES: tuple[str, ...] = tuple(metric.name for metric in METRICS)


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
        object_id and z_true; float64 columns error_hat (over 1 + z_hat), error_true (over 1 + z_true), z_score,
        width (sigma_z / (1 + z_hat)), pit, crps, log_score, NaN without a posterior; usable and trusted (status
        "converged"), 1 or 0. Sorted by object_id.

    Raises:
        InputError: a column is missing.
    """
    names = [f"{prefix}_{name}" for name in ("z_mean", "z_std", "z_quantiles", "status")]
    missing = [name for name in ("object_id", "z_true", *names) if name not in posteriors_with_truth.columns]
    if missing:
        raise InputError(f"posteriors with truth lack columns {missing}")
    rows = posteriors_with_truth.sort("object_id")
    z_hat, sigma, z_true = (rows[name].cast(pl.Float64).to_numpy() for name in (*names[:2], "z_true"))
    quantiles = rows[names[2]].to_numpy()
    pit = posterior_pit(rows, levels, prefix)
    good = usable(z_hat, sigma, z_true) & np.isfinite(pit)
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = {
            "error_hat": (z_hat - z_true) / (1.0 + z_hat),
            "error_true": fractional_errors(z_hat, z_true),
            "z_score": z_scores(z_hat, sigma, z_true),
            "width": sigma / (1.0 + z_hat),
            "pit": pit,
            "crps": crps_from_quantiles(z_true, quantiles, levels),
            "log_score": log_score_from_quantiles(z_true, quantiles, levels, background=z_range),
        }
    return pl.DataFrame(
        {"object_id": rows["object_id"], "z_true": z_true}
        | {name: np.where(good, values, np.nan) for name, values in columns.items()}
        | {
            "usable": good.astype(np.float64),
            "trusted": (good & (rows[names[3]] == "converged").to_numpy()).astype(np.float64),
        }
    )


def metric_intervals(
    scores: pl.DataFrame, cuts: Sequence[float], *, n_resamples: int, seed: int = 0
) -> pl.DataFrame:
    """Every metric with its interval, over all sources and by bin of the quoted width sigma_z / (1 + z_hat).

    Args:
        scores: of `score_sources`.
        cuts: edges of the bins, rising; the first bin begins at 0 and the last has no end.
        n_resamples: of sources, with replacement; at least 2.
        seed: of the resampling.

    Returns:
        A row "all", then one a bin: selection, low, high (null at an open end), n (sources with a posterior), and each
        of `METRIC_NAMES` with `<name>_low` and `<name>_high`, the ends of the central 95 % of the resamples. "usable"
        and "trusted" stand for all sources and are null in bins, as a source without posterior is in none. Metrics of
        fewer than two sources are null.
    """
    width = scores["width"].to_numpy()
    good = scores["usable"].to_numpy() > 0.0
    edges = [0.0, *cuts, np.inf]
    rows = [_row("all", None, None, scores, np.ones(len(width), bool), METRICS, n_resamples, seed)]
    for low, high in itertools.pairwise(edges):
        inside = good & (width >= low) & (width < high)
        name = f"{low:g} <= sigma_z/(1+z) < {high:g}" if np.isfinite(high) else f"sigma_z/(1+z) >= {low:g}"
        metrics = [metric for metric in METRICS if not metric.of_all]
        end = high if np.isfinite(high) else None
        rows.append(_row(name, low, end, scores, inside, metrics, n_resamples, seed))
    numbers = [key for name in METRIC_NAMES for key in (name, f"{name}_low", f"{name}_high")]
    schema: dict[str, Any] = {"selection": pl.String(), "low": pl.Float64(), "high": pl.Float64()}
    schema |= {"n": pl.Int64()} | {name: pl.Float64() for name in numbers}
    return pl.DataFrame(rows, schema=schema)


def _row(
    name: str,
    low: float | None,
    high: float | None,
    scores: pl.DataFrame,
    inside: NDArray[np.bool_],
    metrics: Sequence[Metric],
    n_resamples: int,
    seed: int,
) -> dict[str, Any]:
    row: dict[str, Any] = {"selection": name, "low": low, "high": high}
    row["n"] = int((inside & (scores["usable"].to_numpy() > 0.0)).sum())
    for metric in metrics:
        values = metric_values(scores.filter(inside), metric)
        if len(values) < 2:
            continue
        drawn = np.concatenate(
            [metric.statistic(values[index]) for index in resamples(len(values), n_resamples, seed)]
        )
        row[metric.name] = float(metric.statistic(values))
        row[f"{metric.name}_low"], row[f"{metric.name}_high"] = map(float, np.quantile(drawn, INTERVAL))
    return row


def metric_values(scores: pl.DataFrame, metric: Metric) -> FloatArray:
    """What a metric is a statistic of: of all sources, or of those with a posterior."""
    rows = scores if metric.of_all else scores.filter(pl.col("usable") > 0.0)
    return rows[metric.column].to_numpy()


def resamples(n: int, n_resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Blocks of (resample, n) indices with replacement, the same for the same arguments."""
    rng = np.random.default_rng([seed, n])
    height = max(1, _CHUNK_VALUES // max(n, 1))
    for start in range(0, n_resamples, height):
        yield rng.integers(0, n, size=(min(height, n_resamples - start), n))


def values_of(table: pl.DataFrame) -> Mapping[str, float]:
    """The metrics of the row "all" that have a value."""
    row = table.row(0, named=True)
    return {name: row[name] for name in METRIC_NAMES if row[name] is not None}
