"""Redshifts of own photometry in one call, without Dagster or MLflow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from paeplatform.config import Preset, load_preset
from paeplatform.inference.estimate import Estimator
from paeplatform.inference.model.priors import RedshiftPrior, UniformPrior
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.filters import gaussian_filters
from paeplatform.pae.bundle import load_bundle


def estimate(
    bundle_folder: Path | str,
    flux: np.ndarray,
    flux_err: np.ndarray,
    *,
    preset: str | Preset = "standard",
    z_prior: RedshiftPrior | None = None,
    object_id: np.ndarray | None = None,
    method: str | None = None,
    progress: bool = True,
) -> pl.DataFrame:
    """Redshift posteriors of SPHEREx photometry.

    Args:
        bundle_folder: a trained bundle: the folder that holds `bundle.json`.
        flux: (source, 102) [uJy], negative values are legal.
        flux_err: (source, 102) 1 sigma [uJy]; infinite or NaN masks a band.
        preset: name or settings; seed and sections prior, inference, importance, mclmc, trust and instrument are used.
        z_prior: None takes a uniform prior on the preset's redshift range.
        object_id: (source,) distinct integers that fix each source's random numbers; row numbers when not given.
        method: "importance", "mclmc" or "pocomc"; None takes the preset's.
        progress: shows a bar.

    Returns:
        The table of `paeplatform.inference.results.summaries.summarise`.

    Raises:
        CheckpointError: the folder holds no sound bundle.
        BandSetError, ConfigError: see `Estimator`.
    """
    settings = load_preset(preset) if isinstance(preset, str) else preset
    bands = load_bands()
    prior = UniformPrior(settings.prior.z_min, settings.prior.z_max) if z_prior is None else z_prior
    ids = np.arange(len(flux)) if object_id is None else object_id
    estimator = Estimator(
        load_bundle(Path(bundle_folder)), prior, bands, gaussian_filters(bands), settings, method
    )
    return estimator.estimate(flux, flux_err, ids, progress=progress)
