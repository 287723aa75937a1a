"""How wrong a model is on galaxies that its training has not seen, by rest wavelength: where `model_error` comes from.

The galaxies are simulated, so that their fluxes are known without noise and their redshifts exactly. At the true
redshift the best spectrum of the model is sought (`modes.scan`); what is left, over the model's flux, is the model's
own error there. Part of what the model does not know the best fit takes up, as it does for a real galaxy: the term is
to describe the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from paeplatform.errors import InputError
from paeplatform.inference.batches.runtime import source_mesh
from paeplatform.inference.model.posterior import TINY, LogPosterior, whiten
from paeplatform.inference.modes.scan import RedshiftScan
from paeplatform.inference.modes.starts import model_fluxes

BATCH = 16  # sources of one compiled call and device
LARGEST = 3.0  # by which a band's miss may exceed the galaxy's typical one; a larger one counts as that
MEDIAN_OF_CHI2 = 0.455  # with one degree of freedom: the median square of normal numbers of variance 1
LONGEST_LAG = 20  # bands over which misses may be alike
LEAST_WEIGHT = 5.0  # bands, of galaxies together, that a node needs for a value of its own


@dataclass(frozen=True)
class Misses:
    """What best models at the true redshift leave.

    Attributes:
        log_rest: (source, band) ln of the rest wavelength [um].
        relative: (source, band) (flux - model)/model; NaN for a band that is not used, and where the model has no flux.
        n_free: parameters of a fit.
    """

    log_rest: Float[np.ndarray, "source band"]
    relative: Float[np.ndarray, "source band"]
    n_free: int


def misses(
    scan: RedshiftScan,
    flux: Float[np.ndarray, "source band"],
    flux_err: Float[np.ndarray, "source band"],
    node: Int[np.ndarray, " source"],
    channel_wave_um: Float[np.ndarray, " band"],
) -> Misses:
    """The misses of galaxies of known redshift.

    Args:
        scan: over the redshifts at which there are galaxies, of a model that has not seen them.
        flux: without noise [uJy].
        flux_err: 1 sigma [uJy] that says which bands matter; infinite or NaN leaves a band out.
        node: which of the scan's redshifts is each galaxy's.
        channel_wave_um: centres of the channels [um].

    Raises:
        InputError: arrays do not agree, or a node is none of the scan's.
    """
    flux, flux_err = (np.asarray(part, np.float32) for part in (flux, flux_err))
    node = np.asarray(node)
    if flux.shape != flux_err.shape or flux.ndim != 2 or node.shape != flux.shape[:1]:
        raise InputError(f"flux {flux.shape}, flux_err {flux_err.shape} and node {node.shape} do not agree")
    outside = node[(node < 0) | (node >= len(scan.z))]
    if len(outside):
        raise InputError(f"node {outside[0]} must be one of the scan's {len(scan.z)} redshifts")
    mesh, photometry = source_mesh(), whiten(flux, flux_err)
    size, best = BATCH * mesh.size, []
    for first in range(0, len(node), size):
        rows = np.arange(first, min(first + size, len(node)))
        padded = np.resize(rows, size)
        found = scan.run(mesh, photometry.rows(padded), np.arange(size) < len(rows))
        best.append(found.v[np.arange(len(rows)), node[rows], :-1])
    dim = scan.pool.shape[1]
    u = np.concatenate(best) if best else np.zeros((0, dim), np.float32)
    posterior: LogPosterior = scan.posterior
    model = model_fluxes(posterior, u, scan.z[node]) if len(node) else np.zeros(flux.shape)
    weight, signal = np.asarray(photometry.weight, np.float64), np.asarray(photometry.signal, np.float64)
    fitted = weight * model
    amplitude = np.sum(signal * fitted, axis=1, keepdims=True) / (
        np.sum(fitted**2, axis=1, keepdims=True) + TINY
    )
    fitted = np.maximum(amplitude, 0.0) * fitted
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(fitted > 0.0, (signal - fitted) / fitted, np.nan)
    log_rest = (
        np.log(np.asarray(channel_wave_um))[None, :] - np.log1p(scan.z[node].astype(np.float64))[:, None]
    )
    return Misses(log_rest, relative, dim + 1)


def relative_error(
    found: Sequence[Misses], rest_wave_um: Float[np.ndarray, " node"]
) -> Float[np.ndarray, " node"]:
    """Eps at nodes: the root mean square of the misses, times the root of `correlated_bands`.

    A fit with k parameters to n bands takes up k/n of the squares, which are given back. A band is counted with at
    most `LARGEST` times the galaxy's own typical miss: a line that is absent from the model is a wrong model, not an
    error of all models there. The likelihood counts the errors as independent between bands. Misses of neighbouring
    bands are alike, and so say as little together as independent ones that are larger by that root.

    Args:
        found: of each fold.
        rest_wave_um: increasing [um].

    Returns:
        Finite values; a node with hardly any band takes that of the nearest node that has some.

    Raises:
        InputError: there is no miss at all.
    """
    nodes = np.log(np.asarray(rest_wave_um, np.float64))
    alike = correlated_bands(found)
    total, weight = np.zeros((2, len(nodes)))
    for part in found:
        used = np.isfinite(part.relative)
        n = used.sum(axis=1, keepdims=True)
        square = np.where(used, part.relative, 0.0) ** 2
        middle = np.ma.median(np.ma.masked_where(~used, square), axis=1, keepdims=True)
        largest = LARGEST**2 * np.ma.filled(middle, 0.0) / MEDIAN_OF_CHI2
        square = np.minimum(square, largest) * n / np.maximum(n - part.n_free, 1)
        place = np.interp(part.log_rest[used], nodes, np.arange(len(nodes)))
        low = np.minimum(place.astype(int), len(nodes) - 2)
        t = place - low
        for node, share in ((low, 1.0 - t), (low + 1, t)):
            total += np.bincount(node, share * square[used], len(nodes))
            weight += np.bincount(node, share, len(nodes))
    enough = np.flatnonzero(weight >= LEAST_WEIGHT)
    if not len(enough):
        raise InputError("model error: no band of a left-out galaxy has a flux and a model")
    nearest = enough[np.abs(enough[None, :] - np.arange(len(nodes))[:, None]).argmin(axis=1)]
    return np.sqrt(alike * total[nearest] / weight[nearest])


def correlated_bands(found: Sequence[Misses]) -> float:
    """How many neighbouring bands miss alike: 1 + 2 sum of the autocorrelation up to where it first is not positive.

    In the mean over a stretch of bands, errors of variance s^2 that are correlated like this leave a variance that is
    so many times larger than that of independent ones. Each galaxy counts alike, each band with at most `LARGEST`
    times the galaxy's typical miss.

    Args:
        found: of each fold, bands in the order of their wavelengths.

    Returns:
        At least 1; 1 where nothing is known.
    """
    products = np.zeros((2, LONGEST_LAG + 1))  # their sum and number at each lag
    for part in found:
        size = np.ma.median(np.ma.masked_invalid(np.abs(part.relative)), axis=1, keepdims=True)
        typical = np.ma.filled(size, 0.0) / np.sqrt(MEDIAN_OF_CHI2)
        with np.errstate(divide="ignore", invalid="ignore"):
            r = np.clip(np.where(typical > 0.0, part.relative / typical, np.nan), -LARGEST, LARGEST)
        for lag in range(min(LONGEST_LAG + 1, r.shape[1])):
            both = r[:, : r.shape[1] - lag] * r[:, lag:]
            products[:, lag] += np.nansum(both), np.isfinite(both).sum()
    mean = products[0] / np.maximum(products[1], 1.0)
    if not mean[0] > 0.0:
        return 1.0
    correlation = mean[1:] / mean[0]
    ends = np.flatnonzero(correlation <= 0.0)
    return float(1.0 + 2.0 * correlation[: ends[0] if len(ends) else len(correlation)].sum())
