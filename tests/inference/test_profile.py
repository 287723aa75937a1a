"""The profile likelihood against SciPy's L-BFGS-B in float64, and what it says of well-measured sources."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from paeplatform.errors import InputError
from paeplatform.inference.model.posterior import LogPosterior
from paeplatform.inference.model.priors import BpzPrior, UniformPrior
from paeplatform.inference.profile_likelihood import LARGEST_U, ProfileLikelihood, profile_likelihood
from paeplatform.paper.profiles import N_RANGES, best_fits

LIMITS = (0.05, 2.0)


def make_source(forward, u, z, snr, seed):
    rng = np.random.default_rng(seed)
    flux = 40.0 * np.asarray(forward(jnp.asarray(u), jnp.asarray(z)), np.float64)
    flux_err = rng.uniform(0.5, 2.0, size=flux.size)
    flux_err *= np.sqrt(np.sum((flux / flux_err) ** 2)) / snr
    return flux + flux_err * rng.normal(size=flux.size), flux_err


def numpy_chi2(forward, u, z, flux, flux_err):
    """Float64: bump model, amplitude of eq. 4 kept at zero or above."""
    log_wave = forward.log_wave.astype(np.float64)
    bump = np.exp(-0.5 * ((log_wave - np.log1p(z) - 0.1) / 0.15) ** 2)
    model = np.exp(0.4 * u[0] * (log_wave - 1.0)) * (1.0 + bump * np.exp(0.5 * u[1])) / flux_err
    best = max((flux / flux_err) @ model / (model @ model), 0.0)
    return np.sum((flux / flux_err - best * model) ** 2)


def scipy_best(forward, z, flux, flux_err, nf_prior, rng):
    """Least objective of five L-BFGS-B runs within the same bounds."""
    runs = [
        minimize(
            lambda u: numpy_chi2(forward, u, z, flux, flux_err) + nf_prior * np.sum(u**2),
            rng.normal(size=2),
            method="L-BFGS-B",
            bounds=[(-LARGEST_U, LARGEST_U)] * 2,
            options={"ftol": 1e-14, "gtol": 1e-9},
        )
        for _ in range(5)
    ]
    return min(run.fun for run in runs)


@pytest.mark.parametrize("nf_prior", [False, True])
def test_no_worse_than_scipys_best_of_five(bump_forward, nf_prior):
    rng = np.random.default_rng(4)
    sources = [
        make_source(bump_forward, [0.4, 0.3], 0.8, snr, seed) for seed, snr in enumerate((6.0, 30.0, 150.0))
    ]
    flux, flux_err = (np.stack(part) for part in zip(*sources, strict=True))
    grid = np.linspace(*LIMITS, 24)
    # the amplitude of eq. 14 is profiled, whatever the sampler does with it
    posterior = LogPosterior(bump_forward, BpzPrior(1.4, 0.6, 1.3, *LIMITS), amplitude="marginal")
    got = profile_likelihood(
        posterior, flux, flux_err, n_latent=2, z_grid=grid, nf_prior=nf_prior, seed=1, progress=False
    )
    assert (np.abs(got.u_best) <= LARGEST_U).all() and got.nf_prior is nf_prior
    for i in range(3):
        for k in range(0, 24, 4):
            expected = scipy_best(bump_forward, grid[k], flux[i], flux_err[i], nf_prior, rng)
            # 0.02 is what "arrived" may leave (a step that gains less than 0.01), and float32 makes 1e-5 of chi^2
            assert got.objective[i, k] < expected + 0.02 + 1e-5 * expected
            own = numpy_chi2(bump_forward, got.u_best[i, k].astype(np.float64), grid[k], flux[i], flux_err[i])
            assert got.chi2[i, k] == pytest.approx(own, abs=5e-3, rel=1e-5)


def test_well_measured_sources_peak_at_their_redshift(bump_forward):
    z_true = np.array([0.3, 0.71, 1.2])
    sources = [make_source(bump_forward, [0.4, 0.3], z, 120.0, seed) for seed, z in enumerate(z_true)]
    flux, flux_err = (np.stack(part) for part in zip(*sources, strict=True))
    got = profile_likelihood(
        LogPosterior(bump_forward, UniformPrior(*LIMITS)), flux, flux_err, n_latent=2, progress=False
    )
    assert got.z_grid.shape == (300,) and got.z_grid[[0, -1]] == pytest.approx(LIMITS)
    assert np.all(np.diff(got.z_grid) == pytest.approx(np.diff(got.z_grid)[0]))
    pz = got.pz()
    assert np.trapezoid(pz, got.z_grid, axis=1) == pytest.approx(np.ones(3))
    mean = np.trapezoid(pz * got.z_grid, got.z_grid, axis=1)
    std = np.sqrt(np.trapezoid(pz * (got.z_grid - mean[:, None]) ** 2, got.z_grid, axis=1))
    assert (np.abs(got.z_best - z_true) < 4.0 * std + np.diff(got.z_grid)[0]).all() and (std < 0.06).all()
    # 24 bands less two latents, redshift and amplitude: chi^2 of 20 degrees of freedom lies in 3-50 but for 1e-4
    assert ((got.chi2.min(axis=1) > 3.0) & (got.chi2.min(axis=1) < 50.0)).all()


def test_prior_on_z_enters_the_density_only_when_given():
    grid = np.linspace(*LIMITS, 50)
    flat = ProfileLikelihood(
        grid,
        np.zeros((1, 50)),
        np.ones((1, 50, 2), np.float32),
        np.zeros((1, 50)),
        np.zeros((1, 50), bool),
        False,
    )
    prior = BpzPrior(1.4, 0.6, 1.3, *LIMITS)
    assert flat.pz()[0] == pytest.approx(np.full(50, 1.0 / (LIMITS[1] - LIMITS[0])))
    shape = grid**1.4 * np.exp(-((grid / 0.6) ** 1.3))
    assert flat.pz(prior)[0] == pytest.approx(shape / np.trapezoid(shape, grid), rel=1e-4)


def test_unusable_sources_hold_nan_and_leave_their_neighbours_alone(bump_forward):
    flux, flux_err = make_source(bump_forward, [0.4, 0.3], 0.8, 30.0, 0)
    flux, flux_err = np.stack([flux] * 4), np.stack([flux_err] * 4)
    flux_err[1], flux[2, 3] = np.inf, np.nan
    flux_err[3, 10:], flux[3, 10] = -1.0, np.nan
    posterior, grid = LogPosterior(bump_forward, UniformPrior(*LIMITS)), np.linspace(*LIMITS, 8)
    got = profile_likelihood(posterior, flux, flux_err, n_latent=2, z_grid=grid, progress=False)
    assert np.isnan(got.chi2).all(axis=1).tolist() == [False, True, True, False]
    assert np.isnan(got.u_best[1]).all() and np.isnan(got.z_best[1]) and np.isnan(got.pz()[1]).all()
    alone = profile_likelihood(posterior, flux[:1], flux_err[:1], n_latent=2, z_grid=grid, progress=False)
    assert np.array_equal(alone.chi2[0], got.chi2[0]) and np.array_equal(alone.u_best[0], got.u_best[0])
    assert (got.chi2[3] < got.chi2[0]).all()  # the ten bands that are left are fitted at least as well


def test_bad_grids_are_refused(bump_forward):
    posterior = LogPosterior(bump_forward, UniformPrior(*LIMITS))
    flux = flux_err = np.ones((1, 24))
    for grid, match in (([0.5, 0.4], "ascending"), ([0.01, 0.4], "limits"), ([0.4], "two")):
        with pytest.raises(InputError, match=match):
            profile_likelihood(posterior, flux, flux_err, n_latent=2, z_grid=np.array(grid), progress=False)
    with pytest.raises(InputError, match="n_restarts 0"):
        profile_likelihood(posterior, flux, flux_err, n_latent=2, n_restarts=0, progress=False)


def test_the_fits_drawn_are_those_of_the_profile(bump_forward):
    """Their chi^2 from the model fluxes [uJy] is the profile's, and the first is the one nearest the truth."""
    flux, flux_err = make_source(bump_forward, [0.4, 0.3], 0.8, 40.0, 3)
    flux_err[:2] = np.inf
    posterior = LogPosterior(bump_forward, UniformPrior(*LIMITS))
    found = profile_likelihood(
        posterior, flux[None], flux_err[None], n_latent=2, z_grid=np.linspace(*LIMITS, 24), progress=False
    )
    z, model = best_fits(posterior, found, flux[None], flux_err[None], np.array([0.8]))
    assert z.shape == (1, 1 + N_RANGES) and abs(z[0, 0] - 0.8) <= 0.5 * np.diff(found.z_grid).max()
    assert np.isnan(model[0, :, :2]).all()
    nodes = np.searchsorted(found.z_grid, z[0])
    chi2 = np.nansum(((flux - model[0]) / flux_err) ** 2, axis=1)
    np.testing.assert_allclose(chi2, found.chi2[0, nodes], rtol=1e-3, atol=0.02)
    ranges = np.array_split(found.chi2[0], N_RANGES)
    np.testing.assert_array_equal(found.chi2[0, nodes[1:]], [part.min() for part in ranges])
