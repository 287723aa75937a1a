"""The bytes of a user's file, unpacked, and what kind of file they are.

The content decides, not the name: exports are renamed, and a name like `spectrum.txt` says nothing.
"""

from __future__ import annotations

import gzip
import io
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import polars as pl

from paeplatform.errors import InputError

MOST_UNPACKED_BYTES = 4 << 30  # of a compressed file; beyond that it is no table of measurements
_SHOWN_REASON = 200  # characters of a library's message that are repeated


class Kind(StrEnum):
    """What a file is."""

    PARQUET = "Parquet"
    FITS = "FITS"
    VOTABLE = "VOTable"
    ECSV = "ECSV"
    IPAC = "IPAC table"
    TEXT = "text"


@dataclass(frozen=True, eq=False)
class RawTable:
    """A table as its file has it.

    Attributes:
        path: of the file.
        table: its columns. Those of plain text are text; arrays in cells are lists.
        units: by column, where the file states one.
        header: what the file says beside its table, by key in lower case.
        notes: what was assumed, a sentence each.
    """

    path: Path
    table: pl.DataFrame
    units: Mapping[str, str]
    header: Mapping[str, str]
    notes: tuple[str, ...] = ()


_GZIP = b"\x1f\x8b"
_BINARY = {b"PAR1": Kind.PARQUET, b"SIMPLE  =": Kind.FITS}
_OTHER = {
    b"PK\x03\x04": "a ZIP archive, such as .xlsx or .npz",
    b"\x89HDF": "HDF5",
    b"\x93NUMPY": "a NumPy array",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"(\xb5/\xfd": "compressed by zstd",
    b"%PDF": "a PDF document",
}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_UTF8_MARK = b"\xef\xbb\xbf"
_NAMED = {
    ".parquet": Kind.PARQUET,
    ".pq": Kind.PARQUET,
    ".fits": Kind.FITS,
    ".fit": Kind.FITS,
    ".vot": Kind.VOTABLE,
    ".votable": Kind.VOTABLE,
}
READABLE = "CSV or other delimited text, Parquet, FITS, ECSV, IPAC table or VOTable, also with .gz"


def read_content(path: Path) -> tuple[Kind, bytes]:
    """The kind of a file and its bytes: unpacked where it is a gzip file, without a byte order mark where it is text.

    Raises:
        InputError: the path is no regular file, cannot be read, is empty, damaged, of a kind that is not read, or text
            in another encoding than UTF-8.
    """
    if not path.is_file():
        raise InputError(f"{path} {'is no regular file' if path.exists() else 'does not exist'}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    if content.startswith(_GZIP):
        content = _unpacked(path, content)
    if not content.strip():
        raise InputError(f"{path} is empty")
    kind = _kind(path, content)
    expected = _NAMED.get(Path(path.name.lower().removesuffix(".gz")).suffix, kind)
    if kind is Kind.TEXT and expected is not kind:
        raise InputError(f"{path} is not a readable {expected} file: it does not begin like one")
    return kind, content.removeprefix(_UTF8_MARK) if kind not in _BINARY.values() else content


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Whatever a library says of a damaged file becomes one line with the file's name.

    Its warnings, most of them of headers and columns that are not used, are left out.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except (Exception, pl.exceptions.PanicException) as error:  # a panic of Polars is no `Exception`
        text = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} is not a readable {kind} file: {text[:_SHOWN_REASON]}") from error


def _unpacked(path: Path, content: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            unpacked = stream.read(MOST_UNPACKED_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is not a readable gzip file: {' '.join(str(error).split())}") from error
    if len(unpacked) > MOST_UNPACKED_BYTES:
        raise InputError(f"{path} unpacks to more than {MOST_UNPACKED_BYTES >> 30} GiB: cut it into pieces")
    return unpacked


def _kind(path: Path, content: bytes) -> Kind:
    for magic, kind in _BINARY.items():
        if content.startswith(magic):
            return kind
    for magic, what in _OTHER.items():
        if content.startswith(magic):
            raise InputError(f"{path} is {what}; it must be {READABLE}")
    if content.startswith(_UTF16):
        raise InputError(f"{path} is text in UTF-16 (Unicode of Windows programs): save it as UTF-8")
    text = content.removeprefix(_UTF8_MARK)
    start = text[:400].lstrip()
    if start.startswith(b"<"):
        if b"html" in start.lower()[:200]:
            raise InputError(f"{path} is an HTML page, perhaps an error or login page; it must be {READABLE}")
        return Kind.VOTABLE
    if b"\0" in text:
        place = text.index(b"\0")
        raise InputError(f"{path} is no text: byte {place} is zero (UTF-16?); it must be {READABLE}")
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path} is no UTF-8 text: line {line} has bytes of another encoding") from error
    if start.startswith(b"# %ECSV"):
        return Kind.ECSV
    return Kind.IPAC if start[:1] in (b"\\", b"|") else Kind.TEXT
