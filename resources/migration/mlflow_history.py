"""MLflow's experiments, runs and registry from SQLite to PostgreSQL; its own tools copy from files to SQLite only."""

from __future__ import annotations

import sqlite3
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SAWarning

from paeplatform.resources.migration.journal import CHUNK, MigrationError, empty, engine_of, insert, once

STEP = "mlflow"
_OWN = ("alembic_version", "paeplatform_migrations")
# What must be empty; what MLflow puts into a new database by itself (the experiment `Default`) is replaced.
_HISTORY = ("runs", "registered_models", "logged_models", "trace_info")


def migrate_mlflow(
    database: Path, address: str, *, moved: Mapping[str, str], source: str
) -> tuple[dict[str, int], bool]:
    """Copies MLflow's database, of any of its schema versions that MLflow can bring up to date.

    Args:
        database: mlflow.db; it is only read.
        address: of an empty PostgreSQL database, or one that MLflow has just made its tables in.
        moved: beginnings of artifact locations, old to new.
        source: what to write down as the source.

    Returns:
        Rows by table, and whether they had been copied before.

    Raises:
        MigrationError: there is no such file, or the database is in use.
    """
    from mlflow.store.db.utils import _get_schema_version, _initialize_tables, _is_empty_database, _upgrade_db

    if not database.is_file():
        raise MigrationError(f"{database} does not exist: there is no history of MLflow to take along")
    engine = engine_of(address)
    if _is_empty_database(engine):
        _initialize_tables(engine)
    else:
        _upgrade_db(engine)

    def copy(live: sa.Connection) -> tuple[dict[str, sa.Table], dict[str, int]]:
        with tempfile.TemporaryDirectory() as folder:
            snapshot = Path(folder) / "mlflow.db"
            _snapshot(database, snapshot)
            old = engine_of(f"sqlite:///{snapshot}")
            _upgrade_db(old)
            versions = _get_schema_version(old), _get_schema_version(engine)
            if len(set(versions)) != 1:
                raise MigrationError(
                    f"{database} has MLflow's schema {versions[0]}, the new database {versions[1]}"
                )
            here, there = _reflected(old), _reflected(live)
            missing = sorted(set(here) - set(there))
            if missing:
                raise MigrationError(f"the new database lacks MLflow's table(s) {', '.join(missing)}")
            empty(live, there, "MLflow", _HISTORY)
            with old.connect() as reading:
                return there, {
                    name: insert(live, table, _rows(reading, here[name], moved))
                    for name, table in there.items()
                    if name in here
                }

    return once(engine, STEP, source, copy)


def _snapshot(database: Path, to: Path) -> None:
    with (
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reading,
        closing(sqlite3.connect(to)) as writing,
    ):
        reading.backup(writing)


def _reflected(live: sa.Engine | sa.Connection) -> dict[str, sa.Table]:
    """The tables of a database, those first that others refer to."""
    metadata = sa.MetaData()
    with warnings.catch_warnings():
        # Indexes on expressions are not reflected, nor needed.
        warnings.simplefilter("ignore", SAWarning)
        metadata.reflect(live)
        return {table.name: table for table in metadata.sorted_tables if table.name not in _OWN}


def _rows(live: sa.Connection, table: sa.Table, moved: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for row in live.execution_options(yield_per=CHUNK).execute(sa.select(table)).mappings():
        yield {name: _moved(value, moved) for name, value in row.items()}


def _moved(value: Any, moved: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for old, new in moved.items():
            if value == old or value.startswith(f"{old}/"):
                return new + value.removeprefix(old)
    return value
