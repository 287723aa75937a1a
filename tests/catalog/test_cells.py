"""Sky cells: the HEALPix geometry, the partition keys, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units
from astropy_healpix import HEALPix
from hypothesis import given
from hypothesis import strategies as st

from paeplatform.catalog.cells import cell_key, healpix_cell, parse_cell_key
from paeplatform.config import load_preset
from paeplatform.errors import InputError


def test_base_cells_are_numbered_as_in_the_healpix_definition():
    """Gorski et al. 2005, section 4: 0-3 north at 45+90k deg, 4-7 on the equator at 90k deg, 8-11 south."""
    ra = np.array([45, 135, 225, 315, 0, 90, 180, 270, 45, 135, 225, 315], dtype=float)
    dec = np.repeat([41.8, 0.0, -41.8], 4)
    np.testing.assert_array_equal(healpix_cell(ra, dec, 0), np.arange(12))


@pytest.mark.parametrize("order", [0, 3, 6, 12])
def test_a_cell_holds_its_centre(order):
    cells = np.random.default_rng(order).integers(0, 12 * 4**order, size=200)
    lon, lat = HEALPix(nside=2**order, order="nested").healpix_to_lonlat(cells)
    found = healpix_cell(lon.to_value(units.deg), lat.to_value(units.deg), order)
    np.testing.assert_array_equal(found, cells)


@given(st.floats(-720, 720), st.floats(-90, 90), st.integers(0, 28))
def test_a_cell_lies_in_its_parent_and_a_turn_changes_nothing(ra, dec, order):
    fine, coarse = (healpix_cell(np.array([ra]), np.array([dec]), k)[0] for k in (order + 1, order))
    assert fine // 4 == coarse
    assert healpix_cell(np.array([ra % 360.0]), np.array([dec]), order)[0] == coarse


def test_the_centre_of_the_cosmos_field_is_a_cell_of_the_presets():
    cfg = load_preset("demo")
    cell = healpix_cell(
        np.array([cfg.catalog.field_ra_deg]), np.array([cfg.catalog.field_dec_deg]), cfg.release.healpix_order
    )
    assert cell[0] in cfg.release.cells


@given(st.integers(0, 29), st.data())
def test_keys_round_trip(order, data):
    cell = data.draw(st.integers(0, 12 * 4**order - 1))
    assert parse_cell_key(cell_key(order, cell)) == (order, cell)


def test_key_looks_as_documented():
    assert cell_key(6, 27256) == "hp6-27256"


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("27256", "hp6-27256"),
        ("hp6_27256", "hp6_27256"),
        ("hp6-49152", "49151"),
        ("hp30-1", "29"),
        ("hp6--1", "hp6--1"),
    ],
)
def test_bad_keys_are_refused_with_the_range(key, named):
    with pytest.raises(InputError, match=named):
        parse_cell_key(key)


def test_bad_positions_are_refused_by_row():
    with pytest.raises(InputError, match=r"row 1: ra 10.0, dec 91.0"):
        healpix_cell(np.array([0.0, 10.0]), np.array([0.0, 91.0]), 6)
    with pytest.raises(InputError, match="row 0"):
        healpix_cell(np.array([np.nan]), np.array([0.0]), 6)
    with pytest.raises(InputError, match="order 30"):
        healpix_cell(np.array([1.0]), np.array([0.0]), 30)
