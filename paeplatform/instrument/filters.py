"""Filter curves as tables: piecewise linear in wavelength between nodes, zero outside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paeplatform.errors import BandSetError
from paeplatform.instrument.bands import BandSet

HALF_RANGE_FWHM = 1.5  # truncation of the Gaussian on either side; 1.5 FWHM leaves 0.04 % of its area outside
N_NODES = 61  # a node every FWHM/20


@dataclass(frozen=True, eq=False)
class FilterCurves:
    """Photon-weighted transmissions >= 0 at nodes `wave` [um] that increase, both (n_band, n_node).

    Raises:
        BandSetError: shapes differ, a value is not finite, nodes do not increase or are not positive, a
            transmission is negative, or a band is zero everywhere; names the band (counted from 1).
    """

    wave: np.ndarray
    transmission: np.ndarray

    def __post_init__(self) -> None:
        wave, transmission = self.wave, self.transmission
        if wave.ndim != 2 or wave.shape != transmission.shape or wave.shape[1] < 2:
            raise BandSetError(
                f"filter curves: wave {wave.shape} and transmission {transmission.shape} must share a shape "
                "(n_band, n_node >= 2)"
            )
        rules = {
            "wave and transmission must be finite": np.isfinite(wave) & np.isfinite(transmission),
            "wave must be positive and increase along the nodes": np.diff(wave, axis=1, prepend=0.0) > 0.0,
            "transmission must not be negative": transmission >= 0.0,
            "transmission must be positive somewhere": (transmission > 0.0).any(axis=1, keepdims=True),
        }
        for rule, good in rules.items():
            if not good.all():
                band = int(np.argmin(good.all(axis=1)))
                raise BandSetError(f"filter curves: band {band + 1}: {rule}")

    def __len__(self) -> int:
        return len(self.wave)


def gaussian_filters(bands: BandSet) -> FilterCurves:
    """Gaussians in wavelength with the channels' centres and FWHM, cut at +-1.5 FWHM, as 61-node tables.

    The flight calibration publishes centre and width per channel, no curve; the table is the definition from
    here on (exact and fast operators integrate it as piecewise linear), so that measured curves can take its
    place.
    """
    offset, table = gaussian_table()
    wave = bands.wave_um[:, None] + bands.bandwidth_um[:, None] * offset
    transmission = np.broadcast_to(table, wave.shape).copy()
    return FilterCurves(wave=wave, transmission=transmission)


def gaussian_table() -> tuple[np.ndarray, np.ndarray]:
    """(distance from the centre in units of the FWHM, transmission), each (61,): the shape that all passbands share."""
    offset = np.linspace(-HALF_RANGE_FWHM, HALF_RANGE_FWHM, N_NODES)
    return offset, 2.0 ** (-4.0 * offset**2)
