"""Files and folders that a command writes where the user says: what the platform did not write is never replaced.

A path that exists is refused. With `overwrite` it is replaced if its own content shows that the platform wrote it:
each format carries a mark (`MARK`, `creator`), and a folder must hold nothing but what its writer puts there.
Symbolic links, FIFOs and devices are always refused.
"""

from __future__ import annotations

import os
import re
import stat
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from paeplatform.errors import InputError
from paeplatform.files import remove, set_aside

MARK = "paeplatform"  # key in the metadata of Parquet and HDF5; the first word of every other mark
# What a CSV of posteriors holds at least. CSV has no place for a mark that every reader would skip.
CSV_COLUMNS = frozenset({"object_id", "pae_z_mean", "pae_status"})
_HEAD_BYTES = 1 << 16  # of a VOTable: its INFO elements stand before the data
_NOT_OURS = "was not written by paeplatform"
Fault = Callable[[Path], str | None]


def creator() -> str:
    """The program and its version, as the mark says it."""
    from paeplatform import __version__

    return f"{MARK} {__version__}"


def file_fault(path: Path) -> str | None:
    """Why a file may not be replaced; None when the platform wrote it."""
    return None if written_by_platform(path) else _NOT_OURS


@dataclass(frozen=True)
class Target:
    """A file or folder that is to be written.

    Attributes:
        path: where it is to go.
        overwrite: whether one that the platform wrote may be replaced.
        option: that named the path, for messages.
        folder: a folder is to be written, not a file.
        fault: says of what exists why it is not the platform's, or None when it is.
    """

    path: Path
    overwrite: bool = False
    option: str = "target"
    folder: bool = False
    fault: Fault = file_fault

    def __str__(self) -> str:
        return f"{self.option} {self.path}"

    def check(self) -> None:
        """Refuses a path that may not be written to. Commands call this before their work starts.

        Raises:
            InputError: the path exists and may not be replaced, or its parent is no folder or cannot be written to.
        """
        try:
            mode = self.path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            self._check_parent()
            return
        except OSError as error:
            raise InputError(f"{self} cannot be reached: {error.strerror}") from error
        if stat.S_ISLNK(mode):
            raise InputError(
                f"{self} is a symbolic link, which is not followed or replaced: choose another path"
            )
        if stat.S_ISDIR(mode) and not self.folder:
            raise InputError(f"{self} is a folder: name a file, which may lie in that folder")
        if not stat.S_ISDIR(mode) and self.folder:
            raise InputError(f"{self} is no folder: choose another path")
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            raise InputError(f"{self} is no regular file: choose another path")
        found = self.fault(self.path)
        if found is not None:
            raise InputError(f"{self} exists and {found}: it is not replaced, choose another path")
        if not self.overwrite:
            raise InputError(f"{self} exists: add --overwrite to replace it, or choose another path")
        self._check_parent()

    @contextmanager
    def new(self) -> Iterator[Path]:
        """A hidden name beside the path, of the same ending, whose file or folder takes that place at the end.

        The parent folders are made. What stands at the path is checked at the beginning and again just before the end,
        so that a file that somebody put there meanwhile is not replaced. On an error, which is passed on, the hidden
        one is removed and the path stays as it was.

        Raises:
            InputError: see `check`.
        """
        self.check()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_name(f".{uuid.uuid4().hex[:8]}.tmp{self.path.suffix}")
        try:
            yield unfinished
            self.check()
            if not os.path.lexists(self.path):
                self._place(unfinished)
            elif self.folder:
                self._exchange(unfinished)
            else:
                os.replace(unfinished, self.path)
        finally:
            remove(unfinished)

    def _check_parent(self) -> None:
        for parent in self.path.absolute().parents:
            if not os.path.lexists(parent):
                continue
            if not parent.is_dir():
                raise InputError(f"{self} cannot be written: {parent} is not a folder")
            if not os.access(parent, os.W_OK | os.X_OK):
                raise InputError(f"{self} cannot be written: there is no permission to write in {parent}")
            return

    def _place(self, unfinished: Path) -> None:
        """Moves a file or folder to the free path; unlike a rename it fails if the path is not free any more."""
        try:
            if unfinished.is_dir():
                self.path.mkdir()
                try:
                    os.rename(unfinished, self.path)  # fails if the new folder is not empty any more
                except OSError:
                    self.path.rmdir()
                    raise
                return
            try:
                os.link(unfinished, self.path)
            except FileExistsError:
                raise
            except OSError:  # the file system has no hard links
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                os.replace(unfinished, self.path)
        except FileExistsError:
            raise InputError(f"{self} appeared while it was being written: it is not replaced") from None

    def _exchange(self, unfinished: Path) -> None:
        """Replaces a folder, which is checked once more when nobody can reach it by its name any more."""
        with set_aside(self.path) as old:
            found = self.fault(old)
            if found is not None:
                raise InputError(f"{self} {found}: it is not replaced")
            self._place(unfinished)


def written_by_platform(path: Path) -> bool:
    """Whether a file's own content says that the platform wrote it; False for one that cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a reader's complaints about somebody else's file
            return any(marked(path, head) for start, marked in _MARKED if head.startswith(start))
    except Exception:  # a reader of some format met a damaged file, which is not known to be ours then
        return False


# -- marks ------------------------------------------------------------------------------------------------------------
def _parquet(path: Path, head: bytes) -> bool:
    import polars as pl

    return MARK in pl.read_parquet_metadata(path)


def _fits(path: Path, head: bytes) -> bool:
    from astropy.io import fits

    return str(fits.getheader(path, 0).get("CREATOR", "")).startswith(MARK)


def _votable(path: Path, head: bytes) -> bool:
    infos = re.findall(rb"<INFO\b[^>]*>", head)
    return any(b'name="creator"' in info and b'value="paeplatform' in info for info in infos)


def _hdf5(path: Path, head: bytes) -> bool:
    import h5py

    with h5py.File(path, "r") as file:
        return MARK in file.attrs


def _png(path: Path, head: bytes) -> bool:
    return b"tEXtSoftware\0paeplatform" in head[:4096]


def _html(path: Path, head: bytes) -> bool:
    return re.search(rb"<meta name='generator' content='paeplatform[ ']", head[:4096]) is not None


def _csv(path: Path, head: bytes) -> bool:
    names = head.split(b"\n", 1)[0].decode().rstrip("\r").split(",")
    return set(names) >= CSV_COLUMNS


_MARKED: tuple[tuple[bytes, Callable[[Path, bytes], bool]], ...] = (
    (b"PAR1", _parquet),
    (b"SIMPLE", _fits),
    (b"<?xml", _votable),
    (b"\x89HDF", _hdf5),
    (b"\x89PNG", _png),
    (b"<!DOCTYPE html>", _html),
    (b"", _csv),
)
