"""Each sampler's findings in one form, and the way from one sampler to the next.

Importance sampling is for every source; those it cannot be trusted for go on to MCLMC, which starts from and jumps to
what importance sampling found (`jump_banks`).
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from paeplatform.config import MclmcConfig, Preset, TrustConfig
from paeplatform.inference.batches.progress import SHOWN, Progress
from paeplatform.inference.importance.sampling import ImportanceResult, run_importance
from paeplatform.inference.mclmc.diagnostics import autocorrelation_length, effective_sample_size, split_rhat
from paeplatform.inference.model.draws import Found, PosteriorDraws
from paeplatform.inference.model.posterior import LogPosterior
from paeplatform.inference.model.priors import RedshiftPrior
from paeplatform.inference.results.pz_summary import redshift_columns
from paeplatform.inference.results.summaries import PosteriorSummaries
from paeplatform.inference.sources import Sources
from paeplatform.pae.proposal import Proposal

if TYPE_CHECKING:
    from paeplatform.inference.mclmc.chains import PosteriorSamples


def by_importance(
    posterior: LogPosterior,
    proposal: Proposal,
    sources: Sources,
    preset: Preset,
    *,
    landmarks: np.ndarray | None = None,
    progress: Progress = SHOWN,
) -> PosteriorSummaries:
    """Importance sampling, and MCLMC for the sources it cannot be trusted for (`preset.inference.fallback`)."""
    n_kept, trust = preset.inference.n_kept, preset.trust
    result = run_importance(
        posterior,
        proposal,
        sources,
        preset.importance,
        trust,
        n_kept=n_kept,
        landmarks=landmarks,
        progress=progress,
    )
    found = of_importance(result)
    rows = np.asarray(sorted(result.pools), dtype=int)
    if not len(rows) or not preset.inference.fallback:
        return found
    from paeplatform.inference.mclmc.chains import run_mclmc  # blackjax is for whoever samples chains

    samples = run_mclmc(
        posterior,
        sources.rows(rows),
        fallback_config(preset),
        n_latent=proposal.dim - 1,
        found=Found([result.pools[row] for row in rows], proposal),
        progress=progress.only_bar(),  # these galaxies were counted above
    )
    chains = of_chains(samples, posterior, n_kept, trust)
    # chains have no evidence of their own
    chains = replace(chains, log_evidence=result.log_evidence[rows])
    # Chains that got nowhere are no better than weighted draws that are not to be trusted: keep the latter.
    better = np.isfinite(chains.columns["pae_z_mean"])
    return _replaced(found, rows[better], _rows(chains, better))


def fallback_config(preset: Preset) -> MclmcConfig:
    """Settings of MCLMC for the few sources that importance sampling leaves."""
    cfg = preset.importance
    return preset.mclmc.model_copy(
        update={"batch_size": cfg.fallback_batch_size, "jump_every": cfg.fallback_jump_every}
    )


def by_mclmc(
    posterior: LogPosterior,
    proposal: Proposal | None,
    sources: Sources,
    preset: Preset,
    *,
    n_latent: int,
    landmarks: np.ndarray | None = None,
    progress: Progress = SHOWN,
) -> PosteriorSummaries:
    """MCLMC for every source; with a proposal, chains start from and jump to what importance sampling finds.

    Without one, without the NF prior, or with `mclmc.init_draws` at most `mclmc.n_chains` (the paper's settings),
    chains start as `run_mclmc` says.
    """
    n_kept, trust = preset.inference.n_kept, preset.trust
    found, log_evidence = None, np.full(len(sources), np.nan)
    usable = np.arange(len(sources))
    searching = preset.mclmc.init_draws > preset.mclmc.n_chains
    if proposal is not None and posterior.nf_prior and searching and len(sources):
        result = run_importance(
            posterior,
            proposal,
            sources,
            preset.importance,
            trust,
            keep_pools=True,
            landmarks=landmarks,
            progress=progress.only_bar(),  # galaxies are counted by their chains
        )
        log_evidence = result.log_evidence
        usable = np.asarray(sorted(result.pools), dtype=int)
        found = Found([result.pools[row] for row in usable], proposal)
    from paeplatform.inference.mclmc.chains import run_mclmc

    samples = run_mclmc(
        posterior,
        sources.rows(usable),
        preset.mclmc,
        n_latent=n_latent,
        landmarks=landmarks,
        found=found if len(usable) else None,
        progress=progress,
    )
    chains = replace(of_chains(samples, posterior, n_kept, trust), log_evidence=log_evidence[usable])
    if len(usable) == len(sources):
        return chains
    return _replaced(no_posteriors(len(sources), n_latent, n_kept), usable, chains)


def of_importance(result: ImportanceResult) -> PosteriorSummaries:
    """Findings of `run_importance`."""
    blank = np.full(len(result.ess), np.nan)
    return PosteriorSummaries(
        columns=result.columns,
        draws=result.draws,
        z_kept=result.draws.z,
        path=result.path.astype(object),
        converged=result.trusted,
        ess=result.ess,
        khat=result.khat,
        rhat=blank,
        acl=blank.copy(),
        log_evidence=result.log_evidence,
        n_draws=result.n_draws,
        n_reinit=np.zeros(len(blank), np.int16),
    )


def of_chains(
    samples: PosteriorSamples, posterior: LogPosterior, n_kept: int, trust: TrustConfig
) -> PosteriorSummaries:
    """Findings of `run_mclmc`."""
    n_source, n_chain = samples.z.shape[:2]
    limits = {"z_min": float(posterior.z_prior.z_min), "z_max": float(posterior.z_prior.z_max)}
    z = samples.z.reshape(n_source, -1)
    u = samples.u.reshape(n_source, -1, samples.u.shape[-1])
    log_prob = samples.log_prob[..., samples.keep_every - 1 :: samples.keep_every][..., : samples.u.shape[2]]
    weight = np.full(u.shape[:2], 1.0 / max(u.shape[1], 1), np.float32)
    ok = ~samples.failed
    rhat, acl, ess = np.full((3, n_source), np.nan)
    if ok.any():
        rhat[ok], acl[ok] = split_rhat(samples.z[ok]), autocorrelation_length(samples.z[ok])
        ess[ok] = effective_sample_size(samples.z[ok])
    draws = PosteriorDraws(u, samples.z_kept.reshape(n_source, -1), weight, log_prob.reshape(n_source, -1))
    kept = np.linspace(0, z.shape[1] - 1, n_kept).round().astype(int)
    return PosteriorSummaries(
        columns=redshift_columns(z, None, prefix="pae", **limits),
        draws=evenly(draws, n_kept),
        z_kept=z[:, kept],
        path=np.where(ok, "mclmc", "none").astype(object),
        converged=ok & (rhat < trust.rhat_max),
        ess=ess,
        khat=np.full(n_source, np.nan),
        rhat=rhat,
        acl=acl,
        log_evidence=np.full(n_source, np.nan),
        n_draws=np.full(n_source, samples.n_steps * n_chain),
        n_reinit=samples.n_reinit,
    )


def of_weighted_draws(
    draws: PosteriorDraws, posterior: LogPosterior, n_kept: int, path: str, trust: TrustConfig
) -> PosteriorSummaries:
    """Findings of a sampler that hands on weighted draws (pocoMC)."""
    limits = {"z_min": float(posterior.z_prior.z_min), "z_max": float(posterior.z_prior.z_max)}
    n_source = len(draws.z)
    ok = np.isfinite(draws.z).all(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ess = np.where(ok, draws.weight.sum(axis=1) ** 2 / (draws.weight**2).sum(axis=1), np.nan)
    kept = evenly(draws, n_kept)
    blank = np.full(n_source, np.nan)
    return PosteriorSummaries(
        columns=redshift_columns(draws.z, draws.weight, prefix="pae", **limits),
        draws=kept,
        z_kept=kept.z,
        path=np.where(ok, path, "none").astype(object),
        converged=ok & (ess >= trust.ess_min),
        ess=ess,
        khat=blank,
        rhat=blank.copy(),
        acl=blank.copy(),
        log_evidence=blank.copy(),
        n_draws=np.full(n_source, draws.z.shape[1]),
        n_reinit=np.zeros(n_source, np.int16),
    )


def evenly(draws: PosteriorDraws, n: int) -> PosteriorDraws:
    """`n` draws of equal weight for each source, by systematic resampling at fixed points."""
    cumulative = np.cumsum(np.nan_to_num(draws.weight.astype(np.float64)), axis=1)
    points = (np.arange(n) + 0.5) / n
    index = (
        np.stack(
            [
                np.minimum(np.searchsorted(row, points * row[-1], side="right"), draws.z.shape[1] - 1)
                for row in cumulative
            ]
        )
        if len(cumulative)
        else np.zeros((0, n), int)
    )
    rows = np.arange(len(index))[:, None]
    weight = np.full(index.shape, 1.0 / n, np.float32)
    return PosteriorDraws(draws.u[rows, index], draws.z[rows, index], weight, draws.log_prob[rows, index])


def widened(
    found: PosteriorSummaries,
    rows: Bool[np.ndarray, " source"],
    scale: Float[np.ndarray, " source"],
    z_prior: RedshiftPrior,
    prior_share: float,
) -> PosteriorSummaries:
    """The same with the redshifts of misfits: spread about their median by a factor, and partly those of the prior.

    In a fit whose chi^2 is too large, errors that are larger by the square root of chi^2 over its degrees of freedom
    make the result's error larger by the same factor (the scale factor of the Particle Data Group's averages). Applied
    to ln(1+z). But that factor knows only how badly the best model fits, and not that the right one may be missing
    altogether: the redshift is then that of another galaxy, at any distance. So a share of p(z) is the prior
    (docs/decisions/0030).

    The kept redshifts are quantiles of both parts, evenly in probability. The draws of (u, z) stay as they are: what
    the model predicts is what fits best. `pae_z_mode` and the remarks on the shape are those of the spread part: a
    single kernel for a narrow peak and the whole prior would smear the peak.

    Args:
        found: of a sampler.
        rows: whose redshifts change.
        scale: factor for each source.
        z_prior: whose limits end spread redshifts.
        prior_share: of p(z), 0 up to below 1.
    """
    if not rows.any():
        return found
    limits = float(z_prior.z_min), float(z_prior.z_max)
    log_z = np.log1p(found.z_kept[rows].astype(np.float64))
    middle = np.median(log_z, axis=1, keepdims=True)
    spread = np.clip(np.expm1(middle + np.asarray(scale)[rows, None] * (log_z - middle)), *limits)
    n = spread.shape[1]
    n_prior = min(round(prior_share * n), n - 1)
    z = spread
    if n_prior:
        of_prior = np.broadcast_to(z_prior.ppf((np.arange(n_prior) + 0.5) / n_prior), (len(z), n_prior))
        places = (np.arange(n - n_prior) + 0.5) / (n - n_prior)
        z = np.concatenate([np.quantile(spread, places, axis=1).T, of_prior], axis=1)
    columns = {name: np.array(values) for name, values in found.columns.items()}
    shape = ("pae_z_mode", "multimodal", "at_edge")
    for part, names in ((spread, shape), (z, tuple(name for name in columns if name not in shape))):
        wide = redshift_columns(part, None, prefix="pae", z_min=limits[0], z_max=limits[1])
        for name in names:
            columns[name][rows] = wide[name]
    z_kept = np.array(found.z_kept)
    z_kept[rows] = z
    return replace(found, columns=columns, z_kept=z_kept)


def no_posteriors(n_source: int, n_latent: int, n_kept: int) -> PosteriorSummaries:
    """Findings about sources of which nothing is known."""
    z = np.full((n_source, n_kept), np.nan, np.float32)
    columns = redshift_columns(z, None, prefix="pae", z_min=0.1, z_max=1.0)
    blank = np.full(n_source, np.nan)
    zeros = np.zeros(n_source, np.int32)
    u = np.full((n_source, n_kept, n_latent), np.nan, np.float32)
    return PosteriorSummaries(
        columns=columns,
        draws=PosteriorDraws(u, z, z.copy(), z.copy()),
        z_kept=z,
        path=np.full(n_source, "none", object),
        converged=np.zeros(n_source, bool),
        ess=blank,
        khat=blank.copy(),
        rhat=blank.copy(),
        acl=blank.copy(),
        log_evidence=blank.copy(),
        n_draws=zeros,
        n_reinit=zeros.copy(),
    )


def _rows(found: PosteriorSummaries, keep: np.ndarray) -> PosteriorSummaries:
    def chosen(value: object) -> object:
        if isinstance(value, dict):
            return {name: array[keep] for name, array in value.items()}
        if isinstance(value, PosteriorDraws):
            return PosteriorDraws(*(getattr(value, field.name)[keep] for field in fields(PosteriorDraws)))
        return np.asarray(value)[keep]

    return PosteriorSummaries(**{field.name: chosen(getattr(found, field.name)) for field in fields(found)})


def _replaced(found: PosteriorSummaries, rows: np.ndarray, by: PosteriorSummaries) -> PosteriorSummaries:
    """`found` with these rows taken from `by`, in whose order they are."""

    def put(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        out = np.array(old)
        out[rows] = new
        return out

    arrays = {
        field.name: put(getattr(found, field.name), getattr(by, field.name))
        for field in fields(found)
        if field.name not in ("columns", "draws")
    }
    draws = PosteriorDraws(
        *(put(getattr(found.draws, f.name), getattr(by.draws, f.name)) for f in fields(PosteriorDraws))
    )
    columns = {name: put(array, by.columns[name]) for name, array in found.columns.items()}
    return replace(found, columns=columns, draws=draws, **arrays)
