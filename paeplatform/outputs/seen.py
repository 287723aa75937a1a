"""What the model predicts of single sources: the posterior predictive of each measurement in its own passband."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from paeplatform.inference.model.draws import PosteriorDraws, joined
from paeplatform.inference.results.predictive import Predictive, posterior_predictive
from paeplatform.instrument.measurements import Measurements, PaddedMeasurements

if TYPE_CHECKING:
    from paeplatform.inference.estimate import Estimator


@dataclass(frozen=True)
class Seen:
    """What the model predicts of one source.

    Attributes:
        measured: the measurements, in arrays of one row.
        predictive: intervals of the model's fluxes in the same places.
    """

    measured: PaddedMeasurements
    predictive: Predictive

    @property
    def there(self) -> np.ndarray:
        """(slot,) which places hold a measurement that the model predicts."""
        return np.isfinite(self.measured.flux_err[0]) & np.isfinite(self.predictive.flux[0])

    @property
    def pull(self) -> np.ndarray:
        """(slot,) (measured flux - median of the model) / error, the model's own error counted in as in the likelihood;
        NaN in places without a measurement.
        """
        error = np.where(self.there, self.measured.flux_err[0], np.nan)
        if self.predictive.error_growth is not None:
            error = error * self.predictive.error_growth[0]
        return (self.measured.flux[0] - self.predictive.flux[0]) / error


def predictions(
    estimator: Estimator,
    measurements: Measurements,
    object_id: Int[np.ndarray, " source"],
    draws: PosteriorDraws,
    rows: Int[np.ndarray, " row"] | None = None,
    *,
    progress: bool = False,
) -> list[Seen | None]:
    """The posterior predictive of some of the sources that `Estimator.estimate_measured` has answered.

    Args:
        estimator: that answered.
        measurements: of all the sources, as it was given them.
        object_id: of all the sources.
        draws: that it returned with the table.
        rows: places of the sources that are wanted; None for all.
        progress: shows a bar.

    Returns:
        One for each of `rows`, in their order; None for a source without a posterior.
    """
    rows = np.arange(len(measurements)) if rows is None else np.asarray(rows)
    wanted, posterior = joined([draws], rows), estimator.posterior
    found: list[Seen | None] = [None] * len(rows)
    if not len(rows):
        return found
    for group in estimator.measured_sources(measurements.rows(rows), np.asarray(object_id)[rows]):
        own = joined([wanted], group.rows)
        predictive = posterior_predictive(posterior, own, group.sources, progress=progress)
        measured = group.sources.measured
        assert measured is not None
        for place, row in enumerate(group.rows):
            if np.isfinite(predictive.flux[place]).any():
                one = slice(place, place + 1)
                found[row] = Seen(measured.rows(one), _rows(predictive, one))
    return found


def _rows(predictive: Predictive, rows: slice) -> Predictive:
    return Predictive(
        predictive.level,
        predictive.flux[rows],
        predictive.flux_low[rows],
        predictive.flux_high[rows],
        predictive.chi2[rows],
        error_growth=None if predictive.error_growth is None else predictive.error_growth[rows],
    )
