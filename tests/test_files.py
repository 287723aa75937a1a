"""Files that are whole or not there."""

from pathlib import Path

import pytest

from paeplatform.files import replaced, write_whole


def test_a_file_takes_its_place_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.csv"
    assert write_whole(path, "σ\n") == path
    with replaced(path) as unfinished:
        unfinished.write_bytes(b"1")
        assert path.read_text(encoding="utf-8") == "σ\n"
        assert unfinished.suffix == path.suffix  # writers that go by the ending find it
    assert path.read_bytes() == b"1"
    assert [one.name for one in path.parent.iterdir()] == ["table.csv"]


def test_an_error_leaves_what_stood_there_and_nothing_else(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "table.csv", b"old", sync=True)
    with pytest.raises(TypeError):
        _half_written(path)
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["table.csv"]


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "catalog"
    for content in ("old", "new"):
        with replaced(path) as unfinished:
            unfinished.mkdir()
            (unfinished / content).touch()
    assert [one.name for one in path.iterdir()] == ["new"]
    with pytest.raises(FileExistsError):
        _made_twice(path)
    assert [one.name for one in tmp_path.iterdir()] == ["catalog"]


def _half_written(path: Path) -> None:
    with replaced(path) as unfinished, unfinished.open("wb") as file:
        file.write(b"ne")
        file.write("w")  # type: ignore[arg-type]


def _made_twice(path: Path) -> None:
    with replaced(path) as unfinished:
        unfinished.mkdir()
        unfinished.mkdir()
