"""Verdicts: met, missed and not measured."""

import numpy as np
import polars as pl
import pytest

from paeplatform.errors import InputError
from paeplatform.scores import targets
from paeplatform.scores.statistics import metric_table


def test_bounds_include_the_target_itself():
    assert targets.against_target("a", 1.0, 1.0, "max")["meets"] is True
    assert targets.against_target("a", 1.0, 1.0, "min")["meets"] is True
    assert targets.against_target("a", 1.1, 1.0, "max")["meets"] is False
    assert targets.against_target("a", 0.9, 1.0, "min")["meets"] is False
    with pytest.raises(InputError, match="bound 'under'"):
        targets.against_target("a", 1.0, 1.0, "under")


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_what_was_not_measured_is_neither_met_nor_missed(value):
    line = targets.against_target("a", value, 1.0, "min")
    assert line["meets"] is None
    assert line["value"] is None


def test_high_snr_targets_read_the_row_of_all_sources():
    z = np.linspace(0.2, 1.5, 100)
    good = metric_table(z * 1.001, np.full(100, 0.01), z, (0.01,), n_bootstrap=0)
    assert [line["meets"] for line in targets.high_snr_targets(good)] == [True, True]
    poor = metric_table(z * 1.1, np.full(100, 0.01), z, (0.01,), n_bootstrap=0)
    assert [line["meets"] for line in targets.high_snr_targets(poor)] == [False, False]
    none = targets.high_snr_targets(good.filter(pl.col("cut").is_not_null()))
    assert [line["meets"] for line in none] == [None, None]


def test_release_targets():
    def verdicts(f_trusted, n_chains=0, f_rhat=None):
        summary = {"f_trusted": f_trusted, "n_chains": n_chains, "f_rhat_below_1_1": f_rhat}
        return [line["meets"] for line in targets.release_targets(summary)]

    assert verdicts(0.98) == [True]
    assert verdicts(0.96) == [False]
    assert verdicts(None) == [None]
    assert verdicts(0.98, 20, 0.9) == [True, False]
    assert verdicts(0.96, 20, 0.95) == [False, True]


def test_model_targets_judge_each_number_by_its_own_limit():
    good = {"median_mse": 4e-5, "p95_mse": 4.9e-4}
    flow = {"max_abs_mean": 0.09, "max_abs_variance_error": 0.21, "round_trip": 9e-5}
    assert [line["meets"] for line in targets.model_targets(good, flow, 1e-4)] == [
        True,
        True,
        True,
        False,
        True,
    ]
    assert [line["meets"] for line in targets.model_targets(good, flow, 3e-5)] == [
        False,
        False,
        True,
        False,
        True,
    ]
    assert [line["meets"] for line in targets.model_targets({}, {}, 1e-4)] == [None] * 5
