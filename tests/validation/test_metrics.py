"""The metric functions against scipy, closed forms and hand-made samples."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from paeplatform.errors import InputError
from paeplatform.scores.metrics import METRICS, RELEASE_METRICS, nmad_paper
from paeplatform.scores.scorecard import source_columns
from paeplatform.scores.statistics import metric_table

CUTS = (0.01, 0.03, 0.2)


def gaussian_sample(n: int, seed: int, width: float = 0.02, bias: float = 0.0):
    """z_hat = z_true + (bias + width * normal) * (1 + z_true), with the honest sigma."""
    rng = np.random.default_rng(seed)
    z_true = rng.uniform(0.1, 2.0, n)
    z_hat = z_true + (bias + width * rng.standard_normal(n)) * (1 + z_true)
    return z_hat, width * (1 + z_true), z_true


def value(name: str, z_hat, z_true, sigma=None) -> float:
    """One metric of a sample; without sigma, of one that does not need it."""
    metric = METRICS[name]
    return metric.of(
        source_columns(z_hat, np.ones(len(z_hat)) if sigma is None else sigma, z_true)[metric.column]
    )


def test_definitions_on_a_sample_computed_by_hand():
    z_true = np.array([0.0, 1.0, 1.0, 3.0])
    z_hat = np.array([0.1, 1.0, 1.5, 2.0])
    sigma = np.array([0.05, 0.1, 0.1, 0.2])
    # (z_hat - z_true)/(1 + z_true) = .1, 0, .25, -.25; |.|/(1 + z_hat) = 1/11, 0, .2, 1/3
    assert value("mean_bias", z_hat, z_true) == pytest.approx(0.025)
    assert value("nmad_paper", z_hat, z_true) == pytest.approx(1.4 * (1 / 11 + 0.2) / 2)
    assert value("nmad_usual", z_hat, z_true) == pytest.approx(
        1.4826 * (0.2 + 0.05) / 2
    )  # about the median, 0.05
    assert source_columns(z_hat, sigma, z_true)["z_score"] == pytest.approx([2.0, 0.0, 5.0, -5.0])
    assert value("eta_3sigma", z_hat, z_true, sigma) == pytest.approx(0.5)
    assert value("eta_015", z_hat, z_true) == pytest.approx(0.5)
    assert value("median_sigma", z_hat, z_true, sigma) == pytest.approx(
        (0.05 / 1.1 + 0.05) / 2
    )  # of .0400 .0455 .0500 .0667


def test_usual_nmad_is_scipys_normal_mad():
    z_hat, _, z_true = gaussian_sample(999, seed=1, bias=0.01)
    expected = stats.median_abs_deviation((z_hat - z_true) / (1 + z_true), scale="normal")
    assert value("nmad_usual", z_hat, z_true) == pytest.approx(expected, rel=1e-4)  # 1.4826 is rounded


def test_gaussian_errors_give_the_closed_forms():
    z_hat, sigma, z_true = gaussian_sample(400_000, seed=2)
    assert value("nmad_usual", z_hat, z_true) == pytest.approx(0.02, rel=0.01)
    # 1 + z_hat in the denominator changes the paper's NMAD only at second order in the width
    assert value("nmad_paper", z_hat, z_true) == pytest.approx(0.02 * 1.4 * stats.norm.ppf(0.75), rel=0.01)
    assert value("eta_3sigma", z_hat, z_true, sigma) == pytest.approx(2 * stats.norm.sf(3), rel=0.1)
    table = metric_table(z_hat, sigma, z_true, (), n_bootstrap=0)
    assert table["z_score_std"].item() == pytest.approx(1.0, abs=0.01)
    assert table["z_score_median"].item() == pytest.approx(0.0, abs=0.01)


def test_the_two_nmads_part_when_there_is_a_bias():
    z_hat, _, z_true = gaussian_sample(100_000, seed=3, width=0.01, bias=0.05)
    assert value("nmad_usual", z_hat, z_true) == pytest.approx(0.01, rel=0.02)  # taken about the median
    assert value("nmad_paper", z_hat, z_true) == pytest.approx(
        1.4 * 0.05 / 1.05, rel=0.02
    )  # taken about zero


redshifts = arrays(np.float64, 25, elements=st.floats(0.01, 3.0))


@given(z_hat=redshifts, z_true=redshifts, seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_order_of_sources_does_not_matter(z_hat, z_true, seed):
    order = np.random.default_rng(seed).permutation(25)
    sigma = 0.03 * (1 + z_hat)
    columns = list(RELEASE_METRICS)
    table, shuffled = (
        metric_table(z_hat[o], sigma[o], z_true[o], CUTS, n_bootstrap=0)
        .select(columns)
        .to_numpy()
        .astype(float)
        for o in (np.arange(25), order)
    )
    np.testing.assert_allclose(table, shuffled, rtol=1e-9, atol=1e-12)


@given(
    error=arrays(np.float64, 25, elements=st.floats(-0.4, 0.4)),
    scale=st.floats(0.01, 1.0),
    shift=st.floats(-0.3, 0.3),
)
@settings(max_examples=40, deadline=None)
def test_scale_and_shift_of_the_errors(error, scale, shift):
    z_true = np.full(25, 0.5)

    def estimate(e):
        return z_true + e * 1.5

    assert value("mean_bias", estimate(scale * error), z_true) == pytest.approx(
        scale * value("mean_bias", estimate(error), z_true), abs=1e-12
    )
    assert value("nmad_usual", estimate(scale * error), z_true) == pytest.approx(
        scale * value("nmad_usual", estimate(error), z_true), abs=1e-12
    )
    assert value("nmad_usual", estimate(error + shift), z_true) == pytest.approx(
        value("nmad_usual", estimate(error), z_true), abs=1e-12
    )
    assert value("mean_bias", estimate(error + shift), z_true) == pytest.approx(
        value("mean_bias", estimate(error), z_true) + shift, abs=1e-12
    )


@given(factor=st.floats(1.0, 10.0))
@settings(max_examples=20, deadline=None)
def test_wider_quoted_errors_never_add_3sigma_outliers(factor):
    z_hat, sigma, z_true = gaussian_sample(300, seed=4)
    assert value("eta_3sigma", z_hat, z_true, factor * sigma) <= value("eta_3sigma", z_hat, z_true, sigma)


def test_table_rows_are_the_functions_on_the_selected_sources():
    rng = np.random.default_rng(5)
    z_true = rng.uniform(0.1, 2.0, 500)
    sigma = 10 ** rng.uniform(-3, -0.5, 500)
    z_hat = np.abs(z_true + sigma * rng.standard_t(3, 500))
    table = metric_table(z_hat, sigma, z_true, CUTS, n_bootstrap=0)
    assert table["cut"].to_list() == [*CUTS, None]
    for row in table.iter_rows(named=True):
        inside = sigma / (1 + z_hat) < (row["cut"] or np.inf)
        assert row["n"] == inside.sum() > 0
        assert row["n_total"] == 500
        for name in RELEASE_METRICS:
            assert row[name] == value(name, z_hat[inside], z_true[inside], sigma[inside]), name


# Below and above the size at which the m-out-of-n bootstrap sets in. The bootstrap error of a median is
# itself noisy.
@pytest.mark.parametrize(("n", "of_median"), [(400, 0.5), (60_000, 0.2)])
def test_bootstrap_errors_against_analytic_standard_errors(n, of_median):
    z_hat, sigma, z_true = gaussian_sample(n, seed=6)
    sigma = sigma / 2  # so that a 3 sigma outlier is not rare: |N(0,1)| > 1.5
    row = metric_table(z_hat, sigma, z_true, (), n_bootstrap=400, seed=1).row(0, named=True)
    fraction = row["eta_3sigma"]
    assert row["mean_bias_err"] == pytest.approx(0.02 / np.sqrt(n), rel=0.15)
    assert row["eta_3sigma_err"] == pytest.approx(np.sqrt(fraction * (1 - fraction) / n), rel=0.15)
    # standard error of a normal sample's MAD: 1.166 sigma / sqrt(n); of its median: 1.253 sigma / sqrt(n)
    assert row["nmad_usual_err"] == pytest.approx(1.166 * 0.02 / np.sqrt(n), rel=of_median)
    assert row["z_score_median_err"] == pytest.approx(1.253 * 2 / np.sqrt(n), rel=of_median)
    assert row["z_score_std_err"] == pytest.approx(2 / np.sqrt(2 * n), rel=0.2)


def test_bootstrap_is_seeded_and_a_row_does_not_depend_on_the_others():
    sample = gaussian_sample(200, seed=7)
    one = metric_table(*sample, (0.01, 0.1), n_bootstrap=50, seed=3)
    assert one.equals(metric_table(*sample, (0.01, 0.1), n_bootstrap=50, seed=3))
    alone = metric_table(*sample, (0.1,), n_bootstrap=50, seed=3, include_all=False)
    assert alone.equals(one.filter(pl.col("cut") == 0.1))
    other = metric_table(*sample, (0.01, 0.1), n_bootstrap=50, seed=4)
    assert one["nmad_paper"].equals(other["nmad_paper"], null_equal=True)
    assert not one["nmad_paper_err"].equals(other["nmad_paper_err"], null_equal=True)


def test_a_fraction_of_none_has_an_error_that_shrinks_with_the_sample():
    errors = []
    for n in (20, 200):
        z_true = np.linspace(0.1, 1, n)
        row = metric_table(z_true + 1e-4, np.full(n, 0.01), z_true, (), n_bootstrap=50).row(0, named=True)
        assert row["eta_3sigma"] == 0.0
        errors.append(row["eta_3sigma_err"])
    assert 0.0 < errors[1] < errors[0] / 5 < 0.02


def test_an_empty_selection_is_null_and_not_zero():
    z_hat, sigma, z_true = gaussian_sample(50, seed=8)
    row = metric_table(z_hat, sigma, z_true, (1e-6,), n_bootstrap=20).row(0, named=True)
    assert row["n"] == 0
    assert row["n_total"] == 50
    assert all(row[name] is None and row[f"{name}_err"] is None for name in RELEASE_METRICS)


def test_no_sources_at_all():
    table = metric_table([], [], [], CUTS)
    assert table["n"].to_list() == [0, 0, 0, 0]
    assert table["nmad_paper"].null_count() == 4
    assert np.isnan(nmad_paper([], [])) and np.isnan(METRICS["eta_3sigma"].of([]))


def test_one_source_has_values_and_no_errors():
    row = metric_table([1.1], [0.05], [1.0], (), n_bootstrap=20).row(0, named=True)
    assert row["mean_bias"] == pytest.approx(0.05)
    assert row["mean_bias_err"] is None


def test_unusable_estimates_are_left_out_and_counted():
    z_hat, sigma, z_true = gaussian_sample(40, seed=9)
    bad_hat = np.concatenate([z_hat, [np.nan, 1.0, 1.0, 1.0]])
    bad_sigma = np.concatenate([sigma, [0.1, np.nan, 0.0, 0.1]])
    bad_true = np.concatenate([z_true, [1.0, 1.0, 1.0, np.nan]])
    clean = metric_table(z_hat, sigma, z_true, CUTS, n_bootstrap=20)
    dirty = metric_table(bad_hat, bad_sigma, bad_true, CUTS, n_bootstrap=20)
    assert dirty["n_total"].to_list() == [44] * 4
    assert dirty.drop("n_total").equals(clean.drop("n_total"))
    assert nmad_paper([1.1, np.nan], [1.0, 1.0]) == nmad_paper([1.1], [1.0])


def test_wrong_input_is_named():
    with pytest.raises(InputError, match=r"equal length.*\(2,\)"):
        metric_table([1.0], [0.1, 0.2], [1.0], CUTS)
    with pytest.raises(InputError, match=r"-0\.1"):
        metric_table([1.0], [0.1], [1.0], (-0.1,))


def test_a_large_sample_needs_no_loop_over_rows():
    z_hat, sigma, z_true = gaussian_sample(1_000_000, seed=10)
    table = metric_table(z_hat, sigma, z_true, (0.02, 0.2), n_bootstrap=20)
    assert table["n"].to_list()[-1] == 1_000_000
