"""Whether the sensors keep up with an all-sky release: 12,288 cells (HEALPix order 5), every asset of each recorded.

The platform's own code location and a home in which the release was delivered, ingested and, or else not yet, made; the
records are what runs would leave, written in bulk, without the files' contents. Measured is a look of the reconciling
sensor (what it compares, plans and asks for), and what the run queue takes to accept what one look asks for. On SQLite,
and on PostgreSQL where a server can be started here.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from benchmarks.timing import figure
from paeplatform.assets.inference.estimation import CHAMPION_TAG
from paeplatform.assets.inference.prior import PRIOR_TAG, prior_source
from paeplatform.assets.recording.partitions import CELL, RELEASE, cell_partition
from paeplatform.assets.recording.provenance import (
    CODE_VERSION,
    DATA_VERSION,
    GATE_TAG,
    PASSED,
    VERSION_FROM,
    made_from,
    registered_model,
)
from paeplatform.assets.release.deliveries import CELL_EXPOSURES, RAW_RELEASE
from paeplatform.assets.release.photometry import PHOTOMETRY
from paeplatform.config import load_preset
from paeplatform.definitions import build_definitions
from paeplatform.resources.instance import open_instance
from paeplatform.resources.settings import PlatformSettings
from paeplatform.resources.storage import Storage
from paeplatform.resources.workspace import Workspace
from paeplatform.sensors import records
from paeplatform.sensors.reconcile import next_requests
from paeplatform.sensors.staleness import StalenessChecker

N_CELLS = int(os.environ.get("BENCH_CELLS", "12288"))
KINDS = os.environ.get("BENCH_STORAGE", "sqlite postgres").split()
NAME = "allsky"
TARGET_S = 60.0
CHUNK = 500
RECORDED = 16
CHAMPION = "v1"  # what the registry says, which is not asked: a query, whatever the number of cells
# Bytes of previews and plots in a cell's materialisation, as in the demo.
PICTURES = {
    "pae_posteriors": 114_000,
    "sbi_posteriors": 7_500,
    "template_fits": 8_000,
    "reweighted_posteriors": 10_000,
    "redshift_catalog": 19_000,
    "release_photometry": 7_000,
    "release_measurements": 6_500,
    "quarantined_sources": 6_500,
    "quality_statistics": 3_000,
}


def run() -> list[dict[str, Any]]:
    """Seconds of a look, in each state of the release, and of the queue."""
    figures = [figure("cells", N_CELLS, "", None, None)]
    StalenessChecker._champion_now = lambda self, key: CHAMPION  # type: ignore[method-assign]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind, storage in _storages():
            with storage as chosen, tempfile.TemporaryDirectory() as folder:
                figures += _measure(kind, PlatformSettings(Path(folder), load_preset("demo"), storage=chosen))
    return figures


def _measure(kind: str, settings: PlatformSettings) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    defs = build_definitions(settings)
    with open_instance(settings) as instance:

        def look(name: str, *, read_all: bool = False) -> list[dg.RunRequest]:
            wall, cpu, asked = _look(settings, defs, instance, read_all=read_all)
            found.append(figure(f"{name}_{kind}", wall, "s", TARGET_S, None))
            found.append(figure(f"{name}_{kind}_cpu", cpu, "s", TARGET_S, None))
            return asked

        release = _Release(settings, defs, instance)
        release.deliver()
        asked = look("tick_new_release")
        found.append(figure(f"requests_of_a_tick_{kind}", len(asked), "runs", None, None))
        found.append(
            figure(f"queue_takes_them_{kind}_cpu", _enqueue(defs, instance, asked), "s", TARGET_S, None)
        )
        _enqueue(defs, instance, look("tick_with_half_a_queue"))
        asked = look("tick_with_full_queue")
        assert not asked, asked[:3]
        release.end_all()
        release.make()
        stale = [
            one for one in StalenessChecker(defs, instance, settings).stale() if "|" in str(one.partition_key)
        ]
        assert not stale, stale[:3]
        records._kept.clear()
        for name in ("first_tick_after_a_restart", "tick_everything_fresh"):
            asked = look(name, read_all=True)
        cells = [one for one in asked if one.partition_key is not None and NAME in one.partition_key]
        assert not cells, cells[:3]
        release.change_prior()
        look("tick_new_prior")
    return found


def _look(
    settings: PlatformSettings, defs: dg.Definitions, instance: dg.DagsterInstance, *, read_all: bool = False
) -> tuple[float, float, list[dg.RunRequest]]:
    """(seconds by the clock, of this process's CPU, what is asked for) of a look as the sensor takes it.

    On a busy machine the clock says little; without PostgreSQL's own work, the CPU's time is what an idle one takes.
    With `read_all` the look does not stop reading after `READ_AT_MOST_S`.
    """
    import paeplatform.sensors.reconcile as reconcile

    limit = reconcile.READ_AT_MOST_S
    began, busy = time.perf_counter(), time.process_time()
    reconcile.READ_AT_MOST_S = 3600.0 if read_all else limit
    try:
        asked, _ = next_requests(defs, instance, settings)
    finally:
        reconcile.READ_AT_MOST_S = limit
    return time.perf_counter() - began, time.process_time() - busy, asked


def _enqueue(defs: dg.Definitions, instance: dg.DagsterInstance, asked: list[dg.RunRequest]) -> float:
    """CPU seconds in which the instance records the runs, as under way: a queued one needs a code server's address.

    The first `RECORDED` in the way of a run's start, which is timed; the others, so that the queue is full, as they
    will be found there.
    """
    job = defs.resolve_implicit_global_asset_job_def()
    began = time.process_time()
    for one in asked[:RECORDED]:
        last = instance.create_run_for_job(
            job,
            status=dg.DagsterRunStatus.STARTING,
            tags={**one.tags, "dagster/partition": str(one.partition_key)},
            asset_selection=frozenset(one.asset_selection or ()),
        )
    seconds = time.process_time() - began
    for one in asked[RECORDED:]:
        tags = {**one.tags, "dagster/partition": str(one.partition_key)}
        instance.run_storage.add_run(last._replace(run_id=str(uuid.uuid4()), tags=tags))
    return seconds / max(1, len(asked[:RECORDED])) * len(asked)


class _Release:
    """A release in a home, in the state in which its runs would leave it."""

    def __init__(
        self, settings: PlatformSettings, defs: dg.Definitions, instance: dg.DagsterInstance
    ) -> None:
        self.settings, self.instance = settings, instance
        self.graph = defs.resolve_asset_graph()
        self.workspace = Workspace.from_settings(settings)
        self.cells = [f"hp5-{cell}" for cell in range(N_CELLS)]
        self.partitions = [cell_partition(NAME, cell) for cell in self.cells]
        self.versions: dict[tuple[str, str | None], str] = {}
        self._made: dict[str, dict[str, dg.MetadataValue]] = {}

    def deliver(self) -> None:
        """Delivered, ingested, cut into cells; of the rest of the graph everything is there."""
        self.instance.add_dynamic_partitions(RELEASE, [NAME])
        self.instance.add_dynamic_partitions(CELL, self.cells)
        listing = self.workspace.table("release_exposures", NAME)
        Path(str(listing.parent)).mkdir(parents=True)
        pl.DataFrame({"key": self.cells}).write_parquet(str(listing))
        self._touch(CELL_EXPOSURES)
        self._record(RAW_RELEASE, [NAME])
        for key in self.graph.toposorted_asset_keys:
            cut = self.graph.get(key).partitions_def
            if key in (RAW_RELEASE, CELL_EXPOSURES) or isinstance(cut, dg.MultiPartitionsDefinition):
                continue
            if cut is None:
                self._record(key, [None])
            elif isinstance(cut, dg.DynamicPartitionsDefinition):
                self._record(key, [NAME])
            else:
                self._record(key, list(cut.get_partition_keys()))
        self._record(CELL_EXPOSURES, self.partitions)

    def make(self) -> None:
        """All of its cells."""
        for key in self.graph.toposorted_asset_keys:
            cut = self.graph.get(key).partitions_def
            if isinstance(cut, dg.MultiPartitionsDefinition) and key != CELL_EXPOSURES:
                self._touch(key)
                self._record(key, self.partitions)

    def end_all(self) -> None:
        """Of the runs under way."""
        for one in self.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING])):
            self.instance.delete_run(one.run_id)

    def change_prior(self) -> None:
        """Another prior in force: all cells are to be reweighted."""
        self.versions["inference_prior", None] = "other"
        self._record(dg.AssetKey("inference_prior"), [None])

    def _touch(self, key: dg.AssetKey) -> None:
        folder = Path(str(self.workspace.tables(key.to_user_string(), NAME)))
        folder.mkdir(parents=True, exist_ok=True)
        for cell in self.cells:
            (folder / f"{cell}.parquet").touch()

    def _version(self, name: str, partition: str | None) -> str:
        return (
            self.versions.get((name, partition))
            or hashlib.sha256(f"{name}{partition}".encode()).hexdigest()[:16]
        )

    def _pictures(self, name: str) -> dict[str, dg.MetadataValue]:
        """As much text as previews and plots take in the event log of the demo."""
        if name in self._made:
            return self._made[name]
        size = PICTURES.get(name, 0)
        text = base64.b64encode(np.random.default_rng(1).bytes(size * 3 // 4)).decode()
        self._made[name] = {"preview": dg.MetadataValue.md(text)} if size else {}
        return self._made[name]

    def _follows_registry(self, key: dg.AssetKey) -> bool:
        return registered_model(self.graph.get(key).metadata.get(VERSION_FROM)) is not None

    def _record(self, key: dg.AssetKey, partitions: list[Any]) -> None:
        """What a run writes down of each partition, in bulk."""
        name, node = key.to_user_string(), self.graph.get(key)
        tags = {CODE_VERSION: str(node.code_version)}
        if key == PHOTOMETRY:
            tags[GATE_TAG] = PASSED
        if key == dg.AssetKey("inference_prior"):
            tags[PRIOR_TAG] = prior_source(self.settings.prior_file)
        if any(self._follows_registry(parent) for parent in node.parent_keys):
            tags[CHAMPION_TAG] = CHAMPION
        events = []
        for partition in partitions:
            content = CHAMPION if self._follows_registry(key) else self._version(name, partition)
            inputs = {}
            for parent in node.parent_keys:
                cut = self.graph.get(parent).partitions_def
                shared = partition if cut == node.partitions_def else (NAME if cut is not None else None)
                inputs[parent.to_user_string()] = self._version(parent.to_user_string(), shared)
            events.append(
                dg.AssetMaterialization(
                    key,
                    partition=partition,
                    tags={**tags, DATA_VERSION: content},
                    metadata={**made_from(content, inputs), **self._pictures(name)},
                )
            )
        _write(self.instance, events)


def _write(instance: dg.DagsterInstance, materialisations: list[dg.AssetMaterialization]) -> None:
    """Puts events into the event log in bulk: one by one, as runs report them, would take half an hour."""
    from dagster._core.events import DagsterEvent, DagsterEventType, StepMaterializationData
    from dagster._core.events.log import EventLogEntry
    from dagster._core.storage.event_log.schema import SqlEventLogStorageTable

    storage = instance.event_log_storage
    entries = [
        EventLogEntry(
            error_info=None,
            level="info",
            user_message="",
            run_id="",
            timestamp=time.time(),
            job_name="",
            dagster_event=DagsterEvent(
                DagsterEventType.ASSET_MATERIALIZATION.value,
                job_name="",
                event_specific_data=StepMaterializationData(one),
            ),
        )
        for one in materialisations
    ]
    instance.report_runless_asset_event(materialisations[0])  # makes the asset known
    for first in range(0, len(entries), CHUNK):
        rows = [storage._event_to_row(entry) for entry in entries[first : first + CHUNK]]  # type: ignore[attr-defined]
        with storage.index_connection() as live:  # type: ignore[attr-defined]
            live.execute(SqlEventLogStorageTable.insert(), rows)


def _storages() -> Iterable[tuple[str, Any]]:
    if "sqlite" in KINDS:
        yield "sqlite", _embedded()
    programs = _postgres_programs()
    if programs is not None and "postgres" in KINDS:
        yield "postgres", _postgres(programs)


@contextmanager
def _embedded() -> Iterator[Storage]:
    yield Storage()


def _postgres_programs() -> Path | None:
    return _servers().postgres_programs()


def _servers() -> Any:
    """The servers of the tests."""
    path = Path(__file__).parents[1] / "tests" / "storage" / "servers.py"
    spec = importlib.util.spec_from_file_location("storage_servers", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def _postgres(programs: Path) -> Iterator[Storage]:
    """Dagster in PostgreSQL; MLflow, which this does not measure, is never asked for more than whether it is empty."""
    with _servers().postgres_server(programs) as server:
        for name in ("BENCH_DAGSTER_DB", "BENCH_MLFLOW_DB"):
            os.environ[name] = server.address(server.new_database())
        yield Storage.model_validate(
            {
                "mode": "postgres",
                "dagster": {"database": {"env": "BENCH_DAGSTER_DB"}},
                "mlflow": {"database": {"env": "BENCH_MLFLOW_DB"}},
            }
        )
