"""The report's figures, drawn from stored tables and from the plots kept beside the models."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from paeplatform.config import Preset

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from paeplatform.instrument.bands import BandSet
    from paeplatform.sed.library import TemplateLibrary

KEPT_PLOTS = (
    ("autoencoder", ("reconstruction_error", "example_spectra")),
    ("latent_flow", ("latent_distributions",)),
    ("posterior_proposal", ("proposal_recovery",)),
)


def redshift_figures(preset: Preset, catalog: pl.DataFrame, metrics: pl.DataFrame) -> dict[str, "Figure"]:
    """Recovery, errors, calibration, convergence and goodness of fit of a catalogue with truth."""
    from paeplatform.figures import redshift as figures
    from paeplatform.inference.results.summaries import QUANTILE_LEVELS
    from paeplatform.scores.calibration import ks_distance_to_uniform, pit_coverage, reduced_chi2, summed_over
    from paeplatform.scores.scorecard import source_columns

    names = ("z_true", "pae_z_mean", "pae_z_std", "pae_chi2", summed_over(catalog))
    z_true, z_hat, sigma_z, chi2, n_terms = (catalog[name].to_numpy() for name in names)
    scores = source_columns(z_hat, sigma_z, z_true, catalog["pae_z_quantiles"].to_numpy(), QUANTILE_LEVELS)
    pit = scores["pit"]
    return {
        "redshift_recovery": figures.redshift_recovery(
            z_true, z_hat, sigma_z, metrics, z_max=preset.prior.z_max
        ),
        "redshift_errors": figures.redshift_errors(scores["error_true"], scores["z_score"]),
        "pit": figures.pit_histogram(
            pit, QUANTILE_LEVELS, pit_coverage(pit, QUANTILE_LEVELS), ks_distance_to_uniform(pit)
        ),
        "convergence": figures.convergence(
            *(catalog[f"pae_{name}"].to_numpy() for name in ("rhat", "acl", "khat", "ess")),
            trust=preset.trust,
        ),
        "chi2": figures.chi2_distribution(reduced_chi2(chi2, n_terms, preset.pae.n_latent)),
    }


def model_numbers(folder: Path) -> dict[str, Any]:
    """The numbers kept beside a model's weights when it was trained."""
    return json.loads((folder / "record.json").read_text())["metrics"]


def model_figures(folders: Mapping[str, Path]) -> dict[str, "Figure | bytes"]:
    """Plots made when autoencoder, latent_flow and posterior_proposal were trained, and all training curves in one."""
    from paeplatform.figures.models import training_curves

    kept = {
        name: (folders[model] / f"{name}.png").read_bytes() for model, names in KEPT_PLOTS for name in names
    }
    records = {name: json.loads((folder / "record.json").read_text()) for name, folder in folders.items()}
    return kept | {
        "training_curves": training_curves(
            {name: record["history"] for name, record in records.items()},
            {name: record["metrics"]["best_epoch"] for name, record in records.items()},
        )
    }


def data_figures(
    preset: Preset,
    library: "TemplateLibrary",
    bands: "BandSet",
    mock_catalog: pl.LazyFrame,
    redshift_prior: pl.DataFrame,
    mock_photometry: pl.DataFrame,
) -> dict[str, "Figure"]:
    """N(z) with its fit, templates, depths and some photometry."""
    from paeplatform.figures import data as figures

    return {
        "redshift_distribution": prior_figure(preset, mock_catalog, redshift_prior),
        "template_overview": figures.template_overview(library.wave, library.flux, library.source),
        "band_depths": depths_figure(bands),
        "photometry_examples": photometry_figure(bands, mock_photometry),
    }


def depths_figure(bands: "BandSet") -> "Figure":
    """The depth of each channel, as expected and as reached."""
    from paeplatform.figures.data import band_depths

    depths = {"maximum expected value": bands.depth("mev"), "in flight": bands.depth("inflight")}
    return band_depths(bands.wave_um, depths, bands.detector, bands.bandwidth_um)


def prior_figure(preset: Preset, mock_catalog: pl.LazyFrame, redshift_prior: pl.DataFrame) -> "Figure":
    """N(z) of the sources as bright as a release's, with eq. 7 as fitted to them."""
    import numpy as np

    from paeplatform.catalog.redshift_prior import bpz_log_density
    from paeplatform.figures.data import redshift_distribution

    alpha, beta, gamma = redshift_prior.select("alpha", "beta", "gamma").row(0)
    z_max = preset.catalog.z_max
    z = bright_redshifts(preset, mock_catalog)
    nodes = np.linspace(0.005, z_max, 400)
    density = np.exp(bpz_log_density(nodes, alpha, beta, gamma, z_max))
    return redshift_distribution(z, nodes, density, f"fit: α {alpha:.2f}, β {beta:.2f}, γ {gamma:.2f}")


def bright_redshifts(preset: Preset, mock_catalog: pl.LazyFrame):
    """True redshifts (n,) of the catalogue's sources that are as bright as a release's."""
    bright = mock_catalog.filter(pl.col("mag_z") < preset.release.mag_z_max)
    return bright.select("z_true").collect()["z_true"].to_numpy()


def photometry_figure(bands: "BandSet", mock_photometry: pl.DataFrame) -> "Figure":
    """Four sources from the brightest to the faintest."""
    from paeplatform.figures.data import photometry_examples

    shown = mock_photometry.sort("snr", descending=True)[:: max(1, len(mock_photometry) // 4)].head(4)
    titles = [f"z = {z:.3f}, SNR {snr:.0f}" for z, snr in shown.select("z_true", "snr").iter_rows()]
    spectra = (shown[name].to_numpy() for name in ("flux", "flux_err", "flux_true"))
    return photometry_examples(bands.wave_um, *spectra, titles=titles)
