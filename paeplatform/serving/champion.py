"""The champion in memory, exchanged when @champion moves; requests go on with the old one until the new one is warm.

A home that never had a champion is served by the model that ships with the package, until it has one.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from paeplatform.assets.inference.estimation import EstimationInputs
from paeplatform.assets.promotion.gated import Gated
from paeplatform.assets.recording.tables import bands_table
from paeplatform.errors import RegistryError
from paeplatform.reference.shipped import REFERENCE
from paeplatform.resources.champions import Champions
from paeplatform.resources.objects import read_table
from paeplatform.resources.registry import CHAMPION, REFERENCE_VERSION, ModelRegistry
from paeplatform.resources.settings import PlatformSettings
from paeplatform.resources.workspace import Workspace
from paeplatform.serving.batching import Batcher

if TYPE_CHECKING:
    from paeplatform.assets.inference.estimation import Estimation
    from paeplatform.resources.registry import ModelVersion

_log = logging.getLogger(__name__)
WAITING_REQUESTS = 10  # of the largest size that may wait
_WARM_SNR = 40.0


class Unavailable(RuntimeError):
    """No champion can answer now; the message says why."""


class Loaded(NamedTuple):
    """A champion, or the model that ships, ready to answer."""

    model: ModelVersion
    estimation: Estimation
    since: str

    @property
    def is_reference(self) -> bool:
        """Whether it is the model that ships with the package."""
        return self.model.version == REFERENCE_VERSION


class ServedChampion:
    """One registered model behind the API."""

    def __init__(
        self, kind: Gated, settings: PlatformSettings, *, n_bands: int, poll_seconds: float = 10.0
    ) -> None:
        """Nothing is loaded before `start`.

        Args:
            kind: which model.
            settings: home and preset, which decide the answers as they do for the catalogue.
            n_bands: of the photometry.
            poll_seconds: between two looks at the alias.
        """
        self.kind, self.poll_seconds = kind, poll_seconds
        self._settings, self._n_bands = settings, n_bands
        self._registry = ModelRegistry.from_settings(settings)
        self._loaded: Loaded | None = None
        self._fault: str | None = "it is being loaded"
        self._refused: str | None = None  # label of what could not be loaded
        self._note: str | None = None
        self._had_champion = False  # a move by hand may not be in the registry's history yet
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"watch-{kind.short}", daemon=True)
        self.batcher: Batcher[Loaded] = Batcher(
            self._answer, max_sources=kind.max_sources, max_waiting=WAITING_REQUESTS * kind.max_sources
        )

    def start(self) -> None:
        """Begins to watch the alias; the first look loads."""
        self._thread.start()

    def close(self) -> None:
        """Ends both threads; what is queued is answered first."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.batcher.close()

    @property
    def loaded(self) -> Loaded | None:
        """Who answers now."""
        return self._loaded

    @property
    def fault(self) -> str | None:
        """What is wrong: why nobody answers, or why a newer champion does not."""
        return self._fault

    @property
    def note(self) -> str | None:
        """What a user should know of who answers; None for a champion."""
        return self._note

    def available(self) -> Loaded:
        """Who answers now.

        Raises:
            Unavailable: nobody does.
        """
        if self._loaded is None:
            raise Unavailable(f"{self.kind.name}@{CHAMPION}: {self._fault}")
        return self._loaded

    def look(self) -> None:
        """Looks at the alias once, and loads what it points at when that is another version.

        The model that ships takes the place of a champion that never was. One that was taken down had a reason, so then
        nobody answers.
        """
        try:
            model = self._registry.by_alias(self.kind.name)
        except RegistryError as error:
            if self._had_champion or Champions(self._registry, self.kind.name).history():
                self._loaded, self._fault, self._note = None, str(error), None
            else:
                self._look_at_reference(str(error))
            return
        if self._loaded is not None and self._loaded.model.version == model.version:
            self._fault = None
            return
        if self._refused == model.label:  # moving the alias again tries again
            return
        try:
            fresh = self._load(model)
        except Exception as error:
            self._refused = model.label
            self._fault = f"{model.label} cannot be loaded: {' '.join(str(error).split())}"
            _log.warning("%s %s", self.kind.name, self._fault)
            return
        self._loaded, self._fault, self._refused, self._note = fresh, None, None, None
        self._had_champion = True

    def _look_at_reference(self, no_champion: str) -> None:
        """Loads the model that ships, once; where none ships, what is missing is the champion."""
        if self._loaded is not None and self._loaded.is_reference:
            self._fault = None
            return
        if self._refused == REFERENCE:
            return
        if self.kind.load_reference is None:
            self._loaded, self._fault = None, no_champion
            return
        try:
            fresh = self._warmed(self.kind.load_reference(self._inputs(None)))
        except Exception as error:
            why = " ".join(str(error).split())
            self._loaded, self._refused = None, REFERENCE
            self._fault = f"{no_champion}; the model that ships cannot be loaded: {why}"
            return
        self._note = f"{self.kind.name} has no champion in this home: the model that ships answers"
        _log.warning(self._note)
        self._loaded, self._fault, self._refused = fresh, None, None

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except Exception as error:  # a database that is locked, a disk that is away: look again later
                _log.warning("%s: the alias could not be read: %s", self.kind.name, error)
                if self._loaded is None:
                    self._fault = f"the registry cannot be read: {' '.join(str(error).split())}"
            self._stop.wait(self.poll_seconds)

    def _load(self, model: ModelVersion) -> Loaded:
        return self._warmed(self.kind.load(self._inputs(self._prior()), model.version))

    def _inputs(self, prior: pl.DataFrame | None) -> EstimationInputs:
        workspace = Workspace.from_settings(self._settings)
        return EstimationInputs(self._settings.preset, self._bands(), prior, self._registry, workspace)

    def _warmed(self, estimation: Estimation) -> Loaded:
        flux, flux_err, object_id = warm_up_sources(self._n_bands)
        estimation.estimate(flux, flux_err, object_id)  # compiles before anyone waits for it
        return Loaded(estimation.champion, estimation, datetime.now(UTC).isoformat(timespec="seconds"))

    def _bands(self) -> pl.DataFrame:
        from paeplatform.instrument.bands import load_bands

        path = self._settings.store / "spherex_bands.parquet"
        return read_table(path) if path.is_file() else bands_table(load_bands())

    def _prior(self) -> pl.DataFrame:
        path = self._settings.store / "redshift_prior.parquet"
        if not path.is_file():
            raise RegistryError(
                f"{path} does not exist: make it with `paeplatform run --select redshift_prior`"
            )
        return read_table(path)

    def _answer(
        self, flux: np.ndarray, flux_err: np.ndarray, object_id: np.ndarray
    ) -> tuple[Loaded, pl.DataFrame]:
        loaded = self.available()
        return loaded, loaded.estimation.estimate(flux, flux_err, object_id)


def warm_up_sources(n_bands: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two sources that take a sampler through its stages: a plain one, and a bright one unlike any galaxy."""
    rng = np.random.default_rng(0)
    flux = np.stack([np.full(n_bands, 20.0), 20.0 * (1.0 + rng.standard_normal(n_bands))])
    flux_err = np.stack([np.full(n_bands, 4.0), np.full(n_bands, 20.0 / _WARM_SNR)])
    return flux.astype(np.float32), flux_err.astype(np.float32), np.arange(2)
