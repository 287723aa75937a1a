"""In PostgreSQL a look reads the records it does not know, in as many looks as it takes; in SQLite all of them."""

import time
from pathlib import Path

import dagster as dg
import pytest
from servers import Postgres

import paeplatform.assets.recording.provenance as provenance
import paeplatform.sensors.records as records
from paeplatform.assets.recording.partitions import CELL, RELEASE, cell_partition
from paeplatform.assets.recording.provenance import DATA_VERSION, made_from
from paeplatform.config import load_preset
from paeplatform.resources.instance import open_instance
from paeplatform.resources.settings import PlatformSettings
from paeplatform.resources.storage import Storage

KEY = dg.AssetKey("posteriors")
CELLS = [f"hp6-{number}" for number in range(5)]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many records each query fetched."""
    counts: list[int] = []
    fetch = dg.DagsterInstance.fetch_materializations

    def counted(self: dg.DagsterInstance, *arguments: object, **options: object) -> object:
        found = fetch(self, *arguments, **options)  # type: ignore[arg-type]
        counts.append(len(found.records))
        return found

    monkeypatch.setattr(dg.DagsterInstance, "fetch_materializations", counted)
    return counts


def report(instance: dg.DagsterInstance, cell: str, version: str) -> None:
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            KEY,
            partition=cell_partition("r1", cell),
            tags={DATA_VERSION: version},
            metadata={
                **made_from(version, {"photometry": "p"}),
                "preview": dg.MetadataValue.md("x" * 10_000),
            },
        )
    )


def filled(instance: dg.DagsterInstance) -> None:
    instance.add_dynamic_partitions(RELEASE, ["r1"])
    instance.add_dynamic_partitions(CELL, CELLS)
    for cell in CELLS:
        report(instance, cell, "v1")


def test_a_look_in_postgres_reads_what_is_new(
    s3: Storage, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[int]
) -> None:
    for name in ("TEST_DAGSTER_DB", "TEST_MLFLOW_DB"):
        monkeypatch.setenv(name, postgres.address(postgres.new_database()))
    monkeypatch.setattr(provenance, "CHUNK", 2)
    settings = PlatformSettings(tmp_path, load_preset("demo"), storage=s3)
    with open_instance(settings) as instance:
        filled(instance)
        with pytest.raises(records.NotAllRead, match="posteriors: 0 of 5 records read so far"):
            records.latest_slim_records(instance, KEY, time.monotonic() - 1)
        assert len(records.latest_slim_records(instance, KEY)) == 5
    with open_instance(settings) as instance:  # another connection, the same database
        read.clear()
        report(instance, CELLS[2], "v2")
        found = records.latest_slim_records(instance, KEY, time.monotonic() + 60)
        assert read == [1]
        versions = {partition: (record.tags or {})[DATA_VERSION] for partition, record in found.items()}
        assert versions == {f"{cell}|r1": "v2" if cell == CELLS[2] else "v1" for cell in CELLS}
        assert all("preview" not in record.metadata for record in found.values())
        read.clear()
        assert len(records.latest_slim_records(instance, KEY, time.monotonic() - 1)) == 5 and read == []
        instance.wipe_assets([KEY])
        assert records.latest_slim_records(instance, KEY) == {}


def test_a_look_in_sqlite_reads_everything_whatever_the_time(read: list[int]) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        filled(instance)
        for _ in range(2):
            assert len(records.latest_slim_records(instance, KEY, time.monotonic() - 1)) == 5
        assert sum(read) == 10
