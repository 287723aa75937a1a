"""The rows of one file as measurements in our units, and what the file says of their sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from paeplatform.errors import InputError
from paeplatform.instrument.bands import BandSet
from paeplatform.intake import plausibility, values
from paeplatform.intake.columns import band_columns, chosen_columns, find_columns, ours, require
from paeplatform.intake.content import RawTable
from paeplatform.intake.conversions import flux_units, in_ujy, in_um, usual_width
from paeplatform.intake.options import ReadingOptions
from paeplatform.intake.packed import LongTable, is_nested, unpacked
from paeplatform.intake.records import SourcesBy, header_name, source_records
from paeplatform.intake.tables import read_tables

_MOST_UNKNOWN_DETECTORS = 0.5  # share of the rows, beyond which a column of bands is none of detectors


@dataclass(frozen=True, eq=False)
class FileRows:
    """One file.

    Attributes:
        path: of the file.
        sources_by: how its sources are told apart.
        records: one row a row of the file: key (str, of the source; null), number (i64, the file's own id; null),
            label (str; null), ra, dec [deg], ebv_mw (f64, NaN where unknown).
        measured: record (i64), flux, flux_err [uJy], wave, width [um], given_flux (in the file's unit), mjd (f64, NaN
            where missing), flags (u64), detector (i64, -1 where unknown).
        extra: one row a row of the file: its columns that are none of ours, but for arrays.
        collections: the data collections that its measurements are of.
        header_name: of the source, from the file's header.
        notes: what was assumed, a sentence each, without the file's name.
    """

    path: Path
    sources_by: SourcesBy
    records: pl.DataFrame
    measured: pl.DataFrame
    extra: pl.DataFrame
    collections: tuple[str, ...]
    header_name: str | None
    notes: tuple[str, ...]


def has_passbands(raw: RawTable) -> bool:
    """Whether a table has fluxes and the wavelengths that they were measured at."""
    known = {ours(name) for name in raw.table.columns}
    return {"wave", "flux"} <= known


def is_channel_table(raw: RawTable) -> bool:
    """Whether a table has fluxes in the 102 channels: in a column each, or as arrays without wavelengths."""
    names = raw.table.columns
    return bool(band_columns(names)) or any(
        ours(name) == "flux" and is_nested(raw.table[name]) for name in names
    )


def read_rows(path: Path, options: ReadingOptions, bands: BandSet) -> FileRows:
    """Reads a file.

    Args:
        path: of the file.
        options: what the user says of it.
        bands: the channels, whose widths stand in for missing ones.

    Raises:
        InputError: the file cannot be read, lacks a column, has a cell that is none of its kind or a unit that is not
            known, or its columns look exchanged; one line with file, column and row.
    """
    raw, found, notes = _chosen_table(path, options)
    if raw.table.height == 0:
        raise InputError(f"{path} holds no rows")
    long = unpacked(raw, found)
    measured, said = _measured(raw, found, long, options, bands)
    notes += said
    records, sources_by, said = source_records(raw, found, long)
    notes += said
    collections = _collections(long)
    rest = [
        name for name in raw.table.columns if name not in found.values() and not is_nested(raw.table[name])
    ]
    return FileRows(
        path=path,
        sources_by=sources_by,
        records=records,
        measured=measured,
        extra=raw.table.select(rest),
        collections=collections,
        header_name=header_name(raw.header),
        notes=(*raw.notes, *notes),
    )


def _chosen_table(path: Path, options: ReadingOptions) -> tuple[RawTable, dict[str, str], list[str]]:
    """The table of measurements of a file, its columns by our names, and what was chosen."""
    chosen, tables = chosen_columns(options.columns), read_tables(path)
    fitting: list[tuple[RawTable, dict[str, str]]] = []
    refused: InputError | None = None
    for raw in tables:
        try:
            found = find_columns(path, raw.table.columns, chosen)
            require(path, raw.table.columns, found)
            fitting.append((raw, found))
        except InputError as error:
            refused = refused or error
    if not fitting:
        assert refused is not None
        if len(tables) > 1:
            raise InputError(f"{refused}; none of its {len(tables)} tables has measurements") from refused
        raise refused
    raw, found = fitting[0]
    notes = [f"{len(fitting)} of its tables have measurements: the first is used"] if len(fitting) > 1 else []
    return raw, found, notes


# -- measurements -----------------------------------------------------------------------------------------------------
def _measured(
    raw: RawTable, found: Mapping[str, str], long: LongTable, options: ReadingOptions, bands: BandSet
) -> tuple[pl.DataFrame, list[str]]:
    """The columns of `FileRows.measured`, and what was assumed."""
    path, rows, columns, notes = raw.path, long.record, long.columns, []
    flux, flux_err = (values.numbers(path, columns[name], rows, "a flux") for name in ("flux", "flux_err"))
    wave = values.numbers(path, columns["wave"], rows, "a wavelength")
    width = (
        values.numbers(path, columns["width"], rows, "the width of a passband")
        if "width" in columns
        else np.full(len(rows), np.nan)
    )
    wave, width, wave_unit = in_um(raw, found, wave, width)
    names = found["wave"], found.get("width")
    plausibility.check_wavelengths(path, names, wave, width, wave_unit)
    detector = (
        values.detectors(path, columns["detector"], rows)
        if "detector" in columns
        else np.full(len(rows), -1, np.int64)
    )
    _refuse_channels(raw, found, detector)
    if "width" not in columns:
        width = usual_width(wave, detector, bands)
        by = "detector and wavelength" if "detector" in columns else "wavelength"
        notes.append(f"there is no column of widths: each is that of the nearest channel by {by}")
    given = flux
    units, said = flux_units(raw, found, options)
    notes += said
    flux, flux_err = in_ujy(flux, flux_err, units)
    by_choice = {"flux", "flux_err"} <= chosen_columns(options.columns).keys()
    if units[0].factor is not None and not by_choice:
        plausibility.check_errors(path, (found["flux"], found["flux_err"]), flux, flux_err, wave)
    flags = pl.repeat(0, len(rows), dtype=pl.UInt64, eager=True)
    if "flags" in columns:
        flags, n_missing = values.flag_bits(path, columns["flags"], rows)
        if n_missing:
            notes.append(
                f"{n_missing} measurements without flags in column {found['flags']} are taken as unflagged"
            )
    mjd = values.times(columns["mjd"]) if "mjd" in columns else np.full(len(rows), np.nan)
    table = pl.DataFrame(
        {
            "record": rows.astype(np.int64),
            "flux": flux,
            "flux_err": flux_err,
            "wave": wave,
            "width": width,
            "given_flux": given,
            "mjd": mjd,
            "flags": flags,
            "detector": detector,
        }
    )
    if long.is_packed:  # arrays that are filled up to one length
        there = np.isfinite(given) | np.isfinite(flux_err) | np.isfinite(wave)
        table = table.filter(pl.Series(there)) if not there.all() else table
    return table, notes


def _refuse_channels(raw: RawTable, found: Mapping[str, str], detector: np.ndarray) -> None:
    """A column `band` may count the channels, of which there are more than detectors."""
    given = detector[detector >= 0]
    odd = given[(given < 1) | (given > 6)]
    if len(odd) > _MOST_UNKNOWN_DETECTORS * max(len(given), 1):
        raise InputError(
            f"{raw.path}: column {found['detector']} holds {odd[0]}: a detector must be within [1, 6]; "
            "`--columns detector=NAME` names another column"
        )


def _collections(long: LongTable) -> tuple[str, ...]:
    column = long.columns.get("data_collection")
    if column is None or is_nested(column):
        return ()
    return tuple(sorted(values.texts(column).drop_nulls().unique().to_list()))
