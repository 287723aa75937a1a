"""Made-up posteriors of several methods on one sample, with known errors, as a score table."""

import numpy as np
import polars as pl
from scipy import stats

from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.paper.sample_scores import method_scores

N = 400
Z_RANGE = (0.003, 3.0)


def sample(n: int = N, seed: int = 0) -> pl.DataFrame:
    """Truth of `n` sources."""
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "object_id": np.arange(n) + 10,
            "z_true": rng.uniform(0.3, 1.8, n),
            "mag_z": rng.uniform(18.5, 22.5, n).astype(np.float32),
            "snr": rng.uniform(5, 120, n).astype(np.float32),
            "galaxy_type": rng.choice(["elliptical", "spiral"], n),
            "template": rng.choice(["t1", "t2", "t3"], n),
        }
    )


def posteriors(
    truth: pl.DataFrame,
    prefix: str,
    *,
    seed: int,
    bias: float = 0.0,
    stretch: float = 1.0,
    chains: bool = False,
) -> pl.DataFrame:
    """Gaussian p(z) whose errors have `stretch` times the quoted width, after a shift 1 + z -> (1 + z)(1 + bias).

    The first source has no posterior.
    """
    rng = np.random.default_rng(seed)
    z = truth["z_true"].to_numpy()
    sigma = (1 + z) * 10 ** rng.uniform(-2.4, -0.9, len(z))
    centre = z + stretch * sigma * rng.standard_normal(len(z))
    mean = (1 + centre) * (1 + bias) - 1
    quantiles = mean[:, None] + sigma[:, None] * (1 + bias) * stats.norm.ppf(QUANTILE_LEVELS)
    there = np.arange(len(z)) > 0
    columns = {
        "object_id": truth["object_id"],
        f"{prefix}_z_mean": pl.Series(np.where(there, mean, np.nan)).fill_nan(None),
        f"{prefix}_z_std": pl.Series(np.where(there, sigma * (1 + bias), np.nan)).fill_nan(None),
        f"{prefix}_z_quantiles": pl.Series(
            [row if good else None for row, good in zip(quantiles.tolist(), there, strict=True)],
            dtype=pl.Array(pl.Float32, 51),
        ),
        f"{prefix}_status": np.where(there, "converged", "failed"),
    }
    if chains:
        columns |= {
            "pae_rhat": rng.uniform(1.0, 1.25, len(z)),
            "pae_acl": rng.gamma(4, 2, len(z)),
            "pae_ess": rng.gamma(4, 200, len(z)),
            "pae_chi2": rng.chisquare(91, len(z)),
            "pae_n_bands": np.full(len(z), 102),
            "pae_rho_uz": pl.Series(rng.uniform(-1, 1, (len(z), 3)).tolist(), dtype=pl.Array(pl.Float32, 3)),
        }
    return pl.DataFrame(columns)


def score_table(n: int = N) -> pl.DataFrame:
    """TF biased and overconfident, the PAE honest, SBI too wide; chains for two latent sizes and without NF prior."""
    truth = sample(n)
    made = {
        "tf": posteriors(truth, "tf", seed=1, bias=0.03, stretch=1.6),
        "nf_bpz": posteriors(truth, "pae", seed=2),
        "free_uniform": posteriors(truth, "pae", seed=3, chains=True),
        "latent3": posteriors(truth, "pae", seed=4, chains=True),
        "latent10": posteriors(truth, "pae", seed=5, chains=True),
        "sbi": posteriors(truth, "sbi", seed=6, stretch=0.5),
    }
    prefixes = {"tf": "tf", "sbi": "sbi"}
    return pl.concat(
        method_scores(table, truth, method, prefix=prefixes.get(method, "pae"), z_range=Z_RANGE, n_latent=10)
        for method, table in made.items()
    )
