"""What a result was made from, partition by partition, and what has been recorded about it.

Dagster stamps the versions of content and inputs on a materialisation as tags, one set for all partitions of a run over
several, and hashes an input of many partitions only up to a hundred of them. Assets that share runs, or that read
all cells of a release, write both down as metadata of the partition; that goes before the tags.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import dagster as dg

from paeplatform.assets.recording.partitions import cell_partition

CONTENT = "paeplatform/content"
INPUTS = "paeplatform/inputs"
CODE_VERSION = "dagster/code_version"
DATA_VERSION = "dagster/data_version"
INPUT_VERSION = "dagster/input_data_version/"
GATE_TAG = "paeplatform/gate"  # on release_photometry: whether its cell may be inferred from
PASSED, HELD = "passed", "held"
GATE = (
    "gate"  # metadata beside the tag: the faults of a held cell, each with rule, observed and expected value
)
# What the staleness rule has to know of an asset beside the graph. An asset declares it in the metadata of its
# definition, where Dagster's page shows it too.
NOT_COMPARED = "paeplatform/not_compared"  # names of inputs whose change does not make it out of date
STOOD_FOR_BY = "paeplatform/stood_for_by"  # name of the asset of the same step that stands for it
VERSION_FROM = (
    "paeplatform/version_from"  # what has the last word on its version: "registry MODEL", or PRIOR_FILE
)
PRIOR_FILE = "prior file"
_REGISTRY = "registry "
CHUNK = 500  # events read at a time


def from_registry(model: str) -> dict[str, str]:
    """Declares that the alias @champion of a registered model says which version an asset has."""
    return {VERSION_FROM: f"{_REGISTRY}{model}"}


def registered_model(version_from: object) -> str | None:
    """The registered model that a declaration of `from_registry` names; None for any other."""
    text = str(version_from or "")
    return text.removeprefix(_REGISTRY) if text.startswith(_REGISTRY) else None


def made_from(content: str, inputs: Mapping[str, str]) -> dict[str, dg.MetadataValue]:
    """The metadata to record: version of the content, and of each input by the asset's name."""
    return {
        CONTENT: dg.MetadataValue.text(content),
        INPUTS: dg.MetadataValue.json(dict(sorted(inputs.items()))),
    }


def content_of_record(record: dg.AssetMaterialization) -> str | None:
    """The version of what was made."""
    value = record.metadata.get(CONTENT)
    return str(value.value) if value is not None else tag_of_record(record, DATA_VERSION)


def input_of_record(record: dg.AssetMaterialization, parent: str) -> tuple[str | None, bool]:
    """The version of an input as recorded, and whether by the asset itself (`made_from`) rather than by Dagster."""
    value = record.metadata.get(INPUTS)
    if value is not None and parent in value.value:  # type: ignore[operator]
        return str(value.value[parent]), True  # type: ignore[index]
    return tag_of_record(record, f"{INPUT_VERSION}{parent}"), False


def tag_of_record(record: dg.AssetMaterialization | None, name: str) -> str | None:
    """A tag of a materialisation; None when there is no such tag, or no materialisation."""
    return None if record is None else (record.tags or {}).get(name)


def is_held(record: dg.AssetMaterialization | None) -> bool:
    """Whether the quality gate holds a cell, by the last materialisation of its `release_photometry`."""
    return tag_of_record(record, GATE_TAG) == HELD


def faults_of_record(record: dg.AssetMaterialization | None) -> tuple[str, ...]:
    """Why the quality gate holds a cell of `release_photometry`; nothing when it does not."""
    if record is None or not is_held(record):
        return ()
    value = record.metadata.get(GATE)
    faults = value.value if value is not None else None
    return tuple(map(str, faults)) if isinstance(faults, list) else ("a blocking check failed",)


def first_three(lines: Sequence[str]) -> str:
    """The first lines in one, and how many there are beside them."""
    more = f" (and {len(lines) - 3} more)" if len(lines) > 3 else ""
    return "; ".join(lines[:3]) + more


def hash_of_versions(versions: Mapping[str, str]) -> str:
    """One version for an input of many partitions."""
    text = json.dumps(dict(sorted(versions.items())))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def latest_records(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: Sequence[str] | None = None
) -> dict[str, dg.AssetMaterialization]:
    """The last materialisation of each partition of an asset, or of some, in a few queries however many there are."""
    wanted = None if partitions is None else set(map(str, partitions))
    ids = instance.event_log_storage.get_latest_storage_id_by_partition(
        key, dg.DagsterEventType.ASSET_MATERIALIZATION, wanted
    )
    return {
        record.partition: record
        for chunk in chunks(sorted(ids.values()))
        for record in records_by_number(instance, key, chunk).values()
        if record.partition is not None
    }


def records_by_number(
    instance: dg.DagsterInstance, key: dg.AssetKey, numbers: Sequence[int]
) -> dict[int, dg.AssetMaterialization]:
    """Materialisations of an asset by the number of their event, in one query: give it `chunks` of numbers."""
    chosen = dg.AssetRecordsFilter(key, storage_ids=numbers)
    return {
        record.storage_id: record.asset_materialization
        for record in instance.fetch_materializations(chosen, limit=len(numbers)).records
        if record.asset_materialization is not None
    }


def chunks(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """As many numbers of events at a time as one query takes."""
    return (numbers[low : low + CHUNK] for low in range(0, len(numbers), CHUNK))


def latest_of_cells(
    instance: dg.DagsterInstance, key: dg.AssetKey, release: str, cells: Iterable[str]
) -> dict[str, dg.AssetMaterialization]:
    """The last materialisation of an asset by key of the cell, for those cells of a release that have one."""
    partitions = {cell: cell_partition(release, cell) for cell in cells}
    found = latest_records(instance, key, list(partitions.values()))
    return {cell: found[partition] for cell, partition in partitions.items() if partition in found}
