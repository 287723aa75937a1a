"""Cells of a release made again, in one process that shares imports and compiled programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import dagster as dg

from paeplatform.assets.recording.partitions import cell_partition
from paeplatform.assets.recording.provenance import is_held, latest_of_cells
from paeplatform.assets.release.deliveries import CELL_EXPOSURES, delivered_cells
from paeplatform.assets.release.photometry import PHOTOMETRY
from paeplatform.errors import InputError
from paeplatform.names import check_release_name
from paeplatform.resources.registry import ModelRegistry
from paeplatform.resources.settings import PlatformSettings
from paeplatform.resources.workspace import Workspace
from paeplatform.sensors.releases import notice_deliveries
from paeplatform.sensors.run import home_instance, home_lock, materialize, pools_of
from paeplatform.sensors.slots import end_dead_runs, wait_for_pools
from paeplatform.sensors.staleness import StalenessChecker

BACKFILL_TAG = "paeplatform/backfill"
_CATALOG = dg.AssetKey("redshift_catalog")


@dataclass
class BackfillSummary:
    """What a backfill did, by cell key.

    Attributes:
        made: seconds each cell took.
        held: rules that a cell broke.
        failed: first line of what went wrong.
        seconds: wall time in all.
    """

    made: dict[str, float] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether every cell was made."""
        return not (self.held or self.failed)


def backfill(
    settings: PlatformSettings,
    release: str,
    *,
    defs: dg.Definitions,
    cells: Sequence[str] | None = None,
    only_failed: bool = False,
    instance: dg.DagsterInstance | None = None,
    on_cell: Callable[[str, str, str], object] = lambda cell, outcome, why: None,
) -> BackfillSummary:
    """Makes photometry, posteriors, template fits and catalogue of cells, whether stale or not; a run a cell.

    Args:
        settings: home and preset.
        release: delivered and, or else it is now, ingested.
        defs: the code location of these settings.
        cells: keys; None takes all of the release.
        only_failed: only cells that are held, or lack an up-to-date result.
        instance: None opens the one under the home.
        on_cell: called after each with its key, "made", "held" or "failed", and why; and with "waits" while another
            run holds the pool that the cell needs.

    Raises:
        InputError: no such release or cell, another catch-up or backfill at work in this home, or input that a step
            found at fault; finished cells stay.
    """
    began, summary = time.monotonic(), BackfillSummary()
    with home_lock(settings), home_instance(settings, instance) as live:
        end_dead_runs(live, ModelRegistry.from_settings(settings))
        notice_deliveries(settings, live)
        checker = StalenessChecker(defs, live, settings)
        _ingest(checker, defs, live, release)
        chosen = _cells(settings, live, checker, release, cells, only_failed)
        keys = _assets_of_a_cell(checker, defs)
        pools = pools_of(defs, keys)
        for cell in chosen:
            wait_for_pools(live, pools, lambda line, cell=cell: on_cell(cell, "waits", line))
            start = time.monotonic()
            fault = materialize(
                defs,
                live,
                keys,
                cell_partition(release, cell),
                f"backfill of {release}",
                {BACKFILL_TAG: release},
            )
            if fault is None:
                summary.made[cell] = time.monotonic() - start
                on_cell(cell, "made", f"{summary.made[cell]:.1f} s")
            else:
                (summary.held if fault.held else summary.failed)[cell] = fault.line
                on_cell(cell, "held" if fault.held else "failed", fault.line)
    summary.seconds = time.monotonic() - began
    return summary


def _ingest(
    checker: StalenessChecker, defs: dg.Definitions, instance: dg.DagsterInstance, release: str
) -> None:
    """Brings the release's ingestion up to date.

    Raises:
        InputError: no such release, or the gate holds all of it.
    """
    check_release_name(release)
    if release not in checker.releases():
        known = ", ".join(checker.releases()) or "none"
        raise InputError(f"no release {release!r}: delivered so far are {known}")
    ingested = dg.AssetKey("release_exposures")
    reason = checker.reason(ingested, release) or ("held before" if checker.delivery_held(release) else None)
    if reason is not None:
        fault = materialize(defs, instance, checker.made_with(ingested), release, reason)
        if fault is not None:
            raise InputError(f"release {release} cannot be ingested: {fault.line}")
        checker.forget()


def _cells(
    settings: PlatformSettings,
    instance: dg.DagsterInstance,
    checker: StalenessChecker,
    release: str,
    cells: Sequence[str] | None,
    only_failed: bool,
) -> list[str]:
    there = delivered_cells(Workspace.from_settings(settings), release)
    unknown = sorted(set(cells or ()) - set(there))
    if unknown:
        raise InputError(f"release {release} has no cell {', '.join(unknown)}: there are {', '.join(there)}")
    chosen = [cell for cell in there if cells is None or cell in cells]
    if not only_failed:
        return chosen
    stale = {target.partition_key for target in checker.stale()}
    gate = latest_of_cells(instance, PHOTOMETRY, release, chosen)
    return [cell for cell in chosen if cell_partition(release, cell) in stale or is_held(gate.get(cell))]


def _assets_of_a_cell(checker: StalenessChecker, defs: dg.Definitions) -> list[dg.AssetKey]:
    graph = defs.resolve_asset_graph()
    cut_alike = graph.get(_CATALOG).partitions_def
    return [
        key
        for key in graph.toposorted_asset_keys
        if graph.get(key).partitions_def == cut_alike and key != CELL_EXPOSURES
    ]
