"""From draws to catalogue columns: redshift statistics, diagnostics, goodness of fit, flags, for every sampler.

`pae_path` says which method made a posterior: "proposal" (importance sampling from the amortised proposal alone),
"adapted" (with rounds of adaptation), "mclmc", "pocomc", or "none".

`pae_status` says how far to trust it. The first of these that applies is the status:

- "failed": there is no posterior (flag NO_POSTERIOR).
- "misfit": there is a posterior, but even the best of its draws misses the data (flag BAD_FIT; the rule is
  `status.misses_data`). The object is nothing that the model can be, so that its redshift means nothing. Lest it look
  sharp, p(z) is quoted wider by `pae_error_scale`, the factor on the errors with which the best draw would fit, and a
  share `trust.misfit_prior_share` of it is the prior (`samplers.widened`); chi^2 and the status are by the errors that
  were given.
- "unconverged": the sampler did not converge (flag UNCONVERGED, which a misfit can carry too).
- "converged": a posterior by importance sampling has converged when its Pareto k-hat is below `trust.khat_max`
  and its effective number of draws at least `trust.ess_min`; one by Markov chains when split R-hat of z is below
  `trust.rhat_max`.

The limits are section `trust` of the preset; the table gives their defaults.

`pae_z2` and `pae_z3` are other solutions of z. Their rule is not that of the flag MULTIMODAL (`second_solutions`).

`z_flags` is a bit mask:

| bit | name | set when |
|---|---|---|
| 1 | UNCONVERGED | there is a posterior, and its sampler did not converge |
| 2 | FEW_BANDS | fewer than 20 usable bands |
| 4 | LOW_ESS | effective sample size of z below 100 |
| 8 | AT_PRIOR_EDGE | over 5 % of p(z) lies within 2 % (in ln(1+z) of the range) of z_min or z_max |
| 16 | MULTIMODAL | p(z) has a second peak, behind a dip below half its height, with over 5 % of its mass |
| 32 | BAD_FIT | `pae_status` is "misfit": reduced chi^2 of the best draw above 1.5, and not by chance |
| 64 | NO_POSTERIOR | no usable band, or no finite density found: summaries are null |
| 128 | BAD_INPUT | some band was masked for a fault of its numbers (`screening`); column `input_fault` names it |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from paeplatform.config import TrustConfig
from paeplatform.inference.model.draws import PosteriorDraws
from paeplatform.inference.model.posterior import LogPosterior
from paeplatform.inference.results.goodness import Goodness, goodness
from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.inference.results.second_solutions import GAP, chi2_gap, leading_solutions
from paeplatform.inference.sources import Sources

__all__ = ["QUANTILE_LEVELS", "PosteriorSummaries", "ZFlag", "summarise"]


class ZFlag(IntFlag):
    """Bits of `z_flags`; the table stands at the top of this module."""

    UNCONVERGED = 1
    FEW_BANDS = 2
    LOW_ESS = 4
    AT_PRIOR_EDGE = 8
    MULTIMODAL = 16
    BAD_FIT = 32
    NO_POSTERIOR = 64
    BAD_INPUT = 128


@dataclass(frozen=True)
class PosteriorSummaries:
    """What a sampler found out about each source; NaN where a number does not apply.

    Attributes:
        columns: of `pz_summary.redshift_columns` with prefix "pae".
        draws: kept draws, as many for each source.
        z_kept: (source, kept) redshifts for the table, of equal weight.
        path: (source,) how the posterior was made.
        converged: (source,) whether the sampler converged.
        ess: (source,) effective sample size of z.
        khat: (source,) Pareto shape of the importance weights.
        rhat, acl: (source,) split R-hat and autocorrelation length [steps] of z.
        log_evidence: (source,) ln of the integral of L over the normalised prior, by importance sampling.
        n_draws: (source,) evaluations of the density or steps of the chains, in all.
        n_reinit: (source,) chains re-initialised.
    """

    columns: dict[str, np.ndarray]
    draws: PosteriorDraws
    z_kept: Float[np.ndarray, "source kept"]
    path: np.ndarray
    converged: Bool[np.ndarray, " source"]
    ess: Float[np.ndarray, " source"]
    khat: Float[np.ndarray, " source"]
    rhat: Float[np.ndarray, " source"]
    acl: Float[np.ndarray, " source"]
    log_evidence: Float[np.ndarray, " source"]
    n_draws: np.ndarray
    n_reinit: np.ndarray


def summarise(
    sources: Sources,
    found: PosteriorSummaries,
    posterior: LogPosterior,
    trust: TrustConfig,
    input_fault: np.ndarray | None = None,
    fit: Goodness | None = None,
) -> pl.DataFrame:
    """One row a source, in the order given.

    Args:
        sources: their photometry and ids.
        found: of the sampler, for the same sources.
        posterior: the one that was sampled.
        trust: limits of misfits and flags.
        input_fault: (source,) what was wrong with the photometry, None for nothing.
        fit: how well the draws of `found` describe the data, where that is known already; None judges them.

    Returns:
        Columns object_id; pae_z_mean, _median, _mode, _std; pae_z_err68_low/high and pae_z_err95_low/high
        (bounds, not half-widths: central intervals of 68.27 % and 95.45 %); pae_z_quantiles at
        `QUANTILE_LEVELS`; pae_z2, pae_z2_weight, pae_z3 and pae_z3_weight, medians and shares of the second and the
        third heaviest peak of p(z), null without one (`second_solutions`); pae_z_draws; pae_path, pae_status; pae_ess,
        pae_khat, pae_rhat, pae_acl [steps];
        pae_log_evidence, ln of the integral of L over the normalised prior, up to a constant of the data (f64; null
        where only chains sampled); pae_n_draws; pae_chi2 of the posterior mean reconstruction;
        pae_chi2_best of the best draw;
        pae_chi2_gap, that of the best draw of the second peak minus that of the first; pae_error_scale, the factor on
        the errors of a misfit, 1 for others; pae_n_bands, the channels with data; pae_n_measurements, the numbers that
        chi^2 is a sum over: measurements at their own wavelengths, merged ones counted once, or else channels;
        pae_n_reinit; z_flags; input_fault. A source without posterior keeps its row with nulls.
    """
    n_source = len(sources)
    ok = np.isfinite(found.columns["pae_z_mean"]) & (found.path != "none")
    fit = goodness(posterior, found.draws, sources, trust) if fit is None else fit
    leading = leading_solutions(np.where(ok[:, None], found.z_kept, np.nan))
    gap = chi2_gap(leading, posterior, found.draws, sources, fit)
    fault = np.full(n_source, None, object) if input_fault is None else input_fault
    misfit = ok & fit.misfit
    flags = np.zeros(n_source, np.int32)
    for flag, where in (
        (ZFlag.UNCONVERGED, ok & ~found.converged),
        (ZFlag.FEW_BANDS, fit.n_bands < trust.bands_min),
        (ZFlag.LOW_ESS, ok & (found.ess < trust.ess_min)),
        (ZFlag.AT_PRIOR_EDGE, ok & found.columns["at_edge"]),
        (ZFlag.MULTIMODAL, ok & found.columns["multimodal"]),
        (ZFlag.BAD_FIT, misfit),
        (ZFlag.NO_POSTERIOR, ~ok),
        (ZFlag.BAD_INPUT, np.asarray([text is not None for text in fault], bool)),
    ):
        flags[where] |= int(flag)

    def number(values: np.ndarray) -> pl.Series:
        return pl.Series(np.where(ok, values, np.nan).astype(np.float32)).fill_nan(None)

    def rows(values: np.ndarray) -> pl.Series:
        kept = [
            row if good else None for row, good in zip(values.astype(np.float32).tolist(), ok, strict=True)
        ]
        return pl.Series(kept, dtype=pl.Array(pl.Float32, values.shape[1]))

    redshift = {
        name: number(values)
        for name, values in found.columns.items()
        if values.ndim == 1 and values.dtype != bool
    }
    status = np.select([~ok, misfit, ~found.converged], ["failed", "misfit", "unconverged"], "converged")
    return pl.DataFrame(
        {"object_id": np.asarray(sources.object_id, dtype=np.int64)}
        | redshift
        | {name: number(values) for name, values in leading.columns().items()}
        | {
            "pae_z_quantiles": rows(found.columns["pae_z_quantiles"]),
            "pae_z_draws": rows(found.z_kept),
            "pae_path": pl.Series(np.where(ok, found.path, "none").tolist(), dtype=pl.String),
            "pae_status": pl.Series(status.tolist(), dtype=pl.String),
            "pae_ess": number(found.ess),
            "pae_khat": number(found.khat),
            "pae_rhat": number(found.rhat),
            "pae_acl": number(found.acl),
            "pae_log_evidence": pl.Series(np.where(ok, found.log_evidence, np.nan)).fill_nan(None),
            "pae_n_draws": pl.Series(np.asarray(found.n_draws, np.int32)),
            "pae_chi2": number(fit.chi2_mean),
            "pae_chi2_best": number(fit.chi2_best),
            GAP: number(gap),
            "pae_error_scale": number(fit.error_scale),
            "pae_n_bands": pl.Series(fit.n_bands.astype(np.int16)),
            "pae_n_measurements": pl.Series(fit.n_measurements.astype(np.int16)),
            "pae_n_reinit": pl.Series(np.asarray(found.n_reinit, np.int16)),
            "z_flags": pl.Series(flags),
            "input_fault": pl.Series(list(fault), dtype=pl.String),
        }
    )
