"""Mock fluxes of catalogue sources in the bands of other surveys: the same spectra through other curves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from jaxtyping import Float

from paeplatform.catalog.photometry import MockSpectra, ab_flux
from paeplatform.errors import BandSetError
from paeplatform.instrument.exact import exact_photometry
from paeplatform.instrument.external import ExternalBands
from paeplatform.random_keys import seeded_generator
from paeplatform.sed.library import TemplateLibrary
from paeplatform.source_columns import array_column

# 5 sigma depths of point sources [AB mag]: Legacy Surveys DR9 at two passes (Dey et al. 2019), 2MASS (Skrutskie et al.
# 2006, AJ 131, 1163, in AB), unWISE (Schlafly, Meisner & Green 2019, ApJS 240, 30, in AB), Euclid wide (Euclid
# Collaboration: Mellier et al. 2024, arXiv:2405.13491); rounded to a tenth
DEPTH_AB = {
    "legacy/g": 24.0,
    "legacy/r": 23.4,
    "legacy/z": 22.5,
    "2mass/J": 17.3,
    "2mass/H": 17.1,
    "2mass/Ks": 16.8,
    "wise/W1": 20.7,
    "wise/W2": 20.0,
    "euclid/Y": 24.3,
    "euclid/J": 24.5,
    "euclid/H": 24.4,
}
LEAST_ERROR = 0.01  # of the flux: what calibration within a survey leaves


def mock_external(
    library: TemplateLibrary,
    bands: ExternalBands,
    catalog_rows: pl.DataFrame,
    seed: int,
    *,
    depth_ab: Mapping[str, float] = DEPTH_AB,
    zero_points_mag: Mapping[str, float] | None = None,
) -> pl.DataFrame:
    """Fluxes that other surveys would measure of catalogue sources.

    Args:
        library: the templates the catalogue was drawn with.
        bands: of the surveys.
        catalog_rows: rows of `draw_mock_catalog`, with object_id; further columns are kept.
        seed: of the noise, which depends on it and the object_id alone.
        depth_ab: 5 sigma depth of each band [AB mag].
        zero_points_mag: of each survey, by how much its magnitudes are too faint [mag]; 0 where it is not named.

    Returns:
        `catalog_rows` with external_flux, external_flux_err and external_flux_true as pl.Array(f32, n_band) [uJy]. True
        fluxes have right zero points.

    Raises:
        BandSetError: a band has no depth.
        InputError: a column is missing, or a template or dust-law index does not exist.
    """
    missing = [name for name in bands.name if name not in depth_ab]
    if missing:
        raise BandSetError(f"mock external photometry: no depth of the band {missing[0]}")
    true = noiseless_external(library, bands, catalog_rows)
    noise = ab_flux(np.array([depth_ab[name] for name in bands.name])) / 5.0
    error = np.hypot(noise, LEAST_ERROR * true)
    offset = np.array([(zero_points_mag or {}).get(survey, 0.0) for survey in bands.survey])
    flux = 10.0 ** (-0.4 * offset) * true
    for row, identity in enumerate(catalog_rows["object_id"].to_list()):
        flux[row] += error[row] * seeded_generator(seed, identity, 0x4558).standard_normal(len(bands))
    return catalog_rows.with_columns(
        array_column(flux).alias("external_flux"),
        array_column(error).alias("external_flux_err"),
        array_column(true).alias("external_flux_true"),
    )


def noiseless_external(
    library: TemplateLibrary, bands: ExternalBands, catalog_rows: pl.DataFrame
) -> Float[np.ndarray, "source band"]:
    """Fluxes [uJy] without noise; see `mock_external`."""
    mock = MockSpectra(library)
    true = np.empty((len(catalog_rows), len(bands)))
    for rows, spectra, amplitude, redshift in mock.chunks(catalog_rows):
        found = [
            exact_photometry(mock.wave, spectrum, z, bands.filters)
            for spectrum, z in zip(spectra, redshift.tolist(), strict=True)
        ]
        true[rows] = amplitude[:, None] * np.stack(found)
    return true
