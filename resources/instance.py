"""Opens Dagster's instance under the platform's home, writing its dagster.yaml the first time."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import dagster as dg
import yaml

from paeplatform.errors import ConfigError
from resources.settings import PlatformSettings
from resources.storage import Storage

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


def open_instance(settings: PlatformSettings) -> dg.DagsterInstance:
    """The instance that `dg dev` uses too when DAGSTER_HOME is `settings.dagster_home`; a context manager.

    Raises:
        ConfigError: dagster.yaml and the settings of storage disagree.
    """
    write_dagster_yaml(settings.dagster_home, settings.storage)
    return dg.DagsterInstance.from_config(str(settings.dagster_home))
