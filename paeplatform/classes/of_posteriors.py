r"""The classes of sources whose posteriors as galaxies are known: the columns `class_*` beside those of the posterior.

The evidence of the galaxy is that of the classifier's own galaxies, the templates behind dust, where it has them
(`shared_classifier` does). The PAE can be anything between the templates, with any amount of hot dust: as a galaxy it
describes a third of the quasars too well to be told from them (docs/decisions/0032).

For a classifier without galaxies the evidence comes from importance sampling, whose weights have the evidence as their
mean (column `pae_log_evidence`). Two things differ between that number and what the other classes are held against. It
is of the measurements at their own wavelengths, where the classes read the channels; and its p(z) does not know how
bright the source is. Both are ratios at each draw of the posterior, whose mean corrects the evidence:

    ln Z = ln Z_fit + ln < L_channels / L_fit * p(z | m) / p(z) >
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
from jaxtyping import Array, Float
from scipy.special import logsumexp

from paeplatform.classes.classify import Classifier, GalaxyEvidence, Positions, classify
from paeplatform.classes.counts import galaxy_redshift_density, reference_magnitude
from paeplatform.classes.kept import kept_classifier
from paeplatform.config import TrustConfig
from paeplatform.inference.batches.programs import program
from paeplatform.inference.estimate import SourceGroup
from paeplatform.inference.model.draws import PosteriorDraws
from paeplatform.inference.model.posterior import LogPosterior, WhitenedPhotometry
from paeplatform.inference.results.predictive import thin_draws
from paeplatform.instrument.bands import BandSet
from paeplatform.source_columns import usable_sources

_shared: dict[str, Classifier] = {}  # by the hash of the channels
N_DRAWS = 64  # of a source, over which the ratios are averaged
SOURCES = 16  # of one compiled call, padded


def classified(
    classifier: Classifier,
    posterior: LogPosterior,
    table: pl.DataFrame,
    draws: PosteriorDraws,
    groups: Sequence[SourceGroup],
    *,
    positions: Positions | None = None,
    trust: TrustConfig,
) -> pl.DataFrame:
    """The columns of `classify` but object_id, rows in the order of the table; null without a usable band.

    For a classifier without galaxies they are null without a posterior too.

    Args:
        classifier: models of the other classes.
        posterior: that the draws are of.
        table: of the estimator; uses object_id and pae_log_evidence.
        draws: of the same sources, in the same order.
        groups: the same sources, as the estimator took them.
        positions: for the density of stars.
        trust: limits of a misfit.
    """
    n_source, n_band = table.height, len(classifier.bands)
    flux, flux_err = np.zeros((n_source, n_band)), np.full((n_source, n_band), np.inf)
    for group in groups:
        flux[group.rows], flux_err[group.rows] = group.sources.flux, group.sources.flux_err
    if "galaxy" in classifier.grids:
        found = classify(
            classifier, flux, flux_err, table["object_id"].to_numpy(), positions=positions, trust=trust
        )
        return found.drop("object_id")
    usable, _ = usable_sources(flux, flux_err)
    mag = reference_magnitude(flux, flux_err, usable, classifier.bands)
    log_evidence = table["pae_log_evidence"].cast(pl.Float64).fill_null(np.nan).to_numpy().copy()
    chi2 = np.full(n_source, np.nan)
    few = thin_draws(draws, N_DRAWS)
    for group in groups:
        known = group.rows[np.isfinite(few.z[group.rows]).all(axis=1) & np.isfinite(mag[group.rows])]
        place = np.searchsorted(group.rows, known)
        for first in range(0, len(known), SOURCES):
            rows, here = known[first : first + SOURCES], place[first : first + SOURCES]
            padded = np.resize(np.arange(len(rows)), SOURCES)
            photometry = group.sources.rows(here[padded]).whitened(posterior)
            found = _likelihoods(posterior, photometry, few.u[rows[padded]], few.z[rows[padded]])
            in_channels, fitted, each, log_p = (np.asarray(part, np.float64)[: len(rows)] for part in found)
            density = np.stack(
                [galaxy_redshift_density(z, mag[[row]])[0] for z, row in zip(few.z[rows], rows, strict=True)]
            )
            # weights are even: `thin_draws` of draws of equal weight
            ratio = in_channels - fitted + np.log(density) - log_p
            log_evidence[rows] += logsumexp(ratio, axis=1) - np.log(ratio.shape[1])
            chi2[rows] = each.min(axis=1)
    log_evidence[~np.isfinite(chi2)] = np.nan
    galaxy = GalaxyEvidence(log_evidence, chi2, draws.u.shape[-1] + 2)
    found = classify(
        classifier,
        flux,
        flux_err,
        table["object_id"].to_numpy(),
        galaxy=galaxy,
        positions=positions,
        trust=trust,
    )
    return found.drop("object_id")


def shared_classifier(bands: BandSet) -> Classifier:
    """The classifier of some channels, made once a process and kept in the cache of compiled programs, if any."""
    key = bands.content_hash()
    if key not in _shared:
        folder = jax.config.values["jax_compilation_cache_dir"]
        local = folder if folder and "://" not in folder else None
        _shared.clear()
        _shared[key] = kept_classifier(bands, None if local is None else Path(local))
    return _shared[key]


@program
def _likelihoods(
    posterior: LogPosterior, photometry: WhitenedPhotometry, u: Array, z: Array
) -> tuple[
    Float[Array, "source draw"],
    Float[Array, "source draw"],
    Float[Array, "source draw"],
    Float[Array, "source draw"],
]:
    """(ln L of the channels, ln L of what was fitted, chi^2 of the channels, ln p(z)) of each draw."""

    def one(photometry: WhitenedPhotometry, u: Array, z: Array) -> tuple:
        channels = photometry.in_channels
        log_like = posterior.log_likelihood_of(u, z, channels)
        fitted = log_like if photometry.channels is None else posterior.log_likelihood_of(u, z, photometry)
        chi2 = jnp.sum(posterior.residual(u, z, channels) ** 2)
        return log_like, fitted, chi2, posterior.z_prior.log_density(z)

    def source(photometry: WhitenedPhotometry, u: Array, z: Array) -> tuple:
        return jax.vmap(lambda u, z: one(photometry, u, z))(u, z)

    return jax.lax.map(lambda lane: source(*lane), (photometry, u, z))
