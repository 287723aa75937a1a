"""Inference in pieces: a killed run goes on from the last finished piece, and how sources are cut changes nothing."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from paeplatform.assets.validation.resumable_tables import in_pieces

SOURCES = pl.DataFrame(
    {
        "object_id": np.arange(7),
        "flux": pl.Series(np.ones((7, 2)).tolist(), dtype=pl.Array(pl.Float32, 2)),
        "flux_err": pl.Series(np.ones((7, 2)).tolist(), dtype=pl.Array(pl.Float32, 2)),
    }
)


def test_a_killed_run_goes_on_from_the_last_finished_piece(tmp_path: Path) -> None:
    seen: list[list[int]] = []

    def estimate(photometry: tuple) -> pl.DataFrame:
        object_id = photometry[2]
        seen.append(object_id.tolist())
        if len(seen) == 2:
            raise KeyboardInterrupt
        return pl.DataFrame({"object_id": object_id, "z": object_id * 0.1})

    with pytest.raises(KeyboardInterrupt):
        in_pieces(tmp_path, SOURCES, 3, estimate)
    table = in_pieces(tmp_path, SOURCES, 3, estimate)
    assert seen == [[0, 1, 2], [3, 4, 5], [3, 4, 5], [6]]
    assert table["object_id"].to_list() == list(range(7))
    (tmp_path / "whole").mkdir()
    whole = in_pieces(tmp_path / "whole", SOURCES, 100, estimate)
    assert whole.equals(table)


def test_no_sources_are_no_work(tmp_path: Path) -> None:
    table = in_pieces(tmp_path, SOURCES.head(0), 3, lambda photometry: pytest.fail("called"))
    assert table.height == 0 and table.columns == ["object_id", "method"]
