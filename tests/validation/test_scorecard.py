"""Scores of sources and their metrics against `metrics` and `calibration`; intervals that cover what they should."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from paeplatform.errors import InputError
from paeplatform.scores.calibration import ks_distance_to_uniform, pit_coverage, pit_from_quantiles
from paeplatform.scores.metrics import GATE_METRICS, METRICS
from paeplatform.scores.scorecard import score_sources, source_columns
from paeplatform.scores.statistics import metric_intervals, metric_table, values_of
from tests.validation.conftest import LEVELS, made_up_posteriors

RANGE = (0.003, 3.0)
CUTS = (0.01, 0.03, 0.1)


@pytest.fixture(scope="module")
def scores() -> pl.DataFrame:
    return score_sources(made_up_posteriors(400), LEVELS, prefix="pae", z_range=RANGE)


def test_metrics_are_those_of_the_other_modules(scores: pl.DataFrame):
    rows = made_up_posteriors(400)
    table = metric_intervals(scores, CUTS, n_resamples=100)
    found = values_of(table)
    known = metric_table(
        *(rows[name].to_numpy() for name in ("pae_z_mean", "pae_z_std", "z_true")), [], n_bootstrap=0
    ).row(0, named=True)
    for name in ("nmad_paper", "nmad_usual", "mean_bias", "eta_3sigma", "eta_015"):
        assert found[name] == pytest.approx(known[name], rel=1e-12), name
    pit = pit_from_quantiles(rows["z_true"], rows["pae_z_quantiles"].to_numpy(), LEVELS)
    assert found["pit_ks"] == pytest.approx(ks_distance_to_uniform(pit), rel=1e-12)
    inner = np.diff(pit_coverage(pit, [0.16 - 1e-12, 0.84]))[0]
    assert found["coverage_68"] == pytest.approx(inner, abs=1e-12)
    assert found["usable"] == pytest.approx(399 / 400)
    assert found["trusted"] == pytest.approx((rows["pae_status"] == "converged").mean())
    assert found["crps"] == pytest.approx(np.nanmean(scores["crps"].to_numpy()))


def test_every_source_is_in_one_bin_and_intervals_hold_the_value(scores: pl.DataFrame):
    table = metric_intervals(scores, CUTS, n_resamples=200)
    whole, bins = table.row(0, named=True), table.slice(1)
    assert whole["n"] == 399 == bins["n"].sum()
    assert bins["high"].to_list() == [0.01, 0.03, 0.1, None]
    assert bins["usable"].null_count() == bins.height
    for row in table.filter(pl.col("n") > 1).iter_rows(named=True):
        for name in ("nmad_usual", "mean_bias", "crps", "log_score"):
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]


def test_intervals_have_the_width_that_theory_gives():
    rows = made_up_posteriors(3000, seed=5)
    scores = score_sources(rows, LEVELS, prefix="pae", z_range=RANGE)
    row = metric_intervals(scores, [], n_resamples=800).row(0, named=True)
    error = scores["error_true"].drop_nans().to_numpy()
    half = 0.5 * (row["mean_bias_high"] - row["mean_bias_low"])
    assert half == pytest.approx(1.96 * error.std() / np.sqrt(error.size), rel=0.12)


def test_the_same_arguments_give_the_same_intervals(scores: pl.DataFrame):
    shuffled = made_up_posteriors(400).sample(fraction=1.0, shuffle=True, seed=1)
    again = score_sources(shuffled, LEVELS, prefix="pae", z_range=RANGE)
    assert again.equals(scores)
    first, second = (metric_intervals(one, CUTS, n_resamples=50, seed=3) for one in (scores, again))
    assert first.equals(second)


def test_a_bin_with_one_source_has_no_metrics_and_missing_columns_are_named():
    one = made_up_posteriors(60).head(1)
    table = metric_intervals(score_sources(one, LEVELS, prefix="pae", z_range=RANGE), [], n_resamples=10)
    assert table["n"].to_list() == [1, 1]
    assert table.select(pl.all_horizontal(pl.col(*GATE_METRICS).is_null()).all()).item()
    with pytest.raises(InputError, match="pae_z_std"):
        score_sources(one.drop("pae_z_std"), LEVELS, prefix="pae", z_range=RANGE)


def test_losses_point_the_same_way():
    loss = {name: metric.loss for name, metric in METRICS.items()}
    assert loss["mean_bias"](-0.02) == pytest.approx(0.02)
    assert loss["coverage_68"](0.60) == pytest.approx(0.08) == loss["coverage_68"](0.76)
    assert loss["log_score"](1.5) == -1.5
    assert loss["cde_loss"](-3.0) == -3.0
    assert loss["usable"](0.9) == pytest.approx(0.1)


def test_ks_statistic_agrees_with_scipy_on_rows():
    pit = np.random.default_rng(0).uniform(size=(5, 40)) ** 1.3
    metric = METRICS["pit_ks"]
    np.testing.assert_allclose(metric.statistic(pit), [stats.kstest(row, "uniform").statistic for row in pit])


def test_an_unusable_estimate_has_no_numbers():
    columns = source_columns(
        [1.0, np.nan, -1.5, 1.0, 1.0, 1.0], [0.1, 0.1, 0.1, 0.0, np.nan, 0.1], [1.0] * 5 + [-2.0]
    )
    assert columns["usable"].tolist() == [1.0] + [0.0] * 5
    assert all(np.isnan(columns[name][1:]).all() for name in ("error_hat", "error_true", "z_score", "width"))
