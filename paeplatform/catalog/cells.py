"""Sky cells: HEALPix pixels in NESTED order, and the text keys that name them as partitions."""

from __future__ import annotations

import re

import numpy as np

from paeplatform.errors import InputError

MAX_ORDER = 29  # the finest order whose NESTED index fits a signed 64-bit integer
_KEY = re.compile(
    r"hp(0|[1-9][0-9]?)-(0|[1-9][0-9]{0,18})"
)  # one spelling for each cell: keys are parts of paths


def healpix_cell(ra: np.ndarray, dec: np.ndarray, order: int) -> np.ndarray:
    """NESTED HEALPix index of sky positions.

    Args:
        ra: right ascension [deg], shape (n,); any turn is accepted.
        dec: declination [deg], shape (n,), within [-90, 90].
        order: n_side = 2**order, 0 to 29.

    Returns:
        Indices, int64 of shape (n,).

    Raises:
        InputError: an order out of range, or a position that is not finite or not on the sphere (names the
            row).
    """
    _check_order(order)
    ra, dec = (
        np.atleast_1d(np.asarray(ra, dtype=np.float64)),
        np.atleast_1d(np.asarray(dec, dtype=np.float64)),
    )
    bad = ~(np.isfinite(ra) & np.isfinite(dec) & (np.abs(dec) <= 90.0))
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"row {row}: ra {ra[row]}, dec {dec[row]} must be finite degrees, dec within [-90, 90]"
        )
    ra = np.mod(ra, 360.0)
    ra[ra >= 360.0] = 0.0  # what mod makes of the smallest negative angles

    from astropy import units  # astropy costs half a second, and keys alone do not need it
    from astropy_healpix import lonlat_to_healpix

    cells = lonlat_to_healpix(ra * units.deg, dec * units.deg, 2**order, order="nested")
    return np.asarray(cells, dtype=np.int64)


def cell_key(order: int, cell: int) -> str:
    """The partition key of a cell, like `hp6-27256`."""
    _check_order(order)
    _check_cell(order, cell, origin="")
    return f"hp{order}-{int(cell)}"


def parse_cell_key(key: str) -> tuple[int, int]:
    """(order, cell) of a partition key.

    Raises:
        InputError: the key is not of the form `hp<order>-<cell>`, or names a cell that does not exist.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        raise InputError(f"cell key {key[:60]!r} must look like 'hp6-27256' (hp, order, dash, NESTED index)")
    order, cell = int(match[1]), int(match[2])
    _check_order(order)
    _check_cell(order, cell, origin=f"cell key {key!r}: ")
    return order, cell


def _check_order(order: int) -> None:
    if not 0 <= order <= MAX_ORDER:
        raise InputError(f"HEALPix order {order} must be within [0, {MAX_ORDER}]")


def _check_cell(order: int, cell: int, origin: str) -> None:
    n_cells = 12 * 4**order
    if not 0 <= cell < n_cells:
        raise InputError(f"{origin}cell {cell} must be within [0, {n_cells - 1}] at HEALPix order {order}")
