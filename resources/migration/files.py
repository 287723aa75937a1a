"""Artifacts, tables and model folders from a home to object storage."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from upath import UPath

from paeplatform.resources.objects import download, fetch_current, holds, publish_folder, upload

AT_ONCE = 8  # transfers wait for the service, not for a core


def copy_tree(folder: Path, to: UPath) -> tuple[int, int]:
    """Sends the files of a folder that are not there yet, but no names with a dot; returns (files, those sent)."""
    paths = list(_files(folder))

    def send(path: Path) -> bool:
        there = to / path.relative_to(folder).as_posix()
        if holds(there, path):
            return False
        upload(path, there)
        return True

    with ThreadPoolExecutor(AT_ONCE) as pool:
        sent = sum(pool.map(send, paths))
    return len(paths), sent


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

    with ThreadPoolExecutor(AT_ONCE) as pool:
        fetched = sum(pool.map(fetch, found))
    return len(found), fetched


def copy_store(store: Path, to: UPath) -> tuple[int, int]:
    """Sends tables as they are, and model folders as the store keeps them there; returns (files and folders, sent)."""
    models = store / "models"
    count = sent = 0
    for folder in sorted(_leaves(models)):
        there = to / "models" / folder.relative_to(models).as_posix()
        before = fetch_current(there)
        publish_folder(folder, there)
        count, sent = count + 1, sent + (fetch_current(there) != before)
    for entry in sorted(store.iterdir()) if store.is_dir() else []:
        if entry.name.startswith(".") or entry == models:
            continue
        if entry.is_dir():
            files, new = copy_tree(entry, to / entry.name)
            count, sent = count + files, sent + new
            continue
        count += 1
        if not holds(to / entry.name, entry):
            upload(entry, to / entry.name)
            sent += 1
    return count, sent


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
