"""What binning would change for a galaxy with a line, against the same sum in NumPy."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from paeplatform.inference.model.draws import PosteriorDraws
from paeplatform.inference.model.posterior import LogPosterior
from paeplatform.inference.model.priors import UniformPrior
from paeplatform.inference.results.binning import UNSAFE, binning_chi2
from paeplatform.inference.sources import Sources
from paeplatform.instrument.bands import BandSet, load_bands
from paeplatform.instrument.measurements import Measurements, channel_means, channel_of, padded

HEIGHT = 30.0  # of the line over the continuum of 1, where u0 is 1


class LineForward(eqx.Module):
    """A line at 1.5 um at z = 0, as wide as a passband, over a flat continuum; u0 is its height."""

    log_wave: np.ndarray

    def __call__(self, u, z):
        return self.measured(u, z, self.log_wave)

    def measured(self, u, z, slots):
        return 1.0 + HEIGHT * u[0] * jnp.exp(-0.5 * ((slots - jnp.log(1.5) - jnp.log1p(z)) / 0.011) ** 2)

    def place(self, wave_um, width_um):
        return np.log(wave_um).astype(np.float32)


def line(wave: np.ndarray, height: float, z: float) -> np.ndarray:
    return 1.0 + HEIGHT * height * np.exp(-0.5 * ((np.log(wave) - np.log(1.5) - np.log1p(z)) / 0.011) ** 2)


@pytest.fixture(scope="module")
def bands() -> BandSet:
    return load_bands()


@pytest.fixture(scope="module")
def measured(bands: BandSet) -> Measurements:
    """Three sources of three visits each, the visits at random places of the channels."""
    rng = np.random.default_rng(4)
    wave = np.tile(bands.wave_um, (3, 3)) * np.exp(0.009 * rng.uniform(-1.0, 1.0, (3, 306)))
    wave[2] = wave[1]
    heights = np.array([0.0, 1.0, 1.0])[:, None]
    error = np.array([0.5, 0.5, 5.0])[:, None] * np.ones(306)
    flux = 7.0 * line(wave, heights, 0.3)
    width = np.tile(bands.bandwidth_um, (3, 3))
    return Measurements(flux.ravel(), error.ravel(), wave.ravel(), width.ravel(), np.arange(4) * 306)


def test_a_line_between_the_visits_is_found_and_weighed_by_the_errors(bands: BandSet, measured: Measurements):
    posterior = LogPosterior(LineForward(np.log(bands.wave_um).astype(np.float32)), UniformPrior(0.01, 2.0))
    u = np.array([[0.0, 5.0], [1.0, 5.0], [1.0, 5.0]])[..., None].astype(np.float32)
    z = np.full((3, 2), 0.3, np.float32)
    log_prob = np.array([[0.0, -50.0]] * 3, np.float32)  # the second draw is never the best
    draws = PosteriorDraws(u, z, np.full((3, 2), 0.5, np.float32), log_prob)
    means = channel_means(measured, bands, channel_of(measured, bands))
    sources = Sources(np.nan_to_num(means.flux), means.flux_err, np.arange(3), 0, padded(measured, 320))
    got = binning_chi2(posterior, draws, sources, bands)
    truth = 7.0 * line(bands.wave_um, np.array([0.0, 1.0, 1.0])[:, None], 0.3)
    expected = np.nansum(((means.at_centres(bands) - truth) / means.flux_err) ** 2, axis=1)
    np.testing.assert_allclose(got, expected, rtol=1e-2, atol=1e-3)
    assert got[0] < 1e-3 and got[1] > 10.0 * UNSAFE and got[2] == pytest.approx(got[1] / 100.0, rel=1e-2)


def test_without_draws_or_measurements_there_is_no_number(bands: BandSet, measured: Measurements):
    posterior = LogPosterior(LineForward(np.log(bands.wave_um).astype(np.float32)), UniformPrior(0.01, 2.0))
    blank = np.full((3, 2), np.nan, np.float32)
    draws = PosteriorDraws(blank[..., None], blank, blank, blank)
    flux = np.ones((3, 102))
    with_slots = Sources(flux, flux, np.arange(3), 0, padded(measured, 320))
    assert np.isnan(binning_chi2(posterior, draws, with_slots, bands)).all()
    assert np.isnan(binning_chi2(posterior, draws, Sources(flux, flux, np.arange(3), 0), bands)).all()
