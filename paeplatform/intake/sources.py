"""Users' files of measurements as sources: read, told apart, judged, sorted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from paeplatform.errors import InputError
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.measurements import Measurements
from paeplatform.intake.grouping import Grouped, group_sources
from paeplatform.intake.judging import judge
from paeplatform.intake.options import ReadingOptions
from paeplatform.intake.records import SourcesBy
from paeplatform.intake.rows import FileRows, has_passbands, is_channel_table, read_rows
from paeplatform.intake.tables import read_tables
from paeplatform.intake.values import typed
from paeplatform.release.calibration import WHY_TOGETHER, releases_of
from paeplatform.release.flags import reject_mask
from paeplatform.release.schema import COLLECTIONS, source_id

__all__ = ["ReadingOptions", "UserSources", "holds_measurements", "read_sources"]
_SHOWN = 3  # names that a note lists


@dataclass(frozen=True, eq=False)
class UserSources:
    """The sources of one file or of several.

    Attributes:
        name: what answers call each source: its name, label or id in the file, the name in the file's header, or the
            file's own; sources that only their positions tell apart are called by these.
        object_id: distinct. The file's, where it has integers; else from the position (`release.schema.source_id`);
            else a hash of the name.
        ra, dec: [deg], of the first row with a position; NaN where unknown.
        measurements: those in use, by wavelength within a source. A source may have none.
        ebv_mw: E(B-V) of the Milky Way [mag]; NaN where the file has none.
        set_aside: file (str), row (u32, from 0, of the file's rows without comments), source (str, null if unknown),
            source_row (u32, which of the sources, since names may repeat; null if unknown), reason (str, see
            `judging.Reason`). In a table with one row a source, `row` is that row.
        notes: what was assumed, one sentence each.
        n_rows: measurements read, those that were set aside among them.
        extra: (source,) the other columns of the files, as far as they are constant within each source.
    """

    name: tuple[str, ...]
    object_id: Int[np.ndarray, " source"]
    ra: Float[np.ndarray, " source"]
    dec: Float[np.ndarray, " source"]
    measurements: Measurements
    ebv_mw: Float[np.ndarray, " source"]
    set_aside: pl.DataFrame
    notes: tuple[str, ...]
    n_rows: int
    extra: pl.DataFrame

    def __len__(self) -> int:
        return len(self.name)


def read_sources(paths: Sequence[Path], options: ReadingOptions = ReadingOptions()) -> UserSources:
    """Reads files of measurements at their own wavelengths.

    Args:
        paths: files of any format that `content.READABLE` lists, and of any layout: one row a measurement or one row a
            source with arrays in its cells; one source a file or many.
        options: what the user says of them.

    Returns:
        All sources, in the order in which they come.

    Raises:
        InputError: there is no file, one stands twice, or a file is at fault; one line that names file, column and row.
    """
    paths = [Path(path) for path in paths]
    _check_paths(paths)
    bands = load_bands()
    files = [read_rows(path, options, bands) for path in paths]
    grouped = group_sources(files, options.match_radius_arcsec)
    n_source = len(grouped.first)
    start = np.concatenate([[0], np.cumsum([one.records.height for one in files])])
    measured = pl.concat([one.measured for one in files])
    file = np.repeat(np.arange(len(files)), [one.measured.height for one in files])
    record = measured["record"].to_numpy() + start[file]
    source = grouped.source[record]
    judged = judge(measured, file, source, reject_mask(options.flag_policy))
    records = pl.concat([one.records for one in files])
    names = _names(files, grouped, records, start)
    ra, dec = (_at(records[column].to_numpy(), grouped.placed) for column in ("ra", "dec"))
    aside = np.flatnonzero(~judged.use)
    known = [*names, None]
    return UserSources(
        name=names,
        object_id=_object_ids(names, _of_sources(records["number"], grouped), ra, dec),
        ra=ra,
        dec=dec,
        measurements=_measurements(measured, source, judged.use, n_source),
        ebv_mw=_reddening(files, records["ebv_mw"].to_numpy(), grouped, start),
        set_aside=pl.DataFrame(
            {
                "file": pl.Series([str(path) for path in paths], dtype=pl.String).gather(file[aside]),
                "row": pl.Series(measured["record"].to_numpy()[aside]).cast(pl.UInt32),
                "source": pl.Series(known, dtype=pl.String).gather(
                    np.where(source[aside] < 0, n_source, source[aside])
                ),
                "source_row": pl.Series(np.where(source[aside] < 0, 0, source[aside]))
                .cast(pl.UInt32)
                .set(pl.Series(source[aside] < 0), None),
                "reason": judged.reason.gather(aside),
            }
        ),
        notes=_notes(files, grouped),
        n_rows=measured.height,
        extra=_extra(files, grouped, n_source),
    )


def holds_measurements(path: Path) -> bool:
    """Whether a file is to be read by `read_sources`: False for a table of the 102 channels.

    Looks at the columns only. A file that lacks columns for either counts as one of measurements, so that what is
    missing is said in terms of these.

    Raises:
        InputError: the file is missing, damaged, or of a kind that is not read.
    """
    tables = read_tables(Path(path), head=True)
    return any(has_passbands(raw) for raw in tables) or not any(is_channel_table(raw) for raw in tables)


def _check_paths(paths: Sequence[Path]) -> None:
    if not paths:
        raise InputError("no file of measurements is given")
    seen: dict[Path, Path] = {}
    for path in paths:
        whole = path.resolve()
        if whole in seen:
            raise InputError(f"{path} is given twice")
        seen[whole] = path


def _measurements(measured: pl.DataFrame, source: np.ndarray, use: np.ndarray, n_source: int) -> Measurements:
    """Those in use, by source and then wavelength; equal wavelengths stay in the order of the files."""
    rows = np.flatnonzero(use)
    rows = rows[np.lexsort((measured["wave"].to_numpy()[rows], source[rows]))]
    count = np.bincount(source[rows], minlength=n_source)
    columns = (measured[name].to_numpy()[rows] for name in ("flux", "flux_err", "wave", "width"))
    return Measurements(*columns, start=np.concatenate([[0], np.cumsum(count)]).astype(np.int64))


def _names(
    files: Sequence[FileRows], grouped: Grouped, records: pl.DataFrame, start: np.ndarray
) -> tuple[str, ...]:
    """What answers call each source, by its first record."""
    file = np.searchsorted(start, grouped.first, side="right") - 1
    n_in_file = np.bincount(file, minlength=len(files))
    labels = _of_sources(records["label"], grouped).to_list()
    keys = records["key"].gather(grouped.first).to_list()
    ra, dec = (_at(records[column].to_numpy(), grouped.placed).tolist() for column in ("ra", "dec"))
    stems = _stems([one.path for one in files])
    names = []
    for place, (number, label, key) in enumerate(zip(file.tolist(), labels, keys, strict=True)):
        one = files[number]
        if one.sources_by is SourcesBy.KEY:
            names.append(label or key)
        elif one.sources_by is SourcesBy.POSITION and n_in_file[number] > 1:
            names.append(f"{ra[place]:.5f}{dec[place]:+.5f}")
        else:
            names.append(one.header_name or stems[number])
    return tuple(names)


def _stems(paths: Sequence[Path]) -> list[str]:
    """The files' names without endings, with the folder's where two are the same."""
    stems = [_stem(path) for path in paths]
    return [
        f"{path.resolve().parent.name}/{stem}" if stems.count(stem) > 1 else stem
        for path, stem in zip(paths, stems, strict=True)
    ]


def _stem(path: Path) -> str:
    return Path(path.name[:-3] if path.name.lower().endswith(".gz") else path.name).stem


def _object_ids(
    names: Sequence[str], number: pl.Series, ra: np.ndarray, dec: np.ndarray
) -> Int[np.ndarray, " source"]:
    """Distinct ids: the files' integers, else by position, else by name.

    Where ids meet, as of two names at one position, the first keeps its id and the others get the hash of their name.
    """
    given, placed = number.is_not_null().to_numpy(), np.isfinite(ra)
    found = number.fill_null(0).to_numpy().copy()
    by_place, by_name = ~given & placed, ~given & ~placed
    if by_place.any():
        found[by_place] = source_id(ra[by_place], dec[by_place])
    found[by_name] = [_hashed(names[place], 0) for place in np.flatnonzero(by_name).tolist()]
    order = np.argsort(np.where(given, 0, np.where(placed, 1, 2)), kind="stable")
    _, first = np.unique(found[order], return_index=True)
    met = np.setdiff1d(np.arange(len(found)), order[first])
    used = set(found[order[first]].tolist())
    for place in met.tolist():
        turn = 1
        while (new := _hashed(names[place], turn)) in used:
            turn += 1
        found[place] = new
        used.add(new)
    return found


def _hashed(name: str, turn: int) -> int:
    """63 bits that depend on the name alone, on every machine."""
    text = f"{name} {turn}" if turn else name
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _reddening(
    files: Sequence[FileRows], ebv: np.ndarray, grouped: Grouped, start: np.ndarray
) -> Float[np.ndarray, " source"]:
    """The E(B-V) of each source, which has to be the same in all its rows.

    Raises:
        InputError: it is not; names file and row.
    """
    n_source = len(grouped.first)
    there = np.isfinite(ebv) & (grouped.source >= 0)
    found = np.full(n_source, np.nan)
    rows = np.flatnonzero(there)[::-1]
    found[grouped.source[rows]] = ebv[rows]  # the last assignment, of the first row, stays
    differs = there & (np.abs(ebv - found[grouped.source]) > 1e-6)
    if differs.any():
        record = int(np.argmax(differs))
        number = int(np.searchsorted(start, record, side="right")) - 1
        raise InputError(
            f"{files[number].path}: column ebv_mw, row {record - start[number]} (from 0): {ebv[record]:g}, but "
            f"{found[grouped.source[record]]:g} in another row of the same source; it must be one value a source"
        )
    return found


def _notes(files: Sequence[FileRows], grouped: Grouped) -> tuple[str, ...]:
    """What was assumed of the files, then of all together; the same note of many files is given once."""
    by_text: dict[str, list[str]] = {}
    for one in files:
        for text in one.notes:
            by_text.setdefault(text, []).append(one.path.name)
    notes = []
    for text, names in by_text.items():
        more = f" and {len(names) - 1} more files" if len(names) > 2 else ""
        shown = names[0] + more if more else " and ".join(names)
        notes.append(f"{shown}: {text}")
    if grouped.n_shared:
        many = "1 source stands" if grouped.n_shared == 1 else f"{grouped.n_shared} sources stand"
        notes.append(f"{many} in several files: the measurements of each are taken together")
    collections = sorted({name for one in files for name in one.collections})
    releases = releases_of(list(collections))
    if len(releases) > 1:
        notes.append(f"measurements of {' and '.join(releases)} stand together: {WHY_TOGETHER}")
    unknown = [name for name in collections if name not in COLLECTIONS]
    if unknown:
        shown = ", ".join(unknown[:_SHOWN]) + (" ..." if len(unknown) > _SHOWN else "")
        notes.append(f"data collection {shown} is none of QR2 or QR3: its calibration may be another")
    return tuple(notes)


def _extra(files: Sequence[FileRows], grouped: Grouped, n_source: int) -> pl.DataFrame:
    """The other columns that are constant within each source, of its first record."""
    parts = []
    for one in files:
        columns = one.extra
        parts.append(columns if columns.width else pl.DataFrame({"": [None] * one.records.height}))
    kinds: Mapping[str, set[pl.DataType]] = {}
    for part in parts:
        for name, dtype in part.schema.items():
            kinds.setdefault(name, set()).add(dtype)  # type: ignore[attr-defined]
    mixed = [name for name, of in kinds.items() if len(of) > 1]
    parts = [
        part.with_columns(pl.col(name).cast(pl.String) for name in mixed if name in part.columns)
        for part in parts
    ]
    table = pl.concat(parts, how="diagonal").drop("", strict=False)
    used = np.flatnonzero(grouped.source >= 0)
    first = grouped.first[grouped.source[used]]
    kept = []
    for column in table.iter_columns():
        if column.dtype.is_nested() or column.dtype in (pl.Object, pl.Binary):
            continue
        if column.gather(used).eq_missing(column.gather(first)).all():
            kept.append(typed(column.gather(grouped.first)))
    return pl.DataFrame(kept) if kept else pl.DataFrame(height=n_source)


def _of_sources(column: pl.Series, grouped: Grouped) -> pl.Series:
    """The first value of each source that is not null."""
    used = pl.DataFrame({"source": grouped.source, "value": column}).filter(
        (pl.col("source") >= 0) & pl.col("value").is_not_null()
    )
    first = used.unique("source", keep="first", maintain_order=True)
    sources = pl.DataFrame({"source": np.arange(len(grouped.first))})
    return sources.join(first, on="source", how="left", maintain_order="left")["value"]


def _at(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The values at some places, NaN for place -1."""
    return np.where(place >= 0, values[place], np.nan)
