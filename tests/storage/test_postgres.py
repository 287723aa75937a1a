"""Dagster and MLflow on a real PostgreSQL server: history taken along, connections that die, nothing shown."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from servers import HOST, PASSWORD, Postgres, Proxy

from paeplatform.config import load_preset
from paeplatform.resources.instance import open_instance
from paeplatform.resources.registry import PAE, ModelRegistry
from paeplatform.resources.settings import PlatformSettings
from paeplatform.resources.storage import Storage
from paeplatform.resources.store import FolderStore, ParquetStore

TINY = Path(__file__).parents[1] / "platform" / "tiny.yaml"
TABLE = pl.DataFrame({"object_id": [1, 2], "z": [0.5, 0.7]})
CELLS = ("hp6-1", "hp6-2", "hp6-3")


@pytest.fixture
def settings(
    s3: Storage, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> PlatformSettings:
    """A home whose storage is PostgreSQL and the bucket, both empty."""
    for name in ("TEST_DAGSTER_DB", "TEST_MLFLOW_DB"):
        monkeypatch.setenv(name, postgres.address(postgres.new_database()))
    return PlatformSettings(tmp_path / "home", load_preset(TINY), storage=s3)


def definitions(settings: PlatformSettings, *, version: str = "1") -> dg.Definitions:
    from paeplatform.assets.recording.partitions import release_cells

    @dg.asset(code_version=version)
    def table() -> dg.MaterializeResult[pl.DataFrame]:
        return dg.MaterializeResult(value=TABLE, data_version=dg.DataVersion("t1"))

    @dg.asset(io_manager_key="folders")
    def model() -> Path:
        folder = settings.scratch / "1" / "model"
        folder.mkdir(parents=True)
        (folder / "weights").write_text("weights")
        return folder

    @dg.asset(
        partitions_def=release_cells,
        check_specs=[dg.AssetCheckSpec("gate", asset="cells", blocking=True, partitions_def=release_cells)],
    )
    def cells(
        context: dg.AssetExecutionContext, table: pl.DataFrame
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        yield dg.MaterializeResult(value=table, data_version=dg.DataVersion(f"c-{context.partition_key}"))
        yield dg.AssetCheckResult(passed=True, check_name="gate")

    return dg.Definitions(
        assets=[table, model, cells],
        resources={
            "io_manager": ParquetStore(base=str(settings.store), cache=str(settings.cache)),
            "folders": FolderStore(base=str(settings.store / "models"), cache=str(settings.cache)),
        },
        executor=dg.in_process_executor,
    )


def make(defs: dg.Definitions, instance: dg.DagsterInstance, name: str, partition: str | None = None) -> None:
    job = defs.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(
        asset_selection=[dg.AssetKey(name)], partition_key=partition, instance=instance
    ).success


def make_all(settings: PlatformSettings, instance: dg.DagsterInstance) -> None:
    from paeplatform.assets.recording.partitions import CELL, RELEASE, cell_partition

    defs = definitions(settings)
    instance.add_dynamic_partitions(RELEASE, ["r1"])
    instance.add_dynamic_partitions(CELL, list(CELLS))
    make(defs, instance, "table")
    make(defs, instance, "model")
    for cell in (*CELLS, CELLS[0]):  # one of them twice
        make(defs, instance, "cells", cell_partition("r1", cell))


def test_a_run_leaves_its_history_in_postgres_and_its_tables_in_the_bucket(
    settings: PlatformSettings, postgres: Postgres
) -> None:
    from paeplatform.assets.recording.provenance import latest_records

    with open_instance(settings) as instance:
        make_all(settings, instance)
    with open_instance(settings) as instance:  # nothing of it was in memory or in the home
        assert instance.get_runs_count() == 6
        assert set(latest_records(instance, dg.AssetKey("cells"))) == {f"{cell}|r1" for cell in CELLS}
        assert instance.event_log_storage.supports_global_concurrency_limits
    assert pl.read_parquet("s3://test/store/cells/r1/hp6-2.parquet").equals(TABLE)
    assert not (settings.home / "var" / "store").exists()
    assert not (settings.dagster_home / "history" / "runs.db").exists()


@pytest.fixture(scope="session")
def mlflow_template(postgres: Postgres) -> str:
    """A database with MLflow's tables, which take seconds to make; tests copy it."""
    from mlflow.store.db.utils import _initialize_tables

    from paeplatform.resources.migration.journal import engine_of

    name = postgres.new_database()
    _initialize_tables(engine_of(postgres.address(name)))
    return name


@pytest.fixture
def with_mlflow(
    settings: PlatformSettings, postgres: Postgres, mlflow_template: str, monkeypatch: pytest.MonkeyPatch
) -> PlatformSettings:
    monkeypatch.setenv("TEST_MLFLOW_DB", postgres.address(postgres.new_database(mlflow_template)))
    return settings


def register(settings: PlatformSettings, folder: Path, content: str) -> int:
    """A version of `pae` with a training run, whatever its files say."""
    import numpy as np
    from mlflow.models import infer_signature

    registry = ModelRegistry.from_settings(settings)
    folder.mkdir(exist_ok=True)
    (folder / "weights").write_text(content)
    example = np.zeros((1, 2))
    with registry.training_run(PAE, settings.preset, data_version="d1", dagster_run_id="r") as run:
        run.log_metrics({"loss": 0.5})
        made = registry.register(
            PAE,
            {"bundle": folder},
            signature=infer_signature(example),
            input_example=None,
            tags={"content": content},
        )
    return made.version


@pytest.mark.slow
def test_models_are_registered_and_fetched_with_killed_connections_between(
    with_mlflow: PlatformSettings, postgres: Postgres, tmp_path: Path
) -> None:
    registry = ModelRegistry.from_settings(with_mlflow)
    assert register(with_mlflow, tmp_path / "bundle", "one") == 1
    database = os.environ["TEST_MLFLOW_DB"].rsplit("/", 1)[-1]
    assert postgres.kill_connections(database) > 0  # those MLflow keeps open
    assert register(with_mlflow, tmp_path / "bundle", "two") == 2
    postgres.kill_connections(database)
    registry.set_alias(PAE, "champion", 2)
    found = registry.by_alias()
    assert (registry.artifact(found, "bundle") / "weights").read_text() == "two"
    experiment = registry.client().get_experiment_by_name("paeplatform")
    assert experiment is not None and experiment.artifact_location == "s3://test/mlflow"
    assert PASSWORD not in repr(registry)


def test_dagster_goes_on_when_its_connections_are_killed(
    settings: PlatformSettings, postgres: Postgres
) -> None:
    database = os.environ["TEST_DAGSTER_DB"].rsplit("/", 1)[-1]
    with open_instance(settings) as instance:
        defs = definitions(settings)
        make(defs, instance, "table")
        with closing(instance.event_log_storage._engine.connect()):  # one that is open while it happens
            assert postgres.kill_connections(database) > 0
        make(defs, instance, "table")
        assert instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS])) == 2


def test_dagster_waits_for_a_server_that_cannot_be_reached_for_a_moment(
    settings: PlatformSettings, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(postgres.port)
    proxy.harmed = b""  # any first bytes of a connection
    try:
        database = os.environ["TEST_DAGSTER_DB"].rsplit("/", 1)[-1]
        monkeypatch.setenv("TEST_DAGSTER_DB", postgres.address(database, proxy.port))
        with open_instance(settings) as instance:
            proxy.cut = 2
            instance.add_dynamic_partitions("release", ["r1"])
            assert proxy.hurt == 2
            assert instance.get_dynamic_partitions("release") == ["r1"]
    finally:
        proxy.close()


def test_a_lost_database_is_said_as_one_that_may_come_back(postgres: Postgres) -> None:
    import sqlalchemy as sa

    from paeplatform.resources.failures import is_busy, one_line_failures
    from paeplatform.resources.migration.journal import engine_of

    database = postgres.new_database()
    with engine_of(postgres.address(database)).connect() as live:
        live.execute(sa.text("SELECT 1"))
        postgres.kill_connections(database)
        with pytest.raises(sa.exc.OperationalError) as caught:
            live.execute(sa.text("SELECT 1"))
        assert is_busy(caught.value)
        with pytest.raises(dg.RetryRequested) as asked, one_line_failures():
            raise caught.value
    assert asked.value.max_retries == 3
    with pytest.raises(sa.exc.OperationalError) as refused:
        engine_of(postgres.address(database, 1)).connect()
    assert is_busy(refused.value) and PASSWORD not in str(refused.value)


@pytest.fixture
def embedded(settings: PlatformSettings, tmp_path: Path) -> PlatformSettings:
    """A tiny home with history of Dagster in SQLite: two assets, three cells, one of them made twice."""
    from paeplatform.resources.storage import EMBEDDED

    old = replace(settings, home=tmp_path / "home", storage=EMBEDDED)
    with open_instance(old) as instance:
        make_all(old, instance)
    return old


def migrate_dagster_of(old: PlatformSettings) -> tuple[dict[str, int], bool]:
    from paeplatform.resources.migration.dagster_history import migrate_dagster

    return migrate_dagster(
        old.dagster_home,
        os.environ["TEST_DAGSTER_DB"],
        moved={f"{old.store}/": "s3://test/store/"},
        source=str(old.home),
    )


def tree_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal", ".lock"))
    }


def test_dagsters_history_is_taken_along_whole(
    settings: PlatformSettings, embedded: PlatformSettings, postgres: Postgres
) -> None:
    from paeplatform.assets.recording.provenance import latest_records

    before = tree_of(embedded.home)
    rows, already = migrate_dagster_of(embedded)
    assert not already and rows["runs"] == 6
    assert tree_of(embedded.home) == before
    (
        settings.dagster_home / "dagster.yaml"
    ).unlink()  # `migrate` changes it; here the copying alone is tested
    with open_instance(embedded) as old:
        (embedded.dagster_home / "dagster.yaml").unlink()
        with open_instance(settings) as new:
            assert {run.run_id: run.status for run in new.get_runs()} == {
                run.run_id: run.status for run in old.get_runs()
            }
            for run in old.get_runs():
                told = [
                    event.message.replace(f"{embedded.store}/", "s3://test/store/")
                    for event in old.all_logs(run.run_id)
                ]
                assert [event.message for event in new.all_logs(run.run_id)] == told
            for name in ("table", "cells"):
                key = dg.AssetKey(name)
                assert {k: r.tags for k, r in latest_records(new, key).items()} == {
                    k: r.tags for k, r in latest_records(old, key).items()
                }
            latest = new.fetch_materializations(dg.AssetKey("table"), limit=1).records[0]
            assert latest.asset_materialization is not None
            assert latest.asset_materialization.metadata["path"].value == "s3://test/store/table.parquet"
            assert sorted(new.get_dynamic_partitions("cell")) == sorted(CELLS)
            # a check's verdict points at the event it judged, by that event's new number
            key = dg.AssetCheckKey(dg.AssetKey("cells"), "gate")
            verdict = new.event_log_storage.get_asset_check_execution_history(key, limit=1)[0]
            judged = verdict.event.dagster_event.asset_check_evaluation_data.target_materialization_data
            cells = new.fetch_materializations(dg.AssetKey("cells"), limit=1).records[0]
            assert judged.storage_id == cells.storage_id and judged.run_id == cells.run_id
            make(definitions(settings), new, "table")  # and history goes on
            assert new.get_runs_count() == 7
            newest = new.fetch_materializations(dg.AssetKey("table"), limit=1).records[0]
            assert newest.storage_id > latest.storage_id


def test_an_interrupted_migration_leaves_nothing_and_the_next_one_does_it(
    settings: PlatformSettings,
    embedded: PlatformSettings,
    postgres: Postgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sqlalchemy as sa

    from paeplatform.errors import InputError
    from paeplatform.resources.migration import dagster_history, journal

    database = os.environ["TEST_DAGSTER_DB"].rsplit("/", 1)[-1]
    copied = dagster_history._copy_pointing

    def killed(*arguments: object) -> None:
        postgres.kill_connections(database)
        copied(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as during:
        during.setattr(dagster_history, "_copy_pointing", killed)
        with pytest.raises(sa.exc.OperationalError):
            migrate_dagster_of(embedded)
    assert postgres.execute("SELECT count(*) FROM event_logs", database) == [(0,)]
    rows, already = migrate_dagster_of(embedded)
    assert not already
    again, already = migrate_dagster_of(embedded)
    assert already and again == rows
    assert postgres.execute("SELECT count(*) FROM event_logs", database) == [(rows["event_logs"],)]
    with pytest.raises(InputError, match="already holds the dagster history of"):
        dagster_history.migrate_dagster(
            embedded.dagster_home, os.environ["TEST_DAGSTER_DB"], moved={}, source="/another/home"
        )
    postgres.execute("DELETE FROM paeplatform_migrations", database)
    with pytest.raises(journal.MigrationError, match="already has rows in table runs"):
        migrate_dagster_of(embedded)


def test_runs_at_work_keep_the_history_where_it_is(
    settings: PlatformSettings, embedded: PlatformSettings
) -> None:
    from paeplatform.resources.migration.journal import MigrationError

    with open_instance(embedded) as instance:
        job = definitions(embedded).resolve_implicit_global_asset_job_def()
        run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    with pytest.raises(MigrationError, match=r"1 run\(s\) are queued or at work"):
        migrate_dagster_of(embedded)
    assert run.run_id


@pytest.mark.slow
def test_the_command_takes_a_home_along_and_it_goes_on_from_there(
    with_mlflow: PlatformSettings,
    embedded: PlatformSettings,
    postgres: Postgres,
    proxy: Proxy,
    tmp_path: Path,
) -> None:
    """`paeplatform migrate`, killed by the object store once, run again, and run a third time."""
    settings = with_mlflow
    register(embedded, tmp_path / "bundle", "one")
    register(embedded, tmp_path / "bundle", "two")
    ModelRegistry.from_settings(embedded).set_alias(PAE, "champion", 1)
    before = tree_of(embedded.home)
    (settings.home / "storage.yaml").write_text(
        "mode: postgres\n"
        "dagster: {database: {env: TEST_DAGSTER_DB}}\n"
        "mlflow: {database: {env: TEST_MLFLOW_DB}, artifacts: s3://test/mlflow}\n"
        "catalogue: {store: s3://test/store}\n"
        f's3: {{endpoint: "http://{HOST}:{proxy.port}"}}\n'
    )

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        places = ("--home", str(settings.home), "--preset", str(TINY))
        return subprocess.run(
            [Path(sys.executable).with_name("paeplatform"), *arguments, *places],
            capture_output=True, text=True, env={**os.environ, "PAEPLATFORM_HOME": ""}, timeout=600,
        )  # fmt: skip

    proxy.unwell = 10_000
    failed = command("migrate")
    assert failed.returncode == 2 and "cannot write s3://test/" in failed.stderr
    assert failed.stderr.splitlines()[-1].startswith("error: artifacts:")
    proxy.unwell = 0
    done = command("migrate")
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr + failed.stderr
    third = command("migrate")
    assert third.returncode == 0 and third.stdout.count("as before") == 5, third.stdout

    kept = settings.dagster_home / "dagster.yaml.embedded"
    assert kept.read_bytes() == before["var/dagster_home/dagster.yaml"]
    after = tree_of(settings.home)
    for name, content in before.items():
        if name != "var/dagster_home/dagster.yaml":
            assert after[name] == content, name

    shutil.rmtree(settings.home / "mlruns")  # from here on nothing of the old place is read
    shutil.rmtree(settings.home / "var" / "store")
    registry = ModelRegistry.from_settings(settings)
    champion = registry.by_alias()
    assert champion.version == 1 and registry.versions() == [1, 2]
    assert (registry.artifact(champion, "bundle") / "weights").read_text() == "one"
    assert registry.client().get_run(champion.run_id).data.metrics["loss"] == 0.5
    assert register(settings, tmp_path / "bundle", "three") == 3
    with open_instance(settings) as instance:
        assert instance.get_runs_count() == 6
        defs = definitions(settings)
        from paeplatform.assets.recording.partitions import cell_partition

        make(defs, instance, "cells", cell_partition("r1", CELLS[1]))  # reads the table that was taken along
    from paeplatform.resources.objects import fetch_folder

    assert (
        fetch_folder(settings.store / "models" / "model", tmp_path / "cache") / "weights"
    ).read_text() == "weights"
