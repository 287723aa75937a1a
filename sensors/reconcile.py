"""The reconciling sensor: asks for what is stale, one layer at a time.

It compares recorded versions instead of listening to events, so it also finds what changed while nothing was
running, and a champion alias that was moved by hand in the MLflow UI. Off by default; switch it on in
Dagster's UI under Automation.
"""

from __future__ import annotations

import dagster as dg

from resources.settings import PlatformSettings
from sensors.staleness import StalenessChecker, Target, stale_targets

TARGET_TAG = "paeplatform/target"
INTERVAL_SECONDS = 60
_ACTIVE = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


def reconcile_sensor(defs: dg.Definitions, settings: PlatformSettings) -> dg.SensorDefinition:
    """The sensor for a code location.

    Args:
        defs: the assets it looks after.
        settings: home and preset.
    """

    @dg.sensor(
        name="reconcile_sensor",
        asset_selection=dg.AssetSelection.all(),
        default_status=dg.DefaultSensorStatus.STOPPED,
        minimum_interval_seconds=INTERVAL_SECONDS,
        description="Requests runs for assets and partitions that are missing or stale, upstream ones first.",
    )
    def reconcile(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        stale = stale_targets(defs, context.instance, settings)
        checker = StalenessChecker(defs, context.instance, settings)
        requests = [
            request(target, checker.state(target.asset_key, target.partition_key))
            for target in ready(stale, checker)
            if not _is_active(context.instance, target)
        ]
        if not requests:
            return dg.SkipReason(
                "everything is fresh" if not stale else f"{len(stale)} stale, waiting for runs"
            )
        return dg.SensorResult(run_requests=requests)

    return reconcile


def ready(stale: list[Target], checker: StalenessChecker) -> list[Target]:
    """The stale targets none of whose inputs is stale."""
    identities = {(target.asset_key, target.partition_key) for target in stale}
    return [
        target
        for target in stale
        if not identities.intersection(checker.parents(target.asset_key, target.partition_key))
    ]


def request(target: Target, state: str) -> dg.RunRequest:
    """A run of one target; the same state is asked for once, so a failing step is not repeated for ever."""
    return dg.RunRequest(
        run_key=f"{target.label}-{state}",
        asset_selection=[target.asset_key],
        partition_key=target.partition_key,
        tags={TARGET_TAG: target.label},
    )


def _is_active(instance: dg.DagsterInstance, target: Target) -> bool:
    return bool(instance.get_runs(dg.RunsFilter(statuses=_ACTIVE, tags={TARGET_TAG: target.label}), limit=1))
