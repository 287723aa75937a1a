"""Exposures of a few mock sources, as the simulator of releases makes them, for the tests of this folder."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from paeplatform.instrument.bands import BandSet, load_bands
from paeplatform.release.simulated.delivery import DeliverySpec, exposures

N_SOURCE = 4


@pytest.fixture(scope="session")
def bands() -> BandSet:
    return load_bands()


@pytest.fixture(scope="session")
def rows(bands: BandSet) -> pl.DataFrame:
    """The 21 columns of the tool's export of four sources, by source and time; some exposures are flagged."""
    rng = np.random.default_rng(5)
    flux = 10.0 ** rng.uniform(0.5, 2.0, (N_SOURCE, 1)) * (bands.wave_um / 2.0) ** rng.normal(
        0.5, 0.3, (N_SOURCE, 1)
    )
    table = pl.DataFrame(
        {"ra": 213.9 + 0.05 * np.arange(N_SOURCE), "dec": 11.4 + 0.03 * np.arange(N_SOURCE)}
    ).with_columns(pl.Series("flux_true", flux, dtype=pl.Array(pl.Float64, len(bands))))
    return exposures(table, bands, DeliverySpec("r1", n_visits=2))


@pytest.fixture(scope="session")
def one(rows: pl.DataFrame) -> pl.DataFrame:
    """The exposures of the first source."""
    return rows.filter(pl.col("ra") == rows["ra"][0])
