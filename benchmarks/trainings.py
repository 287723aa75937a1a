"""A flow and a proposal for a trained autoencoder: the rest of a whole model, for benchmarks that compare models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from paeplatform.catalog.training_set import AugmentedSources, training_spectra_of
from paeplatform.config import Preset
from paeplatform.fit_record import FitOptions
from paeplatform.inference.importance.proposal_training import train_proposal
from paeplatform.inference.model.forward_model import build_forward
from paeplatform.inference.model.model_error import model_error_of
from paeplatform.inference.model.priors import RedshiftPrior
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.filters import FilterCurves
from paeplatform.pae.autoencoder import Autoencoder
from paeplatform.pae.bundle import PaeBundle, RelativeErrors
from paeplatform.pae.landmarks import template_landmarks
from paeplatform.pae.training import encode_spectra, split_indices, train_flow
from paeplatform.sed.grid import library_on_grid, rest_grid
from paeplatform.sed.library import TemplateLibrary


def whole_model(
    preset: Preset,
    autoencoder: Autoencoder,
    sources: AugmentedSources,
    template_flux: np.ndarray,
    known: TemplateLibrary,
    filters: FilterCurves,
    prior: RedshiftPrior,
    errors: RelativeErrors | None,
    options: FitOptions,
) -> PaeBundle:
    """Trains flow and proposal as the platform does, without the registry.

    Args:
        preset: uses pae, proposal, instrument, rest_grid and seed.
        autoencoder: trained.
        sources: of the training spectra.
        template_flux: (n_template, n_wave) of the library that `sources` were drawn from.
        known: the templates that the training has seen.
        filters: of the channels.
        prior: whose redshifts the proposal is for.
        errors: of the model; None for none.
        options: checkpoints and progress.
    """
    wave, bands = rest_grid(preset.rest_grid), load_bands()
    latents = encode_spectra(autoencoder, training_spectra_of(sources, template_flux, wave, slice(None)))
    train, held_out = split_indices(len(latents), preset.pae.autoencoder.fit.validation_fraction, preset.seed)
    flow, _ = train_flow(
        preset.pae,
        latents[train],
        latents[held_out],
        seed=preset.seed,
        redshifts=(sources.z[train], sources.z[held_out]),
        options=options,
    )
    bundle = PaeBundle(
        autoencoder,
        flow,
        preset.pae,
        preset.pae.n_latent,
        wave,
        bands.content_hash(),
        known.content_hash(),
        template_landmarks(autoencoder, flow, library_on_grid(known, wave), wave),
        model_error=errors,
    )
    made = train_proposal(
        build_forward(bundle, filters, float(prior.z_max), preset.instrument.n_redshift_nodes),
        prior,
        np.stack([bands.depth("mev"), bands.depth("inflight")]),
        preset.proposal,
        n_latent=preset.pae.n_latent,
        seed=preset.seed,
        model_error=model_error_of(bundle, bands.wave_um),
        options=options,
    )
    return replace(bundle, proposal=made.proposal, proposal_config=preset.proposal)
