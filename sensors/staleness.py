"""Which assets and partitions are out of date, and why.

The rule, per partition: it was never made, its file is gone, its settings or code changed
(`dagster/code_version`), or an input has other content than the one it was made from
(`dagster/input_data_version/*`, which Dagster records with every materialisation). The champion is an
input like any other, except that the registry, not the asset, has the last word on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from assets.estimation import CHAMPION_TAG
from assets.partitions import CELL, RELEASE, cell_keys
from resources.registry import PAE, ModelRegistry
from resources.settings import PlatformSettings

CODE_VERSION = "dagster/code_version"
DATA_VERSION = "dagster/data_version"
INPUT_VERSION = "dagster/input_data_version/"
CHAMPION_ASSET = dg.AssetKey("pae_champion")
_PATHS = ("path", "page")  # metadata that names the file an asset made


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
            keys = self.partition_key.keys_by_dimension
            return f"{name}[{keys[RELEASE]}|{keys[CELL]}]"
        return name if self.partition_key is None else f"{name}[{self.partition_key}]"


def stale_targets(
    defs: dg.Definitions, instance: dg.DagsterInstance, settings: PlatformSettings
) -> list[Target]:
    """Everything of the preset's run that is missing or stale, in an order in which it can be made.

    What lies downstream of a stale target is listed too, though it may turn out to be fresh if the target
    comes out with the same content as before.

    Args:
        defs: the code location.
        instance: where materialisations are recorded.
        settings: home and preset; partitions of other releases or cells are left alone.
    """
    checker = StalenessChecker(defs, instance, settings)
    stale: dict[tuple[dg.AssetKey, str | None], Target] = {}
    for key, partition in checker.wanted():
        reason = checker.reason(key, partition)
        if reason is None:
            upstream = (stale[parent] for parent in checker.parents(key, partition) if parent in stale)
            first = next(upstream, None)
            reason = None if first is None else f"upstream {first.label} is stale"
        if reason is not None:
            stale[key, partition] = Target(key, partition, reason)
    return list(stale.values())


class StalenessChecker:
    """Answers for single targets; holds the asset graph and the registry, not the state of assets."""

    def __init__(
        self, defs: dg.Definitions, instance: dg.DagsterInstance, settings: PlatformSettings
    ) -> None:
        self._graph = defs.resolve_asset_graph()
        self._instance = instance
        self._preset = settings.preset
        self._registry = ModelRegistry.from_settings(settings)

    def wanted(self) -> Iterator[tuple[dg.AssetKey, str | None]]:
        """Every (asset, partition) of the preset's run, upstream before downstream."""
        for key in self._graph.toposorted_asset_keys:
            for partition in self.partitions(key):
                yield key, partition

    def partitions(self, key: dg.AssetKey) -> Sequence[str | None]:
        """The partitions of an asset that belong to the preset; [None] for an unpartitioned one."""
        definition = self._graph.get(key).partitions_def
        release = self._preset.release.name
        if definition is None:
            return [None]
        if isinstance(definition, dg.MultiPartitionsDefinition):
            return [dg.MultiPartitionKey({RELEASE: release, CELL: cell}) for cell in cell_keys(self._preset)]
        if isinstance(definition, dg.DynamicPartitionsDefinition):
            return [release]
        return definition.get_partition_keys()

    def parents(self, key: dg.AssetKey, partition: str | None) -> list[tuple[dg.AssetKey, str | None]]:
        """The upstream (asset, partition) pairs that this one is made from."""
        return [
            (parent, upstream)
            for parent in sorted(self._graph.get(key).parent_keys)
            for upstream in self._upstream_partitions(key, parent, partition)
        ]

    def reason(self, key: dg.AssetKey, partition: str | None) -> str | None:
        """Why this target is out of date by itself; None when it is not."""
        record = self._latest(key, partition)
        if record is None:
            return "missing"
        gone = next((path for path in _recorded_paths(record) if not path.exists()), None)
        if gone is not None:
            return f"its file {gone} is gone"
        tags = record.tags or {}
        code, recorded = self._graph.get(key).code_version, tags.get(CODE_VERSION)
        if code != recorded:
            return f"settings or code changed ({recorded} -> {code})"
        if key == CHAMPION_ASSET:
            moved = self._champion_moved(tags.get(DATA_VERSION))
            if moved is not None:
                return moved
        for parent in sorted(self._graph.get(key).parent_keys):
            if parent == CHAMPION_ASSET:
                moved = self._champion_moved(tags.get(CHAMPION_TAG))
                if moved is not None:
                    return moved
            elif self._input_version(key, parent, partition) != tags.get(
                f"{INPUT_VERSION}{parent.to_user_string()}"
            ):
                return f"input {parent.to_user_string()} changed"
        return None

    def state(self, key: dg.AssetKey, partition: str | None) -> str:
        """A hash over the last materialisation and all it is compared with: one state needs one run."""
        record = self._latest(key, partition)
        facts = [self._graph.get(key).code_version, (record.tags or {}) if record else None]
        for parent in sorted(self._graph.get(key).parent_keys):
            if parent == CHAMPION_ASSET:
                facts.append(self._champion_moved(None))
            else:
                facts.append(self._input_version(key, parent, partition))
        if key == CHAMPION_ASSET:
            facts.append(self._champion_moved(None))
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def _champion_moved(self, recorded: str | None) -> str | None:
        champion = self._registry.find_alias(PAE)
        now = champion.label if champion else "none"
        return None if now == recorded else f"champion {PAE} {recorded} -> {now}"

    def _input_version(self, key: dg.AssetKey, parent: dg.AssetKey, partition: str | None) -> str | None:
        """An input's version now, as Dagster writes it down: of a partitioned input, a hash over versions."""
        versions = {}
        for upstream in self._upstream_partitions(key, parent, partition):
            record = self._latest(parent, upstream)
            if record is None:
                return None
            versions[str(upstream)] = (record.tags or {}).get(DATA_VERSION, "")
        if self._graph.get(parent).partitions_def is None:
            return versions["None"]
        joined = "".join(versions[upstream] for upstream in sorted(versions))
        return hashlib.sha256(joined.encode()).hexdigest()

    def _upstream_partitions(
        self, key: dg.AssetKey, parent: dg.AssetKey, partition: str | None
    ) -> Sequence[str | None]:
        mapping = self._graph.get(key).partition_mappings.get(parent)
        available = self.partitions(parent)
        if isinstance(mapping, dg.SpecificPartitionsPartitionMapping):
            return mapping.partition_keys
        if isinstance(mapping, dg.MultiToSingleDimensionPartitionMapping):
            return [
                upstream
                for upstream in available
                if isinstance(upstream, dg.MultiPartitionKey)
                and upstream.keys_by_dimension[RELEASE] == partition
            ]
        return [partition] if partition in available else available

    def _latest(self, key: dg.AssetKey, partition: str | None) -> dg.AssetMaterialization | None:
        chosen = dg.AssetRecordsFilter(key, asset_partitions=None if partition is None else [partition])
        found = self._instance.fetch_materializations(chosen, limit=1).records
        return found[0].asset_materialization if found else None


def _recorded_paths(record: dg.AssetMaterialization) -> Iterator[Path]:
    for name in _PATHS:
        value = record.metadata.get(name)
        if isinstance(value, dg.PathMetadataValue) and "://" not in str(value.path):
            yield Path(str(value.path))
