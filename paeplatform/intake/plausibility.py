"""Columns that cannot be what they are taken for: exchanged ones, and wavelengths in another unit.

Each of these says what the columns look like and ends the reading, because nothing good comes of guessing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from paeplatform.errors import InputError

WAVE_LIMITS = (0.7, 5.1)  # of a passband's centre [um]: what the instrument sees, with a margin
_UNITS = {"Angstrom": 1e-4, "nm": 1e-3, "m": 1e6}
_LEAST_ROWS = 12  # below, chance can look like exchanged columns
_SHARE = 0.9  # of the rows that have to look wrong
_NEGATIVE_SHARE = 0.03  # of the errors
_SMOOTH = (
    0.3  # median step of ln(flux) between neighbours in wavelength, that errors have and faint fluxes do not
)


def check_positions(
    path: Path, names: tuple[str, str], ra: np.ndarray, dec: np.ndarray, rows: np.ndarray
) -> None:
    """Refuses positions that are not on the sphere.

    Args:
        path: of the file.
        names: the columns of ra and dec.
        ra: (row,) [deg], NaN where unknown.
        dec: (row,) [deg], NaN where unknown.
        rows: (row,) the file's row.

    Raises:
        InputError: a dec outside [-90, 90] or an ra outside [-360, 360] degrees.
    """
    beyond = np.abs(dec) > 90.0
    if beyond.any():
        place = int(np.argmax(beyond))
        known = np.isfinite(ra) & np.isfinite(dec)
        swapped = known.any() and bool((np.abs(ra[known]) <= 90.0).all())
        hint = f"; {names[0]} and {names[1]} look swapped" if swapped else ""
        raise InputError(
            f"{path}: column {names[1]}, row {rows[place]} (from 0): {dec[place]:g} must be within [-90, 90] deg{hint}"
        )
    beyond = np.abs(ra) > 360.0
    if beyond.any():
        place = int(np.argmax(beyond))
        raise InputError(
            f"{path}: column {names[0]}, row {rows[place]} (from 0): {ra[place]:g} must be within [-360, 360] deg"
        )


def check_wavelengths(
    path: Path, names: tuple[str, str | None], wave: np.ndarray, width: np.ndarray, unit: str | None
) -> None:
    """Refuses wavelengths that look exchanged with the widths, or like another unit.

    Args:
        path: of the file.
        names: the columns of wavelengths and widths.
        wave: (row,) [um], by the unit that was taken.
        width: (row,) [um].
        unit: that the file states; None where um was assumed.

    Raises:
        InputError: says which.
    """
    good = wave[np.isfinite(wave) & (wave > 0.0)]
    if not len(good):
        return
    both = np.isfinite(wave) & np.isfinite(width)
    if names[1] is not None and both.any():
        crossed = _inside(width[both]) & (wave[both] < 0.5)
        if crossed.mean() >= _SHARE:
            raise InputError(
                f"{path}: columns {names[0]} and {names[1]} look swapped: {names[0]} has "
                f"{np.median(wave[both]):.3g} um and {names[1]} {np.median(width[both]):.3g} um in the middle"
            )
    middle = float(np.median(good))
    if 0.1 <= middle <= 50.0:
        return
    alike = [name for name, factor in _UNITS.items() if _inside(np.array([middle * factor]))[0]]
    taken = f"in {unit}, as the file says" if unit else "in um"
    hint = f"looks like {alike[0]}: state that unit in the file" if alike else "is no wavelength of SPHEREx"
    raise InputError(
        f"{path}: column {names[0]}: {middle:.4g} um in the middle, taken {taken}, must be within "
        f"[{WAVE_LIMITS[0]}, {WAVE_LIMITS[1]}] um; it {hint}"
    )


def check_errors(
    path: Path,
    names: tuple[str, str],
    flux: Float[np.ndarray, " row"],
    flux_err: Float[np.ndarray, " row"],
    wave: Float[np.ndarray, " row"],
) -> None:
    """Refuses fluxes and errors that look exchanged.

    Errors are positive and change little from one wavelength to the next. Where all fluxes are like that, and the
    errors are negative in part or nearly all larger than the fluxes, the columns are exchanged: fluxes that noise
    dominates are negative as often as not.

    Args:
        path: of the file.
        names: the columns of fluxes and errors.
        flux: in any unit, no magnitudes.
        flux_err: in the same unit.
        wave: [um].

    Raises:
        InputError: the two look swapped.
    """
    good = np.isfinite(flux) & np.isfinite(flux_err) & np.isfinite(wave)
    if good.sum() < _LEAST_ROWS or (flux[good] <= 0.0).any():
        return
    flux, flux_err, wave = flux[good], flux_err[good], wave[good]
    step = np.abs(np.diff(np.log(flux[np.argsort(wave, kind="stable")])))
    if np.median(step) > _SMOOTH:
        return
    below = flux_err < 0.0
    # a word for "missing", like -99, repeats; fluxes do not
    distinct = len(np.unique(flux_err[below])) > 0.5 * below.sum()
    negative = below.mean() >= _NEGATIVE_SHARE and distinct
    larger = (flux < flux_err).mean() >= _SHARE
    if negative or larger:
        why = (
            f"{names[1]} is negative in part"
            if negative
            else f"{names[1]} exceeds {names[0]} nearly everywhere"
        )
        raise InputError(
            f"{path}: columns {names[0]} and {names[1]} look swapped: {names[0]} is positive and smooth, and {why}; "
            f"if they are not, say `--columns flux={names[0]} --columns flux_err={names[1]}`"
        )


def _inside(wave: np.ndarray) -> np.ndarray:
    return (wave >= WAVE_LIMITS[0]) & (wave <= WAVE_LIMITS[1])
