"""Where p(z) is calibrated and where not: PIT before and after de-biasing, by property of the source, and the anatomy
of outliers.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.paper.sample_scores import FIDUCIAL, LABELS, of_methods
from paeplatform.paper.table_rows import Resampling, named, present, small_table, statistics_of
from paeplatform.scores.bootstrap import fraction_error
from paeplatform.scores.calibration import pit_from_quantiles
from paeplatform.scores.metrics import OUTLIER_ERROR, OUTLIER_SIGMA, PRECISION_BINS
from paeplatform.scores.statistics import bins_of

PROPERTY_BINS: dict[str, tuple[float, ...]] = {
    "mag_z": (-np.inf, 20.0, 21.0, 21.5, 22.0, np.inf),
    "z_true": (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, np.inf),
    "snr": (-np.inf, 10.0, 20.0, 40.0, 80.0, np.inf),
}
N_TEMPLATES = 12  # shown, those with most outliers


def debiased_pit(rows: pl.DataFrame, bias: float | None = None) -> np.ndarray:
    """PIT after the mean bias of a sample is taken out of its p(z) (section VI.4.1).

    With b the mean of (z_hat - z_true)/(1 + z_true), each p(z) is moved by 1 + z -> (1 + z)/(1 + b). Its CDF at
    z_true is then the old one's at z_true + b (1 + z_true), which is how it is read.

    Args:
        rows: of a score table, the sample.
        bias: b; None takes that of the rows.

    Returns:
        Shape (source,).
    """
    if not rows.height:
        return np.empty(0)
    z_true = rows["z_true"].to_numpy()
    b = np.mean(rows["error_true"].to_numpy()) if bias is None else bias
    moved = z_true + b * (1.0 + z_true)
    return pit_from_quantiles(moved, rows["quantiles"].to_numpy(), QUANTILE_LEVELS)


def pit_table(scores: pl.LazyFrame, resampling: Resampling) -> pl.DataFrame:
    """PIT's Kolmogorov-Smirnov distance and coverage by method and bin of precision, before and after
    de-biasing (Fig. 15, lower rows).

    The bias taken out is the bin's own; that it was measured on the same sources is not in the error.

    Returns:
        method, label, bin; n; mean_bias, coverage_68, coverage_95, pit_ks, pit_ks_debiased, z_score_median,
        z_score_std with errors. Bins are disjoint, in the method's own sigma_z/(1+z).
    """
    names = (
        "mean_bias",
        "coverage_68",
        "coverage_95",
        "pit_ks",
        "pit_ks_debiased",
        "z_score_median",
        "z_score_std",
    )
    rows = []
    for method in present(scores, *LABELS):
        bins = bins_of("width", PRECISION_BINS, "sigma_z/(1+z)") | {"all": pl.lit(True)}
        for name, chosen in bins.items():
            here = of_methods(scores, method).filter(chosen & (pl.col("usable") > 0.5)).collect()
            here = here.with_columns(pl.Series("pit_debiased", debiased_pit(here), dtype=pl.Float64))
            found = statistics_of(here.lazy(), {name: pl.lit(True)}, names, resampling)[0]
            rows.append(named(method) | {"bin": name} | found)
    return small_table(rows)


def calibration_table(scores: pl.LazyFrame, resampling: Resampling) -> pl.DataFrame:
    """Errors and calibration by magnitude, redshift, signal-to-noise, type and, where the training left templates out,
    by whether it had the source's, for PAE, TF and SBI.

    Returns:
        method, label, property, value (the bin); n; mean_bias, nmad_paper, eta_3sigma, eta_015, coverage_68,
        coverage_95, pit_ks, crps with errors. Bins that hold no source of the sample are left out.
    """
    names = (
        "mean_bias",
        "nmad_paper",
        "eta_3sigma",
        "eta_015",
        "coverage_68",
        "coverage_95",
        "pit_ks",
        "crps",
    )
    types = scores.select(pl.col("galaxy_type").unique().sort()).collect()["galaxy_type"].to_list()
    selections = _by_property()
    selections |= {("galaxy_type", str(kind)): pl.col("galaxy_type") == kind for kind in types}
    selections |= _in_training(scores)
    rows = []
    for method in present(scores, FIDUCIAL, "tf", "sbi"):
        chosen = {f"{column}|{name}": where for (column, name), where in selections.items()}
        found = statistics_of(of_methods(scores, method), chosen, names, resampling)
        for (column, name), row in zip(selections, found, strict=True):
            if row["n"]:
                rows.append(named(method) | {"property": column, "value": name} | row)
    return small_table(rows)


def outlier_table(scores: pl.LazyFrame, resampling: Resampling) -> pl.DataFrame:
    """Which sources are outliers: |z_hat - z_true| > 3 sigma or > 0.15 (1 + z_true), by template, redshift and more.

    Returns:
        method, label, property, value; n, n_outliers (either kind), rate with its error (binomial; Jeffreys where
        none or all are), excess (rate over the method's own overall rate), and rate_3sigma, rate_015 of each kind. Of
        the templates the `N_TEMPLATES` with most outliers are listed.
    """
    far = pl.col("z_score").abs() > OUTLIER_SIGMA
    wide = pl.col("error_true").abs() > OUTLIER_ERROR
    rows = []
    for method in present(scores, FIDUCIAL, "tf", "sbi"):
        good = of_methods(scores, method).filter(pl.col("usable") > 0.5)
        counted = [
            pl.len().alias("n"),
            (far | wide).sum().alias("n_outliers"),
            far.mean().alias("rate_3sigma"),
            wide.mean().alias("rate_015"),
        ]
        whole = good.select(*counted).collect().row(0, named=True)
        overall = whole["n_outliers"] / whole["n"] if whole["n"] else 0.0
        groups = [("all", "all", whole)] if whole["n"] else []
        for (column, name), chosen in (_by_property() | _in_training(scores)).items():
            groups.append((column, name, good.filter(chosen).select(*counted).collect().row(0, named=True)))
        for column in ("galaxy_type", "template"):
            found = good.group_by(column).agg(*counted).sort("n_outliers", column, descending=[True, False])
            kept = found.head(N_TEMPLATES) if column == "template" else found
            groups += [(column, str(row[column]), row) for row in kept.collect().iter_rows(named=True)]
        for column, name, row in groups:
            if row["n"]:
                rate = row["n_outliers"] / row["n"]
                spread = np.sqrt(rate * (1 - rate) / row["n"])
                rows.append(
                    named(method)
                    | {"property": column, "value": name, "n": row["n"], "n_outliers": row["n_outliers"]}
                    | {"rate": rate, "rate_err": float(spread) or fraction_error(rate, row["n"])}
                    | {"excess": rate / overall if overall else None}
                    | {key: row[key] for key in ("rate_3sigma", "rate_015")}
                )
    return small_table(rows)


def _by_property() -> dict[tuple[str, str], pl.Expr]:
    """The bins of `PROPERTY_BINS`, by property and name."""
    return {
        (column, name): chosen
        for column, edges in PROPERTY_BINS.items()
        for name, chosen in bins_of(column, edges).items()
    }


def _in_training(scores: pl.LazyFrame) -> dict[tuple[str, str], pl.Expr]:
    """Sources of templates that the PAE's training had or had not; nothing when it had all."""
    if "in_training" not in scores.collect_schema().names():
        return {}
    if scores.select(pl.col("in_training").all()).collect().item():
        return {}
    seen = pl.col("in_training")
    return {("in training", "template seen"): seen, ("in training", "template left out"): ~seen}
