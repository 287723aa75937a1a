"""What a user names as a target is never lost unless the platform wrote it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from paeplatform.errors import InputError
from paeplatform.targets import Target, written_by_platform

OWN = "object_id,pae_z_mean,pae_status\n1,0.5,converged\n"


def refused(path: Path, *parts: str, **options: bool) -> None:
    """It is refused before the work, on one line that names the path."""
    for overwrite in (False, True):
        with pytest.raises(InputError) as caught:
            Target(path, overwrite, "--to", **options).check()
        text = str(caught.value)
        assert text.startswith(f"--to {path}") and "\n" not in text
        for part in parts:
            assert part in text


def test_a_new_file_is_written_whole_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.csv"
    Target(path).check()
    assert not path.parent.exists(), "the check makes nothing"
    with Target(path).new() as unfinished:
        unfinished.write_text(OWN)
        assert not path.exists() and unfinished.suffix == ".csv"
    assert path.read_text() == OWN and list(path.parent.iterdir()) == [path]


def test_own_file_needs_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(OWN)
    with pytest.raises(InputError, match=r"exists: add --overwrite to replace it"):
        Target(path).check()
    with Target(path, overwrite=True).new() as unfinished:
        unfinished.write_text("new")
    assert path.read_text() == "new"


def test_what_somebody_else_wrote_is_refused(tmp_path: Path) -> None:
    for name, text in (
        ("a.parquet", b"PAR1"), ("a.fits", b"SIMPLE  = T"), ("a.vot", b"<?xml version='1.0'?><VOTABLE/>"),
        ("a.hdf5", b"\x89HDF\r\n"), ("a.png", b"\x89PNG\r\n"), ("a.csv", b"object_id,z\n"), ("empty", b""),
        ("a.html", b"<!DOCTYPE html>\n<html><meta name='generator' content='other 1'>"),
        ("b.csv", b"\xff\xfe"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(text)
        assert not written_by_platform(tmp_path / name)
        refused(tmp_path / name, "was not written by paeplatform")


def test_folders_links_and_what_is_no_file_are_refused(tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text(OWN)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for name, target in (("link", own), ("dangling", tmp_path / "none"), ("to_folder", tmp_path / "folder")):
        (tmp_path / name).symlink_to(target)
        refused(tmp_path / name, "symbolic link")
    refused(tmp_path / "folder", "is a folder")
    refused(tmp_path / "fifo", "no regular file")
    refused(Path("/dev/null"), "no regular file")
    refused(own, "is no folder", folder=True)
    refused(own / "deeper" / "x.csv", "is not a folder")
    refused(tmp_path / "dangling" / "x.csv", "is not a folder")
    refused(tmp_path / ("n" * 300), "File name too long")


def test_a_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # for root every folder can be written to
    refused(tmp_path / "new" / "x.csv", "no permission to write", str(tmp_path))


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_file_that_appears_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    path = tmp_path / "x.csv"
    if not hard_links:
        monkeypatch.setattr("os.link", _no_links)
    with pytest.raises(InputError, match="was not written by paeplatform"):
        _appears(path)
    assert path.read_text() == "mine" and list(tmp_path.iterdir()) == [path]
    path.unlink()
    # the last moment: after the second check, which sees nothing
    monkeypatch.setattr(Target, "check", lambda _: None)
    monkeypatch.setattr("os.path.lexists", lambda _: False)
    with pytest.raises(InputError, match="appeared while it was being written"):
        _appears(path)
    assert path.read_text() == "mine" and list(tmp_path.iterdir()) == [path]


def test_a_file_system_without_hard_links_takes_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.link", _no_links)
    with Target(tmp_path / "x.csv").new() as unfinished:
        unfinished.write_text("1")
    assert (tmp_path / "x.csv").read_text() == "1" and len(list(tmp_path.iterdir())) == 1


def test_a_file_put_into_an_own_folder_at_the_last_moment_stays(tmp_path: Path) -> None:
    path = tmp_path / "catalog"
    path.mkdir()
    (path / "own").touch()
    asked = []

    def fault(folder: Path) -> str | None:
        asked.append(folder)
        if len(asked) == 3:  # when it was moved out of its place already
            (folder / "mine").touch()
        return "holds mine" if (folder / "mine").exists() else None

    with (
        pytest.raises(InputError, match="holds mine"),
        Target(path, overwrite=True, folder=True, fault=fault).new() as unfinished,
    ):
        unfinished.mkdir()
    assert sorted(one.name for one in path.iterdir()) == ["mine", "own"]
    assert list(tmp_path.iterdir()) == [path]


def _appears(path: Path) -> None:
    with Target(path, overwrite=True).new() as unfinished:
        unfinished.write_text("new")
        path.write_text("mine")


def _no_links(*_: object) -> None:
    raise OSError("not supported")
