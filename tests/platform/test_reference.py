"""The model that ships, in a home: registered once, judged, used before the first training, and served."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient

from paeplatform.assets.inference.estimation import Estimation, EstimationInputs
from paeplatform.assets.inference.reference import load_reference_pae, load_reference_sbi, reference_version
from paeplatform.assets.models.reference import (
    MADE_AT,
    ORIGIN,
    TRAINED_AT,
    register_reference,
    shipped_models,
)
from paeplatform.assets.promotion.gated import GATED, Gated
from paeplatform.cli import main
from paeplatform.cli.reference import Installed, install, said_of
from paeplatform.config import load_preset
from paeplatform.definitions import build_definitions
from paeplatform.errors import CheckpointError, InputError, RegistryError
from paeplatform.instrument.bands import load_bands
from paeplatform.pae.bundle import load_bundle
from paeplatform.reference import shipped
from paeplatform.resources.champions import COMMAND, GATE, Champions
from paeplatform.resources.registry import CHALLENGER, CHAMPION, PAE, SBI, ModelRegistry
from paeplatform.resources.settings import PlatformSettings
from paeplatform.resources.workspace import Workspace
from paeplatform.sensors.run import materialize_stale
from paeplatform.serving.app import create_app
from paeplatform.serving.champion import ServedChampion, Unavailable
from tests.platform.conftest import CELLS, TINY
from tests.small_reference import PRIOR, made_up_card, save_parts, write_small

N_BANDS = 102


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_parts(tmp_path_factory.mktemp("parts"), 1)


@pytest.fixture(autouse=True)
def folder(parts: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small reference model with SBI in the place of the one that ships."""
    made = write_small(tmp_path_factory.mktemp("package") / "model", parts, sbi=True)
    monkeypatch.setattr(shipped, "_FOLDER", made)
    return made


@pytest.fixture
def registry(settings: PlatformSettings) -> ModelRegistry:
    return ModelRegistry.from_settings(settings)


def runs_of(registry: ModelRegistry) -> list:
    client = registry.client()
    return client.search_runs([one.experiment_id for one in client.search_experiments()])


@pytest.mark.parametrize("name", [PAE, SBI])
def test_it_is_registered_once_with_all_that_says_where_it_is_from(
    settings: PlatformSettings, registry: ModelRegistry, folder: Path, name: str
) -> None:
    workspace = Workspace.from_settings(settings)
    version, new = register_reference(name, registry, workspace)
    assert new and version.version == 1 and registry.aliases(version) == [CHALLENGER], (
        "the gate has to judge it"
    )
    card = made_up_card({})
    tags = version.tags
    assert (tags[ORIGIN], tags[TRAINED_AT], tags[MADE_AT]) == ("reference", card.git_commit, card.made_at)
    assert (tags["preset"], tags["preset_digest"]) == ("tiny", card.preset_digest)
    assert tags["band_hash"] == load_bands().content_hash() and tags["library_hash"] == card.library_hash
    (run,) = runs_of(registry)
    assert run.data.params["pae.flow.width"] == "16" and run.info.status == "FINISHED"

    assert register_reference(name, registry, workspace) == (version, False)
    assert registry.versions(name) == [1] and len(runs_of(registry)) == 1
    assert list(Path(settings.scratch).iterdir()) == [], "no scratch space is left"
    artifact = registry.artifact(version, "bundle" if name == PAE else "sbi")
    shipped_files = folder if name == PAE else folder / "sbi"
    for file in artifact.iterdir():
        assert file.read_bytes() == (shipped_files / file.name).read_bytes()


def test_what_mlflow_serves_it_with_is_its_own_preset_and_prior(
    settings: PlatformSettings, registry: ModelRegistry
) -> None:
    version, _ = register_reference(PAE, registry, Workspace.from_settings(settings))
    setting = registry.artifact(version, "setting")
    assert json.loads((setting / "prior.json").read_text()).items() >= PRIOR.items()
    assert json.loads((setting / "preset.json").read_text()) == load_preset(TINY).model_dump(mode="json")
    assert load_bundle(registry.artifact(version, "bundle")).n_latent == 4


def test_the_bytes_of_a_training_in_this_home_are_not_registered_again(
    settings: PlatformSettings, registry: ModelRegistry, parts: Path, tmp_path: Path
) -> None:
    """The home in which the reference was trained has it already."""
    from paeplatform.assets.models.model_records import example_photometry
    from paeplatform.assets.recording.versions import file_digest
    from paeplatform.resources.models.signatures import PAE_SUMMARIES, photometry_signature

    trained = tmp_path / "bundle"
    trained.mkdir()
    for file in shipped.bundle_files(parts):
        (trained / file.name).write_bytes(file.read_bytes())
    with registry.training_run("t", settings.preset, data_version="d", dagster_run_id="r"):
        made = registry.register(
            PAE,
            {"bundle": trained},
            signature=photometry_signature(PAE_SUMMARIES),
            input_example=example_photometry(N_BANDS),
            tags={"content": file_digest(trained)},
        )
    found, new = register_reference(PAE, registry, Workspace.from_settings(settings))
    assert (found.version, new) == (made.version, False) and ORIGIN not in found.tags


def test_a_damaged_file_is_not_registered(
    settings: PlatformSettings, registry: ModelRegistry, folder: Path
) -> None:
    (folder / "bundle.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"bundle\.json: truncated or altered"):
        register_reference(PAE, registry, Workspace.from_settings(settings))
    assert registry.versions(PAE) == []


def test_without_a_network_only_the_bundle_is_offered(
    settings: PlatformSettings, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shipped_models() == (PAE, SBI)
    monkeypatch.setattr(shipped, "_FOLDER", write_small(tmp_path / "alone", parts, sbi=False))
    assert shipped_models() == (PAE,)
    with pytest.raises(InputError, match=r"--model sbi-redshift: none ships with this package; there is pae"):
        install(settings, ["sbi"], progress=False)
    with pytest.raises(InputError, match="no model 'tf' passes through the gate"):
        install(settings, ["tf"], progress=False)


def test_a_version_of_the_reference_is_called_so() -> None:
    assert reference_version(PAE).label == "reference"


def inputs_of(settings: PlatformSettings) -> EstimationInputs:
    from paeplatform.assets.recording.tables import bands_table

    registry, workspace = ModelRegistry.from_settings(settings), Workspace.from_settings(settings)
    return EstimationInputs(settings.preset, bands_table(load_bands()), None, registry, workspace)


def test_it_answers_under_the_prior_that_was_fitted_with_it(settings: PlatformSettings) -> None:
    bound = load_reference_pae(inputs_of(settings))
    assert json.loads(bound.prior).items() >= PRIOR.items()
    assert bound.champion.label == "reference" and not settings.mlruns.joinpath("artifacts").exists()


def test_a_network_for_other_bands_and_a_missing_one_are_one_line(
    settings: PlatformSettings, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = inputs_of(settings)
    assert load_reference_sbi(inputs).champion == reference_version(SBI)
    other = replace(inputs, spherex_bands=inputs.spherex_bands.with_columns(pl.col("wave_um") * 1.001))
    with pytest.raises(dg.Failure, match="trained for other bands"):
        load_reference_sbi(other)
    monkeypatch.setattr(shipped, "_FOLDER", write_small(tmp_path / "alone", parts, sbi=False))
    with pytest.raises(dg.Failure, match="no SBI network ships"):
        load_reference_sbi(inputs)


# ---------------------------------------------------------------- runs without trainings


@pytest.mark.parametrize(
    "asset", ["autoencoder", "pae_model", "pae_promotion", "table_methods", "validation_report"]
)
def test_what_a_model_in_training_makes_is_refused_without_trainings(
    settings: PlatformSettings, asset: str
) -> None:
    with pytest.raises(InputError, match=f"asset {asset} is made of a model in training"):
        without_training(settings, "spherex_bands", asset)
    assert not settings.store.exists()


@pytest.mark.parametrize("select", [["pae_posteriors"], None])
def test_a_missing_champion_is_said_before_any_work(
    settings: PlatformSettings, select: list[str] | None
) -> None:
    said = "no model pae@champion.*register the model that ships with `paeplatform models install-reference`"
    with pytest.raises(RegistryError, match=said):
        without_training(settings, *(select or ()))
    assert not settings.store.exists()


def without_training(settings: PlatformSettings, *select: str):
    return materialize_stale(
        settings,
        defs=build_definitions(settings),
        select=select or None,
        training=False,
        progress=False,
    )


@pytest.mark.slow  # posteriors of the small model are compiled
def test_a_fresh_home_infers_its_first_release_before_its_first_training(settings: PlatformSettings) -> None:
    found = install(settings, progress=False)
    assert [(one.name, one.version, one.registered, one.against) for one in found] == [
        (PAE, 1, True, "limits"),
        (SBI, 1, True, "limits"),
    ]
    registry = ModelRegistry.from_settings(settings)
    for one in found:
        assert one.outcome == registry.by_version(one.name, 1).tags["verdict"], "the gate itself said so"
    if found[0].outcome == "rejected":  # random weights: whatever the gate says of them
        Champions(registry, PAE).promote(1, COMMAND, "for the test")
    else:
        assert Champions(registry, PAE).history()[0].by == GATE
    again = install(settings, ["pae"], progress=False)
    assert [(one.version, one.registered, one.outcome) for one in again] == [(1, False, "left alone")]
    assert registry.versions(PAE) == [1]

    summary = without_training(settings, "mock_delivery", "pae_posteriors")
    assert summary.failed == [] and summary.held == []
    made = {target.asset_key.to_user_string() for target, _ in summary.made}
    assert {"pae_champion", "pae_posteriors", "mock_delivery"} <= made
    assert not made & {"training_spectra", "autoencoder", "pae_model", "pae_evaluation", "pae_promotion"}
    assert not (settings.store / "models").exists()
    posteriors = pl.concat(
        [pl.read_parquet(settings.store / f"pae_posteriors/mock-r1/{cell}.parquet") for cell in CELLS]
    )
    assert posteriors.height == 12 and (posteriors["bundle_version"] == 1).all()
    assert without_training(settings, "mock_delivery", "pae_posteriors").made == [], "and then it is current"

    # The trainings follow, and the gate holds what they made against the model that ships.
    whole = materialize_stale(settings, defs=build_definitions(settings), progress=False)
    assert (whole.failed, whole.held, whole.skipped) == ([], [], [])
    trained = registry.by_version(PAE, 2)
    assert ORIGIN not in trained.tags and trained.tags["verdict_against"] == "v1"
    champion = 2 if trained.tags["verdict"] == "promoted" else 1
    assert registry.by_alias(PAE).version == champion
    catalog = pl.concat(
        [pl.read_parquet(settings.store / f"redshift_catalog/mock-r1/{cell}.parquet") for cell in CELLS]
    )
    assert catalog.height == 12 and (catalog["bundle_version"] == champion).all()
    lines = [said_of(registry, registry.by_version(PAE, number)) for number in (1, 2)]
    assert lines[0].startswith("pae v1, the model that ships") and "trained with preset tiny" in lines[1]
    assert [", champion: " in line for line in lines] == [champion == 1, champion == 2]


# ---------------------------------------------------------------- commands


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setenv("COLUMNS", "160")
    for name in ("PAEPLATFORM_HOME", "PAEPLATFORM_PRESET"):
        monkeypatch.setenv(name, "")

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return run


OUTCOME = Installed(PAE, 1, True, "promoted", "limits", "no champion yet, and within all limits")


@pytest.mark.parametrize("before", [True, False], ids=["home before", "home behind"])
def test_the_command_says_what_came_of_it(
    settings: PlatformSettings, command: Callable, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    asked = []

    def noted(settings: PlatformSettings, models: list[str] | None, *, progress: bool) -> list[Installed]:
        asked.append((settings.home, settings.preset.name, models, progress))
        return [OUTCOME]

    monkeypatch.setattr("paeplatform.cli.reference.install", noted)
    options = ("--home", settings.home, "--preset", TINY)
    line = ("models", *options, "install-reference") if before else ("models", "install-reference", *options)
    code, out, _ = command(*line)
    assert code == 0 and "pae v1: registered; promoted, held against limits: no champion yet" in out
    code, out, _ = command(*line, "--json", "--model", "pae")
    assert code == 0 and json.loads(out) == {"home": str(settings.home), "models": [vars(OUTCOME)]}
    assert asked == [(settings.home, "tiny", None, True), (settings.home, "tiny", ["pae"], False)]


def test_models_lists_it_and_says_how_to_get_it(settings: PlatformSettings, command: Callable) -> None:
    options = ("--home", settings.home, "--preset", TINY)
    code, out, _ = command("models", *options)
    assert code == 0 and "`paeplatform models install-reference` registers the model that ships" in out
    registry = ModelRegistry.from_settings(settings)
    register_reference(PAE, registry, Workspace.from_settings(settings))
    code, out, _ = command("models", "--json", "--model", "pae", *options)
    (version,) = json.loads(out)["models"][PAE]["versions"]
    assert (version["version"], version["aliases"], version["verdict"]) == (1, [CHALLENGER], None)
    code, _, err = command("models", "--json", *options, "install-reference")
    assert code == 2 and "--json and --model belong behind `models install-reference`" in err


# ---------------------------------------------------------------- served


class Kind:
    """A kind of model that answers without computing, and counts how often it was loaded."""

    def __init__(self, *, broken: bool = False) -> None:
        self.loaded: list[str] = []
        self.broken = broken
        self.kind = replace(GATED[SBI], load=self._version, load_reference=self._reference)

    def _version(self, inputs: EstimationInputs, version: int | None = None) -> Estimation:
        self.loaded.append(f"v{version}")
        return Estimation(inputs.registry.by_version(SBI, version), "p", "", self._answer)

    def _reference(self, inputs: EstimationInputs) -> Estimation:
        self.loaded.append("reference")
        if self.broken:
            raise CheckpointError("its files\nare gone")
        return Estimation(reference_version(SBI), "p", "", self._answer)

    @staticmethod
    def _answer(flux: np.ndarray, flux_err: np.ndarray, object_id: np.ndarray) -> pl.DataFrame:
        numbers = {f"sbi_{name}": flux[:, 0].astype(float) for name in Z}
        return pl.DataFrame({"object_id": object_id} | numbers).with_columns(
            sbi_z_quantiles=pl.lit([0.0] * 51),
            sbi_status=pl.lit("converged"),
            sbi_n_bands=pl.lit(N_BANDS),
            sbi_flags=pl.lit(0),
        )


Z = ("z_mean", "z_median", "z_mode", "z_std", "z_err68_low", "z_err68_high", "z_err95_low", "z_err95_high")
BODY = {"method": "sbi", "sources": [{"flux": [0.5] * N_BANDS, "flux_err": [1.0] * N_BANDS}]}


@pytest.fixture
def served(settings: PlatformSettings) -> Iterator[Callable[[Gated], ServedChampion]]:
    made: list[ServedChampion] = []

    def serve(kind: Gated) -> ServedChampion:
        made.append(ServedChampion(kind, settings, n_bands=N_BANDS, poll_seconds=3600.0))
        return made[-1]

    yield serve
    for one in made:
        one.close()


def test_the_reference_answers_until_the_home_has_a_champion(
    settings: PlatformSettings, registry: ModelRegistry, served: Callable[[Gated], ServedChampion]
) -> None:
    fake = Kind()
    one = served(fake.kind)
    one.look()
    one.look()
    assert fake.loaded == ["reference"], "it is loaded once"
    client = TestClient(
        create_app([one], N_BANDS)
    )  # without its lifespan: the test looks at the alias itself
    answer = client.post("/v1/photoz", json=BODY).json()
    assert answer["model"] == {"name": SBI, "version": None, "origin": "reference"}
    assert answer["sources"][0]["z_mean"] == 0.5
    health = client.get("/health").json()
    note = f"{SBI} has no champion in this home: the model that ships answers"
    assert (health["status"], health["faults"], health["notes"]) == ("ok", {}, {"sbi": note})
    (described,) = client.get("/v1/models").json()["models"]
    assert (described["version"], described["origin"], described["note"]) == (None, "reference", note)

    register_reference(SBI, registry, Workspace.from_settings(settings))
    one.look()
    assert fake.loaded == ["reference"], "a challenger is no champion"
    Champions(registry, SBI).promote(1, COMMAND, "for the test")
    settings.store.mkdir(parents=True, exist_ok=True)
    pl.DataFrame([PRIOR]).write_parquet(settings.store / "redshift_prior.parquet")
    one.look()
    assert fake.loaded == ["reference", "v1"]
    answer = client.post("/v1/photoz", json=BODY).json()
    assert answer["model"] == {"name": SBI, "version": 1, "origin": "champion"}
    assert client.get("/health").json()["notes"] == {}

    registry.drop_alias(SBI, CHAMPION)
    one.look()
    with pytest.raises(Unavailable, match="no model sbi-redshift@champion"):
        one.available()
    another = served(fake.kind)
    another.look()
    assert another.loaded is None and fake.loaded == ["reference", "v1"], "who took it down had a reason"
    assert client.post("/v1/photoz", json=BODY).status_code == 503


def test_a_reference_that_cannot_be_loaded_is_said_and_not_tried_at_every_look(
    served: Callable[[Gated], ServedChampion],
) -> None:
    fake = Kind(broken=True)
    one = served(fake.kind)
    one.look()
    one.look()
    assert fake.loaded == ["reference"] and one.loaded is None and one.note is None
    assert one.fault is not None and one.fault.startswith("no model sbi-redshift@champion")
    assert one.fault.endswith("the model that ships cannot be loaded: its files are gone")
    without = served(replace(fake.kind, load_reference=None))
    without.look()
    assert without.loaded is None and "no model sbi-redshift@champion" in str(without.fault)
