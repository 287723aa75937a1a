"""The model registry: MLflow behind a Dagster resource.

Five registered models: `sed-autoencoder`, `latent-flow`, `posterior-proposal`, `pae`, the bundle of these three that
inference loads, and `sbi-redshift`. `pae` and `sbi-redshift` are promoted: a new version is `@challenger`, and the gate
(`assets.promotion.gate`) or a person makes it `@champion`, which inference uses. Inference downloads a version's files
and reads them with `paeplatform.pae.bundle`: the platform itself never runs code that is stored in the registry.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from paeplatform.config import Preset
from paeplatform.errors import RegistryError
from paeplatform.resources.locks import CREATION, alone
from paeplatform.resources.models.runs import TrainingRun, log_model
from paeplatform.resources.models.tracking import flatten, git_commit, quiet
from paeplatform.resources.relocation import follow_home, own_artifact
from paeplatform.resources.settings import QUIET_ENVIRONMENT, PlatformSettings, address, code_root

if TYPE_CHECKING:
    from types import ModuleType

    from mlflow.models import ModelSignature
    from mlflow.tracking import MlflowClient

AUTOENCODER = "sed-autoencoder"
FLOW = "latent-flow"
PROPOSAL = "posterior-proposal"
PAE = "pae"
SBI = "sbi-redshift"
CHAMPION = "champion"
CHALLENGER = "challenger"
REFERENCE_VERSION = 0  # of the model that ships with the package, in no registry; versions begin at 1
PROMOTED = (PAE, SBI)  # models of which inference uses the champion

DESCRIPTIONS = {
    AUTOENCODER: "Rest-frame galaxy spectra (f_nu, mean 1) to a few latent numbers and back.",
    FLOW: "Normalising flow from the autoencoder's latents to N(0, I).",
    PROPOSAL: "Photometry to draws near the posterior over (u, z), which importance sampling makes exact.",
    PAE: "The bundle inference loads: autoencoder, flow, proposal, grid, bands. @champion makes the catalogue.",
    SBI: "Photometry to p(z) in one pass: Transformer encoder and conditional density (simulation-based inference).",
}
_SQLITE = "sqlite:///"
_opened: set[Path] = set()  # databases that this process has seen created, and their home's files named


@dataclass(frozen=True)
class ModelVersion:
    """One version of a registered model, with the links that say what it was made from."""

    name: str
    version: int
    run_id: str
    tags: Mapping[str, str]
    url: str

    @property
    def label(self) -> str:
        """As people write it: v3, or reference for the model that ships with the package."""
        return "reference" if self.version == REFERENCE_VERSION else f"v{self.version}"


class ModelRegistry(dg.ConfigurableResource):
    """MLflow tracking and registry. Nothing is created or imported before the first call.

    `tracking_uri` may be a reference to an environment variable (`resources.settings.address`), since Dagster shows a
    resource's fields and a database's address holds a password.
    """

    tracking_uri: str
    artifact_root: str
    project_root: str
    experiment: str = "paeplatform"
    ui_url: str = "http://127.0.0.1:5000"

    @classmethod
    def from_settings(cls, settings: PlatformSettings) -> ModelRegistry:
        """The registry under the platform's home."""
        return cls(
            tracking_uri=settings.tracking_uri,
            artifact_root=settings.artifact_root,
            project_root=str(code_root()),
            ui_url=settings.mlflow_ui,
        )

    @property
    def exists(self) -> bool:
        """Whether anything was ever logged; answers without importing MLflow or making its database."""
        return self._database is None or self._database.is_file()

    @property
    def _database(self) -> Path | None:
        """MLflow's database under the home; None where it is PostgreSQL's."""
        if not self.tracking_uri.startswith(_SQLITE):
            return None
        return Path(self.tracking_uri.removeprefix(_SQLITE))

    @contextmanager
    def training_run(
        self,
        name: str,
        preset: Preset,
        *,
        data_version: str,
        dagster_run_id: str,
        params: Mapping[str, Any] | None = None,
    ) -> Iterator[TrainingRun]:
        """Opens an MLflow run with the whole preset as parameters and the state of code and data as tags.

        An exception marks the run as failed and passes on. A run of this name that an earlier try of the same step has
        left running, its pod being lost, is closed.
        """
        mlflow, client = self._mlflow(), self.client()
        self.close_runs(dagster_run_id, name)
        tags = {
            "data_version": data_version,
            "git_commit": git_commit(Path(self.project_root)),
            "preset": preset.name,
            "preset_digest": preset.digest(),
            "dagster_run_id": dagster_run_id,
        }
        with mlflow.start_run(experiment_id=self._experiment_id(client), run_name=name, tags=tags) as active:
            info = active.info
            page = f"{self.ui_url}/#/experiments/{info.experiment_id}/runs/{info.run_id}"
            run = TrainingRun(client, info.run_id, page)
            mlflow.log_params({**flatten(preset.model_dump(mode="json")), **(params or {})})
            run.log_json(preset.model_dump(mode="json"), "preset.json")
            yield run

    def register(
        self,
        name: str,
        artifacts: Mapping[str, Path],
        *,
        signature: ModelSignature,
        input_example: Any,
        tags: Mapping[str, Any],
    ) -> ModelVersion:
        """Logs a model to the open training run and registers it as the next version of `name`.

        Args:
            name: one of AUTOENCODER, FLOW, PROPOSAL, PAE, SBI.
            artifacts: files or folders the model's code finds under these names.
            signature: typed inputs and outputs.
            input_example: shown in the UI and served as a request body; it is stored, not run.
            tags: links to parts and inputs; `content` pins the bytes, and the same bytes are not registered
                twice.

        Returns:
            The new version, or the one that already holds this content. A new one of `PROMOTED` is @challenger
            until the gate has judged it.
        """
        mlflow, client = self._mlflow(), self.client()
        texts = {key: str(value) for key, value in tags.items()}
        known = self._with_content(name, texts["content"]) if "content" in texts else None
        if known is not None:
            return known
        run_id = mlflow.active_run().info.run_id
        logged = log_model(
            client,
            run_id,
            name,
            artifacts,
            signature=signature,
            input_example=input_example,
            tags=texts,
        )
        if not client.search_registered_models(f"name='{name}'"):
            client.create_registered_model(name, description=DESCRIPTIONS[name])
        created = client.create_model_version(
            name,
            source=logged.artifact_location,
            run_id=run_id,
            tags=texts,
            model_id=logged.model_id,
        )
        version = str(created.version)
        if name in PROMOTED:
            client.set_registered_model_alias(name, CHALLENGER, version)
        return self._described(client.get_model_version(name, version))

    def by_alias(self, name: str = PAE, alias: str = CHAMPION) -> ModelVersion:
        """The version an alias points at.

        Raises:
            RegistryError: no such model or alias; the line says how to set it.
        """
        found = self.find_alias(name, alias)
        if found is None:
            known = ", ".join(str(version) for version in self.versions(name))
            remedy = (
                f"set it in the MLflow UI (Models > {name} > one of versions {known} > Aliases) or with "
                f"`paeplatform promote --model {name}`"
                if known
                else "train and register one first, for instance with `paeplatform run`, or register the model that "
                "ships with `paeplatform models install-reference`"
            )
            raise RegistryError(f"no model {name}@{alias} in {self.tracking_uri}: {remedy}")
        return found

    def find_alias(self, name: str = PAE, alias: str = CHAMPION) -> ModelVersion | None:
        """The version an alias points at, or None."""
        if not self.exists:
            return None
        client = self.client()
        found = client.search_registered_models(f"name='{name}'")
        if not found or alias not in found[0].aliases:
            return None
        return self._described(client.get_model_version_by_alias(name, alias))

    def versions(self, name: str = PAE) -> list[int]:
        """The registered versions of a model, oldest first; empty when there is none."""
        if not self.exists:
            return []
        return [found.version for found in self._all(name)]

    def by_version(self, name: str, version: int) -> ModelVersion:
        """A version by its number.

        Raises:
            RegistryError: no such version.
        """
        there = self._all(name) if self.exists else []
        for found in there:
            if found.version == version:
                return found
        known = [found.version for found in there] or "none"
        raise RegistryError(f"no version {version} of model {name}: there are {known}")

    def by_content(self, name: str, content: str) -> ModelVersion:
        """The latest version that holds this content.

        Raises:
            RegistryError: there is none, for instance because MLflow's database was removed and the store
                was not.
        """
        found = self._with_content(name, content)
        if found is None:
            raise RegistryError(
                f"no version of model {name} with content {content} in {self.tracking_uri}: train it again"
            )
        return found

    def aliases(self, model: ModelVersion) -> list[str]:
        """The aliases that point at a version now."""
        return sorted(self.client().get_model_version(model.name, str(model.version)).aliases)

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Points an alias at a version.

        Raises:
            RegistryError: no such version.
        """
        self.by_version(name, version)
        self.client().set_registered_model_alias(name, alias, str(version))

    def drop_alias(self, name: str, alias: str) -> None:
        """Takes an alias down."""
        self.client().delete_registered_model_alias(name, alias)

    def tag(self, name: str, version: int, tags: Mapping[str, object]) -> None:
        """Sets tags of a version."""
        client = self.client()
        for key, value in tags.items():
            client.set_model_version_tag(name, str(version), key, str(value))

    def untag(self, name: str, version: int, keys: Iterable[str]) -> None:
        """Removes those of the tags that a version has."""
        client = self.client()
        there = client.get_model_version(name, str(version)).tags
        for key in keys:
            if key in there:
                client.delete_model_version_tag(name, str(version), key)

    def run_file(self, run_id: str, name: str) -> Path | None:
        """The local path of a file that a run logged, fetched when it lies elsewhere; None when there is none."""
        mlflow = self._mlflow()
        try:
            uri = self._own(self.client().get_run(run_id).info.artifact_uri)
            path = Path(mlflow.artifacts.download_artifacts(artifact_uri=f"{uri}/{name}"))
        except (OSError, mlflow.exceptions.MlflowException):
            return None
        return path if path.is_file() else None

    def artifact(self, model: ModelVersion, name: str) -> Path:
        """The local path of artifact `name` of a version, fetched when it lies elsewhere.

        Raises:
            RegistryError: the version's files are gone.
        """
        mlflow = self._mlflow()
        try:
            uri = self._own(self.client().get_model_version_download_uri(model.name, str(model.version)))
            folder = mlflow.artifacts.download_artifacts(artifact_uri=uri)
        except (OSError, mlflow.exceptions.MlflowException) as error:
            raise RegistryError(
                f"model {model.name} v{model.version}: its files cannot be read: {error}"
            ) from error
        recorded = mlflow.models.Model.load(folder).flavors["python_function"].get("artifacts", {})
        path = Path(folder) / recorded[name]["path"] if name in recorded else None
        if path is None or not path.exists():
            raise RegistryError(f"model {model.name} v{model.version}: no artifact {name!r} under {folder}")
        return path

    def close_runs(self, dagster_run_id: str, name: str | None = None) -> None:
        """Marks as killed what a Dagster run that is gone, or its step called `name`, has left running."""
        if not self.exists:
            return
        client = self.client()
        unfinished = f"tags.dagster_run_id = '{dagster_run_id}' and attributes.status = 'RUNNING'"
        if name is not None:
            unfinished += f" and attributes.run_name = '{name}'"
        for run in client.search_runs([self._experiment_id(client)], filter_string=unfinished):
            client.set_terminated(run.info.run_id, status="KILLED")

    def client(self) -> MlflowClient:
        """MLflow's client for this store, which is created (a few seconds of migrations) on first use.

        One process creates it while others wait. A home that was copied or moved gets the places of its own files.

        Raises:
            RegistryError: the home was copied or moved without its artifacts.
        """
        from mlflow.tracking import MlflowClient

        self._mlflow()
        uri, database = address(self.tracking_uri), self._database
        if database is None or database in _opened:
            return MlflowClient(tracking_uri=uri, registry_uri=uri)
        with alone(database.with_name(CREATION)):
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_experiments(max_results=1)
        self.follow_home()
        _opened.add(database)
        return client

    def follow_home(self) -> None:
        """Makes the records of a home that was copied or moved name its own files; does not import MLflow.

        Raises:
            RegistryError: the home was copied or moved without its artifacts.
        """
        if self._database is not None and self._database.is_file():
            follow_home(self._database, self.artifact_root)

    def _own(self, uri: str) -> str:
        """The same file under this home, should a record still name the home it was copied from."""
        return uri if self._database is None else own_artifact(uri, self.artifact_root)

    def _mlflow(self) -> ModuleType:
        for key, value in QUIET_ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        import mlflow

        quiet()
        if self._database is not None:
            self._database.parent.mkdir(parents=True, exist_ok=True)
        uri = address(self.tracking_uri)
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        return mlflow

    def _experiment_id(self, client: MlflowClient) -> str:
        found = client.get_experiment_by_name(self.experiment)
        if found is not None:
            return found.experiment_id
        return client.create_experiment(self.experiment, artifact_location=self.artifact_root)

    def _all(self, name: str) -> list[ModelVersion]:
        found = [
            self._described(version) for version in self.client().search_model_versions(f"name='{name}'")
        ]
        return sorted(found, key=lambda version: version.version)

    def _with_content(self, name: str, content: str) -> ModelVersion | None:
        """The latest version that holds this content."""
        versions = reversed(self._all(name))
        return next((found for found in versions if found.tags.get("content") == content), None)

    def _described(self, found: Any) -> ModelVersion:
        return ModelVersion(
            name=found.name,
            version=int(found.version),
            run_id=found.run_id,
            tags=dict(found.tags),
            url=f"{self.ui_url}/#/models/{found.name}/versions/{found.version}",
        )
