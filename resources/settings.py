"""Where a run lives and which preset it follows: the only place that reads the environment."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from upath import UPath

from paeplatform.config import Preset, load_preset
from paeplatform.errors import ConfigError
from paeplatform.resources.objects import store_path
from paeplatform.resources.storage import (
    EMBEDDED,
    REFERENCE,
    STORAGE_FILE,
    Storage,
    check_address,
    load_storage,
)

HOME_VARIABLE = "PAEPLATFORM_HOME"
PRESET_VARIABLE = "PAEPLATFORM_PRESET"
MLFLOW_UI_VARIABLE = "PAEPLATFORM_MLFLOW_UI"
LANDING_VARIABLE = "PAEPLATFORM_LANDING"
PRIOR_VARIABLE = "PAEPLATFORM_PRIOR"
AUTOMATION_VARIABLE = "PAEPLATFORM_AUTOMATION"
TICK_VARIABLE = "PAEPLATFORM_TICK_SECONDS"
STORAGE_VARIABLE = "PAEPLATFORM_STORAGE"
DEFAULT_PRESET = "demo"
DEFAULT_MLFLOW_UI = "http://127.0.0.1:5000"

_NOT_IN_SQLITE = re.compile(r"\?|%[0-9A-Fa-f]{2}")

# Said before any of these libraries is imported: no telemetry, no advertising, no progress bars in run logs.
QUIET_ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GX_ANALYTICS_ENABLED": "false",
}


@dataclass(frozen=True)
class PlatformSettings:
    """A home folder and a preset. Making one creates nothing on disk.

    Attributes:
        home: absolute folder under which all state lives.
        preset: the validated configuration of the run.
        mlflow_ui: address under which the MLflow UI is expected, for links in Dagster's metadata.
        landing_zone: folder of deliveries, one folder a release; None: `var/landing` under the home.
        prior_path: CSV of the p(z) in force, which need not exist; None: `var/prior/redshift_prior.csv`.
        automation: whether the sensors start switched on; what is switched in Dagster's UI goes before it.
        tick_seconds: least time between two looks of a sensor.
        storage: where runs, models and tables are kept.
    """

    home: Path
    preset: Preset
    mlflow_ui: str = DEFAULT_MLFLOW_UI
    landing_zone: Path | None = None
    prior_path: Path | None = None
    automation: bool = False
    tick_seconds: int = 60
    storage: Storage = EMBEDDED

    @classmethod
    def from_env(cls) -> PlatformSettings:
        """Reads PAEPLATFORM_HOME (default: the project root), PAEPLATFORM_PRESET (default: demo),
        PAEPLATFORM_LANDING, PAEPLATFORM_PRIOR, PAEPLATFORM_AUTOMATION (on or off), PAEPLATFORM_TICK_SECONDS and
        PAEPLATFORM_STORAGE (a settings file; default: `storage.yaml` under the home, when there is one).

        Raises:
            ConfigError: the home is a file or has a name that SQLite's address cannot hold, the preset or the settings
                of storage are unknown or invalid, or a variable is not what it may be.
        """
        home = Path(os.environ.get(HOME_VARIABLE) or _project_root()).expanduser().resolve()
        if home.exists() and not home.is_dir():
            raise ConfigError(f"{HOME_VARIABLE}={home} is not a folder")
        storage = _storage(home)
        if storage.mlflow is None or storage.dagster is None:
            _check_home(home)
        for name, value in QUIET_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        return cls(
            home=home,
            preset=load_preset(os.environ.get(PRESET_VARIABLE) or DEFAULT_PRESET),
            mlflow_ui=os.environ.get(MLFLOW_UI_VARIABLE) or DEFAULT_MLFLOW_UI,
            landing_zone=_path(LANDING_VARIABLE),
            prior_path=_path(PRIOR_VARIABLE),
            automation=_switch(AUTOMATION_VARIABLE),
            tick_seconds=_seconds(TICK_VARIABLE, 60),
            storage=storage,
        )

    @property
    def landing(self) -> Path:
        """Where deliveries arrive: `<landing>/<release>/manifest.json` beside the files it lists."""
        return self.landing_zone or self.home / "var" / "landing"

    @property
    def prior_file(self) -> Path:
        """The p(z) of the user's; while it does not exist, the preset's is in force."""
        return self.prior_path or self.home / "var" / "prior" / "redshift_prior.csv"

    @property
    def dagster_home(self) -> Path:
        """Dagster's runs, events and schedules."""
        return self.home / "var" / "dagster_home"

    @property
    def store(self) -> UPath:
        """Tables (Parquet) and model folders, one path per asset and partition; a local one is a `pathlib.Path` too."""
        return store_path(self.storage.catalogue.store or self.home / "var" / "store")

    @property
    def scratch(self) -> Path:
        """Where tables and folders grow before the store takes them over; beside a local store, for a rename."""
        return self.home / "var" / (".scratch" if self.storage.catalogue.store else "store/.scratch")

    @property
    def checkpoints(self) -> Path:
        """Half-finished trainings, resumed after a kill."""
        return self.home / "var" / "checkpoints"

    @property
    def cache(self) -> Path:
        """JAX's compiled programs, shared by every process that infers."""
        return self.home / "var" / "cache"

    @property
    def report(self) -> Path:
        """Validation reports, one folder a release."""
        return self.home / "var" / "report"

    @property
    def results(self) -> Path:
        """Validation's tables as CSV and Markdown, its figures as PNG and PDF."""
        return self.home / "var" / "results"

    @property
    def mlruns(self) -> Path:
        """MLflow's home: mlflow.db and artifacts/."""
        return self.home / "mlruns"

    @property
    def tracking_uri(self) -> str:
        """MLflow's store, for `address` to resolve: SQLite (MLflow 3.17 refuses the file store) or a reference to
        the variable that holds PostgreSQL's address.
        """
        if self.storage.mlflow is not None:
            return self.storage.mlflow.database.reference
        return f"sqlite:///{self.mlruns / 'mlflow.db'}"

    @property
    def artifact_root(self) -> str:
        """URI under which MLflow keeps files."""
        there = self.storage.mlflow.artifacts if self.storage.mlflow else None
        return there or (self.mlruns / "artifacts").as_uri()


def address(reference: str) -> str:
    """The address of a database that a reference stands for; an address stands for itself.

    Raises:
        ConfigError: the environment variable is not set.
    """
    if not reference.startswith(REFERENCE):
        return reference
    name = reference.removeprefix(REFERENCE)
    value = os.environ.get(name)
    check_address(name, value)
    return str(value)


def _storage(home: Path) -> Storage:
    """The settings of storage, after a look at the variables they name; tells the libraries where the objects are."""
    path = _path(STORAGE_VARIABLE) or home / STORAGE_FILE
    if STORAGE_VARIABLE not in os.environ and not path.is_file():
        return EMBEDDED
    storage = load_storage(path)
    if storage.dagster is not None and storage.mlflow is not None:
        places = {
            check_address(database.env, os.environ.get(database.env))
            for database in (storage.dagster.database, storage.mlflow.database)
        }
        if len(places) == 1:
            raise ConfigError(f"{path}: dagster and mlflow need a database each: both have a table `runs`")
    os.environ.update(storage.environment)
    return storage


def _check_home(home: Path) -> None:
    """Refuses a home whose databases would be created in another place.

    MLflow and Dagster keep SQLite's databases under an address `sqlite:///<path>`, in which a question mark ends the
    path and a percent sign with two hexadecimal digits is read as one character. All other characters are taken as
    they are.

    Raises:
        ConfigError: names the characters.
    """
    found = _NOT_IN_SQLITE.search(str(home))
    if found:
        raise ConfigError(
            f"{HOME_VARIABLE}={home}: the path holds {found[0]!r}, with which the address of an SQLite database names "
            "another file: rename the folder or choose another"
        )


def _switch(variable: str) -> bool:
    value = os.environ.get(variable) or "off"
    if value not in ("on", "off"):
        raise ConfigError(f"{variable}={value!r} must be on or off")
    return value == "on"


def _seconds(variable: str, default: int) -> int:
    value = os.environ.get(variable) or str(default)
    if not value.isdigit() or not 1 <= int(value) <= 86_400:
        raise ConfigError(f"{variable}={value!r} must be a whole number of seconds from 1 to 86400")
    return int(value)


def _path(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value).expanduser().resolve() if value else None


def code_root() -> Path:
    """The folder that holds `paeplatform`: a checkout, or where the wheel was installed.

    In a checkout this file lies in `resources`, in the wheel in `paeplatform/resources`.
    """
    above = Path(__file__).resolve().parents[1]
    return above.parent if above.name == "paeplatform" and (above / "config.py").is_file() else above


def _project_root() -> Path:
    """The checkout that this code lies in; the current folder, for an installed package.

    Raises:
        ConfigError: the current folder is in another checkout, whose environment was copied from this one.
    """
    checkout = code_root()
    if not (checkout / "pyproject.toml").is_file():
        return Path.cwd()
    standing = next(
        (folder for folder in (Path.cwd(), *Path.cwd().parents) if _is_checkout(folder)), checkout
    )
    if standing != checkout:
        raise ConfigError(
            f"this command runs the code of {checkout}, and you are in the checkout {standing}: make that one's own "
            "environment with `make install`, or name the folder to work in with --home"
        )
    return checkout


def _is_checkout(folder: Path) -> bool:
    path = folder / "pyproject.toml"
    try:
        return path.is_file() and 'name = "paeplatform"' in path.read_text()
    except (OSError, UnicodeDecodeError):
        return False
