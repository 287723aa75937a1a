"""Training without a part of the templates, to learn how wrong the model is on galaxies that it has not seen.

The observed galaxies of the library are dealt into folds. For each fold an autoencoder is trained on spectra without
that fold's galaxies, and describes mock galaxies of the fold (`left_out.misses`). What it misses on average, by rest
wavelength, is the relative error that the likelihood counts with (`model.model_error`).

The flow is not trained for this: the search for the best spectrum is held by a Gaussian of the latents' mean and
covariance in its place. At the signal-to-noise of the search, a hundred in each band, the prior hardly matters.
"""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
from jaxtyping import Array, Float

from paeplatform.catalog.photometry import noiseless_fluxes
from paeplatform.catalog.streams import Stream, stream_rng
from paeplatform.catalog.training_set import augment_sources, training_spectra_of
from paeplatform.config import Preset
from paeplatform.errors import ConfigError
from paeplatform.fit_record import FitOptions
from paeplatform.inference.left_out import Misses, misses, relative_error
from paeplatform.inference.model.forward_model import PaeForward
from paeplatform.inference.model.posterior import LogPosterior
from paeplatform.inference.model.priors import UniformPrior
from paeplatform.inference.modes.scan import RedshiftScan
from paeplatform.instrument.bands import BandSet
from paeplatform.instrument.filters import gaussian_filters
from paeplatform.instrument.forward import fold, grid_operator
from paeplatform.pae.autoencoder import Autoencoder, CompactAutoencoder
from paeplatform.pae.bundle import RelativeErrors
from paeplatform.pae.landmarks import template_spectra
from paeplatform.pae.training import encode_spectra, train_autoencoder
from paeplatform.sed.grid import library_on_grid, rest_grid
from paeplatform.sed.library import TemplateLibrary

OBSERVED = (
    "brown/"  # names of the packaged library's observed galaxies; its other templates are models, and stay in
)
N_REDSHIFTS = 48  # at which left-out galaxies are placed
LEAST_ERROR = 0.01  # 1 sigma of a band, of its flux, in the search for the best spectrum ...
FAINTEST = 1e-3  # ... and at least this share of the galaxy's brightest band
N_LATENTS = 20_000  # spectra whose latents make the Gaussian


@dataclass(frozen=True)
class Fold:
    """One training without some templates.

    Attributes:
        number: from 1 on.
        left_out: names of the templates that it does not see.
    """

    number: int
    left_out: tuple[str, ...]


def template_folds(library: TemplateLibrary, n_folds: int, seed: int) -> list[Fold]:
    """The library's observed galaxies dealt into folds, as evenly as it goes; a library without such names whole.

    Args:
        library: the templates.
        n_folds: at least 2.
        seed: of the order.

    Raises:
        ConfigError: fewer than two folds, or fewer galaxies than two for each.
    """
    names = sorted(name for name in library.name if name.startswith(OBSERVED)) or sorted(library.name)
    if n_folds < 2:
        raise ConfigError(f"model_error.folds {n_folds} must be at least 2, or 0 for no model error")
    if len(names) < 2 * n_folds:
        raise ConfigError(
            f"model_error.folds {n_folds}: the library has {len(names)} templates to leave out, "
            f"{2 * n_folds} are needed"
        )
    order = stream_rng(seed, Stream.LEFT_OUT_GALAXIES).permutation(len(names))
    return [
        Fold(number + 1, tuple(sorted(names[i] for i in order[number::n_folds]))) for number in range(n_folds)
    ]


def fold_settings(preset: Preset, left_out: Fold) -> Preset:
    """The settings of a training without a fold: the preset's, but for the sizes that `model_error` states."""
    cfg, autoencoder = preset.model_error, preset.pae.autoencoder
    epochs = autoencoder.fit.epochs if cfg.epochs is None else cfg.epochs
    short = autoencoder.model_copy(update={"fit": autoencoder.fit.model_copy(update={"epochs": epochs})})
    n_spectra = preset.training_set.n_spectra if cfg.n_spectra is None else cfg.n_spectra
    more = tuple(name for name in preset.tables.leave_out if name not in left_out.left_out)
    return preset.model_copy(
        update={
            "tables": preset.tables.model_copy(update={"leave_out": more}),
            "training_set": preset.training_set.model_copy(update={"n_spectra": n_spectra}),
            "pae": preset.pae.model_copy(update={"autoencoder": short}),
        }
    )


def known_to(catalog: pl.DataFrame, left_out: Fold) -> pl.DataFrame:
    """The sources of a catalogue that a training without a fold draws from."""
    return catalog.filter(~pl.col("template").is_in(left_out.left_out))


def fold_autoencoder(
    preset: Preset,
    library: TemplateLibrary,
    catalog: pl.DataFrame,
    left_out: Fold,
    options: FitOptions = FitOptions(),
) -> Autoencoder:
    """An autoencoder of the preset's `pae.n_latent` without a fold, trained on spectra that are made in memory.

    Args:
        preset: uses what a training uses, and model_error.
        library: the templates the catalogue was drawn with, all of them.
        catalog: of `draw_mock_catalog`.
        left_out: the fold.
        options: checkpoints and progress.

    Raises:
        InputError, ConfigError: as `augment_sources`.
        TrainingError: as `train_autoencoder`.
    """
    settings, wave = fold_settings(preset, left_out), rest_grid(preset.rest_grid)
    sources = augment_sources(settings, known_to(catalog, left_out))
    spectra = training_spectra_of(sources, library_on_grid(library, wave), wave, slice(None))
    fitted, _ = train_autoencoder(
        settings.pae, spectra, preset.pae.n_latent, seed=preset.seed, options=options
    )
    return fitted


def fold_misses(
    autoencoder: Autoencoder,
    preset: Preset,
    library: TemplateLibrary,
    bands: BandSet,
    catalog: pl.DataFrame,
    left_out: Fold,
) -> Misses:
    """What an autoencoder misses of the galaxies of a fold that its training has not seen.

    The galaxies are sources of the catalogue with their dust, each put at the nearest of `N_REDSHIFTS` redshifts, and
    without noise.

    Args:
        autoencoder: of `fold_autoencoder`.
        preset: uses rest_grid, prior, instrument, training_set.mag_z_max, model_error.n_galaxies and seed.
        library: the templates.
        bands: channels.
        catalog: of `draw_mock_catalog`.
        left_out: the fold.

    Raises:
        ConfigError: the catalogue has no source of the fold as bright as the training's.
    """
    forward, landmarks = _without_flow(autoencoder, preset, library, bands, catalog, left_out)
    limits = UniformPrior(preset.prior.z_min, preset.prior.z_max)
    scan = RedshiftScan(
        LogPosterior(forward, limits), N_REDSHIFTS, landmarks.shape[1], landmarks, preset.seed
    )
    galaxies = catalog.filter(
        pl.col("template").is_in(left_out.left_out) & (pl.col("mag_z") < preset.training_set.mag_z_max)
    )
    if galaxies.is_empty():
        raise ConfigError(
            f"model_error: no source brighter than z = {preset.training_set.mag_z_max:g} has a template of fold "
            f"{left_out.number}; a larger catalogue or fewer folds give it some"
        )
    rng = stream_rng(preset.seed, Stream.LEFT_OUT_GALAXIES, left_out.number)
    galaxies = galaxies[np.sort(rng.permutation(len(galaxies))[: preset.model_error.n_galaxies])]
    node = np.abs(scan.z[None, :] - galaxies["z_true"].to_numpy()[:, None]).argmin(axis=1)
    seds = [galaxies[name].to_numpy() for name in ("template_index", "dust_law", "ebv")]
    z, mag_i = scan.z[node].astype(np.float64), galaxies["mag_i"].to_numpy()
    flux = np.concatenate([part for _, part in noiseless_fluxes(library, bands, seds, z, mag_i)])
    size = np.abs(flux)
    error = np.maximum(LEAST_ERROR * size, FAINTEST * size.max(axis=1, keepdims=True))
    return misses(scan, flux, error, node, bands.wave_um)


def learnt_errors(preset: Preset, found: list[Misses]) -> RelativeErrors:
    """The relative errors of the model by rest wavelength, of all folds together.

    Args:
        preset: uses rest_grid and model_error.n_nodes.
        found: of each fold.

    Raises:
        InputError: no band says anything.
    """
    grid = preset.rest_grid
    wave = np.geomspace(grid.wave_min_um, grid.wave_max_um, preset.model_error.n_nodes)
    return RelativeErrors(wave, relative_error(found, wave))


class _Gaussian(eqx.Module):
    """The latents as a linear function of standard normal numbers, in the place of a flow."""

    shift: Float[Array, " latent"]
    scale: Float[Array, " latent"]
    factor: Float[Array, "latent latent"]
    inverse: Float[Array, "latent latent"]
    redshift: None = None  # on which it does not depend

    def to_latent(self, u: Float[Array, " latent"], z: Array | None = None) -> Float[Array, " latent"]:
        """Latent of a base variable."""
        return self.shift + self.factor @ u

    def to_base(self, latent: Float[Array, " latent"], z: Array | None = None) -> Float[Array, " latent"]:
        """Base variable of a latent."""
        return self.inverse @ (latent - self.shift)


def _gaussian_of(latents: np.ndarray) -> _Gaussian:
    latents = latents.astype(np.float64)
    # a latent that the training left unused has no width; a little of the largest keeps the matrix definite
    covariance = np.cov(latents.T).reshape(latents.shape[1], -1)
    covariance += 1e-6 * np.trace(covariance) * np.eye(len(covariance))
    factor = np.linalg.cholesky(covariance)
    parts = latents.mean(axis=0), np.sqrt(np.diag(covariance)), factor, np.linalg.inv(factor)
    return _Gaussian(*(jnp.asarray(part, jnp.float32) for part in parts))


def _without_flow(
    autoencoder: Autoencoder,
    preset: Preset,
    library: TemplateLibrary,
    bands: BandSet,
    catalog: pl.DataFrame,
    left_out: Fold,
) -> tuple[PaeForward, np.ndarray]:
    """(forward model with a Gaussian for a flow, the known templates' places in its base)."""
    wave, filters = rest_grid(preset.rest_grid), gaussian_filters(bands)
    template_flux = library_on_grid(library, wave)
    few = fold_settings(preset, left_out)
    few = few.model_copy(
        update={"training_set": few.training_set.model_copy(update={"n_spectra": N_LATENTS})}
    )
    sources = augment_sources(few, known_to(catalog, left_out))
    spectra = training_spectra_of(sources, template_flux, wave, slice(None))
    gaussian = _gaussian_of(encode_spectra(autoencoder, spectra))
    z_max, n_nodes = preset.prior.z_max, preset.instrument.n_redshift_nodes
    if isinstance(autoencoder, CompactAutoencoder):
        operator = fold(np.asarray(autoencoder.basis(), np.float64), wave, filters, z_max, n_nodes)
    else:
        operator = grid_operator(wave, filters, z_max, n_nodes)
    unseen = {*left_out.left_out, *preset.tables.leave_out}
    known = np.array([name not in unseen for name in library.name])
    latents = encode_spectra(autoencoder, template_spectra(template_flux[known], wave))
    landmarks = np.asarray(jax.vmap(gaussian.to_base)(jnp.asarray(latents)))
    return PaeForward(autoencoder, gaussian, operator), landmarks  # type: ignore[arg-type]
