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
from paeplatform.assets.recording.versions import file_digest
from paeplatform.config import Preset
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.registry import (
    AUTOENCODER,
    FLOW,
    PROPOSAL,
    ModelRegistry,
    ModelVersion,
    TrainingRun,
)
from paeplatform.resources.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

# Declares an asset whose result is the folder of a registered model.
model_asset = partial(dg.asset, group_name="models", io_manager_key="folders")

CONTENT_FILE = "content.txt"  # in the folder of a model: the content hash it was registered under


@dataclass
class Training:
    """A training under way; `training` begins and ends it.

    Attributes:
        run: the open MLflow run.
        name: of the registered model.
        preset: settings.
        registry: where the version goes.
        workspace: gives the folder for the weights.
        checkpoint: folder to resume from.
        n_latent: latent size; None for a model that has none.
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
            "checkpoint_dir": self.checkpoint,
            "on_epoch": lambda epoch: log_epoch(self.run, epoch),
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

        Args:
            part: name of the folder among the version's files.
            record: how good the model is.
            save: writes the model into the folder it is given.
            signature: typed inputs and outputs.
            input_example: what the model is given, as it is shown in the registry.
            tags: of the version, beside those that every registered model has.
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
    """Opens an MLflow run for a training; the checkpoint is dropped when the block ends well.

    Arguments are those of `Training`, with the context of the step and the version of the training data.

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


def content_of(folder: Path) -> str:
    """The content hash a trained model's folder was registered under."""
    return (folder / CONTENT_FILE).read_text()


def versions_of_parts(registry: ModelRegistry, **parts: Path) -> dict[str, ModelVersion]:
    """The registered versions of the parts of a PAE.

    Args:
        registry: where they are.
        parts: folders of autoencoder, flow and proposal, by these names.
    """
    names = {"autoencoder": AUTOENCODER, "flow": FLOW, "proposal": PROPOSAL}
    return {part: registry.by_content(names[part], content_of(folder)) for part, folder in parts.items()}


def part_tags(parts: Mapping[str, ModelVersion]) -> dict[str, object]:
    """Tags that name the versions a model was made with."""
    return {f"{part}_version": version.version for part, version in parts.items()}


def model_tags(preset: Preset, content: str, n_latent: int | None) -> dict[str, object]:
    """Tags that every registered model has; `n_latent` those of a PAE alone."""
    latent = {} if n_latent is None else {"n_latent": n_latent}
    return {"content": content, "preset": preset.name, "preset_digest": preset.digest(), **latent}
