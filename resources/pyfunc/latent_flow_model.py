"""Models-from-code entry of `latent-flow`: latents (n, n_latent) to the base variable u (n, n_latent).

A flow that depends on redshift takes (n, n_latent + 1): the redshift is the last column.
"""

import mlflow  # noqa: TID253 - this file is run by MLflow
import numpy as np


class LatentFlowModel(mlflow.pyfunc.PythonModel):
    """Reads the weights folder logged as artifact `flow`; no pickle is involved."""

    def load_context(self, context):
        """Called once by MLflow."""
        from pathlib import Path

        from paeplatform.pae.bundle import load_flow

        self._model = load_flow(Path(context.artifacts["flow"]))

    def predict(self, context, model_input: np.ndarray, params: dict | None = None) -> np.ndarray:
        """Autoencoder latents in, u with density N(0, I) out."""
        from paeplatform.pae.training import latents_to_base

        rows, n_latent = np.asarray(model_input, np.float32), self._model.shift.size
        z = rows[:, n_latent] if self._model.redshift is not None else None
        return latents_to_base(self._model, rows[:, :n_latent], z)


mlflow.models.set_model(LatentFlowModel())
