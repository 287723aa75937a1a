"""Measures a bundle on fresh mock sources that no part of the training has seen."""

from __future__ import annotations

import polars as pl
from tqdm import tqdm

from paeplatform.catalog.mock import draw_mock_catalog
from paeplatform.catalog.photometry import mock_photometry
from paeplatform.config import Preset
from paeplatform.errors import InputError
from paeplatform.inference.estimate import estimate_photoz
from paeplatform.inference.priors import RedshiftPrior
from paeplatform.instrument.bands import BandSet
from paeplatform.instrument.filters import FilterCurves, gaussian_filters
from paeplatform.pae.bundle import PaeBundle
from paeplatform.sed.library import TemplateLibrary
from paeplatform.validation.metrics import metric_table

TRUTH_COLUMNS = ("z_true", "snr", "mag_z", "template", "galaxy_type", "dust_law", "ebv")
ESTIMATORS = ("mean", "median", "mode")
_BATCH = 1024  # candidates whose photometry is made at a time


def evaluate_high_snr(
    bundle: PaeBundle,
    preset: Preset,
    library: TemplateLibrary,
    bands: BandSet,
    z_prior: RedshiftPrior,
    *,
    n_sources: int = 200,
    min_snr: float = 50.0,
    seed: int | None = None,
    filters: FilterCurves | None = None,
    estimator: str = "mean",
    progress: bool = True,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Redshift metrics of well-detected sources (paper sections VI.1-VI.2).

    A catalogue is drawn with a seed of its own, so its galaxies and noise differ from those of training; the
    templates are the library's. Sources enter in catalogue order until `n_sources` are found, so the sample
    is not biased to the brightest.

    Args:
        bundle: the trained model.
        preset: sizes, prior limits, sampler settings, release depth and metric cuts.
        library: the templates behind the mock galaxies.
        bands: channels and depths.
        z_prior: redshift prior of the posterior.
        n_sources: at most so many sources; fewer when the catalogue has no more.
        min_snr: total signal-to-noise of the noisy photometry that a source must exceed.
        seed: of catalogue, noise and chains; None takes the preset's plus one million.
        filters: transmission curves; None takes the Gaussian ones of `bands`.
        estimator: which point estimate is judged, see `posterior_metrics`.
        progress: shows bars on stderr.

    Returns:
        (metric table, posteriors): the table of `metric_table` and, per source, the columns of
        `estimate_photoz` with those of `TRUTH_COLUMNS`.

    Raises:
        InputError: n_sources under 1, the training seed, an unknown estimator, or no source above `min_snr`.
    """
    seed = preset.seed + 1_000_000 if seed is None else seed
    if n_sources < 1:
        raise InputError(f"n_sources {n_sources} must be at least 1")
    if seed == preset.seed:
        raise InputError(f"seed {seed} is the training catalogue's: give another one for fresh sources")
    _check_estimator(estimator)
    fresh = preset.model_copy(update={"seed": seed})
    sources = draw_bright_sources(fresh, library, bands, n_sources, min_snr, progress=progress)
    posteriors = estimate_photoz(
        bundle,
        z_prior,
        bands,
        filters if filters is not None else gaussian_filters(bands),
        sources["flux"].to_numpy(),
        sources["flux_err"].to_numpy(),
        sources["object_id"].to_numpy(),
        fresh,
        progress=progress,
    )
    posteriors = join_truth(posteriors, sources)
    return posterior_metrics(posteriors, preset, estimator=estimator, seed=seed), posteriors


def draw_bright_sources(
    preset: Preset,
    library: TemplateLibrary,
    bands: BandSet,
    n_sources: int,
    min_snr: float,
    progress: bool = True,
) -> pl.DataFrame:
    """The first `n_sources` rows of the preset's catalogue, with photometry, that are bright and well
    detected.

    Returns:
        Rows of `mock_photometry` with mag_z < release.mag_z_max and snr > min_snr.

    Raises:
        InputError: there is none; the message names the highest SNR that occurred.
    """
    catalog = draw_mock_catalog(preset, library)
    candidates = catalog.filter(pl.col("mag_z") < preset.release.mag_z_max)
    found: list[pl.DataFrame] = []
    n_found, best_snr = 0, 0.0
    with tqdm(total=n_sources, desc="sources", unit="source", disable=not progress) as bar:
        for start in range(0, candidates.height, _BATCH):
            rows = mock_photometry(preset, library, bands, candidates[start : start + _BATCH], preset.seed)
            best_snr = max(best_snr, float(rows["snr"].to_numpy().max(initial=0.0)))
            bright = rows.filter(pl.col("snr") > min_snr).head(n_sources - n_found)
            found.append(bright)
            n_found += bright.height
            bar.update(bright.height)
            if n_found >= n_sources:
                break
    if n_found == 0:
        raise InputError(
            f"no source of {candidates.height} with mag_z < {preset.release.mag_z_max:g} has a total SNR "
            f"above {min_snr:g}; the highest is {best_snr:.1f}"
        )
    return pl.concat(found)


def join_truth(posteriors: pl.DataFrame, sources: pl.DataFrame) -> pl.DataFrame:
    """Posteriors with the truth of their sources, by object_id, in the order of the posteriors.

    Columns of `TRUTH_COLUMNS` that `sources` does not have are left out, all but z_true.

    Raises:
        InputError: `sources` has no z_true, an object_id twice, or lacks a source of the posteriors.
    """
    if "z_true" not in sources.columns or "object_id" not in sources.columns:
        raise InputError(f"truth table lacks object_id or z_true; it has {sources.columns}")
    if sources["object_id"].is_duplicated().any():
        raise InputError("truth table has an object_id more than once")
    columns = [name for name in TRUTH_COLUMNS if name in sources.columns and name not in posteriors.columns]
    joined = posteriors.join(
        sources.select("object_id", *columns), on="object_id", how="left", maintain_order="left"
    )
    unknown = joined.filter(pl.col("z_true").is_null())["object_id"].to_list()
    if unknown:
        raise InputError(f"{len(unknown)} sources have no truth, the first is object_id {unknown[0]}")
    return joined


def posterior_metrics(
    posteriors_with_truth: pl.DataFrame, preset: Preset, *, estimator: str = "mean", seed: int | None = None
) -> pl.DataFrame:
    """`metric_table` of a catalogue of posteriors, with the preset's cuts.

    Args:
        posteriors_with_truth: rows with `pae_z_<estimator>`, `pae_z_std` and `z_true`.
        preset: uses validation.sigma_cuts and validation.n_bootstrap.
        estimator: "mean" (the default: its partner is the standard deviation that sigma_z is), "median" or
            "mode".
        seed: of the bootstrap; None takes the preset's.

    Raises:
        InputError: unknown estimator, or a missing column.
    """
    _check_estimator(estimator)
    needed = [f"pae_z_{estimator}", "pae_z_std", "z_true"]
    missing = [name for name in needed if name not in posteriors_with_truth.columns]
    if missing:
        raise InputError(f"posteriors with truth lack columns {missing}")
    z_hat, sigma_z, z_true = (posteriors_with_truth[name].cast(pl.Float64).to_numpy() for name in needed)
    cfg = preset.validation
    seed = preset.seed if seed is None else seed
    return metric_table(z_hat, sigma_z, z_true, cfg.sigma_cuts, n_bootstrap=cfg.n_bootstrap, seed=seed)


def _check_estimator(estimator: str) -> None:
    if estimator not in ESTIMATORS:
        raise InputError(f"estimator {estimator!r} must be one of {', '.join(ESTIMATORS)}")
