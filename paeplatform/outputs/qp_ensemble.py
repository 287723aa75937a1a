"""p(z) of a catalogue as qp ensembles: quantiles, and densities on a grid (DESIGN section 6)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from paeplatform.errors import InputError
from paeplatform.inference.pz_summary import QUANTILE_LEVELS

GRID = np.linspace(0.0, 3.0, 301)
N_QUANTILES = 51
LEAST_GAP = 1e-6  # between neighbouring quantiles: qp wants them to rise


def quantile_ensemble(catalog: pl.DataFrame, method: str = "pae") -> Any:
    """A qp ensemble of kind `quant` with 51 quantiles; sources without a posterior are left out.

    Args:
        catalog: with object_id and `<method>_z_quantiles` and the other summaries.
        method: "pae" or "tf".

    Raises:
        InputError: qp-prob is not installed, or no source has a posterior.
    """
    qp = _qp()
    known = catalog.filter(pl.col(f"{method}_z_quantiles").is_not_null())
    if known.is_empty():
        raise InputError(f"no source has a posterior by {method}")
    levels = np.linspace(0.01, 0.99, N_QUANTILES)
    stored = known[f"{method}_z_quantiles"].to_numpy().astype(np.float64)
    locations = np.stack([np.interp(levels, np.asarray(QUANTILE_LEVELS), row) for row in stored])
    locations = np.maximum.accumulate(locations + LEAST_GAP * np.arange(N_QUANTILES), axis=1)
    ensemble = qp.Ensemble(qp.quant, data={"quants": levels, "locs": locations})
    ensemble.set_ancil(_ancil(known, method))
    return ensemble


def grid_ensemble(catalog: pl.DataFrame, method: str = "pae") -> Any:
    """The same as densities on `GRID`, kind `interp`."""
    qp = _qp()
    quantiles = quantile_ensemble(catalog, method)
    ensemble = qp.Ensemble(qp.interp, data={"xvals": GRID, "yvals": quantiles.pdf(GRID)})
    ensemble.set_ancil(quantiles.ancil)
    return ensemble


def write_qp(catalog: pl.LazyFrame, path: Path, method: str = "pae") -> None:
    """Writes `quantile_ensemble` as HDF5."""
    with_suffix = path.with_name(f"{path.name}.hdf5")  # qp chooses the format by the ending
    quantile_ensemble(catalog.collect(), method).write_to(str(with_suffix))
    with_suffix.replace(path)


def _ancil(known: pl.DataFrame, method: str) -> dict[str, np.ndarray]:
    identity = known["object_id"].to_numpy()
    mode = known[f"{method}_z_mode"].to_numpy().astype(np.float64)
    means = {
        f"z_{name}": known[f"{method}_z_{name}"].to_numpy().astype(np.float64)
        for name in ("mean", "median", "std")
    }
    return {"object_id": identity, "objectId": identity, "zmode": mode, "z_mode": mode, **means}


def _qp() -> Any:
    try:
        import qp
    except ImportError as error:
        raise InputError("format qp needs the extra `outputs`: pip install 'paeplatform[outputs]'") from error
    return qp
