"""Measures a bundle on fresh mock sources that no part of the training has seen."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
from tqdm import tqdm

from paeplatform.catalog.mock import draw_mock_catalog
from paeplatform.catalog.photometry import mock_photometry
from paeplatform.config import Preset
from paeplatform.errors import InputError
from paeplatform.inference.estimate import Estimator
from paeplatform.instrument.bands import BandSet
from paeplatform.scores.metrics import require_columns
from paeplatform.scores.statistics import metric_table
from paeplatform.sed.library import TemplateLibrary

TRUTH_COLUMNS = ("z_true", "snr", "mag_z", "template", "galaxy_type", "dust_law", "ebv")
POINT_ESTIMATES = ("mean", "median", "mode")
_BATCH = 1024  # candidates whose photometry is made at a time


def evaluate_high_snr(
    estimator: Estimator,
    library: TemplateLibrary,
    *,
    n_sources: int = 200,
    min_snr: float = 50.0,
    seed: int | None = None,
    point_estimate: str = "mean",
    progress: bool = True,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Redshift metrics of well-detected sources (paper sections VI.1-VI.2).

    A catalogue is drawn with a seed of its own, so its galaxies and noise differ from those of training; the
    templates are the library's. Sources enter in catalogue order until `n_sources` are found, so the sample
    is not biased to the brightest.

    Args:
        estimator: the trained model with prior, bands and settings. Its preset also gives the sizes of the catalogue,
            the release's depth and the cuts of the metrics.
        library: the templates behind the mock galaxies.
        n_sources: at most so many sources; fewer when the catalogue has no more.
        min_snr: total signal-to-noise of the noisy photometry that a source must exceed.
        seed: of catalogue, noise and chains; None takes the preset's plus one million.
        point_estimate: which redshift of a posterior is judged, see `posterior_metrics`.
        progress: shows bars on stderr.

    Returns:
        (metric table, posteriors): the table of `metric_table` and, per source, the columns of
        `Estimator.estimate` with those of `TRUTH_COLUMNS`.

    Raises:
        InputError: n_sources under 1, the training seed, an unknown point estimate, or no source above `min_snr`.
    """
    preset, bands = estimator.preset, estimator.bands
    seed = preset.seed + 1_000_000 if seed is None else seed
    if n_sources < 1:
        raise InputError(f"n_sources {n_sources} must be at least 1")
    if seed == preset.seed:
        raise InputError(f"seed {seed} is the training catalogue's: give another one for fresh sources")
    _check_point_estimate(point_estimate)
    fresh = replace(estimator, preset=preset.model_copy(update={"seed": seed}))
    sources = draw_bright_sources(fresh.preset, library, bands, n_sources, min_snr, progress=progress)
    posteriors = fresh.estimate(
        *(sources[name].to_numpy() for name in ("flux", "flux_err", "object_id")), progress=progress
    )
    posteriors = join_truth(posteriors, sources)
    metrics = posterior_metrics(posteriors, preset, point_estimate=point_estimate, seed=seed)
    return metrics, posteriors


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
    posteriors_with_truth: pl.DataFrame,
    preset: Preset,
    *,
    point_estimate: str = "mean",
    seed: int | None = None,
) -> pl.DataFrame:
    """`metric_table` of a catalogue of posteriors, with the preset's cuts.

    Args:
        posteriors_with_truth: rows with `pae_z_<point_estimate>`, `pae_z_std` and `z_true`.
        preset: uses validation.sigma_cuts and validation.n_bootstrap.
        point_estimate: "mean" (the default: its partner is the standard deviation that sigma_z is), "median" or
            "mode".
        seed: of the bootstrap; None takes the preset's.

    Raises:
        InputError: unknown point estimate, or a missing column.
    """
    _check_point_estimate(point_estimate)
    needed = [f"pae_z_{point_estimate}", "pae_z_std", "z_true"]
    require_columns(posteriors_with_truth, needed, "posteriors with truth lack")
    z_hat, sigma_z, z_true = (posteriors_with_truth[name].cast(pl.Float64).to_numpy() for name in needed)
    cfg = preset.validation
    seed = preset.seed if seed is None else seed
    return metric_table(z_hat, sigma_z, z_true, cfg.sigma_cuts, n_bootstrap=cfg.n_bootstrap, seed=seed)


def _check_point_estimate(name: str) -> None:
    if name not in POINT_ESTIMATES:
        raise InputError(f"point estimate {name!r} must be one of {', '.join(POINT_ESTIMATES)}")
