"""Posteriors of measurements at their own wavelengths, end to end on a small untrained bundle."""

from __future__ import annotations

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from paeplatform.errors import ConfigError
from paeplatform.inference.batches.blocks import like_block
from paeplatform.inference.estimate import SLOT_COUNTS, Estimator
from paeplatform.inference.model.posterior import LogPosterior
from paeplatform.inference.model.priors import UniformPrior
from paeplatform.inference.modes.starts import prior_bank, score_bank
from paeplatform.inference.results.binning import UNSAFE
from paeplatform.inference.results.predictive import posterior_predictive
from paeplatform.inference.results.summaries import ZFlag
from paeplatform.inference.sources import Sources
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.filters import gaussian_filters
from paeplatform.instrument.measurements import COLUMNS, Measurements, padded
from tests.inference.test_estimate import N_LATENT, make_bundle, make_proposal, quick_preset

PRIOR = UniformPrior(0.05, 2.0)
REDSHIFTS = (0.3, 0.6, 0.9)


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    quick = quick_preset()
    stages = {"n_proposal": 200, "n_adapted": 200, "n_rounds": 2, "batch_size": 2, "fallback_batch_size": 1}
    preset = quick.model_copy(
        update={
            "importance": quick.importance.model_copy(update=stages),
            "inference": quick.inference.model_copy(update={"n_kept": 50}),
        }
    )
    bands = load_bands()
    bundle = replace(make_bundle("compact"), proposal=make_proposal())
    return Estimator(bundle, PRIOR, bands, gaussian_filters(bands), preset)


def joined(parts: list[Measurements]) -> Measurements:
    columns = [np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS]
    count = np.concatenate([part.count for part in parts])
    return Measurements(*columns, start=np.concatenate([[0], np.cumsum(count)]))


def galaxy(estimator: Estimator, z: float, n_visits: int, seed: int, snr: float = 1.0) -> Measurements:
    """`n_visits` measurements of each channel, at random wavelengths in it, noise included."""
    rng, bands = np.random.default_rng(seed), estimator.bands
    wave = np.tile(bands.wave_um, n_visits) * np.exp(0.008 * rng.uniform(-1.0, 1.0, 102 * n_visits))
    width = np.tile(bands.bandwidth_um, n_visits)
    slots = jax.tree.map(jnp.asarray, estimator.forward.place(wave, width))
    model = eqx.filter_jit(lambda f, u, z, s: f.measured(u, z, s))
    flux = 20.0 * np.asarray(model(estimator.forward, jnp.zeros(N_LATENT), jnp.float32(z), slots), np.float64)
    error = np.full(len(wave), 20.0 / snr)
    return Measurements(
        flux + error * rng.standard_normal(len(wave)), error, wave, width, np.array([0, len(wave)])
    )


def test_the_channels_are_measurements_at_their_centres(estimator: Estimator) -> None:
    """ln L of 102 measurements at the centres is that of the channels, to what float32 leaves of it at this SNR."""
    rng, bands = np.random.default_rng(0), estimator.bands
    flux, error = rng.normal(20.0, 3.0, (3, 102)), np.full((3, 102), 2.0)
    slots = padded(
        Measurements(
            flux.ravel(),
            error.ravel(),
            np.tile(bands.wave_um, 3),
            np.tile(bands.bandwidth_um, 3),
            np.arange(4) * 102,
        ),
        SLOT_COUNTS[0],
    )
    posterior = estimator.posterior
    channels = Sources(flux, error, np.arange(3), 0)
    measured = replace(channels, measured=slots)
    log_like = eqx.filter_jit(jax.vmap(LogPosterior.log_likelihood_of, in_axes=(None, 0, 0, 0)))
    u, z = jnp.asarray(rng.normal(size=(3, N_LATENT)), jnp.float32), jnp.asarray(REDSHIFTS, jnp.float32)
    first, second = (log_like(posterior, u, z, s.whitened(posterior)) for s in (channels, measured))
    np.testing.assert_allclose(second, first, rtol=1e-5)
    np.testing.assert_array_equal(
        measured.whitened(posterior).in_channels.signal, channels.whitened(posterior).signal
    )


def test_sources_of_any_number_of_measurements_keep_order_and_ignore_their_company(
    estimator: Estimator,
) -> None:
    parts = [
        galaxy(estimator, z, n, seed) for seed, (z, n) in enumerate(zip(REDSHIFTS, (3, 1, 14), strict=True))
    ]
    parts.insert(1, parts[0].where(np.zeros(306, bool)))  # a source without any
    rows, draws = estimator.estimate_measured(joined(parts), np.array([30, 40, 10, 20]), progress=False)
    assert rows["object_id"].to_list() == [30, 40, 10, 20]
    assert rows["pae_status"][1] == "failed" and rows["input_fault"].to_list() == [
        None,
        "no_usable_band",
        None,
        None,
    ]
    n = rows["pae_n_measurements"].to_list()
    assert n[:3] == [306, 0, 102] and 700 < n[3] <= SLOT_COUNTS[-1]  # 1428 measurements, merged
    good = rows[[0, 2, 3]]
    assert (good["pae_chi2"] / good["pae_n_measurements"]).is_between(0.7, 1.5).all()
    assert good["pae_binning_chi2"].is_between(0.0, UNSAFE).all() and rows["pae_binning_chi2"][1] is None
    for row in (0, 2, 3):
        alone, own = estimator.estimate_measured(
            parts[row], np.array([rows["object_id"][row]]), progress=False
        )
        assert alone.equals(rows[[row]])
        np.testing.assert_array_equal(own.z[0], draws.z[row])


def test_faults_of_measurements_are_named_and_change_no_neighbour(estimator: Estimator) -> None:
    clean = [galaxy(estimator, 0.5, 3, seed) for seed in range(8)]
    ids = np.arange(8)
    before, _ = estimator.estimate_measured(joined(clean), ids, progress=False)

    def spoiled(row: int, **changes: object) -> Measurements:
        columns = {name: np.array(getattr(clean[row], name)) for name in COLUMNS}
        for name, value in changes.items():
            columns[name][[3, 150]] = value
        return Measurements(**columns, start=clean[row].start)

    given = [
        clean[0],
        spoiled(1, wave_um=np.nan),
        spoiled(2, wave_um=0.5),
        spoiled(3, width_um=-0.02),
        spoiled(4, width_um=0.5),
        spoiled(5, flux=np.inf, flux_err=1.0),
        spoiled(6, flux_err=0.0),
        Measurements(*(np.full(4, v) for v in (1.0, 1.0, 9.0, 0.1)), start=np.array([0, 4])),
    ]
    after, _ = estimator.estimate_measured(joined(given), ids, progress=False)
    assert after["input_fault"].to_list() == [
        None,
        "wavelength_out_of_range",
        "wavelength_out_of_range",
        "width_not_positive",
        "resolving_power_out_of_range",
        "flux_not_finite",
        "error_not_positive",
        "no_usable_band,wavelength_out_of_range",
    ]
    assert after["pae_n_measurements"].to_list() == [306, 304, 304, 304, 304, 304, 304, 0]
    assert after["pae_status"][7] == "failed"
    assert all(ZFlag.BAD_INPUT in ZFlag(flags) for flags in after["z_flags"][1:])
    assert after[[0]].equals(before[[0]])


def test_few_measurements_end_in_a_flag_that_says_so(estimator: Estimator) -> None:
    whole = galaxy(estimator, 0.5, 1, 0)
    red = estimator.bands.detector == 4
    few = [
        whole.where(np.arange(102) < 0),
        whole.where(np.arange(102) < 1),
        whole.where(np.arange(102) < 3),
        whole.where(red),
    ]
    rows, _ = estimator.estimate_measured(joined(few), np.arange(4), progress=False)
    assert rows["pae_n_measurements"].to_list() == [0, 1, 3, 17]
    assert all(ZFlag.FEW_BANDS in ZFlag(flags) for flags in rows["z_flags"])
    assert rows["pae_status"][0] == "failed"
    assert rows["pae_z_mean"][1:].is_between(0.05, 2.0).all()


def test_the_predictive_is_of_the_measurements(estimator: Estimator) -> None:
    given, identity = galaxy(estimator, 0.5, 3, 1, snr=20.0), np.array([5])
    rows, draws = estimator.estimate_measured(given, identity, progress=False)
    sources = estimator.measured_sources(given, identity)[0].sources
    predicted = posterior_predictive(estimator.posterior, draws, sources)
    assert predicted.flux.shape == (1, SLOT_COUNTS[1])
    pull = (given.flux - predicted.flux[0, :306]) / given.flux_err
    assert np.std(pull) == pytest.approx(1.0, abs=0.2)
    assert predicted.chi2[0] == pytest.approx(float(rows["pae_chi2"][0]), rel=0.05)


def test_draws_of_the_prior_are_scored_by_measurements_as_by_channels(estimator: Estimator) -> None:
    """Jumps to draws of the prior are accepted by these scores: both are ln L + ln p(z), with no constant between."""
    flux, error = np.random.default_rng(6).normal(20.0, 3.0, (1, 102)), np.full((1, 102), 4.0)
    bands, posterior = estimator.bands, estimator.posterior
    own = padded(
        Measurements(flux[0], error[0], bands.wave_um, bands.bandwidth_um, np.array([0, 102])), SLOT_COUNTS[0]
    )
    bank = prior_bank(posterior, 64, N_LATENT, 1)
    channels = Sources(flux, error, np.arange(1), 0).whitened(posterior)
    measured = Sources(flux, error, np.arange(1), 0, own).whitened(posterior)
    mesh = Mesh(np.array(jax.local_devices()[:1]), ("lane",))
    exact = (
        np.asarray(like_block(posterior, mesh, measured, jnp.asarray(bank.position))) + bank.log_prior_ratio
    )
    np.testing.assert_allclose(exact, score_bank(bank, channels, posterior.amplitude), rtol=1e-4, atol=1e-2)


def test_without_a_proposal_chains_follow_the_measurements(estimator: Estimator) -> None:
    chains = replace(estimator, bundle=replace(estimator.bundle, proposal=None))
    rows, _ = chains.estimate_measured(galaxy(estimator, 0.6, 3, 2, snr=5.0), np.array([3]), progress=False)
    assert rows["pae_path"].to_list() == ["mclmc"]
    assert (rows["pae_chi2"] / 306).is_between(0.7, 1.5).all()


def test_ids_must_be_distinct(estimator: Estimator) -> None:
    two = joined([galaxy(estimator, 0.5, 1, seed) for seed in range(2)])
    with pytest.raises(ConfigError, match="occur twice"):
        estimator.estimate_measured(two, np.array([1, 1]), progress=False)
