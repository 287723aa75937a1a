"""Group validation: metric tables and the report of a release (row V1)."""

from pathlib import Path

import dagster as dg
import polars as pl

from assets.metadata import plot, preview
from assets.partitions import RELEASE, releases
from assets.report_figures import data_figures, model_figures, model_numbers, redshift_figures
from assets.tables import bands_from, library_from
from assets.versions import code_version, content_version
from paeplatform.config import Preset
from resources.failures import one_line_failures
from resources.registry import PAE, ModelRegistry
from resources.tracking import git_commit
from resources.workspace import Workspace


def validation_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The assets of this group for a preset."""
    all_cells = dg.MultiToSingleDimensionPartitionMapping(RELEASE)
    chosen_size = dg.SpecificPartitionsPartitionMapping([str(preset.pae.n_latent)])

    @dg.asset(
        group_name="validation",
        kinds={"parquet", "numpy"},
        partitions_def=releases,
        ins={"redshift_catalog": dg.AssetIn(partition_mapping=all_cells)},
        code_version=code_version(1, preset, "validation"),
    )
    def photoz_metrics(redshift_catalog: pl.LazyFrame) -> dg.MaterializeResult[pl.DataFrame]:
        """N, NMAD, bias, z-scores and outlier fractions per cut in sigma_z/(1+z), with bootstrap errors."""
        from paeplatform.validation.evaluate import posterior_metrics
        from paeplatform.validation.figures import redshift_recovery

        catalog = redshift_catalog.collect()
        with one_line_failures():
            table = posterior_metrics(catalog, preset)
        z_true, z_hat, sigma_z = (catalog[name].to_numpy() for name in ("z_true", "pae_z_mean", "pae_z_std"))
        return dg.MaterializeResult(
            value=table,
            data_version=content_version(table),
            metadata={
                **_headline(table),
                "recovery": plot(redshift_recovery(z_true, z_hat, sigma_z, table, z_max=preset.prior.z_max)),
                "metrics": preview(table, rows=len(table)),
            },
        )

    @dg.asset(
        group_name="validation",
        kinds={"matplotlib", "html"},
        partitions_def=releases,
        ins={
            "redshift_catalog": dg.AssetIn(partition_mapping=all_cells),
            "autoencoder": dg.AssetIn(partition_mapping=chosen_size),
            "latent_flow": dg.AssetIn(partition_mapping=chosen_size),
        },
        code_version=code_version(1, preset, "validation"),
    )
    def validation_report(
        context: dg.AssetExecutionContext,
        photoz_metrics: pl.DataFrame,
        redshift_catalog: pl.LazyFrame,
        mock_photometry: pl.DataFrame,
        mock_catalog: pl.LazyFrame,
        redshift_prior: pl.DataFrame,
        sed_templates: pl.DataFrame,
        spherex_bands: pl.DataFrame,
        autoencoder: Path,
        latent_flow: Path,
        registry: ModelRegistry,
        workspace: Workspace,
    ) -> dg.MaterializeResult:
        """One self-contained page: metrics, figures, single sources, provenance; also CSV, JSON, Markdown."""
        from paeplatform.validation.calibration import posterior_summary
        from paeplatform.validation.report import write_report
        from paeplatform.validation.targets import model_targets, release_targets

        release, catalog = context.partition_key, redshift_catalog.collect()
        bands, library = bands_from(spherex_bands), library_from(sed_templates)
        with one_line_failures():
            figures = {
                **redshift_figures(preset, catalog, photoz_metrics),
                **model_figures(autoencoder, latent_flow),
                **data_figures(preset, library, bands, mock_catalog, redshift_prior, mock_photometry),
            }
            page = write_report(
                workspace.report_dir(release),
                preset=preset,
                metrics=photoz_metrics,
                posteriors_with_truth=catalog,
                figures=figures,
                provenance=_provenance(release, catalog, registry) | {"library": library.content_hash()},
                targets=[
                    *release_targets(posterior_summary(catalog, preset.pae.n_latent)),
                    *model_targets(
                        model_numbers(autoencoder),
                        model_numbers(latent_flow),
                        preset.validation.median_mse_max,
                    ),
                ],
                title="Redshifts of a SPHEREx-like release",
            )
        return dg.MaterializeResult(
            metadata={
                "page": dg.MetadataValue.path(page),
                "figures": len(figures),
                "size_mb": round(page.stat().st_size / 1e6, 2),
                **_headline(photoz_metrics),
            }
        )

    return [photoz_metrics, validation_report]


def _headline(metrics: pl.DataFrame) -> dict[str, float | int]:
    """The row of all sources, for Dagster's metadata plots over time."""
    row = metrics.filter(pl.col("cut").is_null()).row(0, named=True)
    wanted = ("n", "nmad_paper", "nmad_usual", "mean_bias", "eta_3sigma", "eta_015")
    return {name: row[name] for name in wanted if row[name] is not None}


def _provenance(release: str, catalog: pl.DataFrame, registry: ModelRegistry) -> dict[str, object]:
    made_by = ("bundle_version", "prior_id", "input_data_version", "code_version", "run_id")
    values = {name: ", ".join(map(str, catalog[name].unique().sort())) for name in made_by}
    return {
        "release": release,
        "model": f"{PAE} v{values.pop('bundle_version')}",
        **values,
        "git_commit": git_commit(Path(registry.project_root)),
    }
