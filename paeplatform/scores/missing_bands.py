"""What missing bands cost, per fraction of them: redshift errors, widths and calibration (section V.3)."""

from __future__ import annotations

import numpy as np
import polars as pl

from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.scores.metrics import METRICS, STRESS_METRICS, require_columns
from paeplatform.scores.scorecard import source_columns

_BOUNDS = {"inside_1sigma": "z_err68", "inside_2sigma": "z_err95"}


def stress_summary(table: pl.DataFrame) -> pl.DataFrame:
    """One row per fraction of missing bands.

    Args:
        table: of `inference.missing_bands.stress_test`, with z_true.

    Returns:
        fraction; n (sources with a posterior), n_failed; n_bands (median left); each of `STRESS_METRICS`, null where
        no source is left.

    Raises:
        InputError: a column is missing.
    """
    bounds = [f"{bound}_{end}" for bound in _BOUNDS.values() for end in ("low", "high")]
    names = [f"pae_{name}" for name in ("z_mean", "z_std", "z_quantiles", "n_bands", *bounds)]
    require_columns(table, ("fraction", "z_true", *names), "stress test table lacks")
    rows = [
        {"fraction": fraction} | _statistics(table.filter(pl.col("fraction") == fraction))
        for fraction in table["fraction"].unique().sort()
    ]
    return pl.DataFrame(rows, infer_schema_length=None).with_columns(pl.col(pl.Float64).fill_nan(None))


def _statistics(rows: pl.DataFrame) -> dict[str, float | int]:
    def column(name: str) -> np.ndarray:
        return rows[f"pae_{name}"].cast(pl.Float64).to_numpy()

    z_true = rows["z_true"].cast(pl.Float64).to_numpy()
    quantiles = rows["pae_z_quantiles"].to_numpy()  # null becomes a row of NaN
    columns = source_columns(column("z_mean"), column("z_std"), z_true, quantiles, QUANTILE_LEVELS)
    good = columns["usable"] > 0.0
    for name, bound in _BOUNDS.items():
        inside = (column(f"{bound}_low") <= z_true) & (z_true <= column(f"{bound}_high"))
        columns[name] = np.where(good, inside, np.nan)
    bands = column("n_bands")
    return {
        "n": int(good.sum()),
        "n_failed": int((~good).sum()),
        "n_bands": float(np.median(bands)) if bands.size else float("nan"),
        **{name: METRICS[name].of(columns[METRICS[name].column]) for name in STRESS_METRICS},
    }
