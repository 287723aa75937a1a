"""Mock SPHEREx photometry of catalogue sources, and the mock release cut out of the catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from paeplatform.catalog.broadband import HSC_I, BroadBandSynthesiser
from paeplatform.catalog.cells import healpix_cell
from paeplatform.catalog.streams import Stream, stream_rng
from paeplatform.config import Preset
from paeplatform.errors import ConfigError, InputError
from paeplatform.instrument.bands import BandSet
from paeplatform.instrument.bulk import BulkPhotometer
from paeplatform.instrument.filters import gaussian_filters
from paeplatform.instrument.noise import add_noise, total_snr
from paeplatform.random_keys import counter_generator
from paeplatform.sed.dust import DUST_LAWS
from paeplatform.sed.library import TemplateLibrary
from paeplatform.source_columns import array_column

AB_ZERO_UJY = 23.9  # AB magnitude of 1 uJy
CHUNK = 1024  # sources at a time: 1024 spectra of some 8,000 points


def ab_flux(mag: np.ndarray) -> np.ndarray:
    """AB magnitude to flux [uJy], float64, same shape."""
    return 10.0 ** (0.4 * (AB_ZERO_UJY - np.asarray(mag, dtype=np.float64)))


class MockSpectra:
    """The spectra of catalogue sources: reddened templates at high resolution, scaled to their i magnitudes.

    Args:
        library: the templates the catalogue was drawn with.
    """

    COLUMNS = (
        "template_index",
        "dust_law",
        "ebv",
        "z_true",
        "mag_i",
    )  # of a source, that its spectrum follows from

    def __init__(self, library: TemplateLibrary) -> None:
        self._library = library
        self._synthesiser = BroadBandSynthesiser(library, bands=(HSC_I,))

    @property
    def wave(self) -> np.ndarray:
        """The rest-frame grid of the spectra, (n_hires,) [um]."""
        return self._synthesiser.wave

    def chunks(
        self, catalog_rows: pl.DataFrame
    ) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
        """The spectra of all rows, `CHUNK` rows at a time.

        Args:
            catalog_rows: rows of `draw_mock_catalog` with the columns `COLUMNS`, any selection.

        Returns:
            Each time (place of the rows; rest-frame f_nu on `wave`, float32 of shape (n, n_hires), in the library's
            scale; amplitude (n,), by which a band flux of such a spectrum is multiplied for a flux in uJy;
            redshift (n,)).

        Raises:
            InputError: a column is missing, or a template or dust-law index does not exist (names the row).
        """
        _check_columns(catalog_rows, self.COLUMNS)
        _check_indices(catalog_rows, self._library)
        *seds, z, mag_i = (catalog_rows[name].to_numpy() for name in self.COLUMNS)
        return self.of(seds, z, mag_i)

    def of(
        self, seds: Sequence[np.ndarray], z: np.ndarray, mag_i: np.ndarray
    ) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
        """As `chunks`, of the template index, dust law and E(B-V) [mag] of sources, their redshift and i magnitude."""
        for low in range(0, len(z), CHUNK):
            rows = slice(low, low + CHUNK)
            template_index, dust_law, ebv = (column[rows] for column in seds)
            fluxes = self._synthesiser.fluxes(template_index, dust_law, ebv, z[rows])
            spectra = self._synthesiser.spectra(template_index, dust_law, ebv)
            yield rows, spectra, ab_flux(mag_i[rows]) / fluxes[:, 0], z[rows]


def mock_photometry(
    preset: Preset, library: TemplateLibrary, bands: BandSet, catalog_rows: pl.DataFrame, seed: int
) -> pl.DataFrame:
    """Fluxes that SPHEREx would measure for catalogue sources.

    The spectrum is the source's reddened template at high resolution, scaled to its i magnitude. The noise of
    a source depends on `seed` and its object_id alone: not on which other rows are asked for, nor on their
    order.

    Args:
        preset: uses `instrument.depth`.
        library: the templates the catalogue was drawn with.
        bands: the channels and their depth.
        catalog_rows: rows of `draw_mock_catalog`, any selection; further columns are kept.
        seed: of the noise, >= 0.

    Returns:
        `catalog_rows` with flux, flux_err and flux_true as pl.Array(f32, n_band) [uJy], and snr f32, the
        total signal-to-noise of the noisy fluxes.

    Raises:
        InputError: a column is missing, or a template or dust-law index does not exist (names the row).
    """
    _check_columns(catalog_rows, ("object_id", *MockSpectra.COLUMNS))
    _check_indices(catalog_rows, library)
    template_index, dust_law, ebv, z, mag_i, object_id = (
        catalog_rows[name].to_numpy() for name in (*MockSpectra.COLUMNS, "object_id")
    )
    flux_true = np.empty((len(catalog_rows), len(bands)))
    for rows, fluxes in noiseless_fluxes(library, bands, (template_index, dust_law, ebv), z, mag_i):
        flux_true[rows] = fluxes
    flux, flux_err = noisy_fluxes(flux_true, bands.depth(preset.instrument.depth), object_id, seed)
    return catalog_rows.with_columns(
        array_column(flux).alias("flux"),
        array_column(flux_err).alias("flux_err"),
        array_column(flux_true).alias("flux_true"),
        pl.Series("snr", total_snr(flux, flux_err).astype(np.float32)),
    )


def noiseless_fluxes(
    library: TemplateLibrary, bands: BandSet, seds: Sequence[np.ndarray], z: np.ndarray, mag_i: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
    """(rows, their band fluxes (n, n_band) [uJy]) of sources, `CHUNK` at a time.

    Args:
        library: the templates.
        bands: the channels.
        seds: template index, dust law and E(B-V) [mag], each (n,).
        z: (n,) redshifts.
        mag_i: (n,) i magnitude [AB] that sets the amplitude.
    """
    mock = MockSpectra(library)
    photometer = BulkPhotometer(mock.wave, gaussian_filters(bands))
    for rows, spectra, amplitude, redshift in mock.of(seds, z, mag_i):
        yield rows, amplitude[:, None] * photometer.photometry(spectra, redshift)


def noisy_fluxes(
    flux_true: np.ndarray, depth: np.ndarray, object_id: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(flux, flux_err) [uJy], each (n, n_band); every source has a counter-based generator of its own."""
    flux, flux_err = np.empty_like(flux_true), np.empty_like(flux_true)
    for row, identity in enumerate(np.asarray(object_id).tolist()):
        rng = counter_generator(seed, identity)
        flux[row], flux_err[row] = (part[0] for part in add_noise(flux_true[row : row + 1], depth, rng))
    return flux, flux_err


def select_release(preset: Preset, catalog: pl.DataFrame) -> pl.DataFrame:
    """The sources of the mock release: bright enough, in its sky cells, at most `sources_per_cell` in each.

    The draw in a cell depends on the seed and the cell alone, so adding a cell to the preset leaves the
    others as they were.

    Returns:
        Catalogue rows with a column `cell` (i64, NESTED at `release.healpix_order`), sorted by cell and
        object_id.

    Raises:
        ConfigError: a cell of the preset holds no source; names the cells that do.
    """
    cfg = preset.release
    bright = catalog.filter(pl.col("mag_z") < cfg.mag_z_max).sort("object_id")
    cell = healpix_cell(bright["ra"].to_numpy(), bright["dec"].to_numpy(), cfg.healpix_order)
    bright = bright.with_columns(pl.Series("cell", cell, dtype=pl.Int64))
    empty = sorted(set(cfg.cells) - set(cell.tolist()))
    if empty:
        there = ", ".join(map(str, np.unique(cell).tolist()[:20])) or "none"
        raise ConfigError(
            f"release.cells: no source brighter than z = {cfg.mag_z_max} in {empty} at order "
            f"{cfg.healpix_order}; cells with sources: {there}"
        )
    parts = []
    for index in sorted(cfg.cells):
        members = bright.filter(pl.col("cell") == index)
        order = stream_rng(preset.seed, Stream.RELEASE_DRAW, index).permutation(len(members))
        parts.append(members[np.sort(order[: cfg.sources_per_cell])])
    return pl.concat(parts)


def _check_columns(rows: pl.DataFrame, needed: tuple[str, ...]) -> None:
    missing = [column for column in needed if column not in rows.columns]
    if missing:
        raise InputError(f"mock photometry: the catalogue lacks the columns {', '.join(missing)}")


def _check_indices(rows: pl.DataFrame, library: TemplateLibrary) -> None:
    for column, size in (("template_index", len(library)), ("dust_law", len(DUST_LAWS))):
        bad = ~rows[column].is_between(0, size - 1).to_numpy()
        if bad.any():
            row = int(np.argmax(bad))
            raise InputError(
                f"mock photometry: row {row} has {column} {rows[column][row]}, outside [0, {size - 1}]"
            )
