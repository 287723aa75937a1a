"""Exposures binned into the 102 channels by inverse variance (section II of the paper assumes these as measured)."""

from __future__ import annotations

import numpy as np
import polars as pl

from paeplatform.instrument.bands import BandSet


def bin_exposures(
    rows: pl.DataFrame, bands: BandSet, reject: int, cell: int, quarantined: pl.DataFrame | None = None
) -> pl.DataFrame:
    """One row a source: fluxes and errors of all channels, with what they were made of.

    A channel's flux is the mean weighted by 1/sigma^2, its error 1/sqrt(sum 1/sigma^2); exposures with a bit of
    `reject` set are masked, and counted. A source whose exposures are all masked or set aside keeps its row.

    Args:
        rows: exposures that were not set aside, with object_id and channel.
        bands: the channels, whose order is that of the arrays.
        reject: bits of `flags` that mask an exposure.
        cell: written into the column of that name.
        quarantined: rows that were set aside, with object_id: their sources are there too, and count them.

    Returns:
        Sorted by object_id: object_id i64, ra, dec f64 [deg], cell i64; flux and flux_err Array(f32, n_band) [uJy], NaN
        and inf where no exposure was usable; n_exposures Array(u16, n_band); repeat_chi2 Array(f32, n_band), the sum
        of squared residuals about the mean over sigma^2, NaN with fewer than two exposures; snr f32, the total
        one; n_bands u16; n_used, n_masked, n_set_aside u32; flags_any u64, all bits of the used exposures; mjd_min,
        mjd_max f64.
    """
    place_of = ("object_id", "ra", "dec")
    everything = [rows.select(place_of)] + ([] if quarantined is None else [quarantined.select(place_of)])
    first = pl.concat(everything).unique("object_id", keep="first", maintain_order=True).sort("object_id")
    rows = rows.sort("object_id", maintain_order=True)
    used = ((rows["flags"] & reject) == 0).to_numpy()
    identity = first["object_id"].to_numpy()
    source = np.searchsorted(identity, rows["object_id"].to_numpy())
    lost = (
        source[:0] if quarantined is None else np.searchsorted(identity, quarantined["object_id"].to_numpy())
    )
    counts = {"n_used": source[used], "n_masked": source[~used], "n_set_aside": lost}
    kept = rows.filter(pl.Series(used))
    marks = kept.group_by("object_id", maintain_order=True).agg(
        pl.col("flags").bitwise_or().alias("flags_any"),
        pl.col("mjd").min().alias("mjd_min"),
        pl.col("mjd").max().alias("mjd_max"),
    )
    return (
        first.select("object_id", "ra", "dec", pl.lit(cell, pl.Int64).alias("cell"))
        .with_columns(
            *_binned(kept, source[used], len(identity), bands),
            *(
                pl.Series(name, np.bincount(of, minlength=len(identity)).astype(np.uint32))
                for name, of in counts.items()
            ),
        )
        .join(marks, on="object_id", how="left", maintain_order="left")
        .with_columns(pl.col("flags_any").fill_null(0))
    )


def _binned(rows: pl.DataFrame, source: np.ndarray, n_source: int, bands: BandSet) -> list[pl.Series]:
    """What is made of the used exposures of each channel: columns flux to n_bands of `bin_exposures`.

    Args:
        rows: used exposures.
        source: (row,) index of each one's source.
        n_source: sources, of which some may have no exposure.
        bands: the channels.
    """
    order = np.argsort(bands.channel)
    band = order[np.searchsorted(bands.channel[order], rows["channel"].to_numpy())]
    flux, sigma = (rows[name].to_numpy() for name in ("flux", "flux_err"))
    shape, slot, n_slot = (n_source, len(bands)), source * len(bands) + band, n_source * len(bands)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(slot, weights=values, minlength=n_slot).astype(np.float64)  # of none: integers

    weight = 1.0 / sigma**2
    sum_weight, count = total(weight), np.bincount(slot, minlength=n_slot)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total(weight * flux) / sum_weight
        error = 1.0 / np.sqrt(sum_weight)
    chi2 = total(weight * (flux - np.where(count > 0, mean, 0.0)[slot]) ** 2)  # residuals: no cancellation
    chi2[count < 2] = np.nan
    snr = np.sqrt(np.nansum((mean / error).reshape(shape) ** 2, axis=1))
    return [
        _array("flux", mean, shape, pl.Float32),
        _array("flux_err", error, shape, pl.Float32),
        _array("n_exposures", count, shape, pl.UInt16),
        _array("repeat_chi2", chi2, shape, pl.Float32),
        pl.Series("snr", snr.astype(np.float32)),
        pl.Series("n_bands", (count.reshape(shape) > 0).sum(axis=1).astype(np.uint16)),
    ]


def _array(name: str, values: np.ndarray, shape: tuple[int, int], dtype: type[pl.DataType]) -> pl.Series:
    narrow = {pl.Float32: np.float32, pl.UInt16: np.uint16}[dtype]
    return pl.Series(name, values.reshape(shape).astype(narrow), dtype=pl.Array(dtype, shape[1]))
