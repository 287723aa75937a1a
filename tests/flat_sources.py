"""Sources for deliveries that are about files, not about spectra."""

import numpy as np
import polars as pl

from paeplatform.instrument.bands import load_bands
from tests.platform.conftest import CELLS


def flat_sources() -> pl.DataFrame:
    """Six flat spectra in each of two cells."""
    from astropy import units
    from astropy_healpix import healpix_to_lonlat

    bands, rng, parts = load_bands(), np.random.default_rng(1), []
    for key in CELLS:
        cell = int(key.split("-")[1])
        lon, lat = healpix_to_lonlat(cell, 64, order="nested")
        places = {
            name: axis.to_value(units.deg) + rng.uniform(-0.2, 0.2, 6)
            for name, axis in (("ra", lon), ("dec", lat))
        }
        flux = np.full((6, len(bands)), 50.0, np.float32)
        parts.append(pl.DataFrame({**places, "cell": np.full(6, cell), "flux_true": flux}))
    return pl.concat(parts)
