"""Scores against the packages the field and its neighbours use: scoringrules and qp."""

import numpy as np
import pytest
import qp
import scoringrules
from qp.metrics.concrete_metric_classes import CDELossMetric
from qp.metrics.pit import PIT
from scipy import stats

from paeplatform.errors import InputError
from paeplatform.scores.calibration import ks_distance_to_uniform, pit_from_quantiles
from paeplatform.scores.scores import CDE_EDGES, cde_loss_from_quantiles, crps_from_quantiles

LEVELS = np.linspace(0.002, 0.998, 251)


@pytest.fixture(scope="module")
def gaussians() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(8)
    mean, sigma = rng.uniform(0.4, 2.2, 300), rng.uniform(0.02, 0.2, 300)
    return mean, sigma, mean + sigma * rng.standard_normal(300)


def quantiles(mean, sigma):
    return mean[:, None] + sigma[:, None] * stats.norm.ppf(LEVELS)


def test_crps_is_scoringrules(gaussians):
    mean, sigma, z = gaussians
    ours = crps_from_quantiles(z, quantiles(mean, sigma), LEVELS)
    np.testing.assert_allclose(ours, scoringrules.crps_normal(z, mean, sigma), rtol=0, atol=4e-4)
    draws = np.random.default_rng(1).normal(mean[:, None], sigma[:, None], (300, 4000))
    ensemble = scoringrules.crps_ensemble(z, draws)
    assert ours.mean() == pytest.approx(float(np.mean(ensemble)), rel=0.01)


def test_cde_loss_is_qps_when_its_grid_resolves_the_density(gaussians):
    """qp reads p(z_true) at the nearest node and integrates by trapezoids; cells around those nodes do the same."""
    mean, sigma, z = gaussians
    nodes = np.linspace(0.0, 3.0, 601)
    edges = np.concatenate([[-0.0025], 0.5 * (nodes[1:] + nodes[:-1]), [3.0025]])
    ours = cde_loss_from_quantiles(z, quantiles(mean, sigma), LEVELS, edges).mean()
    ensemble = qp.Ensemble(qp.stats.norm, data={"loc": mean[:, None], "scale": sigma[:, None]})
    assert ours == pytest.approx(float(CDELossMetric(nodes).evaluate(ensemble, z)), rel=0.01)


def test_cde_loss_depends_on_the_grid_and_is_lowest_for_the_honest_width(gaussians):
    mean, sigma, z = gaussians
    coarse = cde_loss_from_quantiles(z, quantiles(mean, sigma), LEVELS, np.linspace(0, 3, 16)).mean()
    fine = cde_loss_from_quantiles(z, quantiles(mean, sigma), LEVELS, CDE_EDGES).mean()
    assert fine < coarse - 0.1
    rng = np.random.default_rng(4)
    many = np.full(5000, 1.0), np.full(5000, 0.05)
    truth = many[0] + many[1] * rng.standard_normal(5000)
    losses = [
        cde_loss_from_quantiles(truth, quantiles(many[0], f * many[1]), LEVELS).mean() for f in (0.6, 1, 1.7)
    ]
    assert losses[1] < min(losses[0], losses[2])


def test_cde_loss_of_a_truth_outside_the_grid_and_of_no_posterior():
    q = quantiles(np.array([1.0, 1.0]), np.array([0.1, 0.1]))
    q[1] = np.nan
    out = cde_loss_from_quantiles([7.0, 1.0], q, LEVELS)
    assert out[0] == pytest.approx(1 / (2 * np.sqrt(np.pi) * 0.1), rel=0.02), "the integral of p^2 alone"
    assert np.isnan(out[1])
    with pytest.raises(InputError, match="ascend"):
        cde_loss_from_quantiles([1.0], q[:1], LEVELS, [1.0, 0.5])


def test_pit_and_its_ks_distance_are_qps(gaussians):
    mean, sigma, z = gaussians
    ours = pit_from_quantiles(z, quantiles(mean, sigma), LEVELS)
    theirs = PIT(qp.Ensemble(qp.stats.norm, data={"loc": mean[:, None], "scale": sigma[:, None]}), z)
    np.testing.assert_allclose(ours, np.asarray(theirs.pit_samps).ravel(), atol=2e-3)
    expected = stats.kstest(np.asarray(theirs.pit_samps).ravel(), "uniform").statistic
    assert ks_distance_to_uniform(ours) == pytest.approx(expected, abs=2e-3)
