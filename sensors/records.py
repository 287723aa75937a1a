"""What was recorded last of each partition, without the previews and plots that make a record large.

A cell's records come to some 0.2 MB, most of it pictures for Dagster's page, and an all-sky release has 12,288 cells.
In PostgreSQL, where an event's number is never given twice, what was read once is kept by the process, so that a look
reads what is new. SQLite may give the number of a deleted event again; there everything is read anew.
"""

from __future__ import annotations

import time

import dagster as dg

from paeplatform.assets.recording.provenance import CONTENT, GATE, INPUTS, chunks, records_by_number

PATHS = ("path", "page")  # metadata that names the file an asset made
_NEEDED = (CONTENT, INPUTS, GATE, *PATHS)
_kept: dict[tuple[str, dg.AssetKey], dict[int, dg.AssetMaterialization]] = {}


class NotAllRead(Exception):
    """Time was up before all records were read; what was read is kept for the next look."""


def latest_slim_records(
    instance: dg.DagsterInstance, key: dg.AssetKey, until: float | None = None
) -> dict[str, dg.AssetMaterialization]:
    """The last materialisation of each partition of an asset, with the metadata that staleness asks for.

    Raises:
        NotAllRead: it was after `until` (`time.monotonic`); only in PostgreSQL, where the next call goes on from there.
    """
    ids = instance.event_log_storage.get_latest_storage_id_by_partition(
        key, dg.DagsterEventType.ASSET_MATERIALIZATION
    )
    known = _known(instance, key)
    wanted = set(ids.values())
    for number in known.keys() - wanted:
        del known[number]
    missing = sorted(wanted - known.keys())
    for chunk in chunks(missing):
        if until is not None and _keeps(instance) and time.monotonic() > until:
            raise NotAllRead(f"{key.to_user_string()}: {len(known)} of {len(wanted)} records read so far")
        found = records_by_number(instance, key, chunk)
        known.update({number: slim(record) for number, record in found.items()})
    return {partition: known[number] for partition, number in ids.items() if number in known}


def slim(record: dg.AssetMaterialization) -> dg.AssetMaterialization:
    """A record without what only people look at."""
    metadata = {name: record.metadata[name] for name in _NEEDED if name in record.metadata}
    return dg.AssetMaterialization(
        record.asset_key, partition=record.partition, tags=record.tags, metadata=metadata
    )


def _keeps(instance: dg.DagsterInstance) -> bool:
    return type(instance.event_log_storage).__module__.startswith("dagster_postgres")


def _known(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[int, dg.AssetMaterialization]:
    if not _keeps(instance):
        return {}
    database = instance.run_storage.get_run_storage_id()  # type: ignore[attr-defined] # of those in SQL
    return _kept.setdefault((str(database), key), {})
