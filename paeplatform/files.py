"""Files that are whole or not there: written under a hidden name beside their place, then renamed."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A hidden name beside `path`, of the same ending, for a file or folder that takes its place at the end.

    What stood there stays until then. On an error, which is passed on, the hidden one is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    token = uuid.uuid4().hex[:8]
    unfinished, old = (path.with_name(f".{token}.{end}.{path.name}") for end in ("tmp", "old"))
    try:
        yield unfinished
        if path.is_dir():
            path.rename(old)
        os.replace(unfinished, path)
    except BaseException:
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            unfinished.unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def write_whole(path: Path, content: str | bytes, *, sync: bool = False) -> Path:
    """Writes a file in one piece, text as UTF-8; with `sync` it is on the disk before it takes its name."""
    with replaced(path) as unfinished, unfinished.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    return Path(path)
