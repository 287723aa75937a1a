"""Which assets and partitions are out of date, and why.

The rule, per partition: it was never made, its file is gone, its settings or code changed
(`dagster/code_version`), or an input has other content than the one it was made from (recorded by Dagster or by the
asset, `assets.recording.provenance`). The champion and the prior are inputs like any others, except that the registry
and the prior file, not the assets, have the last word on them. What the quality gate holds is not wanted downstream.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dagster as dg

from paeplatform.assets.inference.estimation import CHAMPION_TAG
from paeplatform.assets.inference.prior import PRIOR_TAG, prior_source
from paeplatform.assets.recording.partitions import RELEASE, cell_partition, release_and_cell
from paeplatform.assets.recording.provenance import (
    CODE_VERSION,
    DATA_VERSION,
    NOT_COMPARED,
    PRIOR_FILE,
    STOOD_FOR_BY,
    VERSION_FROM,
    content_of_record,
    faults_of_record,
    first_three,
    hash_of_versions,
    input_of_record,
    is_held,
    registered_model,
)
from paeplatform.assets.release.deliveries import (
    CELL_EXPOSURES,
    RAW_RELEASE,
    delivered_cells,
    held_delivery,
)
from paeplatform.assets.release.photometry import PHOTOMETRY
from paeplatform.names import is_name
from paeplatform.resources.failures import busy_line, is_busy
from paeplatform.resources.objects import is_remote, names_in, store_path
from paeplatform.resources.registry import ModelRegistry
from paeplatform.resources.relocation import own_path
from paeplatform.resources.settings import PlatformSettings
from paeplatform.resources.workspace import Workspace
from paeplatform.sensors.records import PATHS, latest_slim_records

NO_CHAMPION = "none"
SETTINGS_CHANGED = "settings or code changed"
INGESTED = dg.AssetKey("release_exposures")


@dataclass(frozen=True)
class Target:
    """One asset partition that has to be made (again)."""

    asset_key: dg.AssetKey
    partition_key: str | None
    reason: str

    @property
    def label(self) -> str:
        """As shown to people: pae_posteriors[mock-r1|hp6-27256]."""
        name = self.asset_key.to_user_string()
        if isinstance(self.partition_key, dg.MultiPartitionKey):
            return f"{name}[{'|'.join(release_and_cell(self.partition_key))}]"
        return name if self.partition_key is None else f"{name}[{self.partition_key}]"


@dataclass(frozen=True)
class HeldPart:
    """A delivery or a cell that the quality gate holds.

    Attributes:
        label: of the asset partition, as shown to people.
        faults: one sentence each, with rule, observed and expected value.
    """

    label: str
    faults: tuple[str, ...]

    @property
    def line(self) -> str:
        """The label and the first faults."""
        return f"{self.label}: {first_three(self.faults) or 'see `paeplatform quality`'}"


def stale_targets(
    defs: dg.Definitions, instance: dg.DagsterInstance, settings: PlatformSettings
) -> list[Target]:
    """Everything that is missing or stale, in an order in which it can be made.

    What lies downstream of a stale target is listed too, though it may turn out to be fresh if the target
    comes out with the same content as before. The cells of a delivery are known once it is ingested. Releases are those
    whose delivery was noticed; metrics and report need the truth, and are wanted of the preset's mock release alone.
    """
    return StalenessChecker(defs, instance, settings).stale()


class StalenessChecker:
    """One look at the recorded state; `forget` before the next one."""

    def __init__(
        self,
        defs: dg.Definitions,
        instance: dg.DagsterInstance,
        settings: PlatformSettings,
        until: float | None = None,
    ) -> None:
        """A look that begins now; records are read `until` a time (`time.monotonic`), with `NotAllRead`, or all."""
        self._until = until
        self._folders: dict[tuple[dg.AssetKey, str], str] = {}
        self._graph = defs.resolve_asset_graph()
        self._instance = instance
        self._preset = settings.preset
        self._registry = ModelRegistry.from_settings(settings)
        self._workspace = Workspace.from_settings(settings)
        self._prior_file = settings.prior_file
        self.forget()

    def forget(self) -> None:
        """Looks again: what was read of the recorded state is read anew when next asked for."""
        self._records: dict[dg.AssetKey, dict[str | None, dg.AssetMaterialization]] = {}
        self._cells: dict[str, list[str]] = {}
        self._releases: list[str] | None = None
        self._champions: dict[str, str] = {}
        self._names: dict[str, set[str]] = {}  # of what lies in a folder

    def stale(self) -> list[Target]:
        """See `stale_targets`."""
        stale: dict[tuple[dg.AssetKey, str | None], Target] = {}
        for key, partition in self.wanted():
            reason = self.reason(key, partition)
            if reason is None:
                upstream = (stale[parent] for parent in self.parents(key, partition) if parent in stale)
                first = next(upstream, None)
                reason = None if first is None else f"upstream {first.label} is stale"
            if reason is not None:
                stale[key, partition] = Target(key, partition, reason)
        return list(stale.values())

    def wanted(self) -> Iterator[tuple[dg.AssetKey, str | None]]:
        """Every (asset, partition) that should exist, upstream before downstream."""
        for key in self._graph.toposorted_asset_keys:
            if self._graph.get(key).is_executable and STOOD_FOR_BY not in self._graph.get(key).metadata:
                for partition in self.partitions(key):
                    yield key, partition

    def made_with(self, key: dg.AssetKey) -> list[dg.AssetKey]:
        """The assets of the step that makes this one."""
        together = self._graph.get(key).execution_set_entity_keys
        return sorted(one for one in together if isinstance(one, dg.AssetKey))

    def partitions(self, key: dg.AssetKey) -> Sequence[str | None]:
        """The partitions of an asset that are wanted; [None] for an unpartitioned one."""
        definition = self._graph.get(key).partitions_def
        if definition is None:
            return [None]
        if isinstance(definition, dg.MultiPartitionsDefinition):
            gated = PHOTOMETRY in self._graph.get_ancestor_asset_keys(key)
            return [
                partition
                for release in self.releases()
                for partition in (cell_partition(release, cell) for cell in self.cells(release))
                if not (gated and self._held(partition))
            ]
        if isinstance(definition, dg.DynamicPartitionsDefinition):
            if key == INGESTED:
                return self.releases()
            mock = self._preset.release.name
            return [mock] if self._accepted(mock) else []
        return definition.get_partition_keys()

    def releases(self) -> list[str]:
        """The releases whose delivery was noticed, in order of name."""
        if self._releases is None:
            known = set(self._instance.get_dynamic_partitions(RELEASE))
            noticed = {name for name in self._all(RAW_RELEASE) if name is not None and is_name(name)}
            self._releases = sorted(known & noticed)
        return self._releases

    def delivery_held(self, release: str) -> bool:
        """Whether the delivery noticed last was tried and did not pass."""
        record, held = self._latest(RAW_RELEASE, release), held_delivery(self._workspace, release)
        return record is not None and held is not None and held.version == content_of_record(record)

    def held(self) -> list[HeldPart]:
        """What the quality gate holds now: nothing is made of it until it is delivered again or backfilled."""
        found = []
        for release in self.releases():
            if self.delivery_held(release):
                delivery = held_delivery(self._workspace, release)
                label = Target(INGESTED, release, "").label
                found.append(HeldPart(label, delivery.faults if delivery is not None else ()))
            for cell in self.cells(release):
                partition = cell_partition(release, cell)
                if self._held(partition):
                    faults = faults_of_record(self._latest(PHOTOMETRY, partition))
                    found.append(HeldPart(Target(PHOTOMETRY, partition, "").label, faults))
        return found

    def cells(self, release: str) -> list[str]:
        """The keys of a release's cells, as last ingested."""
        if release not in self._cells:
            self._cells[release] = delivered_cells(self._workspace, release)
        return self._cells[release]

    def parents(self, key: dg.AssetKey, partition: str | None) -> list[tuple[dg.AssetKey, str | None]]:
        """The upstream (asset, partition) pairs that this one is made from."""
        return [
            (parent, upstream)
            for parent in self._compared(key)
            for upstream in self._upstream_partitions(key, parent, partition)
        ]

    def reason(self, key: dg.AssetKey, partition: str | None) -> str | None:
        """Why this target is out of date by itself; None when it is not."""
        record = self._latest(key, partition)
        if key == INGESTED and partition is not None and self.delivery_held(partition):
            return None
        if record is None:
            return "missing"
        paths = self._recorded_paths(record, key, partition)
        for beside in self._read_beside(key):
            other = self._latest(beside, partition)
            if other is None:
                return f"{beside.to_user_string()}, made in the same step, is missing"
            paths = [*paths, *self._recorded_paths(other, beside, partition)]
        gone = next((path for path in paths if not self._exists(path)), None)
        if gone is not None:
            return f"its file {gone} is gone"
        tags = record.tags or {}
        code, recorded = self._graph.get(key).code_version, tags.get(CODE_VERSION)
        if code != recorded:
            return f"{SETTINGS_CHANGED} ({recorded} -> {code})"
        moved = self._outside_change(key, tags)
        if moved is not None:
            return moved
        for parent in self._compared(key):
            model = self._model_of(parent)
            if model is not None:
                moved = self._champion_moved(model, tags.get(CHAMPION_TAG))
                if moved is not None:
                    return moved
                continue
            version, by_itself = input_of_record(record, parent.to_user_string())
            if self._input_version(key, parent, partition, by_itself) != version:
                return f"input {parent.to_user_string()} changed"
        return None

    def _read_beside(self, key: dg.AssetKey) -> list[dg.AssetKey]:
        """The assets that this one stands for and that others read."""
        nodes = {one: self._graph.get(one) for one in self.made_with(key) if one != key}
        name = key.to_user_string()
        return [
            one for one, node in nodes.items() if node.metadata.get(STOOD_FOR_BY) == name and node.child_keys
        ]

    def state(self, key: dg.AssetKey, partition: str | None) -> str:
        """A hash over the last materialisation and all it is compared with: one state needs one run."""
        record = self._latest(key, partition)
        facts: list[object] = [self._graph.get(key).code_version, (record.tags or {}) if record else None]
        if record is not None:
            facts.append(content_of_record(record))
        for parent in self._compared(key):
            model = self._model_of(parent)
            if model is None:
                facts.append(self._input_version(key, parent, partition, True))
            else:
                facts.append(self._champion_now(model))
        model = self._model_of(key)
        facts.append(None if model is None else self._champion_now(model))
        facts.append(prior_source(self._prior_file) if self._follows_prior_file(key) else None)
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def _compared(self, key: dg.AssetKey) -> list[dg.AssetKey]:
        """The inputs whose change makes an asset stale.

        Once there is a champion the registry alone says which it is: a bundle in training neither makes posteriors
        stale nor keeps a release that arrives meanwhile waiting.
        """
        model = self._model_of(key)
        if model is not None and self._champion_now(model) != NO_CHAMPION:
            return []
        node = self._graph.get(key)
        left_out = set(node.metadata.get(NOT_COMPARED, ()))
        return [parent for parent in sorted(node.parent_keys) if parent.to_user_string() not in left_out]

    def _model_of(self, key: dg.AssetKey) -> str | None:
        """The registered model whose @champion says which version an asset has; None for most assets."""
        return registered_model(self._graph.get(key).metadata.get(VERSION_FROM))

    def _follows_prior_file(self, key: dg.AssetKey) -> bool:
        return self._graph.get(key).metadata.get(VERSION_FROM) == PRIOR_FILE

    def _outside_change(self, key: dg.AssetKey, tags: dict[str, str]) -> str | None:
        model = self._model_of(key)
        if model is not None:
            return self._champion_moved(model, tags.get(DATA_VERSION))
        if self._follows_prior_file(key):
            now, recorded = prior_source(self._prior_file), tags.get(PRIOR_TAG)
            return None if now == recorded else f"prior {recorded} -> {now}"
        return None

    def _champion_now(self, name: str) -> str:
        """The version of a registered model that @champion points at now."""
        if name not in self._champions:
            try:
                champion = self._registry.find_alias(name)
            except Exception as error:
                if is_busy(error):
                    raise busy_line(error) from None
                raise
            self._champions[name] = champion.label if champion else NO_CHAMPION
        return self._champions[name]

    def _champion_moved(self, name: str, recorded: str | None) -> str | None:
        now = self._champion_now(name)
        return None if now == recorded else f"champion {name} {recorded} -> {now}"

    def _input_version(
        self, key: dg.AssetKey, parent: dg.AssetKey, partition: str | None, by_itself: bool
    ) -> str | None:
        """An input's version now, as the asset itself or as Dagster writes it down."""
        found = {
            upstream: self._latest(parent, upstream)
            for upstream in self._upstream_partitions(key, parent, partition)
        }
        if any(record is None for record in found.values()):
            return None
        versions = {name: content_of_record(record) or "" for name, record in found.items() if record}
        if self._graph.get(parent).partitions_def is None:
            return versions[None]
        if not by_itself:  # Dagster's hash over the partitions, also when there is one
            joined = "".join(versions[upstream] for upstream in sorted(versions, key=str))
            return hashlib.sha256(joined.encode()).hexdigest()
        if len(versions) == 1 and partition in versions:
            return versions[partition]
        return hash_of_versions({_cell_of(name): version for name, version in versions.items()})

    def _upstream_partitions(
        self, key: dg.AssetKey, parent: dg.AssetKey, partition: str | None
    ) -> Sequence[str | None]:
        mapping = self._graph.get(key).partition_mappings.get(parent)
        definition = self._graph.get(parent).partitions_def
        if definition is None:
            return [None]
        if isinstance(mapping, dg.SpecificPartitionsPartitionMapping):
            return mapping.partition_keys
        if isinstance(mapping, dg.MultiToSingleDimensionPartitionMapping):
            return self._accepted(str(partition))
        if definition == self._graph.get(key).partitions_def:
            return [partition]
        if isinstance(partition, dg.MultiPartitionKey):
            return [release_and_cell(partition)[0]]
        return self.partitions(parent)

    def _accepted(self, release: str) -> list[str]:
        """Partitions of the cells of a release that are made and not held."""
        if release not in self.releases():
            return []
        partitions = (cell_partition(release, cell) for cell in self.cells(release))
        made = self._all(PHOTOMETRY)
        return [partition for partition in partitions if partition in made and not self._held(partition)]

    def _held(self, partition: str) -> bool:
        return is_held(self._latest(PHOTOMETRY, partition))

    def _all(self, key: dg.AssetKey) -> dict[str | None, dg.AssetMaterialization]:
        if key not in self._records:
            self._records[key] = dict(latest_slim_records(self._instance, key, self._until))
        return self._records[key]

    def _latest(self, key: dg.AssetKey, partition: str | None) -> dg.AssetMaterialization | None:
        if partition is not None:
            return self._all(key).get(partition)
        if key not in self._records:
            found = self._instance.fetch_materializations(key, limit=1).records
            self._records[key] = {None: found[0].asset_materialization} if found else {}  # type: ignore[dict-item]
        return self._records[key].get(None)

    def _exists(self, path: str) -> bool:
        """Whether a file or folder is there, by one listing of the folder it lies in for all of its cells."""
        folder, _, name = path.rpartition("/")
        if folder not in self._names:
            self._names[folder] = names_in(store_path(folder))
        return name in self._names[folder]

    def _recorded_paths(
        self, record: dg.AssetMaterialization, key: dg.AssetKey, partition: str | None
    ) -> Iterator[str]:
        for name in PATHS:
            value = record.metadata.get(name)
            if isinstance(value, dg.PathMetadataValue):
                path = own_path(str(value.path), self._workspace.folders)
                if path.startswith(self._workspace.store) or not is_remote(path):
                    yield path
        if key == INGESTED and partition is not None:
            folder = self._folder(CELL_EXPOSURES, partition)
            for cell in self.cells(partition):
                yield f"{folder}/{cell}.parquet"
        if isinstance(partition, dg.MultiPartitionKey):  # a run over several cells records no path
            release, cell = release_and_cell(partition)
            yield f"{self._folder(key, release)}/{cell}.parquet"

    def _folder(self, key: dg.AssetKey, release: str) -> str:
        """Where the store keeps the cells of a release."""
        if (key, release) not in self._folders:
            self._folders[key, release] = str(self._workspace.tables(key.to_user_string(), release))
        return self._folders[key, release]


def _cell_of(partition: str | None) -> str:
    """The key by which an asset that reads all cells records a version (`assets.release.accepted.version_of_cells`)."""
    return release_and_cell(partition)[1] if isinstance(partition, dg.MultiPartitionKey) else str(partition)
