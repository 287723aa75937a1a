from pathlib import Path

import dagster as dg
import pytest

from paeplatform.config import load_preset
from paeplatform.errors import ConfigError, RegistryError
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.instance import open_instance, open_to_read, write_dagster_yaml
from paeplatform.resources.models.tracking import flatten, git_commit
from paeplatform.resources.settings import PlatformSettings


def test_settings_come_from_the_environment_and_create_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "new"
    monkeypatch.setenv("PAEPLATFORM_HOME", str(home))
    monkeypatch.setenv("PAEPLATFORM_PRESET", "paper")
    settings = PlatformSettings.from_env()
    assert settings.home == home
    assert settings.preset.name == "paper"
    assert not home.exists()


def test_a_home_that_is_a_file_and_an_unknown_preset_are_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PAEPLATFORM_HOME", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match=r"PAEPLATFORM_HOME=.*file is not a folder"):
        PlatformSettings.from_env()
    monkeypatch.setenv("PAEPLATFORM_HOME", str(tmp_path))
    monkeypatch.setenv("PAEPLATFORM_TICK_SECONDS", "soon")
    with pytest.raises(
        ConfigError, match="PAEPLATFORM_TICK_SECONDS='soon' must be a whole number of seconds"
    ):
        PlatformSettings.from_env()
    monkeypatch.setenv("PAEPLATFORM_TICK_SECONDS", "5")
    assert PlatformSettings.from_env().tick_seconds == 5
    monkeypatch.setenv("PAEPLATFORM_PRESET", "nonesuch")
    with pytest.raises(ConfigError, match="unknown preset 'nonesuch'"):
        PlatformSettings.from_env()


def test_a_reader_finds_runs_that_the_users_dagster_yaml_keeps_elsewhere(tmp_path: Path) -> None:
    settings = PlatformSettings(tmp_path / "home", load_preset("demo"))
    with open_to_read(settings) as instance:
        assert instance.get_dynamic_partitions("release") == []
    assert not settings.home.exists()
    path = write_dagster_yaml(settings.dagster_home)
    path.write_text(f"{path.read_text()}storage: {{sqlite: {{base_dir: {tmp_path / 'elsewhere'}}}}}\n")
    with open_instance(settings) as instance:
        instance.add_dynamic_partitions("release", ["r1"])
    with open_to_read(settings) as instance:
        assert instance.get_dynamic_partitions("release") == ["r1"]


def test_the_instance_keeps_its_state_and_the_users_edits_under_the_home(tmp_path: Path) -> None:
    settings = PlatformSettings(tmp_path, load_preset("demo"))
    with open_instance(settings) as instance:
        instance.add_dynamic_partitions("release", ["r1"])
        assert not instance.telemetry_enabled
        assert instance.run_retries_enabled and instance.run_retries_max_retries == 2
        assert not instance.run_retries_retry_on_asset_or_op_failure
    with open_instance(settings) as instance:
        assert instance.get_dynamic_partitions("release") == ["r1"]
    edited = settings.dagster_home / "dagster.yaml"
    edited.write_text("telemetry: {enabled: false}\n")
    assert write_dagster_yaml(settings.dagster_home).read_text() == "telemetry: {enabled: false}\n"
    assert not [path for path in settings.dagster_home.iterdir() if path.name.startswith(".dagster.yaml")]


def test_user_errors_become_a_failure_of_one_line_that_is_not_retried() -> None:
    with pytest.raises(dg.Failure) as caught, one_line_failures():
        raise RegistryError("no model pae@champion")
    assert caught.value.description == "no model pae@champion"
    assert caught.value.allow_retries is False
    assert isinstance(caught.value.__cause__, RegistryError)


def test_defects_keep_their_own_type() -> None:
    with pytest.raises(ZeroDivisionError), one_line_failures():
        _ = 1 / 0


def test_the_commit_is_unknown_outside_a_checkout(tmp_path: Path) -> None:
    assert git_commit(tmp_path) == "unknown"
    assert git_commit(tmp_path / "missing") == "unknown"


def test_a_preset_becomes_dotted_parameters() -> None:
    flat = flatten(load_preset("demo").model_dump(mode="json"))
    assert flat["pae.autoencoder.fit.epochs"] == "60"
    assert not any(isinstance(value, dict) for value in flat.values())
