"""The statuses of posteriors, and the rule by which a posterior or a template fit is called a misfit.

The best of the models that a method kept misses the data when both of these hold:

- its chi^2 is more than `trust.reduced_chi2_max` times the number of degrees of freedom, n_bands - n_parameters, of
  which there is always at least one. This limit is about size: it decides where there are many bands.
- a chi^2 as large would occur by chance in fewer than `trust.tail_probability_min` of the sources that the model does
  describe. This limit is about chance: it decides where there are few bands. With three bands a chi^2 above 2 says
  nothing, so that without this condition such sources would be called misfits at random.

The probability counts n_bands degrees of freedom, and none less for the parameters. The true model has exactly that
distribution, and the best model fits at least as well, so that false alarms are rarer than the limit, also where the
parameters are too many for the bands.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from numpy.typing import ArrayLike
from scipy.special import chdtrc

from paeplatform.config import TrustConfig

POSTERIOR_STATUSES = ("converged", "unconverged", "misfit", "failed")  # only the first is to be trusted


def misses_data(
    chi2: ArrayLike, n_bands: ArrayLike, n_parameters: int, trust: TrustConfig
) -> Bool[np.ndarray, " source"]:
    """Whether the best model of a source is too far from its data to be believed.

    Args:
        chi2: (source,) of the best model; NaN for a source without one, which is no misfit.
        n_bands: (source,) usable bands.
        n_parameters: that the best model was chosen by: redshift, amplitude and those of the spectrum's shape.
        trust: the two limits.

    Returns:
        (source,) True for a misfit.
    """
    chi2, n_bands = np.asarray(chi2, dtype=np.float64), np.asarray(n_bands, dtype=np.float64)
    freedom = np.maximum(n_bands - n_parameters, 1.0)
    with np.errstate(invalid="ignore"):
        large = chi2 > trust.reduced_chi2_max * freedom
        by_chance = chdtrc(np.maximum(n_bands, 1.0), chi2)
        return np.asarray(large & (by_chance < trust.tail_probability_min))
