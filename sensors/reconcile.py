"""The two sensors: one notices deliveries, the other asks for what is stale.

The reconciling sensor compares recorded versions instead of listening to events. So it finds whatever changed while
nothing was running or between two looks: a re-delivered cell, templates and settings, the prior file, a champion alias
that was moved by hand in the MLflow UI. Both are off by default; `paeplatform ui --automation` switches them on, as
does Dagster's UI under Automation.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import dagster as dg

from paeplatform.assets.recording.partitions import release_and_cell, release_cells, releases
from paeplatform.assets.recording.provenance import first_three
from paeplatform.resources.settings import PlatformSettings
from paeplatform.sensors.plan import PlannedRun, plan_runs
from paeplatform.sensors.records import NotAllRead
from paeplatform.sensors.releases import changed_deliveries
from paeplatform.sensors.slots import REASON_TAG
from paeplatform.sensors.staleness import StalenessChecker

TARGET_TAG = "paeplatform/target"
READ_AT_MOST_S = 30.0  # of a look that finds many records it does not know
ASKED_AT_MOST = 50  # runs that one look asks for
QUEUED_AT_MOST = 100  # runs that are queued or at work, beyond which none is asked for
_RUN_KEY = "dagster/run_key"
_ACTIVE = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


def release_sensor(settings: PlatformSettings) -> dg.SensorDefinition:
    """Watches the landing zone; its cursor holds nothing, as what was noticed is recorded with the asset."""

    @dg.sensor(
        name="release_sensor",
        asset_selection=dg.AssetSelection.assets("release_exposures", "unplaced_rows"),
        default_status=_status(settings),
        minimum_interval_seconds=settings.tick_seconds,
        description="Notices new and re-delivered releases in the landing zone and asks for their ingestion.",
    )
    def notice(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        changed = changed_deliveries(settings, context.instance)
        if not changed:
            return dg.SkipReason(f"no new delivery in {settings.landing}")
        return dg.SensorResult(
            dynamic_partitions_requests=[releases.build_add_request([one.release for one in changed])],
            asset_events=[one.event for one in changed],
            run_requests=[
                dg.RunRequest(
                    run_key=f"{one.release}-{one.version}",
                    partition_key=one.release,
                    tags={
                        TARGET_TAG: f"release_exposures[{one.release}]",
                        REASON_TAG: f"delivery {one.version}",
                    },
                )
                for one in changed
            ],
        )

    return notice


def reconcile_sensor(defs: dg.Definitions, settings: PlatformSettings) -> dg.SensorDefinition:
    """The sensor for a code location, whose assets it looks after."""

    @dg.sensor(
        name="reconcile_sensor",
        asset_selection=dg.AssetSelection.all(),
        default_status=_status(settings),
        minimum_interval_seconds=settings.tick_seconds,
        description="Requests runs for assets and partitions that are missing or stale, upstream ones first.",
    )
    def reconcile(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        requests, why = next_requests(defs, context.instance, settings)
        context.log.info(why)
        return dg.SensorResult(run_requests=requests) if requests else dg.SkipReason(why)

    return reconcile


def next_requests(
    defs: dg.Definitions, instance: dg.DagsterInstance, settings: PlatformSettings
) -> tuple[list[dg.RunRequest], str]:
    """(the runs to ask for in this look; what is held, and why there are no runs when there are none).

    No more than `ASKED_AT_MOST`, nor than fill the queue up to `QUEUED_AT_MOST`: recording a run takes up to a third of
    a second of CPU (`benchmarks/bench_sensors.py`), and an all-sky release at once would hold a look for an hour. The
    next looks ask for the rest.
    """
    # Before the state is read: a run that ends while it is read has recorded more than was seen, and is waited for.
    busy = active_targets(instance)
    room = min(ASKED_AT_MOST, QUEUED_AT_MOST - len(busy))
    if room <= 0:
        return [], f"{len(busy)} runs are queued or at work: no more are asked for now"
    try:
        checker = StalenessChecker(defs, instance, settings, time.monotonic() + READ_AT_MOST_S)
        runs = plan_runs(checker)
        held = _held(checker)
    except NotAllRead as error:
        return [], f"{error}; the next look goes on"
    due = [run for run in runs if run.name not in busy]
    if not due:
        fresh = "nothing else is stale" if held else "everything is fresh"
        return [], held + (fresh if not runs else f"{len(runs)} runs planned, all under way")
    requests = [request(run) for run in due]
    if (
        len(requests) > room
    ):  # what failed before and would not be asked for again must not take the room of others
        tried = {key for _, keys in instance.get_run_tags(tag_keys=[_RUN_KEY]) for key in keys}
        requests = [one for one in requests if one.run_key not in tried]
    tried_before = ", all of them tried before" if not requests else ""
    return requests[:room], f"{held}{len(due)} runs planned{tried_before}"


def _held(checker: StalenessChecker) -> str:
    """What the quality gate holds, in front of what else a tick says; empty when it holds nothing."""
    held = [part.line for part in checker.held()]
    return f"held: {first_three(held)}. " if held else ""


def _status(settings: PlatformSettings) -> dg.DefaultSensorStatus:
    return dg.DefaultSensorStatus.RUNNING if settings.automation else dg.DefaultSensorStatus.STOPPED


def request(run: PlannedRun) -> dg.RunRequest:
    """The same state is asked for once, so a failing step is not repeated for ever."""
    return dg.RunRequest(
        run_key=f"{run.name}-{run.key}",
        asset_selection=list(run.asset_keys),
        partition_key=run.partition_key,
        tags={TARGET_TAG: run.name, REASON_TAG: run.reason[:200]},
    )


def active_targets(instance: dg.DagsterInstance) -> set[str]:
    """What runs that are queued or at work are about, whoever asked for them."""
    found: set[str] = set()
    for run in instance.get_runs(dg.RunsFilter(statuses=_ACTIVE)):
        target = run.tags.get(TARGET_TAG)
        found |= {target} if target is not None else set(_about(run, instance))
    return found


def _about(run: dg.DagsterRun, instance: dg.DagsterInstance) -> Iterator[str]:
    """The same names for a run that the page or a command line asked for: cells, or assets with their partition."""
    assets = [key.to_user_string() for key in run.asset_selection or ()]
    start, end = (run.tags.get(f"dagster/asset_partition_range_{side}") for side in ("start", "end"))
    if start is not None and end is not None:
        between = dg.PartitionKeyRange(start, end)
        if "|" in start:
            keys = release_cells.get_partition_keys_in_range(between, dynamic_partitions_store=instance)
            yield from ("|".join(release_and_cell(key)) for key in keys)
        return
    partition = run.tags.get("dagster/partition")
    if partition is not None and "|" in partition:
        yield "|".join(release_and_cell(partition))
    else:
        yield from (name if partition is None else f"{name}[{partition}]" for name in assets)
