"""Opens Dagster's instance under the platform's home, writing its dagster.yaml the first time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
import yaml

from paeplatform.errors import ConfigError
from paeplatform.resources.locks import CREATION, alone, wait_for
from paeplatform.resources.settings import PlatformSettings
from paeplatform.resources.storage import Storage

# Of SQLite, under Dagster's home; they are created together.
_DATABASES = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")

# Embedded, storage is left at its default, SQLite under this folder. One compute step at a time (pool limit) because
# each uses every core; two runs so that the cheap assets of a second run pass a long training.
_DAGSTER_YAML = """\
# Written once by paeplatform; edit freely, it is not overwritten.
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  runs:
    max_concurrent_runs: 2
  pools:
    granularity: op
    default_limit: 1
# A run whose process did not start or died is started again; one in which a step failed is not.
run_retries:
  enabled: true
  max_retries: 2
  retry_on_asset_or_op_failure: false
run_monitoring:
  enabled: true
  start_timeout_seconds: 300
  free_slots_after_run_end_seconds: 60
retention:
  schedule:
    purge_after_days: 30
  sensor:
    purge_after_days: {skipped: 2, failure: 30, success: 30, started: 7}
  auto_materialize:
    purge_after_days: {skipped: 2, failure: 30, success: 30, started: 7}
"""


def write_dagster_yaml(folder: Path, storage: Storage | None = None) -> Path:
    """Creates Dagster home `folder` and, when missing, its dagster.yaml; returns the file's path.

    Raises:
        ConfigError: `storage` asks for PostgreSQL, and the file that is there does not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "dagster.yaml"
    if not path.exists():
        unfinished = path.with_name(f".dagster.yaml.{os.getpid()}")
        unfinished.write_text(_DAGSTER_YAML + storage_block(storage))
        with suppress(FileExistsError):
            os.link(
                unfinished, path
            )  # unlike a rename, never replaces a file another process has just written
        unfinished.unlink()
    if storage is not None and storage.dagster is not None and not in_postgres(path):
        raise ConfigError(
            f"{path} keeps Dagster's runs in SQLite, the settings of storage want PostgreSQL: take the runs along with "
            f"`paeplatform migrate`, or begin without them by adding to the file "
            f"`storage: {{postgres: {{postgres_url: {{env: {storage.dagster.database.env}}}}}}}`"
        )
    return path


def storage_block(storage: Storage | None) -> str:
    """The lines of dagster.yaml that send Dagster to PostgreSQL; none when embedded."""
    if storage is None or storage.dagster is None:
        return ""
    return f"storage:\n  postgres:\n    postgres_url: {{env: {storage.dagster.database.env}}}\n"


def in_postgres(path: Path) -> bool:
    """Whether a dagster.yaml names PostgreSQL as its storage."""
    tree = yaml.safe_load(path.read_text())
    return isinstance(tree, dict) and "postgres" in str(tree.get("storage", "")).lower()


def _elsewhere(path: Path, storage: Storage) -> bool:
    """Whether runs are kept in another place than SQLite under Dagster's home: dagster.yaml may name any."""
    if storage.dagster is not None or not path.is_file():
        return storage.dagster is not None
    tree = yaml.safe_load(path.read_text())
    return isinstance(tree, dict) and any(key.endswith("storage") for key in tree)


def open_instance(settings: PlatformSettings) -> dg.DagsterInstance:
    """The instance that `dg dev` uses too when DAGSTER_HOME is `settings.dagster_home`; a context manager.

    Opening an instance creates or migrates its databases, and Dagster does that without a lock: two processes at once
    in a fresh home leave a database with two schema revisions. Here one waits for the other.

    Raises:
        ConfigError: dagster.yaml and the settings of storage disagree.
    """
    with alone(settings.dagster_home / CREATION):
        write_dagster_yaml(settings.dagster_home, settings.storage)
        return dg.DagsterInstance.from_config(str(settings.dagster_home))


@contextmanager
def open_to_read(settings: PlatformSettings) -> Iterator[dg.DagsterInstance]:
    """The instance for a command that only reads: where nothing was ever recorded, an empty one in memory.

    Nothing is created on disk, unless runs are kept in PostgreSQL: there dagster.yaml is written, which names it.

    Raises:
        ConfigError: dagster.yaml and the settings of storage disagree.
    """
    home = settings.dagster_home
    wait_for(home / CREATION)  # another process may be creating the databases now
    if not _elsewhere(home / "dagster.yaml", settings.storage) and not all(
        (home / name).is_file() for name in _DATABASES
    ):
        with dg.DagsterInstance.ephemeral() as instance:
            yield instance
        return
    with open_instance(settings) as instance:
        yield instance
