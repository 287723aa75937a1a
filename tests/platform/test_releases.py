"""Releases come, are spoilt, come again; priors and champions change: each asks for just the runs that it must."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from paeplatform.assets.recording.partitions import cell_partition
from paeplatform.assets.recording.provenance import GATE_TAG, latest_records
from paeplatform.assets.release.quality import check_name
from paeplatform.definitions import build_definitions
from paeplatform.release.simulated.defects import DefectSpec
from paeplatform.release.simulated.delivery import DeliverySpec
from paeplatform.resources.registry import CHALLENGER, CHAMPION, PAE
from paeplatform.sensors.plan import plan_runs
from paeplatform.sensors.releases import changed_deliveries
from paeplatform.sensors.staleness import StalenessChecker
from tests.platform.conftest import CELLS, Platform

FIRST, SECOND = CELLS
INDEX = {key: int(key.split("-")[1]) for key in CELLS}


@dataclass
class Automation:
    """The daemon's part: ticks both sensors and runs what they ask for until neither asks for more."""

    platform: Platform
    keys: set[str] = field(default_factory=set)

    def settle(self) -> list[str]:
        """The runs asked for, by what they are about, in order."""
        asked = []
        while True:
            fresh = self._tick()
            if not fresh:
                return asked
            asked += fresh

    def _tick(self) -> list[str]:
        defs = build_definitions(self.platform.settings)
        job = defs.resolve_implicit_global_asset_job_def()
        instance, asked = self.platform.instance, []
        for sensor in defs.sensors:
            found = sensor(dg.build_sensor_context(instance=instance))
            if isinstance(found, dg.SkipReason):
                continue
            for wanted in found.dynamic_partitions_requests or []:
                instance.add_dynamic_partitions(wanted.partitions_def_name, list(wanted.partition_keys))
            for event in found.asset_events or []:
                instance.report_runless_asset_event(event)
            for request in found.run_requests or []:
                if request.run_key in self.keys:  # Dagster launches a run key once
                    continue
                self.keys.add(request.run_key)
                selection = request.asset_selection or [
                    dg.AssetKey("release_exposures"),
                    dg.AssetKey("unplaced_rows"),
                ]
                job.execute_in_process(
                    instance=instance,
                    asset_selection=list(selection),
                    partition_key=request.partition_key,
                    tags=dict(request.tags),
                    raise_on_error=False,
                )
                asked.append(request.tags["paeplatform/target"])
        return asked


def deliver(platform: Platform, release: str, seed: int, **more) -> None:
    platform.deliver(DeliverySpec(release, seed=seed, **more))


def made(platform: Platform, asset: str) -> dict[str, str]:
    """The run that made each partition last."""
    records = latest_records(platform.instance, dg.AssetKey(asset))
    ids = platform.instance.event_log_storage.get_latest_storage_id_by_partition(
        dg.AssetKey(asset), dg.DagsterEventType.ASSET_MATERIALIZATION
    )
    return {partition: str(ids[partition]) for partition in records}


def plan(platform: Platform) -> list[str]:
    checker = StalenessChecker(build_definitions(platform.settings), platform.instance, platform.settings)
    return [run.name for run in plan_runs(checker)]


@pytest.fixture(scope="module")
def automation(platform: Platform) -> Iterator[Automation]:
    assert platform.stale() == []
    return Automation(platform)


def test_a_good_release_is_ingested_and_inferred_a_run_a_cell(automation: Automation, platform: Platform):
    deliver(platform, "rel-a", 11)
    assert [one.release for one in changed_deliveries(platform.settings, platform.instance)] == ["rel-a"]
    assert automation.settle() == ["release_exposures[rel-a]", f"rel-a|{FIRST}", f"rel-a|{SECOND}"]
    assert platform.stale() == [] and changed_deliveries(platform.settings, platform.instance) == []
    for cell in CELLS:
        catalog = platform.table(f"redshift_catalog/rel-a/{cell}")
        assert catalog.height == 6 and catalog["release"].unique().to_list() == ["rel-a"]
    assert automation.settle() == []


def test_of_a_bad_release_only_the_bad_cells_are_held(automation: Automation, platform: Platform):
    defects = (
        DefectSpec("missing_detector", (INDEX[FIRST],)),
        DefectSpec("nan_flux", (INDEX[SECOND],)),
        DefectSpec("bad_position", (INDEX[SECOND],)),
    )
    deliver(platform, "rel-b", 12, defects=defects)
    assert automation.settle() == ["release_exposures[rel-b]", f"rel-b|{FIRST}", f"rel-b|{SECOND}"]
    assert platform.stale() == [], "what is held is not asked for again"
    store = platform.settings.store
    assert not (store / "pae_posteriors" / "rel-b" / f"{FIRST}.parquet").exists()
    assert platform.table(f"redshift_catalog/rel-b/{SECOND}").height == 6
    gone = platform.table(f"quarantined_sources/rel-b/{SECOND}")
    assert gone["reason"].str.contains("flux_not_finite").sum() >= 3
    photometry = platform.table(f"release_photometry/rel-b/{SECOND}")
    listing = platform.table("release_exposures/rel-b")
    counted = int(photometry.select(pl.sum("n_used", "n_masked", "n_set_aside")).sum_horizontal()[0])
    assert counted == listing.filter(pl.col("key") == SECOND)["n_rows"][0]
    delivered = (
        pl.scan_parquet(platform.settings.landing / "rel-b" / "*.parquet").select(pl.len()).collect().item()
    )
    unplaced = platform.table("unplaced_rows/rel-b")
    assert unplaced.height >= 3
    assert listing["n_rows"].sum() + unplaced.height == delivered


def test_a_failed_check_names_rule_column_observed_and_expected_value(
    automation: Automation, platform: Platform
):
    key = dg.AssetCheckKey(dg.AssetKey("release_photometry"), check_name("coverage.detectors"))
    history = platform.instance.event_log_storage.get_asset_check_execution_history(key, limit=20)
    held = cell_partition("rel-b", FIRST)
    (failed,) = [one for one in history if one.status.value == "FAILED" and one.partition == held]
    evaluation = failed.event.dagster_event.event_specific_data
    shown = {name: value.value for name, value in evaluation.metadata.items()}
    assert shown["rule"] == "coverage.detectors" and shown["column"] == "det_id"
    assert shown["observed"] == "5" and shown["expected"] == "at least 6"
    assert evaluation.severity == dg.AssetCheckSeverity.ERROR
    record = latest_records(platform.instance, dg.AssetKey("release_photometry"), [held])[held]
    assert record.tags[GATE_TAG] == "held"


def test_a_release_that_lies_is_held_as_a_whole_and_nothing_else(automation: Automation, platform: Platform):
    deliver(platform, "rel-c", 13, defects=(DefectSpec("version_mismatch"),))
    assert automation.settle() == ["release_exposures[rel-c]"]
    assert automation.settle() == [], "the same delivery is tried once"
    (run,) = platform.instance.get_runs(
        dg.RunsFilter(tags={"paeplatform/target": "release_exposures[rel-c]"})
    )
    assert run.status == dg.DagsterRunStatus.FAILURE
    failures = platform.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    text = failures[0].dagster_event.event_specific_data.error_display_string
    assert (
        "release rel-c is held: label.pipeline_version: pipeline_version 6.5.6, expected 7 <= version < 8"
        in text
    )
    deliver(platform, "rel-c", 13)
    assert automation.settle() == ["release_exposures[rel-c]", f"rel-c|{FIRST}", f"rel-c|{SECOND}"]


METRICS = ["photoz_metrics[mock-r1]"]
CELLS_OF_ALL = [
    *(f"{release}|{cell}" for release in ("mock-r1", "rel-a") for cell in CELLS),
    f"rel-b|{SECOND}",
    *(f"rel-c|{cell}" for cell in CELLS),
]


def test_another_prior_only_reweights(automation: Automation, platform: Platform):
    posteriors, fits = made(platform, "pae_posteriors"), made(platform, "template_fits")
    before = catalogs_of_all(platform)
    path = platform.settings.prior_file
    path.parent.mkdir(parents=True)
    z_max = platform.settings.preset.prior.z_max
    low = platform.settings.preset.prior.z_min
    path.write_text(f"z,density\n{low},1.0\n{0.5 * z_max},1.3\n{z_max},1.0\n")
    try:
        asked = automation.settle()
        assert asked[0] == "inference_prior"
        assert sorted(asked) == sorted(["inference_prior", *CELLS_OF_ALL, *METRICS, REPORT])
        assert made(platform, "pae_posteriors") == posteriors and made(platform, "template_fits") == fits
        after = platform.table(f"redshift_catalog/rel-a/{FIRST}")
        assert after["prior_id"].str.starts_with("tabulated-").all()
        assert set(after["pae_moved"]) <= {"weights", "inferred"}
        catalogs = catalogs_of_all(platform)
        assert {"weights", "inferred"} == set(catalogs["pae_moved"]), (
            "some may be moved, some must be inferred again"
        )
        moved = catalogs.filter(pl.col("pae_moved") == "weights")
        joined = moved.join(before, on=["release", "object_id"], suffix="_old")
        assert ((joined["pae_z_mean"] - joined["pae_z_mean_old"]).abs() > 0).any()
        assert platform.stale() == []
    finally:
        path.unlink()
    automation.settle()
    assert catalogs_of_all(platform).drop("run_id").equals(before.drop("run_id"))


def catalogs_of_all(platform: Platform) -> pl.DataFrame:
    return pl.concat([platform.table(f"redshift_catalog/{name.replace('|', '/')}") for name in CELLS_OF_ALL])


REPORT = "validation_report[mock-r1]"


def test_another_champion_infers_again(automation: Automation, platform: Platform):
    client = platform.registry.client()
    first = client.get_model_version(PAE, "1")
    client.create_model_version(PAE, source=first.source, run_id=first.run_id)
    newest = platform.registry.versions(PAE)[-1]
    platform.registry.set_alias(PAE, CHAMPION, newest)
    try:
        asked = automation.settle()
        single = ["pae_champion", "missing_band_stress[mock-r1]", *METRICS, REPORT]
        assert sorted(asked) == sorted([*single, *CELLS_OF_ALL])
        assert platform.table(f"redshift_catalog/rel-a/{FIRST}")["bundle_version"].unique().to_list() == [
            newest
        ]
    finally:
        platform.registry.set_alias(PAE, CHAMPION, 1)
        automation.settle()
        client.delete_model_version(PAE, str(newest))
    assert platform.stale() == []


def test_runs_that_others_asked_for_are_waited_for(automation: Automation, platform: Platform):
    from paeplatform.sensors.reconcile import active_targets

    job = build_definitions(platform.settings).resolve_implicit_global_asset_job_def()
    first, last = (str(cell_partition("rel-a", cell)) for cell in CELLS)
    cases = [
        ({"dagster/partition": first}, {"redshift_catalog"}, {f"rel-a|{FIRST}"}),
        (
            {"dagster/partition": "rel-a"},
            {"release_exposures", "unplaced_rows"},
            {"release_exposures[rel-a]", "unplaced_rows[rel-a]"},
        ),
        ({}, {"pae_champion"}, {"pae_champion"}),
        (
            {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last},
            {"redshift_catalog"},
            {f"rel-a|{cell}" for cell in CELLS},
        ),
    ]
    for tags, assets, wanted in cases:
        selection = frozenset(map(dg.AssetKey, assets))
        run = platform.instance.create_run_for_job(
            job, status=dg.DagsterRunStatus.STARTED, tags=tags, asset_selection=selection
        )
        assert active_targets(platform.instance) == wanted
        platform.instance.report_run_canceled(run)


def test_a_run_that_ends_while_the_sensor_looks_is_not_asked_for_again(
    automation: Automation, platform: Platform, monkeypatch: pytest.MonkeyPatch
):
    """The state that the sensor has read may be from before the run's last records."""
    path = platform.settings.store / "redshift_catalog" / "rel-a" / f"{FIRST}.parquet"
    kept, name = path.read_bytes(), f"rel-a|{FIRST}"
    job = build_definitions(platform.settings).resolve_implicit_global_asset_job_def()
    run = platform.instance.create_run_for_job(
        job, status=dg.DagsterRunStatus.STARTED, tags={"paeplatform/target": name}
    )

    def ends_meanwhile(checker: StalenessChecker):
        found = plan_runs(checker)
        platform.instance.report_run_canceled(run)
        path.write_bytes(kept)
        return found

    monkeypatch.setattr("paeplatform.sensors.reconcile.plan_runs", ends_meanwhile)
    path.unlink()
    sensor = next(
        one for one in build_definitions(platform.settings).sensors if one.name == "reconcile_sensor"
    )
    found = sensor(dg.build_sensor_context(instance=platform.instance))
    assert isinstance(found, dg.SkipReason) and "1 runs planned, all under way" in str(found.skip_message)
    assert platform.stale() == []


TRAINED = ("training_spectra", "autoencoder[4]", "latent_flow[4]", "posterior_proposal", "pae_model")


def other_catalogue(platform: Platform) -> Platform:
    preset = platform.settings.preset
    changed = preset.model_copy(update={"catalog": preset.catalog.model_copy(update={"counts_slope": 0.5})})
    return replace(platform, settings=replace(platform.settings, preset=changed))


def test_another_catalogue_asks_for_training_and_for_no_posterior(automation: Automation, platform: Platform):
    changed = other_catalogue(platform)
    assert plan(changed) == ["frozen_test_set", "mock_catalog"], "what follows is planned when it is made"
    stale = {target.label for target in changed.stale(changed.settings.preset)}
    assert {"mock_catalog", "redshift_prior", *TRAINED} <= stale
    of_releases = {name for name in stale if "[rel-" in name}
    assert {name.split("[")[0] for name in of_releases} == {"reweighted_posteriors", "redshift_catalog"}
    assert "pae_champion" not in stale


def test_other_templates_ask_for_training_and_template_fits_and_for_no_posterior(
    automation: Automation, platform: Platform, tmp_path: Path
):
    preset = platform.settings.preset
    changed = preset.model_copy(
        update={"templates": preset.templates.model_copy(update={"folder": tmp_path})}
    )
    stale = {target.label for target in platform.stale(changed)}
    assert {"sed_templates", "mock_catalog", *TRAINED} <= stale
    of_releases = {name.split("[")[0] for name in stale if "[rel-" in name}
    assert of_releases == {"template_fits", "reweighted_posteriors", "redshift_catalog"}


@pytest.mark.slow
def test_another_catalogue_trains_a_challenger_and_promotion_infers(
    automation: Automation, platform: Platform
):
    before, versions = made(platform, "pae_posteriors"), platform.registry.versions(PAE)
    changed = other_catalogue(platform)
    try:
        assert changed.run(select=["pae_model"]).ok
        (newest,) = set(platform.registry.versions(PAE)) - set(versions)
        assert platform.registry.by_alias(PAE, CHALLENGER).version == newest
        assert platform.registry.by_alias(PAE).version == 1
        assert made(platform, "pae_posteriors") == before
        assert not [name for name in plan(changed) if name.startswith("rel-")]
        stale = {target.label for target in changed.stale(changed.settings.preset)}
        assert not {name for name in stale if name.startswith("pae_posteriors[rel-")}
        platform.registry.set_alias(PAE, CHAMPION, newest)
        stale = {target.label for target in changed.stale(changed.settings.preset)}
        assert {f"pae_posteriors[{name}]" for name in CELLS_OF_ALL if name.startswith("rel-")} <= stale
    finally:
        platform.registry.set_alias(PAE, CHAMPION, 1)
        assert platform.run().ok or platform.stale() == []


def test_a_release_delivered_again_with_one_cell_changed_touches_that_cell(
    automation: Automation, platform: Platform
):
    before = made(platform, "redshift_catalog")
    deliver(platform, "rel-a", 11, cell_seeds={INDEX[SECOND]: 99})
    assert plan(platform) == [], "not noticed yet"
    assert automation.settle() == ["release_exposures[rel-a]", f"rel-a|{SECOND}"]
    after = made(platform, "redshift_catalog")
    assert {key for key in after if after[key] != before[key]} == {str(cell_partition("rel-a", SECOND))}


def test_a_delivery_without_a_readable_manifest_is_said(platform: Platform, automation: Automation):
    folder = platform.settings.landing / "rel-d"
    folder.mkdir()
    (folder / "manifest.json").write_text("{")
    (one,) = changed_deliveries(platform.settings, platform.instance)
    assert one.version.startswith("unreadable-") and str(folder) in (one.fault or "")
    assert automation.settle() == ["release_exposures[rel-d]"]
    (folder / "manifest.json").unlink()
    folder.rmdir()


def test_a_run_over_several_cells_records_each_by_itself(platform: Platform):
    """What a backfill in the UI does: one run, contiguous cells, and the sensors find nothing stale after it."""
    job = build_definitions(platform.settings).resolve_implicit_global_asset_job_def()
    partitions = [str(cell_partition("rel-a", cell)) for cell in CELLS]
    before = {cell: platform.table(f"redshift_catalog/rel-a/{cell}").drop("run_id") for cell in CELLS}
    names = ("pae_posteriors", "template_fits", "reweighted_posteriors", "redshift_catalog")
    done = job.execute_in_process(
        instance=platform.instance,
        asset_selection=[dg.AssetKey(name) for name in names],
        tags={
            "dagster/asset_partition_range_start": partitions[0],
            "dagster/asset_partition_range_end": partitions[-1],
        },
    )
    assert done.success
    assert platform.stale() == []
    runs = {platform.table(f"redshift_catalog/rel-a/{cell}")["run_id"][0] for cell in CELLS}
    assert runs == {done.run_id}
    for cell in CELLS:
        assert platform.table(f"redshift_catalog/rel-a/{cell}").drop("run_id").equals(before[cell])


def test_a_landing_zone_elsewhere_is_looked_at(platform: Platform, tmp_path: Path):
    elsewhere = replace(platform.settings, landing_zone=tmp_path)
    assert changed_deliveries(elsewhere, platform.instance) == []
