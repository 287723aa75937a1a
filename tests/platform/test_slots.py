"""Slots of a pool: freed when the process that holds them is gone, and waited for aloud."""

import sqlite3
import threading
import time
from collections.abc import Iterator

import dagster as dg
import pytest

import paeplatform.sensors.slots as slots
from paeplatform.assets.recording.partitions import COMPUTE
from paeplatform.errors import RegistryError
from paeplatform.resources.instance import open_instance
from paeplatform.resources.registry import ModelRegistry
from paeplatform.resources.settings import PlatformSettings
from paeplatform.sensors.slots import LAUNCHER, LAUNCHER_TAG, end_dead_runs, free_slots, wait_for_pools

STARTED, FAILURE = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE


@dg.op
def work() -> None: ...


@dg.job
def job() -> None:
    work()


@pytest.fixture
def instance(settings: PlatformSettings) -> Iterator[dg.DagsterInstance]:
    """One in SQLite, as under every home: the one in memory has no pools. One slot in the pool."""
    with open_instance(settings) as opened:
        opened.event_log_storage.set_concurrency_slots(COMPUTE, 1)
        yield opened


def holder(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, *, ours: bool = True) -> str:
    """A run that holds the slot, as a process leaves it that is killed in its step."""
    tags = {LAUNCHER_TAG: LAUNCHER} if ours else {}
    run = instance.create_run_for_job(job, status=STARTED, tags=tags)
    claim = instance.event_log_storage.claim_concurrency_slot(COMPUTE, run.run_id, "work")
    assert claim.is_claimed
    if status == FAILURE:
        instance.report_run_failed(run)
    return run.run_id


def taken(instance: dg.DagsterInstance) -> set[str]:
    return {slot.run_id for slot in instance.event_log_storage.get_concurrency_info(COMPUTE).claimed_slots}


def test_the_slot_of_a_killed_run_is_freed_and_the_run_reported(
    instance: dg.DagsterInstance, settings: PlatformSettings
) -> None:
    run_id = holder(instance, STARTED)
    end_dead_runs(instance, ModelRegistry.from_settings(settings))
    assert taken(instance) == set()
    run = instance.get_run_by_id(run_id)
    assert run is not None and run.status == FAILURE


def test_a_kill_after_the_report_and_before_the_slot_was_freed_is_made_good(
    instance: dg.DagsterInstance, settings: PlatformSettings
) -> None:
    holder(instance, FAILURE)  # nothing calls this run unfinished any more
    end_dead_runs(instance, ModelRegistry.from_settings(settings))
    assert taken(instance) == set()


def test_a_locked_registry_keeps_no_slot_and_the_next_call_finishes_the_work(
    instance: dg.DagsterInstance, settings: PlatformSettings
) -> None:
    run_id = holder(instance, STARTED)
    registry = ModelRegistry.from_settings(settings)
    registry.client()
    locker = sqlite3.connect(settings.mlruns / "mlflow.db")
    locker.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(RegistryError, match="MLflow's database is locked by another process"):
            end_dead_runs(instance, registry)
    finally:
        locker.close()
    assert taken(instance) == set()
    unfinished = instance.get_run_by_id(run_id)
    assert unfinished is not None and unfinished.status == STARTED  # so that the next call sees it again
    end_dead_runs(instance, registry)
    ended = instance.get_run_by_id(run_id)
    assert ended is not None and ended.status == FAILURE


def test_runs_of_others_keep_their_slots_while_they_work_and_shortly_after(
    instance: dg.DagsterInstance, settings: PlatformSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = holder(instance, STARTED, ours=False)
    end_dead_runs(instance, ModelRegistry.from_settings(settings))
    assert taken(instance) == {run_id}
    run = instance.get_run_by_id(run_id)
    assert run is not None
    instance.report_run_failed(run)
    assert free_slots(instance) == set()  # its last step may still be ending
    monkeypatch.setattr(slots, "GRACE_S", 0.0)
    assert free_slots(instance) == {run_id}


def test_a_wait_says_what_it_waits_for_and_ends_with_it(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "POLL_S", 0.05)
    run_id = holder(instance, STARTED, ours=False)
    lines: list[str] = []
    waiter = threading.Thread(target=wait_for_pools, args=(instance, [COMPUTE], lines.append))
    waiter.start()
    deadline = time.monotonic() + 30.0
    while not lines and time.monotonic() < deadline:
        time.sleep(0.02)
    assert waiter.is_alive()
    instance.event_log_storage.free_concurrency_slots_for_run(run_id)
    waiter.join(30.0)
    assert not waiter.is_alive()
    (line,) = lines
    assert line.startswith(f"waiting for a slot of pool {COMPUTE}") and run_id[:8] in line
