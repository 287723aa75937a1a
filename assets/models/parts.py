"""Group models: autoencoder and latent flow."""

from pathlib import Path

import dagster as dg

from paeplatform.assets.models.model_records import record_autoencoder, record_flow
from paeplatform.assets.models.training import model_asset, part_tags, training, versions_of_parts
from paeplatform.assets.recording.partitions import COMPUTE, latent_sizes
from paeplatform.assets.recording.versions import code_version, content_of_model, file_digest
from paeplatform.config import Preset
from paeplatform.resources.models.signatures import row_signature
from paeplatform.resources.registry import AUTOENCODER, FLOW, ModelRegistry
from paeplatform.resources.workspace import Workspace


def model_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The trainings of autoencoder and flow for a preset."""
    return [_autoencoder(preset), _latent_flow(preset)]


def _autoencoder(preset: Preset) -> dg.AssetsDefinition:
    settings = code_version(1, preset, "pae.autoencoder")

    @model_asset(
        kinds={"jax", "mlflow"},
        partitions_def=latent_sizes(preset),
        pool=COMPUTE,
        code_version=code_version(1, preset, "pae.autoencoder", "rest_grid"),
    )
    def autoencoder(
        context: dg.AssetExecutionContext,
        training_spectra: Path,
        registry: ModelRegistry,
        workspace: Workspace,
    ) -> dg.MaterializeResult[Path]:
        """Compresses rest-frame spectra to a few numbers; trained on 80 % of them, judged on the rest."""
        workspace.start_jax()
        from paeplatform.catalog.training_set import read_spectra
        from paeplatform.pae.bundle import save_autoencoder
        from paeplatform.pae.training import train_autoencoder

        n_latent, data_version = int(context.partition_key), file_digest(training_spectra)
        checkpoint = workspace.checkpoint_dir(f"autoencoder-{n_latent}", settings, data_version)
        with training(
            context, AUTOENCODER, preset, registry, workspace, checkpoint, data_version, n_latent
        ) as run:
            spectra = read_spectra(training_spectra)
            n_wave = spectra.shape[1]
            model, fit = train_autoencoder(preset.pae, spectra, n_latent, **run.fit_options)
            run.register(
                "autoencoder",
                record_autoencoder(preset, model, fit, spectra),
                lambda folder: save_autoencoder(model, preset.pae.autoencoder, n_latent, n_wave, folder),
                signature=row_signature(n_wave, n_wave),
                input_example=spectra[:2],
                tags={"training_data_version": data_version},
            )
        return run.result()

    return autoencoder


def _latent_flow(preset: Preset) -> dg.AssetsDefinition:
    settings = code_version(1, preset, "pae.flow")

    @model_asset(
        kinds={"flowjax", "mlflow"}, partitions_def=latent_sizes(preset), pool=COMPUTE, code_version=settings
    )
    def latent_flow(
        context: dg.AssetExecutionContext,
        training_spectra: Path,
        autoencoder: Path,
        registry: ModelRegistry,
        workspace: Workspace,
    ) -> dg.MaterializeResult[Path]:
        """Maps the autoencoder's latents to N(0, I) and back, which makes them a prior one can sample."""
        workspace.start_jax()
        import numpy as np

        from paeplatform.catalog.training_set import read_redshifts, read_spectra
        from paeplatform.pae.bundle import load_autoencoder, save_flow
        from paeplatform.pae.training import encode_spectra, split_indices, train_flow

        n_latent, data_version = int(context.partition_key), file_digest(training_spectra)
        parts = versions_of_parts(registry, autoencoder=autoencoder)
        pins = settings, data_version, content_of_model(autoencoder)
        checkpoint = workspace.checkpoint_dir(f"latent-flow-{n_latent}", *pins)
        with training(context, FLOW, preset, registry, workspace, checkpoint, data_version, n_latent) as run:
            latents = encode_spectra(load_autoencoder(autoencoder), read_spectra(training_spectra))
            fraction = preset.pae.autoencoder.fit.validation_fraction
            train, held_out = split_indices(len(latents), fraction, preset.seed)
            z = read_redshifts(training_spectra)
            model, fit = train_flow(
                preset.pae,
                latents[train],
                latents[held_out],
                redshifts=(z[train], z[held_out]),
                **run.fit_options,
            )
            taken = latents if model.redshift is None else np.column_stack([latents, z])
            run.register(
                "flow",
                record_flow(model, fit, latents[held_out], z[held_out]),
                lambda folder: save_flow(model, preset.pae.flow, n_latent, folder),
                signature=row_signature(taken.shape[1], n_latent),
                input_example=taken[:2],
                tags={"training_data_version": data_version, **part_tags(parts)},
            )
        return run.result()

    return latent_flow
