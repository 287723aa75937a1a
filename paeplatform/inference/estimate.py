"""Photometry in, redshift posteriors out: the one call that assets, the served model and the command line make."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import polars as pl
from jaxtyping import Float

from paeplatform.config import Preset
from paeplatform.errors import BandSetError, ConfigError
from paeplatform.inference.forward_model import PaeForward, build_forward
from paeplatform.inference.mclmc import run_mclmc
from paeplatform.inference.posterior import LogPosterior
from paeplatform.inference.priors import RedshiftPrior
from paeplatform.inference.summaries import summarise
from paeplatform.instrument.bands import BandSet
from paeplatform.instrument.filters import FilterCurves
from paeplatform.instrument.noise import check_photometry
from paeplatform.pae.bundle import PaeBundle

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
    progress: bool = True,
    on_progress: Callable[[float], None] | None = None,
) -> pl.DataFrame:
    """Samples every source's posterior and summarises it.

    Args:
        bundle: trained PAE.
        z_prior: prior on z (`redshift_prior`).
        bands: the band set of the photometry; must be the one the bundle was trained for.
        filters: its curves.
        flux: [uJy]; negative values are legal.
        flux_err: 1 sigma [uJy]; not finite or not positive masks the band.
        object_id: (source,) distinct integers; with `preset.seed` they fix each source's random numbers, so
            neither the order of the rows nor the other sources change a result.
        preset: sections prior, mclmc and instrument are used.
        progress: shows a bar with galaxies per hour.
        on_progress: called with the number of galaxies done since the last call.

    Returns:
        The table of `summarise`, rows in the order given.

    Raises:
        BandSetError: shapes do not fit, a usable band has a flux that is not finite, or the bands are not the
        bundle's. ConfigError: object ids are not distinct integers, one for each source.
    """
    flux, flux_err, object_id = np.asarray(flux), np.asarray(flux_err), np.asarray(object_id)
    check_photometry(flux, flux_err, len(bands))
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
    forward = _forward(bundle, filters, float(z_prior.z_max), preset.instrument.n_redshift_nodes)
    posterior = LogPosterior(
        forward, z_prior, nf_prior=preset.prior.nf_prior, amplitude=preset.prior.amplitude
    )
    samples = run_mclmc(
        posterior,
        flux,
        flux_err,
        preset.mclmc,
        n_latent=bundle.n_latent,
        seed=preset.seed,
        object_id=object_id,
        landmarks=bundle.landmarks,
        progress=progress,
        on_progress=on_progress,
    )
    return summarise(object_id, samples, posterior, flux, flux_err)


def _forward(bundle: PaeBundle, filters: FilterCurves, z_max: float, n_nodes: int) -> PaeForward:
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
