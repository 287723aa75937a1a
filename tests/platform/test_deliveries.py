"""Deliveries that hold less than they claim, files that are no files, and partitions that are no names."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from paeplatform.assets.recording.partitions import CELL, RELEASE, cell_partition, release_and_cell
from paeplatform.assets.release.deliveries import (
    HeldDelivery,
    held_delivery,
    kept_outcomes,
    mark_held,
)
from paeplatform.assets.release.photometry import stored_outcomes
from paeplatform.assets.release.quality import check_name
from paeplatform.config import load_preset
from paeplatform.definitions import build_definitions
from paeplatform.errors import InputError
from paeplatform.instrument.bands import load_bands
from paeplatform.release.quality_rules import load_rules
from paeplatform.release.simulated.defects import DefectSpec
from paeplatform.release.simulated.delivery import DeliverySpec, write_delivery
from paeplatform.resources.settings import PlatformSettings
from paeplatform.resources.store import FolderStore, ParquetStore
from paeplatform.resources.workspace import Workspace
from paeplatform.sensors.releases import changed_deliveries, misnamed_deliveries, notice_deliveries
from tests.alarm import without_waiting
from tests.flat_sources import flat_sources
from tests.platform.conftest import CELLS, TINY

INGESTED = ("release_exposures", "unplaced_rows")
EVIL = (
    "../../../../outside/evil",
    "/outside/evil",
    "..",
    "rel-a/../../evil",
    "rel-a/hp6-27256",
    ".hidden",
    "Rel-A",
    "été",
    "rel a",
    "rel.a",
    "r" * 101,
)


@pytest.fixture
def home(tmp_path: Path) -> PlatformSettings:
    """A home where nothing was made."""
    return PlatformSettings(tmp_path / "home", load_preset(TINY))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as one:
        yield one


@pytest.fixture(scope="module")
def sources() -> pl.DataFrame:
    return flat_sources()


def deliver(
    home: PlatformSettings, sources: pl.DataFrame, release: str = "rel-a", *defects: str, **more
) -> Path:
    spec = DeliverySpec(release, seed=3, defects=tuple(map(DefectSpec, defects)), **more)
    folder = home.landing / release
    write_delivery(sources, load_bands(), folder, spec, progress=False)
    return folder


def ingest(
    home: PlatformSettings,
    instance: dg.DagsterInstance,
    release: str = "rel-a",
    names: tuple[str, ...] = INGESTED,
) -> dg.ExecuteInProcessResult:
    instance.add_dynamic_partitions(RELEASE, [release])
    return run_of(home, instance, names, release)


def run_of(
    home: PlatformSettings, instance: dg.DagsterInstance, names: tuple[str, ...], partition: str | None
) -> dg.ExecuteInProcessResult:
    job = build_definitions(home).resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey(name) for name in names]
    with without_waiting(60):
        return job.execute_in_process(
            instance=instance, asset_selection=keys, partition_key=partition, raise_on_error=False
        )


def line_of(result: dg.ExecuteInProcessResult) -> str:
    """What the step that failed says: its `dagster.Failure`, which is one line."""
    (failed,) = result.filter_events(lambda event: event.is_step_failure)
    error = failed.event_specific_data.error
    while error.cls_name not in ("Failure", "Held"):
        assert error.cause is not None, error
        error = error.cause
    text = error.message.strip()
    assert "\n" not in text
    return text


def taken_over(home: PlatformSettings, instance: dg.DagsterInstance) -> list[str]:
    """What a delivery that is held must not leave: cells, tables, scratch, partitions."""
    store = home.store
    kinds = ("cell_exposures", "release_exposures", "unplaced_rows", ".scratch")
    files = [str(path) for kind in kinds if (store / kind).exists() for path in (store / kind).rglob("*")]
    manifests = [str(path) for path in store.rglob("manifest.json")]
    return files + manifests + list(instance.get_dynamic_partitions(CELL))


@pytest.mark.parametrize(
    ("defect", "rule", "observed", "expected"),
    [
        ("source_count_lie", "manifest.source_count", "19", "12"),
        ("no_rows", "rows.present", "0", "at least 1"),
        ("positions_lost", "positions.usable", "1", "at most"),
        ("positions_swapped", "positions.usable", "1", "at most"),
    ],
)
def test_a_delivery_that_lost_rows_is_held_with_both_numbers(
    defect: str,
    rule: str,
    observed: str,
    expected: str,
    home: PlatformSettings,
    instance: dg.DagsterInstance,
    sources: pl.DataFrame,
):
    deliver(home, sources, "rel-a", defect)
    (noticed,) = notice_deliveries(home, instance)
    result = ingest(home, instance)
    assert not result.success
    assert f"release rel-a is held: {rule}: " in line_of(result)
    assert f" {observed}, expected {expected}" in line_of(result)
    assert taken_over(home, instance) == []
    checks = [one.check_name for one in result.get_asset_check_evaluations()]
    assert sorted(checks) == sorted(check_name(one.name) for one in load_rules().of_level("release"))
    assert [one.check_name for one in result.get_asset_check_evaluations() if not one.passed] == [
        check_name(rule)
    ]
    workspace = Workspace.from_settings(home)
    held = held_delivery(workspace, "rel-a")
    assert held is not None and held.version == noticed.version
    (fault,) = held.faults
    assert fault.startswith(f"{rule}: ") and f" {observed}, expected {expected}" in fault
    (kept,) = (one for one in kept_outcomes(workspace)["rel-a"] if not one.passed)
    assert kept.rule == rule


def test_a_delivery_whose_files_are_at_fault_has_every_check_once_and_its_reasons_kept(
    home: PlatformSettings, instance: dg.DagsterInstance, sources: pl.DataFrame
):
    deliver(home, sources, "rel-a", "version_mismatch", "row_count_lie")
    result = ingest(home, instance)
    checks = [one.check_name for one in result.get_asset_check_evaluations()]
    assert sorted(checks) == sorted(check_name(one.name) for one in load_rules().of_level("release"))
    held = held_delivery(Workspace.from_settings(home), "rel-a")
    assert held is not None and len(held.faults) >= 2
    assert any("pipeline_version 6.5.6, expected 7 <= version < 8" in fault for fault in held.faults)
    assert taken_over(home, instance) == []


def test_a_value_of_the_wrong_kind_is_a_reason_too(
    home: PlatformSettings, instance: dg.DagsterInstance, sources: pl.DataFrame
):
    folder = deliver(home, sources, file_format="csv")
    tree = json.loads((folder / "manifest.json").read_text())
    (file,) = tree["files"]
    path = folder / file["name"]
    lines = path.read_text().splitlines(keepends=True)
    cells = lines[-1].split(",")
    cells[4] = "yesterday"
    path.write_text("".join([*lines[:-1], ",".join(cells)]))
    from paeplatform.release.reading import file_sha256

    file |= {"sha256": file_sha256(path), "bytes": path.stat().st_size}
    (folder / "manifest.json").write_text(json.dumps(tree))
    assert "is held" in line_of(ingest(home, instance))
    held = held_delivery(Workspace.from_settings(home), "rel-a")
    assert held is not None and held.faults and taken_over(home, instance) == []


def test_a_good_delivery_is_ingested_and_forgets_that_the_one_before_was_held(
    home: PlatformSettings, instance: dg.DagsterInstance, sources: pl.DataFrame
):
    deliver(home, sources, "rel-a", "no_rows")
    assert not ingest(home, instance).success
    deliver(home, sources)
    result = ingest(home, instance)
    assert result.success
    (made,) = result.asset_materializations_for_node("ingest_release")[-2:-1]
    assert made.metadata["sources"].value == 12 and made.metadata["unplaced_rows"].value == 0
    assert held_delivery(Workspace.from_settings(home), "rel-a") is None
    assert set(instance.get_dynamic_partitions(CELL)) == set(CELLS)
    assert list((home.store / ".scratch").iterdir()) == []


def test_reasons_of_an_older_platform_are_none(home: PlatformSettings):
    workspace = Workspace.from_settings(home)
    mark_held(workspace, "rel-a", "v1", ["rule: column 1, expected 2"])
    assert held_delivery(workspace, "rel-a") == HeldDelivery("v1", ("rule: column 1, expected 2",))
    Path(str(workspace.ingested("rel-a") / "held.json")).write_text('{"version": "v0"}')
    assert held_delivery(workspace, "rel-a") == HeldDelivery("v0", ())
    mark_held(workspace, "rel-a", None)
    assert held_delivery(workspace, "rel-a") is None


# -- files that are no files ------------------------------------------------------------------------------------------
SECRET = "root:x:0:0:of another user\n"


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _link(path: Path) -> None:
    elsewhere = path.parents[2] / "passwd"
    elsewhere.write_text(SECRET)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("which", ["manifest.json", "data"])
@pytest.mark.parametrize(("make", "said"), [(_fifo, "is a FIFO"), (_link, "is a symbolic link")])
def test_what_is_no_regular_file_is_held_and_never_opened(
    which: str,
    make: Callable[[Path], None],
    said: str,
    home: PlatformSettings,
    instance: dg.DagsterInstance,
    sources: pl.DataFrame,
):
    folder = deliver(home, sources)
    path = next(path for path in folder.iterdir() if (path.name == "manifest.json") is (which != "data"))
    path.unlink()
    make(path)
    with without_waiting(60):
        (noticed,) = notice_deliveries(home, instance)
    if which != "data":
        assert noticed.version == f"unreadable-{said.split()[-1].lower()}" and said in (noticed.fault or "")
    line = line_of(ingest(home, instance))
    assert said in line and path.name in line and "another user" not in line
    held = held_delivery(Workspace.from_settings(home), "rel-a")
    assert held is not None and held.version == noticed.version and said in held.faults[0]
    assert "another user" not in str(held) + str(kept_outcomes(Workspace.from_settings(home)))
    assert changed_deliveries(home, instance) == [], "it is noticed once"


# -- names ------------------------------------------------------------------------------------------------------------
def _tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("release", EVIL)
def test_a_partition_that_is_no_name_ends_with_a_line_and_creates_nothing(
    release: str, home: PlatformSettings, instance: dg.DagsterInstance, tmp_path: Path
):
    before, root = _tree(tmp_path), os.listdir("/")
    line = line_of(ingest(home, instance, release))
    assert "release name" in line and "small letters, digits" in line
    assert _tree(tmp_path) == before and os.listdir("/") == root


@pytest.mark.parametrize(
    ("release", "cell"),
    [("../../../../outside/evil", CELLS[0]), ("rel-a", "../../evil"), ("rel-a", "hp6-9999999")],
)
def test_a_cell_that_is_no_name_ends_with_a_line_and_creates_nothing(
    release: str, cell: str, home: PlatformSettings, instance: dg.DagsterInstance, tmp_path: Path
):
    assert run_of(home, instance, ("spherex_bands",), None).success
    before = _tree(tmp_path)
    instance.add_dynamic_partitions(RELEASE, [release])
    instance.add_dynamic_partitions(CELL, [cell])
    names = ("release_photometry", "release_measurements", "quarantined_sources", "quality_statistics")
    line = line_of(run_of(home, instance, names, cell_partition(release, cell)))
    assert "must" in line and _tree(tmp_path) == before


@pytest.mark.parametrize("key", ["../../evil", "/evil", "a/b", "..", "A"])
@pytest.mark.parametrize("io_manager", ["io_manager", "folders"])
def test_a_store_makes_no_path_of_a_key_that_is_no_name(
    io_manager: str, key: str, instance: dg.DagsterInstance, tmp_path: Path
):
    base = tmp_path / "home" / "store"
    base.mkdir(parents=True)
    made = tmp_path / "made"
    made.mkdir()
    keys = dg.DynamicPartitionsDefinition(name="keys")

    @dg.asset(partitions_def=keys, io_manager_key=io_manager)
    def table() -> dg.MaterializeResult:
        return dg.MaterializeResult(value=pl.DataFrame({"x": [1]}) if io_manager == "io_manager" else made)

    @dg.asset(partitions_def=keys, ins={"table": dg.AssetIn(input_manager_key=io_manager)})
    def reader(table: Path) -> None: ...

    before = _tree(tmp_path)
    instance.add_dynamic_partitions("keys", [key])
    resources = {"io_manager": ParquetStore(base=str(base)), "folders": FolderStore(base=str(base))}
    for one in (table, reader):
        found = dg.materialize(
            [table, reader],
            resources=resources,
            instance=instance,
            partition_key=key,
            raise_on_error=False,
            selection=[one],
        )
        assert "partition key" in line_of(found)
    assert _tree(tmp_path) == before


@pytest.mark.parametrize("name", EVIL)
def test_no_path_is_made_of_what_is_no_name(name: str, home: PlatformSettings):
    workspace = Workspace.from_settings(home)
    calls = [
        lambda: workspace.delivery(name),
        lambda: workspace.ingested(name),
        lambda: workspace.table("release_exposures", name),
        lambda: workspace.table("release_photometry", name, CELLS[0]),
        lambda: workspace.table("release_photometry", "rel-a", name),
        lambda: workspace.tables("release_photometry", name),
        lambda: workspace.report_dir(name),
        lambda: workspace.checkpoint_dir(name),
        lambda: stored_outcomes(workspace, name),
    ]
    for call in calls:
        with pytest.raises(InputError, match="at most 100 characters"):
            call()
    assert not home.home.exists()


def test_a_partition_of_plain_text_has_one_bar():
    assert release_and_cell("hp6-27256|rel-a") == ("rel-a", "hp6-27256")
    for text in ("rel-a", "hp6-27256|rel-a|b"):
        with pytest.raises(InputError, match="must look like"):
            release_and_cell(text)


def test_a_pattern_in_a_name_or_in_the_homes_is_no_pattern(
    tmp_path: Path, instance: dg.DagsterInstance, sources: pl.DataFrame
):
    first, second = (PlatformSettings(tmp_path / name, load_preset(TINY)) for name in ("run1", "run[1]"))
    for home, seed in ((first, "no_rows"), (second, "positions_lost")):
        deliver(home, sources, "rel-a", seed)
        ingest(home, instance)
    (one,) = (one for one in kept_outcomes(Workspace.from_settings(second))["rel-a"] if not one.passed)
    assert one.rule == "positions.usable"
    with pytest.raises(InputError, match="release name"):
        stored_outcomes(Workspace.from_settings(second), "*")


def test_deliveries_whose_name_no_release_can_have_are_listed(
    home: PlatformSettings, instance: dg.DagsterInstance, sources: pl.DataFrame
):
    assert misnamed_deliveries(home) == []
    good = deliver(home, sources)
    text = (good / "manifest.json").read_text()
    for name in ("qr3 week1", "QR3-Week1", "été", "qr3.week1", ".qr3.1234.tmp", "q" * 101):
        (home.landing / name).mkdir()
        (home.landing / name / "manifest.json").write_text(text)
    (home.landing / "Arriving").mkdir()
    assert misnamed_deliveries(home) == ["QR3-Week1", "q" * 101, "qr3 week1", "qr3.week1", "été"]
    assert [one.release for one in changed_deliveries(home, instance)] == ["rel-a"]
    assert misnamed_deliveries(replace(home, landing_zone=good / "manifest.json")) == []


def test_a_simulated_delivery_of_a_bad_name_is_refused(home: PlatformSettings, sources: pl.DataFrame):
    with pytest.raises(InputError, match="release name 'QR3' must be small letters"):
        deliver(home, sources, "QR3")
    assert not home.home.exists()
