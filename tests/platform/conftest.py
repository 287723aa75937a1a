"""One migrated, empty MLflow database a session (migrating takes seconds), copied for each test that wants a
registry.
"""

import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from rich.console import Console

from paeplatform.assets.recording.tables import library_from
from paeplatform.config import Preset, load_preset
from paeplatform.definitions import build_definitions
from paeplatform.instrument.bands import load_bands
from paeplatform.release.simulated.delivery import DeliverySpec, write_delivery
from paeplatform.release.simulated.sky import TemplateSky
from paeplatform.resources.registry import ModelRegistry
from paeplatform.resources.settings import PlatformSettings
from paeplatform.sensors.run import RunSummary, materialize_stale
from paeplatform.sensors.staleness import Target, stale_targets

TINY = Path(__file__).parent / "tiny.yaml"
CELLS = ("hp6-27256", "hp6-27258")


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("mlflow")
    ModelRegistry.from_settings(PlatformSettings(home, load_preset(TINY))).client().search_experiments()
    return home / "mlruns" / "mlflow.db"


@pytest.fixture
def settings(tmp_path: Path, migrated_database: Path) -> PlatformSettings:
    """A home of its own with an empty registry, and the tiny preset."""
    made = PlatformSettings(tmp_path, load_preset(TINY))
    made.mlruns.mkdir()
    shutil.copy(migrated_database, made.mlruns / "mlflow.db")
    return made


@dataclass(frozen=True)
class Platform:
    settings: PlatformSettings
    instance: dg.DagsterInstance
    first: RunSummary
    console: str

    def run(self, **kwargs) -> RunSummary:
        defs = build_definitions(self.settings)
        return materialize_stale(self.settings, progress=False, defs=defs, instance=self.instance, **kwargs)

    def stale(self, preset: Preset | None = None) -> list[Target]:
        settings = replace(self.settings, preset=preset or self.settings.preset)
        return stale_targets(build_definitions(settings), self.instance, settings)

    def table(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.settings.store / f"{name}.parquet")

    def deliver(self, spec: DeliverySpec) -> None:
        """Puts a delivery of the mock sources into the landing zone."""
        sky, folder = (
            TemplateSky(library_from(self.table("sed_templates"))),
            self.settings.landing / spec.release,
        )
        write_delivery(self.table("mock_photometry"), load_bands(), folder, spec, sky=sky, progress=False)

    def of_channels(self, photometry: pl.DataFrame) -> pl.DataFrame:
        """What the champion of `pae` says of the channels of some sources, asked directly."""
        from paeplatform.assets.inference.estimation import EstimationInputs, load_champion
        from paeplatform.assets.recording.tables import photometry_of
        from paeplatform.resources.workspace import Workspace

        tables = self.table("spherex_bands"), self.table("redshift_prior")
        workspace = Workspace.from_settings(self.settings)
        inputs = EstimationInputs(self.settings.preset, *tables, self.registry, workspace)
        return load_champion(inputs).estimate(*photometry_of(photometry))

    def catalog(self) -> pl.DataFrame:
        return pl.concat([self.table(f"redshift_catalog/mock-r1/{cell}") for cell in CELLS])

    @property
    def registry(self) -> ModelRegistry:
        return ModelRegistry.from_settings(self.settings)


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory, migrated_database: Path) -> Iterator[Platform]:
    """The whole graph once, tiny but real; tests leave it as they found it, everything fresh."""
    settings = PlatformSettings(tmp_path_factory.mktemp("home"), load_preset(TINY))
    settings.mlruns.mkdir()
    shutil.copy(migrated_database, settings.mlruns / "mlflow.db")
    console = Console(file=io.StringIO(), width=120)
    with dg.DagsterInstance.ephemeral() as instance:
        first = materialize_stale(
            settings, console=console, defs=build_definitions(settings), instance=instance
        )
        yield Platform(settings, instance, first, console.file.getvalue())
