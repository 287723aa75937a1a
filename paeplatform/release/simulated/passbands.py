"""The passbands of simulated exposures: anywhere within a channel, as the sky drifts over the filter."""

from __future__ import annotations

import numpy as np

from paeplatform.errors import InputError
from paeplatform.instrument.bands import BandSet
from paeplatform.release.schema import DETECTOR_RANGE_UM

MARGIN_UM = 1e-4  # that a wavelength keeps from the ends of its detector
WIDTH_SCATTER = 0.02  # full range of the widths of exposures at the same wavelength, of the width


class ChannelPassbands:
    """Where in wavelength the exposures of each channel fall, and how wide their passbands are.

    A channel reaches halfway to its neighbours on the detector, as `rows.with_channel` assigns exposures to channels.
    The first and the last channel of a detector are symmetric about their centres, within the detector's range.

    Attributes:
        low: (n_band,) lower borders [um], in the order of the bands.
        high: (n_band,) upper borders [um].

    Args:
        bands: the channels. A detector's only channel, which has no neighbour, is as wide as its passband.

    Raises:
        InputError: a channel's detector is not one of SPHEREx's, or its centre lies outside the detector's range.
    """

    def __init__(self, bands: BandSet) -> None:
        self._detector = bands.detector
        self._tables: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.low, self.high = np.empty(len(bands)), np.empty(len(bands))
        for number in np.unique(bands.detector).tolist():
            inside = np.flatnonzero(bands.detector == number)
            order = inside[np.argsort(bands.wave_um[inside])]
            centre, width = bands.wave_um[order], bands.bandwidth_um[order]
            self._tables[number] = np.log(centre), centre / width
            if number not in DETECTOR_RANGE_UM:
                raise InputError(
                    f"channel {bands.channel[order[0]]}: detector {number} must be one of 1 to 6"
                )
            least, most = DETECTOR_RANGE_UM[number][0] + MARGIN_UM, DETECTOR_RANGE_UM[number][1] - MARGIN_UM
            outside = (centre <= least) | (centre >= most)
            if outside.any():
                which = order[np.argmax(outside)]
                raise InputError(
                    f"channel {bands.channel[which]}: centre {bands.wave_um[which]:g} um must lie on detector "
                    f"{number}, {DETECTOR_RANGE_UM[number][0]:g} to {DETECTOR_RANGE_UM[number][1]:g} um"
                )
            middle = 0.5 * (centre[1:] + centre[:-1])
            first = middle[0] if len(middle) else centre[0] + 0.5 * width[0]
            last = middle[-1] if len(middle) else centre[0] - 0.5 * width[0]
            borders = np.concatenate([[2.0 * centre[0] - first], middle, [2.0 * centre[-1] - last]])
            borders = np.clip(borders, least, most)
            # A wavelength on the border of two channels counts for the lower one.
            self.low[order], self.high[order] = np.nextafter(borders[:-1], np.inf), borders[1:]

    def draw(self, band: np.ndarray, place: np.ndarray, scatter: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(wavelengths, widths) [um] of exposures, of the shape of the arguments.

        Wavelengths are uniform in their logarithm within the channel. A width follows from the resolving power there,
        which is linear in ln(wavelength) between the channels of the detector and constant beyond the outer ones.

        Args:
            band: the channel of each exposure, its place among the bands.
            place: uniform random numbers in [0, 1), for the wavelength.
            scatter: the same, for the width.
        """
        low, high = self.low[band], self.high[band]
        wave = np.clip(
            low * (high / low) ** place, low, high
        )  # rounding may not carry it into the next channel
        detector, resolving = self._detector[band], np.empty(wave.shape)
        for number, (ln_centre, at_centre) in self._tables.items():
            here = detector == number
            resolving[here] = np.interp(np.log(wave[here]), ln_centre, at_centre)
        return wave, wave / resolving * (1.0 + WIDTH_SCATTER * (scatter - 0.5))
