"""The manifest of a delivery: what it claims to hold."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from paeplatform.files import write_whole
from paeplatform.names import LONGEST_NAME, RELEASE_PATTERN
from paeplatform.release.landing import DeliveryError, landing_of, regular_file

MANIFEST = "manifest.json"
_SHOWN_FAULTS, _SHOWN_KEY = 5, 40  # of a manifest: a message repeats no more of what the file says


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DeliveryFile(_Section):
    """One data file, beside the manifest."""

    name: str
    format: Literal["parquet", "csv", "fits"]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    rows: int = Field(ge=0)
    bytes: int = Field(ge=0)

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if Path(name).name != name or name.startswith(".") or name == MANIFEST:
            raise ValueError(f"file name {name[:_SHOWN_KEY]!r} must name a file beside the manifest")
        return name


class Manifest(_Section):
    """A delivery, as its maker describes it; written after its files, so that a folder without it is still arriving."""

    schema_version: Literal[1] = 1
    release: str = Field(pattern=RELEASE_PATTERN, max_length=LONGEST_NAME)
    data_collection: str
    pipeline_version: str
    created: str  # ISO 8601, UTC
    mjd_min: float
    mjd_max: float
    files: tuple[DeliveryFile, ...] = Field(min_length=1)
    n_rows: int = Field(ge=0)
    n_sources: int = Field(ge=0)

    def content_hash(self) -> str:
        """Sixteen hex digits over everything but the time it was written."""
        tree = self.model_dump(mode="json", exclude={"created"})
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def load_manifest(folder: Path) -> Manifest:
    """The manifest in a delivery's folder in the landing zone.

    Raises:
        DeliveryError: it is missing, no regular file inside the landing zone, no JSON, has an unknown or missing key or
            a value out of range, or names another release than the folder.
    """
    path = Path(folder) / MANIFEST
    if not os.path.lexists(path):
        raise DeliveryError(f"{path} does not exist: no delivery, or one that is still arriving")
    regular_file(path, landing_of(folder))
    return kept_manifest(folder)


def kept_manifest(folder: Path) -> Manifest:
    """The manifest in a folder that the platform itself keeps, which may lie in object storage.

    Raises:
        DeliveryError: see `load_manifest`; the kind of the file is not looked up.
    """
    path = folder / MANIFEST
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise DeliveryError(f"{path} cannot be read: {error}") from error
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        found = error.errors(include_input=False)
        faults = [
            f"{'.'.join(str(part)[:_SHOWN_KEY] for part in fault['loc']) or 'file'}: {fault['msg']}"
            for fault in found[:_SHOWN_FAULTS]
        ]
        more = f" (and {len(found) - _SHOWN_FAULTS} more)" if len(found) > _SHOWN_FAULTS else ""
        raise DeliveryError(f"{path}: {'; '.join(faults)}{more}") from None
    if manifest.release != folder.name:
        raise DeliveryError(f"{path}: release {manifest.release!r} lies in folder {folder.name!r}")
    names = [file.name for file in manifest.files]
    if len(set(names)) != len(names):
        raise DeliveryError(f"{path}: a file is listed twice")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Puts the manifest in place by a rename; returns its path."""
    folder = Path(folder)
    return write_whole(Path(folder) / MANIFEST, manifest.model_dump_json(indent=1) + "\n")
