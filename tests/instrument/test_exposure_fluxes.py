"""Fluxes through passbands of their own: against the oracle, and what any average of a spectrum has to obey."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paeplatform.errors import BandSetError
from paeplatform.instrument.bands import BandSet
from paeplatform.instrument.exact import exact_photometry
from paeplatform.instrument.exposure_fluxes import CHUNK, passband_fluxes
from paeplatform.instrument.filters import FilterCurves, gaussian_filters, gaussian_table
from paeplatform.sed.dust import DUST_LAWS
from paeplatform.sed.grid import hires_grid, library_on_grid
from paeplatform.sed.library import load_library
from paeplatform.sed.spectra import attenuated_spectra


def _curves(centre: np.ndarray, width: np.ndarray) -> FilterCurves:
    offset, table = gaussian_table()
    wave = centre[:, None] + width[:, None] * offset
    return FilterCurves(wave, np.broadcast_to(table, wave.shape).copy())


def _passbands(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres over the whole instrument, resolving powers beyond its range."""
    centre = np.exp(rng.uniform(np.log(0.75), np.log(5.0), n))
    return centre, centre / np.exp(rng.uniform(np.log(25.0), np.log(150.0), n))


@pytest.fixture(scope="module")
def galaxies_hires() -> np.ndarray:
    """The packaged templates, reddened, on the high-resolution grid: lines, breaks and all."""
    rng, wave = np.random.default_rng(5), hires_grid()
    templates = library_on_grid(load_library(), wave)
    n = len(templates)
    law, ebv = rng.integers(0, len(DUST_LAWS), n), rng.uniform(0.0, 1.0, n)
    return attenuated_spectra(templates, wave, np.arange(n), law, ebv)


@pytest.mark.parametrize("z", [0.0, 0.01, 0.7, 2.9, 6.0])
def test_galaxies_agree_with_the_oracle(galaxies_hires: np.ndarray, z: float) -> None:
    wave, rng = hires_grid(), np.random.default_rng(int(100 * z))
    for galaxy in galaxies_hires[rng.choice(len(galaxies_hires), 4, replace=False)]:
        centre, width = _passbands(rng, 60)
        expected = exact_photometry(wave, galaxy, z, _curves(centre, width))
        np.testing.assert_allclose(passband_fluxes(wave, galaxy, z, centre, width), expected, rtol=1e-10)


def test_the_channels_are_their_own_passbands(bands: BandSet, galaxies_hires: np.ndarray) -> None:
    wave, galaxy = hires_grid(), galaxies_hires[7]
    expected = exact_photometry(wave, galaxy, 0.4, gaussian_filters(bands))
    found = passband_fluxes(wave, galaxy, 0.4, bands.wave_um, bands.bandwidth_um)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), z=st.floats(0.0, 8.0), n_wave=st.integers(2, 600))
def test_any_grid_agrees_with_the_oracle(seed: int, z: float, n_wave: int) -> None:
    """Coarse and uneven grids, cells wider than a passband, passbands that reach beyond an end or lie outside."""
    rng = np.random.default_rng(seed)
    wave = np.unique(rng.uniform(0.2, 4.0, n_wave))
    wave = wave[np.concatenate([[True], np.diff(wave) > 1e-4])]
    spectrum = rng.uniform(0.1, 2.0, len(wave))
    centre, width = _passbands(rng, 20)
    expected = exact_photometry(wave, spectrum, z, _curves(centre, width))
    np.testing.assert_allclose(passband_fluxes(wave, spectrum, z, centre, width), expected, rtol=1e-10)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), z=st.floats(0.0, 8.0), level=st.floats(1e-6, 1e6))
def test_a_constant_spectrum_gives_the_constant(seed: int, z: float, level: float) -> None:
    wave = hires_grid()
    centre, width = _passbands(np.random.default_rng(seed), 30)
    fluxes = passband_fluxes(wave, np.full(len(wave), level), z, centre, width)
    np.testing.assert_allclose(fluxes, level, rtol=1e-13)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    z=st.floats(0.0, 8.0),
    one=st.floats(-10.0, 10.0),
    other=st.floats(-10.0, 10.0),
)
def test_fluxes_are_linear_in_the_spectrum(seed: int, z: float, one: float, other: float) -> None:
    rng, wave = np.random.default_rng(seed), hires_grid()
    centre, width = _passbands(rng, 30)
    first, second = rng.uniform(0.0, 2.0, (2, len(wave)))
    apart = [passband_fluxes(wave, spectrum, z, centre, width) for spectrum in (first, second)]
    together = passband_fluxes(wave, one * first + other * second, z, centre, width)
    np.testing.assert_allclose(together, one * apart[0] + other * apart[1], atol=1e-8)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(0, 2 * CHUNK + 3))
def test_a_flux_does_not_depend_on_the_passbands_beside_it(seed: int, n: int) -> None:
    rng, wave = np.random.default_rng(seed), np.geomspace(0.09, 5.2, 300)
    spectrum = rng.uniform(0.5, 2.0, len(wave))
    centre, width = _passbands(rng, n)
    fluxes = passband_fluxes(wave, spectrum, 0.5, centre, width)
    assert fluxes.shape == (n,)
    for which in rng.integers(0, n, min(n, 3)):
        alone = passband_fluxes(wave, spectrum, 0.5, centre[[which]], width[[which]])
        assert alone[0] == pytest.approx(fluxes[which], rel=1e-12)


@pytest.mark.parametrize(
    ("centre", "width", "named"),
    [
        ([1.0, np.nan], [0.03, 0.03], "passband 2: centre nan"),
        ([1.0, np.inf], [0.03, 0.03], "passband 2: centre inf"),
        ([1.0, 2.0], [0.0, 0.03], "passband 1: .*width 0 um"),
        ([1.0, 2.0], [0.03, -0.03], "passband 2"),
        ([1.0, 2.0], [0.03, np.nan], "passband 2"),
        ([1.0, 2.0], [0.7, 0.03], "passband 1: .*above 1.5 widths"),
        ([1.0, 2.0], [0.03], r"centre \(2,\) and width \(1,\)"),
    ],
)
def test_a_passband_that_is_none_is_named(centre: list[float], width: list[float], named: str) -> None:
    with pytest.raises(BandSetError, match=named):
        passband_fluxes(np.array([0.1, 5.0]), np.ones(2), 0.0, np.array(centre), np.array(width))


def test_a_spectrum_of_another_length_than_its_grid_is_refused() -> None:
    with pytest.raises(BandSetError, match=r"wave \(2,\) and flux_nu \(3,\)"):
        passband_fluxes(np.array([0.1, 5.0]), np.ones(3), 0.0, np.ones(1), np.full(1, 0.03))
