"""The attenuation laws against published values, against dust_extinction, and for their limits."""

import warnings

import astropy.units as u
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paeplatform.errors import InputError
from paeplatform.sed.dust import DUST_LAWS, TOTAL_TO_SELECTIVE, attenuation, k_lambda

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from dust_extinction.averages import G03_SMCBar
    from dust_extinction.parameter_averages import CCM89

LAWS = pytest.mark.parametrize("law", DUST_LAWS)


# k = A(lambda)/E(B-V) of the tables that hyperz and LePHARE distribute (LePHARE's SMC_prevot.dat and
# MW_Allen.dat, read at these wavelengths), which restate Prevot et al. 1984 with R_V = 2.72 and Allen 1976
# with R_V = 3.1. Calzetti: the formula of 2000 worked out by hand, A(1600 A) = 9.97 E(B-V), and 4.05 at V.
@pytest.mark.parametrize(
    ("law", "wave_um", "published", "tolerance"),
    [
        ("prevot", 0.1000, 21.360, 1e-3),
        ("prevot", 0.1330, 15.240, 1e-4),
        ("prevot", 0.1490, 12.560, 1e-4),
        ("prevot", 0.1910, 9.480, 1e-4),
        ("prevot", 0.2220, 8.020, 1e-4),
        ("prevot", 0.2890, 5.720, 1e-4),
        ("prevot", 0.4000, 4.095, 5e-3),
        ("prevot", 0.5291, 2.720, 1e-4),
        ("prevot", 1.2500, 0.700, 1e-4),
        ("prevot", 2.2000, 0.250, 1e-4),
        ("calzetti", 0.1600, 9.97, 1e-3),
        ("calzetti", 0.4861, 4.60, 2e-3),
        ("calzetti", 0.5500, 4.05, 1e-3),
        ("calzetti", 0.6563, 3.33, 6e-3),
        ("calzetti", 2.2000, 0.369, 2e-3),
        ("allen", 0.0910, 14.288, 1e-3),
        ("allen", 0.1000, 13.020, 1e-4),
        ("allen", 0.1670, 8.370, 1e-4),
        ("allen", 0.2220, 8.990, 1e-4),
        ("allen", 0.3330, 5.239, 1e-4),
        ("allen", 0.5530, 3.100, 1e-4),
        ("allen", 0.6700, 2.294, 1e-4),
        ("allen", 2.0000, 0.341, 1e-4),
    ],
)
def test_published_values(law: str, wave_um: float, published: float, tolerance: float) -> None:
    assert k_lambda(law, wave_um) == pytest.approx(published, rel=tolerance)


def test_prevot_agrees_with_the_modern_smc_curve() -> None:
    wave = np.linspace(0.12, 1.2, 200)
    curve = G03_SMCBar()
    modern = curve(wave * u.micron) * curve.Rv
    np.testing.assert_allclose(k_lambda("prevot", wave), modern, rtol=0.10)  # 8 % at 0.6 um


def test_allen_agrees_with_the_modern_milky_way_curve() -> None:
    wave = np.linspace(0.12, 1.2, 200)
    modern = CCM89(Rv=3.1)(wave * u.micron) * 3.1
    np.testing.assert_allclose(k_lambda("allen", wave), modern, rtol=0.12)


def test_only_allen_has_the_2175_bump() -> None:
    for law in DUST_LAWS:
        sides = 0.5 * (k_lambda(law, 0.167) + k_lambda(law, 0.285))
        assert (k_lambda(law, 0.22) > 1.15 * sides) == (law == "allen")


@LAWS
def test_laws_are_positive_continuous_and_fall_redward(law: str) -> None:
    wave = np.linspace(0.09, 5.2, 100_001)
    k = k_lambda(law, wave)
    assert np.all(np.isfinite(k))
    assert np.all(k > 0.0)
    assert np.all(np.diff(k)[wave[:-1] >= 0.4] < 0.0)
    assert np.max(np.abs(np.diff(k))) < 0.02  # 5e-5 um steps; the steepest slope published is 190 per um
    assert k[-1] < 0.07


@LAWS
def test_total_to_selective_ratio_is_about_k_at_v(law: str) -> None:
    assert k_lambda(law, 0.54) == pytest.approx(TOTAL_TO_SELECTIVE[law], rel=0.04)


@LAWS
@given(first=st.floats(0.0, 0.5), second=st.floats(0.0, 0.5))
def test_screens_multiply(law: str, first: float, second: float) -> None:
    wave = np.array([0.1, 0.22, 0.55, 2.2, 5.0])
    both = attenuation(law, wave, first) * attenuation(law, wave, second)
    np.testing.assert_allclose(attenuation(law, wave, first + second), both, rtol=1e-10)
    assert np.all(both <= 1.0)


def test_one_magnitude_is_a_factor_of_2_512() -> None:
    ebv = 1.0 / float(k_lambda("calzetti", 0.3))
    assert attenuation("calzetti", 0.3, ebv) == pytest.approx(10**-0.4)


@pytest.mark.parametrize("ebv", [-0.01, 1.01, float("nan")])
def test_reddening_outside_the_range_is_refused(ebv: float) -> None:
    with pytest.raises(InputError, match=r"ebv\[0\] = \S+ is outside the accepted range 0-1"):
        attenuation("allen", 0.5, ebv)


def test_unknown_law_and_wavelength_are_refused() -> None:
    with pytest.raises(InputError, match="give one of prevot, calzetti, allen"):
        k_lambda("smc", 0.5)
    with pytest.raises(InputError, match=r"0\.01 um is outside the accepted range"):
        k_lambda("allen", np.array([0.5, 0.01]))
