"""The scan over redshift against scipy's least squares; what it changes of importance sampling, and what not."""

import jax
import numpy as np
import pytest
from scipy.optimize import least_squares

from paeplatform.inference.batches.progress import SILENT
from paeplatform.inference.batches.runtime import source_mesh
from paeplatform.inference.importance.sampling import run_importance
from paeplatform.inference.modes.scan import RedshiftScan, Scanned
from paeplatform.inference.sources import Sources
from tests.inference.line_problem import (
    CONFIG,
    N_BAND,
    TRUST,
    Z_MAX,
    Z_MIN,
    numpy_model,
    posterior,
    source,
    untrained,
)

N_REDSHIFT = 24


def in_channels(flux, flux_err, n):
    """The same source in every place of a batch."""
    sources = Sources(np.stack([flux] * n), np.stack([flux_err] * n), np.arange(n), 0)
    return sources.whitened(posterior()).in_channels


def least(flux, flux_err, z):
    """min over u of chi^2 + |u|^2 at a redshift, amplitude profiled, float64, from a grid of starts."""
    used = np.isfinite(flux_err)
    s = (flux[used] / flux_err[used]).astype(np.float64)

    def residual(u):
        m = numpy_model(u, np.array(z))[used] / flux_err[used]
        return np.concatenate([s - max(m @ s / (m @ m), 0.0) * m, u])

    starts = [(a, b) for a in (-4.0, 0.0, 4.0) for b in (-4.0, 0.0, 4.0, 8.0)]
    return min(2.0 * least_squares(residual, start, xtol=1e-12).cost for start in starts)


@pytest.mark.parametrize("snr", [20.0, 150.0])
def test_heights_are_those_of_scipy(snr):
    flux, flux_err = source(3, snr, 0.7)
    mesh, problem = source_mesh(), posterior()
    scan = RedshiftScan(problem, N_REDSHIFT, 2, None, 0)
    found = scan.run(mesh, in_channels(flux, flux_err, mesh.size))
    assert scan.z[0] == pytest.approx(Z_MIN, rel=1e-6) and scan.z[-1] == pytest.approx(Z_MAX, rel=1e-6)
    prior = np.array([float(problem.z_prior.log_density(z)) + np.log(z) for z in scan.z])
    expected = prior - 0.5 * np.array([least(flux, flux_err, z) for z in scan.z])
    # a valley that all starts of either search miss may differ; the scan may not lie below by more than it stops at
    assert np.all(found.height[0] > expected - 0.1 - 1e-3 * np.abs(expected))
    assert found.height[0].max() == pytest.approx(expected.max(), abs=0.05)
    u, t = found.v[0, :, :-1], found.v[0, :, -1]
    assert np.exp(np.asarray(problem.log_z_of(t))) == pytest.approx(scan.z, rel=2e-3)
    chi2 = [
        np.sum(least_chi2(flux, flux_err, u[i], scan.z[i])) + np.sum(u[i].astype(np.float64) ** 2)
        for i in range(N_REDSHIFT)
    ]
    # what is returned is the place of the height
    assert prior - 0.5 * np.array(chi2) == pytest.approx(found.height[0], rel=1e-3, abs=0.02)


def least_chi2(flux, flux_err, u, z):
    used = np.isfinite(flux_err)
    s = (flux[used] / flux_err[used]).astype(np.float64)
    m = numpy_model(u.astype(np.float64), np.array(float(z)))[used] / flux_err[used]
    return (s - max(m @ s / (m @ m), 0.0) * m) ** 2


def test_places_to_start_from_are_hills_first():
    height = np.array([[1.0, 5.0, 4.9, 0.0, 3.0, -np.inf], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]])
    v = np.arange(12.0).reshape(2, 6, 1)
    chosen = Scanned(v, height).best(3)[..., 0]
    assert chosen.tolist() == [[1.0, 4.0, 2.0], [11.0, 10.0, 9.0]]
    # more places than redshifts: they come again
    assert Scanned(v, height).best(8)[0, :, 0].tolist() == [1.0, 4.0, 2.0, 0.0, 3.0, 5.0, 1.0, 4.0]


def run(flux, flux_err, **changes):
    sources = Sources(flux, flux_err, np.arange(len(flux)) + 3, 4)
    cfg = CONFIG.model_copy(update=changes)
    return run_importance(posterior(), untrained(), sources, cfg, TRUST, n_kept=200, progress=SILENT)


def test_sources_that_the_model_knows_are_left_as_they_are():
    """Scanned all, found none: the same bytes as without a scan."""
    pairs = [source(seed, snr, z) for seed, snr, z in ((0, 8.0, 0.5), (1, 40.0, 0.9), (3, 200.0, 0.7))]
    flux, flux_err = (np.stack(part) for part in zip(*pairs, strict=True))
    with_scan = run(flux, flux_err, scan_above_snr=0.1)
    without = run(flux, flux_err, n_scanned=0)
    assert with_scan.scanned.all() and not with_scan.restarted.any()
    assert not without.scanned.any()
    for name, values in without.columns.items():
        assert np.array_equal(values, with_scan.columns[name], equal_nan=values.dtype.kind == "f"), name
    assert np.array_equal(with_scan.draws.u, without.draws.u)


def far_source(u1, z, snr):
    rng = np.random.default_rng(8)
    flux = numpy_model(np.array([0.0, u1]), np.array(z))
    flux_err = np.full(N_BAND, np.sqrt(np.sum(flux**2)) / snr)
    return (flux + flux_err * rng.normal(size=N_BAND)).astype(np.float32), flux_err.astype(np.float32)


@pytest.mark.parametrize(("u1", "z"), [(14.0, 1.8), (20.0, 0.3), (14.0, 1.1)])
def test_a_spectrum_far_from_all_draws_is_found(u1, z):
    """Lines a hundred times those of the prior: draws and climbs end beside it, their weights on one draw."""
    flux, flux_err = (part[None] for part in far_source(u1, z, 1000.0))
    blind, found = run(flux, flux_err, n_scanned=0), run(flux, flux_err)
    assert not blind.trusted[0] and blind.ess[0] < 10.0
    assert found.scanned[0] and found.restarted[0] and found.trusted[0]
    mean, std = (found.columns[f"pae_z_{name}"][0] for name in ("mean", "std"))
    assert std < 2e-3 and abs(mean - z) < 4.0 * std
    # the least chi^2 + |u|^2 over the redshifts around, by scipy, is no better than the best draw's
    best = -2.0 * found.draws.log_prob[0].max()
    grid = np.linspace(mean - 5.0 * std, mean + 5.0 * std, 11)
    prior = [float(posterior().z_prior.log_density(x)) + np.log(x) for x in grid]
    expected = min(least(flux[0], flux_err[0], x) - 2.0 * p for x, p in zip(grid, prior, strict=True))
    # the constant of N(u; 0, I), and what the best of 200 draws in three dimensions leaves
    assert best < expected + 2.0 * np.log(2.0 * np.pi) + 3.0


def test_the_share_of_the_priors_is_what_is_left_without_the_likelihood():
    problem = posterior()
    flux, flux_err = source(3, 40.0, 0.7)
    photometry = jax.tree.map(lambda part: part[0], in_channels(flux, flux_err, 1))
    for v in np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32):
        z = np.exp(problem.log_z_of(v[-1]))
        like = problem.log_likelihood(v[:-1], z, flux, flux_err)
        whole, prior = problem.free_log_prob(v, photometry), problem.free_log_prior(v)
        assert float(whole - prior) == pytest.approx(float(like), rel=1e-4, abs=1e-3)
