"""Files and folders in object storage, beside the same calls for local ones.

An object appears whole or not at all, so a table is written here, then sent under its final name, and a reader sees the
old one or the new one. A folder has no such moment: its files go under a name of their own, and a small object beside
it, sent last, says which name holds. Writing again after a cut connection or a 5xx is harmless in both cases, so it is
done, on top of what the client does by itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from upath import UPath

from paeplatform.errors import StoreError
from paeplatform.files import replaced, write_whole

ATTEMPTS, FIRST_WAIT_S = 4, 0.5  # of a whole transfer; the client tries each request some times too
CURRENT = ".current"  # suffix of the object that says which version of a folder holds
DIGEST = "sha256"  # metadata of an object: of its content
_CLIENT = {"retries": {"mode": "standard", "max_attempts": 5}, "connect_timeout": 10, "read_timeout": 60}
_log = logging.getLogger(__name__)
T = TypeVar("T")


def store_path(base: str | os.PathLike[str]) -> UPath:
    """The path of a store: of a local folder, or of a prefix in object storage (endpoint and keys: the environment)."""
    if not is_remote(base):
        return UPath(base)
    # Listings are not kept: other processes write.
    return UPath(str(base), use_listings_cache=False, config_kwargs=_CLIENT)


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is in object storage."""
    return "://" in str(path)


def read_table(path: str | os.PathLike[str], columns: Sequence[str] | None = None) -> pl.DataFrame:
    """A stored table, or some of its columns."""
    return pl.read_parquet(str(path), columns=list(columns) if columns is not None else None, glob=False)


def scan_table(path: str | os.PathLike[str]) -> pl.LazyFrame:
    """A stored table, read as far as needed when it is collected."""
    return pl.scan_parquet(str(path), glob=False)


def names_in(folder: UPath | Path) -> set[str]:
    """The names in a folder, in one listing however many there are; none when there is no folder."""
    if not is_remote(folder):
        try:
            return set(os.listdir(str(folder)))
        except (FileNotFoundError, NotADirectoryError):
            return set()
    path = UPath(folder)
    try:
        found = retried(lambda: path.fs.ls(path.path, detail=False, refresh=True), f"list {folder}")
    except FileNotFoundError:
        return set()
    return {str(name).rstrip("/").rsplit("/", 1)[-1] for name in found}


def put_text(path: UPath | Path, text: str) -> None:
    """Writes a small file whole."""
    if is_remote(path):
        there, data = UPath(path), text.encode()
        digest = hashlib.sha256(data).hexdigest()
        retried(lambda: there.fs.pipe_file(there.path, data, Metadata={DIGEST: digest}), f"write {path}")
        return
    write_whole(Path(str(path)), text)


def put_file(finished: Path, path: UPath | Path) -> None:
    """Moves a finished local file to its place, on the same file system or in object storage."""
    if is_remote(path):
        upload(finished, UPath(path))
        finished.unlink()
        return
    with replaced(Path(str(path))) as unfinished:
        shutil.move(finished, unfinished)


def upload(local: Path, path: UPath) -> str:
    """Sends a file under its final name; returns the SHA-256 of its content.

    Raises:
        StoreError: what arrived has another length.
        OSError: the service did not take it, tried `ATTEMPTS` times.
    """
    digest = file_sha256(local)
    size = local.stat().st_size

    def send() -> None:
        path.fs.put_file(str(local), path.path, Metadata={DIGEST: digest})
        arrived = int(path.fs.info(path.path, refresh=True)["size"])
        if arrived != size:
            raise StoreError(f"{path}: {arrived} bytes arrived of {size}")

    retried(send, f"write {path}")
    return digest


def download(path: UPath, local: Path) -> None:
    """Fetches an object; the local file appears whole."""
    with replaced(local) as unfinished:
        retried(lambda: path.fs.get_file(path.path, str(unfinished)), f"read {path}")


def holds(path: UPath, local: Path) -> bool:
    """Whether an object is there with the content of a file.

    By the SHA-256 that this module sends along, else by the MD5 that is the tag of an object sent in one piece.
    """
    try:
        info = retried(lambda: path.fs.info(path.path, refresh=True), f"look at {path}")
        if int(info["size"]) != local.stat().st_size:
            return False
        known = retried(lambda: _metadata(path), f"look at {path}").get(DIGEST)
    except FileNotFoundError:
        return False
    if known is not None:
        return known == file_sha256(local)
    with local.open("rb") as file:
        return str(info.get("ETag", "")).strip('"') == hashlib.file_digest(file, "md5").hexdigest()


def _metadata(path: UPath) -> dict[str, str]:
    """What was sent along with an object; s3fs alone, of fsspec's file systems, has this call."""
    return path.fs.metadata(path.path, refresh=True)  # pyright: ignore[reportAttributeAccessIssue]


def fetched(path: UPath, cache: Path) -> Path:
    """A local copy of an object, kept under `cache` while the object stays the same."""
    tag = str(path.fs.info(path.path, refresh=True).get("ETag", "")).strip('"')
    folder = cache / hashlib.sha256(str(path).encode()).hexdigest()[:16]
    local = folder / (hashlib.sha256(tag.encode()).hexdigest()[:16] + path.suffix)
    if not local.is_file():
        download(path, local)
        for old in folder.iterdir():  # a reader that has it open keeps it
            if old != local and not old.name.startswith("."):
                old.unlink(missing_ok=True)
    return local


def publish_folder(finished: Path, path: UPath) -> None:
    """Sends a folder of files, then makes it the one that `fetch_folder` gives; the one before stays a while."""
    files = {name: file_sha256(finished / name) for name in _files(finished)}
    version = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:20]
    before = fetch_current(path)
    for name in files:
        there = path / version / name
        if not holds(there, finished / name):
            upload(finished / name, there)
    put_text(_pointer(path), json.dumps({"version": version, "files": files}))
    kept = {version, before["version"]} if before else {version}
    for name in names_in(path) - kept:
        with suppress(OSError):  # left behind, it costs room and nothing else
            path.fs.rm((path / name).path, recursive=True)


def fetch_folder(path: UPath, cache: Path) -> Path:
    """A local copy of the folder that was published last.

    Raises:
        FileNotFoundError: none was.
        StoreError: a file is not what was published.
    """
    current = fetch_current(path)
    if current is None:
        raise FileNotFoundError(f"{path}: no folder was published")
    local = cache / str(current["version"])
    if local.is_dir():
        return local
    unfinished = cache / f".{uuid.uuid4().hex[:8]}"
    try:
        for name, digest in current["files"].items():
            download(path / current["version"] / name, unfinished / name)
            if file_sha256(unfinished / name) != digest:
                raise StoreError(
                    f"{path / current['version'] / name} is not what was published: make it again"
                )
        with suppress(FileExistsError, OSError):
            unfinished.rename(local)  # another process may have been faster
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return local


def retried(work: Callable[[], T], what: str) -> T:
    """What `work` gives, tried again with growing waits while the service cannot be reached or is not well.

    Raises:
        OSError: the last failure, whatever the client calls it.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return work()
        except (FileNotFoundError, PermissionError):
            raise  # another try finds the same
        except Exception as error:
            if not _passes(error):
                raise
            if attempt == ATTEMPTS:
                raise OSError(f"cannot {what}, tried {ATTEMPTS} times: {_first_line(error)}") from error
            wait = FIRST_WAIT_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)
            _log.warning("cannot %s (%s); again in %.1f s", what, _first_line(error), wait)
            time.sleep(wait)
    raise AssertionError("unreachable")


def _passes(error: Exception) -> bool:
    """Whether a failure may be gone at another try."""
    if isinstance(error, OSError | StoreError):  # s3fs turns the service's answers into these
        return True
    return type(error).__module__.partition(".")[0] in {"botocore", "aiobotocore", "aiohttp"}


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path) -> Iterator[str]:
    return (str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file())


def _pointer(path: UPath) -> UPath:
    return path.with_name(path.name + CURRENT)


def fetch_current(path: UPath) -> dict[str, Any] | None:
    """Which version of a folder holds, and the SHA-256 of its files; None when none was published."""
    try:
        return json.loads(retried(lambda: _pointer(path).read_text(), f"read {_pointer(path)}"))
    except FileNotFoundError:
        return None
