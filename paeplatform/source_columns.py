"""What tables of sources have in common: the photometry they are made from, and columns of nulls and of arrays."""

from __future__ import annotations

import numpy as np
import polars as pl

from paeplatform.errors import BandSetError, ConfigError
from paeplatform.instrument.noise import usable_bands


def check_sources(
    flux: np.ndarray, flux_err: np.ndarray, n_band: int, object_id: np.ndarray | None = None
) -> None:
    """Refuses arrays of another shape.

    Raises:
        BandSetError: flux or flux_err are not (source, n_band).
        ConfigError: object_id has another length or is not integer.
    """
    for name, array in (("flux", flux), ("flux_err", flux_err)):
        if array.ndim != 2 or array.shape[1] != n_band:
            raise BandSetError(f"{name} has shape {array.shape}, expected (n_source, {n_band}) in uJy")
    if flux.shape != flux_err.shape:
        raise BandSetError(f"flux has shape {flux.shape} but flux_err {flux_err.shape}")
    if object_id is not None and (
        object_id.shape != (len(flux),) or not np.issubdtype(object_id.dtype, np.integer)
    ):
        raise ConfigError(
            f"object_id {object_id.shape} {object_id.dtype} must be {len(flux)} integers, one a source"
        )


def usable_sources(flux: np.ndarray, flux_err: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(bands to use, (source, band); sources with at least one of them, and a finite flux in each, (source,))."""
    usable = usable_bands(flux_err)
    return usable, np.logical_and(usable.any(axis=1), (np.isfinite(flux) | ~usable).all(axis=1))


def nullable(values: np.ndarray) -> pl.Series:
    """Numbers as f32, null for NaN."""
    return pl.Series(values.astype(np.float32)).fill_nan(None)


def array_column(values: np.ndarray, known: np.ndarray | None = None) -> pl.Series:
    """Rows as arrays of f32; null where a source is not `known`."""
    column = pl.Series(values.astype(np.float32), dtype=pl.Array(pl.Float32, values.shape[1]))
    return column if known is None else pl.select(pl.when(pl.Series(known)).then(column)).to_series()
