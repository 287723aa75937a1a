"""A home that was copied or moved: its records name files by absolute path, and have to name its own.

MLflow keeps the place of every run's and model's files as a URI, Dagster the path of every table as metadata. Under the
home these always are `mlruns/artifacts/...` and `var/<folder>/...`, so that the part behind says which file is meant.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from paeplatform.errors import RegistryError
from paeplatform.resources.locks import CREATION, alone

_ARTIFACTS = "/mlruns/artifacts"
_URI_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)
_VAR = re.compile(r"/var/(store|landing|report|results)(?=/)")


def follow_home(database: Path, root: str) -> None:
    """Makes MLflow's records name the files of this home, when they name those of the home it was copied from.

    The database's own folder is the truth: it travels with the files. A database that may not be written is left as it
    is; `own_artifact` then finds the files for readers.

    Args:
        database: `mlruns/mlflow.db` of the home, which exists.
        root: URI of `mlruns/artifacts` of the home.

    Raises:
        RegistryError: the database names files of another home and this one has no files of its own.
    """
    if not _foreign_roots(database, root):
        return
    with alone(database.with_name(CREATION)):
        foreign = _foreign_roots(database, root)  # another process may have been faster
        if not foreign:
            return
        artifacts = Path(_path_of(root))
        if not artifacts.is_dir():
            raise RegistryError(
                f"the models of this home lie in {_path_of(min(foreign))}, where it was copied or moved from, and "
                f"{artifacts} does not exist: copy that folder to {artifacts} and try again"
            )
        try:
            _rewrite(database, foreign, root)
        except sqlite3.OperationalError as error:
            if "readonly" not in str(error):
                raise


def own_artifact(uri: str, root: str) -> str:
    """The URI of the same file under `root`, this home's artifacts; of no home's artifacts, it stays as it is."""
    if uri == root or uri.startswith(f"{root}/") or not uri.startswith("file:") or _ARTIFACTS not in uri:
        return uri
    return root + uri.rpartition(_ARTIFACTS)[2]


def own_path(path: str, folders: Mapping[str, str]) -> str:
    """Where a recorded path lies now.

    Args:
        path: as recorded, of a file under `var/` of the home as it was called then; others stay as they are.
        folders: where `store`, `landing`, `report` and `results` are now.
    """
    if any(path.startswith(f"{folder}/") for folder in folders.values()):
        return path
    found = list(_VAR.finditer(path))
    return folders[found[-1][1]] + path[found[-1].end() :] if found else path


def _foreign_roots(database: Path, root: str) -> set[str]:
    """The artifact folders of other homes that experiments name: URIs that end like this home's."""
    with closing(_connect(database, "ro")) as connection:
        try:
            known = {row[0] for row in connection.execute("select artifact_location from experiments")}
        except sqlite3.OperationalError:  # no such table: a database that MLflow has not filled yet
            return set()
    return {uri for uri in known if uri and uri.startswith("file:") and uri.endswith(_ARTIFACTS)} - {root}


def _rewrite(database: Path, foreign: set[str], root: str) -> None:
    with closing(_connect(database, "rw")) as connection, connection:  # one transaction
        for table, column in _URI_COLUMNS:
            there = {row[1] for row in connection.execute(f"pragma table_info({table})")}
            for old in foreign if column in there else ():  # an older schema lacks some
                connection.execute(
                    f"update {table} set {column} = ? || substr({column}, ?) "
                    f"where {column} = ? or substr({column}, 1, ?) = ?",
                    (root, len(old) + 1, old, len(old) + 1, f"{old}/"),
                )


def _connect(database: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{database.as_uri()}?mode={mode}", uri=True, timeout=5.0)


def _path_of(uri: str) -> str:
    return unquote(urlsplit(uri).path)
