"""Group validation: the paper's tables from the score table, each as Parquet, CSV and Markdown."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from paeplatform.assets.inference.estimation import PAE_POSTERIORS, posterior_code
from paeplatform.assets.recording.metadata import table_result
from paeplatform.assets.recording.partitions import COMPUTE, chosen_size, latent_sizes
from paeplatform.assets.recording.tables import bands_from, library_from
from paeplatform.assets.recording.versions import code_version, content_version
from paeplatform.config import Preset
from paeplatform.paper.table_list import TABLES, PaperTable
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.workspace import Workspace

if TYPE_CHECKING:
    from paeplatform.paper.table_rows import Resampling

    MakeTable = Callable[[pl.LazyFrame, Resampling], pl.DataFrame]


SETTINGS = ("tables.n_bootstrap",)


def paper_table_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The tables that are read from scores alone, and those of the models' own checks."""
    return [*(_of_scores(table, preset) for table in TABLES), *_of_models(preset)]


def _of_scores(table: PaperTable, preset: Preset) -> dg.AssetsDefinition:
    @dg.asset(
        name=table.name,
        group_name="validation",
        kinds={"parquet", "polars"},
        code_version=code_version(table.version, preset, *SETTINGS),
        description=f"{table.title}, with bootstrap errors; the paper's numbers beside ours where it has some.",
    )
    def made(sample_scores: pl.LazyFrame, workspace: Workspace) -> dg.MaterializeResult[pl.DataFrame]:
        with one_line_failures():
            found = _function(table.function)(sample_scores, _resampling(preset))
        return kept_table(table.name, table.title, found, workspace, table.shown.split())

    return made


def _of_models(preset: Preset) -> list[dg.AssetsDefinition]:
    return [
        _held_out_spectra(preset),
        _table_latent_norms(preset),
        _posterior_ranks(preset),
        _table_ranks(preset),
        _example_posteriors(preset),
        _profile_likelihoods(preset),
    ]


def _held_out_spectra(preset: Preset) -> dg.AssetsDefinition:
    @dg.asset(
        group_name="validation",
        kinds={"jax", "parquet"},
        partitions_def=latent_sizes(preset),
        pool=COMPUTE,
        code_version=code_version(1, preset, "tables.n_spectra", "pae.autoencoder.fit.validation_fraction"),
    )
    def held_out_spectra(
        context: dg.AssetExecutionContext,
        training_spectra: Path,
        autoencoder: Path,
        latent_flow: Path,
        workspace: Workspace,
    ) -> dg.MaterializeResult[pl.DataFrame]:
        """Of spectra that the models were not trained on, reconstruction error and latent norm (Figs. 3 and 5): a row a
        spectrum, then a row a rest wavelength with the error averaged over spectra.
        """
        workspace.start_jax()
        from paeplatform.scores.latent_statistics import held_out_statistics

        with one_line_failures():
            rows, by_wave = held_out_statistics(training_spectra, autoencoder, latent_flow, preset)
        n_latent = pl.lit(int(context.partition_key)).alias("n_latent")
        table = pl.concat([rows.with_columns(n_latent), by_wave.with_columns(n_latent)], how="diagonal")
        return dg.MaterializeResult(
            value=table,
            data_version=content_version(table),
            metadata={
                "median_mse": float(rows["mse"].median()),  # type: ignore[arg-type]
                "spectra": rows.height,
            },
        )

    return held_out_spectra


def _table_latent_norms(preset: Preset) -> dg.AssetsDefinition:
    @dg.asset(
        group_name="validation",
        kinds={"parquet", "polars"},
        ins={"held_out_spectra": dg.AssetIn(partition_mapping=chosen_size(preset))},
        code_version=code_version(1, preset, *SETTINGS),
    )
    def table_latent_norms(
        held_out_spectra: pl.DataFrame, workspace: Workspace
    ) -> dg.MaterializeResult[pl.DataFrame]:
        """Fig. 5 as a table: |u| against redshift, and their correlation, which the paper finds to be 0.132."""
        from paeplatform.scores.latent_statistics import norm_trend

        rows = held_out_spectra.filter(pl.col("u_norm").is_not_null())
        found = norm_trend(rows, preset.tables.n_bootstrap, preset.seed)
        return kept_table("table_latent_norms", "Fig. 5: |u| against redshift", found, workspace)

    return table_latent_norms


def _posterior_ranks(preset: Preset) -> dg.AssetsDefinition:
    @dg.asset(
        group_name="validation",
        kinds={"jax", "parquet"},
        pool=COMPUTE,
        code_version=posterior_code(PAE_POSTERIORS, preset, "tables.n_simulated", "instrument.depth"),
    )
    def posterior_ranks(
        spherex_bands: pl.DataFrame, redshift_prior: pl.DataFrame, pae_model: Path, workspace: Workspace
    ) -> dg.MaterializeResult[pl.DataFrame]:
        """Sources drawn from the PAE's own prior: ranks of the truth among posterior draws (SBC), and TARP's."""
        workspace.start_jax()
        from paeplatform.pae.bundle import load_bundle
        from paeplatform.paper.ranks import ranks_of_simulations
        from paeplatform.paper.sample_scores import FIDUCIAL
        from paeplatform.paper.sampling import estimator_under

        with one_line_failures():
            bpz, bands = redshift_prior.row(0, named=True), bands_from(spherex_bands)
            table = ranks_of_simulations(
                estimator_under(FIDUCIAL, load_bundle(pae_model), preset, bpz, bands)
            )
        return table_result(table)

    return posterior_ranks


def _table_ranks(preset: Preset) -> dg.AssetsDefinition:
    @dg.asset(
        group_name="validation",
        kinds={"parquet", "scipy"},
        code_version=code_version(1, preset, *SETTINGS),
    )
    def table_ranks(
        posterior_ranks: pl.DataFrame, workspace: Workspace
    ) -> dg.MaterializeResult[pl.DataFrame]:
        """How uniform these ranks are: distance to uniform and Kolmogorov's p-value for z, each u_i, and TARP."""
        from paeplatform.paper.ranks import rank_summary

        found = rank_summary(posterior_ranks, preset.tables.n_bootstrap, preset.seed)
        return kept_table("table_ranks", "Rank tests of the full posterior (SBC, TARP)", found, workspace)

    return table_ranks


def _example_posteriors(preset: Preset) -> dg.AssetsDefinition:
    @dg.asset(
        group_name="validation",
        kinds={"jax", "parquet"},
        pool=COMPUTE,
        code_version=posterior_code(PAE_POSTERIORS, preset, "tables.n_examples", "stress_test.fractions"),
    )
    def example_posteriors(
        sample_scores: pl.LazyFrame,
        validation_sample: pl.DataFrame,
        spherex_bands: pl.DataFrame,
        redshift_prior: pl.DataFrame,
        pae_model: Path,
        workspace: Workspace,
    ) -> dg.MaterializeResult[pl.DataFrame]:
        """Good, bad and flagged sources with draws over (u, z) and predicted SEDs (Figs. 7 to 9, report)."""
        workspace.start_jax()
        from paeplatform.pae.bundle import load_bundle
        from paeplatform.paper.examples import choose_examples, example_table
        from paeplatform.paper.sample_scores import FIDUCIAL
        from paeplatform.paper.sampling import estimator_under

        bpz, bands = redshift_prior.row(0, named=True), bands_from(spherex_bands)
        with one_line_failures():
            table = example_table(
                choose_examples(sample_scores, preset.tables.n_examples),
                validation_sample,
                estimator_under(FIDUCIAL, load_bundle(pae_model), preset, bpz, bands),
            )
        return table_result(table)

    return example_posteriors


def _profile_likelihoods(preset: Preset) -> dg.AssetsDefinition:
    @dg.asset(
        group_name="validation",
        kinds={"jax", "parquet"},
        pool=COMPUTE,
        code_version=code_version(
            2,
            preset,
            "tables.n_profiled",
            "template_fit",
            "templates.dust_laws",
            "prior",
            "instrument.n_redshift_nodes",
        ),
    )
    def profile_likelihoods(
        sample_scores: pl.LazyFrame,
        validation_sample: pl.DataFrame,
        sed_templates: pl.DataFrame,
        spherex_bands: pl.DataFrame,
        redshift_prior: pl.DataFrame,
        pae_model: Path,
        workspace: Workspace,
    ) -> dg.MaterializeResult[pl.DataFrame]:
        """Profile likelihoods of a few sources, the PAE's beside template fitting's (Fig. 16)."""
        workspace.start_jax()
        from paeplatform.instrument.filters import gaussian_filters
        from paeplatform.pae.bundle import load_bundle
        from paeplatform.paper.profiles import choose_profiled, profile_table
        from paeplatform.paper.sample_scores import FIDUCIAL
        from paeplatform.paper.sampling import estimator_under
        from paeplatform.template_fit.grid import TemplateGridConfig, build_template_grid

        bpz, bands = redshift_prior.row(0, named=True), bands_from(spherex_bands)
        filters = gaussian_filters(bands)
        with one_line_failures():
            extent = TemplateGridConfig.from_preset(preset)
            table = profile_table(
                choose_profiled(sample_scores, preset.tables.n_profiled),
                validation_sample,
                estimator_under(FIDUCIAL, load_bundle(pae_model), preset, bpz, bands, filters),
                build_template_grid(library_from(sed_templates), filters, extent),
            )
        return table_result(table)

    return profile_likelihoods


def kept_table(
    name: str,
    title: str,
    table: pl.DataFrame,
    workspace: Workspace,
    shown: Sequence[str] | None = None,
) -> dg.MaterializeResult[pl.DataFrame]:
    """Writes the CSV and the Markdown beside the Parquet, and shows the table in Dagster's page."""
    from paeplatform.paper.table_files import table_markdown, write_table

    with one_line_failures():
        csv, _ = write_table(workspace.results_dir(), name, table, title)
    return dg.MaterializeResult(
        value=table,
        data_version=content_version(table),
        metadata={
            "table": dg.MetadataValue.md(table_markdown(table, shown)),
            "rows": table.height,
            "csv": dg.MetadataValue.path(csv),
        },
    )


def _function(name: str) -> "MakeTable":
    import importlib

    module, _, function = name.rpartition(".")
    return getattr(importlib.import_module(module), function)


def _resampling(preset: Preset) -> Any:
    from paeplatform.paper.table_rows import Resampling

    return Resampling(preset.tables.n_bootstrap, preset.seed)
