"""A look of the reconciling sensor asks for no more than fits into the queue, and what failed takes no room."""

from pathlib import Path

import dagster as dg
import pytest

import paeplatform.sensors.reconcile as reconcile
from paeplatform.assets.recording.partitions import CELL, RELEASE, cell_partition, release_cells
from paeplatform.config import load_preset
from paeplatform.resources.settings import PlatformSettings
from paeplatform.sensors.plan import PlannedRun
from paeplatform.sensors.staleness import Target


def planned(cell: str) -> PlannedRun:
    key = dg.AssetKey("posteriors")
    return PlannedRun((Target(key, cell_partition("r1", cell), "missing"),), (key,), f"state-of-{cell}")


@pytest.fixture
def defs() -> dg.Definitions:
    @dg.asset(partitions_def=release_cells)
    def posteriors() -> None: ...

    return dg.Definitions(assets=[posteriors])


def test_the_queue_is_filled_up_and_what_was_tried_before_is_passed_over(
    defs: dg.Definitions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [f"hp6-{number}" for number in range(6)]
    settings = PlatformSettings(tmp_path, load_preset("demo"))
    monkeypatch.setattr(reconcile, "QUEUED_AT_MOST", 3)
    monkeypatch.setattr(reconcile, "plan_runs", lambda checker: [planned(cell) for cell in cells])
    job = defs.resolve_implicit_global_asset_job_def()

    def start(instance: dg.DagsterInstance, one: dg.RunRequest, status: dg.DagsterRunStatus) -> None:
        tags = {**one.tags, "dagster/run_key": str(one.run_key)}
        instance.create_run_for_job(job, status=status, tags=tags)

    def names(instance: dg.DagsterInstance) -> list[str]:
        asked, why = reconcile.next_requests(defs, instance, settings)
        assert asked or why
        return [one.tags[reconcile.TARGET_TAG] for one in asked]

    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(RELEASE, ["r1"])
        instance.add_dynamic_partitions(CELL, cells)
        first, _ = reconcile.next_requests(defs, instance, settings)
        assert [one.tags[reconcile.TARGET_TAG] for one in first] == ["r1|hp6-0", "r1|hp6-1", "r1|hp6-2"]
        start(instance, first[0], dg.DagsterRunStatus.FAILURE)
        start(instance, first[1], dg.DagsterRunStatus.STARTING)
        assert names(instance) == [
            "r1|hp6-2",
            "r1|hp6-3",
        ]  # one is under way; the failed one is not in the way
        for cell in cells[2:4]:
            start(instance, reconcile.request(planned(cell)), dg.DagsterRunStatus.STARTED)
        assert names(instance) == []  # full
