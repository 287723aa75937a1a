"""Groups of lines: areas and places of their profiles, and that the widths are the library's."""

import numpy as np
import pytest

from paeplatform.config import RestGridConfig
from paeplatform.errors import InputError
from paeplatform.sed.grid import library_on_grid, rest_grid
from paeplatform.sed.library import load_library
from paeplatform.sed.line_groups import LINE_GROUPS, SPREAD, measured_spread, profiles

WAVE = rest_grid(RestGridConfig())


def test_profiles_have_unit_area_in_their_window_and_the_lines_at_their_places() -> None:
    shapes, x = profiles(WAVE), np.log(WAVE)
    cell = np.gradient(x)
    for group, shape in zip(LINE_GROUPS, shapes, strict=True):
        assert (shape >= 0.0).all()
        low, high = group.window_um
        inside = (low < WAVE) & (high > WAVE)
        area = np.sum((shape * cell)[inside])
        assert area == pytest.approx(1.0, abs=0.02)  # the feature at 3.3 um has wings
        energy = np.array(group.flux) * np.array(group.wave_um)
        there = [low < line < high for line in group.wave_um]
        expected = np.sum(energy[there] * np.log(np.array(group.wave_um)[there])) / energy[there].sum()
        assert np.sum((shape * cell * x)[inside]) / area == pytest.approx(expected, abs=3e-4)
        assert np.sum(shape * cell) == pytest.approx(energy.sum() / energy[there].sum(), rel=0.02)


def test_widths_are_the_librarys_spread() -> None:
    found = measured_spread(library_on_grid(load_library(), WAVE), WAVE)
    np.testing.assert_allclose(found, SPREAD, atol=5e-5)


def test_a_grid_without_the_lines_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"line group brackett: its lines at 2\.1\d+-4\.05\d+ um are outside"
    ):
        profiles(WAVE[WAVE < 4.0])
