"""Groups models and inference: simulation-based inference, trained and applied (rows B1-B3).

Evaluation, promotion and champion of the registered model are made with those of `pae` (`assets.promotion`).
"""

import time
from pathlib import Path

import dagster as dg
import polars as pl

from assets.cells import Made, Tables, counts
from assets.estimation import CHAMPION_TAG
from assets.metadata import mlflow_links
from assets.model_records import (
    example_photometry,
    log_new_epochs,
    record_sbi,
    trained,
    training_tags,
)
from assets.partitions import COMPUTE, SHARED_RUN, release_and_cell, release_cells
from assets.sbi_estimation import load_sbi_version, sbi_code
from assets.tables import bands_from, library_from
from assets.versions import code_version, content_version, file_digest
from paeplatform.config import Preset
from resources.failures import one_line_failures
from resources.registry import SBI, ModelRegistry
from resources.signatures import sbi_signature
from resources.workspace import Workspace


def sbi_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The training of the network for a preset, and its posteriors."""
    settings = code_version(1, preset, *_training_settings(preset))
    posteriors_version = sbi_code(preset)

    @dg.asset(
        group_name="models",
        kinds={"pytorch", "mlflow"},
        pool=COMPUTE,
        io_manager_key="folders",
        code_version=settings,
    )
    def sbi_model(
        context: dg.AssetExecutionContext,
        sed_templates: pl.DataFrame,
        spherex_bands: pl.DataFrame,
        mock_catalog: pl.DataFrame,
        registry: ModelRegistry,
        workspace: Workspace,
    ) -> dg.MaterializeResult[Path]:
        """Photometry to p(z) in one pass: trained on simulated photometry with fresh noise, then a @challenger."""
        from paeplatform.sbi.bank import build_bank
        from paeplatform.sbi.bundle import save_sbi
        from paeplatform.sbi.check import check_sbi
        from paeplatform.sbi.training import train_sbi

        bands, library = bands_from(spherex_bands), library_from(sed_templates)
        catalog_version = content_version(mock_catalog).value
        made_from = catalog_version, library.content_hash(), bands.content_hash()
        checkpoint = workspace.checkpoint_dir("sbi", settings, *made_from)
        with (
            one_line_failures(),
            registry.training_run(
                SBI, preset, data_version=catalog_version, dagster_run_id=context.run.run_id
            ) as run,
        ):
            depth = bands.depth(preset.instrument.depth)
            bank = build_bank(preset, library, bands, mock_catalog)
            fit = train_sbi(
                bank,
                depth,
                preset.sbi,
                z_limits=(preset.prior.z_min, preset.prior.z_max),
                seed=preset.seed,
                checkpoint_dir=checkpoint,
                on_epoch=lambda epoch: log_new_epochs(run, epoch),
            )
            record = record_sbi(fit, check_sbi(fit.model, bank, preset.sbi, seed=preset.seed))
            folder = workspace.scratch_path("sbi")
            save_sbi(fit.model, bands.content_hash(), folder)
            content = file_digest(folder)
            record.log(run, fit)
            version = registry.register(
                SBI,
                {"sbi": folder},
                signature=sbi_signature(),
                input_example=example_photometry(len(bands)),
                tags=training_tags(preset, content)
                | {"library_hash": library.content_hash(), "band_hash": bands.content_hash()},
            )
        workspace.forget_checkpoint(checkpoint)
        record.write(folder)
        return trained(folder, content, record, mlflow_links(run, version))

    @dg.asset(
        group_name="inference",
        kinds={"pytorch", "parquet"},
        partitions_def=release_cells,
        deps=["sbi_champion"],
        pool=COMPUTE,
        backfill_policy=dg.BackfillPolicy.multi_run(SHARED_RUN),
        code_version=posteriors_version,
    )
    def sbi_posteriors(
        context: dg.AssetExecutionContext,
        release_photometry: Tables,
        spherex_bands: pl.DataFrame,
        registry: ModelRegistry,
        workspace: Workspace,
    ) -> dg.MaterializeResult[Tables]:
        """p(z) of one cell from the @champion of `sbi-redshift`: summaries, quantiles, flags."""
        made = Made(context)
        chosen = load_sbi_version(preset, spherex_bands, None, registry, workspace, progress=True)
        for partition, photometry in release_photometry.items():
            began = time.monotonic()
            table = chosen.estimate(
                *(photometry[name].to_numpy() for name in ("flux", "flux_err", "object_id"))
            ).with_columns(
                sbi_version=pl.lit(chosen.champion.version, pl.Int32),
                sbi_code_version=pl.lit(posteriors_version),
            )
            hours = (time.monotonic() - began) / 3600.0
            made.add(
                partition,
                table,
                {"release_photometry": content_version(photometry).value},
                {
                    "cell": release_and_cell(partition)[1],
                    "galaxies_per_hour": round(table.height / hours),
                    "status": counts(table, "sbi_status"),
                },
            )
        return made.result(
            tags={CHAMPION_TAG: chosen.champion.label},
            metadata={
                "model_version": f"{SBI} {chosen.champion.label}",
                "model": dg.MetadataValue.url(chosen.champion.url),
            },
        )

    return [sbi_model, sbi_posteriors]


def _training_settings(preset: Preset) -> list[str]:
    """Paths of the settings that the trained network depends on, beside its inputs."""
    paths = [
        "sbi.encoder",
        "sbi.head",
        "sbi.bank",
        "sbi.fit",
        "prior.z_min",
        "prior.z_max",
        "training_set.delta_z",
        "training_set.delta_ebv",
        "release.mag_z_max",
        "instrument.depth",
    ]
    if preset.sbi.bank.leave_out_release:
        paths += ["release.cells", "release.healpix_order", "release.sources_per_cell"]
    return paths
