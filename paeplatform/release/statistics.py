"""What the rules judge: a few numbers for each cell, kept for the comparison with the next release.

Every statistic comes with its standard error, so that a range can be widened for small cells.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
from scipy.special import ndtr

from paeplatform.instrument.bands import BandSet
from paeplatform.release.flags import ALL_BITS, INFORMATION, KNOWN_BITS, Flag, bit_mask
from paeplatform.release.rows import SetAside
from paeplatform.release.schema import DETECTOR_RANGE_UM

SCHEMA = {
    "rule": pl.String,
    "group": pl.String,  # "all", a detector ("D3"), a channel ("C40"), a pair ("D2/D3") or a bit ("D3 OUTLIER")
    "column": pl.String,
    "value": pl.Float64,
    "error": pl.Float64,  # standard error of the value
    "n": pl.Int64,  # rows or sources it is of; 0: nothing to judge
}
Row = tuple[str, str, str, float, float, int]
_REASONS = {
    "duplicates.fraction": (SetAside.DUPLICATE_EXPOSURE, "obs_publisher_did"),
    "wavelength.inside_detector": (SetAside.WAVELENGTH_OUTSIDE_DETECTOR, "lambda"),
    "width.on_channel": (SetAside.WIDTH_OFF_CHANNEL, "lambda_width"),
    "time.window": (SetAside.TIME_OUTSIDE_WINDOW, "mjd"),
    "errors.finite": (SetAside.ERROR_NOT_POSITIVE, "flux_err"),
}
MIN_STACK_SNR = 10.0  # of a detector's stacked flux, for its colours to mean anything
EDGE_CHANNELS = 3  # each side of where two detectors meet
BAD_FIT_QUALITY = 3.0  # chi^2-like, so near 1
# an airglow line, and where detectors 3 and 4 meet
CONTAMINATED_UM = {"He 1.083": (1.063, 1.103), "dichroic edge": (2.38, 2.47)}
FAULT_BITS = tuple(flag for flag in Flag if flag not in INFORMATION)


def cell_statistics(
    rows: pl.DataFrame, photometry: pl.DataFrame, quarantined: pl.DataFrame, bands: BandSet, reject: int
) -> pl.DataFrame:
    """The statistics of one cell, columns of `SCHEMA`.

    Args:
        rows: exposures that were kept (`rows.set_aside`).
        photometry: of its sources (`binning.bin_exposures`).
        quarantined: rows that were set aside, with `reason`.
        bands: channels and expected depth.
        reject: bits of `flags` that mask an exposure.
    """
    used = rows.filter((pl.col("flags") & reject) == 0)
    found = [
        *_shares(rows, quarantined),
        *_time_order(rows),
        *_errors(rows, bands),
        *_fluxes(rows),
        *_repeats(photometry, bands),
        *_residuals(used),
        *_flags(rows, quarantined),
        *_coverage(photometry, bands),
        *_colours(photometry, bands),
        *_overlaps(photometry, bands),
    ]
    return pl.DataFrame(found, schema=SCHEMA, orient="row")


def baseline_of(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Several cells' statistics as one: means weighted by n."""
    weight = pl.col("n").cast(pl.Float64)
    return (
        pl.concat(tables)
        .filter(pl.col("n") > 0)
        .group_by("rule", "group", "column", maintain_order=True)
        .agg(
            value=(pl.col("value") * weight).sum() / weight.sum(),
            error=((pl.col("error") * weight) ** 2).sum().sqrt() / weight.sum(),
            n=pl.col("n").sum(),
        )
    )


def share_and_error(count: int, n: int) -> tuple[float, float]:
    """A share and its standard error; where none or all are counted, the error is that of a count of one."""
    if n == 0:
        return 0.0, 0.0
    share = count / n
    clipped = min(max(share, 1.0 / n), 1.0 - 1.0 / n) if n > 1 else 0.5
    return share, float(np.sqrt(clipped * (1.0 - clipped) / n))


def _shares(rows: pl.DataFrame, quarantined: pl.DataFrame) -> Iterator[Row]:
    n = rows.height + quarantined.height
    yield ("rows.set_aside_fraction", "all", "reason", *share_and_error(quarantined.height, n), n)
    for rule, (reason, column) in _REASONS.items():
        count = int(quarantined["reason"].str.contains(reason.value, literal=True).sum())
        yield (rule, "all", column, *share_and_error(count, n), n)


def _time_order(rows: pl.DataFrame) -> Iterator[Row]:
    """In the order of the files."""
    steps = rows.sort("file", "row").select("object_id", pl.col("mjd").diff().over("object_id").alias("step"))
    bad = steps.filter(pl.col("step") < 0.0)["object_id"].n_unique()
    n = rows["object_id"].n_unique()
    yield ("time.order", "all", "mjd", *share_and_error(bad, n), n)


def _errors(rows: pl.DataFrame, bands: BandSet) -> Iterator[Row]:
    """Against the depth of all visits together, times the root of the visits that there were."""
    visits = rows.group_by("object_id", "channel").len()["len"]
    n_visit = float(visits.median()) if len(visits) else 1.0  # type: ignore[arg-type]
    depth = dict(zip(bands.channel.tolist(), (bands.depth_mev_ujy * np.sqrt(n_visit)).tolist(), strict=True))
    ratio = rows.select(
        "det_id",
        "channel",
        (pl.col("flux_err") / pl.col("channel").replace_strict(depth, default=None)).log10().alias("x"),
    )
    for detector, values in _by_detector(ratio, "x"):
        yield ("errors.depth", detector, "flux_err", *_median(values), len(values))
    for channel, part in _groups(ratio, "channel", "C"):
        values = part["x"].drop_nulls().to_numpy()
        yield ("errors.channel_depth", channel, "flux_err", *_median(values), len(values))


def _fluxes(rows: pl.DataFrame) -> Iterator[Row]:
    for detector, values in _by_detector(rows, "flux"):
        share = share_and_error(int((values < 0.0).sum()), len(values))
        yield ("flux.negative_fraction", detector, "flux", *share, len(values))
    for detector, values in _by_detector(rows, "fit_ql"):
        good = values[np.isfinite(values)]
        yield ("fit_ql.drift", detector, "fit_ql", *_median(good), len(good))
        bad = share_and_error(int((good > BAD_FIT_QUALITY).sum()), len(good))
        yield ("fit_ql.tail", detector, "fit_ql", *bad, len(good))


def _repeats(photometry: pl.DataFrame, bands: BandSet) -> Iterator[Row]:
    chi2, count = (_by_channel(photometry, bands, name) for name in ("repeat_chi2", "n_exposures"))
    groups = {("repeats.chi2", f"D{detector}"): bands.detector == detector for detector in _detectors(bands)}
    for name, (low, high) in CONTAMINATED_UM.items():
        groups["contaminants.repeats", name] = (bands.wave_um > low) & (bands.wave_um < high)
    for (rule, name), here in groups.items():
        inside = np.isfinite(chi2) & here
        freedom = int((count[inside] - 1).sum())
        if freedom:
            value, error = float(chi2[inside].sum() / freedom), float(np.sqrt(2.0 / freedom))
            yield (rule, name, "flux", value, error, freedom)


def _residuals(rows: pl.DataFrame) -> Iterator[Row]:
    """Distance of repeated visits' residuals from N(0, 1): the largest between the two distribution functions.

    Deliveries hold no blank sky; about the mean of its visits an exposure is noise alone, with sigma^2 lessened by
    that of the mean.
    """
    group = ("object_id", "channel")
    weight = pl.col("flux_err") ** -2.0
    total = weight.sum().over(group)
    mean = (weight * pl.col("flux")).sum().over(group) / total
    repeated = rows.select(
        "det_id",
        ((pl.col("flux") - mean) / (pl.col("flux_err") ** 2.0 - 1.0 / total).sqrt()).alias("x"),
        (1.0 - 1.0 / pl.len().over(group)).alias("freedom"),
    ).filter(pl.col("freedom") > 0.0, pl.col("x").is_finite())
    for detector, part in _groups(repeated, "det_id"):
        below = ndtr(np.sort(part["x"].to_numpy()))
        steps = np.arange(len(below) + 1) / len(below)
        distance = float(max((steps[1:] - below).max(), (below - steps[:-1]).max()))
        freedom = float(part["freedom"].sum())
        yield ("residuals.ks", detector, "flux", distance, freedom**-0.5, int(freedom))


def _flags(rows: pl.DataFrame, quarantined: pl.DataFrame) -> Iterator[Row]:
    both = pl.concat([part.select("det_id", "flags") for part in (rows, quarantined)]).drop_nulls()
    flags, detector = both["flags"], both["det_id"].to_numpy()
    n = len(flags)
    source = int((flags & (1 << Flag.SOURCE) != 0).sum())
    yield ("flags.source_bit", "all", "flags", *share_and_error(source, n), n)
    unknown = ALL_BITS & ~bit_mask(KNOWN_BITS)
    odd = int((flags & unknown != 0).sum())
    yield ("flags.unknown_bits", "all", "flags", odd / max(n, 1), 0.0, n)
    for number in DETECTOR_RANGE_UM:
        here = flags.to_numpy()[detector == number]
        for flag in FAULT_BITS:
            rate = share_and_error(int(np.count_nonzero(here & np.uint64(1 << flag))), len(here))
            yield ("flags.rate", f"D{number} {flag.name}", "flags", *rate, len(here))


def _coverage(photometry: pl.DataFrame, bands: BandSet) -> Iterator[Row]:
    count = _by_channel(photometry, bands, "n_exposures")
    seen = sum(bool(count[:, bands.detector == detector].any()) for detector in _detectors(bands))
    yield ("coverage.detectors", "all", "det_id", float(seen), 0.0, photometry.height)
    share = float(np.median((count > 0).mean(axis=1))) if photometry.height else 0.0
    yield ("coverage.channels", "all", "lambda", share, 0.0, photometry.height)


def _colours(photometry: pl.DataFrame, bands: BandSet) -> Iterator[Row]:
    """Flux ratios of neighbouring detectors, of all sources together."""
    flux, error = (_by_channel(photometry, bands, name) for name in ("flux", "flux_err"))
    good = np.isfinite(flux) & np.isfinite(error)
    stack, noise = {}, {}
    for detector in _detectors(bands):
        inside = good & (bands.detector == detector)
        n = max(int(inside.sum()), 1)
        stack[detector] = flux[inside].sum() / n
        noise[detector] = np.sqrt((error[inside] ** 2).sum()) / n
    detectors = sorted(stack)
    for one, other in itertools.pairwise(detectors):
        name, column = f"D{one}/D{other}", "flux"
        clear = all(stack[d] > MIN_STACK_SNR * noise[d] > 0.0 for d in (one, other))
        if not clear:
            yield ("colours.locus", name, column, 0.0, 0.0, 0)
            continue
        relative = np.hypot(noise[one] / stack[one], noise[other] / stack[other])
        value = float(np.log10(stack[one] / stack[other]))
        yield ("colours.locus", name, column, value, float(relative / np.log(10.0)), photometry.height)


def _overlaps(photometry: pl.DataFrame, bands: BandSet) -> Iterator[Row]:
    """Flux ratios where two detectors meet, of all sources together; a spectrum goes on there, a gain may not.

    The error is the jackknife's over sources: a few of them may well have a break or a line just there.
    """
    flux, error = (_by_channel(photometry, bands, name) for name in ("flux", "flux_err"))
    order = np.argsort(bands.wave_um)
    for one, other in itertools.pairwise(_detectors(bands)):
        last = order[bands.detector[order] == one][-EDGE_CHANNELS:]
        first = order[bands.detector[order] == other][:EDGE_CHANNELS]
        inside = np.concatenate([last, first])
        good = np.isfinite(flux[:, inside]).all(axis=1) & np.isfinite(error[:, inside]).all(axis=1)
        pair = np.stack([flux[good][:, side].sum(axis=1) for side in (last, first)], axis=1)
        noise = np.sqrt([(error[good][:, side] ** 2).sum() for side in (last, first)])
        stack, n = pair.sum(axis=0), int(good.sum())
        without = stack - pair
        name = f"D{one}/D{other}"
        if n < 2 or not (stack > MIN_STACK_SNR * noise).all() or not (without > 0.0).all():
            yield ("overlap.offset", name, "flux", 0.0, 0.0, 0)
            continue
        value = np.log10(stack[0] / stack[1])
        left_out = np.log10(without[:, 0] / without[:, 1])
        spread = np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())  # holds the noise too
        yield ("overlap.offset", name, "flux", float(value), float(spread), n)


def _by_channel(photometry: pl.DataFrame, bands: BandSet, name: str) -> np.ndarray:
    """A column of arrays as (source, channel) float64."""
    return photometry[name].to_numpy().astype(np.float64).reshape(photometry.height, len(bands))


def _detectors(bands: BandSet) -> list[int]:
    return sorted({int(detector) for detector in bands.detector})


def _groups(rows: pl.DataFrame, column: str, letter: str = "D") -> Iterator[tuple[str, pl.DataFrame]]:
    """The name of each group, like "D3", and its rows."""
    for (number,), part in sorted(rows.partition_by(column, as_dict=True).items()):  # type: ignore[type-var]
        yield f"{letter}{number}", part


def _by_detector(rows: pl.DataFrame, column: str) -> Iterator[tuple[str, np.ndarray]]:
    return ((name, part[column].drop_nulls().to_numpy()) for name, part in _groups(rows, "det_id"))


def _median(values: np.ndarray) -> tuple[float, float]:
    if not len(values):
        return 0.0, 0.0
    low, middle, high = np.quantile(values, (0.16, 0.5, 0.84))
    return float(middle), float(1.2533 * 0.5 * (high - low) / np.sqrt(len(values)))
