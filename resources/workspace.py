"""Folders a running asset may write to: checkpoints, scratch space, the report, the compile cache."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

import dagster as dg
from upath import UPath

from paeplatform.errors import ConfigError
from resources.cores import usable_cores
from resources.objects import store_path
from resources.settings import PlatformSettings


class Workspace(dg.ConfigurableResource):
    """Working folders of the platform, all local but `store`; see `PlatformSettings` for where they are."""

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
        return cls(
            checkpoints=str(settings.checkpoints),
            report=str(settings.report),
            results=str(settings.results),
            scratch=str(settings.scratch),
            cache=str(settings.cache),
            store=str(settings.store),
            landing=str(settings.landing),
            prior_file=str(settings.prior_file),
        )

    def delivery(self, release: str) -> Path:
        """The folder a release is delivered in."""
        return Path(self.landing) / release

    def ingested(self, release: str) -> UPath:
        """Where the manifest of the last ingestion of a release is kept: a delivery may leave the landing zone."""
        return store_path(self.store) / "release_manifests" / release

    def table(self, asset: str, release: str, cell: str | None = None) -> UPath:
        """Where the store keeps the table of a release or of one of its cells."""
        folder = store_path(self.store) / asset
        return folder / f"{release}.parquet" if cell is None else folder / release / f"{cell}.parquet"

    def checkpoint_dir(self, name: str, *pins: str) -> Path:
        """The folder a training called `name` resumes from after a kill.

        Args:
            name: readable.
            pins: versions of settings and data; another value is another training and starts afresh.
        """
        digest = hashlib.sha256("\0".join(pins).encode()).hexdigest()[:10]
        folder = Path(self.checkpoints) / f"{name}-{digest}"
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
        return Path(self.report) / release

    def results_dir(self) -> Path:
        """Where validation's tables and figures are kept for people."""
        return Path(self.results)

    def start_jax(self) -> None:
        """Prepares JAX for heavy work: every core a device, compiled programs kept on disk.

        Compiling the sampler takes longer than a cell of the demo. A process that has already started JAX
        otherwise keeps its devices.
        """
        from paeplatform.inference.runtime import enable_compile_cache, use_host_devices

        enable_compile_cache(Path(self.cache) / "jax")
        with suppress(ConfigError):
            use_host_devices(usable_cores())
