"""Exposures written in the layouts that people have, and what has to come of them."""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits, votable
from astropy.table import Table

from paeplatform.intake.sources import UserSources
from paeplatform.release.flags import reject_mask

# Older exports of IRSA's tool have 17 columns, newer ones 21.
OLDER = (
    "ra dec x_image y_image mjd flux_bkg local_bkg_flg flags fit_ql deep_flg det_id lvf_id obs_publisher_did "
    "lambda lambda_width flux flux_err"
).split()
MEASURED = {"flux": "flux", "flux_err": "flux_err", "wave_um": "lambda", "width_um": "lambda_width"}
FLOAT32, FLOAT64 = 3e-7, 1e-14  # relative


def numpy_column(column: pl.Series) -> np.ndarray:
    return np.array(column.to_list(), dtype=np.str_) if column.dtype == pl.String else column.to_numpy()


def astropy_table(table: pl.DataFrame, units: dict[str, str] | None = None) -> Table:
    made = Table({name: numpy_column(table[name]) for name in table.columns})
    for name, unit in (units or {}).items():
        made[name].unit = unit
    return made


def write(table: pl.DataFrame, path: Path, *, units: dict[str, str] | None = None) -> Path:
    """A table in the format that the name's ending says, with .gz compressed."""
    name = path.name.removesuffix(".gz")
    kind = name[name.rindex(".") :]
    if kind == ".csv":
        content = table.write_csv().encode()
    elif kind == ".tsv":
        content = table.write_csv(separator="\t").encode()
    elif kind == ".ssv":
        content = table.write_csv(separator=";").encode()
    elif kind == ".dat":
        lines = [" ".join(table.columns), *("  ".join(map(str, row)) for row in table.iter_rows())]
        content = ("# made by hand\n" + "\n".join(lines) + "\n").encode()
    elif kind == ".parquet":
        content = _parquet(table, units or {})
    else:
        formats = {".fits": "fits", ".ecsv": "ascii.ecsv", ".tbl": "ascii.ipac", ".vot": "votable"}
        if kind == ".vot":  # which has no unsigned numbers of 64 bits
            table = table.with_columns(pl.col(pl.UInt64).reinterpret(signed=True))
        made = astropy_table(table, units)
        stream = io.BytesIO() if kind in (".fits", ".vot") else io.StringIO()
        if kind == ".fits":
            hdu = fits.BinTableHDU(made)
            fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(stream)
        else:
            made.write(stream, format=formats[kind])
        content = stream.getvalue()
        content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)
    return path


def _parquet(table: pl.DataFrame, units: dict[str, str]) -> bytes:
    arrow = table.to_arrow()
    fields = [
        field.with_metadata({"unit": units[field.name]}) if field.name in units else field
        for field in arrow.schema
    ]
    stream = io.BytesIO()
    pq.write_table(arrow.cast(pa.schema(fields)), stream)
    return stream.getvalue()


def packed(table: pl.DataFrame, by: Sequence[str], columns: Sequence[str]) -> pl.DataFrame:
    """One row a source, with its measurements as lists."""
    return table.group_by(by, maintain_order=True).agg(pl.col(name) for name in columns)


def write_packed_votable(
    table: pl.DataFrame, path: Path, *, units: dict[str, str], serialisation: str = "tabledata"
) -> Path:
    """One row a source as IRSA's tool returns it: arrays in cells, texts in arrays of texts of 12 characters.

    Lists of texts are written with arraysize="12x*", which astropy itself neither writes nor reads.
    """
    document = votable.tree.VOTableFile()
    resource = votable.tree.Resource()
    document.resources.append(resource)
    element = votable.tree.TableElement(document)
    resource.tables.append(element)
    kinds = {
        pl.Float64: "double",
        pl.Float32: "float",
        pl.Int64: "long",
        pl.Int16: "short",
        pl.UInt64: "long",
    }
    text_arrays = []
    for name, dtype in table.schema.items():
        size = None
        if isinstance(dtype, pl.List):
            size = "*"
            kind = "char" if dtype.inner == pl.String else kinds[type(dtype.inner)]
            text_arrays += [name] if kind == "char" else []
        else:
            kind = "char" if dtype == pl.String else kinds[type(dtype)]
            size = "*" if kind == "char" else None
        field = votable.tree.Field(document, name=name, datatype=kind, arraysize=size, unit=units.get(name))
        element.fields.append(field)
    element.create_arrays(table.height)
    for number, row in enumerate(table.iter_rows(named=True)):
        cells = []
        for name, value in row.items():
            if name in text_arrays:
                cells.append("".join(text.ljust(12) for text in value))
            elif isinstance(value, list):
                inner = table.schema[name].inner
                dtype = np.float64 if inner.is_float() else np.int64
                cells.append(np.ma.array(value, dtype=dtype, mask=np.zeros(len(value), bool)))
            else:
                cells.append(value)
        element.array[number] = tuple(cells)
    stream = io.BytesIO()
    document.to_xml(stream, tabledata_format=serialisation)
    text = stream.getvalue()
    for name in text_arrays:
        before = f'ID="{name}" arraysize="*"'.encode()
        assert before in text
        text = text.replace(before, f'ID="{name}" arraysize="12x*"'.encode())
    path.write_bytes(text)
    return path


def expected(rows: pl.DataFrame) -> list[dict[str, np.ndarray]]:
    """The measurements in use of each source, in the order in which the sources come, by wavelength."""
    used = rows.filter((pl.col("flags") & reject_mask("tool")) == 0)
    parts = []
    for position in rows.select("ra", "dec").unique(maintain_order=True).iter_rows():
        here = used.filter(pl.col("ra") == position[0], pl.col("dec") == position[1]).sort("lambda")
        parts.append({name: here[column].to_numpy() for name, column in MEASURED.items()})
    return parts


def assert_measured(
    got: UserSources, wanted: list[dict[str, np.ndarray]], precision: float = FLOAT64
) -> None:
    """The sources have these measurements, to a relative precision."""
    assert len(got) == len(wanted)
    for source, values in enumerate(wanted):
        some = got.measurements.rows(np.array([source]))
        for name, column in values.items():
            np.testing.assert_allclose(getattr(some, name), column, rtol=precision, atol=0.0, err_msg=name)
