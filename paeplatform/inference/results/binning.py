"""How much binning a source's measurements into channels would mislead a method that compares them with channel fluxes.

The best draw of the posterior says what the noiseless measurements are, each in its own passband, and what the fluxes
at the channels' centres are. The former are averaged into channels as the data are, their mean wavelengths taken into
account to first order (`ChannelMeans.at_centres`). What is left over the channels' errors,

    chi^2 = sum over channels ((average - flux at the centre) / error)^2,

is the most that binning can change chi^2 between two models. Where it exceeds `UNSAFE`, lines that fall between the
wavelengths of the visits move redshifts by a standard deviation or more: fits to the channels of that source are not to
be trusted.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from paeplatform.inference.batches.programs import program
from paeplatform.inference.model.draws import PosteriorDraws
from paeplatform.inference.model.posterior import TINY, LogPosterior, WhitenedPhotometry
from paeplatform.inference.sources import Sources
from paeplatform.instrument.bands import BandSet
from paeplatform.instrument.measurements import Measurements, channel_means, channel_of

UNSAFE = 1.0
BLOCK = 32  # sources of one compiled call, padded


def binning_chi2(
    posterior: LogPosterior, draws: PosteriorDraws, sources: Sources, bands: BandSet
) -> Float[np.ndarray, " source"]:
    """The chi^2 of the top of this module, float32; NaN for a source without draws.

    Args:
        posterior: the one the draws are of, with the bands' channels and slots.
        draws: of these sources.
        sources: with measurements.
        bands: the channels.
    """
    out = np.full(len(sources), np.nan, np.float32)
    measured = sources.measured
    usable = np.isfinite(draws.log_prob).any(axis=1) & np.isfinite(draws.z).all(axis=1)
    if measured is None or not usable.any():
        return out
    best = np.where(np.isfinite(draws.log_prob), draws.log_prob, -np.inf).argmax(axis=1)
    rows = np.flatnonzero(usable)
    own, central = [], []
    for first in range(0, len(rows), BLOCK):
        here = rows[first : first + BLOCK]
        padded = np.resize(here, BLOCK)
        photometry = sources.rows(padded).whitened(posterior)
        found = _fluxes(posterior, photometry, draws.u[padded, best[padded]], draws.z[padded, best[padded]])
        for part, values in zip((own, central), found, strict=True):
            part.append(np.asarray(values, np.float64)[: len(here)])
    error = measured.flux_err[rows]
    there = np.isfinite(error) & (error > 0.0)
    start = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    # amplitudes are in units of the reference error, the mean square of 1/error over the measurements
    reference = 1.0 / np.sqrt(np.sum(np.where(there, error, np.inf) ** -2.0, axis=1) / there.sum(axis=1))
    model = Measurements(
        (reference[:, None] * np.concatenate(own))[there],
        error[there],
        measured.wave_um[rows][there],
        measured.width_um[rows][there],
        start,
    )
    means = channel_means(model, bands, channel_of(model, bands))
    off = (means.at_centres(bands) - reference[:, None] * np.concatenate(central)) / means.flux_err
    out[rows] = np.nansum(off**2, axis=1)
    return out


@program
def _fluxes(
    posterior: LogPosterior, photometry: WhitenedPhotometry, u: Array, z: Array
) -> tuple[Float[Array, "source slot"], Float[Array, "source band"]]:
    """Model fluxes of the measurements and of the channels at the best amplitude, in units of the reference error."""

    def one(photometry: WhitenedPhotometry, u: Array, z: Array) -> tuple[Array, Array]:
        model = posterior.model(u, z, photometry)
        whitened = photometry.weight * model
        best = jnp.sum(photometry.signal * whitened) / (jnp.sum(whitened**2) + TINY)
        best = jnp.maximum(best, 0.0)
        n_own = model.size - photometry.n_external
        return best * model[:n_own], best * posterior.forward(u, z)

    return jax.vmap(one)(photometry, u, z)
