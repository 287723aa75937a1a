"""Models-from-code entry of `pae`: photometry to redshift summaries.

Artifacts: `bundle`, the folder `paeplatform.pae.bundle` reads, and `setting`, a folder with the preset,
the redshift prior and the band table that the bundle was registered with. No pickle is involved.
"""

import mlflow  # noqa: TID253 - this file is run by MLflow
import pandas as pd


class PaeModel(mlflow.pyfunc.PythonModel):
    """Answers rows of flux and flux_err [uJy] with the columns of `paeplatform.inference.results.summaries`."""

    def load_context(self, context):
        """Called once by MLflow."""
        import json
        from pathlib import Path

        from paeplatform.config import Preset
        from paeplatform.inference.estimate import Estimator
        from paeplatform.inference.model.priors import prior_from_dict
        from paeplatform.instrument.bands import load_bands
        from paeplatform.instrument.filters import gaussian_filters
        from paeplatform.pae.bundle import load_bundle

        setting = Path(context.artifacts["setting"])
        bands = load_bands(setting / "bands.csv")
        self._estimator = Estimator(
            load_bundle(Path(context.artifacts["bundle"])),
            prior_from_dict(json.loads((setting / "prior.json").read_text())),
            bands,
            gaussian_filters(bands),
            Preset.model_validate_json((setting / "preset.json").read_text()),
        )

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None) -> pd.DataFrame:
        """One row of summaries a source; an optional column `object_id` names the sources and seeds their
        chains.
        """
        from paeplatform.inference.files.photometry_frame import photometry_of_frame

        photometry = photometry_of_frame(model_input, len(self._estimator.bands))
        summaries = self._estimator.estimate(*photometry, progress=False)
        return pd.DataFrame(summaries.to_dict(as_series=False))


mlflow.models.set_model(PaeModel())
