"""Photometry in, redshift posteriors out: the one call that assets, the served model and the command line make."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import polars as pl
from jaxtyping import Float

from paeplatform.config import Preset
from paeplatform.errors import BandSetError, ConfigError
from paeplatform.inference.draws import PosteriorDraws
from paeplatform.inference.forward_model import PaeForward, build_forward
from paeplatform.inference.pocomc import run_pocomc
from paeplatform.inference.posterior import LogPosterior
from paeplatform.inference.priors import RedshiftPrior
from paeplatform.inference.samplers import by_importance, by_mclmc, of_weighted_draws
from paeplatform.inference.screening import Screened, screen
from paeplatform.inference.summaries import PosteriorSummaries, summarise
from paeplatform.instrument.bands import BandSet
from paeplatform.instrument.filters import FilterCurves
from paeplatform.pae.bundle import PaeBundle
from paeplatform.pae.proposal import Proposal

METHODS = ("importance", "mclmc", "pocomc")
_KEPT_FORWARDS = 2
_forwards: OrderedDict[tuple, tuple[PaeBundle, FilterCurves, PaeForward]] = OrderedDict()


def estimate_photoz(
    bundle: PaeBundle,
    z_prior: RedshiftPrior,
    bands: BandSet,
    filters: FilterCurves,
    flux: Float[np.ndarray, "source band"],
    flux_err: Float[np.ndarray, "source band"],
    object_id: np.ndarray,
    preset: Preset,
    *,
    method: str | None = None,
    progress: bool = True,
    on_progress: Callable[[float], None] | None = None,
) -> pl.DataFrame:
    """Every source's posterior, summarised.

    Bad numbers in a source's photometry are masked and said (`screening`); a source that is left without a band gets a
    row of nulls. Neither touches another source.

    Args:
        bundle: trained PAE.
        z_prior: prior on z (`redshift_prior`).
        bands: the band set of the photometry; must be the one the bundle was trained for.
        filters: its curves.
        flux: [uJy]; negative values are legal.
        flux_err: 1 sigma [uJy]; infinite or NaN masks the band.
        object_id: (source,) distinct integers; with `preset.seed` they fix each source's random numbers, so
            neither the order of the rows nor the other sources change a result.
        preset: sections prior, inference, importance, mclmc and instrument are used.
        method: one of `METHODS`; None takes `preset.inference.method`. "importance" needs a bundle with a
            proposal that covers the prior's redshifts, and the NF prior; where one is missing, MCLMC takes its place.
        progress: shows a bar with galaxies per hour.
        on_progress: called with the number of galaxies done since the last call.

    Returns:
        The table of `summarise`, rows in the order given.

    Raises:
        BandSetError: shapes do not fit, or the bands are not the bundle's.
        ConfigError: object ids are not distinct integers, one for each source, or the method is unknown.
    """
    table, _ = estimate_with_draws(
        bundle,
        z_prior,
        bands,
        filters,
        flux,
        flux_err,
        object_id,
        preset,
        method=method,
        progress=progress,
        on_progress=on_progress,
    )
    return table


def estimate_with_draws(
    bundle: PaeBundle,
    z_prior: RedshiftPrior,
    bands: BandSet,
    filters: FilterCurves,
    flux: Float[np.ndarray, "source band"],
    flux_err: Float[np.ndarray, "source band"],
    object_id: np.ndarray,
    preset: Preset,
    *,
    method: str | None = None,
    progress: bool = True,
    on_progress: Callable[[float], None] | None = None,
) -> tuple[pl.DataFrame, PosteriorDraws]:
    """As `estimate_photoz`, with the kept draws over (u, z) of each source, in the same order."""
    flux, flux_err, object_id = np.asarray(flux), np.asarray(flux_err), np.asarray(object_id)
    method = preset.inference.method if method is None else method
    if method not in METHODS:
        raise ConfigError(f"inference method {method!r} must be one of {', '.join(METHODS)}")
    screened = screen(flux, flux_err, len(bands))
    if bundle.band_hash and bundle.band_hash != bands.content_hash():
        raise BandSetError(
            f"band set {bands.content_hash()} is not the one this model was trained for ({bundle.band_hash}); "
            "give that band set or train a new model"
        )
    if object_id.shape != (len(flux),) or not np.issubdtype(object_id.dtype, np.integer):
        raise ConfigError(
            f"object_id {object_id.shape} {object_id.dtype} must be {len(flux)} integers, one a source"
        )
    if len(np.unique(object_id)) != len(object_id):
        raise ConfigError(
            f"object_id: {len(object_id) - len(np.unique(object_id))} ids occur twice; they must be distinct"
        )
    forward = shared_forward(bundle, filters, float(z_prior.z_max), preset.instrument.n_redshift_nodes)
    posterior = LogPosterior(
        forward, z_prior, nf_prior=preset.prior.nf_prior, amplitude=preset.prior.amplitude
    )
    found = _sampled(method, bundle, posterior, screened, object_id, preset, progress, on_progress)
    table = summarise(object_id, found, posterior, screened.flux, screened.flux_err, screened.reason)
    return table, found.draws


def _sampled(
    method: str,
    bundle: PaeBundle,
    posterior: LogPosterior,
    screened: Screened,
    object_id: np.ndarray,
    preset: Preset,
    progress: bool,
    on_progress: Callable[[float], None] | None,
) -> PosteriorSummaries:
    proposal = bundle.proposal if covers(bundle.proposal, posterior.z_prior) else None
    data = screened.flux, screened.flux_err, object_id
    shown = {"progress": progress, "on_progress": on_progress}
    if method == "pocomc":
        run = run_pocomc(
            posterior,
            *data[:2],
            n_latent=bundle.n_latent,
            seed=preset.seed,
            object_id=object_id,
            progress=progress,
        )
        return of_weighted_draws(run.draws, posterior, preset.inference.n_kept, "pocomc")
    if method == "importance" and proposal is not None and posterior.nf_prior:
        return by_importance(posterior, proposal, *data, preset, **shown)
    return by_mclmc(
        posterior,
        proposal,
        *data,
        preset,
        n_latent=bundle.n_latent,
        landmarks=bundle.landmarks,
        **shown,
    )


def covers(proposal: Proposal | None, z_prior: RedshiftPrior) -> bool:
    """Whether a proposal's draws reach all redshifts of a prior; without that, importance sampling is blind to some."""
    if proposal is None:
        return False
    low, high = np.asarray(proposal.log_z_limits, dtype=np.float64)
    slack = 1e-5  # float32 of the limits
    return bool(np.log(z_prior.z_min) > low - slack and np.log(z_prior.z_max) < high + slack)


def shared_forward(bundle: PaeBundle, filters: FilterCurves, z_max: float, n_nodes: int) -> PaeForward:
    """`build_forward`, kept for the last few bundles: partitions of one run share it.

    Compiled programs need no keeping: the forward model enters them as an argument, so other weights hit JAX's
    own cache.
    """
    key = (id(bundle), id(filters), z_max, n_nodes)
    if key not in _forwards:
        # bundle and filters are held with the entry, so that their ids stay theirs
        _forwards[key] = (bundle, filters, build_forward(bundle, filters, z_max, n_nodes))
        while len(_forwards) > _KEPT_FORWARDS:
            _forwards.popitem(last=False)
    _forwards.move_to_end(key)
    return _forwards[key][2]
