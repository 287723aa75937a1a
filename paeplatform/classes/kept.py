"""The classifier kept on disk: integrating its models over the channels takes seconds."""

from __future__ import annotations

import hashlib
import zipfile
from contextlib import suppress
from importlib import resources
from pathlib import Path

import numpy as np

from paeplatform.classes.classify import Classifier, load_classifier
from paeplatform.classes.grid import ClassGrid
from paeplatform.errors import InputError
from paeplatform.files import replaced
from paeplatform.instrument.bands import BandSet

NUMBERS = ("flux", "error", "log_prior", "z")  # arrays of a grid


def kept_classifier(bands: BandSet, folder: Path | None) -> Classifier:
    """`load_classifier` with galaxies, from a file of `folder` if it is there and whole, else made and kept there.

    The file's name holds a digest of the channels and of this package, so that other models are another file. A folder
    that cannot be written stops nothing.

    Args:
        bands: the channels.
        folder: of the user's cache; None keeps nothing.
    """
    if folder is None:
        return load_classifier(bands, galaxies=True)
    path = Path(folder) / f"classes-{_digest(bands)}.npz"
    kept = _read(path, bands)
    if kept is not None:
        return kept
    made = load_classifier(bands, galaxies=True)
    arrays = {f"{name}.{part}": getattr(grid, part) for name, grid in made.grids.items() for part in NUMBERS}
    for name, grid in made.grids.items():
        arrays[f"{name}.labels"] = np.array(grid.labels, dtype=str)
        arrays[f"{name}.n_parameters"] = np.array(grid.n_parameters)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as unfinished, unfinished.open("wb") as file:
            np.savez(file, **arrays)
    return made


def _read(path: Path, bands: BandSet) -> Classifier | None:
    """None where there is no such file, or it is not whole."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            names = sorted({name.split(".")[0] for name in kept.files})
            grids = {
                name: ClassGrid(
                    name=name,
                    **{part: kept[f"{name}.{part}"] for part in NUMBERS},
                    labels=tuple(kept[f"{name}.labels"].tolist()),
                    n_parameters=int(kept[f"{name}.n_parameters"]),
                )
                for name in names
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, InputError):
        return None
    return Classifier(bands, grids) if grids else None


def _digest(bands: BandSet) -> str:
    digest = hashlib.sha256(bands.content_hash().encode())
    for package in ("paeplatform.classes", "paeplatform.sed", "paeplatform.instrument"):
        for file in sorted(resources.files(package).iterdir(), key=lambda entry: entry.name):
            if file.name.endswith(".py"):
                digest.update(file.read_bytes())
    digest.update((resources.files("paeplatform.classes") / "data" / "stars.parquet").read_bytes())
    return digest.hexdigest()[:16]
