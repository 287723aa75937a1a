"""p(z) of a catalogue as a qp ensemble.

The catalogue keeps 51 quantiles of each p(z). qp's own kind for quantiles, `quant`, gives no proper density. Its
constructors `piecewise_linear` and `piecewise_constant` join the middles of neighbouring intervals, so that the
integral exceeds 1 wherever the widths of intervals change (1.01 to 1.31 in the catalogue of the demo). Its
constructor `cdf_spline_derivative` integrates to 1 but falls below zero (in every source of that catalogue). So the
ensemble is of kind `interp_irregular`: each source has its own nodes, and the density is constant between them. The
integral of `pdf` is 1, `cdf` and `ppf` agree with it, and `ppf` gives the quantiles back.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

from paeplatform.errors import InputError
from paeplatform.inference.results.pz_quantiles import density_between
from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.targets import MARK, creator

STEPS = 4  # of the density between two neighbouring quantiles
LEAST_GAP = 1e-7  # between neighbouring quantiles, which coincide where float32 cannot tell them apart


def pz_ensemble(catalog: pl.DataFrame, method: str = "pae") -> Any:
    """A qp ensemble of kind `interp_irregular`; sources without a posterior are left out.

    Args:
        catalog: with object_id and `<method>_z_quantiles` and the other summaries.
        method: "pae", "tf" or "sbi".

    Raises:
        InputError: qp-prob is not installed, or no source has a posterior.
    """
    qp = _qp()
    known = catalog.filter(pl.col(f"{method}_z_quantiles").is_not_null())
    if known.is_empty():
        raise InputError(f"no source has a posterior by {method}")
    nodes, density = density_steps(known[f"{method}_z_quantiles"].to_numpy().astype(np.float64))
    ensemble = qp.Ensemble(qp.interp_irregular, data={"xvals": nodes, "yvals": density})
    ensemble.set_ancil(_ancil(known, method))
    return ensemble


def density_steps(
    quantiles: Float[np.ndarray, "source level"],
) -> tuple[Float[np.ndarray, "source node"], Float[np.ndarray, "source node"]]:
    """Densities that are constant between nodes, from quantiles at `QUANTILE_LEVELS`.

    Between quantiles the inverse of the CDF is a monotone cubic (PCHIP), which is cut into `STEPS` parts of equal
    probability. Each tail holds one hundredth of the probability and is as wide as the interval beside it; the lower
    one ends at z = 0 at the latest.

    Args:
        quantiles: of each source, not falling; ones that coincide are parted by `LEAST_GAP`.

    Returns:
        Nodes, each of them twice, and the density there: the first of the two has the density below the node, the
        second the one above it. qp integrates by the density at the upper end of each interval, which is exact only
        where the density is constant.
    """
    spread = LEAST_GAP * np.arange(quantiles.shape[1])
    rising = np.maximum.accumulate(quantiles - spread, axis=1) + spread
    first, last = rising[:, :1], rising[:, -1:]
    low = np.minimum(np.maximum(2.0 * first - rising[:, 1:2], 0.0), first - LEAST_GAP)
    known = np.concatenate([low, rising, 2.0 * last - rising[:, -2:-1]], axis=1)
    levels = np.concatenate([[0.0], QUANTILE_LEVELS, [1.0]])
    n_part = len(levels) - 1
    fine = np.interp(np.arange(n_part * STEPS + 1) / STEPS, np.arange(n_part + 1), levels)
    edges = PchipInterpolator(levels, known, axis=1)(fine)
    edges[:, ::STEPS] = known  # to the last digit
    height = density_between(edges, fine, least_width=0.0)
    density = np.pad(np.repeat(height, 2, axis=1), ((0, 0), (1, 1)))
    return np.repeat(edges, 2, axis=1), density


def write_qp(
    catalog: pl.LazyFrame, path: Path, provenance: Mapping[str, str] | None = None, method: str = "pae"
) -> None:
    """Writes `pz_ensemble` as HDF5.

    Args:
        catalog: rows of `redshift_catalog`.
        path: of the file; its ending is yours.
        provenance: attributes of the file, key by key.
        method: see `pz_ensemble`.

    Raises:
        InputError: see `pz_ensemble`.
    """
    ensemble = pz_ensemble(catalog.collect(), method)
    import h5py  # comes with qp

    # qp takes the format from the ending, and of the name `x.hdf5.hdf5` it writes `x.hdf5`
    own = path.with_name(f".{uuid.uuid4().hex[:8]}.hdf5")
    try:
        ensemble.write_to(str(own))
        with h5py.File(own, "r+") as file:
            file.attrs[MARK] = creator()
            for key, value in (provenance or {}).items():
                file.attrs[key] = value
        own.replace(path)
    finally:
        own.unlink(missing_ok=True)


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
