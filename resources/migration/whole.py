"""The steps of a migration, in the order in which a reader of the new place finds no gap."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from sqlalchemy.exc import DBAPIError

from paeplatform.errors import StoreError
from paeplatform.files import write_whole
from paeplatform.resources.instance import in_postgres, storage_block
from paeplatform.resources.migration.journal import MigrationError
from paeplatform.resources.objects import store_path
from paeplatform.resources.settings import PlatformSettings, address
from paeplatform.resources.storage import EMBEDDED

KEPT = "dagster.yaml.embedded"  # the file as it was


@dataclass(frozen=True)
class StepDone:
    """What a step did: counts in words, whether all of it was there before, and the wall time."""

    name: str
    what: str
    already: bool
    seconds: float


def migrate(
    settings: PlatformSettings,
    *,
    source: Path | None = None,
    say: Callable[[StepDone], None] = lambda done: None,
) -> list[StepDone]:
    """Takes an embedded home along to where `settings` keeps its state; nothing of the source is changed but its
    dagster.yaml, of which a copy is kept, and that only when it is the home of `settings`.

    Args:
        settings: with storage in mode `postgres`.
        source: the embedded home; None: the home of `settings`.
        say: called after each step.

    Raises:
        MigrationError: the settings are embedded, runs are at work, a database is in use, or a service is away;
            finished steps stay.
    """
    storage = settings.storage
    if storage.dagster is None or storage.mlflow is None:
        raise MigrationError(
            f"the storage of {settings.home} is embedded: write the new place into its storage.yaml first"
        )
    old = replace(settings, home=(source or settings.home).expanduser().resolve(), storage=EMBEDDED)
    done: list[StepDone] = []

    def step(name: str, work: Callable[[], tuple[str, bool]]) -> None:
        began = time.monotonic()
        try:
            what, already = work()
        except (OSError, StoreError, DBAPIError) as error:
            line = " ".join(str(error).split())[:300]
            raise MigrationError(
                f"{name}: {line}; what arrived stays, the same command goes on from here"
            ) from error
        done.append(StepDone(name, what, already, time.monotonic() - began))
        say(done[-1])

    if storage.mlflow.artifacts is not None:
        step("artifacts", lambda: _artifacts(old, settings))
    if storage.catalogue.store is not None:
        step("catalogue", lambda: _catalogue(old, settings))
    step("mlflow", lambda: _mlflow(old, settings))
    step("dagster", lambda: _dagster(old, settings))
    step("dagster.yaml", lambda: _dagster_yaml(settings))
    return done


def _artifacts(old: PlatformSettings, new: PlatformSettings) -> tuple[str, bool]:
    from paeplatform.resources.migration.files import copy_tree

    files, sent = copy_tree(old.mlruns / "artifacts", store_path(new.artifact_root))
    return f"{files} files, {sent} sent", sent == 0


def _catalogue(old: PlatformSettings, new: PlatformSettings) -> tuple[str, bool]:
    from paeplatform.resources.migration.files import copy_store

    files, sent = copy_store(Path(str(old.store)), new.store)
    return f"{files} tables and model folders, {sent} sent", sent == 0


def _mlflow(old: PlatformSettings, new: PlatformSettings) -> tuple[str, bool]:
    from paeplatform.resources.migration.mlflow_history import migrate_mlflow

    moved = {old.artifact_root: new.artifact_root, str(old.mlruns / "artifacts"): new.artifact_root}
    if old.artifact_root == new.artifact_root:
        moved = {}
    rows, already = migrate_mlflow(
        old.mlruns / "mlflow.db", address(new.tracking_uri), moved=moved, source=str(old.home)
    )
    told = ", ".join(
        f"{rows[name]} {name}" for name in ("experiments", "runs", "registered_models", "model_versions")
    )
    return told, already


def _dagster(old: PlatformSettings, new: PlatformSettings) -> tuple[str, bool]:
    from paeplatform.resources.migration.dagster_history import migrate_dagster

    assert new.storage.dagster is not None
    moved = {} if str(old.store) == str(new.store) else {f"{old.store}/": f"{new.store}/"}
    rows, already = migrate_dagster(
        old.dagster_home, address(new.storage.dagster.database.reference), moved=moved, source=str(old.home)
    )
    return ", ".join(
        f"{rows[name]} {name}" for name in ("runs", "event_logs", "asset_keys", "instigators")
    ), already


def _dagster_yaml(settings: PlatformSettings) -> tuple[str, bool]:
    """Last of all: from here on Dagster opens the new place."""
    path = settings.dagster_home / "dagster.yaml"
    if not path.exists():
        return f"{path} is written when it is first needed", True
    if in_postgres(path):
        return f"{path} names PostgreSQL", True
    text = path.read_text()
    own = [key for key in yaml.safe_load(text) or {} if "storage" in key and key != "local_artifact_storage"]
    if own:
        raise MigrationError(
            f"{path} has {', '.join(own)} of its own: replace it by {storage_block(settings.storage)!r}"
        )
    kept = path.with_name(KEPT)
    if not kept.exists():
        shutil.copy2(path, kept)
    write_whole(path, text.rstrip("\n") + "\n" + storage_block(settings.storage))
    return f"{path} now names PostgreSQL; as it was: {kept.name}", False
