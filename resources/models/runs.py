"""A training's run in MLflow while it is open, and the model that is logged at its end."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paeplatform.resources.models.tracking import model_requirements

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature
    from mlflow.tracking import MlflowClient

_PYFUNC = Path(__file__).parents[1] / "pyfunc"  # the files that MLflow runs to serve a registered model


class TrainingRun:
    """An open MLflow run: curves, plots and, at the end, the model."""

    def __init__(self, client: MlflowClient, run_id: str, url: str) -> None:
        self._client = client
        self.run_id = run_id
        self.url = url

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Logs a point of every named curve but those that are not finite: MLflow's UI cannot draw them."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [Metric(k, float(v), now, step) for k, v in metrics.items() if math.isfinite(float(v))]
        self._client.log_batch(self.run_id, metrics=points)

    def log_figure(self, figure: Figure, name: str) -> None:
        """Logs a matplotlib figure as `plots/<name>.png`."""
        self._client.log_figure(self.run_id, figure, f"plots/{name}.png")

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Logs a finished file into a folder of the run's artifacts; None: beside these folders."""
        self._client.log_artifact(self.run_id, str(path), folder)

    def log_json(self, tree: Any, name: str) -> None:
        """Logs a JSON file."""
        self._client.log_text(self.run_id, json.dumps(tree, indent=1, sort_keys=True), name)

    def log_table(self, table: pl.DataFrame, name: str) -> None:
        """Logs a table as `<name>.parquet`."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.parquet"
            table.write_parquet(path)
            self.log_file(path)


def log_model(
    client: MlflowClient,
    run_id: str,
    name: str,
    artifacts: Mapping[str, Path],
    *,
    signature: ModelSignature,
    input_example: Any,
    tags: Mapping[str, str],
) -> LoggedModel:
    """Logs a model to a run: `mlflow.pyfunc.log_model` in its steps.

    That call would also run the input example, which for the bundle compiles and runs the sampler (minutes). Arguments
    are those of `ModelRegistry.register`.
    """
    import mlflow
    from mlflow.entities import LoggedModelOutput

    logged = mlflow.initialize_logged_model(
        name=name, source_run_id=run_id, model_type="pyfunc", tags={**tags}
    )
    with tempfile.TemporaryDirectory() as folder:
        mlflow.pyfunc.save_model(
            path=f"{folder}/model",
            mlflow_model=mlflow.models.Model(
                run_id=run_id, model_id=logged.model_id, model_uuid=logged.model_id
            ),
            python_model=str(_PYFUNC / f"{name.replace('-', '_')}_model.py"),
            artifacts={key: str(path) for key, path in artifacts.items()},
            signature=signature,
            input_example=input_example,
            pip_requirements=model_requirements(),
        )
        client.log_model_artifacts(logged.model_id, f"{folder}/model")
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return logged
