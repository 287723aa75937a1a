"""Catches up: makes what is missing or stale in one process, which shares imports and compiled programs."""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import dagster as dg

from paeplatform.assets.models.training import MODELS
from paeplatform.assets.promotion.gated import GATED
from paeplatform.assets.recording.provenance import faults_of_record, latest_records
from paeplatform.assets.release.deliveries import RAW_RELEASE
from paeplatform.assets.release.photometry import PHOTOMETRY
from paeplatform.assets.release.quality import Held
from paeplatform.errors import InputError
from paeplatform.resources.instance import open_instance
from paeplatform.resources.registry import ModelRegistry
from paeplatform.resources.settings import PlatformSettings
from paeplatform.sensors.releases import notice_deliveries
from paeplatform.sensors.slots import LAUNCHER, LAUNCHER_TAG, REASON_TAG, end_dead_runs, wait_for_pools
from paeplatform.sensors.staleness import INGESTED, HeldPart, StalenessChecker, Target

if TYPE_CHECKING:
    from rich.console import Console

_log = logging.getLogger(__name__)
MAX_RETRIES = (
    "dagster/max_retries"  # by the daemon, of a run whose process died: `end_dead_runs` sees to ours
)
_RELEASES = "release"  # the group of deliveries and what they are split into
_CHECK_FAILED = "DagsterAssetCheckFailedError"  # not among what Dagster exports
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}  # the event log has it all


@dataclass
class RunSummary:
    """What a catch-up did.

    Attributes:
        made: targets with the seconds each took.
        kept: targets that were listed as stale and turned out fresh, as their inputs came out unchanged.
        failed: targets with the first line of what went wrong.
        held: releases and cells that the quality gate holds, with the rules they broke.
        skipped: targets downstream of a failed one.
        waiting: deliveries and cells that the gate held before already; they wait for a new delivery or a backfill.
        seconds: wall time in all.
    """

    made: list[tuple[Target, float]] = field(default_factory=list)
    kept: list[Target] = field(default_factory=list)
    failed: list[tuple[Target, str]] = field(default_factory=list)
    held: list[tuple[Target, str]] = field(default_factory=list)
    skipped: list[Target] = field(default_factory=list)
    waiting: list[HeldPart] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing failed and nothing was held in this run."""
        return not (self.failed or self.held)


def materialize_stale(
    settings: PlatformSettings,
    *,
    defs: dg.Definitions,
    select: Sequence[str] | None = None,
    training: bool = True,
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
        training: whether models may be trained, evaluated and promoted; without it the champions that there are
            infer, and what is made of models as they are trained is left out.
        progress: print a line a target.
        console: where to; None makes one on stdout.
        instance: None opens the one under the home.

    Returns:
        What was made, kept, failed and skipped.

    Raises:
        InputError: an unknown asset, one that needs a training where none may be, another catch-up at work in this
            home, no champion where one is needed, or input that a step found at fault; what was finished before stays.
    """
    started = time.monotonic()
    chosen = _selection(defs, select, training)
    with home_lock(settings), home_instance(settings, instance) as live:
        end_dead_runs(live, ModelRegistry.from_settings(settings))
        work = _CatchUp(settings, defs, live, console, progress, training=training)
        while work.one_round(chosen):
            pass
        work.note_waiting()
    work.summary.seconds = time.monotonic() - started
    return work.summary


class _CatchUp:
    """Rounds of work: a delivery that a round made is noticed before the next, and its cells come to light in one."""

    def __init__(
        self,
        settings: PlatformSettings,
        defs: dg.Definitions,
        instance: dg.DagsterInstance,
        console: Console | None,
        progress: bool,
        *,
        training: bool,
    ) -> None:
        self.summary = RunSummary()
        self._training = training
        self._settings, self._instance, self._defs = settings, instance, defs
        self._checker = StalenessChecker(defs, instance, settings)
        self._console, self._progress = console, progress
        self._broken: set[tuple[dg.AssetKey, str | None]] = set()
        self._first = True

    def one_round(self, chosen: set[dg.AssetKey]) -> bool:
        """Makes what is stale now; whether another look is worth it."""
        if chosen & {RAW_RELEASE, INGESTED}:
            notice_deliveries(self._settings, self._instance)
        self._checker.forget()
        targets = [
            target
            for target in self._checker.stale()
            if target.asset_key in chosen and (target.asset_key, target.partition_key) not in self._broken
        ]
        if self._first:
            _check_champion(targets, self._settings, self._training)
            self._first = False
        lines = _Lines(self._console, len(targets), shown=self._progress)
        before = len(self.summary.made)
        for target in targets:
            self._one(target, lines)
        return len(self.summary.made) > before

    def note_waiting(self) -> None:
        """Adds to the summary what is held since before this run."""
        self._checker.forget()
        now = {target.label for target, _ in self.summary.held}
        self.summary.waiting = [part for part in self._checker.held() if part.label not in now]

    def _one(self, target: Target, lines: _Lines) -> None:
        identity = target.asset_key, target.partition_key
        self._checker.forget()
        if self._broken.intersection(self._checker.parents(*identity)):
            self._broken.add(identity)
            self.summary.skipped.append(target)
            lines.say(target, "skipped", "upstream failed or held")
            return
        if self._checker.reason(*identity) is None:  # its inputs came out as they were
            self.summary.kept.append(target)
            lines.say(target, "kept", "inputs unchanged")
            return
        together = self._checker.made_with(target.asset_key)
        wait_for_pools(self._instance, pools_of(self._defs, together), lines.note)
        began = time.monotonic()
        fault = materialize(self._defs, self._instance, together, target.partition_key, target.reason)
        took = time.monotonic() - began
        if fault is None:
            self.summary.made.append((target, took))
            lines.say(target, f"{took:.1f} s", target.reason)
            return
        self._broken.add(identity)
        (self.summary.held if fault.held else self.summary.failed).append((target, fault.line))
        lines.say(target, "HELD" if fault.held else "FAILED", fault.line)


def pools_of(defs: dg.Definitions, keys: Sequence[dg.AssetKey]) -> set[str]:
    """The concurrency pools of the steps that make some assets."""
    graph = defs.resolve_asset_graph()
    return {pool for key in keys for pool in graph.get(key).pools or ()}


@dataclass(frozen=True)
class RunFault:
    """Why a run did not make what it was for.

    Attributes:
        line: the first line of what went wrong.
        held: whether the quality gate holds the partition, so that another try needs other data or another rule.
    """

    line: str
    held: bool = False


def materialize(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    keys: Sequence[dg.AssetKey],
    partition_key: str | None,
    reason: str,
    tags: Mapping[str, str] | None = None,
) -> RunFault | None:
    """One run in this process; returns why it failed, None when it did not.

    Raises:
        InputError: a step found its input at fault.
    """
    try:
        defs.resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=list(keys),
            partition_key=partition_key,
            instance=instance,
            run_config=_QUIET,
            tags={LAUNCHER_TAG: LAUNCHER, REASON_TAG: reason[:200], MAX_RETRIES: "0", **(tags or {})},
        )
    except Exception as error:
        if type(error).__name__ == _CHECK_FAILED:
            return RunFault(_gate(instance, partition_key), held=True)
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, InputError):
                raise cause from None
            if isinstance(cause, Held):
                return RunFault(_first_line(str(cause.description), cause), held=True)
            cause = cause.__cause__
        tried = getattr(error, "user_code_process_error_infos", None)  # of a step that retried in vain
        message = tried[0].cause.message if tried and tried[0].cause else str(error)
        return RunFault(_first_line(message, error))
    return None


def _first_line(message: str, error: BaseException) -> str:
    return (message.strip() or type(error).__name__).splitlines()[0]


def _gate(instance: dg.DagsterInstance, partition_key: str | None) -> str:
    """What the gate wrote down about a cell."""
    record = latest_records(instance, PHOTOMETRY, [str(partition_key)]).get(str(partition_key))
    return "; ".join(faults_of_record(record)[:3]) or "a blocking check failed"


def _selection(defs: dg.Definitions, select: Sequence[str] | None, training: bool) -> set[dg.AssetKey]:
    """The assets selected, and what they need; without trainings this ends at the champions."""
    graph = defs.resolve_asset_graph()
    left_out = set() if training else _made_by_training(defs)
    if select is None:
        keys = set(graph.toposorted_asset_keys) if training else _made_without_training(defs) - left_out
    else:
        keys = {dg.AssetKey.from_user_string(name) for name in select}
    unknown = sorted(key.to_user_string() for key in keys if not graph.has(key))
    if unknown:
        made = (key for key in graph.toposorted_asset_keys if graph.get(key).is_executable)
        known = ", ".join(key.to_user_string() for key in made)
        raise InputError(f"unknown asset {', '.join(unknown)}: give some of {known}")
    refused = sorted(key.to_user_string() for key in keys & left_out)
    if refused:
        raise InputError(
            f"asset {', '.join(refused)} is made of a model in training: it needs a run with trainings"
        )
    chosen: set[dg.AssetKey] = set()
    ahead = list(keys)
    while ahead:
        key = ahead.pop()
        if key not in chosen:
            chosen.add(key)
            ahead += graph.get(key).parent_keys - left_out
    return chosen


def _champion_keys() -> set[dg.AssetKey]:
    return {dg.AssetKey(kind.champion_asset) for kind in GATED.values()}


def _made_by_training(defs: dg.Definitions) -> set[dg.AssetKey]:
    """The models, and what is made of models as they are trained: evaluations, verdicts, tables of validation.

    What is made of a champion is not among them: the registry says which version that is.
    """
    graph, champions = defs.resolve_asset_graph(), _champion_keys()
    found: set[dg.AssetKey] = set()
    for key in graph.toposorted_asset_keys:
        node = graph.get(key)
        if node.group_name == MODELS or (key not in champions and node.parent_keys & found):
            found.add(key)
    return found


def _made_without_training(defs: dg.Definitions) -> set[dg.AssetKey]:
    """The releases, and what is made of the champions."""
    graph, champions = defs.resolve_asset_graph(), _champion_keys()
    return {
        key
        for key in graph.toposorted_asset_keys
        if graph.get(key).group_name == _RELEASES
        or graph.get_ancestor_asset_keys(key, include_self=True) & champions
    }


def _check_champion(targets: Sequence[Target], settings: PlatformSettings, training: bool) -> None:
    """A missing champion is said before hours of work, unless a model is about to be trained or judged."""
    registry = ModelRegistry.from_settings(settings)
    keys = {target.asset_key for target in targets}
    for kind in GATED.values():
        waits = dg.AssetKey(kind.champion_asset) in keys and dg.AssetKey(kind.promotion_asset) not in keys
        if waits and (registry.versions(kind.name) or not training):
            registry.by_alias(kind.name)


def home_instance(
    settings: PlatformSettings, instance: dg.DagsterInstance | None
) -> AbstractContextManager[dg.DagsterInstance]:
    """The instance given, which stays open, or the one under the home."""
    return open_instance(settings) if instance is None else nullcontext(instance)


@contextmanager
def home_lock(settings: PlatformSettings) -> Iterator[None]:
    """Holds the home's lock.

    Raises:
        InputError: another process holds it.
    """
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


class _Lines:
    """One line a target: position, name, time, why."""

    def __init__(self, console: Console | None, n_targets: int, *, shown: bool) -> None:
        from rich.console import Console as RichConsole

        self._console, self._shown = console or RichConsole(), shown
        self._total, self._position = n_targets, 0

    def say(self, target: Target, outcome: str, why: str) -> None:
        self._position += 1
        count = f"[{self._position:>{len(str(self._total))}}/{self._total}]"
        if self._shown:
            self.note(f"{count} {target.label:<44} {outcome:>9}  {why}")

    def note(self, line: str) -> None:
        """A line between two targets; where none is shown, a warning in the log."""
        if self._shown:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            _log.warning(line)
