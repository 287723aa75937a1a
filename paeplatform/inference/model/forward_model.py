"""From (u, z) to band fluxes: flow, decoder, redshift and filter integrals in one differentiable graph."""

from __future__ import annotations

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from paeplatform.instrument.filters import FilterCurves
from paeplatform.instrument.forward import FoldedOperator, GridOperator, fold, grid_operator
from paeplatform.pae.autoencoder import Autoencoder, CompactAutoencoder
from paeplatform.pae.bundle import PaeBundle
from paeplatform.pae.flow import LatentFlow


class PaeForward(eqx.Module):
    """Model fluxes of a galaxy with base variable u at redshift z, up to the amplitude A (eq. 2 and 3).

    With a compact autoencoder the decoder's linear head is folded into `operator`'s table, so that only the head's
    coefficients are computed here; otherwise the whole rest-frame spectrum is decoded and integrated.
    """

    autoencoder: Autoencoder
    flow: LatentFlow
    operator: FoldedOperator | GridOperator

    def __call__(self, u: Float[Array, " latent"], z: Float[Array, ""]) -> Float[Array, " band"]:
        """Fluxes (n_band,), in units of the mean-normalised spectrum; differentiable, made to be vmapped."""
        latent = self.flow.to_latent(u)
        if isinstance(self.autoencoder, CompactAutoencoder):
            return self.operator(self.autoencoder.coefficients(latent), z)
        return self.operator(self.autoencoder.decode(latent), z)

    def spectrum(self, u: Float[Array, " latent"]) -> Float[Array, " wave"]:
        """Rest-frame spectrum f_nu on the bundle's grid, mean-normalised."""
        return self.autoencoder.decode(self.flow.to_latent(u))


def build_forward(bundle: PaeBundle, filters: FilterCurves, z_max: float, n_nodes: int) -> PaeForward:
    """Tables of redshift and filters for a trained bundle.

    Args:
        bundle: trained autoencoder and flow with their rest grid [um].
        filters: tabulated curves of the bands.
        z_max: largest redshift asked for; the table reaches a little further.
        n_nodes: table nodes in ln(1+z).

    Raises:
        BandSetError: the grid, basis or curves do not fit (see `fold`).
    """
    wave = np.asarray(bundle.wave, dtype=np.float64)
    autoencoder = bundle.autoencoder
    if isinstance(autoencoder, CompactAutoencoder):
        operator = fold(np.asarray(autoencoder.basis(), dtype=np.float64), wave, filters, z_max, n_nodes)
    else:
        operator = grid_operator(wave, filters, z_max, n_nodes)
    return PaeForward(autoencoder=autoencoder, flow=bundle.flow, operator=operator)
