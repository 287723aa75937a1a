"""How well the best of a source's draws describes its data, and by how much its errors would have to be larger."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from paeplatform.config import TrustConfig
from paeplatform.inference.model.draws import PosteriorDraws
from paeplatform.inference.model.posterior import LogPosterior
from paeplatform.inference.results.predictive import reconstruction_chi2
from paeplatform.inference.results.status import misses_data
from paeplatform.inference.sources import Sources
from paeplatform.instrument.noise import usable_bands


@dataclass(frozen=True)
class Goodness:
    """Of some sources' posteriors.

    Attributes:
        chi2_mean, chi2_best: (source,) of the posterior mean of the model fluxes and of the best draw; NaN without
            draws.
        n_bands: (source,) channels with data.
        n_measurements: (source,) numbers that chi^2 is a sum over.
        misfit: (source,) the best draw misses the data (`status.misses_data`).
        error_scale: (source,) factor on the errors with which the best draw of a misfit has a chi^2 of its degrees of
            freedom; 1 for the others.
        z_judged, chi2_judged: (source, judged) redshift and chi^2 of the draws among which the best one is; chi^2 is
            not finite for a draw that does not count.
    """

    chi2_mean: Float[np.ndarray, " source"]
    chi2_best: Float[np.ndarray, " source"]
    n_bands: Int[np.ndarray, " source"]
    n_measurements: Int[np.ndarray, " source"]
    misfit: Bool[np.ndarray, " source"]
    error_scale: Float[np.ndarray, " source"]
    z_judged: Float[np.ndarray, "source judged"]
    chi2_judged: Float[np.ndarray, "source judged"]


def goodness(
    posterior: LogPosterior, draws: PosteriorDraws, sources: Sources, trust: TrustConfig
) -> Goodness:
    """Judges posteriors by the errors that the sources were given with.

    Args:
        posterior: the one the draws are of.
        draws: of the sources, in their order.
        sources: the photometry.
        trust: limits of a misfit.
    """
    chi2 = reconstruction_chi2(posterior, draws, sources)
    n_bands = usable_bands(sources.flux_err).sum(axis=1)
    n_measurements = usable_bands(sources.fitted[1]).sum(axis=1)
    n_parameters = draws.u.shape[-1] + 2  # u, z and the amplitude
    misfit = misses_data(chi2.best, n_bands, n_parameters, trust, n_measurements)
    freedom = np.maximum(n_measurements - n_parameters, 1)
    scale = np.sqrt(np.where(misfit, chi2.best, freedom) / freedom)
    return Goodness(chi2.mean, chi2.best, n_bands, n_measurements, misfit, scale, chi2.z, chi2.each)
