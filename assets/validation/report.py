"""Group validation: metric tables, stress test and report of a release."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from paeplatform.assets.inference.estimation import (
    CHAMPION_TAG,
    EstimationInputs,
    load_champion,
    posterior_code,
)
from paeplatform.assets.recording.inputs import inputs_of, tables_in, taken
from paeplatform.assets.recording.metadata import TableResult, plot, preview, table_result
from paeplatform.assets.recording.partitions import RELEASE, chosen_parts, releases
from paeplatform.assets.recording.provenance import made_from
from paeplatform.assets.recording.report_figures import (
    data_figures,
    model_figures,
    model_numbers,
    redshift_figures,
)
from paeplatform.assets.recording.tables import bands_from, library_from, photometry_at_centres
from paeplatform.assets.recording.versions import code_version, content_version
from paeplatform.assets.release.accepted import release_table
from paeplatform.assets.validation.declared import computed_asset, validation_asset
from paeplatform.assets.validation.report_sections import (
    REPORT_TABLES,
    fiducial_chi2,
    release_quality,
    report_sections,
)
from paeplatform.config import Preset
from paeplatform.errors import InputError
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.models.tracking import git_commit
from paeplatform.resources.registry import PAE, ModelRegistry
from paeplatform.resources.workspace import Workspace

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ReportInputs:
    """The assets that a report shows, beside `REPORT_TABLES` and the catalogue of its release."""

    photoz_metrics: pl.DataFrame
    missing_band_stress: pl.DataFrame
    mock_photometry: pl.DataFrame
    mock_catalog: pl.LazyFrame
    redshift_prior: pl.DataFrame
    sed_templates: pl.DataFrame
    spherex_bands: pl.DataFrame
    autoencoder: Path
    latent_flow: Path
    posterior_proposal: Path
    sample_scores: pl.LazyFrame
    example_posteriors: pl.DataFrame
    paper_figures: pl.DataFrame

    @property
    def models(self) -> dict[str, Path]:
        """Folders of the trained parts, by asset."""
        return {name: getattr(self, name) for name in ("autoencoder", "latent_flow", "posterior_proposal")}


def validation_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The assets of this group for a preset."""
    return [_photoz_metrics(preset), _missing_band_stress(preset), _validation_report(preset)]


def _photoz_metrics(preset: Preset) -> dg.AssetsDefinition:
    @validation_asset(
        kinds={"parquet", "numpy"},
        partitions_def=releases,
        deps=[cells_of("redshift_catalog")],
        code_version=code_version(3, preset, "validation"),
    )
    def photoz_metrics(
        context: dg.AssetExecutionContext, mock_photometry: pl.DataFrame, workspace: Workspace
    ) -> TableResult:
        """N, NMAD, bias, z-scores and outlier fractions per cut in sigma_z/(1+z), with bootstrap errors."""
        from paeplatform.figures.redshift import redshift_recovery
        from paeplatform.scores.evaluate import join_truth, posterior_metrics

        with one_line_failures():
            rows, version = release_table(
                context.instance, workspace, "redshift_catalog", context.partition_key
            )
            catalog = join_truth(rows.collect(), truth_of(mock_photometry))
            table = posterior_metrics(catalog, preset)
        z_true, z_hat, sigma_z = (catalog[name].to_numpy() for name in ("z_true", "pae_z_mean", "pae_z_std"))
        content = content_version(table)
        metadata = {
            **made_from(content.value, {"redshift_catalog": version}),
            **_headline(table),
            "recovery": plot(redshift_recovery(z_true, z_hat, sigma_z, table, z_max=preset.prior.z_max)),
            "metrics": preview(table, rows=len(table)),
        }
        return table_result(table, metadata, version=content, show_rows=False)

    return photoz_metrics


def _missing_band_stress(preset: Preset) -> dg.AssetsDefinition:
    @computed_asset(
        partitions_def=releases,
        deps=["pae_champion", cells_of("release_photometry")],
        code_version=posterior_code(2, preset, "stress_test"),
    )
    def missing_band_stress(
        context: dg.AssetExecutionContext,
        mock_photometry: pl.DataFrame,
        spherex_bands: pl.DataFrame,
        redshift_prior: pl.DataFrame,
        registry: ModelRegistry,
        workspace: Workspace,
    ) -> TableResult:
        """Some well-detected sources of a release with a growing part of their bands masked (section V.3)."""
        from paeplatform.scores.evaluate import join_truth

        with one_line_failures():
            rows, version = release_table(
                context.instance, workspace, "release_photometry", context.partition_key
            )
            sources = join_truth(_stress_sources(preset, rows), truth_of(mock_photometry))
        chosen = load_champion(EstimationInputs(preset, spherex_bands, redshift_prior, registry, workspace))
        from paeplatform.figures.inference import missing_bands_figure
        from paeplatform.inference.missing_bands import stress_test
        from paeplatform.scores.missing_bands import stress_summary

        with one_line_failures():
            tested = stress_test(
                chosen.estimate,
                *photometry_at_centres(sources, bands_from(spherex_bands)),
                fractions=preset.stress_test.fractions,
                seed=preset.seed,
            )
        table = tested.drop("pae_z_draws").join(
            sources.select("object_id", "z_true", "snr"), on="object_id", maintain_order="left"
        )
        summary = stress_summary(table)
        content = content_version(table)
        metadata = {
            **made_from(content.value, {"release_photometry": version}),
            "sources": sources.height,
            "bundle": f"{PAE} {chosen.champion.label}",
            "figure": plot(missing_bands_figure(summary, table)),
            "summary": preview(summary, rows=summary.height),
        }
        tags = {CHAMPION_TAG: chosen.champion.label}
        return table_result(table, metadata, version=content, show_rows=False, tags=tags)

    return missing_band_stress


def _validation_report(preset: Preset) -> dg.AssetsDefinition:
    @validation_asset(
        kinds={"matplotlib", "html"},
        partitions_def=releases,
        ins={**inputs_of(ReportInputs), **chosen_parts(preset), **tables_in(REPORT_TABLES)},
        deps=[cells_of("redshift_catalog")],
        code_version=code_version(5, preset, "validation", "trust"),
    )
    def validation_report(
        context: dg.AssetExecutionContext, registry: ModelRegistry, workspace: Workspace, **tables: Any
    ) -> dg.MaterializeResult:
        """One self-contained page: targets, metrics, the paper's tables, figures, sources, provenance."""
        from paeplatform.report.page import Report, write_report
        from paeplatform.scores.evaluate import join_truth
        from paeplatform.scores.missing_bands import stress_summary

        inputs, release = taken(ReportInputs, tables), context.partition_key
        with one_line_failures():
            rows, version = release_table(context.instance, workspace, "redshift_catalog", release)
            catalog = join_truth(rows.collect(), truth_of(inputs.mock_photometry))
            stress = stress_summary(inputs.missing_band_stress)
            figures = _figures(preset, inputs, catalog, stress, workspace)
            quality = release_quality(context.instance, workspace, release)
            library = library_from(inputs.sed_templates)
            report = Report(
                preset=preset,
                metrics={"release": inputs.photoz_metrics},
                posteriors=catalog,
                figures=figures,
                stress=stress,
                sections=report_sections(
                    preset,
                    tables,
                    inputs.sample_scores,
                    inputs.example_posteriors,
                    bands_from(inputs.spherex_bands),
                    quality,
                ),
                provenance=_provenance(release, catalog, registry) | {"library": library.content_hash()},
                targets=_targets(preset, inputs, catalog, tables),
                title="Redshifts of a SPHEREx-like release",
            )
            page = write_report(workspace.report_dir(release), report)
        return dg.MaterializeResult(
            metadata={
                **made_from(str(page), {"redshift_catalog": version}),
                "page": dg.MetadataValue.path(page),
                "figures": len(figures),
                "size_mb": round(page.stat().st_size / 1e6, 2),
                **_headline(inputs.photoz_metrics),
            }
        )

    return validation_report


def _figures(
    preset: Preset, inputs: ReportInputs, catalog: pl.DataFrame, stress: pl.DataFrame, workspace: Workspace
) -> "dict[str, Figure | bytes]":
    """All figures of the report by name: of the release, the stress test, the models, the data and the paper."""
    from paeplatform.figures.inference import missing_bands_figure
    from paeplatform.report.page import STRESS_FIGURE

    library, bands = library_from(inputs.sed_templates), bands_from(inputs.spherex_bands)
    return {
        **redshift_figures(preset, catalog, inputs.photoz_metrics),
        STRESS_FIGURE: missing_bands_figure(stress, inputs.missing_band_stress),
        **model_figures(inputs.models),
        **data_figures(
            preset, library, bands, inputs.mock_catalog, inputs.redshift_prior, inputs.mock_photometry
        ),
        **_pictures(workspace, inputs.paper_figures),
    }


def _pictures(workspace: Workspace, paper_figures: pl.DataFrame) -> dict[str, bytes]:
    """The figures of the paper by name, found by their file's name: the home may have moved since they were drawn."""
    folder = workspace.results_dir() / "figures"
    return {
        name: (folder / Path(png).name).read_bytes()
        for name, png in paper_figures.select("name", "png").iter_rows()
    }


def _targets(
    preset: Preset, inputs: ReportInputs, catalog: pl.DataFrame, tables: Mapping[str, pl.DataFrame]
) -> list[dict[str, Any]]:
    """What the run is held to: targets of the release, of the models and of the paper's tables."""
    from paeplatform.scores.calibration import posterior_summary
    from paeplatform.scores.targets import model_targets, paper_targets, release_targets

    numbers = model_numbers(inputs.autoencoder), model_numbers(inputs.latent_flow)
    return [
        *release_targets(posterior_summary(catalog, preset.pae.n_latent), preset.trust),
        *model_targets(*numbers, preset.validation.median_mse_max),
        *paper_targets({**tables, "chi2": fiducial_chi2(inputs.sample_scores)}),
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
