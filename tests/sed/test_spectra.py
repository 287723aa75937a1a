"""Bulk attenuation: the same as the plain formula in float64, and bad input named."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paeplatform.config import RestGridConfig
from paeplatform.errors import InputError
from paeplatform.sed.dust import DUST_LAWS, attenuation
from paeplatform.sed.grid import library_on_grid, rest_grid
from paeplatform.sed.library import load_library
from paeplatform.sed.spectra import SecondTemplates, attenuated_spectra

GRID = rest_grid(RestGridConfig())
TEMPLATES = library_on_grid(load_library(), GRID)


@given(seed=st.integers(0, 2**32 - 1), n=st.sampled_from([1, 255, 256, 257, 700]))
@settings(max_examples=10, deadline=None)
def test_equals_the_formula_in_float64(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    index, law, ebv = rng.integers(0, 160, n), rng.integers(0, 3, n), rng.uniform(0.0, 1.0, n)
    spectra = attenuated_spectra(TEMPLATES, GRID, index, law, ebv)
    assert spectra.shape == (n, len(GRID))
    assert spectra.dtype == np.float32
    for row in rng.integers(0, n, 10):
        expected = TEMPLATES[index[row]] * attenuation(DUST_LAWS[law[row]], GRID, ebv[row])
        np.testing.assert_allclose(spectra[row], expected / expected.mean(), rtol=2e-5)


def test_a_spectrum_does_not_depend_on_its_neighbours() -> None:
    index, law, ebv = np.arange(160).repeat(3), np.tile([0, 1, 2], 160), np.linspace(0.0, 1.0, 480)
    whole = attenuated_spectra(TEMPLATES, GRID, index, law, ebv)
    halves = [
        attenuated_spectra(TEMPLATES, GRID, index[s], law[s], ebv[s])
        for s in (slice(0, 101), slice(101, 480))
    ]
    np.testing.assert_array_equal(whole, np.concatenate(halves))
    np.testing.assert_allclose(whole.mean(axis=1, dtype=np.float64), 1.0, rtol=1e-6)


def test_without_dust_the_law_does_not_matter() -> None:
    spectra = attenuated_spectra(TEMPLATES, GRID, np.full(3, 7), np.arange(3), np.zeros(3))
    np.testing.assert_array_equal(spectra[0], spectra[1])
    np.testing.assert_allclose(spectra[2], TEMPLATES[7] / TEMPLATES[7].mean(), rtol=1e-6)


def test_nothing_in_nothing_out() -> None:
    nothing = np.zeros(0, dtype=int)
    assert attenuated_spectra(TEMPLATES, GRID, nothing, nothing, nothing.astype(float)).shape == (
        0,
        len(GRID),
    )


@pytest.mark.parametrize(
    ("index", "law", "ebv", "message"),
    [
        ([0, 160], [0, 0], [0.1, 0.1], r"template_index\[1\] = 160 is outside the accepted range 0-159"),
        ([0, -1], [0, 0], [0.1, 0.1], r"template_index\[1\] = -1 is outside the accepted range 0-159"),
        ([0, 1], [3, 0], [0.1, 0.1], r"dust_law\[0\] = 3 is outside the accepted range 0-2"),
        ([0, 1], [0, 0], [0.1, 1.5], r"ebv\[1\] = 1\.5 is outside the accepted range 0-1"),
        ([0, 1], [0, 0], [np.nan, 0.5], r"ebv\[0\] = nan is outside the accepted range 0-1"),
        ([0, 1], [0], [0.1, 0.5], r"vectors of one length"),
    ],
)
def test_bad_parameters_are_named(index: list, law: list, ebv: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        attenuated_spectra(TEMPLATES, GRID, np.array(index), np.array(law), np.array(ebv))


def test_grid_of_another_length_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected \(n_template, 799\)"):
        attenuated_spectra(TEMPLATES, GRID[1:], np.zeros(1, int), np.zeros(1, int), np.zeros(1))


def test_mixtures_equal_the_formula_in_float64_and_a_share_of_none_is_no_mixture() -> None:
    rng = np.random.default_rng(3)
    n = 600
    index, other = rng.integers(0, 160, (2, n))
    law, ebv, share = rng.integers(0, 3, n), rng.uniform(0.0, 1.0, n), rng.uniform(0.0, 1.0, n)
    share[:4] = [0.0, 1.0, 0.0, 1.0]
    spectra = attenuated_spectra(TEMPLATES, GRID, index, law, ebv, SecondTemplates(other, share))
    for row in range(0, n, 37):
        light = (1.0 - share[row]) * TEMPLATES[index[row]] + share[row] * TEMPLATES[other[row]]
        expected = light * attenuation(DUST_LAWS[law[row]], GRID, ebv[row])
        np.testing.assert_allclose(spectra[row], expected / expected.mean(), rtol=3e-5)
    np.testing.assert_array_equal(
        spectra[[0, 2]], attenuated_spectra(TEMPLATES, GRID, index, law, ebv)[[0, 2]]
    )
    np.testing.assert_array_equal(
        spectra[[1, 3]], attenuated_spectra(TEMPLATES, GRID, other, law, ebv)[[1, 3]]
    )


@pytest.mark.parametrize(
    ("index", "share", "message"),
    [
        ([0, 160], [0.5, 0.5], r"second template\[1\] = 160 is outside the accepted range 0-159"),
        ([0, 1], [0.5, 1.5], r"share\[1\] = 1\.5 of a second template is outside the accepted range 0-1"),
        ([0, 1], [np.nan, 0.5], r"share\[0\] = nan of a second template"),
        ([0], [0.5], r"must be vectors of length 2"),
    ],
)
def test_bad_second_templates_are_named(index: list, share: list, message: str) -> None:
    second = SecondTemplates(np.array(index), np.array(share))
    with pytest.raises(InputError, match=message):
        attenuated_spectra(TEMPLATES, GRID, np.zeros(2, int), np.zeros(2, int), np.zeros(2), second)
