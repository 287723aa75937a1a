"""How wrong a model is, learnt from galaxies that it does not know."""

import numpy as np
import pytest

from paeplatform.errors import InputError
from paeplatform.inference.left_out import Misses, correlated_bands, misses, relative_error
from paeplatform.inference.model.posterior import LogPosterior
from paeplatform.inference.model.priors import UniformPrior
from paeplatform.inference.modes.scan import RedshiftScan
from tests.inference.bump_problem import numpy_model, wave_of

NODES = np.geomspace(0.25, 4.0, 20)
N_SOURCE = 90


def galaxies(forward, size):
    """(scan, flux, errors, node): galaxies whose fluxes are off by `size(ln rest wavelength)` times a normal number."""
    rng = np.random.default_rng(6)
    scan = RedshiftScan(LogPosterior(forward, UniformPrior(0.05, 2.5)), 24, 2, None, 0)
    node = rng.integers(2, 22, N_SOURCE)
    z = scan.z[node].astype(np.float64)
    model = numpy_model(forward, rng.normal(size=(N_SOURCE, 2)), z)
    log_rest = forward.log_wave.astype(np.float64) - np.log1p(z)[:, None]
    flux = 40.0 * model * (1.0 + size(log_rest) * rng.normal(size=model.shape))
    return scan, flux, np.full(flux.shape, 0.3), node


def test_the_errors_that_were_put_in_are_found(bump_forward):
    def size(log_rest):
        return np.where(log_rest < 0.0, 0.03, 0.09)

    scan, flux, flux_err, node = galaxies(bump_forward, size)
    found = misses(scan, flux, flux_err, node, wave_of(bump_forward))
    eps = relative_error([found], NODES)
    # Each node has some 100 numbers, whose rms is known to 7 %, and the fit's share is given back in the mean alone: a
    # fit that follows the large errors of the red misses the blue by more.
    blue, red = np.log(NODES) < -0.2, np.log(NODES) > 0.2
    assert 0.9 * 0.03 < eps[blue].mean() < 1.3 * 0.03
    assert eps[red].mean() == pytest.approx(0.09, rel=0.15)
    halves = [
        Misses(found.log_rest[rows], found.relative[rows], 3) for rows in (slice(0, 50), slice(50, None))
    ]
    np.testing.assert_allclose(relative_error(halves, NODES), eps, rtol=1e-12)


def test_galaxies_that_the_model_knows_are_missed_by_nothing(bump_forward):
    scan, flux, flux_err, node = galaxies(bump_forward, lambda log_rest: 0.0 * log_rest)
    found = misses(scan, flux, flux_err, node, wave_of(bump_forward))
    assert np.abs(found.relative).max() < 0.02 and np.median(np.abs(found.relative)) < 2e-3
    assert (relative_error([found], NODES) < 5e-3).all()


def test_bands_left_out_say_nothing(bump_forward):
    scan, flux, flux_err, node = galaxies(bump_forward, lambda log_rest: 0.0 * log_rest)
    flux, flux_err = flux[:5].copy(), flux_err[:5].copy()
    flux[:, 7], flux_err[:, 7] = 1e6, np.inf
    found = misses(scan, flux, flux_err, node[:5], wave_of(bump_forward))
    assert np.isnan(found.relative[:, 7]).all() and np.isfinite(np.delete(found.relative, 7, axis=1)).all()
    assert np.nanmax(np.abs(found.relative)) < 0.02


def test_one_absent_line_is_no_error_of_all_models():
    relative = np.full((40, 20), 0.02) * np.random.default_rng(0).choice([-1.0, 1.0], (40, 20))
    relative[0, 3] = 50.0
    found = Misses(np.broadcast_to(np.log(NODES), (40, 20)), relative, 0)
    assert (relative_error([found], NODES) < 0.035).all()


def test_nodes_without_bands_take_the_nearest():
    log_rest = np.broadcast_to(np.log(NODES[5:9]), (30, 4))
    found = Misses(log_rest, np.broadcast_to([0.01, 0.02, 0.03, 0.04], (30, 4)), 0)
    eps = relative_error([found], NODES)
    np.testing.assert_allclose(eps[:5], eps[5])
    np.testing.assert_allclose(eps[9:], eps[8])
    assert np.isfinite(eps).all()


def test_what_does_not_agree_is_refused(bump_forward):
    scan, flux, flux_err, node = galaxies(bump_forward, lambda log_rest: 0.0 * log_rest)
    wave = wave_of(bump_forward)
    with pytest.raises(InputError, match="do not agree"):
        misses(scan, flux, flux_err[:, :3], node, wave)
    with pytest.raises(InputError, match="24 redshifts"):
        misses(scan, flux[:1], flux_err[:1], np.array([99]), wave)
    with pytest.raises(InputError, match="no band"):
        relative_error([Misses(np.zeros((1, 2)), np.full((1, 2), np.nan), 3)], NODES)


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.8])
def test_neighbours_that_miss_alike_are_counted(memory):
    """Of a first-order autoregressive sequence the sum is (1 + memory)/(1 - memory)."""
    rng = np.random.default_rng(1)
    miss = rng.normal(size=(4000, 102))
    for band in range(1, 102):
        miss[:, band] = memory * miss[:, band - 1] + np.sqrt(1 - memory**2) * miss[:, band]
    size = rng.uniform(0.001, 0.1, (4000, 1))
    found = Misses(np.zeros((4000, 102)), size * miss, 0)
    expected = (1.0 + memory) / (1.0 - memory)
    # The end of the lags takes 1 % away; the limit at three times the typical miss some more, since with a long memory
    # the typical miss of a galaxy is that of few independent bands.
    assert correlated_bands([found]) == pytest.approx(expected, rel=0.1)
    halves = [
        Misses(found.log_rest[rows], found.relative[rows], 0) for rows in (slice(0, 999), slice(999, None))
    ]
    assert correlated_bands(halves) == pytest.approx(correlated_bands([found]), rel=1e-9)


def test_without_misses_no_band_is_like_its_neighbour():
    assert correlated_bands([Misses(np.zeros((2, 5)), np.zeros((2, 5)), 0)]) == 1.0
    assert correlated_bands([Misses(np.zeros((2, 5)), np.full((2, 5), np.nan), 0)]) == 1.0
    assert correlated_bands([]) == 1.0
