"""The paper's tabulated filters as the platform's curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paeplatform.errors import BandSetError, InputError
from paeplatform.instrument.bands import N_SPHEREX_BANDS
from paeplatform.instrument.filters import FilterCurves

ANGSTROM_PER_UM = 1e4
RANGE_UM = (0.3, 6.0)  # a wavelength outside says that the unit is not Angstrom


def read_filters(paths: Sequence[Path], n_nodes: int = 121, n_bands: int = N_SPHEREX_BANDS) -> FilterCurves:
    """Filter files (wavelength [A], transmission), in order of their central wavelength sum(w T) / sum(T).

    Zeros at the ends are dropped and each curve is put on nodes of its own, evenly spaced. The platform weights by T
    times lambda (photons, eq. 3); the public code by T alone.

    Args:
        paths: one file a band.
        n_nodes: of each curve.
        n_bands: how many are wanted.

    Raises:
        InputError: another number of files, one that is no table of two columns, wavelengths that do not increase or
            are in another unit, negative transmission, or a curve that is zero everywhere; names the file.
    """
    if len(paths) != n_bands:
        raise InputError(f"{len(paths)} filter files, expected {n_bands}")
    curves = sorted((_curve(Path(path)) for path in paths), key=central_wavelength)
    wave = np.stack([np.linspace(nodes[0], nodes[-1], n_nodes) for nodes, _ in curves])
    transmission = np.stack([np.interp(new, *curve) for new, curve in zip(wave, curves, strict=True)])
    try:
        return FilterCurves(wave=wave, transmission=transmission)
    except BandSetError as error:
        raise InputError(f"{paths[0].parent}: {error}") from error


def central_wavelength(curve: tuple[np.ndarray, np.ndarray]) -> float:
    """sum(w T) / sum(T) of (wavelengths, transmissions)."""
    return float(np.sum(curve[0] * curve[1]) / np.sum(curve[1]))


def _curve(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        table = np.loadtxt(path, comments="#", ndmin=2)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no table of numbers: {' '.join(str(error).split())}") from error
    if table.shape[1] != 2:
        raise InputError(
            f"{path}: {table.shape[1]} columns, expected 2 (wavelength in Angstrom, transmission)"
        )
    wave, transmission = table[:, 0] / ANGSTROM_PER_UM, table[:, 1]
    good = transmission > 0.0
    if (transmission < 0.0).any() or not good.any():
        raise InputError(f"{path}: transmission must be 0 or more, and above 0 somewhere")
    inside = slice(max(int(np.argmax(good)) - 1, 0), len(good) - int(np.argmax(good[::-1])) + 1)
    wave, transmission = wave[inside], transmission[inside]
    if len(wave) < 3 or not (np.diff(wave) > 0.0).all():
        raise InputError(f"{path}: wavelengths must increase, over three rows or more")
    if wave[0] < RANGE_UM[0] or wave[-1] > RANGE_UM[1]:
        raise InputError(
            f"{path}: {wave[0]:g} to {wave[-1]:g} um if the unit is Angstrom; "
            f"{RANGE_UM[0]} to {RANGE_UM[1]} um is possible"
        )
    return wave, transmission
