"""The model's own error in the likelihood, against float64 arithmetic, against integration over the amplitude, and by
the calibration of what it is for."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, nnls

from paeplatform.errors import ConfigError
from paeplatform.inference.batches.progress import SILENT
from paeplatform.inference.mclmc.chains import run_mclmc
from paeplatform.inference.model.model_error import ModelError, model_error
from paeplatform.inference.model.posterior import LogPosterior, whiten
from paeplatform.inference.model.priors import UniformPrior
from paeplatform.inference.sources import Sources
from tests.inference.bump_problem import numpy_model, wave_of

N_BAND = 24
Z_PRIOR = UniformPrior(0.05, 2.5)
REST = np.geomspace(0.2, 5.0, 33)


def errors(size, seed=0):
    """eps(lambda): large and small by turns, some of it zero."""
    rng = np.random.default_rng(seed)
    return size * np.clip(
        0.5 + 0.5 * np.sin(3.0 * np.log(REST)) + 0.3 * rng.normal(size=len(REST)), 0.0, None
    )


def of(forward, relative, **settings):
    term = None if relative is None else model_error(REST, relative, wave_of(forward))
    return LogPosterior(forward, Z_PRIOR, model_error=term, **settings)


@eqx.filter_jit
def log_like(posterior, u, z, flux, flux_err):
    return posterior.log_likelihood(u, z, flux, flux_err)


def observed(forward, seed, snr):
    rng = np.random.default_rng(seed)
    u, z = rng.normal(size=2), rng.uniform(0.1, 2.4)
    flux = numpy_model(forward, u, np.array(z)) * rng.uniform(1e-2, 1e3)
    flux_err = rng.uniform(0.3, 3.0, size=N_BAND)
    flux_err *= np.sqrt(np.sum((flux / flux_err) ** 2)) / snr
    return u, z, flux + flux_err * rng.normal(size=N_BAND), flux_err


def variance(m, s, eps):
    """V/sigma^2 at the amplitude that is best given it: the root of a scalar equation; m and s whitened, float64."""

    def best(amplitude):
        growth = 1.0 + (eps * amplitude * m) ** 2
        return max(np.sum(s * m / growth) / np.sum(m * m / growth), 0.0) - amplitude

    start = max(s @ m / (m @ m), 0.0)
    if start == 0.0:
        return np.ones_like(m)
    amplitude = brentq(best, 0.2 * start, 5.0 * start)
    return 1.0 + (eps * amplitude * m) ** 2


# -- by float64 -------------------------------------------------------------------------------------------------------
@settings(max_examples=60)
@given(
    snr=st.sampled_from([3.0, 20.0, 100.0, 300.0]),
    size=st.sampled_from([0.01, 0.05, 0.15]),
    seed=st.integers(0, 10**6),
    n_masked=st.integers(0, 20),
)
def test_the_likelihood_is_the_gaussian_of_noise_and_model_error(bump_forward, snr, size, seed, n_masked):
    u, z, flux, flux_err = observed(bump_forward, seed, snr)
    flux_err[np.random.default_rng(seed).permutation(N_BAND)[:n_masked]] = np.inf
    relative = errors(size, seed)
    u, flux, flux_err = (a.astype(np.float32) for a in (u, flux, flux_err))
    z = np.float32(z)
    got = float(log_like(of(bump_forward, relative), u, z, flux, flux_err))

    used = np.isfinite(flux_err)
    sigma = flux_err[used].astype(np.float64)
    s = flux[used] / sigma
    m = numpy_model(bump_forward, u.astype(np.float64), np.array(float(z)))[used] / sigma
    rest = np.log(wave_of(bump_forward)[used]) - np.log1p(float(z))
    growth = variance(m, s, np.interp(rest, np.log(REST), relative))
    _, rms = nnls((m / np.sqrt(growth))[:, None], s / np.sqrt(growth))
    expected = -0.5 * rms**2 - 0.5 * np.sum(np.log(growth))
    # float32 residuals, and an amplitude within V that is some steps from its fixed point, where ln L is stationary but
    # for the small change of V
    assert got == pytest.approx(expected, abs=2e-3 + 2e-4 * rms**2, rel=0.0)


def test_no_error_gives_the_numbers_of_the_model_without(bump_forward):
    for seed in range(8):
        u, z, flux, flux_err = observed(bump_forward, seed, 30.0)
        arguments = tuple(a.astype(np.float32) for a in (u, np.asarray(z), flux, flux_err))
        for amplitude in ("profile", "marginal"):
            without, zero = (
                log_like(of(bump_forward, relative, amplitude=amplitude), *arguments)
                for relative in (None, np.zeros(len(REST)))
            )
            # two programs, whose sums may round differently
            assert float(without) == pytest.approx(float(zero), rel=1e-5)


@pytest.mark.parametrize("snr", [20.0, 60.0, 200.0])
def test_what_plugging_the_amplitude_in_neglects(bump_forward, snr):
    """Against the integral over A >= 0 of the Gaussian whose variance follows A, at places across the posterior.

    A constant of the source does not matter. What is left is below 0.1 in ln L, where the places differ by many.
    """
    relative = errors(0.05)
    u, z, flux, flux_err = observed(bump_forward, 11, snr)
    rng = np.random.default_rng(2)
    posterior = of(bump_forward, relative, amplitude="marginal")
    nodes, weights = np.polynomial.legendre.leggauss(200)
    off, height = [], []
    for _ in range(40):
        there = (u + 2.0 / np.sqrt(snr) * rng.normal(size=2)).astype(np.float32)
        at = np.float32(z * np.exp(0.5 / np.sqrt(snr) * rng.normal()))
        got = float(log_like(posterior, there, at, flux.astype(np.float32), flux_err.astype(np.float32)))
        m = numpy_model(bump_forward, there.astype(np.float64), np.array(float(at))) / flux_err
        s = flux / flux_err
        eps = np.interp(np.log(wave_of(bump_forward)) - np.log1p(float(at)), np.log(REST), relative)
        best, width = s @ m / (m @ m), 1.0 / np.sqrt(m @ m / (1.0 + np.max(eps * m * (s @ m / (m @ m))) ** 2))
        reach = min(12.0 * width, 0.999 * best)
        amplitude = best + reach * nodes
        growth = 1.0 + (eps * amplitude[:, None] * m) ** 2
        value = -0.5 * np.sum((s - amplitude[:, None] * m) ** 2 / growth + np.log(growth), axis=1)
        exact = value.max() + np.log(np.sum(weights * reach * np.exp(value - value.max())))
        off.append(got - exact)
        height.append(exact)
    off, height = np.asarray(off), np.asarray(height)
    near = height > height.max() - 15.0
    assert near.sum() > 5
    assert np.ptp(off[near]) < 0.1


def test_units_and_masked_bands_change_nothing(bump_forward):
    u, z, flux, flux_err = observed(bump_forward, 4, 80.0)
    posterior = of(bump_forward, errors(0.05))
    flux_err[[3, 9]] = np.inf
    u, z = u.astype(np.float32), np.float32(z)
    base = float(log_like(posterior, u, z, flux.astype(np.float32), flux_err.astype(np.float32)))
    scaled = float(
        log_like(posterior, u, z, (64 * flux).astype(np.float32), (64 * flux_err).astype(np.float32))
    )
    assert scaled == pytest.approx(base, abs=2e-4)
    flux[[3, 9]] = [1e6, np.nan]
    other = float(log_like(posterior, u, z, flux.astype(np.float32), flux_err.astype(np.float32)))
    assert other == base


def test_residuals_are_in_units_of_the_whole_error(bump_forward):
    """So that chi^2 and the Fisher matrix of whoever climbs are those of the likelihood."""
    u, z, flux, flux_err = observed(bump_forward, 4, 150.0)
    posterior = of(bump_forward, errors(0.05))
    photometry = whiten(jnp.asarray(flux, jnp.float32), jnp.asarray(flux_err, jnp.float32))
    u, z = jnp.asarray(u, jnp.float32), jnp.float32(z)
    model, growth = posterior.best_model_and_growth(u, z, photometry)
    off = (photometry.signal - model) / jnp.sqrt(growth)
    np.testing.assert_allclose(posterior.residual(u, z, photometry), off, rtol=1e-5, atol=1e-5)
    expected = -0.5 * float(jnp.sum(off**2) + jnp.sum(jnp.log(growth)))
    assert float(posterior.log_likelihood(u, z, flux, flux_err)) == pytest.approx(expected, abs=1e-3)
    assert (np.asarray(growth) >= 1.0).all() and float(jnp.max(growth)) > 2.0
    gradient = jax.grad(lambda u: posterior.log_likelihood_of(u, z, photometry))(u)
    assert np.isfinite(gradient).all()


# -- what it is for ---------------------------------------------------------------------------------------------------
def z_scores(posterior, flux, flux_err, truth):
    """(z - truth)/sigma of each source by sums over a grid in (u, ln z) that covers the priors."""
    axis = jnp.linspace(-3.0, 3.0, 25)
    log_z = jnp.linspace(jnp.log(0.06), jnp.log(2.4), 400)
    u = jnp.stack(jnp.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)

    @eqx.filter_jit
    def p_z(posterior, flux, flux_err):
        def at(t):
            x = jnp.concatenate([u, jnp.full((len(u), 1), t)], axis=1)
            return jax.nn.logsumexp(jax.vmap(lambda x: posterior.log_prob(x, flux, flux_err))(x))

        return jax.lax.map(at, log_z)

    z, scores = np.exp(np.asarray(log_z, np.float64)), []
    for one, err, true in zip(flux, flux_err, truth, strict=True):
        value = np.asarray(p_z(posterior, jnp.asarray(one), jnp.asarray(err)), np.float64)
        p = np.exp(value - value.max())
        p /= p.sum()
        mean = p @ z
        scores.append((mean - true) / np.sqrt(p @ (z - mean) ** 2))
    return np.asarray(scores)


@pytest.mark.slow
def test_galaxies_that_the_model_describes_wrongly_get_honest_redshifts(bump_forward):
    """Fluxes of bright galaxies are off by eps: without the term p(z) is far too narrow, with it it is right."""
    n, rng = 120, np.random.default_rng(8)
    u, z = rng.normal(size=(n, 2)), rng.uniform(0.3, 1.6, size=n)
    model = numpy_model(bump_forward, u, z)
    relative = np.full(len(REST), 0.06)
    flux_err = np.repeat(np.sqrt(np.sum(model**2, axis=1, keepdims=True)) / 150.0, N_BAND, axis=1)
    flux = model * (1.0 + 0.06 * rng.normal(size=model.shape)) + flux_err * rng.normal(size=model.shape)
    flux, flux_err = flux.astype(np.float32), flux_err.astype(np.float32)
    without = z_scores(of(bump_forward, None, amplitude="marginal"), flux, flux_err, z)
    honest = z_scores(of(bump_forward, relative, amplitude="marginal"), flux, flux_err, z)
    # the standard deviation of n normal numbers is 1 +- 1/sqrt(2n)
    assert abs(honest.std() - 1.0) < 4.0 / np.sqrt(2.0 * n)
    assert without.std() > 1.4


# -- tables -----------------------------------------------------------------------------------------------------------
def test_between_the_nodes_it_is_linear_and_beyond_them_as_at_the_end():
    term = model_error(REST, errors(0.1), np.linspace(0.7, 5.0, 9))
    z = np.float32(0.8)
    wave = np.geomspace(0.1, 20.0, 200)
    got = term.at(jnp.asarray(np.log(wave), jnp.float32), z)
    expected = np.interp(np.log(wave) - np.log1p(float(z)), np.log(REST), errors(0.1))
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("wave", "relative", "said"),
    [
        (REST[:1], [0.1], "at least 2"),
        (REST, [0.1], "one length"),
        (REST[:2], [0.1, -0.1], "not negative"),
        (REST[:2], [0.1, np.nan], "finite"),
        ([1.0, -2.0], [0.1, 0.1], "positive"),
        ([1.0, 2.0, 3.0], [0.1] * 3, "one factor"),
        ([2.0, 1.0], [0.1] * 2, "increase"),
    ],
)
def test_a_table_that_is_none(wave, relative, said):
    with pytest.raises(ConfigError, match=said):
        model_error(np.asarray(wave), np.asarray(relative), np.ones(3))


def test_a_table_is_kept_by_its_numbers_alone():
    """Static parts are numbers, so that programs of two tables alike are one."""
    one, other = (model_error(REST, errors(size), np.ones(4)) for size in (0.1, 0.2))
    assert isinstance(one, ModelError)
    assert jax.tree.structure(one) == jax.tree.structure(other)


def test_chains_that_jump_to_prior_draws_follow_the_likelihood_with_the_term(bump_forward, quick_mclmc):
    """Against a grid over (u, z): jumps are accepted by scores of the draws, which have to know the term too."""
    posterior = of(bump_forward, np.full(len(REST), 0.3))
    _, _, flux, flux_err = observed(bump_forward, 21, 25.0)
    flux, flux_err = flux.astype(np.float32), flux_err.astype(np.float32)
    sources = Sources.numbered(flux[None], flux_err[None], 3)
    at_each_step = quick_mclmc.model_copy(update={"jump_every": 1, "init_draws": 16384})
    samples = run_mclmc(posterior, sources, at_each_step, n_latent=2, progress=SILENT)
    u0, u1 = (np.linspace(-5.0, 5.0, 61).astype(np.float32),) * 2
    log_z = np.linspace(np.log(0.0501), np.log(2.499), 220).astype(np.float32)
    grid = np.stack(np.meshgrid(u0, u1, log_z, indexing="ij"), axis=-1).reshape(-1, 3)
    value = np.asarray(
        jax.jit(lambda x: jax.lax.map(lambda x: posterior.log_prob(x, flux, flux_err), x, batch_size=4096))(
            grid
        ),
        np.float64,
    ).reshape(61, 61, 220)
    weight = np.exp(value - value.max()).sum(axis=(0, 1))
    weight /= weight.sum()
    mean = np.sum(weight * log_z)
    std = np.sqrt(np.sum(weight * (log_z - mean) ** 2))
    drawn = np.log(samples.z.reshape(-1))
    # four chains of a thousand steps with jumps: some hundred independent draws
    assert abs(drawn.mean() - mean) < 0.25 * std
    assert drawn.std() == pytest.approx(std, rel=0.2)
