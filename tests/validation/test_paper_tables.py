"""Tables of made-up methods: what is counted, against plain loops and SciPy; what the paper says is beside it."""

import importlib

import numpy as np
import polars as pl
import pytest
from scipy import stats

from paeplatform.errors import InputError
from paeplatform.paper import calibration_tables
from paeplatform.paper import tables as paper_tables
from paeplatform.paper.sample_scores import label_of, method_scores
from paeplatform.paper.table_list import TABLES
from paeplatform.paper.table_rows import Resampling
from paeplatform.scores.metrics import nmad_paper
from tests.validation.score_tables import Z_RANGE, posteriors, sample, score_table

TABLE = score_table()
SCORES = TABLE.lazy()
FAST = Resampling(60, 1)


def of(method: str) -> pl.DataFrame:
    return TABLE.filter((pl.col("method") == method) & (pl.col("usable") > 0))


def test_the_score_table_holds_every_source_of_every_method():
    assert TABLE.height == 6 * 400
    assert TABLE.filter(pl.col("usable") == 0).height == 6
    rows = of("latent3")
    assert rows["rho_uz_max"].is_between(0, 1).all() and rows["chi2_reduced"].mean() == pytest.approx(
        1, abs=0.05
    )
    assert of("tf")["rhat"].is_nan().all() and of("tf")["rho_uz_max"].is_nan().all()
    truth = sample()
    with pytest.raises(InputError, match="390 sources are not in the validation sample, the first is 20"):
        method_scores(posteriors(truth, "tf", seed=1), truth.head(10), "tf", prefix="tf", z_range=Z_RANGE)


def test_table_1_has_the_papers_numbers_beside_ours():
    table = paper_tables.prior_table(SCORES, FAST)
    assert table["method"].unique().sort().to_list() == ["free_uniform", "nf_bpz", "sbi", "tf"]
    row = table.filter((pl.col("method") == "tf") & (pl.col("cut") == 0.2)).row(0, named=True)
    rows = of("tf").filter(pl.col("width") < 0.2)
    assert row["n"] == rows.height and row["n_total"] == 400
    assert row["eta_3sigma"] == pytest.approx(
        (abs(rows["z_hat"] - rows["z_true"]) > 3 * rows["sigma_z"]).mean()
    )
    assert row["nmad_paper"] == pytest.approx(nmad_paper(rows["z_hat"], rows["z_true"]))
    assert row["eta_3sigma_err"] > 0 and row["pit_ks_err"] > 0
    assert (row["paper_n"], row["paper_eta_3sigma"], row["paper_nmad_paper"]) == (13914, 0.055, 0.078)
    assert row["paper_share"] == pytest.approx(13914 / 20000)
    assert table.filter(pl.col("method") == "sbi")["paper_n"].null_count() == 2


def test_table_2_has_a_row_for_each_size_and_cut():
    table = paper_tables.latent_table(SCORES, FAST)
    assert table.select("n_latent", "cut").rows() == [(3, 0.01), (3, 0.2), (10, 0.01), (10, 0.2)]
    share = (TABLE.filter(pl.col("method") == "latent3")["rhat"] < 1.1).mean()
    assert table["f_rhat"][0] == pytest.approx(share) and table["f_rhat_err"][0] > 0
    assert table["paper_f_rhat"].to_list() == [0.901, 0.901, 0.977, 0.977]
    assert table["paper_n"].to_list() == [522, 19521, 707, 19787]


def test_cuts_are_nested_and_the_row_of_all_is_last():
    table = paper_tables.sigma_cut_table(SCORES, FAST)
    for method in ("tf", "nf_bpz", "sbi"):
        n = table.filter(pl.col("method") == method)["n"].to_list()
        assert n == sorted(n) and n[-1] == 399


def test_the_flag_table_splits_each_bin_of_tf_in_two():
    table = paper_tables.flag_table(SCORES, FAST)
    assert table.height == 9
    tf, pae = of("tf"), of("nf_bpz")
    both = tf.join(pae, on="object_id", suffix="_pae")
    for index, (low, high) in enumerate(((0, 0.01), (0.01, 0.05), (0.05, 0.2))):
        whole, flagged, rest = table[3 * index : 3 * index + 3].to_dicts()
        assert (whole["sources"], flagged["sources"], rest["sources"]) == ("all", "flagged", "unflagged")
        here = both.filter((pl.col("width") >= low) & (pl.col("width") < high))
        wide = here.filter(pl.col("width_pae") / pl.col("width") > 2)
        assert (whole["n"], flagged["n"], rest["n"]) == (here.height, wide.height, here.height - wide.height)
        assert whole["tf_eta_3sigma"] == pytest.approx((here["z_score"].abs() > 3).mean())
        assert flagged["pae_mean_bias"] == pytest.approx(wide["error_true_pae"].mean())
    assert table["f_rhat"].null_count() == 9, "the made-up fiducial posteriors come from no chain"
    assert table["paper_tf_eta_3sigma"].to_list()[:3] == [0.030, 0.163, 0.022]


def test_error_correlations_are_scipys():
    table = paper_tables.error_correlation(SCORES, FAST)
    both = of("nf_bpz").join(of("tf"), on="object_id", suffix="_tf").sort("object_id")
    for row in table.iter_rows(named=True):
        high = dict(zip((0.0, 0.01, 0.03, 0.1, 0.2), (0.01, 0.03, 0.1, 0.2, np.inf), strict=True))[row["low"]]
        here = both.filter((pl.col("width") >= row["low"]) & (pl.col("width") < high))
        assert row["n"] == here.height
        if here.height > 2:
            errors = [(here[f"z_hat{s}"] - here["z_true"]).to_numpy() for s in ("_tf", "")]
            assert row["pearson"] == pytest.approx(stats.pearsonr(*errors).statistic, abs=1e-9)
            assert row["spearman"] == pytest.approx(stats.spearmanr(*errors).statistic, abs=1e-9)
            assert row["pearson_err"] > 0
        else:
            assert row["pearson"] is None
    assert table["paper_low"].to_list() == [None, 0.6, 0.6, 0.6, 0.6]


def test_convergence_tells_chains_with_the_nf_prior_from_those_without():
    table = paper_tables.convergence_table(SCORES, FAST)
    assert dict(table.select("method", "nf_prior").rows()) == {
        "free_uniform": False,
        "latent10": True,
        "latent3": True,
    }
    row = table.filter(pl.col("method") == "free_uniform").row(0, named=True)
    acl = TABLE.filter(pl.col("method") == "free_uniform")["acl"]
    assert row["acl_median"] == pytest.approx(acl.median())
    assert row["acl_p95"] == pytest.approx(np.percentile(acl.to_numpy(), 95))
    assert (row["paper_f_rhat_1_1"], row["paper_acl_p95"]) == (0.247, 53.2)


def test_methods_are_compared_on_sources_that_all_have():
    gone = TABLE.with_columns(
        usable=pl.when((pl.col("method") == "sbi") & (pl.col("object_id") < 60)).then(0.0).otherwise("usable")
    )
    table = paper_tables.comparison_table(gone.lazy(), FAST)
    assert table["n"].to_list()[3:] == [350] * 3
    assert table["method"].to_list()[:3] == ["nf_bpz", "sbi", "tf"]
    honest, wide, narrow = table["pit_ks"].to_list()[3:]
    assert honest < min(wide, narrow)
    crps = dict(table.filter(pl.col("selection") == "zAB < 22.5").select("method", "crps").rows())
    assert crps["nf_bpz"] < crps["tf"]


def test_debiasing_takes_a_shift_out_and_leaves_the_width():
    table = calibration_tables.pit_table(SCORES, FAST)
    whole = table.filter(pl.col("bin") == "all")
    tf = whole.filter(pl.col("method") == "tf").row(0, named=True)
    pae = whole.filter(pl.col("method") == "nf_bpz").row(0, named=True)
    assert tf["mean_bias"] == pytest.approx(0.03, abs=0.01)
    assert tf["pit_ks_debiased"] < tf["pit_ks"] - 0.05
    assert pae["pit_ks_debiased"] == pytest.approx(pae["pit_ks"], abs=0.03)
    truth = sample(2000, seed=3)
    shifted = posteriors(truth, "tf", seed=9, bias=0.04)[1:]
    scores = method_scores(shifted, truth, "tf", prefix="tf", z_range=Z_RANGE)
    straight = method_scores(posteriors(truth, "tf", seed=9)[1:], truth, "tf", prefix="tf", z_range=Z_RANGE)
    exact = calibration_tables.debiased_pit(scores, 0.04)
    np.testing.assert_allclose(exact, straight["pit"], atol=2e-5)


def test_calibration_by_property_covers_every_source_once():
    table = calibration_tables.calibration_table(SCORES, FAST)
    sums = table.group_by("method", "property").agg(pl.col("n").sum())
    assert sums["n"].unique().to_list() == [399]
    assert table["property"].unique().sort().to_list() == ["galaxy_type", "mag_z", "snr", "z_true"]
    assert table.filter(pl.col("method") == "nf_bpz")["coverage_68"].mean() == pytest.approx(0.68, abs=0.06)


def test_outliers_are_counted_by_what_they_are():
    table = calibration_tables.outlier_table(SCORES, FAST)
    rows = of("tf")
    outlier = (rows["z_score"].abs() > 3) | (rows["error_true"].abs() > 0.15)
    whole = table.filter((pl.col("method") == "tf") & (pl.col("property") == "all")).row(0, named=True)
    assert (whole["n"], whole["n_outliers"], whole["excess"]) == (399, outlier.sum(), 1.0)
    for column in ("galaxy_type", "template"):
        found = table.filter((pl.col("method") == "tf") & (pl.col("property") == column))
        counts = rows.filter(outlier).group_by(column).len().sort(column)
        assert found.sort("value").select("value", "n_outliers").rows() == counts.rows()
    assert (table["rate_err"] > 0).all()


def test_sources_of_templates_left_out_of_the_training_are_told_apart():
    marked = TABLE.with_columns(in_training=pl.col("template") != "t2").lazy()
    table = calibration_tables.calibration_table(marked, FAST).filter(pl.col("property") == "in training")
    outside = table.filter((pl.col("method") == "tf") & (pl.col("value") == "template left out"))
    rows = of("tf").filter(pl.col("template") == "t2")
    assert outside["n"].item() == rows.height
    assert outside["mean_bias"].item() == pytest.approx(rows["error_true"].mean())
    anatomy = calibration_tables.outlier_table(marked, FAST)
    assert anatomy.filter(pl.col("property") == "in training")["n"].sum() == 3 * 399
    everything = TABLE.with_columns(in_training=pl.lit(True)).lazy()
    assert "in training" not in set(calibration_tables.outlier_table(everything, FAST)["property"])


@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_no_or_few_sources_make_a_table_and_no_warning(table, n):
    rows = TABLE.filter(pl.col("object_id") < 11 + n) if n else TABLE.clear()
    module, _, function = table.function.rpartition(".")
    made = getattr(importlib.import_module(module), function)(rows.lazy(), FAST)
    counted = made["n"].sum() if "n" in made.columns else 0
    assert (counted > 0) == (n > 0) or table.name in (
        "table_flags",
        "table_error_correlation",
        "table_latents",
    )


def test_methods_have_words():
    assert label_of("nf_bpz") == "PAE, u ~ N(0, I), z ~ p_BPZ"
    assert label_of("latent8") == "PAE chains, n_latent = 8"
