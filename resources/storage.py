"""Where the platform keeps its state: the typed settings file that chooses between one machine and shared services.

Two modes. `embedded`, the default: SQLite and folders under the home, nothing to set up. `postgres`: Dagster and
MLflow in PostgreSQL, and optionally artifacts and catalogue in object storage. The file names environment
variables that hold what is secret, never the secret itself.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from paeplatform.errors import ConfigError

STORAGE_FILE = "storage.yaml"  # under the home
REFERENCE = "env:"  # in front of the name of an environment variable that holds a database's address
# SQLAlchemy 2.1 takes the bare postgresql:// for psycopg 3, with which dagster-postgres cannot send notifications.
SCHEME = "postgresql+psycopg2"
_VARIABLE = r"[A-Z_][A-Z0-9_]*"


def _s3_url(value: object) -> object:
    if (
        not isinstance(value, str)
        or re.fullmatch(r"s3://[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9](/[\w.\-]+)*/?", value) is None
    ):
        raise ValueError("must be s3://bucket or s3://bucket/prefix")
    return value.rstrip("/")


def _endpoint(value: object) -> object:
    parts = urlsplit(value) if isinstance(value, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be http://host:port or https://host")
    if parts.username or parts.password:
        raise ValueError("must not hold a key: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY do")
    return value


S3Url = Annotated[str, BeforeValidator(_s3_url)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Database(_Section):
    """A PostgreSQL database, by the environment variable that holds its address.

    Attributes:
        env: name of the variable; its value is `postgresql+psycopg2://user:password@host:port/database`.
    """

    env: str = Field(pattern=rf"^{_VARIABLE}$")

    @model_validator(mode="before")
    @classmethod
    def _a_reference(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(
                "write {env: NAME} and put the address into that environment variable: it is a secret"
            )
        return value

    @property
    def reference(self) -> str:
        """What stands for the address where people can see it."""
        return REFERENCE + self.env


class DagsterStorage(_Section):
    """Runs, events and schedules of Dagster."""

    database: Database


class MlflowStorage(_Section):
    """Runs and registry of MLflow.

    Attributes:
        database: another one than Dagster's, since both have a table `runs`.
        artifacts: where plots and models go; None: `mlruns/artifacts` under the home.
    """

    database: Database
    artifacts: S3Url | None = None


class CatalogueStorage(_Section):
    """Tables and model folders.

    Attributes:
        store: None: `var/store` under the home.
    """

    store: S3Url | None = None


class ObjectStorage(_Section):
    """The S3-compatible service; keys come from the environment, as boto3 finds them.

    Attributes:
        endpoint: None for AWS itself.
        region: of the buckets.
    """

    endpoint: Annotated[
        str | None, BeforeValidator(lambda value: value if value is None else _endpoint(value))
    ] = None
    region: str = "us-east-1"


class Storage(_Section):
    """The settings file as a whole.

    Attributes:
        mode: `embedded` takes no other section; `postgres` needs `dagster` and `mlflow`.
    """

    mode: Literal["embedded", "postgres"] = "embedded"
    dagster: DagsterStorage | None = None
    mlflow: MlflowStorage | None = None
    catalogue: CatalogueStorage = CatalogueStorage()
    s3: ObjectStorage = ObjectStorage()

    @model_validator(mode="after")
    def _sections_of_the_mode(self) -> Storage:
        given = {name for name in ("dagster", "mlflow", "catalogue", "s3") if name in self.model_fields_set}
        if self.mode == "embedded" and given:
            raise ValueError(
                f"mode embedded takes no {', '.join(sorted(given))}: everything lies under the home"
            )
        missing = {"dagster", "mlflow"} - given
        if self.mode == "postgres" and missing:
            raise ValueError(f"mode postgres needs {' and '.join(sorted(missing))} with a database each")
        if self.dagster and self.mlflow and self.dagster.database == self.mlflow.database:
            raise ValueError("dagster and mlflow need a database each: both have a table `runs`")
        return self

    @property
    def uses_objects(self) -> bool:
        """Whether anything lies in object storage."""
        return self.catalogue.store is not None or bool(self.mlflow and self.mlflow.artifacts)

    @property
    def environment(self) -> dict[str, str]:
        """What MLflow, boto3, s3fs and polars read to find the service; no secrets."""
        if not self.uses_objects:
            return {}
        found = {"AWS_DEFAULT_REGION": self.s3.region, "AWS_REGION": self.s3.region}
        if self.s3.endpoint is not None:
            found |= {"AWS_ENDPOINT_URL": self.s3.endpoint, "MLFLOW_S3_ENDPOINT_URL": self.s3.endpoint}
            found["AWS_ALLOW_HTTP"] = "true" if self.s3.endpoint.startswith("http://") else "false"
        return found


EMBEDDED = Storage()


def load_storage(path: Path) -> Storage:
    """Reads a settings file.

    Raises:
        ConfigError: it is missing, no YAML, has an unknown key, a section that its mode does not take, or a value out
            of range; one line with every fault, and no value that could be a secret.
    """
    try:
        tree = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"settings of storage {path} do not exist") from error
    except OSError as error:
        raise ConfigError(f"settings of storage {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{path}: not valid YAML{where}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping with `mode`, got {type(tree).__name__}")
    try:
        return Storage.model_validate(tree)
    except ValidationError as error:
        plain = {"extra_forbidden": "unknown key", "missing": "missing"}
        faults = (
            f"{'.'.join(map(str, fault['loc'])) or 'storage'}: "
            + plain.get(fault["type"], fault["msg"].removeprefix("Value error, "))
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise ConfigError(f"{path}: {'; '.join(faults)}") from None


def check_address(name: str, value: str | None) -> tuple[str, int, str]:
    """(host, port, database) of the address in environment variable `name`; no part of it is ever shown but these.

    Raises:
        ConfigError: the variable is not set, or is no PostgreSQL address.
    """
    if not value:
        raise ConfigError(
            f"environment variable {name} is not set: it holds the address {SCHEME}://user:...@host/database"
        )
    try:
        parts = urlsplit(value)
        port = parts.port or 5432
    except ValueError:
        raise ConfigError(f"environment variable {name} holds no address: its port is no number") from None
    database = parts.path.strip("/")
    if parts.scheme != SCHEME or not parts.hostname or not database:
        why = (
            "with postgresql:// another driver would be taken"
            if parts.scheme == "postgresql"
            else "it does not"
        )
        raise ConfigError(
            f"environment variable {name} must hold {SCHEME}://user:password@host:port/database; {why}"
        )
    return parts.hostname, port, database
