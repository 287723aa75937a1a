"""Emission lines: flux follows the ultraviolet continuum; blue galaxies get strong ones, red ones none."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paeplatform.sed import library as library_module
from paeplatform.sed.library import load_library
from paeplatform.sed.lines import LINES, OII_PER_UV_HZ, UV_WAVE_UM, add_emission_lines, nuv_minus_r

LIGHT_UM_HZ = 2.99792458e14


def power_law(slope: float) -> tuple[np.ndarray, np.ndarray]:
    wave = np.geomspace(0.09, 5.2, 1200)
    return wave, wave**slope


def equivalent_width_angstrom(wave: np.ndarray, flux: np.ndarray, low_um: float, high_um: float) -> float:
    nodes = np.union1d(wave[(wave > low_um) & (wave < high_um)], [low_um, high_um])
    values = np.interp(nodes, wave, flux)
    continuum = np.interp(nodes, [low_um, high_um], [values[0], values[-1]])
    return float(np.trapezoid(values / continuum - 1.0, nodes) * 1e4)


@given(slope=st.floats(-1.0, 2.5), scale=st.floats(1e-6, 1e6))
@settings(max_examples=20, deadline=None)
def test_line_flux_is_the_stated_multiple_of_the_ultraviolet_continuum(slope: float, scale: float) -> None:
    wave, flux = power_law(slope)
    nodes, total, added = add_emission_lines(wave, flux * scale)
    assert added
    assert np.all(np.diff(nodes) > 0.0)
    excess = total - np.interp(nodes, wave, flux * scale)
    # Integrated on a refined grid, over the piecewise linear spectrum: int f_nu dnu.
    dense = np.union1d(nodes, np.linspace(0.36, 4.1, 200_000))
    measured = np.trapezoid(np.interp(dense, nodes, excess) * LIGHT_UM_HZ / dense**2, dense)
    expected = OII_PER_UV_HZ * np.interp(UV_WAVE_UM, wave, flux * scale) * sum(line.ratio for line in LINES)
    assert measured == pytest.approx(expected, rel=1e-4)


def test_single_lines_keep_their_ratio() -> None:
    nodes, total, _ = add_emission_lines(*power_law(0.0))
    flux = {}
    for name, low, high in [("Hbeta", 0.480, 0.492), ("Palpha", 1.85, 1.90)]:
        inside = (nodes > low) & (nodes < high)
        flux[name] = np.trapezoid((total - 1.0)[inside] / nodes[inside] ** 2, nodes[inside])
    assert flux["Palpha"] / flux["Hbeta"] == pytest.approx(0.339, rel=1e-4)  # case B, 10^4 K


def test_oii_relation_is_near_kennicutts() -> None:
    # SFR = 1.4e-28 L_nu(UV) = 1.4e-41 L([OII]) (Kennicutt 1998): their ratio [Hz], within the scatter.
    kennicutt_hz = 1.4e-28 / 1.4e-41
    assert kennicutt_hz == pytest.approx(OII_PER_UV_HZ, rel=0.3)


def test_hydrogen_lines_follow_case_b() -> None:
    ratio = {line.name: line.ratio for line in LINES}
    assert ratio["Halpha"] / ratio["Hbeta"] == pytest.approx(2.86, rel=0.02)
    assert ratio["[OIII]5007"] / ratio["[OIII]4959"] == pytest.approx(2.98)
    assert ratio["[OII]3726"] + ratio["[OII]3729"] == pytest.approx(1.0)


def test_red_galaxies_get_no_lines() -> None:
    wave, flux = power_law(4.5)
    assert nuv_minus_r(wave, flux) > 4.25
    nodes, total, added = add_emission_lines(wave, flux)
    assert not added
    np.testing.assert_array_equal(total, flux)
    np.testing.assert_array_equal(nodes, wave)


def test_packaged_starbursts_have_strong_lines_and_ellipticals_none() -> None:
    table = pl.read_parquet(library_module.__file__.replace("library.py", "data/templates.parquet"))
    lines = dict(zip(table["name"], table["has_lines"], strict=True))
    assert sum(lines.values()) == 21
    assert not any(
        value for name, value in lines.items() if name.startswith(("brown/", "ilbert/Ell", "ilbert/S0"))
    )

    library = load_library()
    halpha, oii = {}, {}
    for name, wave, flux in zip(library.name, library.wave, library.flux, strict=True):
        halpha[name] = equivalent_width_angstrom(wave, flux, 0.6480, 0.6650)  # with [N II]
        oii[name] = equivalent_width_angstrom(wave, flux, 0.3700, 0.3760)
    for i in range(12):
        assert 30.0 < halpha[f"ilbert/SB{i}_A_0"] < 800.0
        assert 10.0 < oii[f"ilbert/SB{i}_A_0"] < 200.0
    for i in range(1, 8):
        assert abs(halpha[f"ilbert/Ell{i}_A_0"]) < 3.0
    assert (
        halpha["ilbert/SB11_A_0"]
        > halpha["ilbert/SB0_A_0"]
        > halpha["ilbert/Sc_A_0"]
        > halpha["ilbert/Sb_A_1"]
    )
