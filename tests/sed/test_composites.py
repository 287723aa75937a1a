"""Composite galaxies, recomputed from their recipes without the functions that make them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paeplatform.catalog.mock import classify_templates
from paeplatform.errors import InputError
from paeplatform.sed.composites import (
    LINE_GROUPS,
    CompositeRecipe,
    change_lines,
    composite_library,
    composite_spectrum,
    draw_recipes,
)
from paeplatform.sed.dust import DUST_LAWS, k_lambda
from paeplatform.sed.library import TemplateLibrary, load_library
from paeplatform.sed.lines import LINES

SEED = 5
# Every wavelength that a line may change: each line's, and the feature's at 3.3 um.
NEAR = [(line.wave_um * 0.992, line.wave_um * 1.008) for line in LINES] + [(3.20, 3.40)]
FACTORS = st.lists(st.floats(0.05, 20.0), min_size=5, max_size=5).map(tuple)


@pytest.fixture(scope="module")
def library() -> TemplateLibrary:
    return load_library()


@pytest.fixture(scope="module")
def kinds(library: TemplateLibrary) -> np.ndarray:
    return classify_templates(library)


@pytest.fixture(scope="module")
def recipes(kinds: np.ndarray) -> tuple[CompositeRecipe, ...]:
    return draw_recipes(kinds, SEED)


def changed_by_lines(wave: np.ndarray) -> np.ndarray:
    inside = np.zeros(wave.size, dtype=bool)
    for start, stop in NEAR:
        inside |= (wave > start * (1 + 1e-12)) & (wave < stop * (1 - 1e-12))
    return inside | ((wave > 0.492) & (wave < 0.505)) | ((wave > 0.6497) & (wave < 0.6787))


def dusty_sum(library: TemplateLibrary, recipe: CompositeRecipe, wave: np.ndarray) -> np.ndarray:
    """The light of the three components behind their screens, without changes of lines."""
    total = np.zeros(wave.size)
    for row, share, law, ebv in zip(
        recipe.templates, recipe.shares, recipe.dust_laws, recipe.ebv, strict=True
    ):
        magnitudes = ebv * k_lambda(law, wave)
        total += share * np.interp(wave, library.wave[row], library.flux[row]) / 100 ** (magnitudes / 5)
    return total


def test_each_is_three_templates_of_one_type_behind_three_screens(
    recipes: tuple[CompositeRecipe, ...], kinds: np.ndarray
) -> None:
    assert len(recipes) == len(kinds)
    for row, recipe in enumerate(recipes):
        assert recipe.templates[0] == row and len(set(recipe.templates)) == 3
        assert len({kinds[template] for template in recipe.templates}) == 1
        assert sum(recipe.shares) == pytest.approx(1.0, abs=1e-12) and min(recipe.shares) >= 0.15
        assert all(0.0 <= ebv <= 0.3 for ebv in recipe.ebv) and set(recipe.dust_laws) <= set(DUST_LAWS)
        assert len(recipe.line_factors) == len(LINE_GROUPS) and min(recipe.line_factors) > 0.0
    drawn = np.log([recipe.line_factors for recipe in recipes])
    assert np.std(drawn) == pytest.approx(0.4, rel=0.1) and abs(np.mean(drawn)) < 0.05
    assert np.mean([recipe.ebv for recipe in recipes]) == pytest.approx(0.15, abs=0.02)
    assert {law for recipe in recipes for law in recipe.dust_laws} == set(DUST_LAWS)


def test_light_away_from_lines_is_the_dusty_sum_of_the_components(
    library: TemplateLibrary, recipes: tuple[CompositeRecipe, ...]
) -> None:
    for recipe in recipes[::17]:
        wave, flux = composite_spectrum(library, recipe)
        assert np.all(np.diff(wave) > 0.0) and np.all(flux >= 0.0)
        away = ~changed_by_lines(wave)
        expected = dusty_sum(library, recipe, wave)
        scale = (
            expected[away].sum() / flux[away].sum()
        )  # the mean over 0.1-5 um, which the composite is divided by
        np.testing.assert_allclose(flux[away] * scale, expected[away], rtol=1e-10, atol=1e-14)
        inside = (wave >= 0.1) & (wave <= 5.0)
        nodes = np.concatenate([[0.1], wave[inside], [5.0]])
        mean = np.trapezoid(np.interp(nodes, wave, flux), nodes) / 4.9
        assert mean == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("group", "start", "stop"),
    [
        ("hydrogen", 0.486268 * 0.992, 0.486268 * 1.008),  # H beta
        ("hydrogen", 1.87561 * 0.992, 1.87561 * 1.008),  # Paschen alpha
        ("[OII]", 0.372709 * 0.992, 0.372988 * 1.008),
        ("[OIII]", 0.49603 * 0.992, 0.500824 * 1.008),
        ("[NII] and [SII]", 0.671829 * 0.992, 0.673267 * 1.008),
        ("PAH", 3.20, 3.40),
    ],
)
def test_light_above_the_continuum_is_multiplied_by_the_groups_factor(
    library: TemplateLibrary, recipes: tuple[CompositeRecipe, ...], group: str, start: float, stop: float
) -> None:
    shown = 0
    for recipe in recipes[::11]:
        wave, flux = composite_spectrum(library, recipe)
        before = dusty_sum(library, recipe, wave)
        flux = flux * before[wave > 5.0][0] / flux[wave > 5.0][0]
        here = (wave >= start) & (wave <= stop)
        ends = [np.interp(edge, wave, before) for edge in (start, stop)]
        line = ends[0] + (ends[1] - ends[0]) * (wave[here] - start) / (stop - start)
        above = before[here] > line
        factor = recipe.line_factors[LINE_GROUPS.index(group)]
        expected = np.where(above, line + factor * (before[here] - line), before[here])
        np.testing.assert_allclose(flux[here], expected, rtol=1e-9)
        shown += int(above.any())
    assert shown > 2, "the light above the continuum was seen to change"


def test_a_line_on_a_slope_keeps_its_place_and_its_flux_times_the_factor() -> None:
    wave = np.linspace(0.6, 0.7, 20_001)
    continuum = 2.0 + 5.0 * (wave - 0.6)
    line = 3.0 * np.exp(-0.5 * ((wave - 0.673) / 0.0004) ** 2)
    found = change_lines(wave, continuum + line, (9.0, 9.0, 9.0, 2.5, 9.0))
    np.testing.assert_allclose(found, continuum + 2.5 * line, rtol=1e-9)
    halpha = 3.0 * np.exp(-0.5 * ((wave - 0.656461) / 0.0004) ** 2)
    found = change_lines(wave, continuum + halpha, (2.0, 9.0, 9.0, 1.0, 9.0))
    peak = np.argmax(halpha)
    assert found[peak] - continuum[peak] == pytest.approx(2.0 * halpha[peak], rel=1e-3)
    nii = np.argmin(np.abs(wave - 0.658527))
    assert found[nii] == pytest.approx(continuum[nii] + halpha[nii], rel=1e-3), "[NII] has its own factor"


@settings(max_examples=60, deadline=None)
@given(
    factors=FACTORS,
    values=st.lists(st.floats(0.0, 1e3), min_size=40, max_size=40),
    ends=st.tuples(st.floats(0.08, 0.66), st.floats(0.67, 6.0)),
)
def test_any_spectrum_stays_positive_and_the_same_away_from_lines(
    factors: tuple[float, ...], values: list[float], ends: tuple[float, float]
) -> None:
    wave, flux = np.geomspace(*ends, 4000), np.interp(np.arange(4000), np.linspace(0, 3999, 40), values)
    found = change_lines(wave, flux, factors)
    assert np.all(found >= 0.0)
    away = ~changed_by_lines(wave)
    np.testing.assert_array_equal(found[away], flux[away])
    np.testing.assert_array_equal(change_lines(wave, flux, (1.0,) * 5), flux)
    stronger = change_lines(wave, flux, tuple(2.0 * factor for factor in factors))
    assert np.all(stronger >= found * (1 - 1e-12))


def test_the_seed_decides_the_library(library: TemplateLibrary, kinds: np.ndarray) -> None:
    one = composite_library(library, kinds, SEED)
    assert composite_library(library, kinds, SEED).content_hash() == one.content_hash()
    assert composite_library(library, kinds, SEED + 1).content_hash() != one.content_hash()
    assert len(set(one.name)) == len(library)
    for row, name in enumerate(one.name):
        assert name.startswith(f"composite/{library.name[row]} & ") and name.count(" & ") == 2


def test_composites_are_none_of_the_mixtures_of_two_that_trainings_make(
    library: TemplateLibrary, recipes: tuple[CompositeRecipe, ...]
) -> None:
    """What is left of a composite when its best mixture of two of its components behind one screen is taken off."""
    grid, left = np.geomspace(0.12, 4.9, 400), []
    for recipe in recipes[::23]:
        flux = np.interp(grid, *composite_spectrum(library, recipe))
        parts = np.stack([np.interp(grid, library.wave[r], library.flux[r]) for r in recipe.templates])
        best = np.inf
        for law in DUST_LAWS:
            for ebv in np.linspace(0.0, 0.3, 13):
                screen = 10 ** (-0.4 * ebv * k_lambda(law, grid))
                for pair in ((0, 1), (0, 2), (1, 2)):
                    basis = (parts[list(pair)] * screen / flux).T
                    solved = np.linalg.lstsq(basis, np.ones(grid.size), rcond=None)[0]
                    best = min(best, float(np.std(basis @ solved - 1.0)))
        left.append(best)
    assert np.median(left) > 0.02, "per cents of the light, more than the noise of a bright source"


@pytest.mark.parametrize("size", [1, 2, 4])
def test_small_libraries_fill_up_with_what_they_have(library: TemplateLibrary, size: int) -> None:
    few = library.without(library.name[size:])
    kinds = np.arange(size)
    found = composite_library(few, kinds, SEED)
    assert len(found) == size and all(np.isfinite(flux).all() for flux in found.flux)
    assert all(len(set(recipe.templates)) == min(size, 3) for recipe in draw_recipes(kinds, SEED))


def test_types_that_do_not_fit_are_refused(library: TemplateLibrary) -> None:
    with pytest.raises(InputError, match="kinds: 3 types for 160 templates"):
        composite_library(library, np.zeros(3, dtype=int), SEED)
    with pytest.raises(InputError, match="vector of at least one type"):
        draw_recipes(np.zeros((2, 2), dtype=int), SEED)
