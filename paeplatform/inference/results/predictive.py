"""The posterior predictive: what the model says the band fluxes and the spectrum are (paper Figs. 7 and 9).

Each draw (u, z) is a spectrum up to its amplitude. With A profiled (eq. 4) it is scaled by its best A >= 0; with A
marginalised, A is drawn from what the integral is over: the normal distribution of mean A* and variance 1/a, eq. 4's
weighted sums, cut off at zero. Masked bands are predicted like the others.

Many draws add nothing to an interval that is read by eye, so that at most `max_draws` are used: `thin_draws` takes
them evenly from the cumulative weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import log_ndtr, ndtri_exp
from tqdm.auto import tqdm

from paeplatform.errors import InputError
from paeplatform.inference.batches.programs import program
from paeplatform.inference.model.draws import PosteriorDraws
from paeplatform.inference.model.forward_model import PaeForward
from paeplatform.inference.model.posterior import TINY, LogPosterior, WhitenedPhotometry
from paeplatform.inference.sources import Sources
from paeplatform.random_keys import seeded_generator

LEVELS = (0.6827, 0.9545)
SOURCES = 8  # of one compiled call, padded


@dataclass(frozen=True)
class Predictive:
    """Central intervals of model fluxes [uJy]; NaN throughout for a source without draws.

    Attributes:
        level: (level,) probabilities of the intervals.
        flux: (source, band) medians.
        flux_low, flux_high: (source, level, band) ends of the intervals, without the noise of the data.
        chi2: (source,) of the mean of the model fluxes (`reconstruction_chi2`).
        spectrum: (source, wave) median of A f_nu over the rest-frame grid, None unless asked for. Observed
            wavelengths are those times 1+z (`observed_wave`).
        spectrum_low, spectrum_high: (source, level, wave).
        error_growth: (source, band) factor on each error by the errors of the model, the mean over the draws of that on
            the variance; None for a model without errors.
    """

    level: Float[np.ndarray, " level"]
    flux: Float[np.ndarray, "source band"]
    flux_low: Float[np.ndarray, "source level band"]
    flux_high: Float[np.ndarray, "source level band"]
    chi2: Float[np.ndarray, " source"]
    spectrum: Float[np.ndarray, "source wave"] | None = None
    spectrum_low: Float[np.ndarray, "source level wave"] | None = None
    spectrum_high: Float[np.ndarray, "source level wave"] | None = None
    error_growth: Float[np.ndarray, "source band"] | None = None


class ReconstructionChi2(NamedTuple):
    """How far a source's draws are from its data; NaN for a source without draws.

    Attributes:
        mean: (source,) chi^2 of the posterior mean of the model fluxes. It is large for a posterior of two hills too,
            where no model lies in the middle.
        best: (source,) the least chi^2 of a single draw. It is large only where no draw describes the data.
        z: (source, judged) redshifts of the draws that were judged.
        each: (source, judged) chi^2 of these draws; infinite for a draw without weight.
    """

    mean: Float[np.ndarray, " source"]
    best: Float[np.ndarray, " source"]
    z: Float[np.ndarray, "source judged"]
    each: Float[np.ndarray, "source judged"]


def observed_wave(wave: Float[np.ndarray, " wave"], z: Float[np.ndarray, " source"]) -> np.ndarray:
    """Observed wavelengths (source, wave) [um] of rest-frame ones [um]."""
    return np.asarray(wave)[None, :] * (1.0 + np.asarray(z)[:, None])


def thin_draws(draws: PosteriorDraws, n: int) -> PosteriorDraws:
    """At most `n` draws a source, of equal weight, at even steps of the cumulative weights in the order given.

    Nothing random is in it, and the fraction of picks among any consecutive draws is off by less than 1/n. Sources
    with `n` draws or fewer keep them and their weights.

    Raises:
        InputError: n is not positive.
    """
    if n < 1:
        raise InputError(f"number of draws {n} must be at least 1")
    n_source, n_draw = draws.z.shape
    if n_draw <= n:
        return draws
    cumulative = np.cumsum(draws.weight.astype(np.float64), axis=1)
    points = (np.arange(n) + 0.5) / n
    pick = np.stack([np.searchsorted(row, points * row[-1], side="left") for row in cumulative])
    pick = np.minimum(pick, n_draw - 1)
    rows = np.arange(n_source)[:, None]
    good = np.isfinite(cumulative[:, -1:])
    weight = np.where(good, np.float32(1.0 / n), np.float32(np.nan)) * np.ones((1, n), np.float32)
    return PosteriorDraws(
        u=draws.u[rows, pick], z=draws.z[rows, pick], weight=weight, log_prob=draws.log_prob[rows, pick]
    )


def posterior_predictive(
    posterior: LogPosterior,
    draws: PosteriorDraws,
    sources: Sources,
    *,
    levels: tuple[float, ...] = LEVELS,
    spectrum: bool = False,
    max_draws: int = 1024,
    progress: bool = False,
) -> Predictive:
    """Median and central intervals of the model's fluxes, and of its rest-frame spectrum if wanted.

    The fluxes are those of the channels, or of the measurements at their own wavelengths where the sources have any.

    Args:
        posterior: the one the draws are of.
        draws: of any sampler.
        sources: that they were drawn for. Ids and seed decide the amplitudes when `posterior.amplitude` is "marginal".
        levels: probabilities of the intervals, within (0, 1).
        spectrum: whether to decode the spectra too; the forward model must be a `PaeForward`.
        max_draws: of a source, see `thin_draws`.
        progress: shows a bar in galaxies.

    Raises:
        InputError: shapes do not agree, a level is out of range, or spectra are asked of another forward model.
    """
    flux, flux_err = _checked(draws, sources)
    if not levels or not all(0.0 < level < 1.0 for level in levels):
        raise InputError(f"levels {levels} must lie within (0, 1)")
    if spectrum and not isinstance(posterior.forward, PaeForward):
        raise InputError(f"{type(posterior.forward).__name__} has no spectrum; ask for band fluxes only")
    n_source, n_band = flux.shape
    draws = thin_draws(draws, max_draws)
    parts = (1.0 - np.asarray(levels)) / 2.0
    probability = np.concatenate([[0.5], parts, 1.0 - parts])
    bands = np.full((n_source, len(probability), n_band), np.nan)
    waves, chi2 = None, np.full(n_source, np.nan)
    error_growth = np.ones((n_source, n_band))
    usable = np.isfinite(draws.weight).all(axis=1) & np.isfinite(draws.z).all(axis=1)
    rows = np.flatnonzero(usable)
    with tqdm(total=len(rows), desc="predictive", unit="galaxy", disable=not progress) as bar:
        for first in range(0, len(rows), SOURCES):
            here = rows[first : first + SOURCES]
            padded = np.resize(here, SOURCES)
            photometry = sources.rows(padded).whitened(posterior)
            computed = _models(posterior, photometry, draws.u[padded], draws.z[padded], spectrum)
            model, best, width = (np.asarray(computed[k]) for k in (0, 2, 3))
            growth = None if computed[4] is None else np.asarray(computed[4])
            spectra = None if computed[1] is None else np.asarray(computed[1])
            unit = reference_error(photometry, flux_err[padded])
            for k, row in enumerate(here):
                amplitude = np.maximum(best[k].astype(np.float64), 0.0)
                whitened = photometry.weight[k] * (amplitude[:, None] * model[k])
                mean = draws.weight[row].astype(np.float64) @ whitened
                variance = np.ones(n_band)
                if growth is not None:
                    variance = draws.weight[row].astype(np.float64) @ growth[k]
                    error_growth[row] = np.sqrt(variance)
                chi2[row] = np.sum((np.asarray(photometry.signal[k]) - mean) ** 2 / variance)
                if posterior.amplitude == "marginal":
                    rng = seeded_generator(sources.seed, sources.object_id[row], 0x5050)
                    amplitude = positive_normal(best[k], width[k], rng)
                scale = amplitude[:, None] * unit[k]
                bands[row] = weighted_quantiles(scale * model[k], draws.weight[row], probability)
                if spectra is not None:
                    if waves is None:
                        waves = np.full((n_source, len(probability), spectra.shape[-1]), np.nan)
                    waves[row] = weighted_quantiles(scale * spectra[k], draws.weight[row], probability)
            bar.update(len(here))
    if spectrum and waves is None:
        place = jnp.zeros(draws.u.shape[-1]), jnp.ones(())
        n_wave = jax.eval_shape(posterior.forward.spectrum, *place).shape[0]
        waves = np.full((n_source, len(probability), n_wave), np.nan)
    return Predictive(
        np.asarray(levels),
        *_split(bands),
        chi2,
        *((None,) * 3 if waves is None else _split(waves)),
        error_growth=None if posterior.model_error is None else error_growth,
    )


def reconstruction_chi2(
    posterior: LogPosterior,
    draws: PosteriorDraws,
    sources: Sources,
    *,
    max_draws: int = 256,
) -> ReconstructionChi2:
    """Chi^2 of the posterior mean of the model fluxes, each draw at its best amplitude (paper section V.1, Fig. 6),
    and the least chi^2 of a draw.

    The mean is over fluxes, not over (u, z): the mean of the parameters of a curved posterior need not fit. With n
    draws, chi^2 exceeds that of the exact mean by some n_latent / n in expectation. The least chi^2 exceeds that of
    the best model by what the best of n draws leaves: with 256 draws and ten latents that is some 2.5.

    Returns:
        Both as (source,) float64, NaN for a source without draws, and the chi^2 of each draw that was judged.

    Raises:
        InputError: shapes do not agree.
    """
    _checked(draws, sources)
    draws = thin_draws(draws, max_draws)
    n_source = len(sources)
    mean, best = np.full((2, n_source), np.nan)
    chi2 = ReconstructionChi2(mean, best, draws.z, np.full(draws.z.shape, np.nan, np.float32))
    for first in range(0, n_source, SOURCES):
        rows = np.arange(first, min(first + SOURCES, n_source))
        padded = np.resize(rows, SOURCES)
        photometry = sources.rows(padded).whitened(posterior)
        found = _chi2(posterior, photometry, draws.u[padded], draws.z[padded], draws.weight[padded])
        for column, values in zip((chi2.mean, chi2.best, chi2.each), found, strict=True):
            column[rows] = np.asarray(values)[: len(rows)]
    return chi2


def reference_error(photometry: WhitenedPhotometry, flux_err: Float[np.ndarray, "source band"]) -> np.ndarray:
    """The error (source,) [uJy] that the amplitudes of whitened photometry are in units of; NaN without bands."""
    weight = np.asarray(photometry.weight, dtype=np.float64)
    product = np.where(weight > 0.0, weight * np.where(weight > 0.0, flux_err, 0.0), -np.inf).max(axis=1)
    return np.where(np.isfinite(product), product, np.nan)


def positive_normal(
    mean: Float[np.ndarray, " draw"], width: Float[np.ndarray, " draw"], rng: np.random.Generator
) -> np.ndarray:
    """Draws, float64, of normal distributions cut off below zero; exact also many widths out in the tail."""
    mean, width = np.asarray(mean, dtype=np.float64), np.asarray(width, dtype=np.float64)
    log_share = np.log(1.0 - rng.uniform(size=mean.shape)) + log_ndtr(mean / width)
    return np.maximum(mean - width * ndtri_exp(log_share), 0.0)


def weighted_quantiles(
    values: Float[np.ndarray, "draw column"],
    weight: Float[np.ndarray, " draw"],
    probability: Float[np.ndarray, " level"],
) -> Float[np.ndarray, "level column"]:
    """Quantiles of each column; the CDF takes half a draw's weight at the draw and is linear between draws."""
    order = np.argsort(values, axis=0)
    values = np.take_along_axis(values, order, axis=0)
    weight = np.asarray(weight, dtype=np.float64)[order]
    cdf = (np.cumsum(weight, axis=0) - 0.5 * weight) / weight.sum(axis=0)
    columns = zip(cdf.T, values.T, strict=True)
    return np.stack([np.interp(probability, c, v) for c, v in columns], axis=1)


def _checked(draws: PosteriorDraws, sources: Sources) -> tuple[np.ndarray, np.ndarray]:
    flux, flux_err = (np.asarray(part) for part in sources.fitted)
    if flux.ndim != 2 or flux.shape != flux_err.shape or len(flux) != len(draws.z):
        raise InputError(
            f"flux {flux.shape}, flux_err {flux_err.shape} and draws of {len(draws.z)} sources do not agree"
        )
    return flux, flux_err


def _split(quantiles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(source, 1 + 2 level, column) to medians, lower and upper ends."""
    n_level = (quantiles.shape[1] - 1) // 2
    return quantiles[:, 0], quantiles[:, 1 : 1 + n_level], quantiles[:, 1 + n_level :]


@program
def _models(
    posterior: LogPosterior, photometry: WhitenedPhotometry, u: Array, z: Array, spectrum: bool
) -> tuple[Array, Array | None, Array, Array, Array]:
    """Models at amplitude 1 (source, draw, band), spectra, mean and width of A given each draw (eq. 4), and the factor
    on each variance by the model's errors (source, draw, band), None without them.

    Linear terms are in the models at their best strengths, and not in the spectra.
    """

    def one(photometry: WhitenedPhotometry, u: Array, z: Array) -> tuple:
        model = posterior.model(u, z, photometry)
        spectra = posterior.forward.spectrum(u, z) if spectrum else None
        if posterior.has_terms(photometry):
            assert posterior.linear_terms is not None
            found, growth = posterior.with_terms(u, z, photometry)
            model = model + found.strength @ posterior.linear_terms.columns(
                z, model, 1.0, photometry.slots, photometry.n_external
            )
            return model, spectra, found.free_amplitude, jax.lax.rsqrt(found.norm_squared), growth
        whitened = photometry.weight * model
        _, growth = posterior.best_model_and_growth(u, z, photometry)
        weighted = whitened if growth is None else whitened / growth
        norm_squared = jnp.sum(whitened * weighted) + TINY
        best = jnp.sum(photometry.signal * weighted) / norm_squared
        return model, spectra, best, jax.lax.rsqrt(norm_squared), growth

    def source(photometry: WhitenedPhotometry, u: Array, z: Array) -> tuple:
        return jax.vmap(lambda u, z: one(photometry, u, z))(u, z)

    return jax.lax.map(lambda lane: source(*lane), (photometry, u, z))


@program
def _chi2(
    posterior: LogPosterior, photometry: WhitenedPhotometry, u: Array, z: Array, weight: Array
) -> tuple[Array, Array, Array]:
    """Chi^2 of the mean model (source,), of the best draw (source,) and of each draw (source, draw)."""

    def one(photometry: WhitenedPhotometry, u: Array, z: Array, weight: Array) -> tuple[Array, Array, Array]:
        model, growth = jax.vmap(lambda u, z: posterior.best_model_and_growth(u, z, photometry))(u, z)
        off_mean, off = photometry.signal - weight @ model, photometry.signal - model
        if growth is not None:  # the model's own errors count as errors
            off_mean, off = off_mean / jnp.sqrt(weight @ growth), off / jnp.sqrt(growth)
        of_mean = jnp.sum(off_mean**2)
        each = jnp.sum(off**2, axis=1)
        # A draw without weight is no part of the posterior. A weight of NaN is that of a source without draws.
        each = jnp.where(weight > 0.0, each, jnp.where(weight == 0.0, jnp.inf, jnp.nan))
        return of_mean, each.min(), each

    return jax.lax.map(lambda source: one(*source), (photometry, u, z, weight))
