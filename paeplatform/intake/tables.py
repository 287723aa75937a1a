"""A user's file as tables, whatever its format."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl

from paeplatform.intake.astropy_tables import read_ecsv, read_fits, read_ipac, read_votable
from paeplatform.intake.content import Kind, RawTable, read_content, reading
from paeplatform.intake.delimited import read_delimited

_LONGEST_SAID = 200  # characters of a file's metadata that may be a name, a position or a unit


def read_tables(path: Path, *, head: bool = False) -> list[RawTable]:
    """The tables of a file; one, but for FITS and VOTable.

    Args:
        path: of the file.
        head: only the columns matter; formats of text are then not read to their end.

    Raises:
        InputError: the file is missing, damaged, or of a kind that is not read.
    """
    kind, content = read_content(path)
    if kind is Kind.FITS:
        return read_fits(path, content)
    if kind is Kind.VOTABLE:
        return read_votable(path, content)
    if kind is Kind.PARQUET:
        return [_read_parquet(path, content, head)]
    reader = {Kind.ECSV: read_ecsv, Kind.IPAC: read_ipac, Kind.TEXT: read_delimited}[kind]
    return [reader(path, content, head=head)]


def _read_parquet(path: Path, content: bytes, head: bool) -> RawTable:
    """Read by Arrow, which reports a damaged file in a message where Polars ends in a panic."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with reading(path, Kind.PARQUET):
        file = pq.ParquetFile(io.BytesIO(content))
        schema = file.schema_arrow
        table = schema.empty_table() if head else file.read()
        names = schema.names
        table.validate(full=True)  # texts that are no UTF-8 end here, where Polars would print a panic
        frame = pl.DataFrame(pl.from_arrow(pa.Table.from_arrays(table.columns, names)))
        said = {
            key.decode("utf-8", "replace").lower(): value.decode("utf-8", "replace").strip()
            for key, value in (schema.metadata or {}).items()
            if len(value) <= _LONGEST_SAID
        }
        units = _astropy_units(schema.metadata)
        for name, field in zip(names, schema, strict=True):
            unit = (field.metadata or {}).get(b"unit")
            if unit is not None:
                units[name] = unit.decode("utf-8", "replace").strip()
    return RawTable(path, frame, units, said)


def _astropy_units(metadata: dict[bytes, bytes] | None) -> dict[str, str]:
    """Units by column in a Parquet file that astropy wrote."""
    described = (metadata or {}).get(b"table_meta_yaml")
    if described is None:
        return {}
    from astropy.table.meta import get_header_from_yaml

    columns = get_header_from_yaml(described.decode("utf-8").split("\n")).get("datatype", [])
    return {column["name"]: str(column["unit"]) for column in columns if "unit" in column}
