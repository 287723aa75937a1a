"""The spectra and counts of the classes: known numbers, limits, and errors."""

import numpy as np
import pytest

from paeplatform.classes.counts import (
    class_counts,
    galactic_latitude,
    galaxy_redshift_density,
    luminosity_function,
    reference_magnitude,
)
from paeplatform.classes.library import load_stars
from paeplatform.classes.models import band_fluxes, quasar_fluxes, star_grid
from paeplatform.classes.quasar_lines import line_spectrum
from paeplatform.classes.quasar_spectra import (
    QuasarShape,
    igm_transmission,
    quasar_spectra,
    rest_wave,
    shape_grids,
)
from paeplatform.errors import ConfigError, TemplateError


def test_the_library_covers_what_spherex_sees():
    library = load_stars()
    assert library.wave[0] < 0.7 and library.wave[-1] > 5.1
    assert len(set(library.name)) == len(library) > 150
    assert np.isfinite(library.flux).all() and (library.flux >= 0.0).all()
    np.testing.assert_allclose(library.flux.mean(axis=1), 1.0, atol=1e-3)
    assert len(library.of_kind("star")) + len(library.of_kind("brown_dwarf")) == len(library)
    assert len(library.without(library.name[:5])) == len(library) - 5
    with pytest.raises(TemplateError, match="kind 'planet' must be one of"):
        library.of_kind("planet")


def test_a_hot_star_is_a_blackbody_and_a_cool_one_falls_as_rayleigh_jeans():
    library = load_stars()
    hot = library.flux[library.name.index("blackbody/10000K")]
    planck = library.wave**-3.0 / np.expm1(14387.77 / (library.wave * 10_000.0))
    np.testing.assert_allclose(hot / hot[0], planck / planck[0], rtol=2e-3)
    sun = library.flux[library.name.index("btsettl/6000K_logg4.5")]
    far = library.wave > 2.6
    slope = np.polyfit(np.log(library.wave[far]), np.log(sun[far]), 1)[0]
    assert -2.1 < slope < -1.7


def test_band_fluxes_of_a_flat_spectrum_are_flat(bands):
    wave = np.geomspace(0.05, 6.0, 4000)
    flux = band_fluxes(wave, np.ones((1, len(wave))), bands, np.array([0.0, 3.0]))
    np.testing.assert_allclose(flux, 1.0, rtol=1e-9)


def test_dust_reddens_stars_and_not_dwarfs(bands):
    grid = star_grid(bands)
    blue, red = grid.flux[:, :, 5], grid.flux[:, :, -5]
    assert (np.diff(blue / red, axis=1) < 0.0).all()
    assert star_grid(bands, kind="brown_dwarf").n_model == 1
    np.testing.assert_allclose(np.unique(grid.error), [0.03, 0.04, 0.05, 0.07])


def test_a_kind_without_spectra_is_an_error(bands):
    with pytest.raises(ConfigError, match="no spectrum of this kind"):
        star_grid(bands, load_stars().of_kind("star"), "brown_dwarf")


def test_lines_have_their_equivalent_widths():
    wave = np.exp(np.arange(np.log(0.06), np.log(5.4), 1e-4))
    disc = wave**0.5
    lines = line_spectrum(wave, disc)
    near = np.abs(wave - 0.6565) < 0.03
    # per unit wavelength: f_lambda ~ f_nu / lambda^2
    width = np.trapezoid((lines / wave**2)[near], wave[near]) / (np.interp(0.6565, wave, disc) / 0.6565**2)
    assert width * 1e4 == pytest.approx(194.5, rel=0.02)
    pa_beta = np.abs(wave - 1.2822) < 0.05
    flux = [np.trapezoid((lines / wave**2)[part], wave[part]) for part in (near, pa_beta)]
    assert flux[1] / flux[0] == pytest.approx(0.11, rel=0.02)


def test_quasars_have_the_published_slopes_and_dust():
    wave = rest_wave()
    bare, dusty = quasar_spectra([QuasarShape(line_scale=0.0, hot_dust=hot) for hot in (0.0, 1.0)], wave)

    def slope(low, high):
        return np.log(np.interp(low, wave, bare) / np.interp(high, wave, bare)) / np.log(high / low)

    assert slope(0.9, 2.0) == pytest.approx(0.593, abs=1e-3)
    assert slope(0.39, 0.54) == pytest.approx(0.593, abs=0.01)
    assert np.interp(2.0, wave, dusty - bare) == pytest.approx(3.961, rel=1e-3)
    reddened = quasar_spectra([QuasarShape(ebv=0.2)], wave)[0] / quasar_spectra([QuasarShape()], wave)[0]
    assert np.interp(0.2, wave, reddened) < np.interp(1.0, wave, reddened) < 1.0


def test_shapes_have_weights_that_sum_to_one_and_equal_numbers():
    near, far = shape_grids()
    assert len(near.shapes) == len(far.shapes)
    for grid in (near, far):
        assert grid.weight.sum() == pytest.approx(1.0) and (grid.weight > 0.0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ebv": 1.5}, "ebv 1.5 must be within 0 and 1"),
        ({"host": -1.0}, "host -1.0 must be finite and at least 0"),
        ({"slope": 9.0}, "slope 9.0 must be within"),
        ({"dust_k": 10.0}, "dust_k 10.0 must be within 300 and 3000"),
    ],
)
def test_a_shape_out_of_range_is_an_error(change, message):
    with pytest.raises(ConfigError, match=message):
        QuasarShape(**change)


def test_the_intergalactic_medium_absorbs_below_lyman_alpha():
    wave = np.array([0.05, 0.1, 0.12, 0.13])
    near, far = igm_transmission(wave, 3.0), igm_transmission(wave, 5.5)
    assert near[3] == far[3] == 1.0 and near[0] == 0.0
    # Madau 1995, equation 12: exp(-0.0036 (1 + z')^3.46) with (1 + z') = lambda_observed / lambda_alpha
    assert near[2] == pytest.approx(np.exp(-3.6e-3 * (0.12 * 4.0 / 0.121567) ** 3.46))
    assert (far[1:3] < near[1:3]).all()


def test_the_lines_of_a_redshifted_quasar_lie_where_they_belong(bands):
    flux = quasar_fluxes([QuasarShape(), QuasarShape(line_scale=0.0)], np.array([1.0]), bands)[0]
    bump = flux[0] / flux[1]
    channel = int(np.argmax(np.where(bands.wave_um > 1.0, bump, 0.0)))
    assert abs(bands.wave_um[channel] - 2.0 * 0.6565) < bands.bandwidth_um[channel]


def test_counts_are_those_of_the_sky():
    """Numbers that the counts were not fitted to, within a factor of two."""
    mag = np.arange(12.0, 24.0, 0.05)
    counts = class_counts(mag, np.full(len(mag), 90.0))
    galaxies = np.sum(counts[mag + 0.6 < 22.5, 0]) * 0.05
    assert 1.2e4 < galaxies < 5e4  # i < 22.5: some 1.5-2e4 a square degree
    quasars = np.sum(counts[mag + 0.3 < 22.2, 1]) * 0.05
    assert quasars == pytest.approx(176.0, rel=0.1)
    star = counts[np.argmin(np.abs(mag + 0.5 - 20.0)), 2]
    assert 500.0 < star < 2500.0
    assert (np.diff(counts[:, 0]) > 0.0).all() and (counts > 0.0).all()


def test_stars_rise_towards_the_plane_and_galaxies_do_not():
    counts = class_counts(np.full(4, 18.0), np.array([90.0, -45.0, 20.0, 0.0]))
    assert (np.diff(counts[:, 2]) > 0.0).all()
    assert np.ptp(counts[:, 0]) == 0.0
    np.testing.assert_allclose(
        luminosity_function(np.array([15.0, 16.0])), luminosity_function(np.array([15.0]))[0]
    )


def test_galactic_latitudes():
    latitude = galactic_latitude(
        np.array([192.85948, 266.405, 0.0, np.nan]), np.array([27.12825, -28.936, 0.0, 1.0])
    )
    np.testing.assert_allclose(latitude[:3], [90.0, 0.0, -60.19], atol=0.02)
    assert latitude[3] == 45.0
    with pytest.raises(ConfigError, match="dec_deg, row 1: 95 must be within"):
        galactic_latitude(np.zeros(2), np.array([0.0, 95.0]))


def test_redshift_densities_are_normalised_and_bright_galaxies_near():
    z = np.linspace(1e-4, 5.0, 20_000)
    density = galaxy_redshift_density(z, np.array([16.0, 21.0]))
    np.testing.assert_allclose(np.trapezoid(density, z, axis=1), 1.0, atol=0.02)
    mean = np.trapezoid(density * z, z, axis=1)
    assert mean[0] < mean[1]
    assert density[0, np.searchsorted(z, 2.5)] < 0.01


def test_reference_magnitudes(bands):
    flux, flux_err = np.full((3, len(bands)), 100.0), np.ones((3, len(bands)))
    flux_err[1, (bands.wave_um > 1.0) & (bands.wave_um < 1.5)] = np.inf
    flux[2] = -5.0
    mag = reference_magnitude(flux, flux_err, np.isfinite(flux_err), bands)
    assert mag[:2] == pytest.approx([18.9, 18.9])
    inside = np.sum((bands.wave_um >= 1.1) & (bands.wave_um <= 1.35))
    assert mag[2] == pytest.approx(23.9 - 2.5 * np.log10(2.0 / np.sqrt(inside)))
