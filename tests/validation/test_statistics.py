"""Statistics of lazy score tables against NumPy's metrics and SciPy."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from paeplatform.errors import InputError
from paeplatform.scores import bootstrap
from paeplatform.scores.bootstrap import bootstrap_error, fraction_error
from paeplatform.scores.metrics import METRICS, RELEASE_METRICS
from paeplatform.scores.statistics import bins_of, metric_table, selection_statistics
from tests.validation.score_tables import score_table

TABLE = score_table()
FRAME = TABLE.lazy().filter(pl.col("method") == "tf")


def test_point_statistics_are_those_of_the_metric_table():
    cuts = (0.02, 0.1)
    selections = {f"sigma_z/(1+z) < {cut:g}": pl.col("width") < cut for cut in cuts} | {"all": pl.lit(True)}
    ours = selection_statistics(FRAME, selections, RELEASE_METRICS, n_bootstrap=300)
    rows = FRAME.collect()
    theirs = metric_table(rows["z_hat"], rows["sigma_z"], rows["z_true"], cuts, n_bootstrap=300)
    assert ours["selection"].to_list() == theirs["selection"].to_list()
    assert ours["n"].to_list() == theirs["n"].to_list()
    assert ours["n_total"].to_list()[-1] == 400 and ours["n"].to_list()[-1] == 399
    for name in RELEASE_METRICS:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9)
        np.testing.assert_allclose(ours[f"{name}_err"], theirs[f"{name}_err"], rtol=0.35)


def test_ks_and_coverage_are_scipys_and_the_counts():
    row = selection_statistics(FRAME, {"all": pl.lit(True)}, ("pit_ks", "coverage_68", "coverage_95")).row(
        0, named=True
    )
    pit = FRAME.collect()["pit"].drop_nans().to_numpy()
    assert row["pit_ks"] == pytest.approx(stats.kstest(pit, "uniform").statistic, rel=1e-12)
    assert row["coverage_68"] == pytest.approx(np.mean((pit >= 0.16) & (pit <= 0.84)))
    assert row["coverage_95"] == pytest.approx(np.mean((pit >= 0.025) & (pit <= 0.975)))


def test_each_expression_is_the_statistic_that_is_resampled():
    columns = sorted({metric.column for metric in METRICS.values()})
    values = np.random.default_rng(2).uniform(-0.5, 1.5, (len(columns), 501))
    frame = pl.DataFrame(dict(zip(columns, values, strict=True)))
    for metric in METRICS.values():
        ours = frame.select(metric.expression(pl.col(metric.column))).item()
        expected = float(metric.statistic(frame[metric.column].to_numpy()))
        assert ours == pytest.approx(expected, rel=1e-12), metric.name


def test_errors_are_the_spread_over_repeated_samples(monkeypatch):
    """Also above the size at which only a part of the sources is resampled."""
    monkeypatch.setattr(bootstrap, "MAX_SOURCES", 400)
    rng = np.random.default_rng(5)

    def frame(n: int) -> pl.LazyFrame:
        errors = rng.normal(0.01, 0.05, n)
        columns = {"error_true": errors, "error_hat": errors, "usable": np.ones(n), "object_id": np.arange(n)}
        return pl.LazyFrame(columns)

    names = ("mean_bias", "nmad_paper", "eta_015")
    repeated = [
        selection_statistics(frame(2000), {"all": pl.lit(True)}, names, n_bootstrap=0) for _ in range(200)
    ]
    spread = pl.concat(repeated).select(pl.col(names).std()).row(0, named=True)
    one = selection_statistics(frame(2000), {"all": pl.lit(True)}, names, n_bootstrap=400).row(0, named=True)
    assert pl.concat(repeated)["mean_bias_err"].null_count() == 200
    for name in ("mean_bias", "nmad_paper"):
        assert one[f"{name}_err"] == pytest.approx(spread[name], rel=0.3), name
    assert 0.2 * spread["eta_015"] < one["eta_015_err"] < 3 * spread["eta_015"]


def test_a_fraction_of_none_has_an_error_and_an_empty_selection_nulls():
    found = selection_statistics(
        FRAME, {"none": pl.col("width") > 99.0, "few": pl.col("width") < 0.0047}, ("eta_015", "nmad_paper")
    )
    empty, few = found.to_dicts()
    assert empty["n"] == 0 and empty["eta_015"] is None and empty["nmad_paper_err"] is None
    assert few["n"] > 2 and few["eta_015"] == 0.0
    assert few["eta_015_err"] == pytest.approx(fraction_error(0.0, few["n"]))
    assert few["eta_015_err"] == pytest.approx(stats.beta(0.5, few["n"] + 0.5).std())


def test_rows_do_not_depend_on_order_or_on_other_rows():
    selections = {"a": pl.col("width") < 0.05, "b": pl.col("mag_z") < 21}
    both = selection_statistics(FRAME, selections, ("crps",), seed=3)
    alone = selection_statistics(FRAME.reverse(), {"b": selections["b"]}, ("crps",), seed=3)
    np.testing.assert_allclose(
        both[1].select(pl.exclude("selection")).to_numpy(), alone.drop("selection").to_numpy()
    )


def test_bins_are_disjoint_and_named():
    bins = bins_of("x", (-np.inf, 0.0, 1.5, np.inf), "size")
    assert list(bins) == ["size < 0", "0 <= size < 1.5", "size >= 1.5"]
    frame = pl.DataFrame({"x": [-5.0, 0.0, 1.0, 1.5, 9.0]})
    assert [frame.filter(chosen).height for chosen in bins.values()] == [1, 2, 2]


def test_bootstrap_error_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(1).normal(size=(1, 900))
    error = bootstrap_error(values, lambda v: v.mean(axis=-1)[0], 500, 0)
    assert error == pytest.approx(values.std() / 30, rel=0.15)
    assert bootstrap_error(values[:, :1], lambda v: v.mean(axis=-1)[0], 500, 0) is None


def test_unknown_statistics_and_missing_columns_are_named():
    with pytest.raises(InputError, match="unknown metrics \\['median'\\]"):
        selection_statistics(FRAME, {"all": pl.lit(True)}, ("median",))
    with pytest.raises(InputError, match="lacks columns \\['crps'\\]"):
        selection_statistics(FRAME.drop("crps"), {"all": pl.lit(True)}, ("crps",))
