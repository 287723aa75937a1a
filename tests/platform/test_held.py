"""What the quality gate holds: seen by everybody who asks, and used by nobody, however the run was started."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import polars as pl
import pytest
from typer.testing import CliRunner

import paeplatform.resources.instance
from paeplatform.assets.recording.partitions import RELEASE, cell_partition
from paeplatform.assets.recording.provenance import DATA_VERSION, GATE, GATE_TAG, HELD, INPUTS, latest_records
from paeplatform.assets.release.accepted import refuse_held_catalog
from paeplatform.assets.release.photometry import PHOTOMETRY
from paeplatform.cli import app
from paeplatform.definitions import build_definitions
from paeplatform.errors import InputError
from paeplatform.release.simulated.defects import DefectSpec
from paeplatform.release.simulated.delivery import DeliverySpec
from paeplatform.sensors.backfill import backfill
from paeplatform.sensors.reconcile import next_requests
from paeplatform.sensors.run import materialize
from paeplatform.sensors.staleness import StalenessChecker
from tests.platform.conftest import CELLS, TINY, Platform

FIRST, SECOND = CELLS
DOWNSTREAM = (
    "pae_posteriors",
    "sbi_posteriors",
    "template_fits",
    "reweighted_posteriors",
    "redshift_catalog",
)
RULE = "coverage.detectors: "


@pytest.fixture(scope="module")
def held(platform: Platform) -> Iterator[Platform]:
    """Two more releases: one with a held cell, one held as a whole."""
    first = int(FIRST.split("-")[1])
    names = {"held-a": DefectSpec("missing_detector", (first,)), "held-b": DefectSpec("checksum_mismatch")}
    for release, defect in names.items():
        spec = DeliverySpec(release, seed=31, defects=(defect,))
        platform.deliver(spec)
    defs = build_definitions(platform.settings)
    summary = backfill(platform.settings, "held-a", defs=defs, instance=platform.instance)
    assert list(summary.held) == [FIRST] and list(summary.made) == [SECOND]
    with pytest.raises(InputError, match=r"held-b cannot be ingested: .*manifest.checksum"):
        backfill(platform.settings, "held-b", defs=defs, instance=platform.instance)
    yield platform
    for release in names:
        platform.instance.delete_dynamic_partition(RELEASE, release)
        shutil.rmtree(platform.settings.landing / release)


@pytest.mark.parametrize("asset", DOWNSTREAM)
def test_a_held_cell_that_is_materialised_by_hand_is_refused_with_the_rule(
    held: Platform, asset: str
) -> None:
    key = dg.AssetKey(asset)
    partition = cell_partition("held-a", FIRST)
    # As the page does: everything from the posteriors to the asset, in one run, which the gate's checks do not stop.
    chain = [dg.AssetKey(name) for name in DOWNSTREAM[: DOWNSTREAM.index(asset) + 1]]
    fault = materialize(build_definitions(held.settings), held.instance, chain, partition, "by hand")
    assert fault is not None and fault.held
    assert f"cell {FIRST} of release held-a is held: {RULE}" in fault.line and "expected" in fault.line
    assert not latest_records(held.instance, key, [partition])
    assert not (held.settings.store / asset / "held-a" / f"{FIRST}.parquet").exists()


def test_what_is_held_is_listed_with_its_rules(held: Platform) -> None:
    checker = StalenessChecker(build_definitions(held.settings), held.instance, held.settings)
    parts = {part.label: part for part in checker.held()}
    assert list(parts) == [f"release_photometry[held-a|{FIRST}]", "release_exposures[held-b]"]
    assert parts[f"release_photometry[held-a|{FIRST}]"].faults[0].startswith(RULE)
    assert "manifest.checksum" in parts["release_exposures[held-b]"].line
    assert checker.stale() == []


@pytest.mark.parametrize("command", ["status", "plan"])
def test_status_and_plan_do_not_call_everything_current(
    held: Platform, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def shared(settings: object) -> Iterator[dg.DagsterInstance]:
        yield held.instance

    monkeypatch.setattr(paeplatform.resources.instance, "open_to_read", shared)
    arguments = [command, "--home", str(held.settings.home), "--preset", str(TINY)]
    shown = CliRunner().invoke(app, arguments).output
    assert f"held: release_photometry[held-a|{FIRST}]: {RULE}" in shown
    assert "held: release_exposures[held-b]: manifest.checksum" in shown
    assert "verything else" in shown and "verything is" not in shown and "verything of" not in shown
    tree = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    assert [part["target"] for part in tree["held"]] == [
        f"release_photometry[held-a|{FIRST}]",
        "release_exposures[held-b]",
    ]
    assert all(part["faults"] for part in tree["held"])


def test_a_run_and_the_sensor_tell_what_waits(held: Platform) -> None:
    summary = held.run()
    assert summary.ok and not summary.made
    assert [part.label for part in summary.waiting] == [
        f"release_photometry[held-a|{FIRST}]",
        "release_exposures[held-b]",
    ]
    requests, why = next_requests(build_definitions(held.settings), held.instance, held.settings)
    assert requests == []
    assert f"held: release_photometry[held-a|{FIRST}]: {RULE}" in why and "manifest.checksum" in why


def test_a_catalogue_made_from_held_photometry_is_not_handed_over() -> None:
    """Such catalogues exist in homes from before the refusal; here is what is recorded of one."""
    partition = cell_partition("r1", FIRST)
    fault = f"{RULE}detectors 5, expected at least 6"
    photometry = dg.AssetMaterialization(
        PHOTOMETRY,
        partition=partition,
        tags={GATE_TAG: HELD, DATA_VERSION: "v2"},
        metadata={GATE: dg.MetadataValue.json([fault])},
    )

    def catalog(used: str) -> dg.AssetMaterialization:
        inputs = {INPUTS: dg.MetadataValue.json({"release_photometry": used})}
        return dg.AssetMaterialization("redshift_catalog", partition=partition, metadata=inputs)

    with dg.DagsterInstance.ephemeral() as instance:
        instance.report_runless_asset_event(catalog("v1"))
        assert refuse_held_catalog(instance, "r1", CELLS) == []
        instance.report_runless_asset_event(photometry)
        (note,) = refuse_held_catalog(instance, "r1", CELLS)  # the catalogue is of the delivery before
        assert FIRST in note and fault in note
        instance.report_runless_asset_event(catalog("v2"))
        with pytest.raises(InputError, match=rf"cell {FIRST} of release r1 is held: {fault}"):
            refuse_held_catalog(instance, "r1", CELLS)
        assert refuse_held_catalog(instance, "r1", [SECOND]) == []


def test_good_cells_of_the_same_release_were_made(held: Platform) -> None:
    catalog = held.table(f"redshift_catalog/held-a/{SECOND}")
    assert catalog.height > 0 and catalog["release"].unique().to_list() == ["held-a"]
    assert catalog.filter(pl.col("pae_status") == "failed").is_empty()
