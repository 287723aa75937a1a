"""The commands of backup and restore in docs/storage.md, on a tiny home: dumped, lost, brought back."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from servers import Postgres

from paeplatform.config import load_preset
from paeplatform.resources.instance import open_instance
from paeplatform.resources.objects import names_in, publish_folder, put_text, read_table, store_path, upload
from paeplatform.resources.settings import PlatformSettings
from paeplatform.resources.storage import Storage


@pytest.mark.slow
def test_a_dumped_database_and_a_copied_bucket_come_back(
    s3: Storage, postgres: Postgres, tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (postgres.programs / "pg_dump").exists():
        pytest.skip("no pg_dump here")
    old, new = postgres.new_database(), postgres.new_database()
    monkeypatch.setenv("TEST_DAGSTER_DB", postgres.address(old))
    settings = PlatformSettings(tmp_path / "home", load_preset("demo"), storage=s3)

    @dg.asset
    def table() -> dg.MaterializeResult:
        return dg.MaterializeResult(data_version=dg.DataVersion("t1"))

    with open_instance(settings) as instance:
        run_id = dg.materialize([table], instance=instance).run_id
        instance.add_dynamic_partitions("release", ["r1"])
    frame = pl.DataFrame({"z": [0.1, 0.2]})
    frame.write_parquet(tmp_path / "t.parquet")
    upload(tmp_path / "t.parquet", settings.store / "catalog" / "r1" / "hp6-1.parquet")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("w")
    publish_folder(tmp_path / "model", settings.store / "models" / "flow")

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def copy(source: str, to: str) -> str:
        return run(sys.executable, project_root / "scripts" / "copy_objects.py", source, to)

    dump = tmp_path / "dagster.dump"
    libpq = {name: postgres.address(name).replace("+psycopg2", "") for name in (old, new)}
    run(postgres.programs / "pg_dump", "--format=custom", f"--file={dump}", libpq[old])
    assert copy("s3://test/store", str(tmp_path / "backup")) == "3 files, 3 copied\n"
    assert copy("s3://test/store", str(tmp_path / "backup")) == "3 files, 0 copied\n"

    settings.store.fs.rm("test/store", recursive=True)
    postgres.execute(f"DROP DATABASE {old} WITH (FORCE)")
    put_text(store_path("s3://test/store") / "other.txt", "what is there stays")

    run(postgres.programs / "pg_restore", "--no-owner", "--exit-on-error", f"--dbname={libpq[new]}", dump)
    assert copy(str(tmp_path / "backup"), "s3://test/store") == "3 files, 3 copied\n"
    monkeypatch.setenv("TEST_DAGSTER_DB", postgres.address(new))
    with open_instance(settings) as instance:
        latest = instance.get_latest_materialization_event(dg.AssetKey("table"))
        assert latest is not None and latest.run_id == run_id
        assert instance.get_dynamic_partitions("release") == ["r1"]
        assert dg.materialize([table], instance=instance).success  # numbers go on behind those restored
    assert read_table(settings.store / "catalog" / "r1" / "hp6-1.parquet").equals(frame)
    from paeplatform.resources.objects import fetch_folder

    assert (
        fetch_folder(settings.store / "models" / "flow", tmp_path / "cache") / "weights"
    ).read_text() == "w"
    assert "other.txt" in names_in(store_path("s3://test/store"))
