"""Photometry, truth and properties of the paper's files as tables of the platform's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from paeplatform.errors import InputError
from paeplatform.source_columns import array_column

N_SPHEREX, N_EXTERNAL, N_HEAD = 102, 5, 3
PLACEHOLDER_ERROR = 4e4  # missing values are written with errors near 5e4
UJY_RANGE = (1e-2, 1e4)  # median errors outside are in another unit; SPHEREx's are some 1-50 uJy
MJY = 1e3


@dataclass(frozen=True)
class Notes:
    """What was odd, for people: each a sentence."""

    lines: tuple[str, ...]


def read_photometry(path: Path) -> tuple[pl.DataFrame, Notes]:
    """Noisy photometry (whitespace text): id, xpos, ypos, then flux and error of each band.

    107 bands are the five external ones first, which are left out, then SPHEREx's. Fluxes are taken as uJy; if the
    errors' median says mJy they are converted, and that is said.

    Returns:
        (object_id i64, flux and flux_err Array(f32, 102) [uJy], errors of missing values infinite; notes).

    Raises:
        InputError: another number of columns, a cell that is no number, an id twice, or errors that fit no unit.
    """
    values = _numbers(path)
    wanted = {N_HEAD + 2 * N_SPHEREX: 0, N_HEAD + 2 * (N_SPHEREX + N_EXTERNAL): N_EXTERNAL}
    if values.shape[1] not in wanted:
        known = " or ".join(map(str, wanted))
        raise InputError(
            f"{path}: {values.shape[1]} columns, expected {known} (id, x, y, then flux and error a band)"
        )
    notes = []
    skipped = wanted[values.shape[1]]
    if skipped:
        notes.append(f"{path.name}: the first {skipped} bands are external ones and were left out")
    pairs = values[:, N_HEAD + 2 * skipped :].reshape(len(values), N_SPHEREX, 2)
    flux, error = pairs[..., 0], pairs[..., 1]
    missing = ~np.isfinite(flux) | ~np.isfinite(error) | (error <= 0.0) | (error > PLACEHOLDER_ERROR)
    if missing.any():
        notes.append(f"{path.name}: {int(missing.sum())} of {missing.size} values are missing and masked")
    scale, said = _unit(error[~missing], path)
    notes += said
    flux, error = np.where(missing, 0.0, flux * scale), np.where(missing, np.inf, error * scale)
    table = pl.DataFrame(
        {
            "object_id": _ids(values[:, 0], path),
            "flux": array_column(flux),
            "flux_err": array_column(error),
        }
    )
    return table, Notes(tuple(notes))


def read_truth(path: Path) -> pl.DataFrame:
    """object_id and z_true of a selection file: id in column 0, redshift in column 4.

    Raises:
        InputError: fewer than five columns, a cell that is no number, an id twice, or a negative redshift (with row).
    """
    values = _numbers(path)
    if values.shape[1] < 5:
        raise InputError(
            f"{path}: {values.shape[1]} columns, at least 5 are needed (id in the first, z in the fifth)"
        )
    z = values[:, 4]
    bad = ~(np.isfinite(z) & (z >= 0.0))
    if bad.any():
        raise InputError(
            f"{path}: row {int(np.argmax(bad))}: redshift {z[np.argmax(bad)]:g} must be 0 or more"
        )
    return pl.DataFrame({"object_id": _ids(values[:, 0], path), "z_true": z})


def read_properties(path: Path) -> pl.DataFrame:
    """object_id, z_true, ebv and dust_law of a property table (CSV with Tractor_ID, redshift, ebv, dustlaw).

    Raises:
        InputError: unreadable, or a column is missing.
    """
    try:
        table = pl.read_csv(path, glob=False)
    except Exception as error:
        raise InputError(
            f"{path} is not a readable CSV file: {' '.join(str(error).split())[:200]}"
        ) from error
    table = table.rename(lambda name: name.strip())
    needed = ("Tractor_ID", "redshift", "ebv", "dustlaw")
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise InputError(f"{path}: missing column {', '.join(missing)}; it has {', '.join(table.columns)}")
    names = {"Tractor_ID": "object_id", "redshift": "z_true", "dustlaw": "dust_law"}
    return table.select(needed).rename(names).with_columns(pl.col("object_id").cast(pl.Int64))


def with_truth(photometry: pl.DataFrame, truth: pl.DataFrame) -> tuple[pl.DataFrame, Notes]:
    """The photometry with z_true, in its order; sources without truth are kept with null, and said.

    Raises:
        InputError: no id is in both.
    """
    joined = photometry.join(
        truth.select("object_id", "z_true"), on="object_id", how="left", maintain_order="left"
    )
    unmatched = joined.filter(pl.col("z_true").is_null())["object_id"]
    if len(unmatched) == joined.height and joined.height:
        raise InputError(
            f"no id of the photometry (first {photometry['object_id'][0]}) is in the selection "
            f"(first {truth['object_id'][0] if truth.height else 'none'})"
        )
    if unmatched.is_empty():
        return joined, Notes(())
    some = ", ".join(map(str, unmatched.head(5).to_list()))
    return joined, Notes((f"{len(unmatched)} of {joined.height} sources have no truth: ids {some}",))


def _numbers(path: Path) -> np.ndarray:
    """Whitespace-separated numbers; lines that start with # are skipped."""
    try:
        values = np.loadtxt(path, comments="#", ndmin=2)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    except ValueError as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error
    if not values.size:
        raise InputError(f"{path} holds no rows")
    return values


def _ids(column: np.ndarray, path: Path) -> pl.Series:
    identity = column.astype(np.int64)
    if not np.array_equal(identity, column):
        row = int(np.argmax(identity != column))
        raise InputError(f"{path}: row {row}: id {column[row]!r} is no whole number")
    if len(np.unique(identity)) != len(identity):
        raise InputError(f"{path}: {len(identity) - len(np.unique(identity))} ids occur twice")
    return pl.Series(identity, dtype=pl.Int64)


def _unit(error: np.ndarray, path: Path) -> tuple[float, list[str]]:
    if not error.size:
        raise InputError(f"{path}: every value is missing")
    median = float(np.median(error))
    if UJY_RANGE[0] <= median <= UJY_RANGE[1]:
        return 1.0, []
    if UJY_RANGE[0] <= median * MJY <= UJY_RANGE[1]:
        return MJY, [f"{path.name}: errors of {median:.3g} in the median are mJy, converted to uJy"]
    raise InputError(
        f"{path}: errors of {median:.3g} in the median fit neither uJy ({UJY_RANGE[0]:g} to {UJY_RANGE[1]:g}) nor mJy"
    )
