"""Artifacts, tables and model folders from a home to object storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from upath import UPath

from paeplatform.resources.objects import download, fetch_current, holds, publish_folder, upload

T = TypeVar("T")
AT_ONCE = 8  # transfers wait for the service, not for a core


def copy_tree(folder: Path, to: UPath) -> tuple[int, int]:
    """Sends the files of a folder that are not there yet, but no names with a dot; returns (files, those sent)."""
    return _copy(folder, to, list(_files(folder)))


def _copy(folder: Path, to: UPath, paths: Sequence[Path]) -> tuple[int, int]:
    def send(path: Path) -> bool:
        there = to / path.relative_to(folder).as_posix()
        if holds(there, path):
            return False
        upload(path, there)
        return True

    return _at_once(send, paths)


def fetch_tree(source: UPath, to: Path) -> tuple[int, int]:
    """The way back: fetches what differs from the local files; returns (files, those fetched)."""
    base = source.path.rstrip("/") + "/"
    found = [str(name) for name in source.fs.find(base, refresh=True)]

    def fetch(name: str) -> bool:
        there, local = source / name.removeprefix(base), to / name.removeprefix(base)
        if local.is_file() and holds(there, local):
            return False
        download(there, local)
        return True

    return _at_once(fetch, found)


def _at_once(transfer: Callable[[T], bool], items: Sequence[T]) -> tuple[int, int]:
    """(items, those for which `transfer` had something to do)."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return len(items), sum(pool.map(transfer, items))


def copy_store(store: Path, to: UPath) -> tuple[int, int]:
    """Sends tables as they are, and model folders as the store keeps them there; returns (files and folders, sent)."""
    models = store / "models"
    changed = []
    for folder in sorted(_leaves(models)):
        there = to / "models" / folder.relative_to(models).as_posix()
        before = fetch_current(there)
        publish_folder(folder, there)
        changed.append(fetch_current(there) != before)
    files, sent = _copy(store, to, [path for path in _files(store) if models not in path.parents])
    return len(changed) + files, sum(changed) + sent


def _files(folder: Path) -> Iterator[Path]:
    return (
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _leaves(folder: Path) -> Iterator[Path]:
    """The model folders: those that hold files, and no others above them."""
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.name.startswith("."):
            if any(one.is_file() for one in entry.iterdir()):
                yield entry
            else:
                yield from _leaves(entry)
