"""Group models: the bundle of autoencoder, flow and proposal that inference uses."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from paeplatform.assets.models.model_error import errors_from
from paeplatform.assets.models.model_records import example_photometry, write_setting
from paeplatform.assets.models.training import model_asset, model_tags, part_tags, versions_of_parts
from paeplatform.assets.recording.inputs import inputs_of, taken
from paeplatform.assets.recording.metadata import mlflow_links
from paeplatform.assets.recording.partitions import chosen_parts
from paeplatform.assets.recording.tables import bands_from, library_from
from paeplatform.assets.recording.versions import code_version, file_digest, left_out
from paeplatform.config import Preset
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.models.signatures import PAE_SUMMARIES, photometry_signature
from paeplatform.resources.registry import PAE, ModelRegistry
from paeplatform.resources.workspace import Workspace


@dataclass(frozen=True)
class BundleInputs:
    """The assets that a bundle is made from."""

    autoencoder: Path
    latent_flow: Path
    posterior_proposal: Path
    sed_templates: pl.DataFrame
    spherex_bands: pl.DataFrame
    redshift_prior: pl.DataFrame
    model_error: pl.DataFrame


def bundle_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The bundle for a preset."""

    @model_asset(
        kinds={"jax", "mlflow"},
        ins={**inputs_of(BundleInputs), **chosen_parts(preset)},
        code_version=code_version(4, preset, "pae.n_latent", *left_out(preset)),
    )
    def pae_model(
        context: dg.AssetExecutionContext, registry: ModelRegistry, workspace: Workspace, **made: Any
    ) -> dg.MaterializeResult[Path]:
        """The bundle that inference loads, registered as `pae` and @challenger until the gate has judged it."""
        workspace.start_jax()
        from paeplatform.pae.bundle import load_proposal, save_bundle
        from paeplatform.paper.latent_sizes import bundle_of_parts

        inputs = taken(BundleInputs, made)
        bands, library = bands_from(inputs.spherex_bands), library_from(inputs.sed_templates)
        parts = versions_of_parts(
            registry,
            autoencoder=inputs.autoencoder,
            flow=inputs.latent_flow,
            proposal=inputs.posterior_proposal,
        )
        n_latent = preset.pae.n_latent
        with one_line_failures():
            bundle = replace(
                bundle_of_parts(inputs.autoencoder, inputs.latent_flow, preset, n_latent, bands, library),
                proposal=load_proposal(inputs.posterior_proposal),
                proposal_config=preset.proposal,
                model_error=errors_from(inputs.model_error),
            )
            folder = workspace.scratch_path("bundle")
            save_bundle(bundle, folder)
            content = file_digest(folder)
            setting = write_setting(
                workspace.scratch_path("setting"), preset, inputs.redshift_prior, inputs.spherex_bands
            )
            with registry.training_run(
                PAE, preset, data_version=content, dagster_run_id=context.run.run_id
            ) as run:
                version = registry.register(
                    PAE,
                    {"bundle": folder, "setting": setting},
                    signature=photometry_signature(PAE_SUMMARIES),
                    input_example=example_photometry(len(bands)),
                    tags=model_tags(preset, content, n_latent)
                    | part_tags(parts)
                    | {"library_hash": bundle.library_hash, "band_hash": bundle.band_hash},
                )
        workspace.discard(setting)
        return dg.MaterializeResult(
            value=folder,
            data_version=dg.DataVersion(content),
            metadata={
                "n_latent": n_latent,
                **{name: part.label for name, part in parts.items()},
                "aliases": ", ".join(registry.aliases(version)),
                **mlflow_links(run, version),
            },
        )

    return [pae_model]
