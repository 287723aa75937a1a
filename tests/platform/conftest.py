"""One migrated, empty MLflow database a session (migrating takes seconds), copied for each test that wants a
registry.
"""

import shutil
from pathlib import Path

import pytest

from paeplatform.config import load_preset
from resources.registry import ModelRegistry
from resources.settings import PlatformSettings

TINY = Path(__file__).parent / "tiny.yaml"


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
