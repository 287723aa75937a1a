"""Files that are whole or not there."""

from pathlib import Path

import pytest

from paeplatform.errors import InputError
from paeplatform.files import replace_folder, replaced, write_whole


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


def test_a_folder_takes_its_place_and_an_error_leaves_none(tmp_path: Path) -> None:
    with replaced(tmp_path / "catalog") as unfinished:
        unfinished.mkdir()
        (unfinished / "new").touch()
    with pytest.raises(FileExistsError):
        _made_twice(tmp_path / "other")
    assert [one.name for one in tmp_path.rglob("*")] == ["catalog", "new"]


@pytest.mark.parametrize("content", ["notes.txt", None], ids=["with a file", "empty"])
@pytest.mark.parametrize("folder", [True, False], ids=["by a folder", "by a file"])
def test_a_folder_is_never_replaced(tmp_path: Path, content: str | None, folder: bool) -> None:
    path = tmp_path / "results"
    path.mkdir()
    if content is not None:
        (path / content).touch()
    worked = []
    with pytest.raises(InputError, match="results is a folder"), replaced(path) as unfinished:
        worked.append(unfinished)
    assert worked == [], "it is refused before the work"
    with pytest.raises(InputError, match="late is a folder"):
        _folder_appears(tmp_path / "late", content, folder)
    for name in ("results", "late"):
        assert [one.name for one in (tmp_path / name).iterdir()] == ([content] if content else [])
    assert sorted(one.name for one in tmp_path.iterdir()) == ["late", "results"]


def test_a_model_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    for text in ("old", "new"):
        replace_folder(_folder(tmp_path / "made", text), tmp_path / "store" / "model")
    assert (tmp_path / "store" / "model" / "weights").read_text() == "new"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["model"]


def test_a_model_folder_that_cannot_be_moved_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "store" / "model"
    replace_folder(_folder(tmp_path / "made", "old"), target)
    rename = Path.rename

    def dies_on_the_new_one(self: Path, to: Path) -> Path:
        if self.name.endswith(".tmp"):
            raise OSError("disk full")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", dies_on_the_new_one)
    with pytest.raises(OSError, match="disk full"):
        replace_folder(_folder(tmp_path / "made", "new"), target)
    assert (target / "weights").read_text() == "old"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["model"]


def _folder(path: Path, text: str) -> Path:
    path.mkdir(parents=True)
    (path / "weights").write_text(text)
    return path


def _half_written(path: Path) -> None:
    with replaced(path) as unfinished, unfinished.open("wb") as file:
        file.write(b"ne")
        file.write("w")  # type: ignore[arg-type]


def _made_twice(path: Path) -> None:
    with replaced(path) as unfinished:
        unfinished.mkdir()
        unfinished.mkdir()


def _folder_appears(path: Path, content: str | None, folder: bool) -> None:
    with replaced(path) as unfinished:
        if folder:
            unfinished.mkdir()
        else:
            unfinished.touch()
        path.mkdir()
        if content is not None:
            (path / content).touch()
