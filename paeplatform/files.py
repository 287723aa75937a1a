"""Files that are whole or not there: written under a hidden name beside their place, then renamed.

This is for places that the platform owns. A path that the user names goes through `paeplatform.targets`.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from paeplatform.errors import InputError


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A hidden name beside `path`, of the same ending, for a file or folder that takes its place at the end.

    A file that stood there stays until then. On an error, which is passed on, the hidden one is removed. A folder is
    never replaced, since it may hold what somebody else put there.

    Args:
        path: where the file or folder goes; its parent folders are made.

    Raises:
        InputError: a folder stands at `path`, before the block begins or when it ends.
    """
    path = Path(path)
    _refuse_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{uuid.uuid4().hex[:8]}.tmp.{path.name}")
    try:
        yield unfinished
        _refuse_folder(path)  # a rename would replace an empty folder that was made meanwhile
        os.replace(unfinished, path)
    finally:
        remove(unfinished)


def replace_folder(finished: Path, path: Path) -> None:
    """Moves a folder to `path`, in the place of the folder that the platform itself wrote there before.

    Args:
        finished: the folder to move, which may be on another file system.
        path: where it goes; its parent folders are made. What stood there goes only after the new one came.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        shutil.move(finished, unfinished)
        with set_aside(path) if path.exists() else nullcontext():
            unfinished.rename(path)
    finally:
        remove(unfinished)


@contextmanager
def set_aside(path: Path) -> Iterator[Path]:
    """The hidden name of a folder while another one takes its place; it comes back on an error, else it is removed."""
    old = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
    path.rename(old)
    try:
        yield old
    except BaseException:
        if not os.path.lexists(path):
            old.rename(path)
        raise
    remove(old)


def write_whole(path: Path, content: str | bytes, *, sync: bool = False) -> Path:
    """Writes a file in one piece, text as UTF-8; with `sync` it is on the disk before it takes its name."""
    with replaced(path) as unfinished, unfinished.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    return Path(path)


def remove(path: Path) -> None:
    """Removes a file, or a folder with everything in it, that the platform itself made; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder, which is not replaced: remove it, or choose another path")
