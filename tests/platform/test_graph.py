"""The whole graph once, tiny but real, on an ephemeral instance; every test here looks at the same finished
run.
"""

import dataclasses
import fcntl
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import numpy as np
import pandas as pd
import polars as pl
import pytest

from paeplatform.assets.inference.estimation import EstimationInputs, load_champion
from paeplatform.assets.recording.metadata import MAX_PNG_BYTES
from paeplatform.assets.recording.tables import bands_from, photometry_at_centres
from paeplatform.assets.recording.versions import content_version
from paeplatform.assets.validation.report import truth_of
from paeplatform.cli.outputs import _galaxy as source_of
from paeplatform.cli.outputs import show
from paeplatform.config import Preset
from paeplatform.definitions import build_definitions
from paeplatform.errors import CheckpointError, InputError, RegistryError
from paeplatform.paper.table_list import TABLES
from paeplatform.resources.registry import CHAMPION, PAE
from paeplatform.resources.workspace import Workspace
from paeplatform.sensors.run import LAUNCHER_TAG
from paeplatform.sensors.staleness import Target
from paeplatform.source_columns import array_column
from tests.platform.conftest import CELLS, TINY, Platform

REWEIGHTED = [f"reweighted_posteriors[mock-r1|{cell}]" for cell in CELLS]
DOWNSTREAM_OF_FITS = [
    *(f"redshift_catalog[mock-r1|{cell}]" for cell in CELLS),
    "photoz_metrics[mock-r1]",
    "validation_report[mock-r1]",
]
DOWNSTREAM_OF_POSTERIORS = [*REWEIGHTED, *DOWNSTREAM_OF_FITS]
POSTERIORS = [f"pae_posteriors[mock-r1|{cell}]" for cell in CELLS]
STRESS = "missing_band_stress[mock-r1]"
FROM_SCORES = [
    "sample_scores",
    *(table.name for table in TABLES),
    "example_posteriors",
    "profile_likelihoods",
    "paper_figures",
]
SAMPLED = [
    *(f"sample_pae_posteriors[{choice}]" for choice in ("nf_bpz", "nf_uniform", "free")),
    "sample_chains[4]",
    "posterior_ranks",
    "table_ranks",
    *FROM_SCORES,
]


def labels(targets: list[Target]) -> list[str]:
    return [target.label for target in targets]


def test_everything_is_made_once_with_a_line_each(platform: Platform) -> None:
    assert platform.first.failed == []
    made = labels([target for target, _ in platform.first.made])
    assert len(made) == len(set(made)) == 62
    assert [line.split()[1] for line in platform.console.replace("[ ", "[").splitlines()] == made
    assert {target.reason for target, _ in platform.first.made} == {"missing"}


def test_a_second_run_does_nothing(platform: Platform) -> None:
    assert platform.stale() == []
    again = platform.run()
    assert (again.made, again.kept, again.failed) == ([], [], [])


def test_rows_add_up_from_photometry_to_catalogue(platform: Platform) -> None:
    truth = truth_of(platform.table("mock_photometry"))
    catalog = platform.catalog()
    assert catalog["object_id"].sort().equals(truth["object_id"].sort())
    assert catalog.height == 12
    assert "z_true" not in catalog.columns, "the catalogue knows what was delivered, not the truth"
    delivered = platform.table("release_exposures/mock-r1")["n_rows"].sum()
    assert catalog.select(pl.sum("n_used", "n_masked", "n_set_aside")).sum_horizontal()[0] == delivered
    metrics = platform.table("photoz_metrics/mock-r1")
    assert metrics.filter(pl.col("cut").is_null())["n_total"].item() == 12


def test_every_row_says_what_made_it(platform: Platform) -> None:
    catalog = platform.catalog()
    assert catalog["release"].unique().to_list() == ["mock-r1"]
    assert catalog["bundle_version"].unique().to_list() == [platform.registry.by_alias(PAE).version]
    assert catalog["prior_id"].unique().str.starts_with("bpz-").all()
    for index, cell in enumerate(CELLS):
        rows = platform.table(f"redshift_catalog/mock-r1/{cell}")
        assert rows["cell"].unique().to_list() == [platform.settings.preset.release.cells[index]]
        photometry = platform.table(f"release_photometry/mock-r1/{cell}")
        assert rows["input_data_version"].unique().to_list() == [content_version(photometry).value]
        (run_id,) = rows["run_id"].unique()
        key = dg.AssetKey("pae_posteriors")
        (made,) = [
            event.asset_materialization
            for event in platform.instance.fetch_materializations(key, limit=10).records
            if event.run_id == run_id
        ]
        assert made.partition == dg.MultiPartitionKey({"release": "mock-r1", "cell": cell})
        assert rows["code_version"].unique().to_list() == [made.tags["dagster/code_version"]]


def test_models_are_registered_and_linked(platform: Platform) -> None:
    champion = platform.registry.by_alias(PAE)
    assert platform.registry.versions("sed-autoencoder") == [1]
    assert platform.registry.versions("latent-flow") == [1]
    assert platform.registry.versions("posterior-proposal") == [1]
    for part in ("autoencoder", "flow", "proposal"):
        assert champion.tags[f"{part}_version"] == "1"
    assert champion.tags["preset_digest"] == platform.settings.preset.digest()
    assert len(champion.tags["band_hash"]) == len(champion.tags["library_hash"]) == 16
    flow = platform.registry.client().get_model_version("latent-flow", "1")
    curve = platform.registry.client().get_metric_history(flow.run_id, "train_loss")
    assert [point.step for point in curve] == [1, 2, 3]


def test_measurements_that_are_gone_are_made_again_with_their_photometry(platform: Platform) -> None:
    path = platform.settings.store / "release_measurements" / "mock-r1" / f"{CELLS[0]}.parquet"
    whole = path.read_bytes()
    path.unlink()
    stale = {target.label: target.reason for target in platform.stale()}
    assert next(iter(stale)) == f"release_photometry[mock-r1|{CELLS[0]}]"
    assert str(path) in stale[f"release_photometry[mock-r1|{CELLS[0]}]"]
    again = platform.run()
    assert labels([target for target, _ in again.made]) == [f"release_photometry[mock-r1|{CELLS[0]}]"]
    assert path.read_bytes() == whole and platform.stale() == []


def test_results_are_shown_as_metadata(platform: Platform) -> None:
    def latest(name: str) -> dict[str, dg.MetadataValue]:
        (record,) = platform.instance.fetch_materializations(dg.AssetKey(name), limit=1).records
        return dict(record.asset_materialization.metadata)

    catalog = latest("redshift_catalog")
    assert catalog["dagster/row_count"].value == 6
    columns = [column.name for column in catalog["dagster/column_schema"].value.columns]
    assert {"pae_z_mean", "pae_path", "tf_z_mean", "tf_status"} <= set(columns)
    for name, plot in (
        ("autoencoder", "training_curves"),
        ("posterior_proposal", "training_curves"),
        ("posterior_proposal", "proposal_recovery"),
        ("pae_posteriors", "convergence"),
        ("missing_band_stress", "figure"),
        ("photoz_metrics", "recovery"),
        ("redshift_prior", "n_of_z"),
    ):
        image = latest(name)[plot].value
        assert image.startswith("![plot](data:image/png;base64,iVBOR")
        assert len(image) < 1.4 * MAX_PNG_BYTES
    assert latest("pae_model")["model_version"].value == "pae v1"
    posteriors = latest("pae_posteriors")
    assert sum(posteriors["made_by"].data.values()) == sum(posteriors["status"].data.values()) == 6
    assert posteriors["galaxies_per_hour"].value > 0
    assert sum(latest("template_fits")["status"].data.values()) == 6
    page = Path(str(latest("validation_report")["page"].value)).read_text()
    for words in (
        "mock-r1",
        "How the posteriors were made",
        "Stress test: missing bands",
        "Quality of the release",
        "Table 1: template fitting",
        "browser-data",
    ):
        assert words in page
    assert "table" in latest("table_priors") and "fig11_recovery" in latest("paper_figures")


def test_posteriors_say_which_path_made_them_and_keep_draws_out_of_the_catalogue(platform: Platform) -> None:
    posteriors = pl.concat([platform.table(f"pae_posteriors/mock-r1/{cell}") for cell in CELLS])
    assert posteriors["pae_path"].is_in(["proposal", "adapted", "mclmc"]).all()
    assert posteriors["pae_status"].is_in(["converged", "unconverged"]).all()
    sampled = posteriors.filter(pl.col("pae_path") != "mclmc")
    assert sampled["pae_rhat"].null_count() == sampled.height
    assert posteriors["pae_z_draws"].to_numpy().shape == (12, platform.settings.preset.inference.n_kept)
    catalog = platform.catalog()
    assert "pae_z_draws" not in catalog.columns
    assert {"pae_z_quantiles", "pae_path", "pae_khat", "input_fault"} <= set(catalog.columns)
    fits = pl.concat([platform.table(f"template_fits/mock-r1/{cell}") for cell in CELLS])
    both = catalog.join(fits, on="object_id", suffix="_fit", validate="1:1")
    assert both.height == 12
    assert both["tf_z_mean"].equals(both["tf_z_mean_fit"].alias("tf_z_mean"))


def test_the_stress_test_masks_bands_of_the_same_sources(platform: Platform) -> None:
    table = platform.table("missing_band_stress/mock-r1")
    cfg = platform.settings.preset.stress_test
    assert table["fraction"].unique().sort().to_list() == list(cfg.fractions)
    (whole, _), (half, _) = (
        (rows["object_id"].to_list(), fraction)
        for (fraction,), rows in table.group_by("fraction", maintain_order=True)
    )
    assert whole == half
    assert 1 <= len(whole) <= cfg.n_sources
    assert (table["snr"] >= cfg.min_snr).all()
    assert table.filter(pl.col("fraction") == 0.5)["pae_n_bands"].unique().to_list() == [51]


def test_a_bundle_from_before_there_was_a_proposal_still_answers(platform: Platform, tmp_path: Path) -> None:
    from paeplatform.pae.bundle import load_bundle, save_bundle

    champion = platform.registry.by_alias(PAE)
    folder = platform.registry.artifact(champion, "bundle")
    old = dataclasses.replace(load_bundle(folder), proposal=None, proposal_config=None)
    save_bundle(old, tmp_path / "bundle")
    assert not (tmp_path / "bundle" / "proposal.json").exists()
    context = SimpleNamespace(
        artifacts={
            "bundle": str(tmp_path / "bundle"),
            "setting": str(platform.registry.artifact(champion, "setting")),
        }
    )
    from paeplatform.resources.pyfunc.pae_model import PaeModel

    model = PaeModel()
    model.load_context(context)
    cell = platform.table(f"release_photometry/mock-r1/{CELLS[0]}").head(2)
    columns = {name: list(cell[name].to_numpy().astype(float)) for name in ("flux", "flux_err")}
    answer = model.predict(None, pd.DataFrame(columns | {"object_id": cell["object_id"].to_numpy()}))
    assert set(answer["pae_path"]) == {"mclmc"}
    assert np.isfinite(answer["pae_z_mean"]).all()
    assert answer["pae_khat"].isna().all()


def test_the_papers_tables_are_made_of_the_validation_sample(platform: Platform) -> None:
    sample, frozen = platform.table("validation_sample"), platform.table("frozen_test_set")
    assert sample["object_id"].to_list() == frozen["object_id"].to_list()[:12]
    scores = platform.table("sample_scores")
    counts = dict(scores["method"].value_counts().iter_rows())
    assert counts == {"tf": 12, "sbi": 12, "nf_bpz": 12, "nf_uniform": 12}, "the preset leaves chains out"
    posteriors = platform.table("sample_pae_posteriors/nf_bpz").sort("object_id")
    row = scores.filter(pl.col("method") == "nf_bpz").sort("object_id")
    np.testing.assert_array_equal(
        row["z_hat"].to_numpy(), posteriors["pae_z_mean"].cast(pl.Float64).to_numpy()
    )
    table = platform.table("table_priors")
    assert table.filter(pl.col("cut") == 0.2)["n_total"].to_list() == [12, 12, 12, 12]
    results = platform.settings.results
    for name in (*(table.name for table in TABLES), "table_ranks", "table_latent_norms"):
        written = pl.read_csv(results / f"{name}.csv", infer_schema_length=None)
        assert (
            written.columns == platform.table(name).columns and written.height == platform.table(name).height
        )
        assert (results / f"{name}.md").read_text().startswith("# ")
    figures = platform.table("paper_figures")
    assert {"fig11_recovery", "fig15_priors", "fig18_convergence"} <= set(figures["name"])
    for row in figures.iter_rows(named=True):
        assert Path(row["png"]).read_bytes().startswith(b"\x89PNG")
        assert Path(row["pdf"]).read_bytes().startswith(b"%PDF")
    client = platform.registry.client()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (run,) = client.search_runs(experiments, "run_name = 'validation-tables'")
    logged = {file.path for file in client.list_artifacts(run.info.run_id, "figures")}
    assert "figures/fig11_recovery.pdf" in logged


def test_scratch_and_checkpoints_are_gone(platform: Platform) -> None:
    assert list((platform.settings.store / ".scratch").iterdir()) == []
    assert list(platform.settings.checkpoints.iterdir()) == []


CHANGES = {
    "validation": (
        {"validation": {"n_bootstrap": 30}},
        ["photoz_metrics[mock-r1]", "validation_report[mock-r1]"],
    ),
    "prior": (
        {"prior": {"amplitude": "marginal"}},
        [
            "inference_prior",
            "pae_evaluation",
            "pae_promotion",
            *POSTERIORS,
            STRESS,
            *DOWNSTREAM_OF_POSTERIORS,
            *SAMPLED,
        ],
    ),
    "template fit": (
        {"template_fit": {"z_step": 0.25}},
        [
            *(f"template_fits[mock-r1|{cell}]" for cell in CELLS),
            *DOWNSTREAM_OF_FITS,
            "sample_template_fits",
            *FROM_SCORES,
        ],
    ),
    "stress test": ({"stress_test": {"n_sources": 2}}, [STRESS, "validation_report[mock-r1]"]),
    # A new flow makes a challenger; only promoting it touches the posteriors. The report shows the flow's curves.
    "flow": (
        {"pae": {"flow": {"jitter": 0.07}}},
        [
            "latent_flow[4]",
            "posterior_proposal",
            "pae_model",
            "pae_evaluation",
            "pae_promotion",
            "validation_report[mock-r1]",
            "held_out_spectra[4]",
            "table_latent_norms",
            *SAMPLED,
        ],
    ),
}


@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_section_makes_the_expected_targets_stale(
    platform: Platform, change: dict, expected: list[str]
) -> None:
    tree = platform.settings.preset.model_dump()
    stale = platform.stale(Preset.model_validate(_merged(tree, change)))
    assert sorted(labels(stale)) == sorted(expected)
    assert stale[0].reason.startswith("settings or code changed")


def _merged(tree: dict, change: dict) -> dict:
    return tree | {
        key: _merged(tree[key], value) if isinstance(value, dict) else value for key, value in change.items()
    }


@pytest.fixture
def second_version(platform: Platform) -> Iterator[None]:
    """A second version of `pae` for the time of a test; the champion is v1 before and after."""
    client = platform.registry.client()
    first = client.get_model_version(PAE, "1")
    client.create_model_version(PAE, source=first.source, run_id=first.run_id)
    yield
    platform.registry.set_alias(PAE, CHAMPION, 1)
    client.delete_model_version(PAE, str(platform.registry.versions(PAE)[-1]))


@pytest.mark.usefixtures("second_version")
def test_a_champion_moved_by_hand_makes_the_posteriors_stale(platform: Platform) -> None:
    assert platform.stale() == [], "a new version alone changes nothing"
    newest = platform.registry.versions(PAE)[-1]
    platform.registry.set_alias(PAE, CHAMPION, newest)
    stale = platform.stale()
    assert stale[0].label == "pae_champion"
    assert sorted(labels(stale)) == sorted(["pae_champion", STRESS, *POSTERIORS, *DOWNSTREAM_OF_POSTERIORS])
    moved = {target.label for target in stale if target.reason == f"champion pae v1 -> v{newest}"}
    assert moved == {"pae_champion", STRESS, *POSTERIORS}
    platform.registry.set_alias(PAE, CHAMPION, 1)
    assert platform.stale() == []


def test_a_missing_champion_is_said_before_work_starts(platform: Platform) -> None:
    platform.registry.client().delete_registered_model_alias(PAE, CHAMPION)
    try:
        runs = platform.instance.get_runs_count()
        with pytest.raises(RegistryError, match=r"^no model pae@champion in .*: set it in the MLflow UI"):
            platform.run()
        assert platform.instance.get_runs_count() == runs
    finally:
        platform.registry.set_alias(PAE, CHAMPION, 1)


def test_what_comes_out_as_before_does_not_propagate(platform: Platform) -> None:
    (platform.settings.store / "redshift_prior.parquet").unlink()
    stale = platform.stale()
    assert stale[0].label == "redshift_prior"
    assert stale[0].reason.endswith("is gone")
    assert len(stale) > 5
    summary = platform.run()
    assert labels([target for target, _ in summary.made]) == ["redshift_prior"]
    assert len(summary.kept) == len(stale) - 1
    assert platform.stale() == []


def test_a_selection_brings_up_to_date_what_it_needs_and_no_more(platform: Platform) -> None:
    for name in ("redshift_prior.parquet", "training_spectra.parquet"):
        (platform.settings.store / name).unlink()
    summary = platform.run(select=["redshift_prior"])
    assert labels([target for target, _ in summary.made]) == ["redshift_prior"]
    assert labels([target for target, _ in platform.run().made]) == ["training_spectra"]
    with pytest.raises(InputError, match="unknown asset nonesuch: give some of sed_templates"):
        platform.run(select=["nonesuch"])


def test_a_corrupt_model_is_one_line_and_loses_nothing(platform: Platform) -> None:
    weights = platform.registry.artifact(platform.registry.by_alias(PAE), "bundle") / "flow.eqx"
    whole, table = (
        weights.read_bytes(),
        platform.settings.store / "pae_posteriors" / "mock-r1" / f"{CELLS[0]}.parquet",
    )
    kept = table.read_bytes()
    weights.write_bytes(whole[:-100])
    table.unlink()
    try:
        with pytest.raises(CheckpointError, match=r"flow\.eqx: truncated or altered") as caught:
            platform.run()
        assert "\n" not in str(caught.value)
    finally:
        weights.write_bytes(whole)
        table.write_bytes(kept)
    assert platform.stale() == []


def test_the_registered_bundle_answers_photometry_with_pickle_switched_off(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    platform.registry.client()  # points MLflow at this home
    import mlflow

    model = mlflow.pyfunc.load_model(f"models:/{PAE}@{CHAMPION}")
    cell = platform.table(f"release_photometry/mock-r1/{CELLS[0]}")
    columns = {name: list(cell[name].to_numpy().astype(float)) for name in ("flux", "flux_err")}
    answer = model.predict(pd.DataFrame(columns | {"object_id": cell["object_id"].to_numpy()}))
    expected = platform.of_channels(cell)
    np.testing.assert_allclose(answer["pae_z_mean"], expected["pae_z_mean"].to_numpy(), rtol=1e-5)

    short = pd.DataFrame({"flux": [[1.0] * 101], "flux_err": [[1.0] * 101]})
    with pytest.raises(Exception, match=r"flux, row 0: shape \(101,\), expected \(102,\)"):
        model.predict(short)


def test_posteriors_of_averages_can_be_had_instead(platform: Platform) -> None:
    inference = platform.settings.preset.inference.model_copy(update={"wavelengths": "channels"})
    preset = platform.settings.preset.model_copy(update={"inference": inference})
    photometry, measurements = (
        platform.table(f"release_{name}/mock-r1/{CELLS[0]}") for name in ("photometry", "measurements")
    )
    tables = platform.table("spherex_bands"), platform.table("redshift_prior")
    workspace = Workspace.from_settings(platform.settings)
    chosen = load_champion(EstimationInputs(preset, *tables, platform.registry, workspace))
    got = chosen.estimate_release(photometry, measurements)
    centred, _, _ = photometry_at_centres(photometry, bands_from(tables[0]))
    expected = platform.of_channels(photometry.with_columns(array_column(centred).alias("flux")))
    assert got.select(expected.columns).equals(expected) and got["pae_n_measurements"].max() <= 102
    more = [name for name in got.columns if name not in expected.columns]
    assert more and all(name.startswith("class_") for name in more)


def test_the_card_shows_the_measurements_and_of_an_older_release_the_channels(
    platform: Platform, tmp_path: Path
) -> None:
    catalog, settings = platform.table(f"redshift_catalog/mock-r1/{CELLS[0]}"), platform.settings
    source = catalog["object_id"][0]
    written = tmp_path / "card.png"
    show(source, release="mock-r1", to=written, home=settings.home, preset=str(TINY))
    assert written.read_bytes().startswith(b"\x89PNG")
    galaxy = source_of(settings, source, "mock-r1")
    assert len(galaxy.flux) == len(galaxy.wave_um) == catalog["n_used"][0]
    path = settings.store / "release_measurements" / "mock-r1" / f"{CELLS[0]}.parquet"
    hidden = path.rename(path.with_suffix(".hidden"))
    try:
        older = source_of(settings, source, None)
        assert len(older.flux) == len(older.width_um) == 102
    finally:
        hidden.rename(path)


def evaluate(platform: Platform, instance: dg.DagsterInstance) -> dg.SensorResult | dg.SkipReason:
    sensor = next(
        one for one in build_definitions(platform.settings).sensors if one.name == "reconcile_sensor"
    )
    return sensor(dg.build_sensor_context(instance=instance))


def test_the_sensor_asks_for_one_layer_at_a_time(platform: Platform) -> None:
    with dg.DagsterInstance.ephemeral() as empty:
        result = evaluate(platform, empty)
    asked = [request.asset_selection for request in result.run_requests]
    # The registry has champions, so these assets do not wait for a training.
    assert sorted(asked) == [
        [dg.AssetKey(name)] for name in ("pae_champion", "sbi_champion", "sed_templates", "spherex_bands")
    ]

    assert evaluate(platform, platform.instance).skip_message == "everything is fresh"


@pytest.mark.usefixtures("second_version")
def test_the_sensor_asks_once_for_a_state_and_again_for_another(platform: Platform) -> None:
    newest = platform.registry.versions(PAE)[-1]
    platform.registry.set_alias(PAE, CHAMPION, newest)
    (asked,) = evaluate(platform, platform.instance).run_requests
    assert asked.asset_selection == [dg.AssetKey("pae_champion")]
    (again,) = evaluate(platform, platform.instance).run_requests
    assert again.run_key == asked.run_key

    cell = platform.settings.store / "release_photometry" / "mock-r1" / f"{CELLS[0]}.parquet"
    kept = cell.read_bytes()
    cell.unlink()
    requests = evaluate(platform, platform.instance).run_requests
    cell.write_bytes(kept)
    assert {str(request.partition_key) for request in requests} == {"None", f"{CELLS[0]}|mock-r1"}


def test_a_killed_catch_up_is_buried_and_two_at_once_are_refused(platform: Platform) -> None:
    orphan = platform.instance.create_run_for_job(
        build_definitions(platform.settings).resolve_implicit_global_asset_job_def(),
        status=dg.DagsterRunStatus.STARTED,
        tags={LAUNCHER_TAG: "materialize_stale"},
    )
    registry, preset = platform.registry, platform.settings.preset
    with registry.training_run("x", preset, data_version="d", dagster_run_id=orphan.run_id) as training:
        pass
    registry.client().update_run(training.run_id, status="RUNNING")
    assert platform.run().ok
    assert registry.client().get_run(training.run_id).info.status == "KILLED"
    assert platform.instance.get_run_by_id(orphan.run_id).status == dg.DagsterRunStatus.FAILURE

    with (platform.settings.dagster_home / "materialize.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another `paeplatform run` is at work"):
            platform.run()
