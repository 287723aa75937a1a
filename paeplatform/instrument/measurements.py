"""Measurements at their own wavelengths: any number of them a source, merged where that changes nothing, and binned.

Merging, for sources with more measurements than there are places for (near the ecliptic poles there are some 20,000).
Three or more measurements whose centres fall into one cell of `MERGE_CELL` standard deviations of the passband are
replaced by two. Within a cell the model's flux is nearly a straight line in the wavelength, of which measurements with
weights 1/sigma^2 determine the value at their mean centre and the slope. Two measurements of half the weight each, at
the mean centre plus and minus the standard deviation of the centres, determine the same two with the same errors, and
their passbands have the mean and the variance of the ones they replace. What is lost is what the data say of the
curvature within a cell, and of the scatter of the widths in it. At a total SNR of 200 ln L changes by 0.01 (rms over
the galaxies with the strongest lines, one standard deviation from the truth), up to the constant by which merging
drops the scatter about the line; by 0.02 where widths at the same wavelength scatter by 2 %. One measurement a cell
would lose the slopes, half a per cent of the information, which changes ln L by 0.1. SPHEREx's range has some 600
cells.

Binning. A channel's flux is the mean weighted by 1/sigma^2 of its measurements, which sit beside its centre. To first
order the mean is the flux at the mean wavelength; the slope between the neighbouring channels takes it to the centre
(`ChannelMeans.at_centres`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from paeplatform.errors import BandSetError
from paeplatform.instrument.bands import BandSet

FWHM_PER_SIGMA = float(np.sqrt(8.0 * np.log(2.0)))
MERGE_CELL = 0.4  # of the standard deviation of the passband in ln(wavelength)
COLUMNS = ("flux", "flux_err", "wave_um", "width_um")  # of a table: lists, a row a source
PREFIX = "measured_"  # of these columns


@dataclass(frozen=True, eq=False)
class Measurements:
    """Of many sources, one after the other.

    Attributes:
        flux, flux_err: [uJy], with 1 sigma.
        wave_um: centres of the passbands [um].
        width_um: full widths at half maximum [um].
        start: source i has the measurements `start[i]` to `start[i + 1]`, the last not included.

    Raises:
        BandSetError: the lengths do not agree.
    """

    flux: Float[np.ndarray, " measurement"]
    flux_err: Float[np.ndarray, " measurement"]
    wave_um: Float[np.ndarray, " measurement"]
    width_um: Float[np.ndarray, " measurement"]
    start: Int[np.ndarray, " source_and_one"]

    def __post_init__(self) -> None:
        shapes = {name: np.shape(getattr(self, name)) for name in COLUMNS}
        total = int(self.start[-1]) if len(self.start) else -1
        if set(shapes.values()) != {(total,)} or self.start[0] != 0 or (np.diff(self.start) < 0).any():
            raise BandSetError(f"measurements: {shapes} must hold the {total} that `start` counts")

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def count(self) -> Int[np.ndarray, " source"]:
        """Measurements of each source."""
        return np.diff(self.start)

    @property
    def source(self) -> Int[np.ndarray, " measurement"]:
        """The source of each measurement."""
        return np.repeat(np.arange(len(self)), self.count)

    def where(self, keep: np.ndarray) -> Measurements:
        """Those measurements only; every source stays, if need be with none."""
        count = np.bincount(self.source[keep], minlength=len(self))
        return Measurements(*(getattr(self, name)[keep] for name in COLUMNS), start=_starts(count))

    def rows(self, rows: np.ndarray) -> Measurements:
        """Some of the sources, in the order of `rows`."""
        rows = np.asarray(rows)
        count = self.count[rows]
        start = _starts(count)
        index = np.arange(start[-1]) + np.repeat(self.start[:-1][rows] - start[:-1], count)
        return Measurements(*(getattr(self, name)[index] for name in COLUMNS), start=start)

    @classmethod
    def from_table(cls, table: pl.DataFrame) -> Measurements:
        """Reads the list columns measured_flux, _flux_err, _wave_um and _width_um, a row a source; null is no
        measurement.

        Raises:
            BandSetError: a column is missing, or the lists of a row differ in length; names column and row.
        """
        columns, count = [], None
        for name in COLUMNS:
            if PREFIX + name not in table.columns:
                raise BandSetError(f"measurements: column {PREFIX + name} is missing")
            column = table[PREFIX + name].cast(pl.List(pl.Float64))
            length = column.list.len().fill_null(0).cast(pl.Int64).to_numpy()
            if count is not None and (length != count).any():
                row = int(np.argmax(length != count))
                raise BandSetError(
                    f"measurements, row {row}: {PREFIX + name} has {length[row]} numbers, {PREFIX}flux {count[row]}"
                )
            count = length if count is None else count
            flat = column.filter(column.list.len() > 0).explode(empty_as_null=False)
            columns.append(flat.fill_null(np.nan).to_numpy())
        assert count is not None
        return cls(*columns, start=_starts(count))

    def to_columns(self) -> list[pl.Series]:
        """The columns that `from_table` reads, as float32 lists (wavelengths too: 1e-7 of them is nothing)."""
        return [
            pl.Series(PREFIX + name, np.split(getattr(self, name).astype(np.float32), self.start[1:-1]))
            if len(self)
            else pl.Series(PREFIX + name, [], dtype=pl.List(pl.Float32))
            for name in COLUMNS
        ]


@dataclass(frozen=True, eq=False)
class PaddedMeasurements:
    """Measurements of some sources in arrays of one length; places without a measurement have an infinite error.

    Attributes:
        flux, flux_err: [uJy].
        wave_um, width_um: [um].
    """

    flux: Float[np.ndarray, "source slot"]
    flux_err: Float[np.ndarray, "source slot"]
    wave_um: Float[np.ndarray, "source slot"]
    width_um: Float[np.ndarray, "source slot"]

    def rows(self, rows: np.ndarray | slice) -> PaddedMeasurements:
        """Some of the sources; a row may be there twice."""
        return PaddedMeasurements(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True, eq=False)
class ChannelMeans:
    """What the measurements of sources are in the channels of a band set.

    Attributes:
        flux, flux_err: means weighted by 1/sigma^2 and their errors; NaN and inf where a channel has no measurement.
        offset: mean of ln(wavelength) with the same weights, less that of the channel's centre; NaN without one.
        n: how many measurements.
    """

    flux: Float[np.ndarray, "source band"]
    flux_err: Float[np.ndarray, "source band"]
    offset: Float[np.ndarray, "source band"]
    n: Int[np.ndarray, "source band"]

    def at_centres(self, bands: BandSet) -> Float[np.ndarray, "source band"]:
        """The fluxes taken from the mean wavelengths to the channels' centres, to first order in ln(wavelength).

        The slope is that between the two neighbouring channels of the same detector; beside a missing channel and at
        the ends of a detector it is one-sided, and without a neighbour there is no correction. It costs some 2 % of
        the error, which stays as it is.
        """
        order = np.lexsort((bands.wave_um, bands.detector))
        flux, place = self.flux[:, order], (np.log(bands.wave_um) + self.offset)[:, order]
        rise = np.zeros((2, *flux.shape))  # numerator and denominator of the slope
        joined = bands.detector[order][1:] == bands.detector[order][:-1]
        both = joined & np.isfinite(flux[:, 1:]) & np.isfinite(flux[:, :-1])
        step = np.stack([np.diff(flux, axis=1), np.diff(place, axis=1)])
        step = np.where(both, step, 0.0)
        rise[:, :, 1:] += step
        rise[:, :, :-1] += step
        slope = np.divide(rise[0], rise[1], out=np.zeros_like(flux), where=rise[1] > 0.0)
        corrected = np.empty_like(self.flux)
        corrected[:, order] = flux - slope * self.offset[:, order]
        return corrected


def channel_of(measurements: Measurements, bands: BandSet) -> Int[np.ndarray, " measurement"]:
    """The channel (place in the band set) whose centre is nearest, in units of its width."""
    order = np.argsort(bands.wave_um)
    wave, width = bands.wave_um[order], bands.bandwidth_um[order]
    right = np.clip(np.searchsorted(wave, measurements.wave_um), 1, len(wave) - 1)
    left = right - 1
    nearer = (measurements.wave_um - wave[left]) / width[left] < (wave[right] - measurements.wave_um) / width[
        right
    ]
    return order[np.where(nearer, left, right)]


def channel_means(
    measurements: Measurements, bands: BandSet, channel: Int[np.ndarray, " measurement"]
) -> ChannelMeans:
    """Averages the measurements of each channel; those without a positive finite error do not count.

    Args:
        measurements: of many sources.
        bands: the channels.
        channel: place of each measurement in the band set, as of `channel_of`.
    """
    shape = len(measurements), len(bands)
    use = np.isfinite(measurements.flux_err) & (measurements.flux_err > 0.0)
    slot = (measurements.source * shape[1] + channel)[use]
    weight = measurements.flux_err[use].astype(np.float64) ** -2.0
    away = np.log(measurements.wave_um[use] / bands.wave_um[channel[use]])

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(slot, weights=values, minlength=shape[0] * shape[1]).reshape(shape)

    sum_weight = total(weight)
    with np.errstate(divide="ignore", invalid="ignore"):
        return ChannelMeans(
            flux=total(weight * measurements.flux[use]) / sum_weight,
            flux_err=1.0 / np.sqrt(sum_weight),
            offset=total(weight * away) / sum_weight,
            n=np.bincount(slot, minlength=shape[0] * shape[1]).reshape(shape),
        )


def merged(measurements: Measurements, most: int) -> Measurements:
    """The measurements of each source; where it has over `most`, merged (see the top of this module) by wavelength.

    Args:
        measurements: errors, centres and widths must be finite and positive.
        most: measurements that a source may have in the end. Where the cells leave more, as for passbands that
            SPHEREx does not have side by side, they are widened.
    """
    crowded = np.flatnonzero(measurements.count > most)
    if not len(crowded):
        return measurements
    size, some = MERGE_CELL, measurements.rows(crowded)
    while (fewer := _merged(some, size)).count.max() > most:
        size *= 1.5
    both = Measurements(
        *(np.concatenate([getattr(part, name) for part in (measurements, fewer)]) for name in COLUMNS),
        start=_starts(np.concatenate([measurements.count, fewer.count])),
    )
    place = np.arange(len(measurements))
    place[crowded] = len(measurements) + np.arange(len(crowded))
    return both.rows(place)


def _merged(measurements: Measurements, size: float) -> Measurements:
    wave, width = measurements.wave_um, measurements.width_um
    sigma = width / (wave * FWHM_PER_SIGMA)  # in ln(wavelength)
    # Cells of one size for passbands alike: the size steps by factors of 1.3 in resolving power.
    size_class = np.round(np.log(sigma) / np.log(1.3)).astype(np.int64)
    cell = np.floor(np.log(wave) / (size * 1.3**size_class)).astype(np.int64)
    order = np.lexsort((wave, cell, size_class, measurements.source))
    key = np.stack([measurements.source, size_class, cell])[:, order]
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(key, axis=1) != 0).any(axis=0)
    group = np.cumsum(new) - 1
    crowded = np.bincount(group, minlength=1)[group] > 2
    if not crowded.any():
        return measurements
    left, joined = order[~crowded], order[crowded]
    _, group = np.unique(group[crowded], return_inverse=True)
    first = np.flatnonzero(np.diff(group, prepend=-1))
    flux, wave, width = (part[joined].astype(np.float64) for part in (measurements.flux, wave, width))
    weight = measurements.flux_err[joined].astype(np.float64) ** -2.0
    total = np.bincount(group, weights=weight)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(group, weights=weight * values) / total

    level, centre = mean(flux), mean(wave)
    away = wave - centre[group]
    spread = np.sqrt(mean(away**2))
    # rise of the line over one standard deviation; none where all centres are the same
    rise = np.divide(mean(away * flux), spread, out=np.zeros_like(spread), where=spread > 1e-9 * centre)
    side = np.array([-1.0, 1.0])
    pair = {
        "flux": (level[:, None] + side * rise[:, None]).ravel(),
        "flux_err": np.repeat(np.sqrt(2.0 / total), 2),
        "wave_um": (centre[:, None] + side * spread[:, None]).ravel(),
        "width_um": np.repeat(np.sqrt(mean(width**2)), 2),
    }
    source = np.concatenate([measurements.source[left], np.repeat(measurements.source[joined][first], 2)])
    columns = {name: np.concatenate([getattr(measurements, name)[left], pair[name]]) for name in COLUMNS}
    by_wave = np.lexsort((columns["wave_um"], source))
    count = np.bincount(source, minlength=len(measurements))
    return Measurements(**{name: values[by_wave] for name, values in columns.items()}, start=_starts(count))


def padded(measurements: Measurements, n_slot: int) -> PaddedMeasurements:
    """The measurements in arrays of `n_slot` places a source.

    Raises:
        BandSetError: a source has more.
    """
    most = int(measurements.count.max(initial=0))
    if most > n_slot:
        raise BandSetError(f"a source has {most} measurements, more than {n_slot} places")
    place = np.arange(len(measurements.flux)) - np.repeat(measurements.start[:-1], measurements.count)

    def filled(values: np.ndarray, blank: float) -> np.ndarray:
        out = np.full((len(measurements), n_slot), blank)
        out[measurements.source, place] = values
        return out

    return PaddedMeasurements(
        flux=filled(measurements.flux, 0.0),
        flux_err=filled(measurements.flux_err, np.inf),
        wave_um=filled(measurements.wave_um, 1.0),
        width_um=filled(measurements.width_um, np.nan),
    )


def _starts(count: np.ndarray) -> Int[np.ndarray, " source_and_one"]:
    return np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
