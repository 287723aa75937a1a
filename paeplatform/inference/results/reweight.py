"""A stored posterior moved to another p(z) by weights, and whether it may.

Draws of p(z | data, old) get weights w proportional to p_new(z) / p_old(z). That is exact as the number of draws
grows, and no galaxy is inferred again. It fails where the new prior wants redshifts at which there are few draws or
none, and three things say so: the effective number of draws (Kish), the Pareto shape of the weights, and for a new
prior that reaches beyond the old one's limits the mass it puts there, of which the draws know nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from paeplatform.config import DEFAULT_TRUST, TrustConfig
from paeplatform.errors import ConfigError
from paeplatform.inference.model.priors import RedshiftPrior, prior_from_dict
from paeplatform.inference.results.pareto import effective_draws, pareto_smooth
from paeplatform.inference.results.pz_summary import EDGE_FRACTION, EDGE_RANGE, redshift_columns
from paeplatform.inference.results.second_solutions import GAP, leading_solutions, moved_gap
from paeplatform.inference.results.summaries import ZFlag

MAX_MASS_OUTSIDE = 1e-3  # of the new prior, beyond the limits of the old one
_ROUNDING = 2e-6  # relative: draws are float32, and those at a limit may be rounded across it


@dataclass(frozen=True)
class Reweighted:
    """Weights under the new prior and what they are worth.

    Attributes:
        weight: float64, sum 1 for each source; all 0 where no draw lies inside the new limits, NaN for a source
            without a posterior (a draw or weight that is not finite, or draws outside the old limits).
        ess: effective number of draws; 0 where there is no weight.
        khat: Pareto shape of the weights; inf where there is no weight.
        allowed: whether the weighted draws may stand for the new posterior.
        log_evidence_ratio: ln of the evidence under the new prior over that under the old one, from inside the
            old limits; -inf where no draw lies inside the new ones, NaN without a posterior.
    """

    weight: Float[np.ndarray, "source draw"]
    ess: Float[np.ndarray, " source"]
    khat: Float[np.ndarray, " source"]
    allowed: Bool[np.ndarray, " source"]
    log_evidence_ratio: Float[np.ndarray, " source"]


def reweight(
    z: Float[np.ndarray, "source draw"],
    weight: Float[np.ndarray, "source draw"] | None,
    old: RedshiftPrior,
    new: RedshiftPrior,
    *,
    ess: Float[np.ndarray, " source"] | None = None,
    trust: TrustConfig = DEFAULT_TRUST,
    max_mass_outside: float = MAX_MASS_OUTSIDE,
) -> Reweighted:
    """Weights that turn draws under `old` into draws under `new`.

    Not allowed is a source with ESS < `trust.ess_min` or k-hat >= `trust.khat_max`. When the new prior reaches beyond
    an end of the old one, no source is allowed if it has over `max_mass_outside` of its mass beyond the old limits,
    and otherwise those sources are not that pile up at that end (5 % of the new weight within 2 % of the range, in
    ln(1+z)): their likelihood may well be large beyond it.

    Args:
        z: draws of each source's posterior under `old`.
        weight: of the draws, not negative, any scale; None for equal weights.
        old: the prior the posterior was inferred with.
        new: the prior wanted.
        ess: effective number of draws as they are, for draws that are not independent (Markov chains); None for
            Kish's number. The result is scaled by it.
        trust: limits of the weights; those of the preset, as for the posterior itself.
        max_mass_outside: see above.

    Raises:
        ConfigError: shapes do not agree, or there are fewer than two draws.
    """
    z = np.asarray(z, dtype=np.float64)
    if z.ndim != 2 or z.shape[1] < 2 or (weight is not None and np.shape(weight) != z.shape):
        shape = None if weight is None else np.shape(weight)
        raise ConfigError(
            f"z {z.shape} and weight {shape} must both be (source, draw), with two draws or more"
        )
    if ess is not None and np.shape(ess) != (len(z),):
        raise ConfigError(f"ess {np.shape(ess)} must be ({len(z)},), one a source")
    before = np.ones(z.shape) if weight is None else np.asarray(weight, dtype=np.float64)
    legal = _inside(z, old) & np.isfinite(before) & (before >= 0.0)
    has_posterior = np.asarray(legal.all(axis=1) & (before > 0.0).any(axis=1))
    z = np.where(has_posterior[:, None], z, float(old.z_min))
    before = np.where(has_posterior[:, None], before, 1.0)
    with np.errstate(divide="ignore"):
        log_before = np.log(before / before.sum(axis=1, keepdims=True))
    log_weight = log_before + _log_ratio(z, old, new)

    largest = log_weight.max(axis=1, keepdims=True)
    overlap = np.isfinite(largest)
    after = np.exp(log_weight - np.where(overlap, largest, 0.0))
    total = after.sum(axis=1, keepdims=True)
    after /= np.where(total > 0.0, total, 1.0)
    with np.errstate(divide="ignore"):
        log_evidence_ratio = (np.log(total) + np.where(overlap, largest, 0.0))[:, 0]

    got = effective_draws(log_weight)
    if ess is not None:
        kish = effective_draws(log_before)
        got *= np.clip(np.nan_to_num(np.asarray(ess, dtype=np.float64), nan=0.0), 0.0, kish) / kish
    _, khat = pareto_smooth(log_weight)
    allowed = has_posterior & (got >= trust.ess_min) & (khat < trust.khat_max)
    allowed &= ~_beyond(z, after, old, new, max_mass_outside)
    return Reweighted(
        weight=np.where(has_posterior[:, None], after, np.nan),
        ess=np.where(has_posterior, got, 0.0),
        khat=np.where(has_posterior, khat, np.inf),
        allowed=allowed,
        log_evidence_ratio=np.where(has_posterior, log_evidence_ratio, np.nan),
    )


def prior_mass(prior: RedshiftPrior, low: float, high: float) -> float:
    """Mass of the prior between two redshifts, by bisection of its quantile function, to 1e-15."""

    def below(z: float) -> float:
        if z <= float(prior.z_min) or z >= float(prior.z_max):
            return float(z >= float(prior.z_max))
        left, right = 0.0, 1.0
        for _ in range(55):
            middle = 0.5 * (left + right)
            above = float(prior.ppf(np.asarray(middle))) > z
            left, right = (left, middle) if above else (middle, right)
        return 0.5 * (left + right)

    return max(below(high) - below(low), 0.0)


def reweight_table(
    table: pl.DataFrame,
    old: RedshiftPrior | Mapping[str, Any] | str,
    new: RedshiftPrior,
    *,
    trust: TrustConfig = DEFAULT_TRUST,
    max_mass_outside: float = MAX_MASS_OUTSIDE,
) -> pl.DataFrame:
    """A table of posteriors under another p(z).

    Rows that may not be reweighted get null redshift columns: they are to be inferred again. Always start from
    the table that inference wrote; weights of weights only lose draws.

    Args:
        table: one row a source, with `pae_z_draws` (an array or list of one length; null without a posterior). If
            there, `pae_reweight_ess` or else `pae_ess` is taken as the draws' effective number.
        old: the prior of the table: itself, its dictionary (`prior_to_dict`), or that as JSON.
        new: the prior wanted.
        trust: see `reweight`.
        max_mass_outside: see `reweight`.

    Returns:
        The table with the columns of `redshift_columns` replaced (float32), `pae_z_draws` resampled to the
        new posterior, pae_z2, pae_z2_weight, pae_z3 and pae_z3_weight of these new draws, pae_chi2_gap (if there) by
        `second_solutions.moved_gap`, the bits AT_PRIOR_EDGE and MULTIMODAL of `z_flags` (if there) set anew, and the
        columns pae_reweight_ess, pae_reweight_allowed and prior_id (of the new prior). All others are as they were:
        pae_chi2 stays that of the model under the old prior.

    Raises:
        ConfigError: `pae_z_draws` is missing or not of one length, or `old` is no prior.
    """
    old = _as_prior(old)
    z = _stored_draws(table)
    known = next((name for name in ("pae_reweight_ess", "pae_ess") if name in table.columns), None)
    moved = reweight(
        z,
        None,
        old,
        new,
        ess=None if known is None else table[known].cast(pl.Float64).fill_null(0.0).to_numpy(),
        trust=trust,
        max_mass_outside=max_mass_outside,
    )
    weight = np.where(moved.allowed[:, None], moved.weight, 0.0)
    summary = redshift_columns(z, weight, z_min=float(new.z_min), z_max=float(new.z_max), prefix="pae")
    several, edge = summary.pop("multimodal"), summary.pop("at_edge")
    columns = [_float32(name, values) for name, values in summary.items()]
    resampled = _resampled(z, weight)
    columns.append(_float32("pae_z_draws", resampled))
    leading = leading_solutions(resampled)
    columns += [_float32(name, values) for name, values in leading.columns().items()]
    if GAP in table.columns:
        gap = table[GAP].cast(pl.Float64).to_numpy()
        # only where there was a second solution and is one now
        both = np.isfinite(gap) & np.isfinite(leading.weight[:, 1])
        before = leading_solutions(np.where(both[:, None], z, np.nan))
        columns.append(_float32(GAP, moved_gap(gap, before, leading)))
    if "z_flags" in table.columns:
        flags = table["z_flags"].to_numpy() & ~int(ZFlag.MULTIMODAL | ZFlag.AT_PRIOR_EDGE)
        flags = flags | np.where(several, int(ZFlag.MULTIMODAL), 0)
        flags = flags | np.where(edge, int(ZFlag.AT_PRIOR_EDGE), 0)
        columns.append(pl.Series("z_flags", flags).cast(table.schema["z_flags"]))
    return table.with_columns(
        *columns,
        pl.Series("pae_reweight_ess", moved.ess.astype(np.float32)),
        pl.Series("pae_reweight_allowed", moved.allowed),
        pl.lit(new.prior_id()).alias("prior_id"),
    )


def _inside(z: np.ndarray, prior: RedshiftPrior) -> np.ndarray:
    """Which redshifts lie within the limits, those rounded across one included."""
    low, high = float(prior.z_min) * (1.0 - _ROUNDING), float(prior.z_max) * (1.0 + _ROUNDING)
    return np.asarray((z >= low) & (z <= high))


def _log_ratio(z: np.ndarray, old: RedshiftPrior, new: RedshiftPrior) -> np.ndarray:
    """ln p_new(z) / p_old(z), float64; -inf outside the new limits. Draws at the old limits count as inside."""

    def log_density(prior: RedshiftPrior) -> np.ndarray:
        clipped = np.clip(z, float(prior.z_min), float(prior.z_max))
        return np.asarray(prior.log_density(jnp.asarray(clipped, jnp.float32)), np.float64)

    return np.where(_inside(z, new), log_density(new) - log_density(old), -np.inf)


def _beyond(
    z: np.ndarray, weight: np.ndarray, old: RedshiftPrior, new: RedshiftPrior, max_mass_outside: float
) -> np.ndarray:
    """Sources whose new posterior may lie beyond the old limits."""
    z_min, z_max = float(old.z_min), float(old.z_max)
    if 1.0 - prior_mass(new, z_min, z_max) > max_mass_outside:
        return np.ones(len(z), bool)
    place = (np.log1p(z) - np.log1p(z_min)) / (np.log1p(z_max) - np.log1p(z_min))
    piled = np.zeros(len(z), bool)
    if float(new.z_min) < z_min:
        piled |= (weight * (place < EDGE_RANGE)).sum(axis=1) > EDGE_FRACTION
    if float(new.z_max) > z_max:
        piled |= (weight * (place > 1.0 - EDGE_RANGE)).sum(axis=1) > EDGE_FRACTION
    return piled


def _as_prior(prior: RedshiftPrior | Mapping[str, Any] | str) -> RedshiftPrior:
    if isinstance(prior, RedshiftPrior):
        return prior
    if isinstance(prior, str):
        try:
            prior = json.loads(prior)
        except json.JSONDecodeError as error:
            raise ConfigError(f"redshift prior: not JSON ({error})") from error
    if not isinstance(prior, Mapping):
        raise ConfigError(f"redshift prior: {type(prior).__name__} given, a dictionary with `kind` wanted")
    return prior_from_dict(prior)


def _stored_draws(table: pl.DataFrame) -> np.ndarray:
    """`pae_z_draws` as (source, draw), NaN where null."""
    if "pae_z_draws" not in table.columns:
        raise ConfigError("column pae_z_draws is missing: a posterior without draws cannot be reweighted")
    column = table["pae_z_draws"]
    if column.dtype.base_type() is pl.Array:
        column = column.arr.to_list()
    if column.dtype.base_type() is not pl.List:
        raise ConfigError(f"column pae_z_draws is {column.dtype}, expected an array of redshifts in each row")
    lengths = column.list.len().drop_nulls().unique().sort().to_list()
    if len(lengths) > 1:
        raise ConfigError(f"column pae_z_draws holds {lengths[0]} to {lengths[-1]} draws; one number wanted")
    z = np.full((table.height, lengths[0] if lengths else 2), np.nan)
    there = column.is_not_null().to_numpy()
    if there.any():
        z[there] = column.drop_nulls().explode().cast(pl.Float64).to_numpy().reshape(there.sum(), lengths[0])
    return z


def _resampled(z: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """As many draws of equal weight, taken from the sorted ones at evenly spaced places of their CDF."""
    order = np.argsort(z, axis=1)
    z, weight = (np.take_along_axis(array, order, axis=1) for array in (z, weight))
    cdf = np.cumsum(weight, axis=1)
    n_draw = z.shape[1]
    points = (np.arange(n_draw) + 0.5) / n_draw
    out = np.full(z.shape, np.nan)
    for row in np.flatnonzero(cdf[:, -1] > 0.0):
        place = np.searchsorted(cdf[row], points * cdf[row, -1])
        out[row] = z[row, np.minimum(place, n_draw - 1)]
    return out


def _float32(name: str, values: np.ndarray) -> pl.Series:
    """NaN is null: a number, or a whole array."""
    values = values.astype(np.float32)
    if values.ndim == 1:
        return pl.Series(name, values).fill_nan(None)
    missing = np.isnan(values).any(axis=1)
    rows = [None if gone else row for row, gone in zip(values.tolist(), missing, strict=True)]
    return pl.Series(name, rows, dtype=pl.Array(pl.Float32, values.shape[1]))
