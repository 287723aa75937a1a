"""The statuses of posteriors, and the rule by which a posterior or a template fit is called a misfit.

The best of the models that a method kept misses the data when both of these hold:

- its chi^2 exceeds the number of degrees of freedom by more than (`trust.reduced_chi2_max` - 1) times those of the
  channels, n_bands - n_parameters, of which there is always at least one. This limit is about size: it decides where
  there are many bands. For channels it says that the reduced chi^2 is above `trust.reduced_chi2_max`. More visits add
  degrees of freedom but nothing to what a wrong model misses, so that a limit on the reduced chi^2 of measurements
  would let a source pass with three visits that it stops with one.
- a chi^2 as large would occur by chance in fewer than `trust.tail_probability_min` of the sources that the model does
  describe. This limit is about chance: it decides where there are few bands. With three bands a chi^2 above 2 says
  nothing, so that without this condition such sources would be called misfits at random.

The probability counts a degree of freedom for each band or measurement, and none less for the parameters. The true
model has exactly that distribution, and the best model fits at least as well, so that false alarms are rarer than the
limit, also where the parameters are too many for the bands.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from numpy.typing import ArrayLike
from scipy.special import chdtrc

from paeplatform.config import TrustConfig

POSTERIOR_STATUSES = ("converged", "unconverged", "misfit", "failed")  # only the first is to be trusted
# Of any method: its models miss the data, or its network has seen no such data. Its redshift is not to be used.
NOT_USABLE = frozenset({"misfit", "unlike_training"})


def misses_data(
    chi2: ArrayLike,
    n_bands: ArrayLike,
    n_parameters: int,
    trust: TrustConfig,
    n_measurements: ArrayLike | None = None,
) -> Bool[np.ndarray, " source"]:
    """Whether the best model of a source is too far from its data to be believed.

    Args:
        chi2: (source,) of the best model; NaN for a source without one, which is no misfit.
        n_bands: (source,) channels with data.
        n_parameters: that the best model was chosen by: redshift, amplitude and those of the spectrum's shape.
        trust: the two limits.
        n_measurements: (source,) that chi2 is a sum over; None where it is a sum over the channels.

    Returns:
        (source,) True for a misfit.
    """
    n_terms = n_bands if n_measurements is None else n_measurements
    chi2, n_terms = np.asarray(chi2, dtype=np.float64), np.asarray(n_terms, dtype=np.float64)
    of_channels = np.maximum(np.asarray(n_bands, dtype=np.float64) - n_parameters, 1.0)
    excess = chi2 - np.maximum(n_terms - n_parameters, 1.0)
    with np.errstate(invalid="ignore"):
        large = excess > (trust.reduced_chi2_max - 1.0) * of_channels
        by_chance = chdtrc(np.maximum(n_terms, 1.0), chi2)
        return np.asarray(large & (by_chance < trust.tail_probability_min))
