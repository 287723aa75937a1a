"""Deliveries in the landing zone, noticed: a new or re-delivered release becomes a partition with a version."""

from __future__ import annotations

import re
from dataclasses import dataclass

import dagster as dg

from assets.deliveries import RAW_RELEASE, delivery_version
from assets.partitions import RELEASE
from assets.provenance import DATA_VERSION, latest_records
from resources.settings import PlatformSettings

_NAME = re.compile(r"[a-z0-9][a-z0-9_\-]*")
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Delivery:
    """A release as it lies in the landing zone.

    Attributes:
        release: its name.
        version: of its manifest's content.
        fault: why the manifest cannot be read; the ingestion will say so too.
    """

    release: str
    version: str
    fault: str | None = None

    @property
    def event(self) -> dg.AssetMaterialization:
        """What is reported of it."""
        return dg.AssetMaterialization(
            RAW_RELEASE,
            partition=self.release,
            tags={DATA_VERSION: self.version},
            metadata={"fault": self.fault} if self.fault else None,
        )


def changed_deliveries(settings: PlatformSettings, instance: dg.DagsterInstance) -> list[Delivery]:
    """The deliveries whose version differs from the one reported last, in order of name.

    A folder without a manifest is still arriving. One whose name cannot be a release's is left alone.
    """
    known = {
        release: (record.tags or {}).get(DATA_VERSION)
        for release, record in latest_records(instance, RAW_RELEASE).items()
    }
    return [one for one in _deliveries(settings) if known.get(one.release) != one.version]


def notice_deliveries(settings: PlatformSettings, instance: dg.DagsterInstance) -> list[Delivery]:
    """Reports changed deliveries to Dagster, adding partitions for new releases; returns them."""
    changed = changed_deliveries(settings, instance)
    if changed:
        instance.add_dynamic_partitions(RELEASE, [delivery.release for delivery in changed])
    for delivery in changed:
        instance.report_runless_asset_event(delivery.event)
    return changed


def _deliveries(settings: PlatformSettings) -> list[Delivery]:
    found = []
    for path in sorted(settings.landing.glob(f"*/{_MANIFEST}")):
        if _NAME.fullmatch(path.parent.name):
            version, fault = delivery_version(path.parent)
            found.append(Delivery(path.parent.name, version, fault))
    return found
