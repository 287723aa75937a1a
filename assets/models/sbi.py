"""Groups models and inference: simulation-based inference, trained and applied.

Evaluation, promotion and champion of the registered model are made with those of `pae` (`assets.promotion.gate`).
"""

from pathlib import Path

import dagster as dg
import polars as pl

from paeplatform.assets.inference.cells import Cell, CellResults, Tables, cell_asset
from paeplatform.assets.inference.estimation import CHAMPION_TAG, EstimationInputs
from paeplatform.assets.inference.sbi_estimation import load_sbi_version, sbi_code
from paeplatform.assets.models.model_records import example_photometry, record_sbi
from paeplatform.assets.models.training import model_asset, training
from paeplatform.assets.recording.metadata import counts, model_links
from paeplatform.assets.recording.partitions import COMPUTE
from paeplatform.assets.recording.tables import bands_from, library_from, photometry_at_centres
from paeplatform.assets.recording.versions import code_version, content_version
from paeplatform.config import Preset
from paeplatform.resources.models.signatures import SBI_SUMMARIES, photometry_signature
from paeplatform.resources.registry import SBI, ModelRegistry
from paeplatform.resources.workspace import Workspace


def sbi_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The training of the network for a preset, and its posteriors."""
    return [_sbi_model(preset), _sbi_posteriors(preset)]


def _sbi_model(preset: Preset) -> dg.AssetsDefinition:
    settings = code_version(1, preset, *_training_settings(preset))

    @model_asset(kinds={"pytorch", "mlflow"}, pool=COMPUTE, code_version=settings)
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
        with training(context, SBI, preset, registry, workspace, checkpoint, catalog_version) as run:
            depth, z_limits = bands.depth(preset.instrument.depth), (preset.prior.z_min, preset.prior.z_max)
            bank = build_bank(preset, library, bands, mock_catalog)
            fit = train_sbi(bank, depth, preset.sbi, z_limits=z_limits, **run.fit_options)
            run.register(
                "sbi",
                record_sbi(fit, check_sbi(fit.model, bank, preset.sbi, seed=preset.seed)),
                lambda folder: save_sbi(fit.model, bands.content_hash(), folder),
                signature=photometry_signature(SBI_SUMMARIES),
                input_example=example_photometry(len(bands)),
                tags={"library_hash": library.content_hash(), "band_hash": bands.content_hash()},
            )
        return run.result()

    return sbi_model


def _sbi_posteriors(preset: Preset) -> dg.AssetsDefinition:
    version = sbi_code(preset)

    @cell_asset(kinds={"pytorch", "parquet"}, deps=["sbi_champion"], pool=COMPUTE, code_version=version)
    def sbi_posteriors(
        context: dg.AssetExecutionContext,
        release_photometry: Tables,
        spherex_bands: pl.DataFrame,
        registry: ModelRegistry,
        workspace: Workspace,
    ) -> dg.MaterializeResult[Tables]:
        """p(z) of one cell from the @champion of `sbi-redshift`: summaries, quantiles, flags."""
        results = CellResults(context, release_photometry=release_photometry)
        chosen = load_sbi_version(
            EstimationInputs(preset, spherex_bands, None, registry, workspace), progress=True
        )
        bands = bands_from(spherex_bands)

        def estimate(cell: Cell) -> pl.DataFrame:
            return chosen.estimate(
                *photometry_at_centres(cell.inputs["release_photometry"], bands)
            ).with_columns(
                sbi_version=pl.lit(chosen.champion.version, pl.Int32),
                sbi_code_version=pl.lit(version),
            )

        results.estimate(estimate, lambda table: {"status": counts(table, "sbi_status")})
        return results.result(
            tags={CHAMPION_TAG: chosen.champion.label},
            metadata=model_links(chosen.champion),
        )

    return sbi_posteriors


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
