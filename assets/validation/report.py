"""Group validation: metric tables, stress test and report of a release."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from paeplatform.assets.inference.estimation import CHAMPION_TAG, load_champion, posterior_code
from paeplatform.assets.recording.metadata import plot, preview
from paeplatform.assets.recording.partitions import COMPUTE, RELEASE, chosen_size, releases
from paeplatform.assets.recording.provenance import made_from
from paeplatform.assets.recording.report_figures import (
    data_figures,
    model_figures,
    model_numbers,
    redshift_figures,
)
from paeplatform.assets.recording.tables import bands_from, library_from
from paeplatform.assets.recording.versions import code_version, content_version
from paeplatform.assets.release.accepted import release_table
from paeplatform.assets.validation.report_sections import (
    REPORT_TABLES,
    fiducial_chi2,
    release_quality,
    report_sections,
)
from paeplatform.config import Preset
from paeplatform.errors import InputError
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.registry import PAE, ModelRegistry
from paeplatform.resources.tracking import git_commit
from paeplatform.resources.workspace import Workspace


def validation_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The assets of this group for a preset."""
    return [_photoz_metrics(preset), _missing_band_stress(preset), _validation_report(preset)]


def _photoz_metrics(preset: Preset) -> dg.AssetsDefinition:
    @dg.asset(
        group_name="validation",
        kinds={"parquet", "numpy"},
        partitions_def=releases,
        deps=[cells_of("redshift_catalog")],
        code_version=code_version(3, preset, "validation"),
    )
    def photoz_metrics(
        context: dg.AssetExecutionContext, mock_photometry: pl.DataFrame, workspace: Workspace
    ) -> dg.MaterializeResult[pl.DataFrame]:
        """N, NMAD, bias, z-scores and outlier fractions per cut in sigma_z/(1+z), with bootstrap errors."""
        from paeplatform.figures.convergence import redshift_recovery
        from paeplatform.scores.evaluate import join_truth, posterior_metrics

        with one_line_failures():
            rows, version = release_table(
                context.instance, workspace, "redshift_catalog", context.partition_key
            )
            catalog = join_truth(rows.collect(), truth_of(mock_photometry))
            table = posterior_metrics(catalog, preset)
        z_true, z_hat, sigma_z = (catalog[name].to_numpy() for name in ("z_true", "pae_z_mean", "pae_z_std"))
        return dg.MaterializeResult(
            value=table,
            data_version=content_version(table),
            metadata={
                **made_from(content_version(table).value, {"redshift_catalog": version}),
                **_headline(table),
                "recovery": plot(redshift_recovery(z_true, z_hat, sigma_z, table, z_max=preset.prior.z_max)),
                "metrics": preview(table, rows=len(table)),
            },
        )

    return photoz_metrics


def _missing_band_stress(preset: Preset) -> dg.AssetsDefinition:
    @dg.asset(
        group_name="validation",
        kinds={"jax", "parquet"},
        partitions_def=releases,
        deps=["pae_champion", cells_of("release_photometry")],
        pool=COMPUTE,
        code_version=posterior_code(1, preset, "stress_test"),
    )
    def missing_band_stress(
        context: dg.AssetExecutionContext,
        mock_photometry: pl.DataFrame,
        spherex_bands: pl.DataFrame,
        redshift_prior: pl.DataFrame,
        registry: ModelRegistry,
        workspace: Workspace,
    ) -> dg.MaterializeResult[pl.DataFrame]:
        """Some well-detected sources of a release with a growing part of their bands masked (section V.3)."""
        from paeplatform.scores.evaluate import join_truth

        with one_line_failures():
            rows, version = release_table(
                context.instance, workspace, "release_photometry", context.partition_key
            )
            sources = join_truth(_stress_sources(preset, rows), truth_of(mock_photometry))
        chosen = load_champion(preset, spherex_bands, redshift_prior, registry, workspace, progress=False)
        from paeplatform.figures.inference import missing_bands_figure
        from paeplatform.inference.missing_bands import stress_test
        from paeplatform.scores.missing_bands import stress_summary

        with one_line_failures():
            tested = stress_test(
                chosen.estimate,
                *(sources[name].to_numpy() for name in ("flux", "flux_err", "object_id")),
                fractions=preset.stress_test.fractions,
                seed=preset.seed,
            )
        table = tested.drop("pae_z_draws").join(
            sources.select("object_id", "z_true", "snr"), on="object_id", maintain_order="left"
        )
        summary = stress_summary(table)
        return dg.MaterializeResult(
            value=table,
            data_version=content_version(table),
            tags={CHAMPION_TAG: chosen.champion.label},
            metadata={
                **made_from(content_version(table).value, {"release_photometry": version}),
                "sources": sources.height,
                "bundle": f"{PAE} {chosen.champion.label}",
                "figure": plot(missing_bands_figure(summary, table)),
                "summary": preview(summary, rows=summary.height),
            },
        )

    return missing_band_stress


def _validation_report(preset: Preset) -> dg.AssetsDefinition:
    trained = chosen_size(preset)

    @dg.asset(
        group_name="validation",
        kinds={"matplotlib", "html"},
        partitions_def=releases,
        ins={
            "autoencoder": dg.AssetIn(partition_mapping=trained),
            "latent_flow": dg.AssetIn(partition_mapping=trained),
            **{name: dg.AssetIn(dagster_type=pl.DataFrame) for name in REPORT_TABLES},
        },
        deps=[cells_of("redshift_catalog")],
        code_version=code_version(5, preset, "validation", "trust"),
    )
    def validation_report(
        context: dg.AssetExecutionContext,
        photoz_metrics: pl.DataFrame,
        missing_band_stress: pl.DataFrame,
        mock_photometry: pl.DataFrame,
        mock_catalog: pl.LazyFrame,
        redshift_prior: pl.DataFrame,
        sed_templates: pl.DataFrame,
        spherex_bands: pl.DataFrame,
        autoencoder: Path,
        latent_flow: Path,
        posterior_proposal: Path,
        sample_scores: pl.LazyFrame,
        example_posteriors: pl.DataFrame,
        paper_figures: pl.DataFrame,
        registry: ModelRegistry,
        workspace: Workspace,
        **tables: Any,
    ) -> dg.MaterializeResult:
        """One self-contained page: targets, metrics, the paper's tables, figures, sources, provenance."""
        from paeplatform.figures.inference import missing_bands_figure
        from paeplatform.report.page import STRESS_FIGURE, write_report
        from paeplatform.scores.evaluate import join_truth
        from paeplatform.scores.missing_bands import stress_summary

        release = context.partition_key
        with one_line_failures():
            rows, version = release_table(context.instance, workspace, "redshift_catalog", release)
            catalog = join_truth(rows.collect(), truth_of(mock_photometry))
        bands, library = bands_from(spherex_bands), library_from(sed_templates)
        models = {
            "autoencoder": autoencoder,
            "latent_flow": latent_flow,
            "posterior_proposal": posterior_proposal,
        }
        with one_line_failures():
            stress = stress_summary(missing_band_stress)
            figures = {
                **redshift_figures(preset, catalog, photoz_metrics),
                STRESS_FIGURE: missing_bands_figure(stress, missing_band_stress),
                **model_figures(models),
                **data_figures(preset, library, bands, mock_catalog, redshift_prior, mock_photometry),
                **_pictures(workspace, paper_figures),
            }
            page = write_report(
                workspace.report_dir(release),
                preset=preset,
                metrics=photoz_metrics,
                posteriors_with_truth=catalog,
                figures=figures,
                stress=stress,
                sections=report_sections(
                    preset,
                    tables,
                    sample_scores,
                    example_posteriors,
                    bands,
                    release_quality(context.instance, workspace, release),
                ),
                provenance=_provenance(release, catalog, registry) | {"library": library.content_hash()},
                targets=_targets(preset, catalog, models, tables, sample_scores),
                title="Redshifts of a SPHEREx-like release",
            )
        return dg.MaterializeResult(
            metadata={
                **made_from(str(page), {"redshift_catalog": version}),
                "page": dg.MetadataValue.path(page),
                "figures": len(figures),
                "size_mb": round(page.stat().st_size / 1e6, 2),
                **_headline(photoz_metrics),
            }
        )

    return validation_report


def _pictures(workspace: Workspace, paper_figures: pl.DataFrame) -> dict[str, bytes]:
    """The figures of the paper by name, found by their file's name: the home may have moved since they were drawn."""
    folder = workspace.results_dir() / "figures"
    return {
        name: (folder / Path(png).name).read_bytes()
        for name, png in paper_figures.select("name", "png").iter_rows()
    }


def _targets(
    preset: Preset,
    catalog: pl.DataFrame,
    models: Mapping[str, Path],
    tables: Mapping[str, pl.DataFrame],
    sample_scores: pl.LazyFrame,
) -> list[dict[str, Any]]:
    """What the run is held to: targets of the release, of the models and of the paper's tables."""
    from paeplatform.scores.calibration import posterior_summary
    from paeplatform.scores.targets import model_targets, paper_targets, release_targets

    numbers = {name: model_numbers(models[name]) for name in ("autoencoder", "latent_flow")}
    return [
        *release_targets(posterior_summary(catalog, preset.pae.n_latent), preset.trust),
        *model_targets(numbers["autoencoder"], numbers["latent_flow"], preset.validation.median_mse_max),
        *paper_targets({**tables, "chi2": fiducial_chi2(sample_scores)}),
    ]


def cells_of(asset: str) -> dg.AssetDep:
    """All cells of a release: read by `release_table`, which leaves held ones out."""
    return dg.AssetDep(asset, partition_mapping=dg.MultiToSingleDimensionPartitionMapping(RELEASE))


def truth_of(mock_photometry: pl.DataFrame) -> pl.DataFrame:
    """The mock's truth under the ids that delivered sources have, which are their places on the sky."""
    from paeplatform.release.schema import source_id

    identity = source_id(*(mock_photometry[name].to_numpy() for name in ("ra", "dec")))
    return mock_photometry.drop("snr").with_columns(object_id=pl.Series(identity, dtype=pl.Int64))


def _stress_sources(preset: Preset, release_photometry: pl.LazyFrame) -> pl.DataFrame:
    """The first sources, by object_id, that are bright enough: in no order of brightness.

    Raises:
        InputError: no source is.
    """
    cfg = preset.stress_test
    bright = release_photometry.filter(pl.col("snr") >= cfg.min_snr).sort("object_id").head(cfg.n_sources)
    sources = bright.collect()
    if sources.height == 0:
        highest = release_photometry.select(pl.col("snr").max()).collect().item()
        raise InputError(
            f"stress_test.min_snr {cfg.min_snr:g}: no source of the release reaches it, the highest total SNR is "
            f"{highest:.1f}"
        )
    return sources


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
