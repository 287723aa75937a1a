"""Models-from-code entry of `posterior-proposal`: photometry to the redshifts it draws, uncorrected.

What it answers is the network's own approximation; the exact posterior is that of `pae`, which corrects it.
"""

import mlflow  # noqa: TID253 - this file is run by MLflow
import pandas as pd


class PosteriorProposalModel(mlflow.pyfunc.PythonModel):
    """Reads the weights folder logged as artifact `proposal`; no pickle is involved."""

    def load_context(self, context):
        """Called once by MLflow."""
        from pathlib import Path

        from paeplatform.pae.bundle import load_proposal

        self._model = load_proposal(Path(context.artifacts["proposal"]))

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None) -> pd.DataFrame:
        """Mean and standard deviation of redshifts drawn for each row of flux and flux_err [uJy]."""
        import numpy as np

        from paeplatform.errors import BandSetError
        from paeplatform.inference.proposal_check import draw_redshifts

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
        z = draw_redshifts(self._model, *columns)
        return pd.DataFrame({"proposal_z_mean": z.mean(axis=1), "proposal_z_std": z.std(axis=1)})


mlflow.models.set_model(PosteriorProposalModel())
