"""The sources that a sampler works on, and what their random numbers are made from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from paeplatform.errors import BandSetError
from paeplatform.inference.model.posterior import LogPosterior, WhitenedPhotometry, whiten
from paeplatform.instrument.external import ExternalBands
from paeplatform.instrument.measurements import PaddedMeasurements


@dataclass(frozen=True)
class ExternalFluxes:
    """Fluxes in the bands of other surveys.

    Attributes:
        flux: [uJy]; that of a band where the source was not detected too, negative ones included.
        flux_err: 1 sigma [uJy]; not finite or not positive masks the band.
        pivot_um: of the bands [um].
    """

    flux: Float[np.ndarray, "source band"]
    flux_err: Float[np.ndarray, "source band"]
    pivot_um: Float[np.ndarray, " band"]

    @classmethod
    def of(
        cls,
        bands: ExternalBands,
        flux: Float[np.ndarray, "source band"],
        flux_err: Float[np.ndarray, "source band"],
    ) -> ExternalFluxes:
        """Checked fluxes; a band whose flux or error is not finite is masked.

        Raises:
            BandSetError: shapes do not fit, or an error is zero or negative; names the band and the row.
        """
        flux, flux_err = np.array(flux, np.float64), np.array(flux_err, np.float64)
        if flux.ndim != 2 or flux.shape != flux_err.shape or flux.shape[1] != len(bands):
            raise BandSetError(
                f"external fluxes {flux.shape} and errors {flux_err.shape} must be (source, {len(bands)})"
            )
        bad = np.argwhere(np.isfinite(flux) & (flux_err <= 0.0))
        if len(bad):
            row, band = bad[0]
            raise BandSetError(
                f"external band {bands.name[band]}, row {row + 1}: error {flux_err[row, band]:g} must be positive; "
                "infinite or NaN says that there is no measurement"
            )
        there = np.isfinite(flux) & np.isfinite(flux_err)
        return cls(np.where(there, flux, 0.0), np.where(there, flux_err, np.inf), bands.pivot_um)

    def rows(self, rows: np.ndarray | slice) -> ExternalFluxes:
        """Those of some of the sources."""
        return replace(self, flux=self.flux[rows], flux_err=self.flux_err[rows])


@dataclass(frozen=True)
class Sources:
    """Photometry with the identity of each row.

    Attributes:
        flux: [uJy], finite.
        flux_err: 1 sigma [uJy]; not finite or not positive masks the band.
        object_id: (source,) int64. With the seed it fixes a source's random numbers, so that neither the order of the
            rows nor the other sources change a result; equal ids get equal random numbers.
        seed: of all random numbers.
        measured: the measurements that the posterior is of, each at its own wavelength; `flux` and `flux_err` are then
            these binned into channels, and only propose. None: the posterior is that of `flux`.
        external: fluxes in the bands of other surveys, which the posterior is of as well; None without.
    """

    flux: Float[np.ndarray, "source band"]
    flux_err: Float[np.ndarray, "source band"]
    object_id: Int[np.ndarray, " source"]
    seed: int
    measured: PaddedMeasurements | None = None
    external: ExternalFluxes | None = None

    @classmethod
    def numbered(
        cls, flux: Float[np.ndarray, "source band"], flux_err: Float[np.ndarray, "source band"], seed: int
    ) -> Sources:
        """Sources without ids of their own: the row numbers take their place."""
        return cls(np.asarray(flux), np.asarray(flux_err), np.arange(len(flux)), seed)

    def __len__(self) -> int:
        return len(self.flux)

    def rows(self, rows: np.ndarray | slice) -> Sources:
        """Some of the sources, in the order of `rows`; a row may be there twice."""
        measured = None if self.measured is None else self.measured.rows(rows)
        external = None if self.external is None else self.external.rows(rows)
        return Sources(
            self.flux[rows], self.flux_err[rows], self.object_id[rows], self.seed, measured, external
        )

    def single(self) -> Sources:
        """The same with float32 photometry, the precision in which posteriors are computed."""
        return replace(
            self,
            flux=np.asarray(self.flux, dtype=np.float32),
            flux_err=np.asarray(self.flux_err, dtype=np.float32),
            object_id=np.asarray(self.object_id),
        )

    @property
    def fitted(self) -> tuple[np.ndarray, np.ndarray]:
        """(flux, flux_err) [uJy] of what the posterior is of: measurements, or else channels; then external bands."""
        own = self if self.measured is None else self.measured
        if self.external is None:
            return own.flux, own.flux_err
        return (
            np.concatenate([own.flux, self.external.flux], axis=1),
            np.concatenate([own.flux_err, self.external.flux_err], axis=1),
        )

    def whitened(self, posterior: LogPosterior) -> WhitenedPhotometry:
        """The photometry as the posterior takes it, float32 NumPy arrays.

        Args:
            posterior: its forward model says where measurements lie in its table.
        """

        def in_float32(flux: np.ndarray, flux_err: np.ndarray) -> WhitenedPhotometry:
            return whiten(np.asarray(flux, dtype=np.float32), np.asarray(flux_err, dtype=np.float32))

        channels = in_float32(self.flux, self.flux_err)
        if self.measured is None and self.external is None:
            return channels
        whole = in_float32(*self.fitted)._replace(channels=channels)
        if self.measured is not None:
            forward: Any = posterior.forward
            whole = whole._replace(slots=forward.place(self.measured.wave_um, self.measured.width_um))
        if self.external is not None:
            log_wave = np.log(self.external.pivot_um).astype(np.float32)
            whole = whole._replace(external_log_wave=np.broadcast_to(log_wave, self.external.flux.shape))
        return whole
