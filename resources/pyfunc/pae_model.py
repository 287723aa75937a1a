"""Models-from-code entry of `pae`: photometry to redshift summaries.

Artifacts: `bundle`, the folder `paeplatform.pae.bundle` reads, and `setting`, a folder with the preset,
the redshift prior and the band table that the bundle was registered with. No pickle is involved.
"""

import mlflow  # noqa: TID253 - this file is run by MLflow
import pandas as pd


class PaeModel(mlflow.pyfunc.PythonModel):
    """Answers rows of flux and flux_err [uJy] with the columns of `paeplatform.inference.summaries`."""

    def load_context(self, context):
        """Called once by MLflow."""
        import json
        from pathlib import Path

        from paeplatform.config import Preset
        from paeplatform.inference.priors import prior_from_dict
        from paeplatform.instrument.bands import load_bands
        from paeplatform.instrument.filters import gaussian_filters
        from paeplatform.pae.bundle import load_bundle

        setting = Path(context.artifacts["setting"])
        self._bundle = load_bundle(Path(context.artifacts["bundle"]))
        self._preset = Preset.model_validate_json((setting / "preset.json").read_text())
        self._prior = prior_from_dict(json.loads((setting / "prior.json").read_text()))
        self._bands = load_bands(setting / "bands.csv")
        self._filters = gaussian_filters(self._bands)

    def predict(self, context, model_input: pd.DataFrame, params: dict | None = None) -> pd.DataFrame:
        """One row of summaries a source; an optional column `object_id` names the sources and seeds their
        chains.
        """
        import numpy as np

        from paeplatform.errors import BandSetError
        from paeplatform.inference.estimate import estimate_photoz

        columns = []
        for name in ("flux", "flux_err"):
            rows = [np.asarray(row, dtype=np.float64) for row in model_input[name]]
            wrong = next((i for i, row in enumerate(rows) if row.shape != (len(self._bands),)), None)
            if wrong is not None:
                found, wanted = rows[wrong].shape, len(self._bands)
                raise BandSetError(f"{name}, row {wrong}: shape {found}, expected ({wanted},) numbers in uJy")
            columns.append(np.stack(rows))
        object_id = (
            model_input["object_id"].to_numpy() if "object_id" in model_input else np.arange(len(model_input))
        )
        flux, flux_err = columns
        summaries = estimate_photoz(
            self._bundle,
            self._prior,
            self._bands,
            self._filters,
            flux,
            flux_err,
            object_id.astype(np.int64),
            self._preset,
            progress=False,
        )
        return pd.DataFrame(summaries.to_dict(as_series=False))


mlflow.models.set_model(PaeModel())
