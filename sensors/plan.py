"""What would run, and why: stale targets cut into runs.

The stale assets of one cell go into one run, in which they share start-up and what the gate holds stops the rest; all
else is one run an asset, upstream first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from paeplatform.assets.recording.partitions import release_and_cell
from paeplatform.sensors.staleness import SETTINGS_CHANGED, StalenessChecker, Target


@dataclass(frozen=True)
class PlannedRun:
    """One run: what it makes, in order; all assets that it selects, with those made in the same step as a target; and
    the key of its state, as the same state is asked for once.
    """

    targets: tuple[Target, ...]
    asset_keys: tuple[dg.AssetKey, ...]
    key: str

    @property
    def partition_key(self) -> str | None:
        """Of all its targets."""
        return self.targets[0].partition_key

    @property
    def name(self) -> str:
        """What it is about: an asset, or a cell of a release."""
        if isinstance(self.partition_key, dg.MultiPartitionKey):
            return "|".join(release_and_cell(self.partition_key))
        return self.targets[0].label

    @property
    def reason(self) -> str:
        """Why its first target is stale."""
        return self.targets[0].reason


def plan_runs(checker: StalenessChecker) -> list[PlannedRun]:
    """The runs that can start now; what depends on them is planned when they are done."""
    stale = checker.stale()
    identities = {(target.asset_key, target.partition_key) for target in stale}
    by_cell: dict[str, list[Target]] = {}
    runs = []
    for target in stale:
        if isinstance(target.partition_key, dg.MultiPartitionKey):
            by_cell.setdefault(target.partition_key, []).append(target)
        elif not identities.intersection(checker.parents(target.asset_key, target.partition_key)):
            runs.append(_run([target], checker))
    for members in by_cell.values():
        chain = _chain(members, identities, checker)
        if chain:
            runs.append(_run(chain, checker))
    return runs


def _chain(
    members: Sequence[Target], identities: set[tuple[dg.AssetKey, str | None]], checker: StalenessChecker
) -> list[Target]:
    """The stale assets of a cell that one run can make: all they wait for is in it too.

    Behind a target whose settings or code changed the chain ends: with the same content as before, it leaves what
    depends on it as it is.
    """
    chain: list[Target] = []
    inside: set[tuple[dg.AssetKey, str | None]] = set()
    for target in members:
        waits_for = identities.intersection(checker.parents(target.asset_key, target.partition_key))
        ends = any(
            one.reason.startswith(SETTINGS_CHANGED)
            for one in chain
            if (one.asset_key, one.partition_key) in waits_for
        )
        if waits_for <= inside and not ends:
            chain.append(target)
            inside.add((target.asset_key, target.partition_key))
    return chain


def _run(targets: Sequence[Target], checker: StalenessChecker) -> PlannedRun:
    states = "".join(
        f"{target.label}{checker.state(target.asset_key, target.partition_key)}" for target in targets
    )
    keys = [key for target in targets for key in checker.made_with(target.asset_key)]
    return PlannedRun(
        tuple(targets), tuple(dict.fromkeys(keys)), hashlib.sha256(states.encode()).hexdigest()[:24]
    )
