"""Synthetic magnitudes against analytic spectra and against a plain integral."""

from __future__ import annotations

import numpy as np
import pytest

from paeplatform.catalog.broadband import (
    CATALOG_BANDS,
    HSC_I,
    REST_NUV_UM,
    REST_R_UM,
    BroadBandSynthesiser,
    rest_nuv_r,
)
from paeplatform.errors import ConfigError
from paeplatform.sed.dust import DUST_LAWS, attenuation
from paeplatform.sed.grid import hires_grid
from paeplatform.sed.library import TemplateLibrary


def power_law_library(*slopes: float) -> TemplateLibrary:
    """f_nu = wave**slope on fine nodes."""
    wave = np.geomspace(0.08, 5.5, 20000)
    names = tuple(f"slope {slope}" for slope in slopes)
    return TemplateLibrary(names, names, names, (wave,) * len(slopes), tuple(wave**slope for slope in slopes))


def _plain_band_flux(wave, flux, z, band):
    """int T f_nu dlam/lam / int T dlam/lam by brute force on a fine observed grid."""
    observed = np.linspace(band.foot_blue, band.foot_red, 40001)
    weight = band.transmission(observed) / observed
    return np.trapezoid(weight * np.interp(observed / (1.0 + z), wave, flux), observed) / np.trapezoid(
        weight, observed
    )


def test_a_flat_spectrum_has_its_own_flux_in_every_band_at_every_redshift():
    synthesiser = BroadBandSynthesiser(power_law_library(0.0))
    z = np.linspace(0.01, 3.0, 50)
    flux = synthesiser.fluxes(np.zeros(50, dtype=int), np.zeros(50, dtype=int), np.zeros(50), z)
    np.testing.assert_allclose(flux, 1.0, rtol=1e-5)


def test_fluxes_of_real_templates_agree_with_a_plain_integral(library):
    rng = np.random.default_rng(0)
    n = 12
    template, law = rng.integers(0, len(library), n), rng.integers(0, len(DUST_LAWS), n)
    ebv, z = rng.uniform(0.0, 0.8, n), rng.uniform(0.01, 2.9, n)
    flux = BroadBandSynthesiser(library).fluxes(template, law, ebv, z)
    for row in range(n):
        wave = library.wave[template[row]]
        dusty = library.flux[template[row]] * attenuation(DUST_LAWS[law[row]], wave, ebv[row])
        expected = [_plain_band_flux(wave, dusty, z[row], band) for band in CATALOG_BANDS]
        np.testing.assert_allclose(-2.5 * np.log10(flux[row] / expected), 0.0, atol=0.003)


def test_spectra_are_the_attenuated_templates(library):
    synthesiser = BroadBandSynthesiser(library)
    bare = synthesiser.spectra(np.array([3]), np.array([1]), np.array([0.0]))[0]
    dusty = synthesiser.spectra(np.array([3]), np.array([1]), np.array([0.5]))[0]
    np.testing.assert_allclose(
        dusty, bare * attenuation(DUST_LAWS[1], hires_grid(), 0.5), rtol=1e-5, atol=1e-12
    )


def test_nuv_r_of_a_power_law():
    """Mean over ln(wave) of wave**s is (b^s - a^s) / (s ln(b/a))."""

    def mean(slope, low, high):
        return (high**slope - low**slope) / (slope * np.log(high / low))

    for slope, colour in zip((1.0, 3.0), rest_nuv_r(power_law_library(1.0, 3.0)), strict=True):
        assert colour == pytest.approx(
            -2.5 * np.log10(mean(slope, *REST_NUV_UM) / mean(slope, *REST_R_UM)), abs=0.005
        )


def test_a_redshift_beyond_the_templates_is_refused():
    synthesiser = BroadBandSynthesiser(power_law_library(0.0), bands=(HSC_I,))
    with pytest.raises(ConfigError, match=r"catalog.z_max.*6\.6"):
        synthesiser.fluxes(np.array([0]), np.array([0]), np.array([0.0]), np.array([7.0]))
