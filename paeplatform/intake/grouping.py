"""Which rows of one file or of several are one source.

A file tells its sources apart by ids or names, else by positions, else all its rows are one. What has the same id or
name in two files, or the same position, is one source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from paeplatform.catalog.cells import MAX_ORDER, healpix_cell
from paeplatform.errors import InputError
from paeplatform.intake.records import SourcesBy
from paeplatform.intake.rows import FileRows

CELLS_IN_RADIUS = 8.0  # positions in one such cell are taken as one
FARTHEST_ARCSEC = 60.0  # of a source's positions from its first; no star moves as far between two visits
_CELL_SIZE_ARCSEC = 58.6 * 3600.0  # of the HEALPix cells of order 0


@dataclass(frozen=True, eq=False)
class Grouped:
    """The sources of all files, in the order in which they come.

    Attributes:
        source: (record,) of each record of all files one after the other; -1 for one that belongs to none.
        first: (source,) its first record.
        placed: (source,) its first record with a position; -1 without one.
        n_shared: sources that stand in more than one file.
    """

    source: Int[np.ndarray, " record"]
    first: Int[np.ndarray, " source"]
    placed: Int[np.ndarray, " source"]
    n_shared: int


def group_sources(files: Sequence[FileRows], radius_arcsec: float) -> Grouped:
    """Finds the sources.

    Args:
        files: at least one.
        radius_arcsec: positions so near to a source's first one are that source.

    Raises:
        InputError: positions of one id or name are far apart; names the file, the column's value and the row.
    """
    records = pl.concat([one.records.select("key", "ra", "dec") for one in files])
    file = np.repeat(np.arange(len(files)), [one.records.height for one in files])
    ra, dec = records["ra"].to_numpy(), records["dec"].to_numpy()
    known = np.isfinite(ra) & np.isfinite(dec)
    source = _within_files(files, records["key"], file, ra, dec, known, radius_arcsec)
    _refuse_far_apart(files, records["key"], file, source, ra, dec, known)
    if len(files) > 1:
        source = _across_files(source, file, ra, dec, known, radius_arcsec)
    used = source >= 0
    _, first, inverse = np.unique(source[used], return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    source = source.copy()
    source[used] = number[inverse]
    pairs = np.unique(np.stack([source[used], file[used]]), axis=1)
    n_files = np.bincount(pairs[0], minlength=len(order))
    return Grouped(
        source=source,
        first=np.flatnonzero(used)[first[order]],
        placed=_first_of(source, known, len(order)),
        n_shared=int((n_files > 1).sum()),
    )


def friends(
    ra: Float[np.ndarray, " position"], dec: Float[np.ndarray, " position"], radius_arcsec: float
) -> Int[np.ndarray, " position"]:
    """Groups positions: the first one and all within the radius of it, then the first of the rest, and so on.

    Positions within an eighth of the radius of each other count as one, which keeps the number of pairs small where a
    source has thousands of rows whose positions scatter.

    Args:
        ra: [deg], finite.
        dec: [deg], within [-90, 90].
        radius_arcsec: of a group, from its first position.

    Returns:
        The group of each position, counted from 0 in the order of their first positions.
    """
    if not len(ra):
        return np.zeros(0, np.int64)
    cell = healpix_cell(ra, dec, _order(radius_arcsec / CELLS_IN_RADIUS))
    _, first, inverse = np.unique(cell, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    leader = np.arange(len(order))
    if radius_arcsec > 0.0 and len(order) > 1:
        from scipy.spatial import KDTree

        chord = 2.0 * np.sin(0.5 * np.radians(radius_arcsec / 3600.0))
        tree = KDTree(_on_sphere(ra[first[order]], dec[first[order]]))
        leader = _first_come(tree.query_pairs(chord, output_type="ndarray"), len(order))
    _, group = np.unique(leader, return_inverse=True)  # leaders are in the order of first positions
    return group[place[inverse]]


def separation_arcsec(
    ra: np.ndarray, dec: np.ndarray, other_ra: np.ndarray, other_dec: np.ndarray
) -> np.ndarray:
    """Angles between pairs of positions [arcsec], of positions in deg."""
    chord = np.linalg.norm(_on_sphere(ra, dec) - _on_sphere(other_ra, other_dec), axis=-1)
    return np.degrees(2.0 * np.arcsin(np.minimum(0.5 * chord, 1.0))) * 3600.0


def _within_files(
    files: Sequence[FileRows],
    key: pl.Series,
    file: np.ndarray,
    ra: np.ndarray,
    dec: np.ndarray,
    known: np.ndarray,
    radius_arcsec: float,
) -> np.ndarray:
    """A number for each source by what its file says; the same key is the same source in all files."""
    by = np.array([one.sources_by.value for one in files])[file]
    source = np.full(len(file), -1, np.int64)
    by_key = by == SourcesBy.KEY.value
    names = pl.select(pl.when(pl.Series(by_key)).then(key)).to_series()
    for place, one in enumerate(files):
        if one.sources_by is SourcesBy.FILE and one.header_name:
            here = pl.Series(file == place)
            names = pl.select(pl.when(here).then(pl.lit(one.header_name)).otherwise(names)).to_series()
    named = names.is_not_null().to_numpy()
    codes = names.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
    source[named] = codes[named]
    top = int(codes.max(initial=0)) + 1
    whole = (by == SourcesBy.FILE.value) & ~named
    source[whole] = top + file[whole]
    top += len(files)
    placed = (by == SourcesBy.POSITION.value) & known
    source[placed] = top + friends(ra[placed], dec[placed], radius_arcsec)
    return source


def _across_files(
    source: np.ndarray,
    file: np.ndarray,
    ra: np.ndarray,
    dec: np.ndarray,
    known: np.ndarray,
    radius_arcsec: float,
) -> np.ndarray:
    """Joins sources of different files whose first positions are the same; those of one file stay apart."""
    n = int(source.max(initial=-1)) + 1
    place = _first_of(source, known, n)
    some = np.flatnonzero(place >= 0)
    some = some[np.argsort(place[some], kind="stable")]
    group = friends(ra[place[some]], dec[place[some]], radius_arcsec)
    # The first source of a file at a position joins the first of another file there, the second the second.
    table = pl.DataFrame({"group": group, "file": file[place[some]]})
    turn = table.select(pl.int_range(pl.len()).over("group", "file")).to_series().to_numpy()
    _, first, inverse = np.unique(np.stack([group, turn]), axis=1, return_index=True, return_inverse=True)
    joined = np.arange(n)
    joined[some] = some[first[inverse.reshape(-1)]]
    return np.where(source >= 0, joined[source], -1)


def _refuse_far_apart(
    files: Sequence[FileRows],
    key: pl.Series,
    file: np.ndarray,
    source: np.ndarray,
    ra: np.ndarray,
    dec: np.ndarray,
    known: np.ndarray,
) -> None:
    place = _first_of(source, known, int(source.max(initial=-1)) + 1)
    here = np.flatnonzero(known & (source >= 0))
    there = place[source[here]]
    apart = separation_arcsec(ra[here], dec[here], ra[there], dec[there])
    by_key = np.array([one.sources_by is not SourcesBy.POSITION for one in files])[file[here]]
    if not (by_key & (apart > FARTHEST_ARCSEC)).any():
        return
    worst = int(np.argmax(by_key & (apart > FARTHEST_ARCSEC)))
    record, start = here[worst], np.concatenate([[0], np.cumsum([one.records.height for one in files])])
    one, other = files[int(file[record])], files[int(file[there[worst]])]
    rows = record - start[file[record]], there[worst] - start[file[there[worst]]]
    name = key[int(record)] or one.header_name
    raise InputError(
        f"{one.path}: source {name!r}, row {rows[0]} (from 0) lies {apart[worst]:.0f} arcsec from row {rows[1]} of "
        f"{other.path.name}; the positions of one id or name must be within {FARTHEST_ARCSEC:g} arcsec"
    )


def _first_of(source: np.ndarray, where: np.ndarray, n_source: int) -> np.ndarray:
    """The first record of each source among those of `where`; -1 where there is none."""
    found = np.full(n_source, -1, np.int64)
    records = np.flatnonzero(where & (source >= 0))[::-1]
    found[source[records]] = records  # the last assignment, of the first record, stays
    return found


def _first_come(pairs: np.ndarray, n: int) -> np.ndarray:
    """The leader of each of n points, themselves for leaders: a point that no earlier leader has takes its neighbours.

    Walks over the points that have later neighbours; the others need no decision.
    """
    leader = np.arange(n)
    if not len(pairs):
        return leader
    pairs = np.sort(pairs, axis=1)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    points, start = np.unique(pairs[:, 0], return_index=True)
    end = np.append(start[1:], len(pairs))
    for point, low, high in zip(points.tolist(), start.tolist(), end.tolist(), strict=True):
        if leader[point] == point:
            near = pairs[low:high, 1]
            free = near[leader[near] == near]
            leader[free] = point
    return leader


def _order(size_arcsec: float) -> int:
    """The HEALPix order whose cells are no larger."""
    if size_arcsec <= 0.0:
        return MAX_ORDER
    return int(np.clip(np.ceil(np.log2(_CELL_SIZE_ARCSEC / size_arcsec)), 0, MAX_ORDER))


def _on_sphere(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Unit vectors (..., 3)."""
    a, d = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=-1)
