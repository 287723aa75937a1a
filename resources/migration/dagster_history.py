"""Dagster's runs, events and schedules from SQLite to PostgreSQL; the library has no command for it.

SQLite keeps the events of each run in a file of its own, numbered anew, and those about assets a second time in an
index. PostgreSQL has one table and one numbering. So events are put into one order, by time and within a run as
recorded, and whatever points at an event by its number is given the new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from paeplatform.resources.migration.journal import (
    CHUNK,
    MigrationError,
    chunks,
    empty,
    engine_of,
    insert,
    once,
)

STEP = "dagster"
INDEX = "index.db"
_ACTIVE = ("QUEUED", "STARTING", "STARTED", "CANCELING")
_COLUMNS = "run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition"
_CHECKED = "ASSET_CHECK_EVALUATION"


class _Place(NamedTuple):
    """Where an event stands: in order of time, and within a file as recorded."""

    time: str
    file: str
    id: int


def migrate_dagster(
    home: Path, address: str, *, moved: Mapping[str, str], source: str
) -> tuple[dict[str, int], bool]:
    """Copies Dagster's history.

    Args:
        home: Dagster's home with SQLite storage.
        address: of an empty PostgreSQL database.
        moved: text to replace in events: places of files, old to new.
        source: what to write down as the source.

    Returns:
        Rows by table, and whether they had been copied before.

    Raises:
        MigrationError: runs are at work, the files are an older Dagster's, or the database is in use.
    """
    from dagster_postgres.storage import DagsterPostgresStorage

    history = home / "history"
    DagsterPostgresStorage(address)  # makes the tables

    def copy(live: sa.Connection) -> tuple[dict[str, sa.Table], dict[str, int]]:
        _refuse_active(history / "runs.db")
        tables = _tables()
        empty(live, tables, "Dagster", ("runs", "event_logs"))
        rows: dict[str, int] = {}
        for path, names in (
            (history / "runs.db", _RUNS),
            (history / "runs" / INDEX, _INDEXED),
            (home / "schedules" / "schedules.db", _SCHEDULES),
        ):
            for name in names:
                rows[name] = insert(live, tables[name], _rows(path, tables[name]))
        numbers = _copy_events(live, tables["event_logs"], history / "runs", moved)
        rows["event_logs"] = numbers.count
        _copy_pointing(live, tables, history / "runs" / INDEX, numbers.index, moved, rows)
        _same_latest(live, history / "runs" / INDEX)
        return tables, rows

    return once(engine_of(address), STEP, source, copy)


# What is left out: caches, heartbeats, slots of runs at work, and which data migrations a database has had.
_RUNS = ("snapshots", "runs", "run_tags", "bulk_actions", "backfill_tags", "kvs")
_INDEXED = ("dynamic_partitions", "concurrency_limits")
_SCHEDULES = ("jobs", "instigators", "job_ticks", "asset_daemon_asset_evaluations")
_POINTING = ("asset_keys", "asset_event_tags", "asset_check_executions")


def _tables() -> dict[str, sa.Table]:
    from dagster._core.storage.event_log.schema import SqlEventLogStorageMetadata
    from dagster._core.storage.runs.schema import RunStorageSqlMetadata
    from dagster._core.storage.schedules.schema import ScheduleStorageSqlMetadata

    found = {
        name: table
        for metadata in (RunStorageSqlMetadata, SqlEventLogStorageMetadata, ScheduleStorageSqlMetadata)
        for name, table in metadata.tables.items()
    }
    return {name: found[name] for name in (*_RUNS, *_INDEXED, *_SCHEDULES, "event_logs", *_POINTING)}


def _rows(path: Path, table: sa.Table) -> Iterator[dict[str, Any]]:
    """The rows of a table in an SQLite file; none when there is no file."""
    if not path.is_file():
        return
    engine = sa.create_engine("sqlite://", creator=lambda: _opened(path), poolclass=sa.NullPool)
    with engine.connect() as live:
        there = {column["name"] for column in sa.inspect(live).get_columns(table.name)}
        missing = [column.name for column in table.columns if column.name not in there]
        if missing:
            raise MigrationError(
                f"{path}: table {table.name} has no {', '.join(missing)}: it was written by an older Dagster; run "
                "`dagster instance migrate` on the embedded home first"
            )
        for row in live.execution_options(yield_per=CHUNK).execute(sa.select(table)).mappings():
            yield dict(row)


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, check_same_thread=False)


def _refuse_active(path: Path) -> None:
    if not path.is_file():
        raise MigrationError(f"{path} does not exist: there is no history of Dagster to take along")
    with closing(_opened(path)) as live:
        marks = ", ".join("?" * len(_ACTIVE))
        (count,) = live.execute(f"SELECT count(*) FROM runs WHERE status IN ({marks})", _ACTIVE).fetchone()
    if count:
        raise MigrationError(
            f"{count} run(s) are queued or at work in {path}: let them end (or end them in Dagster's page), stop "
            "`paeplatform ui`, and try again"
        )


class _Numbers(NamedTuple):
    """How many events were copied, and the new number of each one in the index."""

    count: int
    index: dict[int, int]


def _copy_events(live: sa.Connection, table: sa.Table, folder: Path, moved: Mapping[str, str]) -> _Numbers:
    places, indexed = _in_order(folder)
    numbers = {indexed[place]: number for number, place in enumerate(places, start=1) if place in indexed}
    rewrite = _rewriter(moved, numbers)
    first = 1
    for chunk in chunks(places, CHUNK):
        by_file: dict[str, list[int]] = defaultdict(list)
        for place in chunk:
            by_file[place.file].append(place.id)
        found: dict[tuple[str, int], tuple[Any, ...]] = {}
        for name, ids in by_file.items():
            with closing(_opened(folder / name)) as events:
                query = f"SELECT id, {_COLUMNS} FROM event_logs WHERE id BETWEEN ? AND ?"
                found |= {(name, row[0]): row[1:] for row in events.execute(query, (min(ids), max(ids)))}
        insert(
            live,
            table,
            (
                _event_row(number, found[place.file, place.id], rewrite)
                for number, place in enumerate(chunk, start=first)
            ),
        )
        first += len(chunk)
    return _Numbers(len(places), numbers)


def _event_row(number: int, row: tuple[Any, ...], rewrite: Callable[[str, bool], str]) -> dict[str, Any]:
    run_id, event, kind, time, step_key, asset_key, partition = row
    return {
        "id": number,
        "run_id": run_id,
        "event": rewrite(event, kind == _CHECKED),
        "dagster_event_type": kind,
        "timestamp": datetime.fromisoformat(time) if time else None,
        "step_key": step_key,
        "asset_key": asset_key,
        "partition": partition,
    }


def _in_order(folder: Path) -> tuple[list[_Place], dict[_Place, int]]:
    """Every event once, in order; and of those that the index has too, its number there.

    The same event is in a run's file and in the index with the same text. What only the index has, since the run's
    file was deleted, keeps its place by time.
    """
    waiting: dict[bytes, deque[tuple[str, int]]] = defaultdict(deque)
    for number, digest, time in _digests(folder / INDEX):
        waiting[digest].append((time, number))
    places: list[_Place] = []
    indexed: dict[_Place, int] = {}
    for name in sorted(os.listdir(folder)) if folder.is_dir() else []:
        if not name.endswith(".db") or name == INDEX:
            continue
        latest = ""
        for number, digest, time in _digests(folder / name):
            latest = max(latest, time)  # clocks may jump; the order of a run stays
            place = _Place(latest, name, number)
            places.append(place)
            if digest in waiting:
                indexed[place] = waiting[digest].popleft()[1]
                if not waiting[digest]:
                    del waiting[digest]
    for left in waiting.values():
        for time, number in left:
            place = _Place(time, INDEX, number)
            places.append(place)
            indexed[place] = number
    return sorted(places), indexed


def _digests(path: Path) -> Iterator[tuple[int, bytes, str]]:
    """(number, digest of run and text, time) of each event of a file."""
    if not path.is_file():
        return
    with closing(_opened(path)) as live:
        for number, run_id, event, time in live.execute(
            "SELECT id, run_id, event, timestamp FROM event_logs ORDER BY id"
        ):
            yield number, hashlib.sha256(f"{run_id}\0{event}".encode()).digest(), time or ""


def _rewriter(moved: Mapping[str, str], numbers: Mapping[int, int]) -> Callable[[str, bool], str]:
    """Puts new places of files, and in a check's verdict the new number of what it judged, into an event's text."""

    def rewrite(text: str, checked: bool) -> str:
        for old, new in moved.items():
            text = text.replace(old, new)
        if checked and '"storage_id"' in text:
            tree = json.loads(text)
            _renumber(tree, numbers)
            text = json.dumps(tree)
        return text

    return rewrite


def _renumber(tree: Any, numbers: Mapping[int, int]) -> None:
    if isinstance(tree, dict):
        if isinstance(tree.get("storage_id"), int):
            tree["storage_id"] = numbers.get(tree["storage_id"], tree["storage_id"])
        for value in tree.values():
            _renumber(value, numbers)
    elif isinstance(tree, list):
        for value in tree:
            _renumber(value, numbers)


def _copy_pointing(
    live: sa.Connection,
    tables: Mapping[str, sa.Table],
    index: Path,
    numbers: Mapping[int, int],
    moved: Mapping[str, str],
    rows: dict[str, int],
) -> None:
    """The tables that point at events, or hold one."""
    rewrite = _rewriter(moved, numbers)

    def changed(name: str, row: dict[str, Any]) -> dict[str, Any]:
        if name == "asset_keys":
            row["cached_status_data"] = None  # worked out again when asked for
            if row["last_materialization"]:
                row["last_materialization"] = rewrite(row["last_materialization"], False)
        elif name == "asset_event_tags":
            row["event_id"] = numbers.get(row["event_id"])
        else:
            for column in ("evaluation_event_storage_id", "materialization_event_storage_id"):
                row[column] = numbers.get(row[column])
            if row["evaluation_event"]:
                row["evaluation_event"] = rewrite(row["evaluation_event"], True)
        return row

    for name in _POINTING:
        rows[name] = insert(live, tables[name], (changed(name, row) for row in _rows(index, tables[name])))


def _same_latest(live: sa.Connection, index: Path) -> None:
    """Raises MigrationError unless the last materialisation of every asset partition is the same event in both."""
    columns = "asset_key, partition, run_id, timestamp"
    query = (
        f"SELECT {columns} FROM event_logs WHERE id IN (SELECT max(id) FROM event_logs "
        "WHERE dagster_event_type = 'ASSET_MATERIALIZATION' GROUP BY asset_key, partition)"
    )
    with closing(_opened(index)) as events:
        wanted = {row[:2]: (row[2], datetime.fromisoformat(row[3])) for row in events.execute(query)}
    found = {(row[0], row[1]): (row[2], row[3]) for row in live.execute(sa.text(query))}
    if wanted != found:
        differing = [key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)]
        raise MigrationError(
            f"the last materialisation of {len(differing)} asset partition(s) would change, {differing[0]} first; "
            "nothing was kept"
        )
