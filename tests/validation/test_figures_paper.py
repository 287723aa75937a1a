"""The paper's figures from made-up score tables: they draw, in PNG and PDF, and stand an empty table."""

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure

from paeplatform.figures import calibration as figures_calibration
from paeplatform.figures import methods as figures_methods
from paeplatform.figures.examples import (
    missing_band_example,
    posterior_corner,
    profiled_fits,
    profiles,
    reconstruction_example,
)
from paeplatform.figures.style import figure_pdf, figure_png
from paeplatform.paper import calibration_tables
from paeplatform.paper import tables as paper_tables
from paeplatform.paper.examples import choose_examples
from paeplatform.paper.profiles import SCHEMA, choose_profiled
from paeplatform.paper.ranks import rank_summary
from paeplatform.paper.table_rows import Resampling
from paeplatform.scores.latent_statistics import norm_trend
from tests.validation.score_tables import score_table

TABLE = score_table(200)
SCORES, EMPTY = TABLE.lazy(), TABLE.clear().lazy()
FAST = Resampling(10, 0)
WAVE = np.linspace(0.75, 5.0, 102)


def drawn(figure: Figure) -> bytes:
    png = figure_png(figure, dpi=50)
    assert png.startswith(b"\x89PNG")
    return png


FIGURES = {
    "pz_gallery": lambda s: figures_methods.pz_gallery(s),
    "recovery_by_method": lambda s: figures_methods.recovery_by_method(
        s, paper_tables.sigma_cut_table(s, FAST)
    ),
    "error_scatter": lambda s: figures_methods.error_scatter(s, paper_tables.error_correlation(s, FAST)),
    "flagged_recovery": lambda s: figures_methods.flagged_recovery(s, paper_tables.flag_table(s, FAST)),
    "method_recovery": lambda s: figures_methods.method_recovery(s, paper_tables.comparison_table(s, FAST)),
    "correlation_scores": lambda s: figures_calibration.correlation_scores(s),
    "prior_comparison": lambda s: figures_calibration.prior_comparison(
        s, calibration_tables.pit_table(s, FAST)
    ),
    "chain_convergence": lambda s: figures_calibration.chain_convergence(s, "latent10"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_each_figure_draws_its_table(name):
    assert len(drawn(FIGURES[name](SCORES))) > 5000


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize(
    "scores", [EMPTY, TABLE.filter(pl.col("object_id") < 14).lazy()], ids=["none", "few"]
)
def test_figures_of_no_or_few_sources_draw_without_a_warning(name, scores):
    drawn(FIGURES[name](scores))


def test_panels_quote_the_tables_numbers():
    table = paper_tables.sigma_cut_table(SCORES, FAST)
    figure = figures_methods.recovery_by_method(SCORES, table)
    texts = " ".join(text.get_text() for axes in figure.axes for text in axes.texts)
    row = table.filter((pl.col("method") == "nf_bpz") & (pl.col("cut") == 0.2)).row(0, named=True)
    assert f"N = {row['n']:,}\nNMAD {row['nmad_paper']:.4f}" in texts


def test_a_vector_copy_is_a_pdf_with_the_same_bytes_each_time():
    first, again = (figure_pdf(figures_methods.pz_gallery(SCORES)) for _ in range(2))
    assert first.startswith(b"%PDF") and first == again


def example_rows() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for object_id, fraction in ((1, 0.0), (2, 0.0), (1, 0.25), (1, 0.5)):
        model = 10 + np.sin(WAVE)
        error = np.where(rng.uniform(size=102) < fraction, np.inf, 1.0)
        rows.append(
            {
                "object_id": object_id,
                "why": "bright",
                "fraction": fraction,
                "z_true": 0.5,
                "snr": 60.0,
                "flux": model + rng.normal(size=102),
                "flux_err": error,
                "model": model,
                **{
                    f"model_{end}_{k}": model + s * k / 68
                    for end, s in (("low", -1), ("high", 1))
                    for k in (68, 95)
                },
                "chi2": 100.0,
                "z_draws": rng.normal(0.5, 0.01, 300),
                "u_draws": rng.normal(size=300 * 7),
            }
        )
    return pl.DataFrame(
        rows, schema_overrides={"z_draws": pl.List(pl.Float64), "u_draws": pl.List(pl.Float64)}
    )


def test_figures_of_single_sources():
    rows = example_rows()
    assert len(drawn(reconstruction_example(rows, WAVE))) > 5000
    figure = missing_band_example(rows, WAVE)
    titles = " ".join(axes.get_title(loc="left") for axes in figure.axes)
    assert "25% of the bands missing" in titles and "50% of the bands missing" in titles
    drawn(posterior_corner(rows, 7))
    z = np.linspace(0.01, 3, 50)
    chi2 = 100 + ((z - 0.5) / 0.1) ** 2
    table = pl.DataFrame(
        [
            {"object_id": 1, "why": "well detected", "z_true": 0.5, "snr": 60.0, "z_grid": z, "chi2": chi2}
            | {"tf_z_grid": z, "tf_chi2": chi2 + 1}
        ],
        schema_overrides={key: pl.List(pl.Float64) for key in ("z_grid", "chi2", "tf_z_grid", "tf_chi2")},
    )
    assert len(drawn(profiles(table, rows))) > 5000
    drawn(profiles(pl.DataFrame(schema=SCHEMA), rows))
    flux = np.linspace(1.0, 3.0, 102)
    fits = table.with_columns(
        flux=pl.Series([flux.tolist()]),
        flux_err=pl.Series([np.where(np.arange(102) < 5, np.inf, 0.3).tolist()]),
        fit_z=pl.Series([[0.5, 0.4, 1.0, 2.0, 2.9]]),
        fit_model=pl.Series([[(flux + 0.1 * i).tolist() for i in range(5)]]),
    )
    assert len(drawn(profiled_fits(fits, WAVE))) > 5000
    drawn(profiled_fits(pl.DataFrame(schema=SCHEMA), WAVE))


def test_figures_of_latents_and_ranks():
    rng = np.random.default_rng(2)
    spectra = pl.DataFrame(
        {"z": rng.uniform(0, 3, 300), "mse": rng.gamma(2, 1e-4, 300), "u_norm": rng.gamma(9, 0.3, 300)}
    )
    waves = pl.DataFrame({"wave_um": np.linspace(0.1, 5, 50), "squared_error": rng.gamma(2, 1e-4, 50)})
    both = pl.concat([spectra, waves], how="diagonal")
    drawn(figures_calibration.reconstruction_by_size({3: both, 10: both}))
    drawn(figures_calibration.latent_norms(both, norm_trend(spectra, 10)))
    ranks = pl.DataFrame(
        {
            "rank_z": rng.uniform(size=90),
            "tarp": rng.uniform(size=90),
            "rank_u": pl.Series(rng.uniform(size=(90, 3)).tolist(), dtype=pl.Array(pl.Float64, 3)),
        }
    )
    drawn(figures_calibration.rank_histograms(ranks, rank_summary(ranks, 10)))


def test_examples_are_of_every_kind_and_each_once():
    chosen = choose_examples(SCORES, 12)
    assert chosen.height <= 12 and chosen["object_id"].n_unique() == chosen.height
    assert {"bright", "good", "outlier"} <= set(chosen["why"])
    brightest = TABLE.filter((pl.col("method") == "nf_bpz") & (pl.col("usable") > 0)).top_k(1, by="snr")
    assert chosen["object_id"][0] == brightest["object_id"][0]
    assert choose_examples(EMPTY, 5).height == 0


def test_profiled_sources_are_a_bright_and_a_faint_one():
    chosen = choose_profiled(SCORES, 2)
    assert chosen["why"].to_list()[0] == "well detected" and chosen.height == 2
    assert choose_profiled(SCORES, 0).height == 0
