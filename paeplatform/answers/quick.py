"""Redshifts of own data in one call, without Dagster or MLflow: `paeplatform.estimate` and `paeplatform.ask`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from paeplatform.answers.asking import Answers, Corrections, answer
from paeplatform.config import Preset, load_preset
from paeplatform.errors import InputError
from paeplatform.inference.batches.runtime import start_jax, user_cache
from paeplatform.inference.estimate import Estimator
from paeplatform.inference.model.priors import RedshiftPrior, UniformPrior, prior_from_preset
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.filters import gaussian_filters
from paeplatform.intake.sources import ReadingOptions, UserSources, read_sources
from paeplatform.reference.shipped import REFERENCE, reference_bundle, reference_prior

if TYPE_CHECKING:
    from paeplatform.pae.bundle import PaeBundle

Files = str | Path | Sequence[str | Path]
PRIORS = ("bpz", "uniform")
SHIPPED = "the reference model that ships with paeplatform"  # as answers call it


def estimate(
    photometry: Files | UserSources | tuple[np.ndarray, np.ndarray],
    *,
    object_id: np.ndarray | None = None,
    progress: bool = True,
    **options: Any,
) -> pl.DataFrame:
    """Redshift posteriors of SPHEREx measurements, a row a source.

    Args:
        photometry: a file of measurements or several, of any layout that `intake` reads; or sources that were read; or
            (flux, flux_err), both (source, 102) [uJy], of sources in the 102 channels: negative values are legal, an
            error that is infinite or NaN masks a band.
        object_id: (source,) distinct integers that fix each source's random numbers, with (flux, flux_err) only; row
            numbers when not given.
        progress: shows a bar.
        options: of `ask`.

    Returns:
        A Polars frame: for files the table of `Answers`; for channels that of `Estimator.estimate`. Pandas takes it by
        `.to_pandas()`, astropy by `Table.from_df`.

    Raises:
        InputError: a file, a source or an option is at fault; one line.
        CheckpointError: the bundle is not sound.
    """
    if not isinstance(photometry, tuple):
        if object_id is not None:
            raise InputError("object_id goes with (flux, flux_err): files have ids of their own")
        return ask(photometry, progress=progress, **options).table
    flux, flux_err = photometry
    of_model = {
        key: options.pop(key) for key in ("bundle", "preset", "prior", "method", "chains") if key in options
    }
    if options:
        raise InputError(f"{', '.join(options)}: only for files of measurements at their own wavelengths")
    model = estimator_of(**of_model)
    identity = np.arange(len(flux)) if object_id is None else object_id
    return model.estimate(flux, flux_err, identity, progress=progress)


def ask(
    photometry: Files | UserSources,
    *,
    bundle: str | Path | None = None,
    preset: str | Preset = REFERENCE,
    prior: str | RedshiftPrior = "bpz",
    method: str | None = None,
    chains: bool = False,
    columns: Mapping[str, str] | None = None,
    unit: str | None = None,
    match_radius_arcsec: float = 1.0,
    flag_policy: str = "tool",
    ebv_mw: float | None = None,
    error_floor: float = 0.0,
    confusion_ujy: float = 0.0,
    progress: bool = True,
) -> Answers:
    """As `estimate` for measurements at their own wavelengths, with what there is beside the table: the sentences of a
    source, its card, and the page.

    Args:
        photometry: see `estimate`.
        bundle: folder of a trained bundle; None takes the model that ships with the package.
        preset: name or settings; seed and the sections of inference are used.
        prior: p(z): "bpz", as it was fitted for the model that ships, "uniform", or a prior.
        method: "importance", "mclmc" or "pocomc"; None takes the preset's.
        chains: MCLMC for the sources that importance sampling cannot be trusted for. Compiling it takes most of a
            minute, and few sources need it.
        columns: the file's name of a column by ours, where it is none of the usual ones: {"flux": "F_total"}.
        unit: of the fluxes, where the file does not say.
        match_radius_arcsec: rows within it are one source, where there are neither ids nor names.
        flag_policy: which flagged measurements are set aside: "tool" or "strict" (`release.flags.reject_mask`).
        ebv_mw: E(B-V) of the Milky Way for all sources; None takes a column ebv_mw of the file.
        error_floor: [per cent of the flux] added to the errors in quadrature.
        confusion_ujy: confusion noise [uJy] of a deep field, added to the errors in quadrature.
        progress: shows a bar.

    Raises:
        InputError: a file, a source or an option is at fault; one line.
        CheckpointError: the bundle is not sound.
    """
    corrections = Corrections(ebv_mw, error_floor, confusion_ujy)
    if isinstance(photometry, UserSources):
        sources = photometry
    else:
        files = [photometry] if isinstance(photometry, str | Path) else list(photometry)
        reading = ReadingOptions(dict(columns or {}), unit, match_radius_arcsec, flag_policy)
        sources = read_sources([Path(file) for file in files], reading)
    model = estimator_of(bundle=bundle, preset=preset, prior=prior, method=method, chains=chains)
    name = SHIPPED if bundle is None else str(bundle)
    return answer(sources, model, model=name, corrections=corrections, progress=progress)


def estimator_of(
    *,
    bundle: str | Path | PaeBundle | None = None,
    preset: str | Preset = REFERENCE,
    prior: str | RedshiftPrior = "bpz",
    method: str | None = None,
    chains: bool = False,
) -> Estimator:
    """An estimator in the survey's bands, in a process that is made ready for heavy work; arguments as of `ask`.

    Raises:
        InputError: the prior is unknown.
        CheckpointError: the bundle is not sound.
    """
    start_jax(user_cache())
    settings = load_preset(preset) if isinstance(preset, str) else preset
    inference = settings.inference.model_copy(update={"fallback": chains})
    settings = settings.model_copy(update={"inference": inference})
    if bundle is None:
        model = reference_bundle()
    elif isinstance(bundle, str | Path):
        from paeplatform.pae.bundle import load_bundle

        model = load_bundle(Path(bundle))
    else:
        model = bundle
    bands = load_bands()
    return Estimator(model, _prior(prior, settings), bands, gaussian_filters(bands), settings, method)


def _prior(prior: str | RedshiftPrior, preset: Preset) -> RedshiftPrior:
    if not isinstance(prior, str):
        return prior
    if prior not in PRIORS:
        raise InputError(
            f"prior {prior!r} must be {' or '.join(PRIORS)}, or a prior of inference.model.priors"
        )
    if prior == "uniform":
        return UniformPrior(preset.prior.z_min, preset.prior.z_max)
    section = preset.prior.model_copy(update={"redshift": "bpz"})
    return prior_from_preset(section, reference_prior())
