"""Group inference: posteriors per release and sky cell, and the catalogue of them (rows I1, I2, I4, K2)."""

from collections.abc import Mapping

import dagster as dg
import polars as pl

from assets.metadata import plot, preview
from assets.models import COMPUTE
from assets.partitions import release_and_cell, release_cells
from assets.tables import bands_from
from assets.versions import code_version, content_version
from paeplatform.config import Preset
from paeplatform.errors import CheckpointError
from resources.failures import one_line_failures
from resources.registry import PAE, ModelRegistry
from resources.workspace import Workspace

CHAMPION_TAG = "paeplatform/champion"  # on a materialisation of pae_posteriors: the model version it used
# Bulky, or of the mock alone; the catalogue is what users of redshifts read.
NOT_IN_CATALOG = ("flux", "flux_err", "flux_true", "template_index", "template", "dust_law", "ebv")


def inference_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The assets of this group for a preset."""
    partitions = release_cells(preset)
    posterior_code = code_version(1, preset, "prior", "mclmc", "instrument.n_redshift_nodes")

    # One partition a run: a run over several would stamp one data version on all, and one bad cell would
    # fail the rest. What a shared run would save, the compilation, the compile cache on disk saves too.
    @dg.asset(
        group_name="inference",
        kinds={"jax", "blackjax", "parquet"},
        partitions_def=partitions,
        deps=["pae_champion"],
        pool=COMPUTE,
        backfill_policy=dg.BackfillPolicy.multi_run(1),
        code_version=posterior_code,
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
        with one_line_failures():
            champion = registry.by_alias(PAE)
            bundle_folder = registry.artifact(champion, "bundle")
        workspace.start_jax()
        from paeplatform.inference.estimate import estimate_photoz
        from paeplatform.inference.priors import redshift_prior as chosen_prior
        from paeplatform.instrument.filters import gaussian_filters
        from paeplatform.pae.bundle import load_bundle

        release, cell = release_and_cell(context.partition_key)
        bands = bands_from(spherex_bands)
        with one_line_failures():
            bundle = load_bundle(bundle_folder)
            prior = chosen_prior(preset.prior, redshift_prior.row(0, named=True))
            summaries = estimate_photoz(
                bundle,
                prior,
                bands,
                gaussian_filters(bands),
                release_photometry["flux"].to_numpy(),
                release_photometry["flux_err"].to_numpy(),
                release_photometry["object_id"].to_numpy(),
                preset,
                progress=True,
            )
        table = summaries.with_columns(
            release=pl.lit(release),
            input_data_version=pl.lit(content_version(release_photometry).value),
            bundle_version=pl.lit(champion.version, pl.Int32),
            prior_id=pl.lit(prior.prior_id()),
            code_version=pl.lit(posterior_code),
            run_id=pl.lit(context.run.run_id),
        )
        return dg.MaterializeResult(
            value=table,
            data_version=content_version(table.drop("run_id")),
            tags={CHAMPION_TAG: champion.label},
            metadata={
                "cell": cell,
                "bundle": f"{PAE} {champion.label}",
                "model": dg.MetadataValue.url(champion.url),
                "prior": prior.prior_id(),
                **_convergence(table, preset),
                "preview": preview(table),
            },
        )

    @dg.asset(
        group_name="inference",
        kinds={"parquet", "polars"},
        partitions_def=partitions,
        code_version="1",
    )
    def redshift_catalog(
        context: dg.AssetExecutionContext, release_photometry: pl.DataFrame, pae_posteriors: pl.DataFrame
    ) -> dg.MaterializeResult[pl.DataFrame]:
        """The catalogue of one cell: source, redshift summaries, flags, and what made each row."""
        sources = release_photometry.drop(
            [name for name in NOT_IN_CATALOG if name in release_photometry.columns]
        )
        table = sources.join(
            pae_posteriors, on="object_id", how="inner", validate="1:1", maintain_order="left"
        )
        with one_line_failures():
            _check_complete(table, sources, context.partition_key)
        status = dict(table["pae_status"].value_counts().sort("pae_status").iter_rows())
        return dg.MaterializeResult(
            value=table,
            data_version=content_version(table.drop("run_id")),
            metadata={"status": dg.MetadataValue.json(status), "preview": preview(table)},
        )

    return [pae_posteriors, redshift_catalog]


def _convergence(table: pl.DataFrame, preset: Preset) -> Mapping[str, object]:
    from paeplatform.validation.calibration import posterior_summary
    from paeplatform.validation.figures import convergence

    summary = posterior_summary(table, preset.pae.n_latent)
    return {name: value for name, value in summary.items() if value is not None} | {
        "convergence": plot(convergence(table["pae_rhat"].to_numpy(), table["pae_acl"].to_numpy()))
    }


def _check_complete(table: pl.DataFrame, sources: pl.DataFrame, partition: str) -> None:
    if table.height != sources.height:
        raise CheckpointError(
            f"redshift_catalog {partition}: {table.height} of {sources.height} sources have a posterior; "
            "materialise pae_posteriors again"
        )
