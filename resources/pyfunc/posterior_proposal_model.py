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
        from paeplatform.inference.files.photometry_frame import photometry_of_frame
        from paeplatform.inference.importance.proposal_check import draw_redshifts

        photometry = photometry_of_frame(model_input, self._model.n_band)
        z = draw_redshifts(self._model, photometry.flux, photometry.flux_err)
        return pd.DataFrame({"proposal_z_mean": z.mean(axis=1), "proposal_z_std": z.std(axis=1)})


mlflow.models.set_model(PosteriorProposalModel())
