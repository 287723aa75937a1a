"""Group models: the amortised proposal that importance sampling draws from."""

from pathlib import Path

import dagster as dg
import polars as pl

from paeplatform.assets.models.model_error import errors_from
from paeplatform.assets.models.model_records import example_photometry, record_proposal
from paeplatform.assets.models.training import model_asset, part_tags, training, versions_of_parts
from paeplatform.assets.recording.partitions import COMPUTE, chosen_parts
from paeplatform.assets.recording.tables import bands_from
from paeplatform.assets.recording.versions import code_version, content_of_model, content_version
from paeplatform.config import Preset
from paeplatform.resources.models.signatures import PROPOSAL_SUMMARIES, photometry_signature
from paeplatform.resources.registry import PROPOSAL, ModelRegistry
from paeplatform.resources.workspace import Workspace


def proposal_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The training of the proposal for a preset."""
    settings = _settings(preset)

    @model_asset(kinds={"jax", "mlflow"}, pool=COMPUTE, ins=chosen_parts(preset), code_version=settings)
    def posterior_proposal(
        context: dg.AssetExecutionContext,
        autoencoder: Path,
        latent_flow: Path,
        spherex_bands: pl.DataFrame,
        redshift_prior: pl.DataFrame,
        model_error: pl.DataFrame,
        registry: ModelRegistry,
        workspace: Workspace,
    ) -> dg.MaterializeResult[Path]:
        """Photometry to draws near the posterior over (u, z), trained on the PAE's own prior with fresh noise."""
        workspace.start_jax()
        import numpy as np

        from paeplatform.inference.importance.proposal_check import check_proposal
        from paeplatform.inference.importance.proposal_training import train_proposal
        from paeplatform.inference.model.forward_model import build_forward
        from paeplatform.inference.model.model_error import model_error_of
        from paeplatform.inference.model.priors import prior_from_preset
        from paeplatform.instrument.filters import gaussian_filters
        from paeplatform.pae.bundle import PaeBundle, load_autoencoder, load_flow, save_proposal
        from paeplatform.sed.grid import rest_grid

        n_latent, bands = preset.pae.n_latent, bands_from(spherex_bands)
        parts = versions_of_parts(registry, autoencoder=autoencoder, flow=latent_flow)
        made_from = content_of_model(autoencoder), content_of_model(latent_flow), bands.content_hash()
        prior_version, error_version = (
            content_version(table).value for table in (redshift_prior, model_error)
        )
        checkpoint = workspace.checkpoint_dir(
            "posterior-proposal", settings, *made_from, prior_version, error_version
        )
        with training(
            context, PROPOSAL, preset, registry, workspace, checkpoint, prior_version, n_latent
        ) as run:
            model = PaeBundle(
                autoencoder=load_autoencoder(autoencoder),
                flow=load_flow(latent_flow),
                pae=preset.pae,
                n_latent=n_latent,
                wave=rest_grid(preset.rest_grid),
                band_hash=bands.content_hash(),
                library_hash="",
                model_error=errors_from(model_error),
            )
            prior = prior_from_preset(preset.prior, redshift_prior.row(0, named=True))
            forward = build_forward(
                model, gaussian_filters(bands), float(prior.z_max), preset.instrument.n_redshift_nodes
            )
            depths = np.stack([bands.depth("mev"), bands.depth("inflight")])
            term = model_error_of(model, bands.wave_um)
            made = train_proposal(
                forward,
                prior,
                depths,
                preset.proposal,
                n_latent=n_latent,
                model_error=term,
                **run.fit_options,
            )
            proposal = made.proposal
            check = check_proposal(
                proposal, forward, prior, depths, preset.proposal, seed=preset.seed, model_error=term
            )
            run.register(
                "proposal",
                record_proposal(made.fit, check),
                lambda folder: save_proposal(proposal, preset.proposal, folder),
                signature=photometry_signature(PROPOSAL_SUMMARIES),
                input_example=example_photometry(len(bands)),
                tags={**part_tags(parts), "band_hash": bands.content_hash(), "prior_id": prior.prior_id()},
            )
        return run.result()

    return [posterior_proposal]


def _settings(preset: Preset) -> str:
    """The code version: it covers the settings that the trained proposal depends on beside its inputs."""
    prior = "prior.redshift", "prior.z_min", "prior.z_max"
    return code_version(2, preset, "proposal", *prior, "instrument.n_redshift_nodes", "pae.n_latent")
