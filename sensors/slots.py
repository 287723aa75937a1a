"""Slots of concurrency pools: freed when the run that holds them is gone, and waited for aloud.

Dagster frees the slots of a step when the step ends. A process that is killed leaves them taken, and where no daemon
runs, as in `paeplatform run`, nobody else frees them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import dagster as dg

from paeplatform.resources.failures import busy_line, is_busy
from paeplatform.resources.registry import ModelRegistry

LAUNCHER_TAG = "paeplatform/launcher"  # marks the runs that a command of ours makes in its own process
LAUNCHER = "materialize_stale"
REASON_TAG = "paeplatform/reason"  # of a run: why it was asked for
# A run of the daemon or of Dagster's page may still be ending its last step; Dagster waits as long.
GRACE_S = 60.0
POLL_S, SAY_EVERY_S = 1.0, 60.0
_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_ENDED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


def end_dead_runs(instance: dg.DagsterInstance, registry: ModelRegistry) -> None:
    """Ends the runs of a `paeplatform run` or `backfill` that was killed; the caller holds the home's lock.

    The order matters, since this process may be killed or stopped at any line: slots are freed first, and a run is
    reported as failed last. Until then it counts as unfinished, and the next call does all of this again.

    Raises:
        RegistryError: MLflow's database is locked; the slots are free nevertheless.
    """
    dead = instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED, tags={LAUNCHER_TAG: LAUNCHER}))
    free_slots(instance, {run.run_id for run in dead})
    for run in dead:
        try:
            registry.close_runs(run.run_id)
        except Exception as error:
            if is_busy(error):
                raise busy_line(error) from None
            raise
        instance.report_run_failed(run, "the process that made this run is gone")


def free_slots(instance: dg.DagsterInstance, dead: Iterable[str] = ()) -> set[str]:
    """Frees the slots of runs that ended, were deleted, or are `dead`: unfinished, with their process gone.

    Returns:
        The ids of the runs whose slots were freed.
    """
    events = instance.event_log_storage
    if not events.supports_global_concurrency_limits:
        return set()
    holders = set(events.get_concurrency_run_ids())
    for pool in events.get_concurrency_keys():
        holders |= {slot.run_id for slot in events.get_concurrency_info(pool).claimed_slots}
    freed = {run_id for run_id in holders if run_id in set(dead) or _is_over(instance, run_id)}
    for run_id in freed:
        events.free_concurrency_slots_for_run(run_id)
    return freed


def wait_for_pools(instance: dg.DagsterInstance, pools: Iterable[str], say: Callable[[str], None]) -> None:
    """Returns when each pool has a free slot; says what holds it at once, and again every minute.

    Waiting here rather than in the run costs no CPU and is visible. The slot may be lost to another run in between;
    then Dagster queues the step as usual.
    """
    events = instance.event_log_storage
    if not events.supports_global_concurrency_limits:
        return
    began, told = time.monotonic(), None
    for pool in pools:
        while True:
            info = events.get_concurrency_info(pool)
            if not info.claimed_slots or (info.limit is not None and len(info.claimed_slots) < info.limit):
                break
            free_slots(instance)
            now = time.monotonic()
            if told is None or now - told >= SAY_EVERY_S:
                holders = ", ".join(_described(instance, slot.run_id) for slot in info.claimed_slots)
                say(f"waiting for a slot of pool {pool}, {now - began:.0f} s so far: held by {holders}")
                told = now
            time.sleep(POLL_S)


def _is_over(instance: dg.DagsterInstance, run_id: str) -> bool:
    record = instance.get_run_record_by_id(run_id)
    if record is None:
        return True
    if record.dagster_run.status not in _ENDED:
        return False
    ours = record.dagster_run.tags.get(LAUNCHER_TAG) == LAUNCHER
    return ours or record.end_time is None or time.time() - record.end_time > GRACE_S


def _described(instance: dg.DagsterInstance, run_id: str) -> str:
    run = instance.get_run_by_id(run_id)
    if run is None:
        return f"run {run_id[:8]}"
    assets = ", ".join(sorted(key.to_user_string() for key in run.asset_selection or ())[:3])
    partition = run.tags.get("dagster/partition")
    what = f"{assets}[{partition}]" if partition else assets
    return f"run {run_id[:8]} ({what or run.job_name}, {run.status.value.lower()})"
