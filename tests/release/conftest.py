"""Mock sources and a clean delivery, made once for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from paeplatform.instrument.bands import BandSet, load_bands
from paeplatform.release.manifest import Manifest
from paeplatform.release.simulated.delivery import DeliverySpec, write_delivery

CELLS = (27256, 27258)


@pytest.fixture(scope="session")
def bands() -> BandSet:
    return load_bands()


@pytest.fixture(scope="session")
def sources(bands: BandSet) -> pl.DataFrame:
    """96 sources in two cells: flat spectra with slopes, a few noise sigma bright and more."""
    from astropy import units
    from astropy_healpix import healpix_to_lonlat

    rng = np.random.default_rng(3)
    parts = []
    for cell in CELLS:
        lon, lat = healpix_to_lonlat(cell, 64, order="nested")
        n = 48
        ra = lon.to_value(units.deg) + rng.uniform(-0.2, 0.2, n)
        dec = lat.to_value(units.deg) + rng.uniform(-0.2, 0.2, n)
        slope = rng.normal(0.5, 0.3, (n, 1))
        flux = 10.0 ** rng.uniform(0.5, 2.0, (n, 1)) * (bands.wave_um / 2.0) ** slope
        parts.append(
            pl.DataFrame({"ra": ra, "dec": dec, "cell": np.full(n, cell)}).with_columns(
                pl.Series("flux_true", flux.astype(np.float32), dtype=pl.Array(pl.Float32, len(bands)))
            )
        )
    return pl.concat(parts)


@pytest.fixture
def deliver(sources: pl.DataFrame, bands: BandSet, tmp_path: Path) -> Callable[..., tuple[Path, Manifest]]:
    """(folder, manifest) of a delivery with these settings."""

    def make(release: str = "r1", **settings) -> tuple[Path, Manifest]:
        folder = tmp_path / "landing" / release
        return folder, write_delivery(
            sources, bands, folder, DeliverySpec(release, **settings), progress=False
        )

    return make
