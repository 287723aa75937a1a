"""Which files of the landing zone are read: regular files that lie in it.

Those who deliver and those who run the platform may be different people. Opening a FIFO waits for ever, and through a
link the reports of the platform would show lines of any file that its user can read. So the kind of a file is looked up
before the file is opened.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from paeplatform.errors import InputError

MISSING = "does not exist"
_KINDS = (
    (stat.S_ISLNK, "is a symbolic link"),
    (stat.S_ISFIFO, "is a FIFO"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISDIR, "is a folder"),
    (stat.S_ISBLK, "is a device"),
    (stat.S_ISCHR, "is a device"),
)


class DeliveryError(InputError):
    """A delivery is incomplete, unreadable, or not what its manifest says."""


def file_fault(path: Path, landing: Path) -> str | None:
    """Why a file is not read, like "is a FIFO"; None when it is a regular file inside the landing zone.

    Args:
        path: of the file, which is not opened.
        landing: the landing zone; it may itself be reached through a link.
    """
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    except OSError as error:
        return f"cannot be reached ({error.strerror})"
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), None)
    if kind is not None:
        return kind
    if not stat.S_ISREG(mode):
        return "is no regular file"
    # The file is no link, but the folder of the release may be one.
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(landing)):
        return "lies outside of the landing zone, behind a link"
    return None


def regular_file(path: Path, landing: Path) -> Path:
    """The path itself, when a delivery's file may be read there.

    Args:
        path: of the file, which is not opened.
        landing: the landing zone.

    Raises:
        DeliveryError: the file is missing, no regular file, or lies outside of the landing zone.
    """
    fault = file_fault(path, landing)
    if fault is not None:
        raise DeliveryError(f"{path} {fault}: a delivery holds regular files inside the landing zone")
    return path


def landing_of(folder: Path) -> Path:
    """The landing zone that a delivery's folder stands in."""
    return Path(os.path.abspath(folder)).parent
