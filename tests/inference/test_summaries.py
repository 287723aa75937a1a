"""Summaries and flags of draws whose statistics are known."""

import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

from paeplatform.config import TrustConfig
from paeplatform.inference.mclmc.chains import PosteriorSamples
from paeplatform.inference.model.posterior import LogPosterior
from paeplatform.inference.model.priors import UniformPrior
from paeplatform.inference.results.summaries import QUANTILE_LEVELS, ZFlag, summarise
from paeplatform.inference.samplers import of_chains
from paeplatform.inference.sources import Sources

N_DRAW, EVERY = 1000, 10
TRUST = TrustConfig()


def make_samples(z, u, failed=None):
    n, chain, _ = z.shape
    return PosteriorSamples(
        z=z.astype(np.float32),
        u=u.astype(np.float32),
        log_prob=np.zeros_like(z, dtype=np.float32),
        keep_every=EVERY,
        n_reinit=np.arange(n),
        step_size=np.ones((n, chain)),
        decoherence=np.ones((n, chain)),
        rejected=np.zeros(n),
        jumped=np.zeros(n),
        failed=np.zeros(n, bool) if failed is None else failed,
    )


@pytest.fixture(scope="module")
def table(bump_forward):
    rng = np.random.default_rng(0)
    n = 7
    z = 0.6 + 0.01 * rng.normal(size=(n, 4, N_DRAW))
    z[1, 2:] += 0.3  # two chains elsewhere
    z[2] = np.cumsum(rng.normal(size=(4, N_DRAW)), axis=1) * 1e-3 + 0.6  # slow walk
    z[3] = 1.999 - np.abs(0.001 * rng.normal(size=(4, N_DRAW)))
    u = np.zeros((n, 4, N_DRAW // EVERY, 2))
    flux = np.tile(np.asarray(bump_forward(jnp.zeros(2), jnp.asarray(0.6))), (n, 1)) * 3.0
    flux_err = np.full_like(flux, 0.3)
    flux[4] += 3.0 * rng.normal(size=24)  # ten sigma off the model
    flux_err[5, :20] = np.inf
    flux_err[6] = np.inf
    failed = np.arange(n) == 6
    z[6] = np.nan
    posterior = LogPosterior(bump_forward, UniformPrior(0.05, 2.0))
    ids = np.arange(n) + 100
    found = of_chains(make_samples(z, u, failed), posterior, 200, TRUST)
    return z, flux, flux_err, summarise(Sources(flux, flux_err, ids, 0), found, posterior, TRUST)


def test_statistics_are_those_of_the_pooled_draws(table):
    z, _, _, rows = table
    pooled = z[0].ravel().astype(np.float32).astype(np.float64)
    first = rows.row(0, named=True)
    assert first["pae_z_mean"] == pytest.approx(pooled.mean(), rel=1e-6)
    assert first["pae_z_std"] == pytest.approx(pooled.std(), rel=1e-5)
    assert first["pae_z_median"] == pytest.approx(np.median(pooled), rel=1e-6)
    assert first["pae_z_mode"] == pytest.approx(0.6, abs=0.003)
    assert [first["pae_z_err68_low"], first["pae_z_err68_high"]] == pytest.approx([0.59, 0.61], abs=0.001)
    assert [first["pae_z_err95_low"], first["pae_z_err95_high"]] == pytest.approx([0.58, 0.62], abs=0.002)
    assert first["pae_z_quantiles"] == pytest.approx(np.quantile(pooled, QUANTILE_LEVELS), rel=1e-6)
    assert QUANTILE_LEVELS[25] == 0.5 and first["pae_z_quantiles"][25] == pytest.approx(first["pae_z_median"])
    assert first["pae_ess"] == pytest.approx(4000, rel=0.15)
    assert rows["pae_n_reinit"].to_list() == list(range(7))
    assert rows.schema["pae_z_quantiles"] == pl.Array(pl.Float32, 51)
    assert rows.schema["pae_z_draws"] == pl.Array(pl.Float32, 200)
    assert set(first["pae_z_draws"]) <= set(z[0].ravel().astype(np.float32).tolist())
    assert rows["pae_path"].to_list() == ["mclmc"] * 6 + ["none"]


def test_each_fault_sets_its_flag_and_no_other_source_has_it(table):
    flags = [ZFlag(value) for value in table[3]["z_flags"].to_list()]
    assert flags[0] == ZFlag(0)
    assert ZFlag.UNCONVERGED in flags[1] and ZFlag.MULTIMODAL in flags[1]
    assert ZFlag.UNCONVERGED in flags[2] and ZFlag.LOW_ESS in flags[2]
    assert ZFlag.AT_PRIOR_EDGE in flags[3]
    assert flags[4] == ZFlag.BAD_FIT and table[3]["pae_chi2_best"][4] > 1000.0
    assert flags[5] == ZFlag.FEW_BANDS
    assert flags[6] == ZFlag.NO_POSTERIOR | ZFlag.FEW_BANDS
    status = table[3]["pae_status"].to_list()
    assert status == [
        "converged",
        "unconverged",
        "unconverged",
        "misfit",  # its draws lie elsewhere than its data
        "misfit",
        "converged",
        "failed",
    ]
    assert [ZFlag.BAD_FIT in flag for flag in flags] == [name == "misfit" for name in status]


def test_between_two_hills_the_mean_misses_and_a_source_that_fits_nowhere_is_a_misfit(bump_forward):
    """Rows: both redshifts in every chain, of data of the first; chains that disagree, of data of neither."""
    rng = np.random.default_rng(1)
    z = 0.4 + 0.001 * rng.normal(size=(2, 4, N_DRAW))
    z[0][rng.uniform(size=(4, N_DRAW)) < 0.5] += 0.6
    z[1, 2:] += 0.6
    u = np.zeros((2, 4, N_DRAW // EVERY, 2))
    true = np.asarray(bump_forward(jnp.zeros(2), jnp.asarray(0.4)))
    flux = np.stack([true, true[::-1]])
    flux_err = np.full_like(flux, 0.02)
    posterior = LogPosterior(bump_forward, UniformPrior(0.05, 2.0))
    found = of_chains(make_samples(z, u), posterior, 200, TRUST)
    rows = summarise(Sources.numbered(flux, flux_err, 0), found, posterior, TRUST)
    assert rows["pae_chi2"][0] > 1000.0 and rows["pae_chi2_best"][0] < 1.0
    assert rows["pae_status"].to_list() == ["converged", "misfit"]
    assert ZFlag(rows["z_flags"][0]) == ZFlag.MULTIMODAL
    assert ZFlag(rows["z_flags"][1]) == ZFlag.MULTIMODAL | ZFlag.BAD_FIT | ZFlag.UNCONVERGED


def test_a_failed_source_keeps_its_row_with_nulls(table):
    rows = table[3]
    assert rows["object_id"].to_list() == list(range(100, 107))
    last = rows.row(6, named=True)
    values = [
        value
        for name, value in last.items()
        if name.startswith("pae_z") or name in ("pae_rhat", "pae_chi2", "pae_chi2_best", "pae_chi2_gap")
    ]
    assert values and all(value is None for value in values)
    assert last["pae_n_bands"] == 0
    numbers = rows.head(6).select(pl.col(pl.Float32))
    missing = {name for name in numbers.columns if numbers[name].null_count()}
    # importance weights, which chains have not, and further solutions, of which only the second source has any
    further = {"pae_z2", "pae_z2_weight", "pae_z3", "pae_z3_weight", "pae_chi2_gap"}
    assert missing == {"pae_khat", *further}
    assert rows["pae_z2"].is_not_null().to_list() == [place == 1 for place in range(7)]


def test_chi2_is_that_of_the_mean_reconstruction(table, bump_forward):
    z, flux, flux_err, rows = table
    for i in (0, 5):
        use = np.isfinite(flux_err[i])
        models = []
        for zk in z[i, :, EVERY - 1 :: EVERY].ravel():
            m = np.asarray(bump_forward(jnp.zeros(2), jnp.asarray(zk)), np.float64)[use]
            a = np.sum(m * flux[i, use]) / np.sum(m * m)
            models.append(a * m)
        expected = np.sum(((flux[i, use] - np.mean(models, axis=0)) / flux_err[i, use]) ** 2)
        assert rows["pae_chi2"][i] == pytest.approx(expected, rel=1e-3, abs=1e-3)
