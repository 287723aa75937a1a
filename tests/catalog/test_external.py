"""Mock photometry of other surveys: the catalogue's own magnitudes, noise by source, zero points."""

import numpy as np
import polars as pl
import pytest

from paeplatform.catalog.external import DEPTH_AB, mock_external
from paeplatform.catalog.photometry import ab_flux
from paeplatform.errors import BandSetError
from paeplatform.instrument.external import NOMINAL, ExternalBands, nominal_bands
from paeplatform.instrument.filters import FilterCurves

NAMES = ("legacy/g", "legacy/z", "wise/W1", "wise/W2")


@pytest.fixture(scope="module")
def rows(catalog) -> pl.DataFrame:
    return catalog.sort("mag_z").head(60)


def test_true_fluxes_are_those_of_the_catalogues_magnitudes(library, rows) -> None:
    """The catalogue has W1, whose trapezoid is the same."""
    table = mock_external(library, nominal_bands(NAMES), rows, 1)
    w1 = table["external_flux_true"].to_numpy()[:, 2]
    np.testing.assert_allclose(w1, ab_flux(rows["mag_w1"].to_numpy()), rtol=5e-3)


def test_noise_is_the_depth_and_the_sources_own(library, rows) -> None:
    bands = nominal_bands(NAMES)
    table = mock_external(library, bands, rows, 1)
    flux, error, true = (
        table[f"external_{name}"].to_numpy().astype(float) for name in ("flux", "flux_err", "flux_true")
    )
    noise = ab_flux(np.array([DEPTH_AB[name] for name in NAMES])) / 5.0
    np.testing.assert_allclose(error, np.hypot(noise, 0.01 * true), rtol=1e-5)
    score = (flux - true) / error
    assert abs(score.mean()) < 0.3 and score.std() == pytest.approx(1.0, abs=0.2)
    # neither the order nor the other rows change a source
    some = mock_external(library, bands, rows.reverse().head(7), 1).reverse()
    np.testing.assert_array_equal(some["external_flux"].to_numpy(), table["external_flux"].to_numpy()[-7:])
    assert not np.array_equal(mock_external(library, bands, rows, 2)["external_flux"].to_numpy(), flux)


def test_zero_points_make_magnitudes_too_faint(library, rows) -> None:
    bands = nominal_bands(NAMES)
    right = mock_external(library, bands, rows, 1)["external_flux"].to_numpy().astype(float)
    off = mock_external(library, bands, rows, 1, zero_points_mag={"legacy": 0.1})
    true = off["external_flux_true"].to_numpy().astype(float)
    moved = off["external_flux"].to_numpy().astype(float)
    np.testing.assert_allclose((moved - right)[:, :2], (10**-0.04 - 1.0) * true[:, :2], rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(moved[:, 2:], right[:, 2:])


def test_a_band_without_depth_is_named(library, rows) -> None:
    curve = FilterCurves(np.linspace(0.4, 0.5, 5)[None], np.ones((1, 5)))
    with pytest.raises(BandSetError, match="no depth of the band mine/x"):
        mock_external(library, ExternalBands(("mine/x",), curve), rows, 1)


def test_every_nominal_band_has_a_depth() -> None:
    assert set(DEPTH_AB) == set(NOMINAL)
