"""The SBI model, loaded to answer photometry, and the settings that decide its answer beside it."""

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from paeplatform.assets.inference.estimation import Estimation, EstimationInputs, fetch_model
from paeplatform.assets.recording.tables import bands_from
from paeplatform.assets.recording.versions import code_version
from paeplatform.config import Preset
from paeplatform.errors import CheckpointError
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.registry import SBI, ModelVersion

if TYPE_CHECKING:
    import numpy as np

SBI_POSTERIORS = 2  # raised when the code behind `sbi_posteriors` changes its result


def sbi_code(preset: Preset) -> str:
    """The code version of what SBI answers."""
    return code_version(SBI_POSTERIORS, preset, "sbi.summaries", "sbi.n_samples")


def load_sbi_version(
    inputs: EstimationInputs, version: int | None = None, *, progress: bool = False
) -> Estimation:
    """A version of `sbi-redshift`, ready to answer.

    Args:
        inputs: of the preset, sbi.summaries, n_samples, batch_size, device, and the seed of samples; bands, which must
            be those the model was trained for; where the version is. The prior is not read: p(z) is under the training
            set's own distribution.
        version: None takes the champion.
        progress: shows a bar.

    Raises:
        dagster.Failure: no such version, its files are at fault, or it was trained for other bands.
    """
    with one_line_failures():
        model_version, folder = fetch_model(inputs.registry, SBI, version, "sbi")
    return sbi_estimation(model_version, folder, inputs, progress=progress)


def sbi_estimation(
    model_version: ModelVersion, folder: Path, inputs: EstimationInputs, *, progress: bool = False
) -> Estimation:
    """Binds bands and settings to a network, wherever its files are.

    Args:
        model_version: what answers call the network.
        folder: of its files.
        inputs: as in `load_sbi_version`.
        progress: shows a bar.

    Raises:
        dagster.Failure: the files are at fault, or the network was trained for other bands.
    """
    from paeplatform.sbi.bundle import load_sbi
    from paeplatform.sbi.inference import estimate_sbi

    preset = inputs.preset
    with one_line_failures():
        model, band_hash = load_sbi(folder)
        if band_hash != bands_from(inputs.spherex_bands).content_hash():
            raise CheckpointError(f"{SBI} {model_version.label} was trained for other bands: train it again")

    def estimate(flux: "np.ndarray", flux_err: "np.ndarray", object_id: "np.ndarray") -> pl.DataFrame:
        with one_line_failures():
            return estimate_sbi(
                model, flux, flux_err, object_id, preset.sbi, seed=preset.seed, progress=progress
            )

    # the implicit prior is that of the training set, which the model's version names
    return Estimation(model_version, f"{SBI}-{model_version.label}", "", estimate)
