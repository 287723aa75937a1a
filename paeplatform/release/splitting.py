"""A delivery cut by sky cell, batch by batch: memory is bounded by a batch and by one cell, not by the release."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from paeplatform.catalog.cells import cell_key, healpix_cell
from paeplatform.files import replaced
from paeplatform.release.manifest import Manifest
from paeplatform.release.reading import BATCH_ROWS, read_batches
from paeplatform.release.schema import EXPOSURE_SCHEMA, FILE_COLUMNS, source_id

BAD_POSITION = "bad_position"


@dataclass(frozen=True)
class SplitResult:
    """What came of a delivery.

    Attributes:
        cells: cell (i64), n_rows, n_sources, sha256 (of the rows' content), path (of a Parquet file with the columns of
            a delivery, file, row and object_id, in an order that does not depend on how the delivery was cut).
        unplaced: rows without a usable position, with `reason`.
    """

    cells: pl.DataFrame
    unplaced: pl.DataFrame


def split_delivery(
    folder: Path,
    manifest: Manifest,
    out: Path,
    order: int,
    *,
    progress: bool = True,
    batch_rows: int = BATCH_ROWS,
) -> SplitResult:
    """Writes `<out>/<cell key>.parquet` for each cell that has rows.

    Args:
        folder: of the delivery, whose files have been verified.
        manifest: which files.
        out: folder that does not exist yet; appears as a whole when all cells are written.
        order: of the HEALPix cells.
        progress: shows a bar in rows.
        batch_rows: rows held at a time.

    Raises:
        InputError: a file cannot be read.
    """
    out = Path(out)
    unplaced, n_pieces = [], 0
    progress_bar = tqdm(
        total=manifest.n_rows, desc="cut by cell", unit="row", unit_scale=True, disable=not progress
    )
    with replaced(out) as pieces, progress_bar as bar:
        pieces.mkdir()
        for file in manifest.files:
            for batch in read_batches(folder, file, batch_rows):
                placed, lost = _placed(batch, order)
                unplaced.append(lost)
                for (cell,), rows in placed.partition_by("cell", as_dict=True, include_key=False).items():
                    target = pieces / cell_key(order, cell)  # type: ignore[arg-type]
                    target.mkdir(exist_ok=True)
                    rows.write_parquet(target / f"{n_pieces:08d}.parquet")
                n_pieces += 1
                bar.update(batch.height)
        cells = [_joined(target, order) for target in sorted(pieces.iterdir())]
    schema = {"cell": pl.Int64, "n_rows": pl.UInt32, "n_sources": pl.UInt32, "sha256": pl.String}
    table = pl.DataFrame(cells, schema=schema, orient="row").sort("cell")
    paths = [str(out / f"{cell_key(order, cell)}.parquet") for cell in table["cell"]]
    lost_schema = {**EXPOSURE_SCHEMA, **FILE_COLUMNS, "reason": pl.String()}
    return SplitResult(
        table.with_columns(pl.Series("path", paths, dtype=pl.String)),
        pl.concat(unplaced) if unplaced else pl.DataFrame(schema=lost_schema),
    )


def content_sha256(rows: pl.DataFrame) -> str:
    """Hex digest of exposures, whichever file and row they came in."""
    digest = hashlib.sha256(str(rows.height).encode())
    for name in EXPOSURE_SCHEMA:
        column = rows[name]
        digest.update(name.encode() + column.is_null().to_numpy().tobytes())
        if column.dtype == pl.String:
            digest.update("\0".join(column.fill_null("").to_list()).encode())
        else:
            blank = False if column.dtype == pl.Boolean else 0
            digest.update(np.ascontiguousarray(column.fill_null(blank).to_numpy()).tobytes())
    return digest.hexdigest()


def _placed(batch: pl.DataFrame, order: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows with object_id and cell, rows without a usable position)."""
    ra, dec = pl.col("ra"), pl.col("dec")
    usable = (
        ra.is_finite() & ra.is_between(-360.0, 360.0) & dec.is_finite() & dec.is_between(-90.0, 90.0)
    ).fill_null(False)
    lost = batch.filter(~usable).with_columns(pl.lit(BAD_POSITION).alias("reason"))
    good = batch.filter(usable)
    position = good["ra"].to_numpy(), good["dec"].to_numpy()
    identity = source_id(*position) if good.height else np.zeros(0, np.int64)
    cell = healpix_cell(*position, order) if good.height else np.zeros(0, np.int64)
    return (
        good.with_columns(
            pl.Series("object_id", identity, dtype=pl.Int64), pl.Series("cell", cell, dtype=pl.Int64)
        ),
        lost,
    )


def _joined(target: Path, order: int) -> tuple[int, int, int, str]:
    """A cell's pieces as one file beside them; (cell, rows, sources, content)."""
    rows = pl.concat([pl.read_parquet(piece, glob=False) for piece in sorted(target.iterdir())])
    rows = rows.sort(
        "object_id", "mjd", "obs_publisher_did", "lambda", "flux", nulls_last=True, maintain_order=True
    )
    rows.write_parquet(target.with_suffix(".parquet"))
    shutil.rmtree(target)
    cell = int(target.name.split("-")[1])
    return cell, rows.height, rows["object_id"].n_unique(), content_sha256(rows)
