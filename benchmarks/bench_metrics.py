"""Times the validation tables on a score table of ten million rows: target, under a minute a table.

The rows are made up, in the layout of `sample_scores` without the quantiles, and scanned from Parquet, so that reading
is in the time. De-biasing reads quantiles and is timed on a tenth of the rows, with its own figure.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.timing import figure
from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.paper import calibration_tables
from paeplatform.paper import tables as paper_tables
from paeplatform.paper.table_rows import Resampling

N_ROWS = 10_000_000
N_QUANTILE_ROWS = 1_000_000
METHODS = ("tf", "nf_bpz", "nf_uniform", "sbi")
TARGET_S = 60.0
RESAMPLING = Resampling(200, 0)


def run(n_rows: int = N_ROWS, n_quantile_rows: int = N_QUANTILE_ROWS) -> list[dict[str, Any]]:
    """Times each table once, and the de-biased PIT on fewer rows."""
    tables: dict[str, Callable[[pl.LazyFrame, Resampling], pl.DataFrame]] = {
        "Table 1": paper_tables.prior_table,
        "recovery by cut": paper_tables.sigma_cut_table,
        "flags of section VI.3": paper_tables.flag_table,
        "error correlation": paper_tables.error_correlation,
        "methods (Fig. 17)": paper_tables.comparison_table,
        "calibration by property": calibration_tables.calibration_table,
        "outlier anatomy": calibration_tables.outlier_table,
    }
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        scores = _scan(Path(folder), n_rows, quantiles=False)
        once = scores.select(pl.sum("error_true", "error_hat", "z_score", "width", "pit", "crps", "usable"))
        read = _seconds(once.collect)  # the bound: reading the columns once
        for name, table in tables.items():
            took = _seconds(lambda table=table: table(scores, RESAMPLING))
            figures.append(figure(f"{name}, {n_rows:.0e} rows", took, "s", TARGET_S, read))
        scores = _scan(Path(folder), n_quantile_rows, quantiles=True)
        took = _seconds(lambda: calibration_tables.pit_table(scores, RESAMPLING))
        figures.append(figure(f"PIT with de-biasing, {n_quantile_rows:.0e} rows", took, "s", TARGET_S, None))
    return figures


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _scan(folder: Path, n_rows: int, *, quantiles: bool) -> pl.LazyFrame:
    """A made-up score table on disk, a file a method; every method has the same sources."""
    n = n_rows // len(METHODS)
    rng = np.random.default_rng(0)
    z_true = rng.gamma(3.0, 0.25, n)
    truth = {
        "object_id": np.arange(n),
        "z_true": z_true,
        "mag_z": 22.5 - rng.exponential(1.0, n),
        "snr": rng.lognormal(3.0, 0.8, n),
        "galaxy_type": rng.choice(["elliptical", "spiral", "starburst"], n),
        "template": rng.choice([f"template {k}" for k in range(160)], n),
    }
    paths = []
    for method in METHODS:
        sigma = (1.0 + z_true) * 10.0 ** rng.uniform(-2.5, -0.6, n)
        z_hat = np.abs(z_true + 1.1 * sigma * rng.standard_normal(n))
        columns = {
            "z_hat": z_hat,
            "sigma_z": sigma,
            "error_true": (z_hat - z_true) / (1.0 + z_true),
            "error_hat": (z_hat - z_true) / (1.0 + z_hat),
            "z_score": (z_hat - z_true) / sigma,
            "width": sigma / (1.0 + z_hat),
            "pit": rng.uniform(size=n),
            "crps": rng.gamma(2.0, 0.02, n),
            "log_score": rng.normal(1.0, 1.0, n),
            "cde_loss": rng.normal(-2.0, 1.0, n),
            "usable": np.ones(n),
            "trusted": np.ones(n),
            **{name: np.full(n, np.nan) for name in ("rhat", "acl", "ess")},
        }
        table = pl.DataFrame(truth | columns).with_columns(
            pl.lit(method).alias("method"), pl.lit(None, pl.Array(pl.Float32, 51)).alias("quantiles")
        )
        if quantiles:
            grid = z_hat[:, None] + sigma[:, None] * (QUANTILE_LEVELS - 0.5)[None, :]
            table = table.with_columns(
                pl.Series("quantiles", grid.astype(np.float32), dtype=pl.Array(pl.Float32, 51))
            )
        paths.append(folder / f"{method}-{n_rows}.parquet")
        table.write_parquet(paths[-1])
    return pl.concat([pl.scan_parquet(path, glob=False) for path in paths])
