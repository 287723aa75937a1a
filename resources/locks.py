"""Locks between processes: a file that one of them holds while it does what no two may do at once."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CREATION = ".creation.lock"  # in a folder of databases: held while they are created or migrated


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Waits for the lock of `path`, which is made with its folder when missing, and holds it.

    Where the folder may not be written, nothing can be created in it either, and there is nothing to wait for.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a")
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def wait_for(path: Path) -> None:
    """Returns when nobody holds the lock of `path`; creates nothing."""
    try:
        with path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
