"""Statistics of many sources and selections from a lazy table of scores, each with a bootstrap error (rows V1, V2).

A score table has a row a source (and method) with what each metric is a statistic of (`sample_scores`). Values are
Polars expressions over the lazy table, so that a catalogue of 1e7 rows is read once a selection, column by column
and never as a whole. Errors come from resamples of at most `BOOTSTRAP_MAX_SOURCES` of the selected sources: every
statistic here converges as n^-1/2, so that the spread at m sources times sqrt(m/n) is the error at n.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from paeplatform.errors import InputError
from paeplatform.validation.metrics import OUTLIER_THRESHOLD, PAPER_NMAD_FACTOR, USUAL_NMAD_FACTOR

FloatArray = NDArray[np.float64]

BOOTSTRAP_MAX_SOURCES = 5_000
_CHUNK_VALUES = 2_000_000  # float64 values per resampled block: 16 MB


@dataclass(frozen=True)
class Statistic:
    """One number about a selection of sources.

    Attributes:
        name: column of the result; its error is `<name>_err`.
        column: of the score table.
        expression: the statistic of that column.
        resampled: the same along the last axis of an array.
        fraction: whether it is a share of the sources; one of 0 or 1 has its Jeffreys error.
    """

    name: str
    column: str
    expression: Callable[[pl.Expr], pl.Expr]
    resampled: Callable[[FloatArray], FloatArray]
    fraction: bool = False


def _share(name: str, column: str, holds: Callable, *, fraction: bool = True) -> Statistic:
    return Statistic(
        name,
        column,
        lambda e: holds(e).mean(),
        lambda values: np.mean(holds(values), axis=-1),
        fraction,
    )


def _mean(name: str, column: str) -> Statistic:
    return Statistic(name, column, lambda e: e.mean(), lambda values: np.mean(values, axis=-1))


def _median(name: str, column: str) -> Statistic:
    return Statistic(name, column, lambda e: e.median(), lambda values: np.median(values, axis=-1))


def _mad(values: FloatArray) -> FloatArray:
    centre = np.median(values, axis=-1, keepdims=True)
    return USUAL_NMAD_FACTOR * np.median(np.abs(values - centre), axis=-1)


def _ks_expression(pit: pl.Expr) -> pl.Expr:
    ordered, n = pit.sort(), pit.len()
    rank = pl.int_range(1, n + 1).cast(pl.Float64)
    return pl.max_horizontal((rank / n - ordered).max(), (ordered - (rank - 1.0) / n).max())


def _ks(pit: FloatArray) -> FloatArray:
    values, n = np.sort(pit, axis=-1), pit.shape[-1]
    grid = np.arange(n + 1) / n
    return np.maximum((grid[1:] - values).max(axis=-1), (values - grid[:-1]).max(axis=-1))


STATISTICS: dict[str, Statistic] = {
    statistic.name: statistic
    for statistic in (
        _mean("mean_bias", "error_true"),
        _median("median_sigma", "width"),
        Statistic(
            "nmad_paper",
            "error_hat",
            lambda e: PAPER_NMAD_FACTOR * e.abs().median(),
            lambda values: PAPER_NMAD_FACTOR * np.median(np.abs(values), axis=-1),
        ),
        Statistic(
            "nmad_usual",
            "error_true",
            lambda e: USUAL_NMAD_FACTOR * (e - e.median()).abs().median(),
            _mad,
        ),
        _share("eta_3sigma", "z_score", lambda z: abs(z) > 3.0),
        _share("eta_015", "error_true", lambda e: abs(e) > OUTLIER_THRESHOLD),
        _median("z_score_median", "z_score"),
        Statistic("z_score_std", "z_score", lambda e: e.std(ddof=0), lambda values: np.std(values, axis=-1)),
        _share("coverage_68", "pit", lambda p: abs(p - 0.5) <= 0.34),
        _share("coverage_95", "pit", lambda p: abs(p - 0.5) <= 0.475),
        Statistic("pit_ks", "pit", _ks_expression, _ks),
        Statistic("pit_ks_debiased", "pit_debiased", _ks_expression, _ks),
        _mean("crps", "crps"),
        _mean("log_score", "log_score"),
        _mean("cde_loss", "cde_loss"),
        _median("chi2_reduced_median", "chi2_reduced"),
        _share("f_trusted", "trusted", lambda t: t > 0.5),
    )
}
POINT = ("mean_bias", "median_sigma", "nmad_paper", "nmad_usual", "eta_3sigma", "eta_015")
CALIBRATION = ("z_score_median", "z_score_std", "coverage_68", "coverage_95", "pit_ks")
PROPER = ("crps", "log_score", "cde_loss")


def selection_statistics(
    scores: pl.LazyFrame,
    selections: Mapping[str, pl.Expr],
    names: Sequence[str] = (*POINT, *CALIBRATION, *PROPER),
    *,
    n_bootstrap: int = 200,
    seed: int = 0,
) -> pl.DataFrame:
    """Statistics with bootstrap errors, a row a selection.

    Args:
        scores: of `sample_scores.method_scores`, or a scan of many such files. Sources without a posterior
            (`usable` 0) count in n_total and nowhere else.
        selections: what each row is about, by its name; an expression over the columns of `scores`.
        names: of `STATISTICS`.
        n_bootstrap: resamples; under 2 leaves the errors null.
        seed: of the resampling. A row depends on the seed, its name and its own sources alone.

    Returns:
        `selection`, `n` (sources with a posterior), `n_total` (those without included), then each statistic and
        `<name>_err`. With n = 0 all are null, with n < 2 the errors are.

    Raises:
        InputError: an unknown statistic, or a column is missing.
    """
    unknown = [name for name in names if name not in STATISTICS]
    if unknown:
        raise InputError(f"unknown statistics {unknown}; there are {', '.join(STATISTICS)}")
    wanted = [STATISTICS[name] for name in names]
    columns = sorted({statistic.column for statistic in wanted})
    there = scores.collect_schema().names()
    missing = [name for name in ("object_id", "usable", *columns) if name not in there]
    if missing:
        raise InputError(f"score table lacks columns {missing}")
    queries: list[pl.LazyFrame] = []
    for chosen in selections.values():
        rows = scores.filter(chosen)
        good = rows.filter(pl.col("usable") > 0.5)
        queries += [
            rows.select(pl.len().alias("n_total")),
            good.select(
                pl.len().alias("n"),
                *(
                    statistic.expression(pl.col(statistic.column)).alias(statistic.name)
                    for statistic in wanted
                ),
            ),
            good.select(pl.col("object_id").hash(seed).alias("_place"), *columns)
            .bottom_k(BOOTSTRAP_MAX_SOURCES, by="_place")
            .drop("_place"),
        ]
    found = pl.collect_all(queries, engine="streaming")
    table = []
    for position, name in enumerate(selections):
        total, values, sample = found[3 * position : 3 * position + 3]
        row = {"selection": name, "n": values["n"][0], "n_total": total["n_total"][0]}
        numbers: dict[str, float | None] = dict.fromkeys(names)
        if row["n"]:
            numbers = {key: _plain(values[key][0]) for key in names}
        errors = _errors(sample, wanted, numbers, row["n"], n_bootstrap, seed)
        table.append(row | {key: v for n in names for key, v in ((n, numbers[n]), (f"{n}_err", errors[n]))})
    schema: dict[str, pl.DataType] = {"selection": pl.String(), "n": pl.Int64(), "n_total": pl.Int64()}
    schema |= {key: pl.Float64() for name in names for key in (name, f"{name}_err")}
    return pl.DataFrame(table, schema=schema)


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


def fraction_error(fraction: float, n: int) -> float:
    """Standard deviation of the Jeffreys posterior of a fraction, for where none or all count."""
    a, b = fraction * n + 0.5, (1.0 - fraction) * n + 0.5
    return float(np.sqrt(a * b / ((a + b) ** 2 * (a + b + 1.0))))


def bootstrap_error(
    values: FloatArray,
    statistic: Callable[[FloatArray], FloatArray],
    n_bootstrap: int,
    seed: int,
) -> float | None:
    """Standard deviation of a statistic over resamples with replacement of the columns of `values`.

    Args:
        values: shape (..., source); sources are drawn along the last axis, all leading rows together.
        statistic: of (..., resample, source), along the last axis.
        n_bootstrap: resamples.
        seed: of them.

    Returns:
        None with fewer than two sources or resamples, or when a resample's statistic is not finite throughout.
    """
    n = values.shape[-1]
    if n < 2 or n_bootstrap < 2:
        return None
    m = min(n, BOOTSTRAP_MAX_SOURCES)
    drawn = np.concatenate([statistic(values[..., index]) for index in _resamples(n, m, n_bootstrap, seed)])
    drawn = drawn[np.isfinite(drawn)]
    return float(np.std(drawn, ddof=1) * np.sqrt(m / n)) if len(drawn) > 1 else None


def _errors(
    sample: pl.DataFrame,
    wanted: Sequence[Statistic],
    values: Mapping[str, float | None],
    n: int,
    n_bootstrap: int,
    seed: int,
) -> dict[str, float | None]:
    errors: dict[str, float | None] = dict.fromkeys(statistic.name for statistic in wanted)
    if n < 2 or n_bootstrap < 2:
        return errors
    arrays = {name: sample[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in sample.columns}
    m = sample.height
    blocks: dict[str, list[FloatArray]] = {statistic.name: [] for statistic in wanted}
    for index in _resamples(m, m, n_bootstrap, seed):
        drawn = {name: array[index] for name, array in arrays.items()}
        for statistic in wanted:
            blocks[statistic.name].append(statistic.resampled(drawn[statistic.column]))
    for statistic in wanted:
        value = values[statistic.name]
        if value is None:
            continue
        spread = float(np.std(np.concatenate(blocks[statistic.name]), ddof=1))
        if statistic.fraction and spread == 0.0:  # none or all of the resampled sources count
            errors[statistic.name] = fraction_error(value, n)
        elif np.isfinite(spread):
            errors[statistic.name] = spread * float(np.sqrt(m / n))
    return errors


def _resamples(n: int, m: int, n_bootstrap: int, seed: int) -> Iterator[NDArray[np.int64]]:
    rng = np.random.default_rng([seed, n])
    height = max(1, _CHUNK_VALUES // max(m, 1))
    for start in range(0, n_bootstrap, height):
        yield rng.integers(0, n, size=(min(height, n_bootstrap - start), m))


def _plain(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
