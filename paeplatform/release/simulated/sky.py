"""What the sky emits: the true fluxes that simulated exposures measure, each at its own wavelength and width."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import polars as pl

from paeplatform.catalog.photometry import MockSpectra
from paeplatform.errors import InputError
from paeplatform.instrument.bands import BandSet
from paeplatform.instrument.exposure_fluxes import passband_fluxes
from paeplatform.sed.library import TemplateLibrary


class Sky(Protocol):
    """The true fluxes of sources through any passbands."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a table of sources that the fluxes follow from."""
        ...

    def fluxes(self, sources: pl.DataFrame, wave: np.ndarray, width: np.ndarray) -> np.ndarray:
        """Fluxes without noise.

        Args:
            sources: n rows with the columns `columns`.
            wave: (n, n_exposure) central wavelengths of each source's exposures [um].
            width: (n, n_exposure) full widths at half maximum [um].

        Returns:
            (n, n_exposure) float64 [uJy].
        """
        ...


class TemplateSky:
    """The sky of the mock catalogue: the exact integral of each source's spectrum over each exposure's passband.

    Spectra and their scale are those of `mock_photometry`, so that an exposure at a channel's centre and of its width
    has the channel's `flux_true`. A source with 306 exposures takes some 3 ms.

    Args:
        library: the templates that the catalogue was drawn with.
    """

    columns = MockSpectra.COLUMNS

    def __init__(self, library: TemplateLibrary) -> None:
        self._mock = MockSpectra(library)

    def fluxes(self, sources: pl.DataFrame, wave: np.ndarray, width: np.ndarray) -> np.ndarray:
        """See `Sky.fluxes`.

        Raises:
            InputError: a column is missing, or a template or dust-law index does not exist (names the row).
            BandSetError: a passband is not finite, has no positive width, or reaches down to wavelength zero.
        """
        flux = np.empty(wave.shape)
        for rows, spectra, amplitude, z in self._mock.chunks(sources):
            parts = zip(spectra, amplitude, z, wave[rows], width[rows], strict=True)
            for row, (spectrum, scale, redshift, centres, widths) in enumerate(parts, start=rows.start):
                flux[row] = scale * passband_fluxes(self._mock.wave, spectrum, redshift, centres, widths)
        return flux


class ChannelSky:
    """The sky of a table that knows only the true fluxes of the channels.

    An approximation: the flux of an exposure is interpolated in ln(wavelength) between the centres of the two channels
    next to it, of whichever detector, and constant beyond the outer channels. The exposure's width plays no part, and
    features narrower than a channel are smoothed a second time, so the scatter that real visits at different
    wavelengths have is too small. It serves sources of smooth spectra in tests and tools; for the mock catalogue there
    is `TemplateSky`.

    Args:
        bands: the channels, in the order of the column `flux_true`.
    """

    columns = ("flux_true",)

    def __init__(self, bands: BandSet) -> None:
        self._order = np.argsort(bands.wave_um)
        self._ln_wave = np.log(bands.wave_um[self._order])

    def fluxes(self, sources: pl.DataFrame, wave: np.ndarray, width: np.ndarray) -> np.ndarray:
        """See `Sky.fluxes`.

        Raises:
            InputError: `flux_true` does not have a value for each channel.
        """
        flux = np.empty(wave.shape)
        if not sources.height:
            return flux
        channels = sources["flux_true"].to_numpy()
        if channels.shape[1:] != self._order.shape:
            raise InputError(f"flux_true, row 0: it must hold {len(self._order)} values, one a channel")
        ln_wave = np.log(wave)
        for row, values in enumerate(channels.astype(np.float64)[:, self._order]):
            flux[row] = np.interp(ln_wave[row], self._ln_wave, values)
        return flux
