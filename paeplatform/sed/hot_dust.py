"""Light of hot dust beside the stars: a blackbody with a share of the light.

Dust next to an active nucleus or a compact starburst glows at 400 to 1,500 K and can outshine the stars from 2 um on:
Brown et al. 2014 (ApJS 212, 18) have one such galaxy in 129, IRAS 08572+3915, whose f_nu rises 39-fold from 1.6 to
4.9 um. One template among 160 says nothing of how the strength varies, so the training set varies it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from paeplatform.errors import InputError

LEAST_K, MOST_K = 400.0, 1500.0  # below, 5 um sees nothing of it; above, dust does not last

_HC_OVER_K = 14387.768775  # second radiation constant [um K], CODATA 2018
_BLOCK = 1024  # rows worked on at a time, so that float64 planes stay small


class HotDust(NamedTuple):
    """The dust's own light in each spectrum.

    Attributes:
        share: (n,) of the mean f_nu over the rest grid, from 0 (none) up to below 1.
        kelvin: (n,) temperature [K], `LEAST_K` to `MOST_K`.
    """

    share: np.ndarray
    kelvin: np.ndarray


def blackbody(wave_um: Float[np.ndarray, "..."], kelvin: Float[np.ndarray, "..."] | float) -> np.ndarray:
    """B_nu up to a constant.

    Args:
        wave_um: wavelength [um], any shape.
        kelvin: temperature [K], a shape that broadcasts with it.
    """
    # the exponential overflows where nothing is left anyway
    return wave_um**-3.0 / np.expm1(np.minimum(_HC_OVER_K / (wave_um * kelvin), 600.0))


def add_hot_dust(spectra: np.ndarray, wave_um: np.ndarray, dust: HotDust) -> None:
    """Mixes the light of hot dust into spectra, in place; their mean stays 1.

    Args:
        spectra: (n, n_wave) float32, mean 1 along the grid.
        wave_um: (n_wave,) rest wavelength [um].
        dust: of each spectrum. Where its share is 0, the spectrum keeps its bytes.

    Raises:
        InputError: lengths that do not agree, a share or a temperature outside its range.
    """
    share, kelvin = (np.asarray(part, np.float64) for part in dust)
    if share.shape != (len(spectra),) or kelvin.shape != (len(spectra),):
        raise InputError(
            f"hot dust: share {share.shape} and kelvin {kelvin.shape} must be vectors of length {len(spectra)}"
        )
    _check_range("share", share, (share >= 0.0) & (share < 1.0), "from 0 to below 1")
    dusty = np.flatnonzero(share > 0.0)
    inside = (kelvin >= LEAST_K) & (kelvin <= MOST_K)
    _check_range("kelvin", kelvin, inside | (share == 0.0), f"{LEAST_K:g}-{MOST_K:g} K")
    for start in range(0, dusty.size, _BLOCK):
        rows = dusty[start : start + _BLOCK]
        light = blackbody(np.asarray(wave_um, np.float64), kelvin[rows, None])
        light *= (share[rows] / light.mean(axis=1))[:, None]
        spectra[rows] = (1.0 - share[rows])[:, None] * spectra[rows] + light


def _check_range(name: str, value: np.ndarray, good: np.ndarray, accepted: str) -> None:
    bad = np.flatnonzero(~good)
    if bad.size:
        raise InputError(
            f"hot dust: {name}[{bad[0]}] = {value[bad[0]]} is outside the accepted range, {accepted}"
        )
