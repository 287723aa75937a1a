"""Group validation: the paper's tables from the score table, each as Parquet, CSV and Markdown."""

import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from paeplatform.assets.inference.estimation import PAE_POSTERIORS, posterior_code, template_grid
from paeplatform.assets.recording.inputs import inputs_of
from paeplatform.assets.recording.metadata import TableResult, table_result
from paeplatform.assets.recording.partitions import chosen_size, latent_sizes
from paeplatform.assets.recording.tables import bands_from
from paeplatform.assets.recording.versions import code_version
from paeplatform.assets.validation.declared import computed_asset, table_asset, validation_asset
from paeplatform.config import Preset
from paeplatform.paper.table_list import TABLES, PaperTable
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.workspace import Workspace

if TYPE_CHECKING:
    from paeplatform.inference.estimate import Estimator
    from paeplatform.paper.table_rows import Resampling

    MakeTable = Callable[[pl.LazyFrame, Resampling], pl.DataFrame]


SETTINGS = ("tables.n_bootstrap",)


@dataclass(frozen=True)
class Fiducial:
    """The assets behind the PAE as trained, under the paper's fiducial priors."""

    pae_model: Path
    redshift_prior: pl.DataFrame
    spherex_bands: pl.DataFrame

    def estimator(self, preset: Preset) -> "Estimator":
        """It, ready to answer."""
        from paeplatform.pae.bundle import load_bundle
        from paeplatform.paper.sample_scores import FIDUCIAL
        from paeplatform.paper.sampling import estimator_under

        bpz, bands = self.redshift_prior.row(0, named=True), bands_from(self.spherex_bands)
        return estimator_under(FIDUCIAL, load_bundle(self.pae_model), preset, bpz, bands)


def paper_table_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The tables that are read from scores alone, and those of the models' own checks."""
    return [
        *(_of_scores(table, preset) for table in TABLES),
        _held_out_spectra(preset),
        _table_latent_norms(preset),
        _posterior_ranks(preset),
        _table_ranks(preset),
        _example_posteriors(preset),
        _profile_likelihoods(preset),
    ]


def _of_scores(table: PaperTable, preset: Preset) -> dg.AssetsDefinition:
    @table_asset(
        name=table.name,
        code_version=code_version(table.version, preset, *SETTINGS),
        description=f"{table.title}, with bootstrap errors; the paper's numbers beside ours where it has some.",
    )
    def made(sample_scores: pl.LazyFrame, workspace: Workspace) -> TableResult:
        from paeplatform.paper.table_rows import Resampling

        with one_line_failures():
            resampling = Resampling(preset.tables.n_bootstrap, preset.seed)
            make: MakeTable = pkgutil.resolve_name(table.function)
            found = make(sample_scores, resampling)
        return kept_table(table.name, table.title, found, workspace, table.shown.split())

    return made


def _held_out_spectra(preset: Preset) -> dg.AssetsDefinition:
    @computed_asset(
        partitions_def=latent_sizes(preset),
        code_version=code_version(1, preset, "tables.n_spectra", "pae.autoencoder.fit.validation_fraction"),
    )
    def held_out_spectra(
        context: dg.AssetExecutionContext,
        training_spectra: Path,
        autoencoder: Path,
        latent_flow: Path,
        workspace: Workspace,
    ) -> TableResult:
        """Of spectra that the models were not trained on, reconstruction error and latent norm (Figs. 3 and 5): a row a
        spectrum, then a row a rest wavelength with the error averaged over spectra.
        """
        workspace.start_jax()
        from paeplatform.scores.latent_statistics import held_out_statistics

        with one_line_failures():
            rows, by_wave = held_out_statistics(training_spectra, autoencoder, latent_flow, preset)
        n_latent = pl.lit(int(context.partition_key)).alias("n_latent")
        table = pl.concat([rows.with_columns(n_latent), by_wave.with_columns(n_latent)], how="diagonal")
        median = float(rows["mse"].median())  # type: ignore[arg-type]
        return table_result(table, {"median_mse": median, "spectra": rows.height}, show_rows=False)

    return held_out_spectra


def _table_latent_norms(preset: Preset) -> dg.AssetsDefinition:
    @table_asset(
        ins={"held_out_spectra": dg.AssetIn(partition_mapping=chosen_size(preset))},
        code_version=code_version(1, preset, *SETTINGS),
    )
    def table_latent_norms(held_out_spectra: pl.DataFrame, workspace: Workspace) -> TableResult:
        """Fig. 5 as a table: |u| against redshift, and their correlation, which the paper finds to be 0.132."""
        from paeplatform.scores.latent_statistics import norm_trend

        rows = held_out_spectra.filter(pl.col("u_norm").is_not_null())
        found = norm_trend(rows, preset.tables.n_bootstrap, preset.seed)
        return kept_table("table_latent_norms", "Fig. 5: |u| against redshift", found, workspace)

    return table_latent_norms


def _posterior_ranks(preset: Preset) -> dg.AssetsDefinition:
    @computed_asset(
        ins=inputs_of(Fiducial),
        code_version=posterior_code(PAE_POSTERIORS, preset, "tables.n_simulated", "instrument.depth"),
    )
    def posterior_ranks(workspace: Workspace, **fiducial: Any) -> TableResult:
        """Sources drawn from the PAE's own prior: ranks of the truth among posterior draws (SBC), and TARP's."""
        workspace.start_jax()
        from paeplatform.paper.ranks import ranks_of_simulations

        with one_line_failures():
            return table_result(ranks_of_simulations(Fiducial(**fiducial).estimator(preset)))

    return posterior_ranks


def _table_ranks(preset: Preset) -> dg.AssetsDefinition:
    @validation_asset(kinds={"parquet", "scipy"}, code_version=code_version(1, preset, *SETTINGS))
    def table_ranks(posterior_ranks: pl.DataFrame, workspace: Workspace) -> TableResult:
        """How uniform these ranks are: distance to uniform and Kolmogorov's p-value for z, each u_i, and TARP."""
        from paeplatform.paper.ranks import rank_summary

        found = rank_summary(posterior_ranks, preset.tables.n_bootstrap, preset.seed)
        return kept_table("table_ranks", "Rank tests of the full posterior (SBC, TARP)", found, workspace)

    return table_ranks


def _example_posteriors(preset: Preset) -> dg.AssetsDefinition:
    @computed_asset(
        ins=inputs_of(Fiducial),
        code_version=posterior_code(PAE_POSTERIORS, preset, "tables.n_examples", "stress_test.fractions"),
    )
    def example_posteriors(
        sample_scores: pl.LazyFrame, validation_sample: pl.DataFrame, workspace: Workspace, **fiducial: Any
    ) -> TableResult:
        """Good, bad and flagged sources with draws over (u, z) and predicted SEDs (Figs. 7 to 9, report)."""
        workspace.start_jax()
        from paeplatform.paper.examples import choose_examples, example_table

        with one_line_failures():
            chosen = choose_examples(sample_scores, preset.tables.n_examples)
            estimator = Fiducial(**fiducial).estimator(preset)
            return table_result(example_table(chosen, validation_sample, estimator))

    return example_posteriors


def _profile_likelihoods(preset: Preset) -> dg.AssetsDefinition:
    @computed_asset(
        ins=inputs_of(Fiducial),
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
        workspace: Workspace,
        **fiducial: Any,
    ) -> TableResult:
        """Profile likelihoods of a few sources, the PAE's beside template fitting's (Fig. 16)."""
        workspace.start_jax()
        from paeplatform.paper.profiles import choose_profiled, profile_table

        with one_line_failures():
            chosen = choose_profiled(sample_scores, preset.tables.n_profiled)
            pae = Fiducial(**fiducial)
            grid = template_grid(preset, sed_templates, pae.spherex_bands)
            return table_result(profile_table(chosen, validation_sample, pae.estimator(preset), grid))

    return profile_likelihoods


def kept_table(
    name: str,
    title: str,
    table: pl.DataFrame,
    workspace: Workspace,
    shown: Sequence[str] | None = None,
) -> TableResult:
    """Writes the CSV and the Markdown beside the Parquet, and shows the table in Dagster's page."""
    from paeplatform.paper.table_files import table_markdown, write_table

    with one_line_failures():
        csv, _ = write_table(workspace.results_dir(), name, table, title)
    text = dg.MetadataValue.md(table_markdown(table, shown))
    metadata = {"table": text, "rows": table.height, "csv": dg.MetadataValue.path(csv)}
    return table_result(table, metadata, show_rows=False)
