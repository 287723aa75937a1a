"""The sources that a sampler works on, and what their random numbers are made from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from paeplatform.inference.model.posterior import LogPosterior, WhitenedPhotometry, whiten
from paeplatform.instrument.measurements import PaddedMeasurements


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
    """

    flux: Float[np.ndarray, "source band"]
    flux_err: Float[np.ndarray, "source band"]
    object_id: Int[np.ndarray, " source"]
    seed: int
    measured: PaddedMeasurements | None = None

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
        return Sources(self.flux[rows], self.flux_err[rows], self.object_id[rows], self.seed, measured)

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
        """(flux, flux_err) [uJy] of what the posterior is of: measurements, or else channels."""
        if self.measured is None:
            return self.flux, self.flux_err
        return self.measured.flux, self.measured.flux_err

    def whitened(self, posterior: LogPosterior) -> WhitenedPhotometry:
        """The photometry as the posterior takes it, float32 NumPy arrays.

        Args:
            posterior: its forward model says where measurements lie in its table.
        """

        def in_float32(flux: np.ndarray, flux_err: np.ndarray) -> WhitenedPhotometry:
            return whiten(np.asarray(flux, dtype=np.float32), np.asarray(flux_err, dtype=np.float32))

        channels = in_float32(self.flux, self.flux_err)
        if self.measured is None:
            return channels
        slots = posterior.forward.place(self.measured.wave_um, self.measured.width_um)  # type: ignore[attr-defined]
        own = in_float32(self.measured.flux, self.measured.flux_err)
        return own._replace(slots=slots, channels=channels)
