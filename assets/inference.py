"""Group inference: posteriors and template fits per release and sky cell, and the catalogue of them (rows I1-I4,
T1, K2).
"""

import time
from collections.abc import Mapping

import dagster as dg
import polars as pl

from assets.estimation import CHAMPION_TAG, load_champion, posterior_code
from assets.metadata import plot, preview
from assets.partitions import COMPUTE, release_and_cell, release_cells
from assets.tables import bands_from, library_from
from assets.versions import code_version, content_version
from paeplatform.config import Preset
from paeplatform.errors import CheckpointError
from resources.failures import one_line_failures
from resources.registry import PAE, ModelRegistry
from resources.workspace import Workspace

# Bulky, or of the mock alone; the catalogue is what users of redshifts read.
NOT_IN_CATALOG = (
    "flux",
    "flux_err",
    "flux_true",
    "template_index",
    "template",
    "dust_law",
    "ebv",
    "pae_z_draws",
)


def inference_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The assets of this group for a preset."""
    partitions = release_cells(preset)
    posterior_version = posterior_code(2, preset)

    # One partition a run: a run over several would stamp one data version on all, and one bad cell would
    # fail the rest. What a shared run would save, the compilation, the compile cache on disk saves too.
    @dg.asset(
        group_name="inference",
        kinds={"jax", "blackjax", "parquet"},
        partitions_def=partitions,
        deps=["pae_champion"],
        pool=COMPUTE,
        backfill_policy=dg.BackfillPolicy.multi_run(1),
        code_version=posterior_version,
    )
    def pae_posteriors(
        context: dg.AssetExecutionContext,
        release_photometry: pl.DataFrame,
        spherex_bands: pl.DataFrame,
        redshift_prior: pl.DataFrame,
        registry: ModelRegistry,
        workspace: Workspace,
    ) -> dg.MaterializeResult[pl.DataFrame]:
        """Redshift posteriors of one cell from the @champion of `pae`: summaries, quantiles, diagnostics."""
        release, cell = release_and_cell(context.partition_key)
        chosen = load_champion(preset, spherex_bands, redshift_prior, registry, workspace)
        began = time.monotonic()
        summaries = chosen.estimate(
            *(release_photometry[name].to_numpy() for name in ("flux", "flux_err", "object_id"))
        )
        hours = (time.monotonic() - began) / 3600.0
        table = summaries.with_columns(
            release=pl.lit(release),
            input_data_version=pl.lit(content_version(release_photometry).value),
            bundle_version=pl.lit(chosen.champion.version, pl.Int32),
            prior_id=pl.lit(chosen.prior_id),
            code_version=pl.lit(posterior_version),
            run_id=pl.lit(context.run.run_id),
        )
        return dg.MaterializeResult(
            value=table,
            data_version=content_version(table.drop("run_id")),
            tags={CHAMPION_TAG: chosen.champion.label},
            metadata={
                "cell": cell,
                "bundle": f"{PAE} {chosen.champion.label}",
                "model": dg.MetadataValue.url(chosen.champion.url),
                "prior": chosen.prior_id,
                "galaxies_per_hour": round(table.height / hours),  # compilation included
                **_convergence(table, preset),
                "preview": preview(table),
            },
        )

    @dg.asset(
        group_name="inference",
        kinds={"jax", "parquet"},
        partitions_def=partitions,
        pool=COMPUTE,
        backfill_policy=dg.BackfillPolicy.multi_run(1),
        code_version=code_version(1, preset, "template_fit", "templates.dust_laws"),
    )
    def template_fits(
        context: dg.AssetExecutionContext,
        release_photometry: pl.DataFrame,
        sed_templates: pl.DataFrame,
        spherex_bands: pl.DataFrame,
        workspace: Workspace,
    ) -> dg.MaterializeResult[pl.DataFrame]:
        """The baseline: every source of one cell against every template, dust law, E(B-V) and redshift."""
        workspace.start_jax()
        from paeplatform.instrument.filters import gaussian_filters
        from paeplatform.template_fit.fit import fit_templates
        from paeplatform.template_fit.grid import TemplateGridConfig, build_template_grid

        _, cell = release_and_cell(context.partition_key)
        with one_line_failures():
            extent = TemplateGridConfig(
                **preset.template_fit.model_dump(), dust_laws=preset.templates.dust_laws
            )
            grid = build_template_grid(
                library_from(sed_templates), gaussian_filters(bands_from(spherex_bands)), extent
            )
            began = time.monotonic()
            table = fit_templates(
                grid, *(release_photometry[name].to_numpy() for name in ("flux", "flux_err", "object_id"))
            )
        hours = (time.monotonic() - began) / 3600.0
        return dg.MaterializeResult(
            value=table,
            data_version=content_version(table),
            metadata={
                "cell": cell,
                "models": grid.n_models,
                "galaxies_per_hour": round(table.height / hours),
                "status": _counts(table, "tf_status"),
                "preview": preview(table),
            },
        )

    @dg.asset(
        group_name="inference",
        kinds={"parquet", "polars"},
        partitions_def=partitions,
        code_version="2",
    )
    def redshift_catalog(
        context: dg.AssetExecutionContext,
        release_photometry: pl.DataFrame,
        pae_posteriors: pl.DataFrame,
        template_fits: pl.DataFrame,
    ) -> dg.MaterializeResult[pl.DataFrame]:
        """The catalogue of one cell: source, redshifts by PAE and by template fitting, flags, and what made each."""
        table = release_photometry
        for made in (pae_posteriors, template_fits):
            table = table.join(made, on="object_id", how="inner", validate="1:1", maintain_order="left")
        table = table.drop([name for name in NOT_IN_CATALOG if name in table.columns])
        with one_line_failures():
            _check_complete(table, release_photometry, context.partition_key)
        return dg.MaterializeResult(
            value=table,
            data_version=content_version(table.drop("run_id")),
            metadata={
                "status": _counts(table, "pae_status"),
                "template_fit_status": _counts(table, "tf_status"),
                "preview": preview(table),
            },
        )

    return [pae_posteriors, template_fits, redshift_catalog]


def _counts(table: pl.DataFrame, column: str) -> dg.MetadataValue:
    return dg.MetadataValue.json(dict(table[column].value_counts().sort(column).iter_rows()))


def _convergence(table: pl.DataFrame, preset: Preset) -> Mapping[str, object]:
    from paeplatform.validation.calibration import posterior_summary
    from paeplatform.validation.figures import convergence

    summary = posterior_summary(table, preset.pae.n_latent)
    diagnostics = (table[f"pae_{name}"].to_numpy() for name in ("rhat", "acl", "khat", "ess"))
    return {name: value for name, value in summary.items() if value is not None} | {
        "made_by": _counts(table, "pae_path"),
        "status": _counts(table, "pae_status"),
        "convergence": plot(convergence(*diagnostics)),
    }


def _check_complete(table: pl.DataFrame, sources: pl.DataFrame, partition: str) -> None:
    if table.height != sources.height:
        raise CheckpointError(
            f"redshift_catalog {partition}: {table.height} of {sources.height} sources have a posterior and a "
            "template fit; materialise pae_posteriors and template_fits again"
        )
