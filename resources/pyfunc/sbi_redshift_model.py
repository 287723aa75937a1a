"""Models-from-code entry of `sbi-redshift`: photometry to redshift summaries in one pass of the network.

Artifact `sbi` is the folder that `paeplatform.sbi.bundle` reads: safetensors and JSON, no pickle.
"""

import mlflow  # noqa: TID253 - this file is run by MLflow
import pandas as pd


class SbiRedshiftModel(mlflow.pyfunc.PythonModel):
    """Answers rows of flux and flux_err [uJy] with the columns of `paeplatform.sbi.inference.estimate_sbi`."""

    def load_context(self, context):
        """Called once by MLflow."""
        from pathlib import Path

        from paeplatform.sbi.bundle import load_sbi

        self._model, _ = load_sbi(Path(context.artifacts["sbi"]))

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None) -> pd.DataFrame:
        """One row of summaries a source; an optional column `object_id` names the sources and seeds samples."""
        from paeplatform.inference.files.photometry_frame import photometry_of_frame
        from paeplatform.sbi.inference import estimate_sbi

        cfg = self._model.cfg.model_copy(update={"device": "auto"})  # that of the training may not be here
        photometry = photometry_of_frame(model_input, self._model.n_band)
        table = estimate_sbi(self._model, *photometry, cfg, progress=False)
        return pd.DataFrame(table.to_dict(as_series=False))


mlflow.models.set_model(SbiRedshiftModel())
