"""Landmarks are the templates as the model sees them."""

import jax
import numpy as np
import pytest

from paeplatform.pae.landmarks import REDDENED, template_landmarks
from paeplatform.sed.dust import DUST_LAWS, attenuation
from tests.pae.test_bundle import N_LATENT, N_WAVE, small_bundle

WAVE = np.linspace(0.1, 5.0, N_WAVE)


@pytest.fixture(scope="module")
def templates() -> np.ndarray:
    rng = np.random.default_rng(8)
    return np.exp(rng.normal(size=(3, 1)) * np.log(WAVE) + 0.1 * rng.normal(size=(3, N_WAVE)))


def base_of(spectrum: np.ndarray) -> np.ndarray:
    """One spectrum through encoder and flow, without the code under test."""
    bundle = small_bundle()
    normalised = (spectrum / spectrum.mean()).astype(np.float32)
    return np.asarray(bundle.flow.to_base(bundle.autoencoder.encode(jax.numpy.asarray(normalised))))


def test_every_template_is_there_plain_and_reddened_by_each_law(templates: np.ndarray):
    bundle = small_bundle()
    landmarks = template_landmarks(bundle.autoencoder, bundle.flow, templates, WAVE)
    assert landmarks.shape == (3 * (1 + len(DUST_LAWS)), N_LATENT)
    wanted = [base_of(flux) for flux in templates]
    for law in DUST_LAWS:
        wanted += [base_of(flux * attenuation(law, WAVE, REDDENED)) for flux in templates]
    np.testing.assert_allclose(landmarks, wanted, rtol=2e-4, atol=2e-4)


def test_the_scale_of_a_template_does_not_matter(templates: np.ndarray):
    bundle = small_bundle()
    plain = template_landmarks(bundle.autoencoder, bundle.flow, templates, WAVE)
    scaled = template_landmarks(bundle.autoencoder, bundle.flow, 1e3 * templates, WAVE)
    np.testing.assert_allclose(plain, scaled, rtol=1e-4, atol=1e-4)
