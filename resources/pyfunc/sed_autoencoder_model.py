"""Models-from-code entry of `sed-autoencoder`: spectra (n, n_wave) to their reconstructions (n, n_wave)."""

import mlflow  # noqa: TID253 - this file is run by MLflow
import numpy as np


class SedAutoencoder(mlflow.pyfunc.PythonModel):
    """Reads the weights folder logged as artifact `autoencoder`; no pickle is involved."""

    def load_context(self, context):
        """Called once by MLflow."""
        from pathlib import Path

        from paeplatform.pae.bundle import load_autoencoder

        self._model = load_autoencoder(Path(context.artifacts["autoencoder"]))

    def predict(self, context, model_input: np.ndarray, params: dict | None = None) -> np.ndarray:
        """Mean-normalised f_nu on the rest grid in, the same out of the bottleneck."""
        from paeplatform.pae.training import decode_latents, encode_spectra

        return decode_latents(self._model, encode_spectra(self._model, np.asarray(model_input, np.float32)))


mlflow.models.set_model(SedAutoencoder())
