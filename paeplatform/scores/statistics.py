"""Metrics of many sources by selection, with their bootstrap errors or intervals."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from paeplatform.errors import InputError
from paeplatform.scores import bootstrap
from paeplatform.scores.bootstrap import bootstrap_error, resampled
from paeplatform.scores.metrics import (
    CALIBRATION,
    GATE_METRICS,
    METRICS,
    POINT,
    PROPER,
    RELEASE_METRICS,
    require_columns,
)
from paeplatform.scores.scorecard import metric_values, source_columns

INTERVAL = (0.025, 0.975)  # of the resamples: what `metric_intervals` gives as low and high


def metric_table(
    z_hat: ArrayLike,
    sigma_z: ArrayLike,
    z_true: ArrayLike,
    cuts: Sequence[float],
    n_bootstrap: int = 200,
    seed: int = 0,
    include_all: bool = True,
) -> pl.DataFrame:
    """The metric table of a release: one row per selection sigma_z / (1 + z_hat) < cut (sections VI.1-VI.2).

    Args:
        z_hat: estimates, shape (source,); a missing one is NaN.
        sigma_z: their quoted standard deviations, shape (source,), in redshift.
        z_true: true redshifts, shape (source,).
        cuts: upper limits of sigma_z / (1 + z_hat), each positive.
        n_bootstrap: resamples for the error columns; under 2 leaves them null.
        seed: of the resampling; a row depends on the seed and its own sources, not on the other cuts.
        include_all: append a row "all" (cut null) with every usable source.

    Returns:
        Columns `selection` (text), `cut`, `n` (sources in the row), `n_total` (sources given, unusable ones
        included), then each of `RELEASE_METRICS` followed by its bootstrap standard error `<name>_err`. A row with
        n = 0 has null metrics; errors are null for n < 2.

    Raises:
        InputError: inputs of unequal length, or a cut that is not positive and finite.
    """
    columns = source_columns(z_hat, sigma_z, z_true)
    bad = [cut for cut in cuts if not (np.isfinite(cut) and cut > 0.0)]
    if bad:
        raise InputError(f"cuts {bad} in sigma_z/(1+z) must be positive and finite")
    selections: list[float | None] = [float(cut) for cut in cuts]
    if include_all:
        selections.append(None)
    rows = []
    for cut in selections:
        inside = columns["width"] < (np.inf if cut is None else cut)  # NaN where there is no usable estimate
        n = int(inside.sum())
        chosen = {name: values[inside] for name, values in columns.items()}
        values = {
            name: METRICS[name].of(chosen[METRICS[name].column]) if n else None for name in RELEASE_METRICS
        }
        label = "all" if cut is None else f"sigma_z/(1+z) < {cut:g}"
        row = {"selection": label, "cut": cut, "n": n, "n_total": inside.size}
        rows.append(row | _with_errors(values, chosen, n, n_bootstrap, seed))
    schema = {"selection": pl.String(), "cut": pl.Float64(), "n": pl.Int64(), "n_total": pl.Int64()}
    return pl.DataFrame(rows, schema=schema | _number_columns(RELEASE_METRICS, "err"))


def selection_statistics(
    scores: pl.LazyFrame,
    selections: Mapping[str, pl.Expr],
    names: Sequence[str] = (*POINT, *CALIBRATION, *PROPER),
    *,
    n_bootstrap: int = 200,
    seed: int = 0,
) -> pl.DataFrame:
    """Metrics with bootstrap errors from a lazy table of scores, a row a selection.

    Values are Polars expressions over the lazy table, so that a catalogue of 1e7 rows is read once a selection, column
    by column and never as a whole. Errors are those of a random part of the selected sources.

    Args:
        scores: of `sample_scores.method_scores`, or a scan of many such files. Sources without a posterior
            (`usable` 0) count in n_total and nowhere else.
        selections: what each row is about, by its name; an expression over the columns of `scores`.
        names: of `METRICS`, of those over sources with a posterior.
        n_bootstrap: resamples; under 2 leaves the errors null.
        seed: of the resampling. A row depends on the seed, its name and its own sources alone.

    Returns:
        `selection`, `n` (sources with a posterior), `n_total` (those without included), then each metric and
        `<name>_err`. With n = 0 all are null, with n < 2 the errors are.

    Raises:
        InputError: an unknown metric, or a column is missing.
    """
    there = [name for name, metric in METRICS.items() if not metric.of_all]
    unknown = [name for name in names if name not in there]
    if unknown:
        raise InputError(f"unknown metrics {unknown}; there are {', '.join(there)}")
    columns = sorted({METRICS[name].column for name in names})
    require_columns(
        scores.collect_schema().to_frame(), ("object_id", "usable", *columns), "score table lacks"
    )
    queries: list[pl.LazyFrame] = []
    for chosen in selections.values():
        rows = scores.filter(chosen)
        good = rows.filter(pl.col("usable") > 0.5)
        queries += [
            rows.select(pl.len().alias("n_total")),
            good.select(
                pl.len().alias("n"),
                *(METRICS[name].expression(pl.col(METRICS[name].column)).alias(name) for name in names),
            ),
            good.select(pl.col("object_id").hash(seed).alias("_place"), *columns)
            .bottom_k(bootstrap.MAX_SOURCES, by="_place")
            .drop("_place"),
        ]
    found = pl.collect_all(queries, engine="streaming")
    table = []
    for position, name in enumerate(selections):
        total, values, sample = found[3 * position : 3 * position + 3]
        n = values["n"][0]
        row = {"selection": name, "n": n, "n_total": total["n_total"][0]}
        arrays = {key: sample[key].cast(pl.Float64).fill_null(np.nan).to_numpy() for key in columns}
        numbers = {key: values[key][0] if n else None for key in names}
        table.append(row | _with_errors(numbers, arrays, n, n_bootstrap, seed))
    schema = {"selection": pl.String(), "n": pl.Int64(), "n_total": pl.Int64()}
    return pl.DataFrame(table, schema=schema | _number_columns(names, "err"))


def metric_intervals(
    scores: pl.DataFrame, cuts: Sequence[float], *, n_resamples: int, seed: int = 0
) -> pl.DataFrame:
    """The gate's metrics with intervals, over all sources and by bin of the quoted width sigma_z / (1 + z_hat).

    Args:
        scores: of `score_sources`.
        cuts: edges of the bins, rising; the first bin begins at 0 and the last has no end.
        n_resamples: of sources, with replacement; at least 2.
        seed: of the resampling.

    Returns:
        A row "all", then one a bin: selection, low, high (null at an open end), n (sources with a posterior), and each
        of `GATE_METRICS` with `<name>_low` and `<name>_high`, the ends of the central 95 % of the resamples. "usable"
        and "trusted" stand for all sources and are null in bins, as a source without posterior is in none. Metrics of
        fewer than two sources are null.
    """
    edges = (0.0, *cuts, np.inf)
    bins = bins_of("width", edges, "sigma_z/(1+z)")
    rows = [{"selection": "all"} | _intervals(scores, GATE_METRICS, n_resamples, seed)]
    of_bins = [name for name in GATE_METRICS if not METRICS[name].of_all]
    for (name, inside), (low, high) in zip(bins.items(), itertools.pairwise(edges), strict=True):
        row = {"selection": name, "low": low, "high": high if np.isfinite(high) else None}
        here = scores.filter(inside & (pl.col("usable") > 0.0))
        rows.append(row | _intervals(here, of_bins, n_resamples, seed))
    schema = {"selection": pl.String(), "low": pl.Float64(), "high": pl.Float64(), "n": pl.Int64()}
    return pl.DataFrame(rows, schema=schema | _number_columns(GATE_METRICS, "low", "high"))


def values_of(intervals: pl.DataFrame) -> Mapping[str, float]:
    """The metrics of the row "all" of `metric_intervals` that have a value."""
    row = intervals.row(0, named=True)
    return {name: row[name] for name in GATE_METRICS if row[name] is not None}


def bins_of(column: str, edges: Sequence[float], label: str | None = None) -> dict[str, pl.Expr]:
    """Disjoint selections low <= column < high between neighbouring edges; infinite edges are left out of the name."""
    shown = label or column
    found = {}
    for low, high in itertools.pairwise(edges):
        if np.isinf(low):
            name = f"{shown} < {high:g}"
        elif np.isinf(high):
            name = f"{shown} >= {low:g}"
        else:
            name = f"{low:g} <= {shown} < {high:g}"
        found[name] = (pl.col(column) >= low) & (pl.col(column) < high)
    return found


def _with_errors(
    values: Mapping[str, float | None],
    sample: Mapping[str, NDArray[np.float64]],
    n: int,
    n_bootstrap: int,
    seed: int,
) -> dict[str, float | None]:
    """Each metric's value and `<name>_err`; the sample is a random part of n sources, or all of them."""
    row: dict[str, float | None] = {}
    for name, value in values.items():
        metric, error = METRICS[name], None
        value = None if value is None or not np.isfinite(value) else float(value)
        if value is not None:
            fraction = value if metric.fraction else None
            of_sample = sample[metric.column]
            error = bootstrap_error(
                of_sample, metric.statistic, n_bootstrap, seed, n_total=n, fraction=fraction
            )
        row |= {name: value, f"{name}_err": error}
    return row


def _intervals(scores: pl.DataFrame, names: Sequence[str], n_resamples: int, seed: int) -> dict[str, Any]:
    row: dict[str, Any] = {"n": int((scores["usable"] > 0.0).sum())}
    for name in names:
        metric = METRICS[name]
        values = metric_values(scores, metric)
        if len(values) >= 2:
            drawn = resampled(values, metric.statistic, n_resamples, seed)
            row[name] = float(metric.statistic(values))
            row[f"{name}_low"], row[f"{name}_high"] = map(float, np.quantile(drawn, INTERVAL))
    return row


def _number_columns(names: Sequence[str], *ends: str) -> dict[str, pl.DataType]:
    return {key: pl.Float64() for name in names for key in (name, *(f"{name}_{end}" for end in ends))}
