"""Group models: autoencoder and latent flow (rows P1, P2)."""

from pathlib import Path

import dagster as dg

from assets.metadata import mlflow_links
from assets.model_records import (
    content_of,
    log_new_epochs,
    model_tags,
    record_autoencoder,
    record_flow,
    trained,
)
from assets.partitions import COMPUTE, latent_sizes
from assets.versions import code_version, file_digest
from paeplatform.config import Preset
from resources.failures import one_line_failures
from resources.registry import AUTOENCODER, FLOW, ModelRegistry
from resources.signatures import row_signature
from resources.workspace import Workspace


def model_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The trainings of autoencoder and flow for a preset."""

    @dg.asset(
        group_name="models",
        kinds={"jax", "mlflow"},
        partitions_def=latent_sizes(preset),
        pool=COMPUTE,
        io_manager_key="folders",
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
        settings = code_version(1, preset, "pae.autoencoder")
        checkpoint = workspace.checkpoint_dir(f"autoencoder-{n_latent}", settings, data_version)
        with (
            one_line_failures(),
            registry.training_run(
                f"{AUTOENCODER}-{n_latent}",
                preset,
                data_version=data_version,
                dagster_run_id=context.run.run_id,
                params={"n_latent_trained": n_latent},
            ) as run,
        ):
            spectra = read_spectra(training_spectra)
            model, fit = train_autoencoder(
                preset.pae,
                spectra,
                n_latent,
                seed=preset.seed,
                checkpoint_dir=checkpoint,
                on_epoch=lambda epoch: log_new_epochs(run, epoch),
            )
            record = record_autoencoder(preset, model, fit, spectra)
            folder = workspace.scratch_path("autoencoder")
            save_autoencoder(model, preset.pae.autoencoder, n_latent, spectra.shape[1], folder)
            content = file_digest(folder)
            record.log(run, fit)
            version = registry.register(
                AUTOENCODER,
                {"autoencoder": folder},
                signature=row_signature(spectra.shape[1], spectra.shape[1]),
                input_example=spectra[:2],
                tags=model_tags(preset, content, n_latent) | {"training_data_version": data_version},
            )
        workspace.forget_checkpoint(checkpoint)
        record.write(folder)
        return trained(folder, content, record, mlflow_links(run, version))

    @dg.asset(
        group_name="models",
        kinds={"flowjax", "mlflow"},
        partitions_def=latent_sizes(preset),
        pool=COMPUTE,
        io_manager_key="folders",
        code_version=code_version(1, preset, "pae.flow"),
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
        from paeplatform.catalog.training_set import read_spectra
        from paeplatform.pae.bundle import load_autoencoder, save_flow
        from paeplatform.pae.training import encode_spectra, split_indices, train_flow

        n_latent, data_version = int(context.partition_key), file_digest(training_spectra)
        parent = registry.by_content(AUTOENCODER, content_of(autoencoder))
        settings = code_version(1, preset, "pae.flow")
        checkpoint = workspace.checkpoint_dir(
            f"latent-flow-{n_latent}", settings, data_version, content_of(autoencoder)
        )
        with (
            one_line_failures(),
            registry.training_run(
                f"{FLOW}-{n_latent}",
                preset,
                data_version=data_version,
                dagster_run_id=context.run.run_id,
                params={"n_latent_trained": n_latent},
            ) as run,
        ):
            latents = encode_spectra(load_autoencoder(autoencoder), read_spectra(training_spectra))
            fraction = preset.pae.autoencoder.fit.validation_fraction
            train, held_out = split_indices(len(latents), fraction, preset.seed)
            model, fit = train_flow(
                preset.pae,
                latents[train],
                latents[held_out],
                seed=preset.seed,
                checkpoint_dir=checkpoint,
                on_epoch=lambda epoch: log_new_epochs(run, epoch),
            )
            record = record_flow(model, fit, latents[held_out])
            folder = workspace.scratch_path("flow")
            save_flow(model, preset.pae.flow, n_latent, folder)
            content = file_digest(folder)
            record.log(run, fit)
            version = registry.register(
                FLOW,
                {"flow": folder},
                signature=row_signature(n_latent, n_latent),
                input_example=latents[:2],
                tags=model_tags(preset, content, n_latent)
                | {"training_data_version": data_version, "autoencoder_version": parent.version},
            )
        workspace.forget_checkpoint(checkpoint)
        record.write(folder)
        return trained(folder, content, record, mlflow_links(run, version))

    return [autoencoder, latent_flow]
