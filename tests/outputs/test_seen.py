"""What the model predicts of single sources is what it predicts of all at once."""

from __future__ import annotations

import numpy as np
import pytest

from paeplatform.inference.estimate import Estimator
from paeplatform.inference.model.draws import PosteriorDraws
from paeplatform.inference.results.predictive import posterior_predictive
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.filters import gaussian_filters
from paeplatform.instrument.measurements import Measurements
from paeplatform.outputs.seen import predictions
from tests.answers.rows import measured
from tests.inference.test_estimate import N_LATENT, make_bundle, quick_preset
from tests.inference.test_estimate_measured import PRIOR, joined

BANDS = load_bands()
IDS = np.array([11, 5, 8, 2])


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator(make_bundle("compact"), PRIOR, BANDS, gaussian_filters(BANDS), quick_preset())


@pytest.fixture(scope="module")
def sources() -> Measurements:
    """One with two visits of each channel, one with nothing usable, two with one visit."""
    one, two = measured(1), measured(1, n_visits=2)
    nothing = Measurements(np.ones(3), -np.ones(3), np.ones(3), np.full(3, 0.02), np.array([0, 3]))
    return joined([two, nothing, one, measured(2).rows(np.array([1]))])


@pytest.fixture(scope="module")
def draws() -> PosteriorDraws:
    rng = np.random.default_rng(0)
    z = rng.uniform(0.3, 0.4, (4, 20)).astype(np.float32)
    weight = np.full((4, 20), 0.05, np.float32)
    z[1], weight[1] = np.nan, np.nan
    u = rng.normal(size=(4, 20, N_LATENT)).astype(np.float32)
    return PosteriorDraws(u, z, weight, np.where(np.isnan(z), np.nan, 0.0).astype(np.float32))


def test_each_source_has_its_own_measurements_and_intervals(
    estimator: Estimator, sources: Measurements, draws: PosteriorDraws
) -> None:
    found = predictions(estimator, sources, IDS, draws)
    assert [seen is not None for seen in found] == [True, False, True, True]
    for row in (0, 2, 3):
        seen, own = found[row], sources.rows(np.array([row]))
        assert seen is not None and int(seen.there.sum()) == own.count[0]
        np.testing.assert_array_equal(seen.measured.flux[0][seen.there], own.flux)
        (group,) = (group for group in estimator.measured_sources(sources, IDS) if row in group.rows)
        place = int(np.flatnonzero(group.rows == row)[0])
        part = PosteriorDraws(
            *(getattr(draws, name)[group.rows] for name in ("u", "z", "weight", "log_prob"))
        )
        whole = posterior_predictive(estimator.posterior, part, group.sources)
        np.testing.assert_allclose(seen.predictive.flux[0], whole.flux[place], rtol=1e-5)
        np.testing.assert_allclose(seen.predictive.flux_high[0], whole.flux_high[place], rtol=1e-5)
        expected = (own.flux - seen.predictive.flux[0][seen.there]) / own.flux_err
        np.testing.assert_allclose(seen.pull[seen.there], expected)
        assert np.isnan(seen.pull[~seen.there]).all()


def test_some_sources_in_any_order_are_those_of_all(
    estimator: Estimator, sources: Measurements, draws: PosteriorDraws
) -> None:
    everything, some = (
        predictions(estimator, sources, IDS, draws, rows) for rows in (None, np.array([3, 1, 0]))
    )
    assert some[1] is None
    for one, row in ((some[0], 3), (some[2], 0)):
        other = everything[row]
        assert one is not None and other is not None
        np.testing.assert_allclose(one.predictive.flux, other.predictive.flux, rtol=1e-5)
        np.testing.assert_array_equal(one.measured.wave_um, other.measured.wave_um)
    assert predictions(estimator, sources, IDS, draws, np.zeros(0, int)) == []
