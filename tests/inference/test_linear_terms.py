"""Marginalised lines in the likelihood: against float64 linear algebra, against the integral, and by calibration."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm

from paeplatform.config import RestGridConfig
from paeplatform.inference.model.linear_terms import LinearTerms, LineColumns, fitted, line_columns
from paeplatform.inference.model.model_error import model_error
from paeplatform.inference.model.posterior import LogPosterior, whiten
from paeplatform.inference.model.priors import UniformPrior
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.exact import exact_photometry
from paeplatform.instrument.filters import gaussian_filters
from paeplatform.instrument.slots import SPHEREX_PASSBANDS
from paeplatform.sed.grid import rest_grid
from paeplatform.sed.line_groups import LINE_GROUPS, SPREAD, profiles
from tests.inference.bump_problem import numpy_model, wave_of

N_BAND = 24
Z_PRIOR = UniformPrior(0.05, 2.5)
WAVE = rest_grid(RestGridConfig())


class TwoBumps(eqx.Module):
    """Terms of a toy: a narrow bump each, which moves with redshift."""

    wave: jax.Array
    width: jax.Array

    def columns(self, z, slots, n_external):
        centre = jnp.array([0.5, 0.9]) * (1.0 + z)
        shape = jnp.exp(-0.5 * ((self.wave[None] - centre[:, None]) / (0.06 * centre[:, None])) ** 2)
        return self.width[:, None] * shape


def columns_of(forward, z, width):
    wave = wave_of(forward)
    centre = np.array([0.5, 0.9]) * (1.0 + z)
    return np.array(width)[:, None] * np.exp(
        -0.5 * ((wave[None] - centre[:, None]) / (0.06 * centre[:, None])) ** 2
    )


def of(forward, width, **more):
    terms = None if width is None else TwoBumps(jnp.asarray(wave_of(forward)), jnp.asarray(width))
    linear = None if terms is None else LinearTerms(terms)
    return LogPosterior(forward, Z_PRIOR, linear_terms=linear, **more)


@eqx.filter_jit
def log_like(posterior, u, z, flux, flux_err):
    return posterior.log_likelihood(u, z, flux, flux_err)


def observed(forward, seed, snr, width=(0.0, 0.0)):
    rng = np.random.default_rng(seed)
    u, z = rng.normal(size=2), rng.uniform(0.1, 2.4)
    flux = numpy_model(forward, u, np.array(z))
    flux = (flux + rng.normal(size=2) @ columns_of(forward, z, width)) * rng.uniform(1e-2, 1e3)
    flux_err = rng.uniform(0.3, 3.0, size=N_BAND)
    flux_err *= np.sqrt(np.sum((flux / flux_err) ** 2)) / snr
    return u, z, flux + flux_err * rng.normal(size=N_BAND), flux_err


class Exact(NamedTuple):
    """Of dense float64 matrices: ln L profiled and marginal, both without the constant of the data."""

    profile: float
    marginal: float
    condition: float


def exactly(s, m, columns, growth=None) -> Exact:
    """`columns` are whitened, at amplitude 1."""
    root = np.ones_like(s) if growth is None else np.sqrt(growth)
    s, m, columns = s / root, m / root, columns / root
    plugged = max(s @ m / (m @ m), 0.0)
    covariance = np.eye(len(s)) + (plugged * columns).T @ (plugged * columns)
    inverse = np.linalg.inv(covariance)
    mm, ms = m @ inverse @ m, m @ inverse @ s
    best = max(ms / mm, 0.0)
    determinant = np.linalg.slogdet(covariance)[1] + 2.0 * np.sum(np.log(root))
    r, free = s - best * m, s - ms / mm * m
    profile = -0.5 * (r @ inverse @ r + determinant)
    marginal = -0.5 * (free @ inverse @ free + determinant + np.log(mm)) + norm.logcdf(ms / np.sqrt(mm))
    return Exact(profile, marginal, float(np.linalg.cond(covariance)))


# -- by float64 -------------------------------------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(
    snr=st.sampled_from([3.0, 20.0, 100.0, 300.0]),
    width=st.sampled_from([(0.02, 0.1), (0.3, 0.01), (1.0, 1.0)]),
    seed=st.integers(0, 10**6),
    n_masked=st.integers(0, 18),
    with_error=st.booleans(),
)
def test_the_likelihood_is_the_gaussian_whose_covariance_has_the_terms(
    bump_forward, snr, width, seed, n_masked, with_error
):
    u, z, flux, flux_err = observed(bump_forward, seed, snr, width)
    flux_err[np.random.default_rng(seed).permutation(N_BAND)[:n_masked]] = np.inf
    u, flux, flux_err = (a.astype(np.float32) for a in (u, flux, flux_err))
    z = np.float32(z)
    used = np.isfinite(flux_err)
    sigma = flux_err[used].astype(np.float64)
    s = flux[used] / sigma
    m = numpy_model(bump_forward, u.astype(np.float64), np.array(float(z)))[used] / sigma
    columns = columns_of(bump_forward, float(z), width)[:, used] / sigma
    term = growth = None
    if with_error:
        rest = np.geomspace(0.2, 5.0, 33)
        term = model_error(rest, np.full(33, 0.05), wave_of(bump_forward))
        photometry = whiten(flux, flux_err)
        found = of(bump_forward, None, model_error=term).best_model_and_growth(u, z, photometry)[1]
        growth = np.asarray(found, np.float64)[used]
    expected = exactly(s, m, columns, growth)
    for amplitude in ("profile", "marginal"):
        posterior = of(bump_forward, width, model_error=term, amplitude=amplitude)
        got = float(log_like(posterior, u, z, flux, flux_err))
        wanted = getattr(expected, amplitude)
        if amplitude == "marginal":  # whitening chooses the unit of A, and with it a constant of the source
            got -= np.log(np.sqrt(np.mean(1.0 / sigma**2)))
        # float32: residuals of some snr, and a system with the condition of the covariance
        assert got == pytest.approx(wanted, abs=3e-3 + 3e-6 * snr**2 + 1e-6 * expected.condition, rel=3e-4)


def test_no_width_gives_the_numbers_without(bump_forward):
    for seed in range(6):
        u, z, flux, flux_err = observed(bump_forward, seed, 30.0)
        arguments = tuple(a.astype(np.float32) for a in (u, np.asarray(z), flux, flux_err))
        for amplitude in ("profile", "marginal"):
            without, zero = (
                log_like(of(bump_forward, width, amplitude=amplitude), *arguments)
                for width in (None, (0.0, 0.0))
            )
            assert float(without) == pytest.approx(float(zero), rel=2e-5)


@pytest.mark.parametrize("snr", [20.0, 60.0, 200.0])
def test_what_plugging_the_amplitude_in_neglects(bump_forward, snr):
    """Against the integral over A >= 0 of the Gaussian whose covariance follows A; a constant of the source aside."""
    width = (0.1, 0.2)
    u, z, flux, flux_err = observed(bump_forward, 11, snr, width)
    posterior, rng = of(bump_forward, width, amplitude="marginal"), np.random.default_rng(2)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    off, height = [], []
    for _ in range(40):
        there = (u + 2.0 / np.sqrt(snr) * rng.normal(size=2)).astype(np.float32)
        at = np.float32(z * np.exp(0.5 / snr * rng.normal()))
        got = float(log_like(posterior, there, at, flux.astype(np.float32), flux_err.astype(np.float32)))
        s = flux / flux_err
        m = numpy_model(bump_forward, there.astype(np.float64), np.array(float(at))) / flux_err
        columns = columns_of(bump_forward, float(at), width) / flux_err
        best = max(s @ m / (m @ m), 1e-6)
        amplitude = best * (1.0 + 0.4 * nodes)
        value = [
            multivariate_normal(a * m, np.eye(N_BAND) + a**2 * columns.T @ columns).logpdf(s)
            for a in amplitude
        ]
        top = max(value)
        exact = top + np.log(np.sum(0.4 * best * weights * np.exp(np.array(value) - top)))
        off.append(got - exact)
        height.append(exact)
    off, height = np.array(off), np.array(height)
    near = height > height.max() - 10.0
    assert near.sum() >= 3
    # the neglected change of the covariance over the width of A, where ln L differs by ten
    assert np.ptp(off[near]) < 0.5


def test_the_residual_is_what_chi2_and_its_derivatives_are_of(bump_forward):
    width = (0.2, 0.3)
    u, z, flux, flux_err = observed(bump_forward, 5, 60.0, width)
    posterior = of(bump_forward, width)
    photometry = whiten(flux.astype(np.float32), flux_err.astype(np.float32))
    u, z = u.astype(np.float32), np.float32(z)
    r = posterior.residual(u, z, photometry)
    assert r.shape == (N_BAND + 2,)
    s = flux / flux_err
    m = numpy_model(bump_forward, u.astype(np.float64), np.array(float(z))) / flux_err
    columns = columns_of(bump_forward, float(z), width) / flux_err
    plugged = s @ m / (m @ m)
    inverse = np.linalg.inv(np.eye(N_BAND) + plugged**2 * columns.T @ columns)
    best = m @ inverse @ s / (m @ inverse @ m)
    chi2 = (s - best * m) @ inverse @ (s - best * m)
    assert float(jnp.sum(r**2)) == pytest.approx(chi2, rel=1e-3)
    model, growth = posterior.best_model_and_growth(u, z, photometry)
    assert growth is None
    np.testing.assert_allclose(photometry.signal - model, r[:N_BAND], atol=1e-3)


# -- what it is for ---------------------------------------------------------------------------------------------------
def test_strengths_come_back_with_their_errors():
    """Of a known galaxy, at every signal-to-noise: the best strengths scatter about the truth by their own width."""
    rng = np.random.default_rng(0)
    m = 20.0 * (1.0 + 0.3 * np.sin(np.arange(N_BAND)))
    terms = np.zeros((2, N_BAND))
    terms[0, 5:8], terms[1, 15] = [4.0, 9.0, 4.0], 6.0
    run = jax.jit(lambda s: fitted(s, jnp.asarray(m, jnp.float32), jnp.asarray(terms, jnp.float32)).strength)
    drawn = rng.normal(size=(3000, 2))
    found = np.array([run((m + c @ terms + rng.normal(size=N_BAND)).astype(np.float32)) for c in drawn])
    # posterior variance of the strengths, the amplitude's uncertainty included
    design = np.vstack([m, terms])
    precision = design @ design.T + np.diag([0.0, 1.0, 1.0])
    sigma = np.sqrt(np.diag(np.linalg.inv(precision))[1:])
    score = (found - drawn) / sigma
    # 3,000 scores: a standard deviation is known to 1.3 %, a mean to 0.018
    assert np.abs(score.mean(axis=0)).max() < 0.08 and np.abs(score.std(axis=0) - 1.0).max() < 0.06


# -- of real lines ----------------------------------------------------------------------------------------------------
def test_columns_are_the_lines_through_the_filters():
    filters = gaussian_filters(load_bands())
    terms = line_columns(WAVE, filters, 2.0, 1024, SPHEREX_PASSBANDS)
    assert isinstance(terms, LineColumns) and len(terms.width) == len(LINE_GROUPS)
    spectra = profiles(WAVE)
    in_channels = eqx.filter_jit(lambda t, z: t.columns(z, None))
    bands = load_bands()
    width_um = np.asarray(bands.wave_um) / np.where(np.asarray(bands.wave_um) > 3.82, 120.0, 41.0)
    for z in (0.05, 0.7, 1.9):
        got = np.asarray(in_channels(terms, jnp.float32(z)), np.float64) / np.array(SPREAD)[:, None]
        for group, spectrum in enumerate(spectra):
            expected = exact_photometry(WAVE, spectrum, z, filters)
            assert np.abs(got[group] - expected).max() < 2e-2 * max(expected.max(), 1e-3)
    assert terms.slots is not None
    slots = terms.slots.place(np.asarray(bands.wave_um)[None], width_um[None])
    one = jax.tree.map(lambda part: jnp.asarray(part[0]), slots)
    measured = np.asarray(terms.columns(jnp.float32(0.7), one), np.float64)
    # each basis spectrum by the operator's own call
    for group in range(len(LINE_GROUPS)):
        alone = terms.slots(jnp.eye(len(LINE_GROUPS))[group], jnp.float32(0.7), one)
        np.testing.assert_allclose(measured[group], SPREAD[group] * np.asarray(alone), rtol=1e-4, atol=1e-6)
    channels_only = line_columns(WAVE, filters, 2.0, 64, None)
    with pytest.raises(ValueError, match="of the channels alone"):
        channels_only.columns(jnp.float32(0.7), one)
