"""All result figures of the paper from the platform's tables, by name, and their files.

Fig. 1 is a sketch. Fig. 4 is drawn when a flow is trained and kept beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from paeplatform.config import Preset
from paeplatform.figures import calibration as figures_calibration
from paeplatform.figures import examples as figures_examples
from paeplatform.figures import methods as figures_methods
from paeplatform.figures.redshift import chi2_distribution
from paeplatform.figures.style import figure_pdf, figure_png
from paeplatform.files import write_whole
from paeplatform.paper.sample_scores import FIDUCIAL, of_methods

DPI = 100  # of the PNG: small enough for Dagster's event log; the PDF is for print


def draw_paper_figures(
    scores: pl.LazyFrame,
    tables: Mapping[str, pl.DataFrame],
    spectra: Mapping[int, pl.DataFrame],
    examples: pl.DataFrame,
    profiles: pl.DataFrame,
    ranks: pl.DataFrame,
    wave: np.ndarray,
    preset: Preset,
) -> dict[str, Figure]:
    """The figures by name, `fig<number>_<what>`, in order.

    Args:
        scores: the score table.
        tables: of `TABLES`, "table_latent_norms" and "table_ranks", by name.
        spectra: of asset `held_out_spectra`, by n_latent.
        examples: of `example_table`.
        profiles: of `profile_table`; without rows there is no Fig. 16.
        ranks: of `rank_table`.
        wave: band centres [um].
        preset: names the size of the PAE behind the scores, the prior's range, and the seed of the draw of sources in
            Fig. 10.
    """
    n_latent, z_max, seed = preset.pae.n_latent, preset.prior.z_max, preset.seed
    fiducial = of_methods(scores, FIDUCIAL).select("chi2_reduced").collect()["chi2_reduced"].to_numpy()
    drawn = {
        "fig03_reconstruction": figures_calibration.reconstruction_by_size(spectra),
        "fig05_latent_norms": figures_calibration.latent_norms(
            spectra[n_latent], tables["table_latent_norms"]
        ),
        "fig06_chi2": chi2_distribution(fiducial),
        "fig07_reconstruction_example": figures_examples.reconstruction_example(examples, wave),
        "fig08_posterior_corner": figures_examples.posterior_corner(examples, n_latent),
        "fig09_missing_bands": figures_examples.missing_band_example(examples, wave),
        "fig10_pz_gallery": figures_methods.pz_gallery(scores, seed=seed, z_max=z_max),
        "fig11_recovery": figures_methods.recovery_by_method(scores, tables["table_sigma_cuts"], z_max=z_max),
        "fig12_error_correlation": figures_methods.error_scatter(scores, tables["table_error_correlation"]),
        "fig13_flagged": figures_methods.flagged_recovery(scores, tables["table_flags"], z_max=z_max),
        "fig14_latent_correlation": figures_calibration.correlation_scores(scores),
        "fig15_priors": figures_calibration.prior_comparison(scores, tables["table_pit"]),
    }
    if profiles.height:
        drawn["fig16_fits"] = figures_examples.profiled_fits(profiles, wave)
        drawn["fig16_profiles"] = figures_examples.profiles(profiles, examples)
    return drawn | {
        "fig17_methods": figures_methods.method_recovery(scores, tables["table_methods"], z_max=z_max),
        "fig18_convergence": figures_calibration.chain_convergence(
            scores, figures_calibration.chains_with_prior(scores, n_latent)
        ),
        "ranks": figures_calibration.rank_histograms(ranks, tables["table_ranks"]),
    }


def write_figures(folder: Path, figures: Mapping[str, Figure]) -> pl.DataFrame:
    """Writes each figure as `<name>.png` and `<name>.pdf`, under a temporary name first.

    Returns:
        name, png and pdf (paths), a row a figure.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, figure in figures.items():
        paths = {}
        for kind, data in (("png", figure_png(figure, DPI)), ("pdf", figure_pdf(figure))):
            paths[kind] = str(write_whole(folder / f"{name}.{kind}", data))
        rows.append({"name": name, **paths})
    return pl.DataFrame(rows, schema={"name": pl.String, "png": pl.String, "pdf": pl.String})
