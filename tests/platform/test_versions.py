from pathlib import Path

import polars as pl

from paeplatform.assets.recording.versions import content_version, file_digest

TABLE = pl.DataFrame(
    {
        "object_id": [1, 2, 3],
        "name": ["a", None, "bc"],
        "z": [0.1, 0.2, None],
        "flux": pl.Series([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=pl.Array(pl.Float32, 2)),
        "wave": [[1.0], [], [2.0, 3.0]],
    }
)


def test_the_content_version_is_that_of_the_values(tmp_path: Path) -> None:
    chunked = pl.concat([TABLE.head(1), TABLE.tail(2)], rechunk=False)
    TABLE.write_parquet(tmp_path / "t.parquet", row_group_size=1)
    for same in (TABLE.clone(), chunked, pl.read_parquet(tmp_path / "t.parquet")):
        assert content_version(same) == content_version(TABLE)


def test_every_change_of_value_type_name_or_order_shows() -> None:
    changed = [
        TABLE.with_columns(z=pl.Series([0.1, 0.3, None])),
        TABLE.with_columns(z=pl.Series([0.1, None, 0.2])),
        TABLE.with_columns(pl.col("object_id").cast(pl.Int32)),
        TABLE.rename({"z": "y"}),
        TABLE.reverse(),
        TABLE.with_columns(name=pl.Series(["ab", None, "c"])),
        TABLE.with_columns(wave=pl.Series([[1.0], [2.0], [3.0]])),
        TABLE.with_columns(
            flux=pl.Series([[1.0, 2.0], [3.0, 4.0], [5.0, 7.0]], dtype=pl.Array(pl.Float32, 2))
        ),
        TABLE.head(2),
    ]
    versions = [content_version(table).value for table in (TABLE, *changed)]
    assert len(set(versions)) == len(versions)


def test_a_folder_is_told_apart_by_names_and_bytes(tmp_path: Path) -> None:
    digests = []
    for name, text in (("a", "x"), ("b", "x"), ("b", "y")):
        folder = tmp_path / f"{name}{text}"
        folder.mkdir()
        (folder / name).write_text(text)
        digests.append(file_digest(folder))
    assert len(set(digests)) == 3
