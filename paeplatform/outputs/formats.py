"""The catalogue as Parquet, FITS or VOTable, with units, UCDs, descriptions and provenance in the headers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from paeplatform.errors import InputError
from paeplatform.outputs.columns import describe
from paeplatform.outputs.flags import CatalogFlag
from paeplatform.targets import MARK, Target, creator

FORMATS = ("parquet", "fits", "votable", "qp", "hats")
SUFFIXES = {"parquet": ".parquet", "fits": ".fits", "votable": ".vot", "qp": ".hdf5", "hats": ""}
_MISSING_INT = {size: -(2 ** (8 * size - 1)) for size in (1, 2, 4, 8)}  # the smallest of the type, as TNULL


def export(
    catalog: pl.LazyFrame,
    path: Path,
    file_format: str,
    provenance: Mapping[str, str],
    *,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Writes a catalogue in one of `FORMATS`, whole or not at all.

    Args:
        catalog: rows of `redshift_catalog`, any number of cells.
        path: file, or for "hats" a folder; its ending is yours.
        file_format: one of `FORMATS`.
        provenance: written into the header, key by key.
        overwrite: replaces an export that stands at `path`; what the platform did not write is never replaced.
        progress: shows a bar where a format takes long.

    Raises:
        InputError: an unknown format, an empty catalogue, `path` may not be written to, or a package that the format
            needs is not installed.
    """
    check_export_target(path, file_format, overwrite=overwrite)
    if catalog.select(pl.len()).collect().item() == 0:
        raise InputError("the catalogue has no rows to export")
    write: Callable[..., None]
    if file_format == "qp":
        from paeplatform.outputs.qp_ensemble import write_qp as write
    elif file_format == "hats":
        from paeplatform.outputs.hats_writer import write_hats

        write = partial(write_hats, name=Path(path).name, progress=progress)
    else:
        write = _WRITERS[file_format]
    with _target(path, file_format, overwrite).new() as unfinished:
        write(catalog, unfinished, provenance=provenance)
    return Path(path)


def check_export_target(path: Path, file_format: str, *, overwrite: bool = False) -> None:
    """Refuses, before work starts, what `export` could not write or may not replace.

    Args:
        path: see `export`.
        file_format: see `export`.
        overwrite: see `export`.

    Raises:
        InputError: an unknown format, or `path` may not be written to.
    """
    if file_format not in FORMATS:
        raise InputError(f"format {file_format!r} must be one of {', '.join(FORMATS)}")
    _target(path, file_format, overwrite).check()


def _target(path: Path, file_format: str, overwrite: bool) -> Target:
    if file_format != "hats":
        return Target(Path(path), overwrite, "--to")
    from paeplatform.outputs.hats_writer import hats_fault

    return Target(Path(path), overwrite, "--to", folder=True, fault=hats_fault)


def as_table(catalog: pl.DataFrame, *, widen: bool = False) -> Any:
    """An astropy table: masked where null, with units, UCDs and descriptions.

    Args:
        catalog: rows.
        widen: unsigned integers become signed 64-bit ones, since VOTable has none; bit 63 of flags is not in use.
    """
    from astropy.table import MaskedColumn, Table

    table = Table()
    for name in catalog.columns:
        column, known = catalog[name], describe(name)
        values, mask = _values(column, widen)
        made: Any = MaskedColumn(
            values, mask=mask, name=name, description=known.description, unit=known.unit or None
        )
        if known.ucd:
            made.meta["ucd"] = known.ucd
        table.add_column(made)
    return table


def flag_cards() -> dict[str, str]:
    """The bits of `catalog_flags`, short enough for FITS headers."""
    return {f"CFLAG{int(flag).bit_length() - 1:02d}": f"{int(flag)}: {flag.name}" for flag in CatalogFlag}


def _values(column: pl.Series, widen: bool) -> tuple[np.ndarray, np.ndarray]:
    """(array, where it is missing); missing numbers are NaN or the smallest integer, text is empty, never -99."""
    missing = column.is_null().to_numpy()
    if column.dtype.base_type() is pl.Array:
        width = column.dtype.shape[0]  # type: ignore[attr-defined]
        blank = [[float("nan")] * width]
        rows = [row if row is not None else blank[0] for row in column.to_list()]
        values = np.asarray(rows, dtype=np.float32).reshape(len(column), width)
        return values, np.repeat(missing[:, None], width, axis=1)
    if column.dtype == pl.String:
        return np.asarray(column.fill_null("").to_list(), dtype=str), missing
    if column.dtype == pl.Boolean:
        return column.fill_null(False).to_numpy().astype(bool), missing
    if column.dtype.is_float():
        return column.fill_null(float("nan")).to_numpy(), missing
    values = column.fill_null(0).to_numpy().copy()
    if widen and values.dtype.kind == "u":
        values = values.astype(np.int64)
    if missing.any() and values.dtype.kind == "i":
        values[missing] = _MISSING_INT[values.dtype.itemsize]
    return values, missing


def _write_parquet(catalog: pl.LazyFrame, path: Path, provenance: Mapping[str, str]) -> None:
    import pyarrow.parquet as pq

    table = catalog.collect().to_arrow()
    fields = []
    for field in table.schema:
        known = describe(field.name)
        texts = {"unit": known.unit, "ucd": known.ucd, "description": known.description}
        fields.append(field.with_metadata({key: text for key, text in texts.items() if text}))
    import pyarrow as pa

    header = {"creator": creator(), **provenance, **flag_cards()}
    meta = {MARK: json.dumps(header, sort_keys=True)}
    pq.write_table(table.cast(pa.schema(fields, metadata=meta)), path)


def _write_fits(catalog: pl.LazyFrame, path: Path, provenance: Mapping[str, str]) -> None:
    from astropy.io import fits
    from astropy.table import Table

    frame = catalog.collect()
    table = as_table(frame)
    plain = Table({name: np.ma.getdata(table[name].data) for name in table.colnames})
    hdu = fits.table_to_hdu(plain)
    for place, name in enumerate(table.colnames, start=1):
        known, column = describe(name), table[name]
        if known.unit:
            hdu.header[f"TUNIT{place}"] = known.unit
        if known.ucd:
            hdu.header[f"TUCD{place}"] = known.ucd
        hdu.header[f"TCOMM{place}"] = known.description[:68]
        if column.dtype.kind == "i" and bool(np.any(column.mask)):
            hdu.header[f"TNULL{place}"] = _MISSING_INT[column.dtype.itemsize]
    for number, (key, value) in enumerate(sorted(provenance.items())):
        hdu.header[f"PROV{number:02d}"] = f"{key}={value}"[:68]
    for key, value in flag_cards().items():
        hdu.header[key] = value
    first = fits.PrimaryHDU()
    first.header["CREATOR"] = creator()
    fits.HDUList([first, hdu]).writeto(path)


def _write_votable(catalog: pl.LazyFrame, path: Path, provenance: Mapping[str, str]) -> None:
    from astropy.io.votable import from_table, writeto
    from astropy.io.votable.tree import Info

    table = as_table(catalog.collect(), widen=True)
    document = from_table(table)
    resource = document.resources[0]
    for field in resource.tables[0].fields:
        known = describe(field.name)
        field.ucd = known.ucd or None
        field.description = known.description
    for key, value in {"creator": creator(), **provenance, **flag_cards()}.items():
        resource.infos.append(Info(name=key, value=str(value)))
    writeto(document, str(path), tabledata_format="binary2")


_WRITERS: dict[str, Callable[..., None]] = {
    "parquet": _write_parquet,
    "fits": _write_fits,
    "votable": _write_votable,
}
