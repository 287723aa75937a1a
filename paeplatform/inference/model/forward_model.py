"""From (u, z) to band fluxes: flow, decoder, redshift and filter integrals in one differentiable graph."""

from __future__ import annotations

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from paeplatform.instrument.filters import FilterCurves
from paeplatform.instrument.forward import FoldedOperator, GridOperator, fold, grid_operator
from paeplatform.instrument.slots import SlotOperator, Slots, slot_operator
from paeplatform.pae.autoencoder import Autoencoder, CompactAutoencoder
from paeplatform.pae.bundle import PaeBundle
from paeplatform.pae.flow import LatentFlow


class PaeForward(eqx.Module):
    """Model fluxes of a galaxy with base variable u at redshift z, up to the amplitude A (eq. 2 and 3).

    With a compact autoencoder the decoder's linear head is folded into the operators' tables, so that only the head's
    coefficients are computed here; otherwise the whole rest-frame spectrum is decoded and integrated.

    Attributes:
        autoencoder, flow: of the bundle.
        operator: fluxes in the channels.
        slot_operator: fluxes of measurements at their own wavelengths; None for a model of the channels alone.
        external_operator: fluxes in the bands of other surveys; None for a model without.
    """

    autoencoder: Autoencoder
    flow: LatentFlow
    operator: FoldedOperator | GridOperator
    slot_operator: SlotOperator | None = None
    external_operator: FoldedOperator | GridOperator | None = None

    def __call__(self, u: Float[Array, " latent"], z: Float[Array, ""]) -> Float[Array, " band"]:
        """Fluxes (n_band,), in units of the mean-normalised spectrum; differentiable, made to be vmapped."""
        return self.operator(self._source(u, z), z)

    def measured(
        self, u: Float[Array, " latent"], z: Float[Array, ""], slots: Slots
    ) -> Float[Array, " slot"]:
        """The same in the passbands of a source's measurements.

        Raises:
            ValueError: the model has no `slot_operator`.
        """
        return self._slots()(self._source(u, z), z, slots)

    def external(self, u: Float[Array, " latent"], z: Float[Array, ""]) -> Float[Array, " band"]:
        """The same in the bands of other surveys.

        Raises:
            ValueError: the model has no `external_operator`.
        """
        if self.external_operator is None:
            raise ValueError("this forward model has no external bands: build it with external=...")
        return self.external_operator(self._source(u, z), z)

    def place(
        self, wave_um: Float[np.ndarray, "source slot"], width_um: Float[np.ndarray, "source slot"]
    ) -> Slots:
        """Where passbands lie in the table of `slot_operator` (`SlotOperator.place`).

        Raises:
            ValueError: the model has no `slot_operator`.
        """
        return self._slots().place(wave_um, width_um)

    def _slots(self) -> SlotOperator:
        if self.slot_operator is None:
            raise ValueError("this forward model is of the channels alone: build it with slots=True")
        return self.slot_operator

    def of_latent(self, latent: Float[Array, " latent"], z: Float[Array, ""]) -> Float[Array, " band"]:
        """The fluxes in the channels, of the autoencoder's latents instead of base variables."""
        return self.operator(self._decoded(latent), z)

    def _source(self, u: Float[Array, " latent"], z: Float[Array, ""]) -> Array:
        return self._decoded(self.flow.to_latent(u, z))

    def _decoded(self, latent: Float[Array, " latent"]) -> Array:
        """What the operators take: the coefficients of a compact decoder's head, or else the spectrum."""
        if isinstance(self.autoencoder, CompactAutoencoder):
            return self.autoencoder.coefficients(latent)
        return self.autoencoder.decode(latent)

    def spectrum(self, u: Float[Array, " latent"], z: Float[Array, ""]) -> Float[Array, " wave"]:
        """Rest-frame spectrum f_nu on the bundle's grid, mean-normalised."""
        return self.autoencoder.decode(self.flow.to_latent(u, z))


def build_forward(
    bundle: PaeBundle,
    filters: FilterCurves,
    z_max: float,
    n_nodes: int,
    *,
    slots: bool = False,
    external: FilterCurves | None = None,
) -> PaeForward:
    """Tables of redshift and filters for a trained bundle.

    Args:
        bundle: trained autoencoder and flow with their rest grid [um].
        filters: tabulated curves of the bands.
        z_max: largest redshift asked for; the table reaches a little further.
        n_nodes: table nodes in ln(1+z).
        slots: whether measurements at their own wavelengths are to be predicted too.
        external: curves of other surveys' bands that are to be predicted too.

    Raises:
        BandSetError: the grid, basis or curves do not fit (see `fold`).
    """
    wave = np.asarray(bundle.wave, dtype=np.float64)
    autoencoder = bundle.autoencoder
    compact = isinstance(autoencoder, CompactAutoencoder)
    basis = np.asarray(autoencoder.basis(), dtype=np.float64) if compact else np.eye(len(wave))

    def through(curves: FilterCurves) -> FoldedOperator | GridOperator:
        if compact:
            return fold(basis, wave, curves, z_max, n_nodes)
        return grid_operator(wave, curves, z_max, n_nodes)

    measured = slot_operator(basis, wave, z_max, bundle.passbands) if slots else None
    beside = None if external is None else through(external)
    return PaeForward(autoencoder, bundle.flow, through(filters), measured, beside)
