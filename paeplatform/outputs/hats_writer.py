"""A catalogue in the HATS layout: Parquet leaves by HEALPix pixel, with the metadata that its readers expect."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from paeplatform.catalog.cells import MAX_ORDER
from paeplatform.targets import MARK

ORDER = 6  # of the leaves
_DIRECTORY = 10_000  # pixels a folder
_PROPERTIES = ("properties", "hats.properties")
_LIST = "partition_info.csv"


def write_hats(
    catalog: pl.LazyFrame, folder: Path, name: str, provenance: Mapping[str, str], *, progress: bool = True
) -> None:
    """Writes an object catalogue; sources are ordered by place within each leaf.

    Args:
        catalog: with ra, dec [deg] and object_id, the HEALPix index at order 29.
        folder: to make.
        name: of the catalogue.
        provenance: further properties.
        progress: shows a bar in leaves.
    """
    rows = catalog.with_columns(pl.col("object_id").alias("_healpix_29")).collect().sort("_healpix_29")
    pixel = (rows["_healpix_29"] // 4 ** (MAX_ORDER - ORDER)).alias("Npix")
    rows = rows.select("_healpix_29", pl.exclude("_healpix_29")).with_columns(pixel)
    folder.mkdir(parents=True)
    dataset = folder / "dataset"
    leaves, metadata = [], []
    for (number,), leaf in tqdm(
        rows.partition_by("Npix", as_dict=True, include_key=False).items(), desc="HATS", disable=not progress
    ):
        place = _leaf(ORDER, int(number))  # type: ignore[call-overload]
        (dataset / place).parent.mkdir(parents=True, exist_ok=True)
        table = leaf.to_arrow()
        found: list[pq.FileMetaData] = []
        pq.write_table(table, dataset / place, metadata_collector=found)
        found[0].set_file_path(place)
        metadata.append(found[0])
        leaves.append((ORDER, int(number)))  # type: ignore[call-overload]
    schema = pq.read_schema(dataset / _leaf(*leaves[0]))
    pq.write_metadata(schema, dataset / "_common_metadata")
    pq.write_metadata(schema, dataset / "_metadata", metadata_collector=metadata)
    lines = "".join(f"{order},{number}\n" for order, number in leaves)
    (folder / _LIST).write_text(f"Norder,Npix\n{lines}")
    text = "".join(
        f"{key}={value}\n" for key, value in _properties(rows, name, len(leaves), provenance).items()
    )
    for path in _PROPERTIES:
        (folder / path).write_text(text)


def hats_fault(folder: Path) -> str | None:
    """Why a folder may not be replaced as a whole; None for one with nothing in it but what `write_hats` put there."""
    try:
        builders = [
            line for line in (folder / _PROPERTIES[0]).read_text().splitlines() if "hats_builder" in line
        ]
        orders = [line.split(",") for line in (folder / _LIST).read_text().splitlines()[1:]]
        leaves = [_leaf(int(order), int(number)) for order, number in orders]
    except (OSError, ValueError):
        builders, leaves = [], []
    if builders != [f"hats_builder={MARK}"]:
        return "is no HATS catalogue that paeplatform wrote"
    written = {*_PROPERTIES, _LIST, "dataset/_metadata", "dataset/_common_metadata"}
    written |= {f"dataset/{leaf}" for leaf in leaves}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if (
            path.is_symlink()
            or (not path.is_dir() and name not in written)
            or (path.is_dir() and name in written)
        ):
            return f"holds {name}, which paeplatform did not write"
        if path.is_dir() and not any(one.startswith(f"{name}/") for one in written):
            return f"holds the folder {name}, which paeplatform did not write"
    return None


def _leaf(order: int, number: int) -> str:
    """The path of a leaf under `dataset`."""
    return f"Norder={order}/Dir={number // _DIRECTORY * _DIRECTORY}/Npix={number}.parquet"


def _properties(
    rows: pl.DataFrame, name: str, n_leaves: int, provenance: Mapping[str, str]
) -> dict[str, object]:
    from datetime import UTC, datetime

    n_cells = 12 * 4**ORDER
    return {
        "obs_collection": name,
        "dataproduct_type": "object",
        "hats_nrows": rows.height,
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_col_healpix": "_healpix_29",
        "hats_col_healpix_order": MAX_ORDER,
        "hats_npix_suffix": ".parquet",
        "hats_order": ORDER,
        "moc_sky_fraction": f"{n_leaves / n_cells:.6g}",
        "hats_builder": MARK,
        "hats_creation_date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MUTC"),
        "hats_estsize": int(np.ceil(rows.estimated_size("kb"))),
        "hats_release_date": "2025-08-22",
        "hats_version": "v1.0",
        **{f"paeplatform_{key}": value for key, value in provenance.items()},
    }
