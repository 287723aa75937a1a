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
        import numpy as np

        from paeplatform.errors import BandSetError
        from paeplatform.sbi.inference import estimate_sbi

        columns = []
        for name in ("flux", "flux_err"):
            rows = [np.asarray(row, dtype=np.float64) for row in model_input[name]]
            wanted = (self._model.n_band,)
            wrong = next((i for i, row in enumerate(rows) if row.shape != wanted), None)
            if wrong is not None:
                raise BandSetError(
                    f"{name}, row {wrong}: shape {rows[wrong].shape}, expected {wanted} numbers in uJy"
                )
            columns.append(np.stack(rows))
        object_id = (
            model_input["object_id"].to_numpy() if "object_id" in model_input else np.arange(len(model_input))
        )
        cfg = self._model.cfg
        flux, flux_err = columns
        table = estimate_sbi(
            self._model,
            flux,
            flux_err,
            object_id.astype(np.int64),
            summaries=cfg.summaries,
            n_samples=cfg.n_samples,
            batch_size=cfg.batch_size,
            progress=False,
        )
        return pd.DataFrame(table.to_dict(as_series=False))


mlflow.models.set_model(SbiRedshiftModel())
