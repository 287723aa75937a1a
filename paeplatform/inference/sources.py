"""The sources that a sampler works on, and what their random numbers are made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Sources:
    """Photometry with the identity of each row.

    Attributes:
        flux: [uJy], finite.
        flux_err: 1 sigma [uJy]; not finite or not positive masks the band.
        object_id: (source,) int64. With the seed it fixes a source's random numbers, so that neither the order of the
            rows nor the other sources change a result; equal ids get equal random numbers.
        seed: of all random numbers.
    """

    flux: Float[np.ndarray, "source band"]
    flux_err: Float[np.ndarray, "source band"]
    object_id: Int[np.ndarray, " source"]
    seed: int

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
        return Sources(self.flux[rows], self.flux_err[rows], self.object_id[rows], self.seed)

    def single(self) -> Sources:
        """The same with float32 photometry, the precision in which posteriors are computed."""
        return Sources(
            np.asarray(self.flux, dtype=np.float32),
            np.asarray(self.flux_err, dtype=np.float32),
            np.asarray(self.object_id),
            self.seed,
        )
