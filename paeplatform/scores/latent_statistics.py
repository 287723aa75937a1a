"""What an autoencoder and its flow make of held-out spectra: reconstruction error and latent norm by redshift (Figs. 3
and 5).
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float

from paeplatform.catalog.training_set import read_redshifts, read_spectra
from paeplatform.config import Preset
from paeplatform.errors import InputError
from paeplatform.pae.autoencoder import Autoencoder
from paeplatform.pae.bundle import load_autoencoder, load_flow
from paeplatform.pae.flow import LatentFlow
from paeplatform.pae.training import decode_latents, encode_spectra, latents_to_base, split_indices
from paeplatform.scores.bootstrap import bootstrap_error
from paeplatform.scores.metrics import pearson
from paeplatform.sed.grid import rest_grid

N_BINS = 12  # of z, in the trend of norms


def spectrum_statistics(
    autoencoder: Autoencoder,
    flow: LatentFlow,
    spectra: Float[np.ndarray, "spectrum wave"],
    z: Float[np.ndarray, " spectrum"],
    wave: Float[np.ndarray, " wave"],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Of spectra that neither was trained on.

    Args:
        autoencoder: trained.
        flow: trained on its latents.
        spectra: rest-frame, mean 1.
        z: their redshifts.
        wave: rest grid [um].

    Returns:
        A row a spectrum: z, mse (in mean-normalised flux), u_norm (|u|_2 in the flow's base); and a row a wavelength:
        wave_um, squared_error averaged over spectra.

    Raises:
        InputError: shapes do not agree.
    """
    if spectra.ndim != 2 or len(z) != len(spectra) or len(wave) != spectra.shape[1]:
        raise InputError(
            f"spectra {spectra.shape}, z ({len(z)},) and wave ({len(wave)},) must be (spectrum, wave), (spectrum,) "
            "and (wave,)"
        )
    latents = encode_spectra(autoencoder, spectra)
    error = (np.asarray(decode_latents(autoencoder, latents), dtype=np.float64) - spectra) ** 2
    u = np.asarray(latents_to_base(flow, latents, np.asarray(z)), dtype=np.float64)
    rows = pl.DataFrame(
        {"z": np.asarray(z, np.float64), "mse": error.mean(axis=1), "u_norm": np.linalg.norm(u, axis=1)}
    )
    return rows, pl.DataFrame({"wave_um": np.asarray(wave, np.float64), "squared_error": error.mean(axis=0)})


def held_out_statistics(
    training_spectra: Path, autoencoder: Path, flow: Path, preset: Preset
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`spectrum_statistics` of at most `tables.n_spectra` of the spectra that trainings held out.

    Args:
        training_spectra: file of `write_training_set`.
        autoencoder: folder of the trained autoencoder.
        flow: folder of the flow.
        preset: names the split and the rest grid.

    Raises:
        InputError: the file is not a training set.
        CheckpointError: a folder is incomplete or altered.
    """
    spectra = read_spectra(training_spectra)
    fraction = preset.pae.autoencoder.fit.validation_fraction
    held_out = split_indices(len(spectra), fraction, preset.seed)[1][: preset.tables.n_spectra]
    z = read_redshifts(training_spectra)
    return spectrum_statistics(
        load_autoencoder(autoencoder),
        load_flow(flow),
        spectra[held_out],
        z[held_out],
        rest_grid(preset.rest_grid),
    )


def norm_trend(rows: pl.DataFrame, n_bootstrap: int = 200, seed: int = 0) -> pl.DataFrame:
    """|u| against z: the mean in bins of z, and the Pearson correlation over all (Fig. 5; the paper has r = 0.132).

    Returns:
        z_low, z_high, n, u_norm_mean with its error; the last row, z_low and z_high those of all, has pearson with its
        error besides.
    """
    z, norm = rows["z"].to_numpy(), rows["u_norm"].to_numpy()
    edges = np.linspace(0.0, max(float(z.max(initial=0.0)), 1e-6), N_BINS + 1)
    found = []
    for low, high in itertools.pairwise(edges):
        last = high == edges[-1]
        values = norm[(z >= low) & ((z <= high) if last else (z < high))]
        found.append(_mean_row(low, high, values, n_bootstrap, seed) | {"pearson": None, "pearson_err": None})
    both = np.stack([z, norm])
    found.append(
        _mean_row(edges[0], edges[-1], norm, n_bootstrap, seed)
        | {"pearson": float(pearson(both)), "pearson_err": bootstrap_error(both, pearson, n_bootstrap, seed)}
    )
    return pl.DataFrame(found, schema_overrides={"pearson": pl.Float64, "pearson_err": pl.Float64})


def _mean_row(low: float, high: float, values: np.ndarray, n_bootstrap: int, seed: int) -> dict:
    error = bootstrap_error(values, lambda v: v.mean(axis=-1), n_bootstrap, seed)
    mean = float(values.mean()) if values.size else None
    return {"z_low": low, "z_high": high, "n": values.size, "u_norm_mean": mean, "u_norm_mean_err": error}
