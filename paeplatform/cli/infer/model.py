"""Which model answers a user's question: as the command line says it, else the champion, else the one that ships."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from paeplatform.errors import ConfigError

if TYPE_CHECKING:
    from paeplatform.inference.estimate import Estimator
    from paeplatform.inference.model.priors import RedshiftPrior
    from paeplatform.resources.settings import PlatformSettings

CHAMPION = "champion"


@dataclass(frozen=True)
class ChosenModel:
    """Which model answers, with what prior, by which sampler; as the command line says it.

    Attributes:
        settings: of the command.
        preset: as named there; None where it was not.
        bundle, alias: one of them, or neither.
        prior, method: None takes the preset's.
        chains: whether MCLMC takes what importance sampling leaves.
    """

    settings: PlatformSettings
    preset: str | None
    bundle: Path | None
    alias: str | None
    prior: str | None
    method: str | None
    chains: bool

    def estimator(self) -> tuple[Estimator, str]:
        """The estimator, in a process that is made ready for heavy work, and what answers call the model."""
        from paeplatform.answers.quick import SHIPPED, estimator_of
        from paeplatform.inference.batches.runtime import start_jax, user_cache

        folder, name = self._folder() or (None, SHIPPED)
        shipped = folder is None
        # a home that nothing was made in is not made by asking a question
        start_jax(self.settings.cache / "jax" if (self.settings.home / "var").is_dir() else user_cache())
        settings = self.settings
        if shipped and self.preset is None:
            from paeplatform.config import load_preset
            from paeplatform.reference.shipped import REFERENCE

            settings = replace(settings, preset=load_preset(REFERENCE))
        answering = estimator_of(
            bundle=folder,
            preset=settings.preset,
            prior=_prior(self.prior, settings, shipped),
            method=self.method,
            chains=self.chains,
        )
        return answering, name

    def _folder(self) -> tuple[Path, str] | None:
        """(folder of the bundle, its name); None for the model that ships."""
        if self.bundle is not None:
            return self.bundle, str(self.bundle)
        if self.alias is None and not _has_models(self.settings):
            return None
        from paeplatform.resources.registry import PAE, ModelRegistry

        registry = ModelRegistry.from_settings(self.settings)
        if self.alias is None and registry.find_alias(PAE, CHAMPION) is None:
            return None
        found = registry.by_alias(PAE, self.alias or CHAMPION)
        return registry.artifact(found, "bundle"), f"pae@{self.alias or CHAMPION} ({found.label})"


def _has_models(settings: PlatformSettings) -> bool:
    """Whether anything was ever registered; without importing MLflow, which takes seconds."""
    return settings.storage.mlflow is not None or (settings.mlruns / "mlflow.db").is_file()


def _prior(choice: str | None, settings: PlatformSettings, shipped: bool) -> RedshiftPrior:
    """The prior named on the command line, else the preset's."""
    from paeplatform.cli.science import fitted_prior
    from paeplatform.inference.files.prior_file import read_prior_file
    from paeplatform.inference.model.priors import prior_from_preset

    if choice is not None and choice.lower().endswith(".csv"):
        return read_prior_file(Path(choice))
    if choice not in {None, "uniform", "bpz"}:
        raise ConfigError(f"--prior {choice}: must be uniform, bpz, or a .csv with columns z and density")
    if choice is not None:
        section = settings.preset.prior.model_copy(update={"redshift": choice})
        settings = replace(settings, preset=settings.preset.model_copy(update={"prior": section}))
    if shipped:
        from paeplatform.reference.shipped import reference_prior

        return prior_from_preset(settings.preset.prior, reference_prior())
    return prior_from_preset(settings.preset.prior, fitted_prior(settings))
