"""Rows of a delivery: one exposure of one source, as IRSA's spectrophotometry tool returns them (long format)."""

from __future__ import annotations

import numpy as np
import polars as pl

from paeplatform.catalog.cells import MAX_ORDER, healpix_cell
from paeplatform.errors import InputError

# In the tool's order. Positions and angles in deg, pixels, MJD [d, UTC, mid exposure], background [MJy/sr],
# wavelengths [um], fluxes [uJy, signed], radius [arcsec].
EXPOSURE_SCHEMA: dict[str, pl.DataType] = {
    "ra": pl.Float64(),
    "dec": pl.Float64(),
    "x_image": pl.Float64(),
    "y_image": pl.Float64(),
    "mjd": pl.Float64(),
    "flux_bkg": pl.Float64(),
    "local_bkg_flg": pl.Boolean(),
    "flags": pl.UInt64(),
    "fit_ql": pl.Float64(),
    "deep_flg": pl.Boolean(),
    "det_id": pl.Int16(),
    "lvf_id": pl.Int64(),
    "obs_publisher_did": pl.String(),
    "lambda": pl.Float64(),
    "lambda_width": pl.Float64(),
    "flux": pl.Float64(),
    "flux_err": pl.Float64(),
    "flux_err_tractor": pl.Float64(),
    "data_collection": pl.String(),
    "shape_r": pl.Float64(),
    "phi": pl.Float64(),
}
FILE_COLUMNS: dict[str, pl.DataType] = {"file": pl.String(), "row": pl.UInt32()}  # where a row was read

# Release by data collection, and the pipeline versions that made it: [from, below).
COLLECTIONS = {
    "spherex_qr2": "QR2",
    "spherex_qr2_deep": "QR2",
    "spherex_qr3": "QR3",
    "spherex_qr3_deep": "QR3",
}
PIPELINE_VERSIONS = {"QR2": (6.4, 7.0), "QR3": (7.0, 8.0)}

# Wavelength ranges of the six detectors [um], from the flight spectral calibration.
DETECTOR_RANGE_UM = {
    1: (0.743, 1.116),
    2: (1.099, 1.651),
    3: (1.636, 2.440),
    4: (2.422, 3.827),
    5: (3.808, 4.420),
    6: (4.412, 5.003),
}

# A planning period (year and week), orbit part and letter, number, small slew 1-4; then the detector.
OBSERVATION = (
    r"^ivo://irsa\.ipac/(?<collection>spherex_qr\d(?:_deep)?)\?"
    r"(?<obs_id>(?<year>\d{4})W(?<week>\d{2})_\d[A-Z]_\d{4}_[1-4])/D(?<detector>[1-6])$"
)
_MJD_OF_2000 = 51544.0  # 1 January 2000


def source_id(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """The id of a source is its place on the sky: HEALPix NESTED index at order 29 (0.4 mas), int64.

    The long format names no source. A position is measured once, in the list that the photometry is forced at, so
    that all exposures of a source carry the same numbers.

    Args:
        ra: [deg], (n,), finite.
        dec: [deg], (n,), within [-90, 90].

    Raises:
        InputError: a position is not on the sphere (names the row).
    """
    return healpix_cell(ra, dec, MAX_ORDER)


def with_observation(rows: pl.DataFrame) -> pl.DataFrame:
    """`obs_publisher_did` taken apart: obs_id, obs_collection (str), obs_mjd (f64, start of its planning week),
    obs_detector (i16); null where it does not have the form ivo://irsa.ipac/spherex_qr2?2025W49_1A_0332_1/D2.
    """
    parts = pl.col("obs_publisher_did").str.extract_groups(OBSERVATION)
    year, week = (parts.struct.field(name).cast(pl.Int32) for name in ("year", "week"))
    monday = pl.date(year, 1, 4).dt.truncate("1w")  # ISO week 1 holds 4 January
    mjd = (monday - pl.date(2000, 1, 1)).dt.total_days() + _MJD_OF_2000 + 7.0 * (week - 1)
    return rows.with_columns(
        parts.struct.field("obs_id").alias("obs_id"),
        parts.struct.field("collection").alias("obs_collection"),
        mjd.alias("obs_mjd"),
        parts.struct.field("detector").cast(pl.Int16).alias("obs_detector"),
    )


def as_exposures(table: pl.DataFrame, origin: str) -> pl.DataFrame:
    """The columns of `EXPOSURE_SCHEMA` in order and type; further ones are dropped.

    Raises:
        InputError: a column is missing, or holds what cannot be of its type (names `origin`, column and row).
    """
    missing = [name for name in EXPOSURE_SCHEMA if name not in table.columns]
    if missing:
        raise InputError(f"{origin}: missing column {', '.join(missing)}")
    columns = []
    for name, dtype in EXPOSURE_SCHEMA.items():
        column = table[name]
        cast = column.cast(dtype, strict=False)
        bad = cast.is_null() & column.is_not_null()
        if bad.any():
            row = int(np.argmax(bad.to_numpy()))
            raise InputError(f"{origin}: column {name}, row {row}: {str(column[row])[:30]!r} is no {dtype}")
        columns.append(cast)
    return pl.DataFrame(columns)
