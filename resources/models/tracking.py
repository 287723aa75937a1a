"""What is written down about a training run: where the code stood, the whole preset, curves and plots."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# What a registered model needs to answer, besides this project itself. Given explicitly, since MLflow's guess
# imports the model in a fresh process (minutes of compilation) and asks an index for versions.
MODEL_PACKAGES = (
    "jax",
    "equinox",
    "flowjax",
    "blackjax",
    "optax",
    "jaxtyping",
    "numpy",
    "scipy",
    "polars",
    "pydantic",
    "pyyaml",
    "tqdm",
)


def git_commit(folder: Path) -> str:
    """The commit of `folder`, with "-dirty" when tracked files differ; outside a checkout, as in an image, the one
    that the file COMMIT names, and "unknown" without it.
    """
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit + ("-dirty" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        stamp = folder / "COMMIT"
        return stamp.read_text().strip() if stamp.is_file() else "unknown"


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def model_requirements() -> list[str]:
    """The pinned requirements logged with every model: what is installed here and now."""
    pinned = []
    for package in MODEL_PACKAGES:
        try:
            pinned.append(f"{package}=={version(package)}")
        except PackageNotFoundError:
            continue
    return pinned


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested configuration as dotted MLflow parameters: {"a": {"b": 1}} -> {"a.b": "1"}."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = str(value)
    return flat


def quiet() -> None:
    """Keeps MLflow's and alembic's progress chatter out of run logs; warnings and errors stay."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # One line a model that its environment could not be rebuilt by pip alone: it names this very project.
    logging.getLogger("mlflow.utils.requirements_utils").setLevel(logging.ERROR)
