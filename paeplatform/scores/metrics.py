"""The metrics of photometric redshifts: each is defined here once, and every table, rule, target and figure reads it.

Symbols: ẑ is the estimate, σ its quoted standard deviation, z the true redshift. The paper (section VI.1) divides the
absolute error by 1 + ẑ in its NMAD and by 1 + z in its mean bias. The usual NMAD is 1.4826 times the median absolute
deviation of (ẑ − z)/(1 + z) about its own median. The two differ by about 6 % for unbiased estimates and by more for
biased ones, so every table states both.

A metric is a statistic of one number per source. `scorecard.source_columns` computes these numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from paeplatform.errors import InputError

FloatArray = NDArray[np.float64]
Statistic = Callable[[FloatArray], FloatArray]  # along the last axis
Expression = Callable[[pl.Expr], pl.Expr]
Pair = tuple[Statistic, Expression]

PAPER_NMAD_FACTOR = 1.4  # section VI.1
USUAL_NMAD_FACTOR = 1.4826  # 1 / Phi^-1(3/4): the MAD of a Gaussian in units of its standard deviation
OUTLIER_SIGMA = 3.0  # |ẑ − z| / σ of an outlier, section VI.1
OUTLIER_ERROR = 0.15  # |ẑ − z| / (1 + z) of a catastrophic outlier
SIGMA_CUTS = (0.01, 0.03, 0.1, 0.2)  # of σ/(1 + ẑ), Fig. 11
PRECISION_BINS = (0.0, 0.01, 0.05, 0.2)  # edges in σ/(1 + ẑ), section VI.3
NO_NUMBER = "–"  # in the place of a value
THROUGHPUT = "galaxies_per_hour"  # the gate judges it too; it is measured, and no statistic of the sources


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: in tables, rules and tags; its bootstrap error is `<name>_err`.
        heading: at the head of a column of the report.
        definition: what it is.
        origin: section of the paper, or whose convention it is.
        column: the number of each source that it is a statistic of.
        statistic: of an array, along the last axis.
        expression: the same of a Polars column.
        ideal: the value that no model betters: 0, 1, a coverage's level, or infinity with the sign of the better side.
        decimals: shown in reports and in the terminal (of per cent for a fraction).
        fraction: whether it is a share of the sources; it is shown in per cent, and a share of exactly 0 or 1 has the
            standard deviation of its Jeffreys posterior as error.
        of_all: over all sources; otherwise over those with a posterior.
    """

    name: str
    heading: str
    definition: str
    origin: str
    column: str
    statistic: Statistic
    expression: Expression
    ideal: float
    decimals: int = 4
    fraction: bool = False
    of_all: bool = False

    def loss(self, value: Any) -> Any:
        """The distance from the ideal: lower is better for every metric."""
        if np.isinf(self.ideal):
            return -np.sign(self.ideal) * np.asarray(value)
        return np.abs(np.asarray(value) - self.ideal)

    def of(self, values: ArrayLike) -> float:
        """The metric of the finite values of its column, shape (source,); NaN when there is none."""
        values = np.asarray(values, dtype=np.float64)
        finite = values[np.isfinite(values)]
        return float(self.statistic(finite)) if finite.size else float("nan")

    def text(self, value: float | None) -> str:
        """A value with the metric's decimals, in per cent for a fraction; a dash where there is none."""
        if value is None or not np.isfinite(value):
            return NO_NUMBER
        return f"{value * (100.0 if self.fraction else 1.0):.{self.decimals}f}"

    @property
    def title(self) -> str:
        """The heading with its unit."""
        return f"{self.heading} [%]" if self.fraction else self.heading


def require_columns(table: pl.DataFrame, names: Iterable[str], what: str) -> None:
    """Checks that a table has the columns that a metric or a page needs.

    Args:
        table: any.
        names: of the columns.
        what: the beginning of the message, as "score table lacks".

    Raises:
        InputError: some are missing; the message names them, and the columns that are there.
    """
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise InputError(f"{what} columns {missing}; it has {table.columns}")


def pearson(values: FloatArray) -> FloatArray:
    """Pearson's correlation of values[0] and values[1] along the last axis; NaN where one of them is constant."""
    centred = values - values.mean(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (centred[0] * centred[1]).sum(axis=-1) / np.sqrt(
            (centred[0] ** 2).sum(axis=-1) * (centred[1] ** 2).sum(axis=-1)
        )


def ks_distance(values: FloatArray) -> FloatArray:
    """Kolmogorov-Smirnov distance to U(0, 1) of the values along the last axis."""
    ordered, n = np.sort(values, axis=-1), values.shape[-1]
    grid = np.arange(n + 1) / n
    return np.maximum((grid[1:] - ordered).max(axis=-1), (ordered - grid[:-1]).max(axis=-1))


def _ks_expression(values: pl.Expr) -> pl.Expr:
    ordered, n = values.sort(), values.len()
    rank = pl.int_range(1, n + 1).cast(pl.Float64)
    return pl.max_horizontal((rank / n - ordered).max(), (ordered - (rank - 1.0) / n).max())


def _deviation(values: FloatArray) -> FloatArray:
    centre = np.median(values, axis=-1, keepdims=True)
    return USUAL_NMAD_FACTOR * np.median(np.abs(values - centre), axis=-1)


def _share(holds: Callable[[Any], Any]) -> Pair:
    return lambda values: np.mean(holds(values), axis=-1), lambda e: holds(e).mean()


def _within(level: float) -> Pair:
    return _share(lambda pit: abs(pit - 0.5) <= 0.5 * level)


_MEAN: Pair = (lambda values: np.mean(values, axis=-1), lambda e: e.mean())
_MEDIAN: Pair = (lambda values: np.median(values, axis=-1), lambda e: e.median())
_STD: Pair = (lambda values: np.std(values, axis=-1), lambda e: e.std(ddof=0))
_KS: Pair = (ks_distance, _ks_expression)
_ABSOLUTE: Pair = (  # the median of |e|, scaled
    lambda values: PAPER_NMAD_FACTOR * np.median(np.abs(values), axis=-1),
    lambda e: PAPER_NMAD_FACTOR * e.abs().median(),
)
_DEVIATION: Pair = (_deviation, lambda e: USUAL_NMAD_FACTOR * (e - e.median()).abs().median())

# fmt: off
_ALL = (
    Metric("mean_bias", "mean bias", "mean of (ẑ − z)/(1 + z)", "section VI.1",
           "error_true", *_MEAN, ideal=0.0),
    Metric("nmad_paper", "NMAD (paper)", f"{PAPER_NMAD_FACTOR} × median |ẑ − z|/(1 + ẑ)", "section VI.1",
           "error_hat", *_ABSOLUTE, ideal=0.0),
    Metric("nmad_usual", "NMAD (usual)",
           f"{USUAL_NMAD_FACTOR} × median absolute deviation of (ẑ − z)/(1 + z) about its median", "usual in the field",
           "error_true", *_DEVIATION, ideal=0.0),
    Metric("eta_3sigma", "η₃σ", f"fraction with |ẑ − z|/σ > {OUTLIER_SIGMA:g}", "section VI.1",
           "z_score", *_share(lambda z: abs(z) > OUTLIER_SIGMA), ideal=0.0, decimals=1, fraction=True),
    Metric("eta_015", "η₀.₁₅", f"fraction with |ẑ − z|/(1 + z) > {OUTLIER_ERROR:g}", "usual in the field",
           "error_true", *_share(lambda e: abs(e) > OUTLIER_ERROR), ideal=0.0, decimals=1, fraction=True),
    Metric("z_score_median", "median Z", "median of (ẑ − z)/σ", "section VI.1",
           "z_score", *_MEDIAN, ideal=0.0, decimals=2),
    Metric("z_score_std", "std Z", "standard deviation of (ẑ − z)/σ", "section VI.1",
           "z_score", *_STD, ideal=1.0, decimals=2),
    Metric("median_sigma", "median σ/(1+z)", "median of the quoted uncertainty over 1 + ẑ", "section VI.1",
           "width", *_MEDIAN, ideal=0.0),
    Metric("coverage_50", "in 50 %", "fraction of truths in the central 50 % of p(z), by the PIT", "usual in the field",
           "pit", *_within(0.50), ideal=0.50, decimals=1, fraction=True),
    Metric("coverage_68", "in 68 %", "fraction of truths in the central 68 % of p(z), by the PIT", "usual in the field",
           "pit", *_within(0.68), ideal=0.68, decimals=1, fraction=True),
    Metric("coverage_95", "in 95 %", "fraction of truths in the central 95 % of p(z), by the PIT", "usual in the field",
           "pit", *_within(0.95), ideal=0.95, decimals=1, fraction=True),
    Metric("coverage_1sigma", "in 68 % interval", "fraction of truths in the catalogue's interval of 68.27 %",
           "section V.3", "inside_1sigma", *_MEAN, ideal=0.6827, decimals=1, fraction=True),
    Metric("coverage_2sigma", "in 95 % interval", "fraction of truths in the catalogue's interval of 95.45 %",
           "section V.3", "inside_2sigma", *_MEAN, ideal=0.9545, decimals=1, fraction=True),
    Metric("pit_ks", "PIT KS", "Kolmogorov-Smirnov distance of the PIT to the uniform distribution", "section VI.1",
           "pit", *_KS, ideal=0.0, decimals=3),
    Metric("pit_ks_debiased", "KS, de-biased", "the same after the sample's mean bias is taken out of its p(z)",
           "section VI.4.1", "pit_debiased", *_KS, ideal=0.0, decimals=3),
    Metric("crps", "CRPS", "mean continuous ranked probability score, in redshift", "Gneiting & Raftery 2007",
           "crps", *_MEAN, ideal=0.0),
    Metric("log_score", "log score", "mean ln p(z), with a weak uniform density mixed in", "Gneiting & Raftery 2007",
           "log_score", *_MEAN, ideal=np.inf),
    Metric("cde_loss", "CDE loss", "mean of the integral of p² minus 2 p(z), on cells of 0.01", "Izbicki & Lee 2017",
           "cde_loss", *_MEAN, ideal=-np.inf),
    Metric("usable", "usable", "fraction of all sources with a posterior", "of the platform",
           "usable", *_MEAN, ideal=1.0, decimals=1, fraction=True, of_all=True),
    Metric("trusted", "trusted", "fraction of all sources with status converged", "Table 2",
           "trusted", *_MEAN, ideal=1.0, decimals=1, fraction=True, of_all=True),
    Metric("f_trusted", "trusted", "fraction of the sources with a posterior that have status converged", "Table 2",
           "trusted", *_MEAN, ideal=1.0, decimals=1, fraction=True),
)
# fmt: on
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}

POINT = ("mean_bias", "median_sigma", "nmad_paper", "nmad_usual", "eta_3sigma", "eta_015")
CALIBRATION = ("z_score_median", "z_score_std", "coverage_68", "coverage_95", "pit_ks")
PROPER = ("crps", "log_score", "cde_loss")
# The columns, in their order, of a release's metric table, of an evaluation for the gate, and of the stress test.
RELEASE_METRICS = (
    *("mean_bias", "nmad_paper", "nmad_usual", "eta_3sigma", "eta_015"),
    *("z_score_median", "z_score_std", "median_sigma"),
)
GATE_METRICS = (
    *("nmad_paper", "nmad_usual", "mean_bias", "eta_3sigma", "eta_015"),
    *("coverage_50", "coverage_68", "coverage_95", "pit_ks", "crps", "log_score", "usable", "trusted"),
)
STRESS_METRICS = (
    *("median_sigma", "nmad_paper", "mean_bias", "eta_3sigma"),
    *("coverage_1sigma", "coverage_2sigma", "pit_ks"),
)


def nmad_paper(z_hat: ArrayLike, z_true: ArrayLike) -> float:
    """The paper's NMAD of estimates without uncertainties, both of shape (source,); for benchmarks."""
    z_hat = np.asarray(z_hat, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return METRICS["nmad_paper"].of((z_hat - np.asarray(z_true, dtype=np.float64)) / (1.0 + z_hat))
