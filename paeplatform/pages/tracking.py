"""MLflow's page behind the guard: the app of `mlflow server --app-name paeplatform`.

MLflow finds it by the entry point `mlflow.app` in pyproject.toml, the way it documents for servers that add something
to its own. Settings, artifacts and job runners stay those of `mlflow server`.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from paeplatform.errors import InputError
from paeplatform.pages.hosts import hosts_from_environment

if TYPE_CHECKING:
    from starlette.types import ASGIApp

APP_NAME = "paeplatform"


def create_app() -> ASGIApp:
    """Returns MLflow's server behind the guard. uvicorn calls this in each of its workers."""
    from mlflow.server.fastapi_app import app

    from paeplatform.pages.guard import Guard

    return Guard(app, hosts_from_environment())


def require_entry_point() -> None:
    """Checks that MLflow will find the app.

    Raises:
        InputError: the package was installed before the entry point was added.
    """
    if APP_NAME not in entry_points(group="mlflow.app").names:
        raise InputError(
            "this environment was installed from an older version, so MLflow does not find its guarded page: "
            "run `make install`, or `pip install -e .` in the project's folder"
        )
