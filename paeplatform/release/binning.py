"""The exposures of a cell as photometry: measurements at their own wavelengths, and binned into the 102 channels.

The posteriors of the PAE are those of the measurements. Section II of the paper assumes binned fluxes as measured; they
remain for template fitting, SBI and the quality rules.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from paeplatform.instrument.bands import BandSet
from paeplatform.instrument.measurements import PREFIX, Measurements, channel_means


def measurement_table(rows: pl.DataFrame, photometry: pl.DataFrame, reject: int) -> pl.DataFrame:
    """One row a source: its exposures that are in use, by wavelength.

    Args:
        rows: exposures that were not set aside, with object_id.
        photometry: of `bin_exposures`, whose sources and order are taken over; one without an exposure in use has empty
            lists.
        reject: bits of `flags` that mask an exposure.

    Returns:
        object_id i64 and the lists measured_flux, measured_flux_err [uJy], measured_wave_um, measured_width_um (f32)
        and measured_flags (u64), all of one length in a row.
    """
    columns = {
        "flux": "flux",
        "flux_err": "flux_err",
        "wave_um": "lambda",
        "width_um": "lambda_width",
    }
    used = rows.filter((pl.col("flags") & reject) == 0).sort("object_id", "lambda", maintain_order=True)
    lists = used.group_by("object_id", maintain_order=True).agg(
        *(pl.col(name).cast(pl.Float32).alias(PREFIX + new) for new, name in columns.items()),
        pl.col("flags").alias(f"{PREFIX}flags"),
    )
    table = photometry.select("object_id").join(lists, on="object_id", how="left", maintain_order="left")
    return table.with_columns(
        pl.col(name).fill_null(pl.lit([], dtype=table.schema[name])) for name in lists.columns[1:]
    )


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
        and inf where no exposure was usable; wave_offset Array(f32, n_band), the mean ln(wavelength) of the exposures,
        weighted like their flux, less that of the channel's centre; n_exposures Array(u16, n_band); repeat_chi2
        Array(f32, n_band), the sum of squared residuals about the mean over sigma^2, NaN with fewer than two exposures;
        snr f32, the total one; n_bands u16; n_used, n_masked, n_set_aside u32; flags_any u64, all bits of the used
        exposures; mjd_min, mjd_max f64.
    """
    place_of = ("object_id", "ra", "dec")
    everything = [rows.select(place_of)] + ([] if quarantined is None else [quarantined.select(place_of)])
    first = pl.concat(everything).unique("object_id", keep="first", maintain_order=True).sort("object_id")
    rows = rows.sort("object_id", maintain_order=True)
    used = ((rows["flags"] & reject) == 0).to_numpy()
    identity = first["object_id"].to_numpy()
    source = np.searchsorted(identity, rows["object_id"].to_numpy())
    measured, channel = _measured(rows, bands, source, used, len(identity))
    means = channel_means(measured, bands, channel)
    about = (measured.flux - np.nan_to_num(means.flux)[measured.source, channel]) / measured.flux_err
    slot = measured.source * len(bands) + channel
    # residuals: no cancellation
    chi2 = np.bincount(slot, weights=about**2, minlength=means.n.size).reshape(means.n.shape)
    chi2 = np.where(means.n < 2, np.nan, chi2)
    snr = np.sqrt(np.nansum((means.flux / means.flux_err) ** 2, axis=1))
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
            _array("flux", means.flux, pl.Float32),
            _array("flux_err", means.flux_err, pl.Float32),
            _array("wave_offset", means.offset, pl.Float32),
            _array("n_exposures", means.n, pl.UInt16),
            _array("repeat_chi2", chi2, pl.Float32),
            pl.Series("snr", snr.astype(np.float32)),
            pl.Series("n_bands", (means.n > 0).sum(axis=1).astype(np.uint16)),
            *(
                pl.Series(name, np.bincount(of, minlength=len(identity)).astype(np.uint32))
                for name, of in counts.items()
            ),
        )
        .join(marks, on="object_id", how="left", maintain_order="left")
        .with_columns(pl.col("flags_any").fill_null(0))
    )


def _measured(
    rows: pl.DataFrame, bands: BandSet, source: np.ndarray, used: np.ndarray, n_source: int
) -> tuple[Measurements, np.ndarray]:
    """The exposures in use of all sources, and the place of each one's channel in the band set."""
    by_number = np.argsort(bands.channel)
    channel = by_number[np.searchsorted(bands.channel[by_number], rows["channel"].to_numpy())]
    columns = (rows[name].to_numpy()[used] for name in ("flux", "flux_err", "lambda", "lambda_width"))
    count = np.bincount(source[used], minlength=n_source)
    return Measurements(*columns, start=np.concatenate([[0], np.cumsum(count)])), channel[used]


def _array(name: str, values: np.ndarray, dtype: type[pl.DataType]) -> pl.Series:
    narrow = {pl.Float32: np.float32, pl.UInt16: np.uint16}[dtype]
    return pl.Series(name, values.astype(narrow), dtype=pl.Array(dtype, values.shape[1]))
