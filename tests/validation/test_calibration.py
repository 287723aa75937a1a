"""PIT, coverage, convergence and chi^2 summaries against scipy and closed forms."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from paeplatform.errors import InputError
from paeplatform.scores import calibration

LEVELS = np.linspace(0.01, 0.99, 51)


def gaussian_quantiles(mean, sigma):
    return mean[:, None] + sigma[:, None] * stats.norm.ppf(LEVELS)


def test_pit_is_the_cdf_at_the_truth():
    rng = np.random.default_rng(1)
    mean, sigma = rng.uniform(0.2, 2, 4000), rng.uniform(0.005, 0.2, 4000)
    z_true = mean + sigma * rng.uniform(-3.5, 3.5, 4000)
    pit = calibration.pit_from_quantiles(z_true, gaussian_quantiles(mean, sigma), LEVELS)
    # linear interpolation of the CDF inside, an exponential for the Gaussian's tail outside
    assert np.abs(pit - stats.norm.cdf(z_true, mean, sigma)).max() < 0.004


def test_pit_of_calibrated_posteriors_is_uniform_and_of_narrow_ones_is_not():
    rng = np.random.default_rng(2)
    mean, sigma = rng.uniform(0.2, 2, 5000), rng.uniform(0.01, 0.1, 5000)
    z_true = mean + sigma * rng.standard_normal(5000)
    pit = calibration.pit_from_quantiles(z_true, gaussian_quantiles(mean, sigma), LEVELS)
    assert stats.kstest(pit, "uniform").pvalue > 0.01
    narrow = calibration.pit_from_quantiles(z_true, gaussian_quantiles(mean, 0.5 * sigma), LEVELS)
    assert stats.kstest(narrow, "uniform").pvalue < 1e-6
    assert calibration.ks_distance_to_uniform(narrow) > 5 * calibration.ks_distance_to_uniform(pit)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_pit_increases_with_the_truth_and_stays_in_range(seed):
    rng = np.random.default_rng(seed)
    quantiles = np.sort(np.round(rng.uniform(0, 3, (1, 51)), 2), axis=1)  # rounding makes ties
    z = np.linspace(-0.5, 3.5, 300)
    pit = calibration.pit_from_quantiles(z, np.repeat(quantiles, 300, axis=0), LEVELS)
    assert (np.diff(pit) >= -1e-12).all()
    assert pit.min() >= 0.0
    assert pit.max() <= 1.0
    assert pit[0] < LEVELS[0]
    assert pit[-1] > LEVELS[-1]


def test_pit_at_a_quantile_is_its_level_and_ends_of_zero_and_one_are_exact():
    quantiles = np.array([[0.1, 0.2, 0.5]])
    for z, level in zip(quantiles[0], (0.25, 0.5, 0.75), strict=True):
        assert calibration.pit_from_quantiles([z], quantiles, [0.25, 0.5, 0.75]) == pytest.approx(level)
    ends = calibration.pit_from_quantiles([0.05, 0.9], np.repeat(quantiles, 2, axis=0), [0.0, 0.5, 1.0])
    assert ends.tolist() == [0.0, 1.0]


def test_pit_of_a_step_is_its_middle():
    assert calibration.pit_from_quantiles([1.0], [[1.0, 1.0, 1.0]], [0.2, 0.5, 0.8]) == pytest.approx(0.5)


def test_pit_of_a_failed_source_is_nan():
    quantiles = np.array([[0.1, 0.2], [np.nan, np.nan], [0.1, 0.2]])
    pit = calibration.pit_from_quantiles([0.15, 0.15, np.nan], quantiles, [0.1, 0.9])
    assert np.isnan(pit).tolist() == [False, True, True]
    assert calibration.pit_from_quantiles([], np.empty((0, 2)), [0.1, 0.9]).shape == (0,)


@pytest.mark.parametrize("levels", [[0.5], [0.5, 0.5], [0.9, 0.1], [-0.1, 0.5], [0.5, 1.1]])
def test_bad_levels_are_refused(levels):
    with pytest.raises(InputError, match="levels"):
        calibration.pit_from_quantiles([0.1], np.zeros((1, len(levels))), levels)


def test_quantiles_of_the_wrong_shape_are_refused():
    with pytest.raises(InputError, match=r"\(1, 3\)"):
        calibration.pit_from_quantiles([0.1], np.zeros((1, 3)), [0.1, 0.9])


@given(seed=st.integers(0, 1000), n=st.integers(1, 200))
@settings(max_examples=30, deadline=None)
def test_ks_distance_is_scipys(seed, n):
    values = np.random.default_rng(seed).beta(2, 1.5, n)
    expected = stats.kstest(values, "uniform").statistic
    assert calibration.ks_distance_to_uniform(np.append(values, np.nan)) == pytest.approx(expected)


def test_coverage_counts():
    coverage = calibration.pit_coverage([0.1, 0.2, 0.2, 0.9, np.nan], [0.0, 0.2, 1.0])
    assert coverage == pytest.approx([0.0, 0.75, 1.0])
    assert np.isnan(calibration.pit_coverage([np.nan], [0.5])).all()
    assert np.isnan(calibration.ks_distance_to_uniform([]))


def test_converged_fraction_is_that_of_the_sources_with_an_rhat():
    assert calibration.converged_fraction([1.0, 1.2, 1.3, np.nan]) == pytest.approx(1 / 3)
    assert calibration.converged_fraction([1.0, np.inf]) == 0.5
    assert np.isnan(calibration.converged_fraction([]))
    assert np.isnan(calibration.converged_fraction([np.nan]))


def test_reduced_chi2_of_a_chi2_variable_is_one():
    chi2 = np.random.default_rng(3).chisquare(102 - 11, 20_000)
    reduced = calibration.reduced_chi2(chi2, np.full(20_000, 102), n_latent=10)
    assert reduced.mean() == pytest.approx(1.0, abs=0.005)
    assert calibration.reduced_chi2(100.2, 102, 5) == pytest.approx(
        1.04, abs=0.005
    )  # the paper's example, section V.1
    assert np.isnan(calibration.reduced_chi2([5.0, np.nan], [11, 102], 10)).all()


def test_chi2_of_measurements_counts_measurements_and_that_of_channels_channels():
    table = pl.DataFrame({"pae_n_bands": [102], "pae_n_measurements": [306], "tf_n_bands": [100]})
    assert calibration.summed_over(table) == "pae_n_measurements"
    assert calibration.summed_over(table, "tf") == "tf_n_bands"
    assert calibration.summed_over(table.drop("pae_n_measurements")) == "pae_n_bands"


def summary_columns(n: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "pae_rhat": np.linspace(1.0, 1.2, n),
            "pae_acl": np.linspace(1, 9, n),
            "pae_khat": pl.Series([None] * n, dtype=pl.Float32),
            "pae_ess": np.full(n, 800.0),
            "pae_chi2": np.full(n, 91.0),
            "pae_n_bands": np.full(n, 102, dtype=np.int16),
            "pae_status": ["failed"] + ["converged"] * (n - 1) if n else [],
        },
        schema_overrides={"pae_status": pl.String},
    )


def test_posterior_summary():
    summary = calibration.posterior_summary(summary_columns(5), n_latent=10)
    assert summary["n_sources"] == 5
    assert summary["n_failed"] == 1 and summary["n_misfit"] == 0
    first = pl.when(pl.int_range(pl.len()) < 2).then(pl.lit("misfit")).otherwise(pl.col("pae_status"))
    misfits = calibration.posterior_summary(summary_columns(5).with_columns(pae_status=first), n_latent=10)
    assert misfits["n_misfit"] == 2 and misfits["f_trusted"] == pytest.approx(0.6)
    assert summary["f_trusted"] == pytest.approx(0.8)
    assert summary["n_chains"] == 5
    assert summary["khat_median"] is None
    assert summary["f_rhat_below_1_1"] == pytest.approx(0.4)  # 1.0, 1.05 of 1.0 ... 1.2
    assert summary["acl_median"] == 5.0
    assert summary["chi2_reduced_median"] == pytest.approx(1.0)
    empty = calibration.posterior_summary(summary_columns(0), n_latent=10)
    assert empty["n_sources"] == 0
    assert empty["f_rhat_below_1_1"] is None
    assert empty["f_trusted"] is None
    assert empty["acl_median"] is None
    with pytest.raises(InputError, match="pae_ess"):
        calibration.posterior_summary(summary_columns(5).drop("pae_ess"), n_latent=10)


def test_a_posterior_without_a_chain_is_judged_by_its_status(posteriors):
    weighted = posteriors.filter(pl.col("pae_path") == "proposal")
    summary = calibration.posterior_summary(weighted, n_latent=10)
    assert summary["n_chains"] == 0
    assert summary["f_rhat_below_1_1"] is None
    assert summary["f_trusted"] == pytest.approx((weighted["pae_khat"] < 0.7).mean())
    assert summary["khat_median"] == pytest.approx(weighted["pae_khat"].median())


def test_paths_are_counted(posteriors):
    counts = calibration.path_counts(posteriors)
    assert counts["path"].to_list() == ["proposal", "mclmc", "none"]
    assert counts["n"].to_list() == [39, 20, 1]
    assert counts.select("converged", "unconverged", "misfit", "failed").sum().row(0) == (53, 6, 0, 1)
    assert counts.filter(pl.col("path") == "proposal")["rhat"].item() is None
    assert counts.filter(pl.col("path") == "none").select("khat", "ess", "rhat").row(0) == (None,) * 3
    assert calibration.path_counts(posteriors.head(0)).height == 0
    with pytest.raises(InputError, match="pae_path"):
        calibration.path_counts(posteriors.drop("pae_path"))


def test_pit_of_a_catalogue_leaves_failed_sources_as_nan(posteriors, levels):
    z_true, quantiles = (
        posteriors["z_true"],
        posteriors["pae_z_quantiles"].to_numpy(),
    )  # null becomes a row of NaN
    pit = calibration.pit_from_quantiles(z_true, quantiles, levels)
    failed = (posteriors["pae_status"] == "failed").to_numpy()
    assert failed.sum() == 1
    assert np.isnan(pit[failed]).all()
    ok = posteriors.filter(~pl.Series(failed))
    expected = stats.norm.cdf(ok["z_true"], ok["pae_z_mean"], ok["pae_z_std"])
    assert pit[~failed] == pytest.approx(expected, abs=0.005)
    assert calibration.pit_from_quantiles(z_true[:0], quantiles[:0], levels).shape == (0,)
    with pytest.raises(InputError, match="50"):
        calibration.pit_from_quantiles(z_true, quantiles, levels[:50])
