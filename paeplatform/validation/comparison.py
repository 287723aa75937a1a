"""PAE, SBI and template fitting on the same sources: the paper's Fig. 17 as a table (row V6)."""

from __future__ import annotations

import polars as pl

from paeplatform.config import Preset
from paeplatform.errors import InputError
from paeplatform.inference.pz_summary import QUANTILE_LEVELS
from paeplatform.validation.scorecard import METRIC_NAMES, metric_intervals, score_sources

METHODS = ("pae", "sbi", "tf")
BRIGHT_Z_AB = 20.0  # the paper's bright sample
_LEFT_OUT = ("usable", "trusted")  # all sources compared have posteriors


def compare_methods(catalog: pl.DataFrame, preset: Preset) -> pl.DataFrame:
    """Metrics with 95 % bootstrap intervals by method, for bright sources and for all.

    Only sources that every method has a p(z) for count, so that no method gains by answering less.

    Args:
        catalog: rows of `redshift_catalog` with z_true and mag_z (`evaluate.join_truth`).
        preset: uses the prior's limits, the seed, and validation.n_bootstrap.

    Returns:
        method, selection, n, then the metrics of `scorecard.METRICS` with `<name>_low` and `<name>_high`; those of
        fewer than two sources are null. Rows by selection, then method.

    Raises:
        InputError: a column is missing.
    """
    missing = [
        name for name in ("mag_z", *(f"{method}_z_mean" for method in METHODS)) if name not in catalog.columns
    ]
    if missing:
        raise InputError(f"catalogue with truth lacks columns {missing}")
    known = catalog.filter(pl.all_horizontal(pl.col(f"{method}_z_mean").is_not_null() for method in METHODS))
    selections = {
        f"zAB < {BRIGHT_Z_AB:g}": pl.col("mag_z") < BRIGHT_Z_AB,
        "all": pl.lit(True),
    }
    rows = []
    for name, chosen in selections.items():
        for method in METHODS:
            sources = known.filter(chosen)
            scores = score_sources(
                sources,
                QUANTILE_LEVELS.tolist(),
                prefix=method,
                z_range=(preset.prior.z_min, preset.prior.z_max),
            )
            whole = metric_intervals(
                scores, (), n_resamples=max(preset.validation.n_bootstrap, 2), seed=preset.seed
            ).row(0, named=True)
            rows.append({**whole, "method": method, "selection": name})
    numbers = [
        key for name in METRIC_NAMES if name not in _LEFT_OUT for key in (name, f"{name}_low", f"{name}_high")
    ]
    schema = {"method": pl.String(), "selection": pl.String(), "n": pl.Int64()}
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(numbers, pl.Float64())).select(
        *(pl.col(name).cast(kind) for name, kind in schema.items()), *numbers
    )
