"""Posteriors of the validation sample under each choice of priors, and with PAEs of several latent sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from paeplatform.config import Preset
from paeplatform.inference.estimate import Estimator
from paeplatform.inference.model.draws import PosteriorDraws
from paeplatform.inference.model.priors import BpzPrior, prior_from_preset
from paeplatform.inference.results.reweight import reweight_table
from paeplatform.instrument.bands import BandSet
from paeplatform.instrument.filters import FilterCurves, gaussian_filters
from paeplatform.pae.bundle import PaeBundle
from paeplatform.paper.sample_scores import PRIOR_CHOICES

_FLAT_BETA = 3e7  # redshift, far beyond any
Photometry = tuple[
    np.ndarray, np.ndarray, np.ndarray
]  # flux, flux_err [uJy] (source, band), object_id (source,)


def estimator_under(
    choice: str,
    bundle: PaeBundle,
    preset: Preset,
    bpz: Mapping[str, Any],
    bands: BandSet,
    filters: FilterCurves | None = None,
) -> Estimator:
    """A bundle with one of `PRIOR_CHOICES`, ready to answer.

    Args:
        choice: of priors.
        bundle: trained PAE.
        preset: all but the prior's choice is taken from it.
        bpz: alpha, beta and gamma of p_BPZ(z).
        bands: of the photometry.
        filters: their curves; None takes the Gaussian ones.
    """
    nf_prior, redshift = PRIOR_CHOICES[choice]
    prior = preset.prior.model_copy(update={"nf_prior": nf_prior, "redshift": redshift})
    uniform = redshift == "uniform"
    z_prior = uniform_prior(prior.z_min, prior.z_max) if uniform else prior_from_preset(prior, bpz)
    return Estimator(
        bundle,
        z_prior,
        bands,
        gaussian_filters(bands) if filters is None else filters,
        preset.model_copy(update={"prior": prior}),
    )


def posteriors_under(estimator: Estimator, photometry: Photometry, *, progress: bool = True) -> pl.DataFrame:
    """Posteriors under one choice of priors.

    Args:
        estimator: of `estimator_under`. Without an NF prior it samples by MCLMC whatever its method. Chains that are
            asked for, or are the only way, start as the paper's do (`chains_as_in_the_paper`).
        photometry: flux, flux_err and object_id.
        progress: shows a bar.

    Returns:
        The table of `Estimator.estimate` with pae_rho_uz, an array: correlation of z with each u_i (section VI.3.1).
    """
    if estimator.method == "mclmc" or not estimator.preset.prior.nf_prior:
        estimator = replace(estimator, preset=chains_as_in_the_paper(estimator.preset))
    table, draws = estimator.estimate_with_draws(*photometry, progress=progress)
    rho = latent_correlations(draws).astype(np.float32)
    column = pl.Series("pae_rho_uz", rho.tolist(), dtype=pl.Array(pl.Float32, rho.shape[1]))
    known = pl.Series(np.isfinite(rho).all(axis=1))
    return table.with_columns(pl.when(known).then(column).alias("pae_rho_uz"))


def posteriors_without_nf_prior(
    uniform: Estimator, bpz: Estimator, photometry: Photometry, *, progress: bool = True
) -> dict[str, pl.DataFrame]:
    """Both configurations without a prior on u, from one set of Markov chains.

    Chains sample the uniform prior on z; their draws are moved to p_BPZ by weights, which is safe in this direction:
    the uniform prior leaves no redshift out. Sources whose weights leave too few draws are sampled again.

    Args:
        uniform: the estimator under "free_uniform".
        bpz: the one under "free_bpz".
        photometry: flux, flux_err and object_id.
        progress: shows bars.

    Returns:
        Tables of `posteriors_under` for "free_uniform" and "free_bpz". The second has no R-hat nor autocorrelation
        length: its draws are of no chain of their own.
    """
    sampled = posteriors_under(uniform, photometry, progress=progress)
    moved = reweight_table(sampled, uniform.z_prior, bpz.z_prior, trust=bpz.preset.trust)
    failed = (moved["pae_status"] == "failed").to_numpy()
    again = ~moved["pae_reweight_allowed"].to_numpy() & ~failed
    moved = moved.drop("pae_reweight_allowed", "pae_reweight_ess", "prior_id")
    if again.any():
        flux, flux_err, object_id = photometry
        renewed = posteriors_under(bpz, (flux[again], flux_err[again], object_id[again]), progress=progress)
        place = pl.Series("_place", np.concatenate([np.flatnonzero(~again), np.flatnonzero(again)]))
        stacked = pl.concat([moved.filter(pl.Series(~again)), renewed.select(moved.columns)])
        moved = stacked.with_columns(place).sort("_place").drop("_place")
    blank = pl.lit(None, pl.Float32)
    return {
        "free_uniform": sampled,
        "free_bpz": moved.with_columns(blank.alias("pae_rhat"), blank.alias("pae_acl")),
    }


def chains_as_in_the_paper(preset: Preset) -> Preset:
    """Chains that start from prior draws and do not jump (section IV.2.1), so that their convergence can be set beside
    the paper's; those of the catalogue search for starts first.
    """
    return preset.model_copy(
        update={"mclmc": preset.mclmc.model_copy(update={"init_draws": preset.mclmc.n_chains})}
    )


def uniform_prior(z_min: float, z_max: float) -> BpzPrior:
    """A uniform prior as the limit of p_BPZ for alpha = 0 and large beta: flat to one part in 1e7.

    Being of the same class with other numbers, it needs no compilation of its own beside the fitted prior's.
    """
    return BpzPrior(0.0, _FLAT_BETA, 1.0, z_min, z_max)


def latent_correlations(draws: PosteriorDraws) -> Float[np.ndarray, "source latent"]:
    """Pearson's correlation of z with each u_i over a source's weighted draws (section VI.3.1); NaN without draws."""
    weight = draws.weight.astype(np.float64)[..., None]
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = weight / weight.sum(axis=1, keepdims=True)
        u, z = draws.u.astype(np.float64), draws.z.astype(np.float64)[..., None]
        du, dz = u - (weight * u).sum(axis=1, keepdims=True), z - (weight * z).sum(axis=1, keepdims=True)
        spread = np.sqrt((weight * du**2).sum(axis=1) * (weight * dz**2).sum(axis=1))
        return (weight * du * dz).sum(axis=1) / spread
