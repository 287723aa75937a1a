"""Columns of the second and the third solution of a redshift, and how much worse the second one fits the data.

The solutions are the separate peaks of p(z) by the rule of `solutions`, in the order of their weights. They are found
in the draws that the table keeps, rounded as the table keeps them (`pae_z_draws`, float32). So whoever looks for peaks
in the draws of a table finds those that its columns name.

The flag MULTIMODAL has a rule of its own (`pz_summary`): a kernel density of one width for all of p(z), and a second
peak of over 5 %. So a light peak, or two narrow ones side by side in a wide p(z), can be solutions without the flag.
And a valley that too few draws are missing from has the flag without being a cut. Of 300 galaxies that the reference
model made, at a signal-to-noise of 5 to 30, 41 had the flag, 41 a second solution, and 27 both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from paeplatform.inference.model.draws import PosteriorDraws
from paeplatform.inference.model.posterior import LogPosterior
from paeplatform.inference.results.goodness import Goodness
from paeplatform.inference.results.predictive import reconstruction_chi2
from paeplatform.inference.results.solutions import solutions
from paeplatform.inference.sources import Sources

N_SOLUTIONS = (
    3  # that the table has: the first one, of which it gives no own redshift, the second and the third
)
GAP = "pae_chi2_gap"  # the column of `chi2_gap`


@dataclass(frozen=True)
class LeadingSolutions:
    """The heaviest separate peaks of each source's p(z), heaviest first; NaN where there are fewer.

    Attributes:
        z: (source, solution) medians.
        weight: (source, solution) shares of p(z).
        low, high: (source, solution) redshifts between which the peak lies and no other; see `Solution.between`.
    """

    z: Float[np.ndarray, "source solution"]
    weight: Float[np.ndarray, "source solution"]
    low: Float[np.ndarray, "source solution"]
    high: Float[np.ndarray, "source solution"]

    def holds(self, number: int, z: Float[np.ndarray, "source draw"]) -> Bool[np.ndarray, "source draw"]:
        """Which redshifts of each source belong to one of its solutions, counted from 0; none where it has fewer."""
        low, high = (ends[:, number, None] for ends in (self.low, self.high))
        return np.asarray((z > low) & (z <= high))

    def columns(self) -> dict[str, np.ndarray]:
        """pae_z2, pae_z2_weight, pae_z3 and pae_z3_weight, (source,) each, NaN without such a solution."""
        return {
            name: values[:, number - 1]
            for number in range(2, N_SOLUTIONS + 1)
            for name, values in ((f"pae_z{number}", self.z), (f"pae_z{number}_weight", self.weight))
        }


def leading_solutions(z_kept: Float[np.ndarray, "source draw"]) -> LeadingSolutions:
    """The first `N_SOLUTIONS` solutions of each source.

    Args:
        z_kept: redshifts of equal weight; a row with a value that is not finite has no solution.
    """
    z_kept = np.asarray(z_kept, dtype=np.float32)
    z, weight, low, high = np.full((4, len(z_kept), N_SOLUTIONS), np.nan)
    for row in np.flatnonzero(np.isfinite(z_kept).all(axis=1)):
        for number, one in enumerate(solutions(z_kept[row], n=N_SOLUTIONS)):
            z[row, number], weight[row, number] = one.z, one.weight
            low[row, number], high[row, number] = one.between
    return LeadingSolutions(z, weight, low, high)


def chi2_gap(
    leading: LeadingSolutions,
    posterior: LogPosterior,
    draws: PosteriorDraws,
    sources: Sources,
    fit: Goodness,
) -> Float[np.ndarray, " source"]:
    """Chi^2 of the best draw of the second solution minus that of the best draw of the first.

    Chi^2 is that of `LogPosterior.residual`, and the draws are those that were judged already (`Goodness.chi2_judged`).
    Only where one of the two solutions has none of them are its other draws judged too. The gap is negative where the
    lighter solution has the better best draw: the weight counts how many models fit, and the prior.

    Args:
        leading: the solutions.
        posterior: the one the draws are of.
        draws: of the sources, of equal weight.
        sources: the photometry.
        fit: how well the draws describe the data.

    Returns:
        (source,) NaN for a misfit, whose p(z) is not that of its draws, without a second solution, or where one of the
        two has no draw that carries a spectrum.
    """
    best = np.full((len(sources), 2), np.nan)
    several = np.isfinite(leading.weight[:, 1]) & ~fit.misfit
    for number in range(2):
        judged = leading.holds(number, fit.z_judged) & np.isfinite(fit.chi2_judged)
        best[:, number] = np.where(judged, fit.chi2_judged, np.inf).min(axis=1)
        inside = leading.holds(number, draws.z) & (draws.weight > 0.0)
        rows = np.flatnonzero(several & np.isinf(best[:, number]) & inside.any(axis=1))
        if len(rows):
            share = inside[rows] / inside[rows].sum(axis=1, keepdims=True)
            own = PosteriorDraws(draws.u[rows], draws.z[rows], share.astype(np.float32), draws.log_prob[rows])
            best[rows, number] = reconstruction_chi2(posterior, own, sources.rows(rows)).best
    known = several & np.isfinite(best).all(axis=1)
    return np.subtract(best[:, 1], best[:, 0], out=np.full(len(sources), np.nan), where=known)


def moved_gap(
    gap: Float[np.ndarray, " source"], before: LeadingSolutions, after: LeadingSolutions
) -> Float[np.ndarray, " source"]:
    """`chi2_gap` of solutions whose weights have changed while the draws stayed.

    The two heaviest solutions may be the same as before, or have changed places: then the gap has the other sign.
    Where another solution is among them, nothing is known of its chi^2.

    Args:
        gap: before the change.
        before: the solutions then.
        after: the solutions now.

    Returns:
        (source,) NaN where it is not known.
    """
    first, second = after.z[:, :1], after.z[:, 1:2]

    def lie_in(one: int, other: int) -> np.ndarray:
        return (before.holds(one, first) & before.holds(other, second))[:, 0]

    return np.select([lie_in(0, 1), lie_in(1, 0)], [gap, -gap], np.nan)
