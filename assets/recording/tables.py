"""The shapes in which templates and bands lie in the store, and the way back."""

import dataclasses
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    import numpy as np

    from paeplatform.instrument.bands import BandSet
    from paeplatform.sed.library import TemplateLibrary

    Photometry = tuple[np.ndarray, np.ndarray, np.ndarray]


def photometry_of(table: pl.DataFrame) -> "Photometry":
    """(flux, flux_err, object_id) of a table of photometry, in the order in which estimators take them."""
    return tuple(table[name].to_numpy() for name in ("flux", "flux_err", "object_id"))  # type: ignore[return-value]


def photometry_at_centres(table: pl.DataFrame, bands: "BandSet") -> "Photometry":
    """As `photometry_of` for a table of binned exposures, with each channel's flux taken from the mean wavelength of
    its exposures to the channel's centre (`ChannelMeans.at_centres`): for methods that compare it with a model there.
    """
    from paeplatform.instrument.measurements import ChannelMeans

    columns = (table[name].to_numpy() for name in ("flux", "flux_err", "wave_offset", "n_exposures"))
    means = ChannelMeans(*columns)
    return means.at_centres(bands), means.flux_err, table["object_id"].to_numpy()


def library_table(library: "TemplateLibrary") -> pl.DataFrame:
    """One row a template: name, source, licence, wave [um] and flux (f_nu, mean 1) as lists."""
    return pl.DataFrame(
        {
            "name": library.name,
            "source": library.source,
            "licence": library.licence,
            "wave": pl.Series([wave.tolist() for wave in library.wave], dtype=pl.List(pl.Float64)),
            "flux": pl.Series([flux.tolist() for flux in library.flux], dtype=pl.List(pl.Float64)),
        }
    )


def library_from(table: pl.DataFrame) -> "TemplateLibrary":
    """The library that `library_table` laid out."""
    from paeplatform.sed.library import TemplateLibrary

    return TemplateLibrary(
        name=tuple(table["name"]),
        source=tuple(table["source"]),
        licence=tuple(table["licence"]),
        wave=tuple(wave.to_numpy() for wave in table["wave"]),
        flux=tuple(flux.to_numpy() for flux in table["flux"]),
    )


def bands_table(bands: "BandSet") -> pl.DataFrame:
    """One row a channel."""
    return pl.DataFrame({field.name: getattr(bands, field.name) for field in dataclasses.fields(bands)})


def bands_from(table: pl.DataFrame) -> "BandSet":
    """The band set that `bands_table` laid out."""
    from paeplatform.instrument.bands import BandSet

    return BandSet(**{field.name: table[field.name].to_numpy() for field in dataclasses.fields(BandSet)})
