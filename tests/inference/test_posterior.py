"""The log posterior against float64 NumPy, its invariances, and the sampler's coordinate."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammainc, gammaln
from scipy.stats import norm

from paeplatform.inference.model.posterior import LogPosterior, whiten
from paeplatform.inference.model.priors import BpzPrior, UniformPrior

PRIOR = BpzPrior(1.4, 0.6, 1.3, 0.003, 3.0)


def numpy_log_prob(forward, x, flux, flux_err, amplitude, nf_prior, reference_err):
    """Eq. 4 to 7 in float64."""
    u, z = x[:-1].astype(np.float64), np.exp(np.float64(x[-1]))
    rest = forward.log_wave.astype(np.float64) - np.log1p(z)
    bump = np.exp(-0.5 * ((rest - 0.1) / 0.15) ** 2)
    model = np.exp(0.4 * u[0] * (forward.log_wave.astype(np.float64) - 1.0)) * (
        1.0 + bump * np.exp(0.5 * u[1])
    )
    w = 1.0 / flux_err.astype(np.float64) ** 2
    a, b = np.sum(w * model**2), np.sum(w * flux * model)
    best = b / a
    if amplitude == "profile":
        log_like = -0.5 * np.sum(w * (flux - max(best, 0.0) * model) ** 2)
    else:
        # a in units of the reference error: a constant of the data
        log_like = -0.5 * np.sum(w * (flux - best * model) ** 2) + norm.logcdf(best * np.sqrt(a))
        log_like -= 0.5 * np.log(a * reference_err**2)
    t = (1.4 + 1.0) / 1.3
    mass = gammainc(t, (3.0 / 0.6) ** 1.3) - gammainc(t, (0.003 / 0.6) ** 1.3)
    log_p_z = (
        1.4 * np.log(z) - (z / 0.6) ** 1.3 - (2.4 * np.log(0.6) - np.log(1.3) + gammaln(t) + np.log(mass))
    )
    log_p_u = -0.5 * np.sum(u**2) - 0.5 * len(u) * np.log(2 * np.pi) if nf_prior else 0.0
    return log_like + log_p_z + np.log(z) + log_p_u


def make_source(forward, snr, seed):
    rng = np.random.default_rng(seed)
    u, z = rng.normal(size=2).astype(np.float32), rng.uniform(0.1, 1.5)
    flux = np.asarray(forward(jnp.asarray(u), jnp.asarray(z)), np.float64) * 40.0
    flux_err = rng.uniform(0.5, 2.0, size=flux.size)
    flux_err *= np.sqrt(np.sum((flux / flux_err) ** 2)) / snr
    return np.append(u, np.log(z)), flux + flux_err * rng.normal(size=flux.size), flux_err


@pytest.mark.parametrize("amplitude", ["profile", "marginal"])
@pytest.mark.parametrize("nf_prior", [True, False])
@pytest.mark.parametrize("snr", [3.0, 50.0, 200.0])
def test_float32_agrees_with_float64_numpy(bump_forward, amplitude, nf_prior, snr):
    posterior = LogPosterior(bump_forward, PRIOR, nf_prior=nf_prior, amplitude=amplitude)
    log_prob = eqx.filter_jit(posterior.log_prob)
    rng = np.random.default_rng(8)
    for seed in range(5):
        truth, flux, flux_err = make_source(bump_forward, snr, seed)
        reference_err = np.sqrt(len(flux_err) / np.sum(1.0 / flux_err**2))
        for scatter in (0.0, 1.0 / snr):  # at the truth and about one posterior width beside it
            x = (truth + scatter * rng.normal(size=3)).astype(np.float32)
            expected = numpy_log_prob(bump_forward, x, flux, flux_err, amplitude, nf_prior, reference_err)
            got = float(log_prob(jnp.asarray(x), jnp.asarray(flux), jnp.asarray(flux_err)))
            # Residuals of size 1 are differences of signals of size snr/sqrt(24), each rounded to 6e-8 relative and put
            # through some ten float32 operations: 24 terms of 1e-6 snr/5 each in chi^2, added in quadrature.
            assert got == pytest.approx(expected, abs=1e-3 * max(snr / 200.0, 0.1))


@settings(max_examples=25, deadline=None)
@given(
    factor=st.floats(1e-12, 1e12), seed=st.integers(0, 50), amplitude=st.sampled_from(["profile", "marginal"])
)
def test_flux_unit_does_not_matter(bump_forward, factor, seed, amplitude):
    posterior = LogPosterior(bump_forward, PRIOR, amplitude=amplitude)
    x, flux, flux_err = make_source(bump_forward, 20.0, seed)
    first = float(posterior.log_prob(jnp.asarray(x), jnp.asarray(flux), jnp.asarray(flux_err)))
    second = float(
        posterior.log_prob(jnp.asarray(x), jnp.asarray(factor * flux), jnp.asarray(factor * flux_err))
    )
    assert second == pytest.approx(first, abs=2e-4)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), amplitude=st.sampled_from(["profile", "marginal"]))
def test_order_of_bands_does_not_matter(bump_forward, seed, amplitude):
    x, flux, flux_err = make_source(bump_forward, 20.0, seed)
    order = np.random.default_rng(seed).permutation(flux.size)
    shuffled = type(bump_forward)(bump_forward.log_wave[order])
    values = [
        float(
            LogPosterior(f, PRIOR, amplitude=amplitude).log_prob(
                jnp.asarray(x), jnp.asarray(a), jnp.asarray(b)
            )
        )
        for f, a, b in ((bump_forward, flux, flux_err), (shuffled, flux[order], flux_err[order]))
    ]
    assert values[0] == pytest.approx(values[1], abs=2e-4)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    bad_err=st.sampled_from([np.inf, np.nan, 0.0, -1.0]),
    amplitude=st.sampled_from(["profile", "marginal"]),
)
def test_masked_bands_equal_removed_bands(bump_forward, seed, bad_err, amplitude):
    x, flux, flux_err = make_source(bump_forward, 20.0, seed)
    masked = np.random.default_rng(seed).permutation(flux.size)[:9]
    kept = np.setdiff1d(np.arange(flux.size), masked)
    damaged_flux, damaged_err = flux.copy(), flux_err.copy()
    damaged_err[masked], damaged_flux[masked[:3]] = bad_err, np.nan
    with_mask = LogPosterior(bump_forward, PRIOR, amplitude=amplitude)
    without = LogPosterior(type(bump_forward)(bump_forward.log_wave[kept]), PRIOR, amplitude=amplitude)
    value, slope = jax.value_and_grad(with_mask.log_prob)(*map(jnp.asarray, (x, damaged_flux, damaged_err)))
    expected, expected_slope = jax.value_and_grad(without.log_prob)(
        *map(jnp.asarray, (x, flux[kept], flux_err[kept]))
    )
    assert float(value) == pytest.approx(float(expected), abs=2e-4)
    assert np.asarray(slope) == pytest.approx(np.asarray(expected_slope), rel=1e-3, abs=1e-2)


def test_negative_fluxes_get_amplitude_zero_not_a_negative_one(bump_forward):
    posterior = LogPosterior(bump_forward, PRIOR, nf_prior=False)
    flux, flux_err = -np.ones(24), np.ones(24)
    u = jnp.zeros(2)
    values = [
        posterior.log_likelihood(u + k, jnp.asarray(0.5), jnp.asarray(flux), jnp.asarray(flux_err))
        for k in (0, 1)
    ]
    assert np.asarray(values) == pytest.approx(-0.5 * 24)


def test_marginal_amplitude_is_the_integral_over_non_negative_amplitudes(bump_forward):
    """Differences of ln L between models equal those of a numerical integral over A, also where A* is negative."""
    posterior = LogPosterior(bump_forward, PRIOR, amplitude="marginal")
    flux_err = np.ones(24)
    for flux in (np.linspace(3.0, 5.0, 24), np.linspace(-0.3, 0.1, 24)):
        got, expected = [], []
        for u0 in (0.0, 1.5):
            u = jnp.asarray([u0, 0.3])
            got.append(
                float(posterior.log_likelihood(u, jnp.asarray(0.7), jnp.asarray(flux), jnp.asarray(flux_err)))
            )
            model = np.asarray(bump_forward(u, jnp.asarray(0.7)), np.float64)
            grid = np.linspace(0.0, 10.0, 40001)
            chi2 = np.sum((flux[:, None] - grid * model[:, None]) ** 2, axis=0)
            expected.append(np.log(np.trapezoid(np.exp(-0.5 * (chi2 - chi2.min())), grid)) - 0.5 * chi2.min())
        assert got[0] - got[1] == pytest.approx(expected[0] - expected[1], abs=1e-4)


@pytest.mark.parametrize("limits", [(0.003, 3.0), (0.5, 0.6)])
def test_sampler_coordinate_covers_exactly_the_limits(bump_forward, limits):
    posterior = LogPosterior(bump_forward, UniformPrior(*limits))
    t = jnp.linspace(-40.0, 40.0, 4001)
    log_z = np.asarray(posterior.log_z_of(t))
    assert np.all(np.diff(log_z) >= -1e-5)  # rising but for the rounding of float32
    assert np.exp(log_z[[0, -1]]) == pytest.approx(limits, rel=1e-5)
    inner = jnp.linspace(np.log(limits[0]), np.log(limits[1]), 41)[1:-1]
    assert np.asarray(posterior.log_z_of(posterior.coordinate_of(inner))) == pytest.approx(
        np.asarray(inner), abs=1e-5
    )
    slope = jax.vmap(jax.grad(posterior.log_z_of))(posterior.coordinate_of(inner))
    assert np.asarray(posterior.log_bend(posterior.coordinate_of(inner))) == pytest.approx(
        np.log(slope), abs=1e-3
    )


def test_sampler_density_is_the_posterior_with_the_jacobian(bump_forward):
    posterior = LogPosterior(bump_forward, PRIOR)
    x, flux, flux_err = map(jnp.asarray, make_source(bump_forward, 20.0, 1))
    v = x.at[-1].set(posterior.coordinate_of(x[-1]))
    free = posterior.free_log_prob(v, whiten(flux, flux_err)) - posterior.log_bend(v[-1])
    assert float(free) == pytest.approx(float(posterior.log_prob(x, flux, flux_err)), abs=1e-3)
    outside = x.at[-1].set(np.log(3.1))
    assert float(posterior.log_prob(outside, flux, flux_err)) == -np.inf
