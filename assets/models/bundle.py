"""Group models: the bundle of autoencoder, flow and proposal that inference uses."""

from pathlib import Path

import dagster as dg
import polars as pl

from paeplatform.assets.models.model_records import example_photometry, write_setting
from paeplatform.assets.models.training import model_asset, model_tags, part_tags, versions_of_parts
from paeplatform.assets.recording.metadata import mlflow_links
from paeplatform.assets.recording.partitions import chosen_parts
from paeplatform.assets.recording.tables import bands_from, library_from
from paeplatform.assets.recording.versions import code_version, file_digest, left_out
from paeplatform.config import Preset
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.registry import PAE, ModelRegistry
from paeplatform.resources.signatures import photometry_signature
from paeplatform.resources.workspace import Workspace


def bundle_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The bundle for a preset."""

    @model_asset(
        kinds={"jax", "mlflow"},
        ins=chosen_parts(preset),
        code_version=code_version(3, preset, "pae.n_latent", *left_out(preset)),
    )
    def pae_model(
        context: dg.AssetExecutionContext,
        autoencoder: Path,
        latent_flow: Path,
        posterior_proposal: Path,
        sed_templates: pl.DataFrame,
        spherex_bands: pl.DataFrame,
        redshift_prior: pl.DataFrame,
        registry: ModelRegistry,
        workspace: Workspace,
    ) -> dg.MaterializeResult[Path]:
        """The bundle that inference loads, registered as `pae` and @challenger until the gate has judged it."""
        workspace.start_jax()
        from paeplatform.pae.bundle import PaeBundle, load_autoencoder, load_flow, load_proposal, save_bundle
        from paeplatform.pae.landmarks import template_landmarks
        from paeplatform.sed.grid import library_on_grid, rest_grid

        bands, library = bands_from(spherex_bands), library_from(sed_templates)
        parts = versions_of_parts(
            registry, autoencoder=autoencoder, flow=latent_flow, proposal=posterior_proposal
        )
        wave = rest_grid(preset.rest_grid)
        with one_line_failures():
            encoder, flow = load_autoencoder(autoencoder), load_flow(latent_flow)
            templates = library_on_grid(library.without(preset.tables.leave_out), wave)
            bundle = PaeBundle(
                autoencoder=encoder,
                flow=flow,
                pae=preset.pae,
                n_latent=preset.pae.n_latent,
                wave=wave,
                band_hash=bands.content_hash(),
                library_hash=library.content_hash(),
                landmarks=template_landmarks(encoder, flow, templates, wave),
                proposal=load_proposal(posterior_proposal),
                proposal_config=preset.proposal,
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
                    input_example=example_photometry(len(bands)),
                    tags=model_tags(preset, content, preset.pae.n_latent)
                    | part_tags(parts)
                    | {"library_hash": bundle.library_hash, "band_hash": bundle.band_hash},
                )
        workspace.discard(setting)
        return dg.MaterializeResult(
            value=folder,
            data_version=dg.DataVersion(content),
            metadata={
                "n_latent": preset.pae.n_latent,
                **{name: part.label for name, part in parts.items()},
                "aliases": ", ".join(registry.aliases(version)),
                **mlflow_links(run, version),
            },
        )

    return [pae_model]
