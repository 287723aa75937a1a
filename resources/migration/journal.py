"""Copying between databases: rows in chunks, sequences set behind them, and a note of what is done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

import sqlalchemy as sa

from paeplatform.errors import InputError

CHUNK = 1000
_NOTES = sa.Table(
    "paeplatform_migrations",
    sa.MetaData(),
    sa.Column("step", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("finished", sa.DateTime(timezone=True), server_default=sa.func.now()),
    sa.Column("rows", sa.Text, nullable=False),
)
T = TypeVar("T")


class MigrationError(InputError):
    """The history cannot be taken along as things are; nothing was changed."""


def engine_of(address: str) -> sa.Engine:
    """An engine that keeps no connection and finds a dead one out before it is used."""
    return sa.create_engine(address, poolclass=sa.NullPool)


def once(
    engine: sa.Engine,
    step: str,
    source: str,
    copy: Callable[[sa.Connection], tuple[Mapping[str, sa.Table], dict[str, int]]],
) -> tuple[dict[str, int], bool]:
    """Copies a history in one transaction, which also writes down that it is done.

    `copy` returns the tables and how many rows of each it read; returned are these, and whether they had been copied
    before.

    Raises:
        MigrationError: the history of another home was copied, or another number of rows arrived than were read.
    """
    with engine.begin() as live:
        before = _done_before(live, step, source)
        if before is not None:
            return before, True
        tables, rows = copy(live)
        set_sequences(live, tables.values())
        _same_counts(live, rows, tables)
        live.execute(_NOTES.insert().values(step=step, source=source, rows=json.dumps(rows)))
    return rows, False


def empty(live: sa.Connection, tables: dict[str, sa.Table], of: str, history: Iterable[str]) -> None:
    """Empties the tables, those first that others refer to, of the rows that the database's owner makes by itself.

    Raises:
        MigrationError: a table of the history has rows already.
    """
    for name in history:
        if live.scalar(sa.select(sa.func.count()).select_from(tables[name])):
            raise MigrationError(f"the database for {of} already has rows in table {name}: take an empty one")
    for table in reversed(tables.values()):
        live.execute(table.delete())


def _done_before(live: sa.Connection, step: str, source: str) -> dict[str, int] | None:
    """The rows by table that this step copied before; None when it has not been done.

    Raises:
        MigrationError: it was done from another home.
    """
    _NOTES.create(live, checkfirst=True)
    found = live.execute(sa.select(_NOTES).where(_NOTES.c.step == step)).mappings().first()
    if found is None:
        return None
    if found["source"] != source:
        raise MigrationError(
            f"the database already holds the {step} history of {found['source']}: take another one"
        )
    return json.loads(found["rows"])


def insert(live: sa.Connection, table: sa.Table, rows: Iterable[Mapping[str, Any]]) -> int:
    """Adds rows to a table in chunks; returns how many."""
    count = 0
    for chunk in chunks(rows, CHUNK):
        live.execute(table.insert(), chunk)
        count += len(chunk)
    return count


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most `size` items."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def set_sequences(live: sa.Connection, tables: Iterable[sa.Table]) -> None:
    """Lets columns that number themselves go on behind the rows that were copied with their numbers."""
    for table in tables:
        for column in table.primary_key.columns:
            name = f'"{table.name}"'
            sequence = live.scalar(
                sa.text("SELECT pg_get_serial_sequence(:t, :c)"), {"t": name, "c": column.name}
            )
            if sequence is None:
                continue
            last = live.scalar(sa.select(sa.func.max(column)))
            live.execute(
                sa.text("SELECT setval(CAST(:s AS regclass), :v, :used)"),
                {"s": sequence, "v": last or 1, "used": last is not None},
            )


def _same_counts(live: sa.Connection, rows: Mapping[str, int], tables: Mapping[str, sa.Table]) -> None:
    """Raises MigrationError when a table holds another number of rows than were read."""
    for name, count in rows.items():
        found = live.scalar(sa.select(sa.func.count()).select_from(tables[name]))
        if found != count:
            raise MigrationError(f"table {name}: {found} rows arrived of {count}; nothing was kept")
