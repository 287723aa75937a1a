"""What missing bands cost, per fraction of them: redshift errors, widths and calibration (row I6, section V.3)."""

from __future__ import annotations

import numpy as np
import polars as pl

from paeplatform.errors import InputError
from paeplatform.inference.pz_summary import QUANTILE_LEVELS
from paeplatform.validation.calibration import ks_distance_to_uniform, posterior_pit
from paeplatform.validation.metrics import eta_3sigma, mean_bias, median_sigma, nmad_paper, usable

_BOUNDS = ("z_err68_low", "z_err68_high", "z_err95_low", "z_err95_high")


def stress_summary(table: pl.DataFrame, z_true: pl.DataFrame, prefix: str = "pae") -> pl.DataFrame:
    """One row per fraction of missing bands.

    Args:
        table: of `inference.missing_bands.stress_test`.
        z_true: columns object_id and z_true, a row for each source of the table.
        prefix: of the method, first part of the column names.

    Returns:
        fraction; n (sources with a posterior), n_failed; n_bands (median left); median_sigma of sigma_z/(1+z);
        nmad_paper, mean_bias, eta_3sigma as in `metrics`; coverage68 and coverage95, the fractions of sources whose
        central 68.27 % and 95.45 % intervals hold the truth; pit_ks, the PIT's Kolmogorov-Smirnov distance to the
        uniform distribution. Null where no source is left.

    Raises:
        InputError: a column is missing, or a source has no truth or more than one.
    """
    names = [f"{prefix}_{name}" for name in ("z_mean", "z_std", "z_quantiles", "n_bands", *_BOUNDS)]
    missing = [name for name in ("object_id", "fraction", *names) if name not in table.columns]
    if missing:
        raise InputError(f"stress test table lacks columns {missing}")
    if not {"object_id", "z_true"} <= set(z_true.columns):
        raise InputError(f"truth table lacks object_id or z_true; it has {z_true.columns}")
    if z_true["object_id"].is_duplicated().any():
        raise InputError("truth table has an object_id more than once")
    joined = table.join(
        z_true.select("object_id", "z_true"), on="object_id", how="left", maintain_order="left"
    )
    unknown = joined.filter(pl.col("z_true").is_null())["object_id"].to_list()
    if unknown:
        raise InputError(f"{len(unknown)} rows have no truth, the first is object_id {unknown[0]}")
    rows = [
        {"fraction": fraction} | _statistics(joined.filter(pl.col("fraction") == fraction), prefix)
        for fraction in joined["fraction"].unique().sort()
    ]
    numbers = pl.DataFrame(rows, infer_schema_length=None)
    return numbers.with_columns(pl.col(pl.Float64).fill_nan(None))


def _statistics(rows: pl.DataFrame, prefix: str) -> dict[str, float | int]:
    def column(name: str) -> np.ndarray:
        return rows[f"{prefix}_{name}"].cast(pl.Float64).to_numpy()

    z_true = rows["z_true"].cast(pl.Float64).to_numpy()
    z_hat, sigma = column("z_mean"), column("z_std")
    good = usable(z_hat, sigma, z_true)
    low68, high68, low95, high95 = (column(name)[good] for name in _BOUNDS)
    truth = z_true[good]
    pit = posterior_pit(rows, QUANTILE_LEVELS, prefix)
    bands = column("n_bands")

    def fraction_of(inside: np.ndarray) -> float:
        return float(inside.mean()) if inside.size else float("nan")

    return {
        "n": int(good.sum()),
        "n_failed": int((~good).sum()),
        "n_bands": float(np.median(bands)) if bands.size else float("nan"),
        "median_sigma": median_sigma(z_hat, sigma),
        "nmad_paper": nmad_paper(z_hat, z_true),
        "mean_bias": mean_bias(z_hat, z_true),
        "eta_3sigma": eta_3sigma(z_hat, sigma, z_true),
        "coverage68": fraction_of((low68 <= truth) & (truth <= high68)),
        "coverage95": fraction_of((low95 <= truth) & (truth <= high95)),
        "pit_ks": ks_distance_to_uniform(pit[good]),
    }
