"""The stress test's summary: made-up posteriors of known calibration and width."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import norm

from paeplatform.errors import InputError
from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.scores.missing_bands import stress_summary


def made_up(fraction, sigma, z_true, overconfident=1.0, seed=0):
    """Normal posteriors of width sigma whose means scatter by `overconfident` times sigma."""
    rng = np.random.default_rng([seed, int(100 * fraction)])
    z = z_true + overconfident * sigma * rng.normal(size=len(z_true))
    quantiles = z[:, None] + sigma * norm.ppf(QUANTILE_LEVELS)
    half = {"68": norm.ppf(0.8413447) * sigma, "95": norm.ppf(0.9772499) * sigma}
    return pl.DataFrame(
        {
            "fraction": np.full(len(z), fraction),
            "object_id": np.arange(len(z)),
            "z_true": z_true,
            "pae_z_mean": z,
            "pae_z_std": np.full(len(z), sigma),
            "pae_n_bands": np.full(len(z), round(102 * (1 - fraction)), np.int16),
            "pae_z_quantiles": pl.Series(
                quantiles.tolist(), dtype=pl.Array(pl.Float64, len(QUANTILE_LEVELS))
            ),
        }
        | {f"pae_z_err{level}_low": z - h for level, h in half.items()}
        | {f"pae_z_err{level}_high": z + h for level, h in half.items()}
    )


def test_summary_tells_calibrated_from_overconfident_and_counts_failures():
    n = 4000
    z_true = np.random.default_rng(1).uniform(0.2, 1.0, n)
    table = pl.concat([made_up(0.0, 0.01, z_true), made_up(0.5, 0.02, z_true, overconfident=2.0)])
    failed = (pl.col("fraction") == 0.5) & (pl.col("object_id") < 100)
    columns = [name for name in table.columns if name.startswith("pae_z_")]
    table = table.with_columns(pl.when(~failed).then(pl.col(name)).alias(name) for name in columns)
    rows = stress_summary(table).to_dicts()
    assert [(row["fraction"], row["n"], row["n_failed"], row["n_bands"]) for row in rows] == [
        (0.0, n, 0, 102.0),
        (0.5, n - 100, 100, 51.0),
    ]
    noise = 4.0 * np.sqrt(0.25 / 3900)  # four binomial errors
    assert rows[0]["coverage_1sigma"] == pytest.approx(0.6827, abs=noise)
    assert rows[0]["coverage_2sigma"] == pytest.approx(0.9545, abs=noise)
    assert rows[1]["coverage_1sigma"] == pytest.approx(norm.cdf(0.5) - norm.cdf(-0.5), abs=noise)
    assert rows[1]["coverage_2sigma"] == pytest.approx(norm.cdf(1.0) - norm.cdf(-1.0), abs=noise)
    assert rows[0]["pit_ks"] < 2.0 / np.sqrt(n) < 0.1 < rows[1]["pit_ks"]
    assert rows[0]["eta_3sigma"] == pytest.approx(0.0027, abs=4.0 * np.sqrt(0.0027 / n))
    assert rows[1]["median_sigma"] > 1.9 * rows[0]["median_sigma"]
    assert abs(rows[0]["mean_bias"]) < 4.0 * 0.01 / np.sqrt(n)


def test_a_fraction_without_posteriors_gives_nulls():
    z_true = np.linspace(0.2, 1.0, 10)
    table = made_up(0.75, 0.02, z_true)
    columns = [name for name in table.columns if name.startswith("pae_z_")]
    table = table.with_columns(pl.lit(None, dtype=table.schema[name]).alias(name) for name in columns)
    row = stress_summary(table).row(0, named=True)
    assert row["n"] == 0 and row["n_failed"] == 10
    assert row["coverage_1sigma"] is None and row["median_sigma"] is None and row["pit_ks"] is None


def test_missing_columns_are_named():
    table = made_up(0.0, 0.02, np.linspace(0.2, 1.0, 10))
    for name in ("pae_z_std", "z_true"):
        with pytest.raises(InputError, match=name):
            stress_summary(table.drop(name))
