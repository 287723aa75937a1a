"""A home whose name holds blanks, accents and the characters of patterns: everything lands in it, and in no other."""

import shutil
from pathlib import Path

import dagster as dg
import pandas as pd
import polars as pl
import pytest
from mlflow.models import infer_signature

from paeplatform.cli.outputs import export
from paeplatform.config import load_preset
from paeplatform.errors import ConfigError, InputError
from paeplatform.resources.instance import open_instance, open_to_read
from paeplatform.resources.objects import read_table, scan_table
from paeplatform.resources.registry import AUTOENCODER, CHAMPION, ModelRegistry
from paeplatform.resources.settings import PlatformSettings
from paeplatform.resources.store import ParquetStore

NAME, TWIN = "run[1] a*b é#50%", "run1 aXb é#50%"  # as a pattern, the first means the second
ROWS = pl.DataFrame(
    {
        "object_id": [11, 12],
        "ra": [10.0, 11.0],
        "dec": [1.0, 2.0],
        **{name: ["v1"] * 2 for name in ("bundle_version", "prior_id", "code_version", "input_data_version")},
    }
)


@pytest.fixture
def homes(tmp_path: Path) -> dict[str, PlatformSettings]:
    """The home of the odd name and its twin, which holds other rows."""
    found = {name: PlatformSettings(tmp_path / name, load_preset("demo")) for name in (NAME, TWIN)}
    for name, settings in found.items():
        cell = Path(settings.store) / "redshift_catalog" / "r1" / "hp6-1.parquet"
        cell.parent.mkdir(parents=True)
        ROWS.with_columns(pl.col("object_id") + (0 if name == NAME else 1000)).write_parquet(cell)
    return found


def test_tables_are_those_of_the_home_that_is_named(homes: dict[str, PlatformSettings]) -> None:
    for name, settings in homes.items():
        cell = settings.store / "redshift_catalog" / "r1" / "hp6-1.parquet"
        first = 11 if name == NAME else 1011
        assert read_table(cell)["object_id"].to_list() == [first, first + 1]
        assert scan_table(cell).select("object_id").collect().item(0, 0) == first


@pytest.mark.parametrize("file_format", ["parquet", "fits"])
def test_an_export_holds_the_rows_of_the_home_that_is_named(
    homes: dict[str, PlatformSettings], monkeypatch: pytest.MonkeyPatch, file_format: str
) -> None:
    home = homes[NAME].home
    monkeypatch.setenv("PAEPLATFORM_HOME", str(home))
    to = home / f"out[1].{file_format}"
    export(release="r1", file_format=file_format, to=to, cells=None, home=home, preset=None)
    if file_format == "parquet":
        rows = pl.read_parquet(to, glob=False)["object_id"].to_list()
    else:
        from astropy.table import Table

        rows = list(Table.read(to)["object_id"])
    assert rows == [11, 12]
    for pattern in ("r[1]", "*", "r?"):
        with pytest.raises(InputError, match="no catalogue of release"):
            export(release=pattern, file_format=file_format, to=None, cells=None, home=home, preset=None)


def test_dagster_records_and_the_store_keeps_tables_there(homes: dict[str, PlatformSettings]) -> None:
    settings, seen = homes[NAME], {}

    @dg.asset
    def table() -> pl.DataFrame:
        return ROWS

    @dg.asset
    def reader(table: pl.LazyFrame) -> None:
        seen["rows"] = table.collect()

    with open_instance(settings) as instance:
        store = {"io_manager": ParquetStore(base=str(settings.store))}
        assert dg.materialize([table, reader], instance=instance, resources=store).success
    with open_to_read(settings) as instance:
        assert instance.get_latest_materialization_event(table.key) is not None
    assert seen["rows"].equals(ROWS)


def test_mlflow_keeps_models_and_files_there(
    homes: dict[str, PlatformSettings], migrated_database: Path, tmp_path: Path
) -> None:
    settings = homes[NAME]
    settings.mlruns.mkdir()
    shutil.copy(migrated_database, settings.mlruns / "mlflow.db")
    registry, example = ModelRegistry.from_settings(settings), pd.DataFrame({"a": [1.0]})
    (tmp_path / "weights[1].txt").write_text("weights")
    with registry.training_run("t", settings.preset, data_version="d", dagster_run_id="r") as run:
        run.log_table(ROWS, "rows")
        version = registry.register(
            AUTOENCODER,
            {"weights": tmp_path / "weights[1].txt"},
            signature=infer_signature(example),
            input_example=example,
            tags={"content": "c"},
        )
    registry.set_alias(AUTOENCODER, CHAMPION, version.version)
    found = registry.by_alias(AUTOENCODER)
    assert registry.artifact(found, "weights").read_text() == "weights"
    logged = registry.run_file(run.run_id, "rows.parquet")
    assert logged is not None and read_table(logged).equals(ROWS)
    assert {path.name for path in tmp_path.iterdir()} == {
        NAME,
        TWIN,
        "weights[1].txt",
    }  # and nothing elsewhere


@pytest.mark.parametrize(("name", "part"), [("what?", r"'\?'"), ("a%20b", "'%20'")])
def test_a_home_that_an_sqlite_address_cannot_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, part: str
) -> None:
    monkeypatch.setenv("PAEPLATFORM_HOME", str(tmp_path / name))
    with pytest.raises(ConfigError, match=rf"PAEPLATFORM_HOME=.*the path holds {part}") as caught:
        PlatformSettings.from_env()
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []
    monkeypatch.setenv("PAEPLATFORM_HOME", str(tmp_path / NAME))
    assert PlatformSettings.from_env().home == tmp_path / NAME
