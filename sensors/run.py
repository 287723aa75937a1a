"""Catches up: makes what is missing or stale in one process, which shares imports and compiled programs."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import dagster as dg

from assets.partitions import RELEASE
from paeplatform.errors import InputError
from resources.instance import open_instance
from resources.registry import PAE, ModelRegistry
from resources.settings import PlatformSettings
from sensors.staleness import CHAMPION_ASSET, StalenessChecker, Target, stale_targets

if TYPE_CHECKING:
    from rich.console import Console

LAUNCHER_TAG = "paeplatform/launcher"  # marks the runs of this module
_LAUNCHER = "materialize_stale"
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}  # the event log has it all


@dataclass
class RunSummary:
    """What a catch-up did.

    Attributes:
        made: targets with the seconds each took.
        kept: targets that were listed as stale and turned out fresh, as their inputs came out unchanged.
        failed: targets with the first line of what went wrong.
        skipped: targets downstream of a failed one.
        seconds: wall time in all.
    """

    made: list[tuple[Target, float]] = field(default_factory=list)
    kept: list[Target] = field(default_factory=list)
    failed: list[tuple[Target, str]] = field(default_factory=list)
    skipped: list[Target] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failed


def materialize_stale(
    settings: PlatformSettings,
    *,
    defs: dg.Definitions,
    select: Sequence[str] | None = None,
    progress: bool = True,
    console: Console | None = None,
    instance: dg.DagsterInstance | None = None,
) -> RunSummary:
    """Materialises what is missing or stale, upstream first, one line on the console for each.

    A failed target stops what lies downstream of it and nothing else, so that a failed cell is made good by
    calling this again without repeating the finished ones.

    Args:
        settings: home and preset.
        defs: the code location of these settings.
        select: asset names to bring up to date, with what they need upstream; None takes all.
        progress: print a line a target.
        console: where to; None makes one on stdout.
        instance: None opens the one under the home.

    Returns:
        What was made, kept, failed and skipped.

    Raises:
        InputError: an unknown asset, another catch-up at work in this home, no champion where one is needed,
            or input that a step found at fault; what was finished before stays.
    """
    started = time.monotonic()
    chosen = _selection(defs, select)
    with _only_one(settings), _opened(settings, instance) as live:
        _bury_orphans(live, ModelRegistry.from_settings(settings))
        live.add_dynamic_partitions(RELEASE, [settings.preset.release.name])
        targets = [target for target in stale_targets(defs, live, settings) if target.asset_key in chosen]
        _check_champion(targets, settings)
        summary = _work_through(
            targets, defs, live, settings, _Lines(console, len(targets)) if progress else None
        )
    summary.seconds = time.monotonic() - started
    return summary


def _work_through(
    targets: Sequence[Target],
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    settings: PlatformSettings,
    lines: _Lines | None,
) -> RunSummary:
    summary, broken = RunSummary(), set()
    checker = StalenessChecker(defs, instance, settings)
    for target in targets:
        identity = target.asset_key, target.partition_key
        if broken.intersection(checker.parents(*identity)):
            broken.add(identity)
            summary.skipped.append(target)
            _say(lines, target, "skipped", "upstream failed")
        elif checker.reason(*identity) is None:  # its inputs came out as they were
            summary.kept.append(target)
            _say(lines, target, "kept", "inputs unchanged")
        else:
            began = time.monotonic()
            fault = _materialize(target, defs, instance)
            took = time.monotonic() - began
            if fault is None:
                summary.made.append((target, took))
                _say(lines, target, f"{took:.1f} s", target.reason)
            else:
                broken.add(identity)
                summary.failed.append((target, fault))
                _say(lines, target, "FAILED", fault)
    return summary


def _materialize(target: Target, defs: dg.Definitions, instance: dg.DagsterInstance) -> str | None:
    """Runs one target; returns the first line of a failure, and raises the `InputError` behind one."""
    try:
        dg.materialize(
            list(defs.assets or ()),  # type: ignore[arg-type]
            selection=dg.AssetSelection.assets(target.asset_key),
            partition_key=target.partition_key,
            instance=instance,
            resources=defs.resources,
            run_config=_QUIET,
            tags={LAUNCHER_TAG: _LAUNCHER, "paeplatform/reason": target.reason[:200]},
        )
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, InputError):
                raise cause from None
            cause = cause.__cause__
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return None


def _selection(defs: dg.Definitions, select: Sequence[str] | None) -> set[dg.AssetKey]:
    graph = defs.resolve_asset_graph()
    if select is None:
        return set(graph.toposorted_asset_keys)
    keys = {dg.AssetKey.from_user_string(name) for name in select}
    unknown = sorted(key.to_user_string() for key in keys if not graph.has(key))
    if unknown:
        known = ", ".join(key.to_user_string() for key in graph.toposorted_asset_keys)
        raise InputError(f"unknown asset {', '.join(unknown)}: give some of {known}")
    chosen: set[dg.AssetKey] = set()
    while keys:
        key = keys.pop()
        chosen.add(key)
        keys |= graph.get(key).parent_keys - chosen
    return chosen


def _check_champion(targets: Sequence[Target], settings: PlatformSettings) -> None:
    """A missing champion is said before hours of work; with no bundle yet, the first will become it."""
    registry = ModelRegistry.from_settings(settings)
    if any(target.asset_key == CHAMPION_ASSET for target in targets) and registry.versions(PAE):
        registry.by_alias(PAE)


@contextmanager
def _opened(settings: PlatformSettings, instance: dg.DagsterInstance | None) -> Iterator[dg.DagsterInstance]:
    if instance is not None:
        yield instance
        return
    with open_instance(settings) as opened:
        yield opened


@contextmanager
def _only_one(settings: PlatformSettings) -> Iterator[None]:
    settings.dagster_home.mkdir(parents=True, exist_ok=True)
    path = settings.dagster_home / "materialize.lock"
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"another `paeplatform run` is at work in {settings.home} ({path} is locked)"
            ) from error
        yield


def _bury_orphans(instance: dg.DagsterInstance, registry: ModelRegistry) -> None:
    """Ends the runs of a catch-up that was killed: holding the lock means that none is alive."""
    unfinished = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.NOT_STARTED]
    for run in instance.get_runs(dg.RunsFilter(statuses=unfinished, tags={LAUNCHER_TAG: _LAUNCHER})):
        instance.report_run_failed(run, "the process that made this run is gone")
        registry.close_runs(run.run_id)
        if instance.event_log_storage.supports_global_concurrency_limits:
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


class _Lines:
    """One line a target: position, name, time, why."""

    def __init__(self, console: Console | None, n_targets: int) -> None:
        from rich.console import Console as RichConsole

        self._console = console or RichConsole()
        self._total, self._position = n_targets, 0

    def say(self, target: Target, outcome: str, why: str) -> None:
        self._position += 1
        count = f"[{self._position:>{len(str(self._total))}}/{self._total}]"
        text = f"{count} {target.label:<44} {outcome:>9}  {why}"
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _say(lines: _Lines | None, target: Target, outcome: str, why: str) -> None:
    if lines is not None:
        lines.say(target, outcome, why)
