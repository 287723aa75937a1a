"""Dereddening against the library's own extinction, quadratures against their closed form, and the way back."""

from __future__ import annotations

import math
import warnings

import astropy.units as u
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paeplatform.errors import InputError
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.measurements import Measurements
from paeplatform.intake.corrections import LAW_UM, corrected, milky_way_k

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from dust_extinction.parameter_averages import F99, G23

BANDS = load_bands()


def measured(n_source: int = 2, seed: int = 0) -> Measurements:
    """All channels of some sources; fluxes of both signs."""
    rng, n = np.random.default_rng(seed), len(BANDS)
    return Measurements(
        rng.normal(20.0, 30.0, n_source * n),
        rng.uniform(0.5, 5.0, n_source * n),
        np.tile(BANDS.wave_um, n_source),
        np.tile(BANDS.bandwidth_um, n_source),
        np.arange(n_source + 1) * n,
    )


def test_the_librarys_extinction_brings_the_observed_fluxes_back() -> None:
    given_ = measured(2)
    found = corrected(given_, [0.05, 1.3])
    law = G23(Rv=3.1)
    for row, ebv in enumerate((0.05, 1.3)):
        one, before = found.rows(np.array([row])), given_.rows(np.array([row]))
        dimmed = law.extinguish(one.wave_um * u.um, Ebv=ebv)
        assert one.flux * dimmed == pytest.approx(before.flux, rel=1e-12)
        assert one.flux_err * dimmed == pytest.approx(before.flux_err, rel=1e-12)
    assert (np.abs(found.flux) > np.abs(given_.flux)).all()
    np.testing.assert_array_equal(found.wave_um, given_.wave_um)


def test_the_law_is_near_fitzpatricks_where_that_is_defined_and_goes_on() -> None:
    short = np.linspace(0.75, 3.3, 200)
    fitzpatrick = 3.1 * F99(Rv=3.1)(short * u.um)
    change = 10.0 ** (0.4 * 0.1 * np.abs(milky_way_k(short) - fitzpatrick)) - 1.0
    assert 0.001 < change.max() < 0.015
    with pytest.raises(ValueError, match="outside of range"):
        F99(Rv=3.1)(np.array([4.0]) * u.um)
    whole = milky_way_k(np.linspace(0.75, 5.0, 200))
    assert (np.diff(whole) < 0.0).all() and whole[-1] > 0.05
    assert milky_way_k(0.55) == pytest.approx(3.1, rel=0.02), "A(V) / E(B-V)"


@pytest.mark.parametrize("end", LAW_UM)
def test_the_law_ends_where_the_library_says(end: float) -> None:
    assert np.isfinite(milky_way_k(end))
    beyond = end * (0.99 if end < 1.0 else 1.01)
    with pytest.raises(InputError, match=r"must be within 0\.0912 and 32 um"):
        milky_way_k([1.0, beyond])
    low, high = G23.x_range
    assert (1.0 / high, 1.0 / low) == pytest.approx(LAW_UM)


@given(st.floats(0.0, 4.0), st.floats(0.0, 4.0))
@settings(max_examples=20)
def test_two_corrections_are_that_of_the_sum(first: float, second: float) -> None:
    twice, once = corrected(corrected(measured(), first), second), corrected(measured(), first + second)
    assert twice.flux == pytest.approx(once.flux, rel=1e-12)
    assert twice.flux_err == pytest.approx(once.flux_err, rel=1e-12)


@given(st.floats(0.0, 100.0), st.floats(0.0, 50.0), st.floats(0.0, 3.0))
@settings(max_examples=40)
def test_errors_are_quadratures_of_the_data_as_observed(floor: float, confusion: float, ebv: float) -> None:
    given_ = measured(1)
    found = corrected(given_, ebv, floor, confusion)
    expected = np.sqrt(given_.flux_err**2 + (0.01 * floor * given_.flux) ** 2 + confusion**2)
    assert found.flux_err / found.flux == pytest.approx(expected / given_.flux, rel=1e-12)
    assert np.sign(found.flux).tolist() == np.sign(given_.flux).tolist()
    assert corrected(given_, ebv).flux == pytest.approx(found.flux, rel=1e-12), "errors change no flux"


@pytest.mark.parametrize("none", [None, 0.0, [0.0, 0.0], [np.nan, np.nan]])
def test_nothing_to_do_changes_nothing(none: object) -> None:
    found, given_ = corrected(measured(), none), measured()
    np.testing.assert_array_equal(found.flux, given_.flux)
    np.testing.assert_array_equal(found.flux_err, given_.flux_err)


def test_bad_numbers_stay_bad() -> None:
    """Neither quadrature nor extinction may turn a fault or a mask into a measurement."""
    error = np.array([np.nan, np.inf, 0.0, -2.0, -np.inf, 1.0, 1.0, 1.0])
    flux = np.array([1.0, 1.0, 1.0, 1.0, 1.0, np.nan, np.inf, 5.0])
    wave = np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, np.nan])
    found = corrected(Measurements(flux, error, wave, wave / 41.0, np.array([0, 8])), 1.0, 10.0, 3.0)
    assert not (np.isfinite(found.flux_err[:5]) & (found.flux_err[:5] > 0.0)).any()
    assert np.isnan(found.flux[5]) and np.isinf(found.flux[6])
    factor = 10.0 ** (0.4 * milky_way_k(1.0))
    assert found.flux_err[5:7] == pytest.approx(math.hypot(1.0, 3.0) * factor)
    assert found.flux[7] == 5.0 and found.flux_err[7] == pytest.approx(math.sqrt(1.0 + 0.25 + 9.0))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"ebv_mw": [0.1, 10.5]}, r"source 'the \\n second': E\(B-V\) 10.5: must be within 0 and 10 mag"),
        ({"ebv_mw": [-0.1, 0.1]}, r"source 'first': E\(B-V\) -0.1"),
        ({"ebv_mw": [0.1, np.nan]}, r"source 'the \\n second': E\(B-V\) is missing, though other sources have one"),
        ({"ebv_mw": [0.1, np.inf]}, r"E\(B-V\) inf"),
        ({"ebv_mw": np.nan}, r"^E\(B-V\) nan: must be within"),
        ({"ebv_mw": 11}, r"^E\(B-V\) 11: must be within"),
        ({"ebv_mw": [0.1]}, "one for each of the 2 sources"),
        ({"error_floor": 100.5}, "error floor 100.5: must be within 0 and 100 per cent"),
        ({"error_floor": -1.0}, "error floor -1"),
        ({"error_floor": np.nan}, "error floor nan"),
        ({"confusion_ujy": -1.0}, "confusion noise -1: must be a number of uJy, 0 or more"),
        ({"confusion_ujy": np.inf}, "confusion noise inf"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(options: dict, named: str) -> None:
    with pytest.raises(InputError, match=named) as caught:
        corrected(measured(), name=("first", "the \n second"), **options)
    assert "\n" not in str(caught.value)


def test_sources_without_names_are_numbered_and_none_at_all_is_fine() -> None:
    with pytest.raises(InputError, match="source 2: "):
        corrected(measured(), [0.1, 99.0])
    empty = Measurements(*(np.zeros(0),) * 4, start=np.array([0]))
    assert len(corrected(empty, np.zeros(0), 5.0, 1.0)) == 0
    nothing_measured = Measurements(*(np.zeros(0),) * 4, start=np.array([0, 0]))
    assert len(corrected(nothing_measured, 0.3)) == 1
