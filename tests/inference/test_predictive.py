"""Predicted fluxes against closed forms, amplitudes included, and chi^2 against NumPy."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, norm, truncnorm

from paeplatform.config import load_preset
from paeplatform.errors import InputError
from paeplatform.inference.model.draws import PosteriorDraws
from paeplatform.inference.model.forward_model import build_forward
from paeplatform.inference.model.model_error import model_error
from paeplatform.inference.model.posterior import LogPosterior, whiten
from paeplatform.inference.model.priors import UniformPrior
from paeplatform.inference.results.predictive import (
    observed_wave,
    positive_normal,
    posterior_predictive,
    reconstruction_chi2,
    thin_draws,
    weighted_quantiles,
)
from paeplatform.inference.sources import Sources
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.exact import exact_photometry
from paeplatform.instrument.filters import gaussian_filters
from paeplatform.pae.autoencoder import build_autoencoder
from paeplatform.pae.bundle import PaeBundle
from paeplatform.pae.flow import build_flow
from tests.inference.bump_problem import wave_of

PRIOR = UniformPrior(0.05, 2.0)


def some_draws(n_source, n_draw, seed=0, n_latent=2):
    rng = np.random.default_rng(seed)
    weight = rng.gamma(1.0, size=(n_source, n_draw))
    return PosteriorDraws(
        u=(0.3 * rng.normal(size=(n_source, n_draw, n_latent))).astype(np.float32),
        z=rng.uniform(0.5, 0.6, size=(n_source, n_draw)).astype(np.float32),
        weight=(weight / weight.sum(axis=1, keepdims=True)).astype(np.float32),
        log_prob=np.zeros((n_source, n_draw), np.float32),
    )


def photometry_of(forward, n_source, snr=20.0, seed=1):
    rng = np.random.default_rng(seed)
    u, z = jnp.asarray([0.1, -0.2]), jnp.asarray(0.55)
    flux = 30.0 * np.asarray(forward(u, z), np.float64) * np.ones((n_source, 1))
    flux_err = rng.uniform(0.5, 2.0, size=flux.shape)
    flux_err *= np.sqrt(np.sum((flux / flux_err) ** 2, axis=1, keepdims=True)) / snr
    return flux + flux_err * rng.normal(size=flux.shape), flux_err


def best_amplitude(model, flux, flux_err):
    """Eq. 4 over the usable bands, in float64: (draw,) amplitude and its error."""
    w = np.where(np.isfinite(flux_err), 1.0 / flux_err**2, 0.0)
    a = np.sum(w * model**2, axis=1)
    return np.sum(w * np.where(w > 0, flux, 0.0) * model, axis=1) / a, 1.0 / np.sqrt(a)


def test_intervals_are_quantiles_of_the_scaled_models_masked_bands_included(bump_forward):
    draws, (flux, flux_err) = some_draws(3, 300), photometry_of(bump_forward, 3)
    flux_err[1, 4:9], flux[1, 4] = np.inf, np.nan
    posterior = LogPosterior(bump_forward, PRIOR)
    got = posterior_predictive(posterior, draws, Sources.numbered(flux, flux_err, 0))
    for i in range(3):
        model = np.asarray(jax.vmap(bump_forward)(draws.u[i], draws.z[i]), np.float64)
        best, _ = best_amplitude(model, flux[i], flux_err[i])
        scaled = np.maximum(best, 0.0)[:, None] * model
        for k, level in enumerate((0.6827, 0.9545)):
            low, high = weighted_quantiles(
                scaled, draws.weight[i], np.array([0.5 - level / 2, 0.5 + level / 2])
            )
            assert got.flux_low[i, k] == pytest.approx(low, rel=1e-4)
            assert got.flux_high[i, k] == pytest.approx(high, rel=1e-4)
        usable = np.isfinite(flux_err[i])
        mean = draws.weight[i].astype(np.float64) @ scaled
        expected = np.sum(((flux[i] - mean) / flux_err[i])[usable] ** 2)
        assert got.chi2[i] == pytest.approx(expected, rel=1e-3)
    assert (got.flux_low[:, 1] <= got.flux_low[:, 0]).all() and (got.flux_low[:, 0] <= got.flux).all()


def test_profiled_amplitude_is_the_posteriors_own(bump_forward):
    """One draw: the predicted flux, whitened, is `LogPosterior.best_model`."""
    draws, (flux, flux_err) = some_draws(2, 1), photometry_of(bump_forward, 2)
    flux[1] = -flux[1]  # best amplitude zero
    posterior = LogPosterior(bump_forward, PRIOR)
    got = posterior_predictive(posterior, draws, Sources.numbered(flux, flux_err, 0))
    for i in range(2):
        photometry = whiten(jnp.asarray(flux[i]), jnp.asarray(flux_err[i]))
        expected = posterior.best_model(jnp.asarray(draws.u[i, 0]), jnp.asarray(draws.z[i, 0]), photometry)
        assert got.flux[i] / flux_err[i] == pytest.approx(np.asarray(expected), rel=1e-4, abs=1e-6)


def test_marginal_amplitude_widens_the_intervals_by_its_own_error(bump_forward):
    """All draws alike: the intervals are then those of A alone, the truncated normal of eq. 4."""
    n = 4000
    one, (flux, flux_err) = some_draws(1, 1), photometry_of(bump_forward, 1, snr=1.5)
    draws = PosteriorDraws(
        u=np.repeat(one.u, n, axis=1),
        z=np.repeat(one.z, n, axis=1),
        weight=np.full((1, n), 1.0 / n, np.float32),
        log_prob=np.zeros((1, n), np.float32),
    )
    posterior = LogPosterior(bump_forward, PRIOR, amplitude="marginal")
    got = posterior_predictive(posterior, draws, Sources.numbered(flux, flux_err, 0), max_draws=n)
    model = np.asarray(bump_forward(one.u[0, 0], one.z[0, 0]), np.float64)
    best, error = (float(x[0]) for x in best_amplitude(model[None], flux[0], flux_err[0]))
    law = truncnorm(-best / error, np.inf, best, error)
    for k, level in enumerate((0.6827, 0.9545)):
        for end, p in ((got.flux_low, 0.5 - level / 2), (got.flux_high, 0.5 + level / 2)):
            # the quantile's own Monte Carlo error: sqrt(p (1-p) / n) in probability, four of them
            noise = 4.0 * np.sqrt(p * (1.0 - p) / n)
            assert law.cdf(end[0, k] / model) == pytest.approx(p, abs=noise)
    again = posterior_predictive(posterior, draws, Sources.numbered(flux, flux_err, 0), max_draws=n)
    other = posterior_predictive(posterior, draws, Sources.numbered(flux, flux_err, 1), max_draws=n)
    assert np.array_equal(again.flux, got.flux) and not np.array_equal(other.flux, got.flux)


@pytest.mark.parametrize("ratio", [3.0, 0.0, -4.0, -30.0])
def test_positive_normal_follows_its_law_also_far_in_the_tail(ratio):
    rng = np.random.default_rng(int(10 * ratio) % 97)
    drawn = positive_normal(np.full(2000, 2.0 * ratio), np.full(2000, 2.0), rng)
    assert drawn.min() >= 0.0
    assert kstest(drawn, lambda x: 1.0 - norm.sf(x / 2.0 - ratio) / norm.sf(-ratio)).pvalue > 1e-3


def test_with_the_models_errors_the_predicted_amplitude_and_chi2_are_the_posteriors(bump_forward):
    draws, (flux, flux_err) = some_draws(3, 40), photometry_of(bump_forward, 3, snr=100.0)
    nodes = np.geomspace(0.2, 5.0, 9)
    term = model_error(nodes, np.linspace(0.02, 0.3, 9), wave_of(bump_forward))
    posterior, sources = (
        LogPosterior(bump_forward, PRIOR, model_error=term),
        Sources.numbered(flux, flux_err, 0),
    )
    got = posterior_predictive(posterior, draws, sources)
    np.testing.assert_allclose(got.chi2, reconstruction_chi2(posterior, draws, sources).mean, rtol=1e-3)
    one = PosteriorDraws(draws.u[:, :1], draws.z[:, :1], np.ones((3, 1), np.float32), draws.log_prob[:, :1])
    alone = posterior_predictive(posterior, one, sources)
    without = posterior_predictive(LogPosterior(bump_forward, PRIOR), one, sources)
    for i in range(3):
        photometry = whiten(jnp.asarray(flux[i]), jnp.asarray(flux_err[i]))
        expected = posterior.best_model(jnp.asarray(one.u[i, 0]), jnp.asarray(one.z[i, 0]), photometry)
        assert alone.flux[i] / flux_err[i] == pytest.approx(np.asarray(expected), rel=1e-4)
        assert abs(alone.flux[i] / without.flux[i] - 1.0).max() > 1e-3


def test_reconstruction_chi2_is_that_of_the_weighted_mean_and_of_the_best_draw(bump_forward):
    draws, (flux, flux_err) = some_draws(11, 200), photometry_of(bump_forward, 11)
    draws.z[3], draws.weight[3] = np.nan, np.nan
    draws.weight[:, 5] = 0.0
    posterior = LogPosterior(bump_forward, PRIOR)
    chi2, best, z, each = reconstruction_chi2(posterior, draws, Sources.numbered(flux, flux_err, 0))
    assert np.array_equal(z, draws.z, equal_nan=True) and each.shape == z.shape
    for i in (0, 10):
        at = [k for k in range(200) if k != 5]  # a draw without weight is none
        models = [
            np.asarray(bump_forward(jnp.asarray(draws.u[i, k]), jnp.asarray(draws.z[i, k]))) for k in at
        ]
        whitened = np.stack(models).astype(np.float64) / flux_err[i]
        signal = np.asarray(flux[i], np.float64) / flux_err[i]
        amplitude = np.maximum(whitened @ signal / np.sum(whitened**2, axis=1), 0.0)
        expected = np.sum((signal - amplitude[:, None] * whitened) ** 2, axis=1)
        assert best[i] == pytest.approx(expected.min(), rel=1e-3) and best[i] == each[i].min()
        assert each[i, at] == pytest.approx(expected, rel=1e-3) and np.isinf(each[i, 5])
    assert np.isnan(best[3]) and np.isnan(each[3, :5]).all()
    predicted = posterior_predictive(posterior, draws, Sources.numbered(flux, flux_err, 0))
    assert np.isnan(chi2[3]) and np.isnan(predicted.flux[3]).all() and np.isnan(predicted.flux_low[3]).all()
    others = np.arange(11) != 3
    assert chi2[others] == pytest.approx(predicted.chi2[others], rel=1e-3)
    thinned = reconstruction_chi2(posterior, draws, Sources.numbered(flux, flux_err, 0), max_draws=64).mean
    assert thinned[others] == pytest.approx(chi2[others], rel=0.1)


def test_thinning_keeps_the_distribution_and_small_samples():
    draws = some_draws(2, 5000)
    thin = thin_draws(draws, 500)
    assert thin.z.shape == (2, 500) and thin.weight.sum(axis=1) == pytest.approx([1.0, 1.0], rel=1e-5)
    order = np.argsort(draws.z, axis=1)  # sorted by z, the picks follow the weighted CDF to within 1/n
    rows = np.arange(2)[:, None]
    ordered = PosteriorDraws(
        draws.u[rows, order], draws.z[rows, order], draws.weight[rows, order], draws.log_prob
    )
    thin = thin_draws(ordered, 500)
    for i in range(2):
        cdf = np.cumsum(ordered.weight[i].astype(np.float64))
        at = np.searchsorted(ordered.z[i], thin.z[i], side="right") - 1
        assert np.abs(cdf[at] - (np.arange(500) + 0.5) / 500).max() < 2.5e-3
    assert thin_draws(draws, 5000) is draws
    with pytest.raises(InputError, match="at least 1"):
        thin_draws(draws, 0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 40), factor=st.floats(1e-3, 1e3))
def test_weighted_quantiles_rise_and_do_not_know_scale_or_order(seed, n, factor):
    rng = np.random.default_rng(seed)
    values, weight = rng.normal(size=(n, 3)), rng.gamma(0.5, size=n) + 1e-3
    p = np.array([0.02, 0.16, 0.5, 0.84, 0.98])
    got = weighted_quantiles(values, weight, p)
    assert (np.diff(got, axis=0) >= 0.0).all()
    assert (got >= values.min(axis=0)).all() and (got <= values.max(axis=0)).all()
    shuffled = rng.permutation(n)
    again = weighted_quantiles(values[shuffled], factor * weight[shuffled], p)
    assert again == pytest.approx(got, rel=1e-9, abs=1e-9)


def test_the_spectrum_through_the_exact_filters_is_the_predicted_flux():
    """One draw: the median spectrum is that draw's, in uJy, so that its band fluxes are the median fluxes."""
    preset, wave = load_preset("demo"), np.linspace(0.1, 5.0, 500)
    mean = 0.2 + 1.0 / (1.0 + np.exp(-(wave - 0.4) / 0.02)) + np.exp(-0.5 * ((wave - 1.6) / 0.2) ** 2)
    bands = load_bands()
    filters = gaussian_filters(bands)
    network = build_autoencoder(
        preset.pae.autoencoder, 2, 500, key=jr.key(0), mean_spectrum=mean / mean.mean()
    )
    flow = build_flow(preset.pae.flow, jr.normal(jr.key(1), (500, 2)), key=jr.key(2))
    bundle = PaeBundle(network, flow, preset.pae, 2, wave, bands.content_hash(), "")
    forward = build_forward(bundle, filters, 2.0, 1024)
    draws = some_draws(1, 1)
    rng = np.random.default_rng(5)
    flux_err = rng.uniform(1.0, 3.0, (1, len(bands)))
    flux = 25.0 + flux_err * rng.normal(size=flux_err.shape)
    got = posterior_predictive(
        LogPosterior(forward, PRIOR), draws, Sources.numbered(flux, flux_err, 0), spectrum=True
    )
    assert (
        got.spectrum is not None and got.spectrum.shape == (1, 500) and got.spectrum_low.shape == (1, 2, 500)
    )
    expected = exact_photometry(wave, got.spectrum[0], float(draws.z[0, 0]), filters)
    assert got.flux[0] == pytest.approx(expected, rel=1e-3)
    none = PosteriorDraws(draws.u, draws.z * np.nan, draws.weight * np.nan, draws.log_prob)
    empty = posterior_predictive(
        LogPosterior(forward, PRIOR), none, Sources.numbered(flux, flux_err, 0), spectrum=True
    )
    assert empty.spectrum is not None and empty.spectrum.shape == (1, 500) and np.isnan(empty.spectrum).all()


def test_bad_requests_are_refused(bump_forward):
    draws, (flux, flux_err) = some_draws(2, 10), photometry_of(bump_forward, 2)
    posterior = LogPosterior(bump_forward, PRIOR)
    with pytest.raises(InputError, match="do not agree"):
        posterior_predictive(posterior, draws, Sources.numbered(flux[:1], flux_err[:1], 0))
    with pytest.raises(InputError, match="within"):
        posterior_predictive(posterior, draws, Sources.numbered(flux, flux_err, 0), levels=(0.68, 1.0))
    with pytest.raises(InputError, match="no spectrum"):
        posterior_predictive(posterior, draws, Sources.numbered(flux, flux_err, 0), spectrum=True)


def test_observed_wavelengths():
    assert observed_wave(np.array([1.0, 2.0]), np.array([0.0, 1.5])) == pytest.approx(
        np.array([[1.0, 2.0], [2.5, 5.0]])
    )
