"""Long inference in pieces, each kept as it is finished, so that a killed run goes on where it stopped."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from paeplatform.assets.recording.tables import photometry_of
from paeplatform.files import replaced

if TYPE_CHECKING:
    from paeplatform.assets.recording.tables import Photometry


def in_pieces(
    folder: Path, sources: pl.DataFrame, size: int, estimate: "Callable[[Photometry], pl.DataFrame]"
) -> pl.DataFrame:
    """The estimates of all sources, `size` at a time.

    Args:
        folder: of the checkpoint (`Workspace.checkpoint_dir`), named after all that decides the result.
        sources: with flux, flux_err and object_id.
        size: sources to a piece. How sources are cut changes no estimate.
        estimate: flux, flux_err, object_id to a table.

    Returns:
        The tables one above the other; without sources a table of no rows that has object_id and method.
    """
    if not sources.height:
        return pl.DataFrame(schema={"object_id": pl.Int64, "method": pl.String})
    tables = []
    for start in range(0, sources.height, size):
        path = folder / f"{start:08d}-{size}.parquet"
        if not path.exists():
            rows = sources[start : start + size]
            table = estimate(photometry_of(rows))
            with replaced(path) as unfinished:
                table.write_parquet(unfinished)
        tables.append(pl.read_parquet(path, glob=False))
    return pl.concat(tables)
