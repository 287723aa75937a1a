"""Mock photometry: its magnitudes, its noise, and the cut of the release."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats

from paeplatform.catalog.broadband import HSC_I, HSC_Z, WISE_W1
from paeplatform.catalog.cells import healpix_cell
from paeplatform.catalog.photometry import ab_flux, mock_photometry, select_release
from paeplatform.errors import ConfigError, InputError
from paeplatform.instrument.exact import exact_photometry
from paeplatform.instrument.filters import FilterCurves, gaussian_filters
from paeplatform.sed.dust import DUST_LAWS, attenuation

SEED = 7


@pytest.fixture(scope="module")
def photometry(preset, library, bands, catalog):
    return mock_photometry(preset, library, bands, catalog.head(400), SEED)


def _spectrum(library, source):
    """The source's reddened rest-frame template on the nodes of the library."""
    index = source["template_index"]
    wave = library.wave[index]
    return wave, library.flux[index] * attenuation(DUST_LAWS[source["dust_law"]], wave, source["ebv"])


def _trapezoid_curve(band):
    """A catalogue band as the exact operator's filter curve, its four corners and nodes between."""
    wave = np.unique(
        np.append(np.linspace(band.foot_blue, band.foot_red, 200), [band.top_blue, band.top_red])
    )
    return FilterCurves(wave[None, :], band.transmission(wave)[None, :])


def test_columns(photometry, catalog, bands):
    n = len(bands)
    assert photometry.columns == [*catalog.columns, "flux", "flux_err", "flux_true", "snr"]
    assert photometry["flux"].dtype == photometry["flux_err"].dtype == pl.Array(pl.Float32, n)
    assert photometry["flux_true"].dtype == pl.Array(pl.Float32, n)
    assert photometry.select(catalog.columns).equals(catalog.head(400))


def test_the_fluxes_belong_to_a_spectrum_of_the_catalogued_magnitudes(photometry, library, bands):
    """Round trip through the exact operator: scale the spectrum to flux_true, then measure i, z and W1 on
    it."""
    filters = gaussian_filters(bands)
    for row in range(0, 400, 40):
        source = photometry.row(row, named=True)
        wave, spectrum = _spectrum(library, source)
        shape = exact_photometry(wave, spectrum, source["z_true"], filters)
        flux_true = np.array(source["flux_true"])
        scale = (flux_true @ shape) / (shape @ shape)
        np.testing.assert_allclose(flux_true, scale * shape, rtol=5e-3, atol=1e-3 * flux_true.max())
        for band, column in ((HSC_I, "mag_i"), (HSC_Z, "mag_z"), (WISE_W1, "mag_w1")):
            measured = exact_photometry(wave, scale * spectrum, source["z_true"], _trapezoid_curve(band))[0]
            assert -2.5 * np.log10(measured / ab_flux(source[column])) == pytest.approx(0.0, abs=0.005)


def test_noise_is_gaussian_at_the_depth(photometry, preset, bands):
    flux, flux_err, flux_true = (photometry[name].to_numpy() for name in ("flux", "flux_err", "flux_true"))
    np.testing.assert_allclose(
        flux_err, np.broadcast_to(bands.depth(preset.instrument.depth), flux.shape), rtol=1e-6
    )
    pull = ((flux - flux_true) / flux_err).astype(np.float64)
    assert stats.kstest(pull.ravel(), "norm").pvalue > 1e-3
    between_sources = np.corrcoef(pull[:-1].ravel(), pull[1:].ravel())[0, 1]
    assert abs(between_sources) < 4.0 / np.sqrt(pull.size)
    np.testing.assert_allclose(
        photometry["snr"].to_numpy(),
        np.sqrt(((flux / flux_err).astype(np.float64) ** 2).sum(axis=1)),
        rtol=1e-5,
    )


def test_a_source_has_the_same_fluxes_whatever_is_selected_with_it(
    photometry, preset, library, bands, catalog
):
    chosen = catalog.head(400)[[37, 5, 399]]
    again = mock_photometry(preset, library, bands, chosen, SEED)
    assert again.equals(photometry[[37, 5, 399]])
    other = mock_photometry(preset, library, bands, chosen, SEED + 1)
    assert other["flux_true"].equals(again["flux_true"])
    assert not np.any(other["flux"].to_numpy() == again["flux"].to_numpy())


def test_inflight_depth_is_used_when_the_preset_says_so(preset, library, bands, catalog):
    flight = preset.model_copy(
        update={"instrument": preset.instrument.model_copy(update={"depth": "inflight"})}
    )
    flux_err = mock_photometry(flight, library, bands, catalog.head(2), SEED)["flux_err"].to_numpy()
    np.testing.assert_allclose(flux_err[1], bands.depth_inflight_ujy, rtol=1e-6)


def test_no_rows_give_no_rows(preset, library, bands, catalog):
    empty = mock_photometry(preset, library, bands, catalog.head(0), SEED)
    assert len(empty) == 0
    assert empty["flux"].dtype == pl.Array(pl.Float32, 102)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda rows: rows.drop("mag_i"), "lacks the columns mag_i"),
        (
            lambda rows: rows.with_columns(template_index=pl.lit(160)),
            r"row 0 has template_index 160, outside \[0, 159\]",
        ),
        (lambda rows: rows.with_columns(dust_law=pl.lit(-1)), r"row 0 has dust_law -1, outside \[0, 2\]"),
    ],
)
def test_unusable_rows_are_refused(preset, library, bands, catalog, change, named):
    with pytest.raises(InputError, match=named):
        mock_photometry(preset, library, bands, change(catalog.head(3)), SEED)


def test_release_is_bright_in_its_cells_and_capped(preset, catalog):
    release = select_release(preset, catalog)
    cfg = preset.release
    assert release["cell"].dtype == pl.Int64
    assert (release["mag_z"] < cfg.mag_z_max).all()
    assert set(release["cell"]) == set(cfg.cells)
    assert release["cell"].value_counts()["count"].to_list() == [cfg.sources_per_cell] * len(cfg.cells)
    cells = healpix_cell(release["ra"].to_numpy(), release["dec"].to_numpy(), cfg.healpix_order)
    np.testing.assert_array_equal(cells, release["cell"].to_numpy())
    assert release.equals(release.sort("cell", "object_id"))
    assert release["object_id"].n_unique() == len(release)
    assert select_release(preset, catalog.sample(fraction=1.0, shuffle=True, seed=1)).equals(release)


def test_a_further_cell_leaves_the_others_as_they_were(preset, catalog):
    more = preset.model_copy(
        update={"release": preset.release.model_copy(update={"cells": (27256, 27258, 27259)})}
    )
    release = select_release(more, catalog)
    assert release.filter(pl.col("cell") != 27259).equals(select_release(preset, catalog))


def test_a_cell_without_sources_is_named(preset, catalog):
    elsewhere = preset.model_copy(update={"release": preset.release.model_copy(update={"cells": (27256, 3)})})
    with pytest.raises(ConfigError, match=r"in \[3\] at order 6; cells with sources: .*27256"):
        select_release(elsewhere, catalog)
