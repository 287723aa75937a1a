"""Gaussian noise at the survey depth, signal-to-noise, and checks on given photometry."""

from __future__ import annotations

import numpy as np

from paeplatform.errors import BandSetError


def add_noise(flux: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Adds background-limited Gaussian noise.

    Args:
        flux: (n_source, n_band) noiseless flux [uJy].
        depth: (n_band,) 1-sigma depth [uJy].
        rng: the caller's seeded generator.

    Returns:
        (noisy flux, flux_err), both (n_source, n_band) float64 [uJy]. Noisy fluxes may be negative.

    Raises:
        BandSetError: the band axes differ, or a depth is not finite and positive.
    """
    flux, depth = np.asarray(flux, dtype=np.float64), np.asarray(depth, dtype=np.float64)
    if depth.ndim != 1 or flux.ndim != 2 or flux.shape[1] != len(depth):
        raise BandSetError(
            f"flux {flux.shape} and depth {depth.shape} must be (n_source, n_band) and (n_band,)"
        )
    good = np.isfinite(depth) & (depth > 0.0)
    if not good.all():
        band = int(np.argmin(good))
        raise BandSetError(f"depth, band {band + 1}: {depth[band]:g} uJy must be finite and positive")
    flux_err = np.broadcast_to(depth, flux.shape).copy()
    return flux + flux_err * rng.standard_normal(flux.shape), flux_err


def usable_bands(flux_err: np.ndarray) -> np.ndarray:
    """Boolean mask, shape of `flux_err`: bands that carry weight, i.e. whose error is finite and positive."""
    return np.isfinite(flux_err) & (np.asarray(flux_err) > 0.0)


def total_snr(flux: np.ndarray, flux_err: np.ndarray) -> np.ndarray:
    """Total signal-to-noise (n_source,): sqrt(sum_b (flux/flux_err)^2) over the usable bands."""
    flux, flux_err = np.asarray(flux, dtype=np.float64), np.asarray(flux_err, dtype=np.float64)
    usable = usable_bands(flux_err)
    ratio = np.divide(
        flux, flux_err, out=np.zeros(np.broadcast_shapes(flux.shape, flux_err.shape)), where=usable
    )
    return np.sqrt(np.sum(ratio**2, axis=-1))


def check_photometry(flux: np.ndarray, flux_err: np.ndarray, n_bands: int) -> np.ndarray:
    """Refuses photometry that cannot be used; returns the usable bands per source, (n_source,) int64.

    Negative fluxes are legal (noise on faint sources). A band whose error is NaN, infinite, zero or negative
    is masked: it has no weight and its flux may be anything. Sources with few or no usable bands are legal;
    the returned count lets the caller flag them.

    Raises:
        BandSetError: the arrays are not both (n_source, n_bands), or a flux is not finite where its error is
            finite and positive; names the first such row (from 0) and band (from 1).
    """
    flux, flux_err = np.asarray(flux), np.asarray(flux_err)
    for name, array in (("flux", flux), ("flux_err", flux_err)):
        if array.ndim != 2 or array.shape[1] != n_bands:
            raise BandSetError(f"{name} has shape {array.shape}, expected (n_source, {n_bands}) in uJy")
        if not np.issubdtype(array.dtype, np.floating) and not np.issubdtype(array.dtype, np.integer):
            raise BandSetError(f"{name} has dtype {array.dtype}, expected real numbers in uJy")
    if flux.shape != flux_err.shape:
        raise BandSetError(f"flux has shape {flux.shape} but flux_err {flux_err.shape}")
    usable = usable_bands(flux_err)
    fault = usable & ~np.isfinite(flux)
    if fault.any():
        row, band = (int(i) for i in np.argwhere(fault)[0])
        raise BandSetError(
            f"flux, row {row}, band {band + 1}: {flux[row, band]} with flux_err {flux_err[row, band]:g} uJy; "
            "give a finite flux, or mask the band with flux_err = inf"
        )
    return usable.sum(axis=1)
