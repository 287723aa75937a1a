"""Light of hot dust: Planck's law as astropy has it, a mean that stays, and bad input named."""

import numpy as np
import pytest
from astropy import units
from astropy.modeling.models import BlackBody
from hypothesis import given
from hypothesis import strategies as st

from paeplatform.config import RestGridConfig
from paeplatform.errors import InputError
from paeplatform.sed.grid import rest_grid
from paeplatform.sed.hot_dust import LEAST_K, MOST_K, HotDust, add_hot_dust, blackbody

WAVE = rest_grid(RestGridConfig())


@given(kelvin=st.floats(LEAST_K, MOST_K))
def test_the_blackbody_is_plancks_law(kelvin: float) -> None:
    expected = BlackBody(kelvin * units.K)(WAVE * units.um).value
    ours = blackbody(WAVE, kelvin)
    seen = expected > 1e-30 * expected.max()  # below, both are nothing
    np.testing.assert_allclose((ours / ours[-1])[seen], (expected / expected[-1])[seen], rtol=1e-6)


@given(seed=st.integers(0, 2**32 - 1))
def test_the_mean_stays_and_a_spectrum_without_dust_keeps_its_bytes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spectra = rng.lognormal(0.0, 1.0, (40, len(WAVE))).astype(np.float32)
    spectra /= spectra.mean(axis=1, keepdims=True)
    share = np.where(rng.random(40) < 0.5, rng.uniform(0.0, 0.99, 40), 0.0)
    before = spectra.copy()
    add_hot_dust(spectra, WAVE, HotDust(share, rng.uniform(LEAST_K, MOST_K, 40)))
    np.testing.assert_allclose(spectra.mean(axis=1, dtype=np.float64), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(spectra[share == 0.0], before[share == 0.0])


@pytest.mark.parametrize(
    ("share", "kelvin", "message"),
    [
        ([0.1, 1.0], [500.0, 500.0], r"share\[1\] = 1\.0 is outside the accepted range, from 0 to below 1"),
        ([np.nan, 0.1], [500.0, 500.0], r"share\[0\] = nan"),
        ([0.1, 0.1], [500.0, 3000.0], r"kelvin\[1\] = 3000\.0 is outside the accepted range, 400-1500 K"),
        ([0.1], [500.0, 500.0], r"must be vectors of length 2"),
    ],
)
def test_bad_parameters_are_named(share: list, kelvin: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        add_hot_dust(np.ones((2, len(WAVE)), np.float32), WAVE, HotDust(np.array(share), np.array(kelvin)))
