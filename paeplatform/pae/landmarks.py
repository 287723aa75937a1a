"""Landmarks: where the training templates themselves lie in the flow's base.

One template in 160 that looks like no other is an island in u that few prior draws hit: of 32,768, a handful at any one
redshift. Its galaxies then start on a wrong hill and stay there. Starting some chains' search from the templates costs
no bias, a start being only a start, and finds the islands.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from paeplatform.pae.autoencoder import Autoencoder
from paeplatform.pae.flow import LatentFlow
from paeplatform.pae.training import encode_spectra, latents_to_base
from paeplatform.sed.dust import DUST_LAWS
from paeplatform.sed.spectra import attenuated_spectra

REDDENED = 0.25  # E(B-V) of the reddened copies, one with each dust law


def template_spectra(
    template_flux: Float[np.ndarray, "template wave"], wave: Float[np.ndarray, " wave"]
) -> Float[np.ndarray, "landmark wave"]:
    """Every template as it is, then reddened by each dust law, with mean 1: (4 n_template, n_wave) float32."""
    n_template, n_law = len(template_flux), len(DUST_LAWS)
    template = np.tile(np.arange(n_template), 1 + n_law)
    law = np.repeat([0, *range(n_law)], n_template)
    ebv = np.repeat([0.0, *[REDDENED] * n_law], n_template)
    return attenuated_spectra(template_flux, wave, template, law, ebv)


def template_landmarks(
    autoencoder: Autoencoder,
    flow: LatentFlow,
    template_flux: Float[np.ndarray, "template wave"],
    wave: Float[np.ndarray, " wave"],
) -> Float[np.ndarray, "landmark latent"]:
    """Base variables of every template, as it is and reddened by each dust law.

    Of a flow that depends on redshift they are those at its reference redshift (`modes.starts.at_redshifts`).

    Args:
        autoencoder: trained network.
        flow: trained on its latents.
        template_flux: f_nu on the rest-frame grid, any scale (`library_on_grid`).
        wave: the grid [um].

    Returns:
        (4 n_template, n_latent) float32; a template that the flow maps to a non-finite place is left out.
    """
    spectra = template_spectra(template_flux, wave)
    latents = encode_spectra(autoencoder, spectra)
    z = None if flow.redshift is None else np.full(len(latents), float(flow.redshift.reference))
    u = np.asarray(latents_to_base(flow, latents, z), dtype=np.float32)
    return u[np.isfinite(u).all(axis=1)]
