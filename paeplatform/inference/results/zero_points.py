"""Zero points of other surveys, fitted to a set of sources: what each survey is off by, with its error.

Given (u, z), a source says of its surveys' zero points a Gaussian (`linear_terms`), and its draws say how that Gaussian
moves. Mean and variance over the draws are the source's posterior of each zero point, from which the prior is taken out
again, so that sources can be multiplied: with the posterior N(a, v) and the prior N(0, 1), in units of the prior's
width, the likelihood is N(a / (v p), 1 / p) with p = 1/v - 1. All sources then have one zero point.

The zero points of two surveys are fitted one beside the other: what a source says of both together is left out.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
from jaxtyping import Array, Float

from paeplatform.errors import InputError
from paeplatform.inference.batches.programs import program
from paeplatform.inference.model.draws import PosteriorDraws
from paeplatform.inference.model.linear_terms import strengths
from paeplatform.inference.model.posterior import LogPosterior, WhitenedPhotometry
from paeplatform.inference.results.predictive import thin_draws
from paeplatform.inference.sources import Sources
from paeplatform.instrument.external import ExternalBands

N_DRAWS = 64
BLOCK = 16  # sources of one compiled call, padded


def fitted_zero_points(
    posterior: LogPosterior,
    bands: ExternalBands,
    draws: PosteriorDraws,
    sources: Sources,
    trusted: np.ndarray,
) -> pl.DataFrame:
    """Zero points of all surveys.

    Args:
        posterior: that the draws are of; its zero points need widths above 0.
        bands: the external ones.
        draws: of the sources.
        sources: with external fluxes.
        trusted: (source,) which of them are used: those whose posterior is to be relied on.

    Returns:
        A row a survey: survey, n_sources, zero_point (relative: fluxes are too large by so much), zero_point_err,
        zero_point_mag (magnitudes are too faint by so much) and zero_point_mag_err.

    Raises:
        InputError: no source is trusted, none has external fluxes, or a survey's zero point is held at 0.
    """
    widths = bands.zero_points().max(axis=1)
    held = [survey for survey, width in zip(bands.surveys, widths, strict=True) if width == 0.0]
    if held:
        raise InputError(
            f"zero points: that of survey {held[0]} has an error of 0, so that there is nothing to fit"
        )
    if sources.external is None:
        raise InputError("zero points: the sources have no external fluxes")
    usable = np.isfinite(sources.external.flux_err) & (sources.external.flux_err > 0.0)
    rows = np.flatnonzero(np.asarray(trusted) & usable.any(axis=1) & np.isfinite(draws.z).all(axis=1))
    if not len(rows):
        raise InputError(f"zero points: none of {len(sources)} sources is trusted and has external fluxes")
    few = thin_draws(draws, N_DRAWS)
    mean, variance = np.empty((2, len(rows), len(bands.surveys)))
    for first in range(0, len(rows), BLOCK):
        here = rows[first : first + BLOCK]
        padded = np.resize(here, BLOCK)
        found = _strengths(
            posterior, sources.rows(padded).whitened(posterior), few.u[padded], few.z[padded], len(widths)
        )
        each, spread = (np.asarray(part, np.float64)[: len(here)] for part in found)
        part = slice(first, first + len(here))
        mean[part] = each.mean(axis=1)
        variance[part] = spread.mean(axis=1) + each.var(axis=1)
    # a source that says nothing has the prior's variance, by rounding a little more
    precision = np.maximum(1.0 / variance - 1.0, 0.0)
    informed = precision > 0.0
    value = np.where(informed, mean / (variance * np.where(informed, precision, 1.0)), 0.0)
    total = precision.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = widths * np.sum(precision * value, axis=0) / total
        error = widths / np.sqrt(total)
    magnitude = -2.5 * np.log10(1.0 + relative)
    return pl.DataFrame(
        {
            "survey": list(bands.surveys),
            "n_sources": informed.sum(axis=0),
            "zero_point": relative,
            "zero_point_err": error,
            "zero_point_mag": magnitude,
            "zero_point_mag_err": 2.5 / np.log(10.0) * error / (1.0 + relative),
        }
    ).with_columns(pl.col(pl.Float64).fill_nan(None))


@program
def _strengths(
    posterior: LogPosterior, photometry: WhitenedPhotometry, u: Array, z: Array, n_survey: int
) -> tuple[Float[Array, "source draw survey"], Float[Array, "source draw survey"]]:
    """Mean and variance of each zero point given each draw, in units of the prior's width."""

    def one(photometry: WhitenedPhotometry, u: Array, z: Array) -> tuple[Array, Array]:
        mean, covariance = strengths(*posterior.whitened_terms(u, z, photometry))
        return mean[-n_survey:], jnp.diagonal(covariance)[-n_survey:]

    def source(photometry: WhitenedPhotometry, u: Array, z: Array) -> tuple[Array, Array]:
        return jax.vmap(lambda u, z: one(photometry, u, z))(u, z)

    return jax.lax.map(lambda lane: source(*lane), (photometry, u, z))
