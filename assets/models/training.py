"""What every asset that trains a model does alike: it follows the epochs in MLflow, resumes from a checkpoint after a
kill, registers what came out, and shows it in Dagster.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from paeplatform.assets.models.model_records import Record, log_epoch
from paeplatform.assets.recording.metadata import mlflow_links, plot
from paeplatform.assets.recording.versions import CONTENT_FILE, content_of_model, file_digest
from paeplatform.config import Preset
from paeplatform.fit_record import FitOptions
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.models.runs import TrainingRun
from paeplatform.resources.registry import (
    AUTOENCODER,
    FLOW,
    PROPOSAL,
    ModelRegistry,
    ModelVersion,
)
from paeplatform.resources.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

MODELS = "models"  # the group of these assets
# Declares an asset whose result is the folder of a registered model.
model_asset = partial(dg.asset, group_name=MODELS, io_manager_key="folders")


@dataclass
class Training:
    """A training under way of the registered model called `name`; `training` begins and ends it.

    `n_latent` is None for a model without latents.
    """

    run: TrainingRun
    name: str
    preset: Preset
    registry: ModelRegistry
    workspace: Workspace
    checkpoint: Path
    n_latent: int | None

    @property
    def fit_options(self) -> dict[str, Any]:
        """The keyword arguments that every trainer of the platform takes."""
        return {
            "seed": self.preset.seed,
            "options": FitOptions(self.checkpoint, on_epoch=lambda epoch: log_epoch(self.run, epoch)),
        }

    def register(
        self,
        part: str,
        record: Record,
        save: Callable[[Path], object],
        *,
        signature: "ModelSignature",
        input_example: Any,
        tags: Mapping[str, object],
    ) -> None:
        """Saves the trained model in a folder of its own, logs how good it is, and makes it a registered version.

        The folder is called `part` among the version's files, and `save` writes into it; `tags` are those beside the
        ones that every registered model has.
        """
        self._record, self._folder = record, self.workspace.scratch_path(part)
        save(self._folder)
        self._content = file_digest(self._folder)
        record.log(self.run)
        self._version = self.registry.register(
            self.name,
            {part: self._folder},
            signature=signature,
            input_example=input_example,
            tags={**model_tags(self.preset, self._content, self.n_latent), **tags},
        )

    def result(self) -> dg.MaterializeResult[Path]:
        """What the asset returns, once the MLflow run is closed; the record joins the weights in the folder."""
        self._record.write(self._folder)
        (self._folder / CONTENT_FILE).write_text(self._content)
        return dg.MaterializeResult(
            value=self._folder,
            data_version=dg.DataVersion(self._content),
            metadata={
                **self._record.metrics,
                **{name: plot(figure) for name, figure in self._record.figures.items()},
                **mlflow_links(self.run, self._version),
            },
        )


@contextmanager
def training(
    context: dg.AssetExecutionContext,
    name: str,
    preset: Preset,
    registry: ModelRegistry,
    workspace: Workspace,
    checkpoint: Path,
    data_version: str,
    n_latent: int | None = None,
) -> Iterator[Training]:
    """Opens an MLflow run for a training; the checkpoint to resume from is dropped when the block ends well.

    Raises:
        dagster.Failure: caused by an input error or a loss that is not finite.
    """
    label = f"{name}-{context.partition_key}" if context.has_partition_key else name
    with (
        one_line_failures(),
        registry.training_run(
            label,
            preset,
            data_version=data_version,
            dagster_run_id=context.run.run_id,
            params=None if n_latent is None else {"n_latent_trained": n_latent},
        ) as run,
    ):
        yield Training(run, name, preset, registry, workspace, checkpoint, n_latent)
    workspace.forget_checkpoint(checkpoint)


def versions_of_parts(registry: ModelRegistry, **parts: Path) -> dict[str, ModelVersion]:
    """The registered versions of the parts of a PAE, from the folders of autoencoder, flow and proposal."""
    names = {"autoencoder": AUTOENCODER, "flow": FLOW, "proposal": PROPOSAL}
    return {
        part: registry.by_content(names[part], content_of_model(folder)) for part, folder in parts.items()
    }


def part_tags(parts: Mapping[str, ModelVersion]) -> dict[str, object]:
    """Tags that name the versions a model was made with."""
    return {f"{part}_version": version.version for part, version in parts.items()}


def model_tags(preset: Preset, content: str, n_latent: int | None) -> dict[str, object]:
    """Tags that every registered model has; `n_latent` those of a PAE alone."""
    latent = {} if n_latent is None else {"n_latent": n_latent}
    return {"content": content, "preset": preset.name, "preset_digest": preset.digest(), **latent}
