"""PAEs of several latent sizes, put together from their parts for Table 2: no proposal is trained for them."""

from __future__ import annotations

from pathlib import Path

from paeplatform.config import Preset
from paeplatform.instrument.bands import BandSet
from paeplatform.pae.bundle import PaeBundle, load_autoencoder, load_flow
from paeplatform.pae.landmarks import template_landmarks
from paeplatform.sed.grid import library_on_grid, rest_grid
from paeplatform.sed.library import TemplateLibrary


def bundle_of_parts(
    autoencoder: Path, flow: Path, preset: Preset, n_latent: int, bands: BandSet, library: TemplateLibrary
) -> PaeBundle:
    """A bundle without a proposal, which Markov chains alone can sample.

    Args:
        autoencoder: folder of the autoencoder with this many latents.
        flow: folder of the flow on them.
        preset: configuration of both, and the rest grid.
        n_latent: latent size.
        bands: it is meant for.
        library: templates behind the training set; where they lie in u chains also look for starts.

    Raises:
        CheckpointError: a folder is incomplete or altered.
    """
    encoder, latent_flow, wave = load_autoencoder(autoencoder), load_flow(flow), rest_grid(preset.rest_grid)
    return PaeBundle(
        autoencoder=encoder,
        flow=latent_flow,
        pae=preset.pae,
        n_latent=n_latent,
        wave=wave,
        band_hash=bands.content_hash(),
        library_hash=library.content_hash(),
        landmarks=template_landmarks(
            encoder, latent_flow, library_on_grid(library.without(preset.tables.leave_out), wave), wave
        ),
    )
