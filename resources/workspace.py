"""Folders a running asset may write to: checkpoints, scratch space, the report, the compile cache."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from pathlib import Path

import dagster as dg
from upath import UPath

from paeplatform.names import check_name, check_release_name
from paeplatform.resources.objects import store_path
from paeplatform.resources.settings import PlatformSettings


class Workspace(dg.ConfigurableResource):
    """Working folders of the platform, all local but `store`; see `PlatformSettings` for where they are.

    A release or cell that becomes part of a path is checked: Dagster's page accepts any text as a partition. What is no
    name raises `InputError`.
    """

    checkpoints: str
    report: str
    results: str
    scratch: str
    cache: str
    store: str
    landing: str
    prior_file: str

    @classmethod
    def from_settings(cls, settings: PlatformSettings) -> Workspace:
        """The folders under the platform's home."""
        return cls(**{name: str(getattr(settings, name)) for name in cls.model_fields})

    @property
    def folders(self) -> dict[str, str]:
        """Where the folders under `var/` are that hold what assets made."""
        return {name: getattr(self, name) for name in ("store", "landing", "report", "results")}

    def delivery(self, release: str) -> Path:
        """The folder a release is delivered in."""
        return Path(self.landing) / check_release_name(release)

    def ingested(self, release: str) -> UPath:
        """Where the manifest of the last ingestion of a release is kept: a delivery may leave the landing zone."""
        return self.all_ingested() / check_release_name(release)

    def all_ingested(self) -> UPath:
        """The folder of what is kept of ingestions, with a folder a release."""
        return store_path(self.store) / "release_manifests"

    def tables(self, asset: str, release: str | None = None) -> UPath:
        """The folder of an asset's tables; with a release, that of the tables of its cells."""
        folder = store_path(self.store) / asset
        return folder if release is None else folder / check_release_name(release)

    def table(self, asset: str, release: str, cell: str | None = None) -> UPath:
        """Where the store keeps the table of a release or of one of its cells."""
        if cell is None:
            return self.tables(asset) / f"{check_release_name(release)}.parquet"
        return self.tables(asset, release) / f"{check_name(cell, 'cell key')}.parquet"

    def checkpoint_dir(self, name: str, *pins: str) -> Path:
        """The folder a training called `name` resumes from after a kill.

        Another value of `pins`, versions of settings and data, is another training and starts afresh.
        """
        digest = hashlib.sha256("\0".join(pins).encode()).hexdigest()[:10]
        folder = Path(self.checkpoints) / f"{check_name(name, 'checkpoint')}-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def forget_checkpoint(self, folder: Path) -> None:
        """Drops the checkpoint of a finished training, so that asking for it again trains again."""
        shutil.rmtree(folder, ignore_errors=True)

    def scratch_path(self, name: str) -> Path:
        """A free path, on the file system of a local store, for a file or folder that the store will take over."""
        folder = Path(self.scratch) / uuid.uuid4().hex[:12]
        folder.mkdir(parents=True)
        return folder / name

    def discard(self, path: Path) -> None:
        """Removes a scratch path that nobody took, with the folder made for it."""
        shutil.rmtree(path.parent, ignore_errors=True)

    def report_dir(self, release: str) -> Path:
        """The report folder of a release."""
        return Path(self.report) / check_release_name(release)

    def results_dir(self) -> Path:
        """Where validation's tables and figures are kept for people."""
        return Path(self.results)

    def start_jax(self) -> None:
        """Prepares JAX for heavy work: every core a device, compiled programs kept on disk.

        Compiling the sampler takes longer than a cell of the demo. A process that has already started JAX
        otherwise keeps its devices.
        """
        from paeplatform.inference.batches.runtime import start_jax

        start_jax(Path(self.cache) / "jax")
