"""The two real objects of `shared/real` in the 102 channels, for tests that ask what the platform says of them."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.measurements import Measurements
from paeplatform.release.binning import bin_exposures, measurement_table
from paeplatform.release.flags import reject_mask
from paeplatform.release.rows import with_channel

FOLDER = Path(__file__).parents[2] / "shared" / "real"
FILES = {"quasar": "quasar_h1413+117.csv", "brown dwarf": "browndwarf_simp_j0136+0933.csv"}
_COLUMNS = "object_id", "ra", "dec", "mjd", "lambda", "lambda_width", "flux", "flux_err", "flags", "channel"


def real_photometry() -> tuple[np.ndarray, np.ndarray]:
    """(flux, flux_err), (2, 102) [uJy], of the quasar and the brown dwarf; skips the test without the files."""
    table = bin_exposures(real_exposures(), load_bands(), reject_mask("tool"), 0)
    return table["flux"].to_numpy().astype(np.float64), table["flux_err"].to_numpy().astype(np.float64)


def real_measurements() -> Measurements:
    """All that are in use of the quasar and the brown dwarf; skips the test without the files."""
    rows, reject = real_exposures(), reject_mask("tool")
    return Measurements.from_table(
        measurement_table(rows, bin_exposures(rows, load_bands(), reject, 0), reject)
    )


def real_exposures() -> pl.DataFrame:
    """The measurements of both objects as exposures of a release, those without an error left out."""
    if not all((FOLDER / name).is_file() for name in FILES.values()):
        pytest.skip(f"the real measurements are not in {FOLDER}")
    bands, parts = load_bands(), []
    for number, name in enumerate(FILES.values()):
        rows = pl.read_csv(FOLDER / name, glob=False).drop_nulls(["flux", "flux_err"])
        rows = rows.filter(pl.col("flux_err") > 0.0)
        rows = rows.with_columns(
            pl.lit(number, pl.Int64).alias("object_id"),
            pl.col("flags").cast(pl.UInt64),
            pl.col("detector").cast(pl.Int16).alias("det_id"),
        )
        parts.append(with_channel(rows, bands).select(*_COLUMNS))
    return pl.concat(parts)
