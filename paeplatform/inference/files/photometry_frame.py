"""The input of the registered models: a data frame whose columns hold an array of fluxes and one of errors a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from paeplatform.errors import BandSetError

if TYPE_CHECKING:
    import pandas as pd


class FramePhotometry(NamedTuple):
    """Photometry of a data frame.

    Attributes:
        flux, flux_err: [uJy].
        object_id: (source,) int64; the row numbers when the frame has none.
    """

    flux: Float[np.ndarray, "source band"]
    flux_err: Float[np.ndarray, "source band"]
    object_id: Int[np.ndarray, " source"]


def photometry_of_frame(frame: pd.DataFrame, n_band: int) -> FramePhotometry:
    """Checks the arrays of a model's input and stacks them.

    Args:
        frame: columns flux and flux_err [uJy], each an array of `n_band` numbers a row, and perhaps object_id.
        n_band: bands that the model was trained for.

    Raises:
        BandSetError: an array has another shape; names the column and the row.
    """
    columns = []
    for name in ("flux", "flux_err"):
        rows = [np.asarray(row, dtype=np.float64) for row in frame[name]]
        wrong = next((i for i, row in enumerate(rows) if row.shape != (n_band,)), None)
        if wrong is not None:
            shape = rows[wrong].shape
            raise BandSetError(f"{name}, row {wrong}: shape {shape}, expected ({n_band},) numbers in uJy")
        columns.append(np.stack(rows))
    ids = frame["object_id"].to_numpy() if "object_id" in frame else np.arange(len(frame))
    flux, flux_err = columns
    return FramePhotometry(flux, flux_err, ids.astype(np.int64))
