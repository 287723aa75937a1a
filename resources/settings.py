"""Where a run lives and which preset it follows: the only place that reads the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from paeplatform.config import Preset, load_preset
from paeplatform.errors import ConfigError

HOME_VARIABLE = "PAEPLATFORM_HOME"
PRESET_VARIABLE = "PAEPLATFORM_PRESET"
MLFLOW_UI_VARIABLE = "PAEPLATFORM_MLFLOW_UI"
LANDING_VARIABLE = "PAEPLATFORM_LANDING"
PRIOR_VARIABLE = "PAEPLATFORM_PRIOR"
AUTOMATION_VARIABLE = "PAEPLATFORM_AUTOMATION"
TICK_VARIABLE = "PAEPLATFORM_TICK_SECONDS"
DEFAULT_PRESET = "demo"
DEFAULT_MLFLOW_UI = "http://127.0.0.1:5000"

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
    """

    home: Path
    preset: Preset
    mlflow_ui: str = DEFAULT_MLFLOW_UI
    landing_zone: Path | None = None
    prior_path: Path | None = None
    automation: bool = False
    tick_seconds: int = 60

    @classmethod
    def from_env(cls) -> PlatformSettings:
        """Reads PAEPLATFORM_HOME (default: the project root), PAEPLATFORM_PRESET (default: demo),
        PAEPLATFORM_LANDING, PAEPLATFORM_PRIOR, PAEPLATFORM_AUTOMATION (on or off) and PAEPLATFORM_TICK_SECONDS.

        Raises:
            ConfigError: the home is a file, the preset is unknown or invalid, or a variable is not what it may be.
        """
        home = Path(os.environ.get(HOME_VARIABLE) or _project_root()).expanduser().resolve()
        if home.exists() and not home.is_dir():
            raise ConfigError(f"{HOME_VARIABLE}={home} is not a folder")
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
    def store(self) -> Path:
        """Tables (Parquet) and model folders, one path per asset and partition."""
        return self.home / "var" / "store"

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
        """MLflow's store. A file store is refused by MLflow 3.17, SQLite has everything incl. aliases."""
        return f"sqlite:///{self.mlruns / 'mlflow.db'}"


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


def _project_root() -> Path:
    checkout = Path(__file__).resolve().parents[1]
    return checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()
