"""The one call, end to end on a small untrained bundle, and what it refuses before work."""

import functools
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from paeplatform.config import FitConfig, ProposalConfig, load_preset
from paeplatform.errors import BandSetError, ConfigError
from paeplatform.inference.batches.runtime import source_mesh
from paeplatform.inference.estimate import Estimator
from paeplatform.inference.model.draws import PosteriorDraws
from paeplatform.inference.model.forward_model import build_forward
from paeplatform.inference.model.posterior import LogPosterior, whiten
from paeplatform.inference.model.priors import UniformPrior
from paeplatform.inference.modes.scan import RedshiftScan
from paeplatform.inference.modes.starts import at_redshifts
from paeplatform.inference.results.predictive import posterior_predictive
from paeplatform.inference.results.summaries import ZFlag
from paeplatform.inference.sources import Sources
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.exact import exact_photometry
from paeplatform.instrument.filters import gaussian_filters
from paeplatform.pae.autoencoder import build_autoencoder
from paeplatform.pae.bundle import PaeBundle, RelativeErrors
from paeplatform.pae.flow import build_flow
from paeplatform.pae.proposal import build_proposal

N_LATENT = 3


class Parts(eqx.Module):
    autoencoder: eqx.Module
    flow: eqx.Module


@pytest.fixture(scope="module")
def bands():
    return load_bands()


@pytest.fixture(scope="module")
def filters(bands):
    return gaussian_filters(bands)


@functools.cache
def make_bundle(architecture, condition="none"):
    """A smooth random decoder around a spectrum with a break and a bump, and an untrained flow."""
    preset = load_preset("demo")
    config = preset.pae.autoencoder.model_copy(update={"architecture": architecture})
    wave = np.linspace(0.1, 5.0, 500)
    mean = 0.2 + 1.0 / (1.0 + np.exp(-(wave - 0.4) / 0.02)) + np.exp(-0.5 * ((wave - 1.6) / 0.2) ** 2)
    autoencoder = build_autoencoder(config, N_LATENT, 500, key=jr.key(0), mean_spectrum=mean / mean.mean())
    of_flow = preset.pae.flow.model_copy(update={"condition": condition})
    flow = build_flow(
        of_flow, jr.normal(jr.key(1), (500, N_LATENT)), jnp.linspace(0.1, 2, 500), key=jr.key(2)
    )
    if condition == "redshift":  # so that it does depend on it
        keys = iter(jr.split(jr.key(3), 200))
        layers = jax.tree.map(
            lambda leaf: (
                leaf + 0.1 * jr.normal(next(keys), leaf.shape) if eqx.is_inexact_array(leaf) else leaf
            ),
            flow.layers,
        )
        flow = eqx.tree_at(lambda f: f.layers, flow, layers)
    return PaeBundle(autoencoder, flow, preset.pae, N_LATENT, wave, load_bands().content_hash(), "")


def quick_preset():
    """The demo's, with chains too short to be right and a coarse table."""
    demo = load_preset("demo")
    quick = {
        "n_burnin": 50,
        "n_tune": 40,
        "n_steps": 150,
        "n_discard": 50,
        "init_draws": 256,
        "batch_size": 2,
    }
    return demo.model_copy(
        update={
            "mclmc": demo.mclmc.model_copy(update=quick),
            "instrument": demo.instrument.model_copy(update={"n_redshift_nodes": 512}),
        }
    )


@pytest.fixture(scope="module")
def preset():
    return quick_preset()


@pytest.mark.parametrize(
    ("architecture", "condition"), [("compact", "none"), ("conv", "none"), ("compact", "redshift")]
)
def test_forward_model_is_the_decoded_spectrum_through_the_exact_filters(
    bands, filters, architecture, condition
):
    bundle = make_bundle(architecture, condition)
    forward = build_forward(bundle, filters, 3.0, 1024)
    fast = eqx.filter_jit(lambda forward, u, z: (forward(u, z), forward.spectrum(u, z)))
    decode = eqx.filter_jit(lambda parts, u, z: parts.autoencoder.decode(parts.flow.to_latent(u, z)))
    rng = np.random.default_rng(0)
    for _ in range(3):
        u, z = jnp.asarray(rng.normal(size=N_LATENT), jnp.float32), float(rng.uniform(0.05, 2.5))
        spectrum = np.asarray(decode(Parts(bundle.autoencoder, bundle.flow), u, jnp.asarray(z)), np.float64)
        expected = exact_photometry(bundle.wave, spectrum, z, filters)
        got, drawn = (np.asarray(part) for part in fast(forward, u, jnp.asarray(z)))
        assert np.abs(got - expected).max() < 1e-3 * np.abs(expected).max()
        assert drawn == pytest.approx(spectrum, rel=1e-5, abs=1e-5)


def test_with_a_conditional_flow_places_keep_their_spectrum_at_other_redshifts_and_the_scan_finds_the_source(
    filters,
):
    bundle = make_bundle("compact", "redshift")
    forward = build_forward(bundle, filters, 2.0, 1024)
    u = np.random.default_rng(3).normal(size=(40, N_LATENT)).astype(np.float32)
    z = np.linspace(0.06, 1.9, 40).astype(np.float32)
    moved = at_redshifts(forward, u, z)
    reference = jnp.full(40, bundle.flow.redshift.reference)
    spectra = eqx.filter_jit(lambda forward, u, z: jax.vmap(forward.spectrum)(u, z))
    there, here = np.asarray(spectra(forward, moved, z)), np.asarray(spectra(forward, u, reference))
    np.testing.assert_allclose(there, here, rtol=1e-3, atol=1e-3)
    assert np.abs(moved - u).max() > 0.1
    # a noiseless source, from far away in u
    posterior = LogPosterior(forward, UniformPrior(0.05, 2.0))
    flux = 3.0 * np.asarray(eqx.filter_jit(lambda f, u, z: f(u, z))(forward, u[5], jnp.float32(0.8)))
    mesh = source_mesh()
    flux = np.tile(flux, (mesh.size, 1))
    photometry = whiten(flux, np.ones_like(flux))
    scan = RedshiftScan(posterior, 96, N_LATENT, u[:5], 0)
    found = scan.run(mesh, photometry)
    height = found.height[0]
    assert abs(scan.z[height.argmax()] - 0.8) < 0.02
    # heights are those of the sampled density, which sees the same redshift, up to a constant
    near = np.flatnonzero(height > height.max() - 30.0)
    assert len(near) >= 3
    places = np.column_stack([found.v[0, near, :-1], np.log(scan.z[near])])
    own = jax.vmap(lambda x: posterior.log_prob(x, flux[0], np.ones_like(flux[0])))(places)
    assert np.ptp(np.asarray(own) - height[near]) < 0.05


def test_line_terms_are_switched_by_the_preset_and_widen_what_a_strange_line_makes_sharp(
    bands, filters, preset
):
    bundle = make_bundle("compact")
    prior = UniformPrior(0.05, 2.0)
    on = preset.model_copy(update={"inference": preset.inference.model_copy(update={"line_terms": True})})
    without, with_lines = (
        Estimator(bundle, prior, bands, filters, chosen, method="mclmc") for chosen in (preset, on)
    )
    assert without.posterior.linear_terms is None and with_lines.posterior.linear_terms is not None
    flux = np.asarray(
        eqx.filter_jit(lambda f, u, z: f(u, z))(without.forward, jnp.zeros(3), jnp.float32(0.5))
    )
    # H alpha that is stronger than the model's, by three standard deviations of the library
    halpha = with_lines.posterior.linear_terms.lines.columns(jnp.float32(0.5), None)[2]
    strange = 30.0 * (flux + 3.0 * np.asarray(halpha))
    flux_err = np.full_like(strange, 0.3)
    draws = PosteriorDraws(
        np.zeros((1, 4, 3), np.float32),
        np.full((1, 4), 0.5, np.float32),
        np.full((1, 4), 0.25, np.float32),
        np.zeros((1, 4), np.float32),
    )
    sources = Sources.numbered(strange[None], flux_err[None], 0)
    plain, told = (posterior_predictive(model.posterior, draws, sources) for model in (without, with_lines))
    # at the truth the term explains the line but for what its prior takes, and the prediction has it
    assert told.chi2[0] < 0.02 * plain.chi2[0]
    line = int(np.argmax(np.asarray(halpha)))
    assert told.flux[0, line] == pytest.approx(strange[line], rel=0.03)
    found, _ = with_lines.posterior.with_terms(
        jnp.zeros(3), jnp.float32(0.5), jax.tree.map(lambda x: x[0], sources.whitened(with_lines.posterior))
    )
    # the amplitude that is plugged in is the one without the term, which the line raises a little
    assert float(found.strength[2]) == pytest.approx(3.0, rel=0.1)
    assert np.abs(np.delete(np.asarray(found.strength), 2)).max() < 0.5


def test_estimate_keeps_every_row_in_order_and_ignores_their_company(bands, filters, preset):
    bundle = make_bundle("compact")
    forward = build_forward(bundle, filters, 2.0, 512)
    fast = eqx.filter_jit(lambda forward, u, z: forward(u, z))
    rng = np.random.default_rng(1)
    flux = (
        np.stack([np.asarray(fast(forward, jnp.zeros(N_LATENT), jnp.asarray(z))) for z in (0.3, 0.7, 1.1)])
        * 50.0
    )
    flux_err = np.full_like(flux, 5.0)
    flux = flux + flux_err * rng.normal(size=flux.shape)
    flux_err[2] = np.inf
    flux[2, 0] = np.nan
    ids = np.array([30, 10, 20])
    prior = UniformPrior(0.05, 2.0)
    estimator = Estimator(bundle, prior, bands, filters, preset)
    rows = estimator.estimate(flux, flux_err, ids, progress=False)
    assert rows["object_id"].to_list() == [30, 10, 20]
    assert rows["pae_status"].to_list()[2] == "failed" and rows["pae_z_mean"][2] is None
    assert rows["pae_n_bands"].to_list() == [102, 102, 0]
    assert rows["pae_z_median"].head(2).is_between(0.05, 2.0).all()
    assert (
        rows["pae_chi2"].head(2).is_between(40.0, 250.0).all()
    )  # chi^2 of 102 bands of a model that can fit them
    order = [1, 0]
    again = estimator.estimate(flux[order], flux_err[order], ids[order], progress=False)
    assert again.equals(rows[order])
    assert set(rows["pae_path"].to_list()) == {"mclmc", "none"}  # the bundle has no proposal
    assert rows["input_fault"].to_list() == [None, None, "no_usable_band"]


@functools.cache
def make_proposal():
    cfg = ProposalConfig(
        encoder_widths=(16, 8), n_layers=2, width=8, fit=FitConfig(learning_rate=1e-3, batch_size=4, epochs=1)
    )
    return build_proposal(cfg, N_LATENT, 102, (0.05, 2.0), key=jr.key(3))


def test_importance_sampling_repairs_bad_input_and_leaves_what_it_cannot_do_to_chains(bands, filters, preset):
    bundle = replace(make_bundle("compact"), proposal=make_proposal())
    stages = {"n_proposal": 200, "n_adapted": 200, "n_rounds": 2, "batch_size": 2, "fallback_batch_size": 1}
    quick = preset.model_copy(
        update={
            "importance": preset.importance.model_copy(update=stages),
            "inference": preset.inference.model_copy(update={"n_kept": 50}),
        }
    )
    forward = build_forward(bundle, filters, 2.0, 512)
    fast = eqx.filter_jit(lambda forward, u, z: forward(u, z))
    rng = np.random.default_rng(2)
    clean = 20.0 * np.stack(
        [np.asarray(fast(forward, jnp.zeros(N_LATENT), jnp.asarray(z))) for z in (0.3, 0.6, 0.9, 1.2, 1.5)]
    )
    flux_err = np.full_like(clean, 20.0)
    flux_err[4] = 0.05  # so bright that an untrained proposal meets nothing, and hills are climbed
    flux = clean + flux_err * rng.normal(size=clean.shape)
    ids, prior = np.arange(5), UniformPrior(0.05, 2.0)
    estimator = Estimator(bundle, prior, bands, filters, quick)
    rows = estimator.estimate(flux, flux_err, ids, progress=False)
    assert (
        rows["pae_path"].is_in(["proposal", "adapted", "mclmc"]).all() and rows["pae_path"][4] != "proposal"
    )
    assert rows["pae_path"][0] != "mclmc" and rows["pae_khat"][0] < 0.7 and rows["pae_ess"][0] >= 100

    strict = quick.model_copy(update={"trust": quick.trust.model_copy(update={"ess_min": 1e6})})
    chains = replace(estimator, preset=strict).estimate(flux[:1], flux_err[:1], ids[:1], progress=False)
    assert chains["pae_path"].to_list() == ["mclmc"] and chains["pae_khat"][0] is None
    assert chains["pae_rhat"][0] >= 1.0 - 1e-2
    assert ZFlag.LOW_ESS in ZFlag(chains["z_flags"][0])  # the same limit

    spoiled, errors = flux.copy(), flux_err.copy()
    spoiled[1, 7], errors[2, 8], errors[3] = np.nan, -1.0, np.inf
    again = estimator.estimate(spoiled, errors, ids, progress=False)
    assert again["input_fault"].to_list() == [
        None,
        "flux_not_finite",
        "error_not_positive",
        "no_usable_band",
        None,
    ]
    assert again["pae_status"][3] == "failed" and again["pae_z_mean"][3] is None
    assert again["pae_n_bands"].to_list() == [102, 101, 101, 0, 102]
    assert again[[0, 4]].equals(rows[[0, 4]])  # neighbours keep every bit


def test_bad_input_is_refused_before_work(bands, filters, preset):
    bundle = make_bundle("compact")
    prior = UniformPrior(0.05, 2.0)
    flux, flux_err, ids = np.ones((2, 102)), np.ones((2, 102)), np.array([1, 2])

    def call(**changes):
        given = {"flux": flux, "flux_err": flux_err, "object_id": ids, "bundle": bundle} | changes
        estimator = Estimator(given["bundle"], prior, bands, filters, preset, given.get("method"))
        return estimator.estimate(given["flux"], given["flux_err"], given["object_id"], progress=False)

    with pytest.raises(BandSetError, match="101"):
        call(flux=flux[:, :101])
    with pytest.raises(ConfigError, match="'nuts' must be one of importance, mclmc, pocomc"):
        call(method="nuts")
    with pytest.raises(ConfigError, match="twice"):
        call(object_id=np.array([1, 1]))
    with pytest.raises(ConfigError, match="integers"):
        call(object_id=np.array([1.0, 2.0]))
    other = PaeBundle(
        bundle.autoencoder, bundle.flow, bundle.pae, N_LATENT, bundle.wave, "0123456789abcdef", ""
    )
    with pytest.raises(BandSetError, match="0123456789abcdef"):
        call(bundle=other)


def test_the_models_error_counts_where_the_model_states_it_and_the_preset_wants_it(bands, filters, preset):
    stated = replace(
        make_bundle("compact"), model_error=RelativeErrors(np.geomspace(0.1, 5.0, 9), np.full(9, 0.05))
    )
    off = preset.model_copy(update={"inference": preset.inference.model_copy(update={"model_error": False})})
    z_prior = UniformPrior(0.05, 2.0)

    def posterior(bundle, settings):
        return Estimator(bundle, z_prior, bands, filters, settings).posterior

    term = posterior(stated, preset).model_error
    np.testing.assert_allclose(term.at(jnp.log(1.3), 0.3), 0.05, rtol=1e-6)
    np.testing.assert_allclose(np.exp(term.channel_log_wave), bands.wave_um, rtol=1e-6)
    assert posterior(stated, off).model_error is None
    assert posterior(make_bundle("compact"), preset).model_error is None
