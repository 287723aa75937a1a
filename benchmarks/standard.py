"""The trained `standard` model and the galaxies that the inference benchmarks share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl

import benchmarks.devices  # noqa: F401  # before what starts JAX
from paeplatform.catalog.mock import draw_mock_catalog
from paeplatform.catalog.photometry import mock_photometry
from paeplatform.config import load_preset
from paeplatform.inference.batches.progress import SILENT
from paeplatform.inference.estimate import Estimator
from paeplatform.inference.importance.sampling import ImportanceResult, run_importance
from paeplatform.inference.model.priors import prior_from_preset
from paeplatform.inference.sources import Sources
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.filters import gaussian_filters
from paeplatform.pae.bundle import PaeBundle, load_bundle
from paeplatform.sed.library import load_library

ROOT = Path(__file__).parents[1]
HOME = Path(os.environ.get("PAEPLATFORM_BENCH_HOME", ROOT / "runs" / "standard"))
ALIAS = os.environ.get("PAEPLATFORM_BENCH_ALIAS", "champion")
SEED = 31415  # of the benchmark's galaxies; the presets train on another one
SNR_LIMITS = (5.0, 200.0)
N_BINS = 24  # equal in ln(SNR)
MAG_Z_MAX = 23.0


def standard_model() -> Estimator:
    """The bundle with alias `ALIAS` in `HOME`; trained there first when there is none (an hour or two)."""
    from paeplatform.cli.options import settings_for
    from paeplatform.resources.registry import PAE, ModelRegistry

    if not (HOME / "mlruns" / "mlflow.db").is_file():
        print(f"no model in {HOME}: training preset standard there first", file=sys.stderr)
        command = "from paeplatform.cli import main; main()"
        arguments = ["run", "--preset", "standard", "--home", str(HOME), "--select", "pae_model"]
        subprocess.run([sys.executable, "-c", command, *arguments], check=True, cwd=ROOT)
    settings = settings_for(HOME, "standard")
    registry = ModelRegistry.from_settings(settings)
    bundle = load_bundle(registry.artifact(registry.by_alias(PAE, ALIAS), "bundle"))
    fitted = pl.read_parquet(settings.store / "redshift_prior.parquet", glob=False).row(0, named=True)
    return model_of(bundle, fitted)


def model_of(bundle: PaeBundle, fitted: dict) -> Estimator:
    """The model of a bundle and a fitted p_BPZ."""
    preset, bands = load_preset("standard"), load_bands()
    return Estimator(bundle, prior_from_preset(preset.prior, fitted), bands, gaussian_filters(bands), preset)


def galaxies(per_bin: int) -> pl.DataFrame:
    """Mock galaxies of zAB < 23, as many in each of 24 bins of ln(SNR) between 5 and 200.

    SNR is the total one of the noiseless fluxes, column `snr_true`: that of noisy fluxes is never below some 10,
    the square root of the number of bands.
    """
    preset = load_preset("standard").model_copy(update={"seed": SEED})
    library, bands = load_library(), load_bands()
    catalog = draw_mock_catalog(preset, library).filter(pl.col("mag_z") < MAG_Z_MAX)
    parts, wanted = [], np.full(N_BINS, per_bin)
    edges = np.geomspace(SNR_LIMITS[0], SNR_LIMITS[1], N_BINS + 1)
    for first in range(0, catalog.height, 2048):
        rows = mock_photometry(preset, library, bands, catalog[first : first + 2048], preset.seed)
        true, error = _stacked(rows, "flux_true"), _stacked(rows, "flux_err")
        snr = np.sqrt(np.sum((true / error) ** 2, axis=1))
        rows = rows.with_columns(pl.Series("snr_true", snr))
        for k in np.flatnonzero(wanted):
            here = np.flatnonzero((snr >= edges[k]) & (snr < edges[k + 1]))[: wanted[k]]
            wanted[k] -= len(here)
            parts.append(rows[here])
        if not wanted.any():
            break
    return pl.concat(parts).sort("snr_true")


def sources_of(table: pl.DataFrame, seed: int) -> Sources:
    """The galaxies' noisy photometry, float32."""
    flux, flux_err = (_stacked(table, name).astype(np.float32) for name in ("flux", "flux_err"))
    return Sources(flux, flux_err, table["object_id"].to_numpy(), seed)


def _stacked(table: pl.DataFrame, name: str) -> np.ndarray:
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def staged(model: Estimator, sources: Sources, *, keep_pools: bool = False) -> ImportanceResult:
    """Importance sampling as the platform does it, without its fallback."""
    assert model.bundle.proposal is not None
    preset = model.preset
    return run_importance(
        model.posterior,
        model.bundle.proposal,
        sources,
        preset.importance,
        preset.trust,
        n_kept=preset.inference.n_kept,
        keep_pools=keep_pools,
        landmarks=model.bundle.landmarks,
        progress=SILENT,
    )
