"""A home or a checkout that was copied or moved works on its own files, or says in one line what is missing."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from paeplatform.definitions import build_definitions
from paeplatform.errors import ConfigError, RegistryError
from paeplatform.resources.registry import PAE, ModelRegistry
from paeplatform.resources.relocation import own_artifact, own_path
from paeplatform.resources.settings import PlatformSettings
from paeplatform.sensors.staleness import StalenessChecker
from tests.platform.conftest import CELLS, Platform
from tests.platform.test_registry import register_pae


@pytest.fixture
def copied(settings: PlatformSettings, tmp_path_factory: pytest.TempPathFactory) -> PlatformSettings:
    """A copy of a home with one registered model; the original stays."""
    register_pae(ModelRegistry.from_settings(settings), settings, settings.home / "parts", seed=1)
    copy = tmp_path_factory.mktemp("copy of [a] home") / "home"
    shutil.copytree(settings.home, copy)
    return replace(settings, home=copy)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_copy_reads_its_own_models_and_trains_into_its_own_artifacts(
    settings: PlatformSettings, copied: PlatformSettings
) -> None:
    before = files(settings.mlruns / "artifacts")
    registry = ModelRegistry.from_settings(copied)
    found = registry.artifact(registry.by_version(PAE, 1), "bundle")
    assert found.is_relative_to(copied.mlruns / "artifacts") and found.is_dir()

    second = register_pae(registry, copied, copied.home / "more", seed=2)
    assert registry.artifact(second, "bundle").is_relative_to(copied.mlruns / "artifacts")
    with registry.training_run("x", copied.preset, data_version="d", dagster_run_id="r") as run:
        run.log_json({"a": 1}, "facts.json")
    logged = registry.run_file(run.run_id, "facts.json")
    assert logged is not None and logged.is_relative_to(copied.mlruns / "artifacts")
    assert files(settings.mlruns / "artifacts") == before


def test_the_original_goes_on_as_before(settings: PlatformSettings, copied: PlatformSettings) -> None:
    ModelRegistry.from_settings(copied).versions()
    registry = ModelRegistry.from_settings(settings)
    own = registry.artifact(registry.by_version(PAE, 1), "bundle")
    assert own.is_relative_to(settings.mlruns / "artifacts")


def test_a_copy_without_artifacts_says_where_they_lie(
    settings: PlatformSettings, copied: PlatformSettings
) -> None:
    shutil.rmtree(copied.mlruns / "artifacts")
    before = files(settings.mlruns / "artifacts")
    there, here = settings.mlruns / "artifacts", copied.mlruns / "artifacts"
    with pytest.raises(RegistryError) as caught:
        ModelRegistry.from_settings(copied).by_alias(PAE)
    assert f"lie in {there}" in str(caught.value) and f"copy that folder to {here}" in str(caught.value)
    assert files(there) == before and not here.exists()


def test_paths_that_were_recorded_elsewhere_mean_the_same_file_here() -> None:
    folders = {name: f"/new/var/{name}" for name in ("store", "landing", "report")} | {"results": "/r"}
    assert own_path("/new/var/store/a.parquet", folders) == "/new/var/store/a.parquet"
    assert own_path("/old/var/store/a/b.parquet", folders) == "/new/var/store/a/b.parquet"
    assert own_path("/var/store/x/var/landing/r/manifest.json", folders) == "/new/var/landing/r/manifest.json"
    assert own_path("/old/var/results/figures", folders) == "/r/figures"
    assert own_path("/data/survey/manifest.json", folders) == "/data/survey/manifest.json"
    root = "file:///new/mlruns/artifacts"
    assert own_artifact(f"{root}/models/m-1", root) == f"{root}/models/m-1"
    assert own_artifact("file:///old/mlruns/artifacts/models/m-1", root) == f"{root}/models/m-1"
    assert own_artifact("s3://bucket/mlruns/artifacts/m-1", root) == "s3://bucket/mlruns/artifacts/m-1"


def test_a_copied_home_is_as_fresh_as_its_original_and_looks_at_its_own_tables(
    platform: Platform, tmp_path: Path
) -> None:
    copy = replace(platform.settings, home=tmp_path / "copy")
    shutil.copytree(platform.settings.home, copy.home, ignore=shutil.ignore_patterns("jax"))
    checker = StalenessChecker(build_definitions(copy), platform.instance, copy)
    assert checker.stale() == []
    gone = copy.store / "template_fits" / "mock-r1" / f"{CELLS[0]}.parquet"
    gone.unlink()
    (copy.store / "mock_catalog.parquet").unlink()
    checker.forget()
    reasons = {target.label: target.reason for target in checker.stale()}
    assert reasons["mock_catalog"] == f"its file {copy.store / 'mock_catalog.parquet'} is gone"
    assert str(gone) in reasons[f"template_fits[mock-r1|{CELLS[0]}]"]
    assert platform.stale() == []


def test_the_command_of_one_checkout_does_not_work_in_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "copy" / "docs"
    other.mkdir(parents=True)
    (tmp_path / "copy" / "pyproject.toml").write_text('[project]\nname = "paeplatform"\n')
    monkeypatch.chdir(other)
    monkeypatch.delenv("PAEPLATFORM_HOME")
    with pytest.raises(ConfigError, match=r"runs the code of .*, and you are in the checkout .*copy: make"):
        PlatformSettings.from_env()
    monkeypatch.setenv("PAEPLATFORM_HOME", str(tmp_path / "home"))  # said where to work: fine
    assert PlatformSettings.from_env().home == tmp_path / "home"
    monkeypatch.delenv("PAEPLATFORM_HOME")
    monkeypatch.chdir(tmp_path)
    assert PlatformSettings.from_env().home == Path(__file__).resolve().parents[2]


def test_make_does_not_take_a_copied_environment_for_its_own(tmp_path: Path, project_root: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(project_root / name, tmp_path / name)
    environment = tmp_path / ".venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").touch()

    def planned(made_at: Path) -> str:
        cfg = f"version = 3.11.7\ncommand = /usr/bin/python3 -m venv {made_at}\n"
        (environment / "pyvenv.cfg").write_text(cfg)
        for stamp in (".installed-runtime", ".installed-dev"):
            (environment / stamp).touch()
        done = subprocess.run(
            ["make", "-n", "install"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout

    own = planned(environment)
    assert "made anew" not in own and "-m venv" not in own and "pip install" not in own
    copied = planned(tmp_path.parent / "original" / ".venv")
    assert "made anew" in copied and f"-m venv --clear {environment.name}" in copied and "pip" in copied
