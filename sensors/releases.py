"""Deliveries in the landing zone, noticed: a new or re-delivered release becomes a partition with a version."""

from __future__ import annotations

import os
from dataclasses import dataclass

import dagster as dg

from paeplatform.assets.recording.partitions import RELEASE
from paeplatform.assets.recording.provenance import DATA_VERSION, latest_records, tag_of_record
from paeplatform.assets.release.deliveries import RAW_RELEASE, delivery_version
from paeplatform.names import is_name
from paeplatform.resources.objects import names_in
from paeplatform.resources.settings import PlatformSettings

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

    A folder without a manifest is still arriving. One whose name cannot be a release's is left alone;
    `misnamed_deliveries` lists it.
    """
    known = {
        release: tag_of_record(record, DATA_VERSION)
        for release, record in latest_records(instance, RAW_RELEASE).items()
    }
    names = filter(is_name, _delivered(settings))
    found = (Delivery(name, *delivery_version(settings.landing / name)) for name in names)
    return [one for one in found if known.get(one.release) != one.version]


def notice_deliveries(settings: PlatformSettings, instance: dg.DagsterInstance) -> list[Delivery]:
    """Reports changed deliveries to Dagster, adding partitions for new releases; returns them."""
    changed = changed_deliveries(settings, instance)
    if changed:
        instance.add_dynamic_partitions(RELEASE, [delivery.release for delivery in changed])
    for delivery in changed:
        instance.report_runless_asset_event(delivery.event)
    return changed


def misnamed_deliveries(settings: PlatformSettings) -> list[str]:
    """Folders of the landing zone that hold a manifest and whose name cannot be a release's, in order.

    `paeplatform.names.NAME_FORM` says which can. Hidden folders are deliveries that are being written.
    """
    return [name for name in _delivered(settings) if not is_name(name) and not name.startswith(".")]


def _delivered(settings: PlatformSettings) -> list[str]:
    """The folders of the landing zone that hold something called manifest.json, be it a file, a link or a FIFO."""
    folders = sorted(names_in(settings.landing))
    return [name for name in folders if os.path.lexists(settings.landing / name / _MANIFEST)]
