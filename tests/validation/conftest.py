"""A made-up catalogue of posteriors in the layout of `summarise`, joined with its truth."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

LEVELS = np.linspace(0.01, 0.99, 51)


def made_up_posteriors(n: int = 60, seed: int = 0) -> pl.DataFrame:
    """Gaussian posteriors; every tenth source is unconverged and flagged, one has no posterior. Every third came
    from chains, the others from importance sampling.
    """
    rng = np.random.default_rng(seed)
    z_true = rng.uniform(0.1, 2.0, n)
    sigma = 10 ** rng.uniform(-2.5, -0.7, n)
    z_hat = np.abs(z_true + sigma * rng.standard_normal(n))
    quantiles = (z_hat[:, None] + sigma[:, None] * stats.norm.ppf(LEVELS)).astype(np.float32)
    poor, chain = np.arange(n) % 10 == 3, np.arange(n) % 3 == 0
    rhat = np.where(poor, 1.3, 1.0 + rng.uniform(0, 0.05, n))
    khat = np.where(poor, 0.9, rng.uniform(-0.1, 0.6, n))
    status = np.where(poor, "unconverged", "converged").astype(object)
    path = np.where(chain, "mclmc", "proposal").astype(object)
    status[7:8], path[7:8] = "failed", "none"
    table = pl.DataFrame(
        {
            "object_id": np.arange(n, dtype=np.int64) + 1,
            "pae_z_mean": z_hat,
            "pae_z_median": z_hat,
            "pae_z_std": sigma,
            "z_true": z_true,
            "snr": rng.uniform(5, 100, n),
            "pae_rhat": pl.Series(np.where(chain, rhat, np.nan)).fill_nan(None),
            "pae_acl": pl.Series(np.where(chain, rng.gamma(4, 2, n), np.nan)).fill_nan(None),
            "pae_khat": pl.Series(np.where(chain, np.nan, khat)).fill_nan(None),
            "pae_ess": rng.gamma(4, 200, n),
            "pae_chi2": rng.chisquare(91, n),
            "pae_n_bands": np.full(n, 102, dtype=np.int16),
            "pae_path": pl.Series(path.tolist(), dtype=pl.String),
            "pae_status": pl.Series(status.tolist(), dtype=pl.String),
            "z_flags": np.where(poor, 1, 0).astype(np.int32),
            "pae_z_quantiles": pl.Series(quantiles, dtype=pl.Array(pl.Float32, 51)),
        }
    )
    failed = pl.col("pae_status") == "failed"  # `summarise` keeps the row of a failed source, with nulls
    names = [
        name
        for name in table.columns
        if name.startswith("pae_") and name not in ("pae_status", "pae_path", "pae_n_bands")
    ]
    return table.with_columns(
        *(pl.when(failed).then(None).otherwise(pl.col(name)).alias(name) for name in names),
        z_flags=pl.when(failed).then(64).otherwise(pl.col("z_flags")).cast(pl.Int32),
    )


@pytest.fixture
def posteriors() -> pl.DataFrame:
    """Sixty made-up sources."""
    return made_up_posteriors()


@pytest.fixture
def levels() -> np.ndarray:
    """Probabilities of their quantiles."""
    return LEVELS
