"""Full and read-only disks, damaged files, a database that is locked or gone: said clearly, nothing corrupted."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import paeplatform.resources.failures
from paeplatform.assets.recording.partitions import cell_partition
from paeplatform.definitions import build_definitions
from paeplatform.errors import InputError, RegistryError
from paeplatform.instrument.bands import load_bands
from paeplatform.release.simulated.delivery import DeliverySpec, write_delivery
from paeplatform.sensors.backfill import backfill
from paeplatform.sensors.run import home_lock, materialize
from tests.flat_sources import flat_sources
from tests.platform.conftest import CELLS, TINY, Platform

FIRST, SECOND = CELLS
ROOT = Path(__file__).resolve().parents[2]

# In a mount namespace of its own: a file system of 3 MB that is filled up, enlarged, and made read-only, for real.
_ON_A_SMALL_DISK = """
import json, subprocess, sys, warnings
from pathlib import Path
import dagster as dg
import numpy as np
import polars as pl
warnings.simplefilter("ignore")
from paeplatform.config import load_preset
from paeplatform.definitions import build_definitions
from paeplatform.resources.settings import PlatformSettings
from paeplatform.resources.store import ParquetStore
from paeplatform.sensors.releases import notice_deliveries
from paeplatform.sensors.run import materialize
home, landing, preset = map(Path, sys.argv[1:])
mount = lambda *options: subprocess.run(["mount", *options, str(home)], check=True)
mount("-t", "tmpfs", "-o", "size=3m", "tmpfs")
settings = PlatformSettings(home, load_preset(preset), landing_zone=landing)
rows = 100

@dg.asset
def table():
    return pl.DataFrame({"x": np.random.default_rng(1).normal(size=rows)})

whole = dg.Definitions(assets=[table], resources={"io_manager": ParquetStore(base=str(home / "tables"))})
real = build_definitions(settings)
files = lambda: sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
said = {}
with dg.DagsterInstance.ephemeral() as instance:
    line = lambda fault: fault and fault.line
    make = lambda: line(materialize(whole, instance, [dg.AssetKey("table")], None, "test"))
    said["made"] = make()
    before = (home / "tables/table.parquet").read_bytes()
    rows = 1_000_000
    said["full"] = make()
    said["old table stands"] = (home / "tables/table.parquet").read_bytes() == before
    said["files"] = files()
    notice_deliveries(settings, instance)
    keys = [dg.AssetKey("release_exposures"), dg.AssetKey("unplaced_rows")]
    ingest = lambda: line(materialize(real, instance, keys, "rel-f", "test"))
    said["ingestion on a full disk"] = ingest()
    said["files after it"] = files()
    mount("-o", "remount,size=200m")
    said["more room"], said["ingestion with room"] = make(), ingest()
    said["rows"] = pl.scan_parquet(home / "tables/table.parquet").select(pl.len()).collect().item()
    said["cells"] = sorted(path.stem for path in (home / "var/store/cell_exposures/rel-f").iterdir())
    before = (home / "tables/table.parquet").read_bytes()
    mount("-o", "remount,ro")
    said["read-only"], said["ingestion, read-only"] = make(), ingest()
    said["table stands"] = (home / "tables/table.parquet").read_bytes() == before
print(json.dumps(said))
"""


def _namespace() -> list[str]:
    """The command that gives a program its own mounts; skips where the machine does not allow it."""
    for options in (["--mount"], ["--user", "--map-root-user", "--mount"]):
        command = ["unshare", *options]
        probe = [*command, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/mnt"]
        if (
            shutil.which("unshare")
            and subprocess.run(probe, capture_output=True, check=False).returncode == 0
        ):
            return command
    pytest.skip("this machine lets no program mount a small file system")


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}


def test_a_full_and_a_read_only_disk_are_named_and_corrupt_nothing(tmp_path: Path):
    home, landing = tmp_path / "home", tmp_path / "landing"
    home.mkdir()
    spec = DeliverySpec("rel-f", seed=3, n_visits=60)
    write_delivery(flat_sources(), load_bands(), landing / "rel-f", spec, progress=False)
    command = [*_namespace(), sys.executable, "-c", _ON_A_SMALL_DISK, str(home), str(landing), str(TINY)]
    ended = subprocess.run(
        command, env=_environment(), capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    said = json.loads(ended.stdout.splitlines()[-1])
    assert said["made"] is said["more room"] is said["ingestion with room"] is None
    for name in ("full", "ingestion on a full disk"):
        assert str(home) in said[name] and "No space left on device" in said[name], said[name]
        assert "run again" in said[name] and "\n" not in said[name]
    for name in ("read-only", "ingestion, read-only"):
        assert str(home) in said[name] and "Read-only file system" in said[name], said[name]
    assert said["old table stands"] and said["table stands"]
    assert said["files"] == ["tables/table.parquet"], "no debris"
    kept = "var/store/release_manifests/rel-f/outcomes.json"  # what the rules said of the delivery
    assert set(said["files after it"]) <= {"tables/table.parquet", kept}, "no debris"
    assert said["rows"] == 1_000_000 and said["cells"] == list(CELLS)


def test_a_truncated_table_is_named_and_made_again_once_deleted(platform: Platform):
    path = platform.settings.store / "reweighted_posteriors" / "mock-r1" / f"{FIRST}.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    defs, key = build_definitions(platform.settings), cell_partition("mock-r1", FIRST)
    before = platform.catalog()
    fault = materialize(defs, platform.instance, [dg.AssetKey("redshift_catalog")], key, "test")
    assert fault is not None and str(path) in fault.line and "delete it, and `paeplatform run`" in fault.line
    assert platform.catalog().equals(before)
    path.unlink()
    summary = platform.run()
    assert summary.ok and {target.label for target, _ in summary.made} <= {
        f"reweighted_posteriors[mock-r1|{FIRST}]",
        f"redshift_catalog[mock-r1|{FIRST}]",
    }
    assert platform.catalog().drop("run_id").equals(before.drop("run_id")) and platform.stale() == []


def test_damaged_exposures_of_a_cell_are_ingested_again_once_deleted(platform: Platform):
    path = platform.settings.store / "cell_exposures" / "mock-r1" / f"{FIRST}.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    names = ("release_photometry", "release_measurements", "quarantined_sources", "quality_statistics")
    fault = materialize(
        build_definitions(platform.settings),
        platform.instance,
        [dg.AssetKey(name) for name in names],
        cell_partition("mock-r1", FIRST),
        "test",
    )
    assert fault is not None and str(path) in fault.line and "delete it" in fault.line
    path.unlink()
    assert next(target.label for target in platform.stale()) == "release_exposures[mock-r1]"
    platform.run()
    assert path.read_bytes() == whole and platform.stale() == []


@pytest.fixture
def locked(platform: Platform):
    """Another process is in the middle of writing to MLflow's database."""
    holder = sqlite3.connect(platform.settings.mlruns / "mlflow.db", check_same_thread=False)
    holder.execute("BEGIN EXCLUSIVE")
    yield holder
    holder.close()


def test_a_locked_registry_is_said_in_a_line(platform: Platform, locked: sqlite3.Connection):
    with pytest.raises(RegistryError, match="MLflow's database is locked by another process"):
        platform.stale()


def test_a_step_waits_for_a_registry_that_is_locked_for_a_while(
    platform: Platform, locked: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(paeplatform.resources.failures, "BUSY_WAIT_SECONDS", 0.1)
    said = paeplatform.resources.failures.busy_line

    def ends_then(error: BaseException) -> RegistryError:
        locked.rollback()  # the other process is done just after the step has met its lock
        return said(error)

    monkeypatch.setattr(paeplatform.resources.failures, "busy_line", ends_then)
    defs = build_definitions(platform.settings)
    fault = materialize(defs, platform.instance, [dg.AssetKey("pae_champion")], None, "test")
    assert fault is None
    (run,) = platform.instance.get_runs(limit=1)
    retried = platform.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY)
    assert len(retried) == 1 and platform.stale() == []


def test_a_step_gives_up_on_a_registry_that_stays_locked(
    platform: Platform, locked: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(paeplatform.resources.failures, "BUSY_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(paeplatform.resources.failures, "BUSY_RETRIES", 1)
    defs = build_definitions(platform.settings)
    fault = materialize(defs, platform.instance, [dg.AssetKey("pae_champion")], None, "test")
    assert fault is not None and "MLflow's database is locked by another process" in fault.line


def test_without_the_registry_nothing_is_made_and_all_is_well_when_it_is_back(platform: Platform):
    database = platform.settings.mlruns / "mlflow.db"
    aside = database.with_name("aside.db")
    before = platform.catalog()
    database.rename(aside)
    try:
        assert (
            "champion pae v1 -> none"
            in {target.label: target.reason for target in platform.stale()}["pae_champion"]
        )
        with pytest.raises(InputError, match=r"no model [a-z-]+@champion in sqlite.*: train and register"):
            platform.run(select=["redshift_catalog"])
        assert not database.exists() and platform.catalog().equals(before)
    finally:
        database.unlink(missing_ok=True)
        aside.rename(database)
    assert platform.stale() == []


def test_a_second_backfill_in_the_same_home_is_refused(platform: Platform):
    with (
        home_lock(platform.settings),
        pytest.raises(InputError, match="another `paeplatform run` is at work"),
    ):
        backfill(
            platform.settings,
            "mock-r1",
            defs=build_definitions(platform.settings),
            instance=platform.instance,
        )


_ONE_CELL = """
import sys
from pathlib import Path
import dagster as dg
from paeplatform.assets.recording.partitions import cell_partition
from paeplatform.config import load_preset
from paeplatform.definitions import build_definitions
from paeplatform.resources.instance import open_instance
from paeplatform.resources.settings import PlatformSettings
from paeplatform.sensors.run import materialize
settings = PlatformSettings(Path(sys.argv[1]), load_preset(Path(sys.argv[2])))
defs = build_definitions(settings)
made = ("release_photometry", "release_measurements", "quarantined_sources", "quality_statistics")
names = (*made, "pae_posteriors", "template_fits", "reweighted_posteriors", "redshift_catalog")
keys = [dg.AssetKey(name) for name in names]
with open_instance(settings) as instance:
    print("ready", flush=True)
    sys.stdin.readline()
    fault = materialize(defs, instance, keys, cell_partition("mock-r1", sys.argv[3]), "test")
print(fault.line if fault else "made", flush=True)
"""


@pytest.mark.slow
def test_two_runs_of_the_same_cell_at_once_give_one_valid_result(platform: Platform):
    """As two backfills asked for in Dagster's page do: nothing there stops the second."""
    from paeplatform.resources.instance import open_instance

    with open_instance(platform.settings) as instance:
        instance.add_dynamic_partitions("release", ["mock-r1"])
        instance.add_dynamic_partitions("cell", list(CELLS))
        for name in ("spherex_bands", "redshift_prior", "inference_prior", "sed_templates", "pae_champion"):
            instance.report_runless_asset_event(dg.AssetMaterialization(name))
    before = platform.table(f"redshift_catalog/mock-r1/{FIRST}").drop("run_id")
    command = [sys.executable, "-c", _ONE_CELL, str(platform.settings.home), str(TINY), FIRST]
    both = [
        subprocess.Popen(
            command, env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in both:
        assert process.stdout is not None and process.stdout.readline().strip() == "ready"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate()[0].strip() for process in both] == ["made", "made"]
    after = platform.table(f"redshift_catalog/mock-r1/{FIRST}")
    assert after["run_id"].n_unique() == 1, "one run's table, whole"
    # Another process rounds the climb to hilltops differently: of a source that needs it float32 digits differ, and
    # chains, which are chaotic, differ altogether.
    weighted = pl.col("pae_path").is_in(["proposal", "adapted"])
    assert after["object_id"].equals(before["object_id"]) and after["pae_path"].equals(before["pae_path"])
    assert before.filter(weighted).height > 0
    assert_frame_equal(
        after.drop("run_id").filter(weighted), before.filter(weighted), rel_tol=1e-2, abs_tol=1e-3
    )
    assert not list((platform.settings.store).rglob(".*.tmp*"))
    with open_instance(platform.settings) as instance:
        made = instance.get_runs()
    assert after["run_id"][0] in {run.run_id for run in made}


def test_readers_meet_a_whole_table_while_several_writers_replace_it(tmp_path: Path):
    from upath import UPath

    from paeplatform.resources.store import _write

    path, tables = tmp_path / "t.parquet", [pl.DataFrame({"x": [n] * 20_000}) for n in range(4)]
    _write(tables[0], UPath(path))
    writers = [
        threading.Thread(target=lambda t=table: [_write(t, UPath(path)) for _ in range(25)])
        for table in tables
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        found = pl.read_parquet(path)
        assert found.height == 20_000 and found["x"].n_unique() == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.parquet"]
