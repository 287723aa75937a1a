"""Group models: autoencoder, latent flow, and the bundle of both that inference uses (rows P1, P2, K3)."""

from pathlib import Path

import dagster as dg
import polars as pl

from assets.metadata import mlflow_links, plot
from assets.model_records import Record, log_new_epochs, record_autoencoder, record_flow, write_setting
from assets.partitions import latent_sizes
from assets.tables import bands_from, library_from
from assets.versions import code_version, file_digest
from paeplatform.config import Preset
from resources.failures import one_line_failures
from resources.registry import AUTOENCODER, FLOW, PAE, ModelRegistry
from resources.signatures import photometry_signature, row_signature
from resources.workspace import Workspace

COMPUTE = "compute"  # the concurrency pool of steps that use every core


def model_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The assets of this group for a preset."""
    chosen_size = dg.SpecificPartitionsPartitionMapping([str(preset.pae.n_latent)])

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
                tags=_tags(preset, content, n_latent) | {"training_data_version": data_version},
            )
        workspace.forget_checkpoint(checkpoint)
        record.write(folder)
        return _result(folder, content, record, mlflow_links(run, version))

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
        parent = registry.by_content(AUTOENCODER, _content(autoencoder))
        settings = code_version(1, preset, "pae.flow")
        checkpoint = workspace.checkpoint_dir(
            f"latent-flow-{n_latent}", settings, data_version, _content(autoencoder)
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
                tags=_tags(preset, content, n_latent)
                | {"training_data_version": data_version, "autoencoder_version": parent.version},
            )
        workspace.forget_checkpoint(checkpoint)
        record.write(folder)
        return _result(folder, content, record, mlflow_links(run, version))

    @dg.asset(
        group_name="models",
        kinds={"jax", "mlflow"},
        io_manager_key="folders",
        ins={
            "autoencoder": dg.AssetIn(partition_mapping=chosen_size),
            "latent_flow": dg.AssetIn(partition_mapping=chosen_size),
        },
        code_version=code_version(2, preset, "pae.n_latent"),
    )
    def pae_model(
        context: dg.AssetExecutionContext,
        autoencoder: Path,
        latent_flow: Path,
        sed_templates: pl.DataFrame,
        spherex_bands: pl.DataFrame,
        redshift_prior: pl.DataFrame,
        registry: ModelRegistry,
        workspace: Workspace,
    ) -> dg.MaterializeResult[Path]:
        """The bundle that inference loads, registered as `pae`: first @champion, later @challenger."""
        workspace.start_jax()
        from paeplatform.pae.bundle import PaeBundle, load_autoencoder, load_flow, save_bundle
        from paeplatform.pae.landmarks import template_landmarks
        from paeplatform.sed.grid import library_on_grid, rest_grid

        bands, library = bands_from(spherex_bands), library_from(sed_templates)
        parts = (
            registry.by_content(AUTOENCODER, _content(autoencoder)),
            registry.by_content(FLOW, _content(latent_flow)),
        )
        wave = rest_grid(preset.rest_grid)
        with one_line_failures():
            encoder, flow = load_autoencoder(autoencoder), load_flow(latent_flow)
            bundle = PaeBundle(
                autoencoder=encoder,
                flow=flow,
                pae=preset.pae,
                n_latent=preset.pae.n_latent,
                wave=wave,
                band_hash=bands.content_hash(),
                library_hash=library.content_hash(),
                landmarks=template_landmarks(encoder, flow, library_on_grid(library, wave), wave),
            )
            folder = workspace.scratch_path("bundle")
            save_bundle(bundle, folder)
            content = file_digest(folder)
            setting = write_setting(workspace.scratch_path("setting"), preset, redshift_prior, spherex_bands)
            with registry.training_run(
                PAE, preset, data_version=content, dagster_run_id=context.run.run_id
            ) as run:
                version = registry.register(
                    PAE,
                    {"bundle": folder, "setting": setting},
                    signature=photometry_signature(),
                    input_example=_example_photometry(len(bands)),
                    tags=_tags(preset, content, preset.pae.n_latent)
                    | {
                        "autoencoder_version": parts[0].version,
                        "flow_version": parts[1].version,
                        "library_hash": bundle.library_hash,
                        "band_hash": bundle.band_hash,
                    },
                )
        workspace.discard(setting)
        metadata = {"n_latent": preset.pae.n_latent, "autoencoder": parts[0].label, "flow": parts[1].label}
        return dg.MaterializeResult(
            value=folder,
            data_version=dg.DataVersion(content),
            metadata={
                **metadata,
                "aliases": ", ".join(registry.aliases(version)),
                **mlflow_links(run, version),
            },
        )

    @dg.asset(group_name="models", kinds={"mlflow"}, deps=[pae_model], code_version="1")
    def pae_champion(registry: ModelRegistry) -> dg.MaterializeResult:
        """The version of `pae` that @champion points at now: the model that makes the catalogue.

        Its data version is the model's version, so a champion moved by hand, here or in the MLflow UI, makes
        the posteriors stale, and a new challenger does not.
        """
        with one_line_failures():
            champion = registry.by_alias(PAE)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(champion.label),
            metadata={
                "version": champion.version,
                "model": dg.MetadataValue.url(champion.url),
                "tags": dg.MetadataValue.json(dict(champion.tags)),
            },
        )

    return [autoencoder, latent_flow, pae_model, pae_champion]


def _content(folder: Path) -> str:
    return (folder / "content.txt").read_text()


def _tags(preset: Preset, content: str, n_latent: int) -> dict[str, object]:
    return {"content": content, "n_latent": n_latent, "preset": preset.name, "preset_digest": preset.digest()}


def _result(folder: Path, content: str, record: Record, links: dict) -> dg.MaterializeResult[Path]:
    (folder / "content.txt").write_text(content)
    return dg.MaterializeResult(
        value=folder,
        data_version=dg.DataVersion(content),
        metadata={
            **record.metrics,
            **{name: plot(figure) for name, figure in record.figures.items()},
            **links,
        },
    )


def _example_photometry(n_bands: int) -> object:
    import pandas as pd

    return pd.DataFrame({"flux": [[20.0] * n_bands], "flux_err": [[2.0] * n_bands]})
