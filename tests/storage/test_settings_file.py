"""One file chooses the mode; what is wrong with it is said in a line that shows no secret."""

from pathlib import Path

import dagster as dg
import pytest

from paeplatform.errors import ConfigError
from paeplatform.resources.instance import open_instance, write_dagster_yaml
from paeplatform.resources.registry import ModelRegistry
from paeplatform.resources.settings import PlatformSettings
from paeplatform.resources.storage import load_storage

GOOD = """\
mode: postgres
dagster: {database: {env: TEST_DAGSTER_DB}}
mlflow: {database: {env: TEST_MLFLOW_DB}, artifacts: s3://bucket/mlflow}
catalogue: {store: s3://bucket/store}
s3: {endpoint: "http://127.0.0.1:9000", region: eu-central-1}
"""
WORD = "hush"
ADDRESSES = {
    "TEST_DAGSTER_DB": f"postgresql+psycopg2://u:{WORD}@db:5432/dagster",
    "TEST_MLFLOW_DB": f"postgresql+psycopg2://u:{WORD}@db:5432/mlflow",
}


@pytest.fixture
def environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in ADDRESSES.items():
        monkeypatch.setenv(name, value)
    for name in (
        "AWS_ENDPOINT_URL",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ALLOW_HTTP",
        "MLFLOW_S3_ENDPOINT_URL",
    ):
        monkeypatch.setenv(name, "before")  # so that what the settings put there goes with the test
    return monkeypatch


def test_without_a_file_everything_lies_under_the_home(home: Path) -> None:
    settings = PlatformSettings.from_env()
    assert settings.storage.mode == "embedded"
    assert settings.store == home / "var" / "store"
    assert isinstance(settings.store, Path)
    assert settings.tracking_uri == f"sqlite:///{home}/mlruns/mlflow.db"
    assert settings.artifact_root == (home / "mlruns" / "artifacts").as_uri()


def test_the_file_sends_each_part_to_its_place(home: Path, environment: pytest.MonkeyPatch) -> None:
    import os

    (home / "storage.yaml").write_text(GOOD)
    settings = PlatformSettings.from_env()
    assert str(settings.store) == "s3://bucket/store"
    assert settings.artifact_root == "s3://bucket/mlflow"
    assert settings.tracking_uri == "env:TEST_MLFLOW_DB"
    assert os.environ["AWS_ENDPOINT_URL"] == os.environ["MLFLOW_S3_ENDPOINT_URL"] == "http://127.0.0.1:9000"
    assert os.environ["AWS_REGION"] == "eu-central-1"
    elsewhere = home / "elsewhere.yaml"
    elsewhere.write_text("mode: embedded\n")
    environment.setenv("PAEPLATFORM_STORAGE", str(elsewhere))
    assert PlatformSettings.from_env().storage.mode == "embedded"


def test_no_secret_is_in_files_or_in_what_dagster_shows(home: Path, environment: pytest.MonkeyPatch) -> None:
    (home / "storage.yaml").write_text(GOOD)
    settings = PlatformSettings.from_env()
    path = write_dagster_yaml(settings.dagster_home, settings.storage)
    assert "postgres_url: {env: TEST_DAGSTER_DB}" in path.read_text()
    registry = ModelRegistry.from_settings(settings)
    shown = path.read_text() + repr(registry) + registry.model_dump_json() + repr(settings)
    assert WORD not in shown


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("mode: cloud\n", "mode: Input should be 'embedded' or 'postgres'"),
        ("mode: embedded\ncatalogue: {store: s3://bucket/x}\n", "mode embedded takes no catalogue"),
        ("mode: postgres\n", "mode postgres needs dagster and mlflow with a database each"),
        (GOOD.replace("catalogue:", "catalog:"), "catalog: unknown key"),
        (GOOD.replace("TEST_MLFLOW_DB", "TEST_DAGSTER_DB"), "need a database each"),
        (GOOD.replace("{env: TEST_DAGSTER_DB}", f"postgresql://u:{WORD}@db/x"), "write {env: NAME}"),
        (GOOD.replace("s3://bucket/store", "/data/store"), "catalogue.store: must be s3://bucket"),
        (
            GOOD.replace("http://127.0.0.1:9000", f"http://key:{WORD}@127.0.0.1:9000"),
            "s3.endpoint: must not hold a key",
        ),
        ("mode: [postgres\n", "not valid YAML at line 2"),
        ("- postgres\n", "expected a mapping"),
    ],
)
def test_a_bad_file_is_said_in_one_line(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "storage.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_storage(path)
    said = str(caught.value)
    assert line in said and str(path) in said
    assert "\n" not in said and WORD not in said


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("", "TEST_MLFLOW_DB is not set"),
        (f"postgresql://u:{WORD}@db/mlflow", "another driver would be taken"),
        (f"postgresql+psycopg2://u:{WORD}@db", "must hold postgresql"),
        (f"postgresql+psycopg2://u:{WORD}@db:port/mlflow", "its port is no number"),
        (f"postgresql+psycopg2://other:{WORD}@db/dagster", "need a database each"),
    ],
)
def test_a_bad_address_is_said_without_showing_it(
    home: Path, environment: pytest.MonkeyPatch, value: str, line: str
) -> None:
    (home / "storage.yaml").write_text(GOOD)
    environment.setenv("TEST_MLFLOW_DB", value)
    with pytest.raises(ConfigError) as caught:
        PlatformSettings.from_env()
    assert line in str(caught.value) and WORD not in str(caught.value)


def test_a_dagster_yaml_of_the_other_mode_is_refused(home: Path, environment: pytest.MonkeyPatch) -> None:
    write_dagster_yaml(PlatformSettings.from_env().dagster_home)  # embedded
    (home / "storage.yaml").write_text(GOOD)
    with pytest.raises(ConfigError, match="paeplatform migrate"):
        open_instance(PlatformSettings.from_env())


def test_a_missing_file_that_was_named_is_an_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAEPLATFORM_STORAGE", str(home / "nonesuch.yaml"))
    with pytest.raises(ConfigError, match=r"nonesuch\.yaml do not exist"):
        PlatformSettings.from_env()


def test_the_code_location_shows_where_the_store_is(home: Path, environment: pytest.MonkeyPatch) -> None:
    from paeplatform.definitions import build_definitions

    (home / "storage.yaml").write_text(GOOD)
    defs = build_definitions(PlatformSettings.from_env())
    assert defs.resources is not None
    assert defs.resources["io_manager"].base == "s3://bucket/store"
    assert isinstance(defs.resources["io_manager"], dg.ConfigurableIOManagerFactory)
