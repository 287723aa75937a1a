"""Group models: the amortised proposal that importance sampling draws from (row E6)."""

from pathlib import Path

import dagster as dg
import polars as pl

from assets.metadata import mlflow_links
from assets.model_records import (
    content_of,
    example_photometry,
    log_new_epochs,
    model_tags,
    record_proposal,
    trained,
)
from assets.partitions import COMPUTE, chosen_size
from assets.tables import bands_from
from assets.versions import code_version, content_version, file_digest
from paeplatform.config import Preset
from resources.failures import one_line_failures
from resources.registry import AUTOENCODER, FLOW, PROPOSAL, ModelRegistry
from resources.signatures import proposal_signature
from resources.workspace import Workspace


def proposal_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The training of the proposal for a preset."""
    settings = code_version(
        1,
        preset,
        "proposal",
        "prior.redshift",
        "prior.z_min",
        "prior.z_max",
        "instrument.n_redshift_nodes",
        "pae.n_latent",
    )

    @dg.asset(
        group_name="models",
        kinds={"jax", "mlflow"},
        pool=COMPUTE,
        io_manager_key="folders",
        ins={
            "autoencoder": dg.AssetIn(partition_mapping=chosen_size(preset)),
            "latent_flow": dg.AssetIn(partition_mapping=chosen_size(preset)),
        },
        code_version=settings,
    )
    def posterior_proposal(
        context: dg.AssetExecutionContext,
        autoencoder: Path,
        latent_flow: Path,
        spherex_bands: pl.DataFrame,
        redshift_prior: pl.DataFrame,
        registry: ModelRegistry,
        workspace: Workspace,
    ) -> dg.MaterializeResult[Path]:
        """Photometry to draws near the posterior over (u, z), trained on the PAE's own prior with fresh noise."""
        workspace.start_jax()
        import numpy as np

        from paeplatform.inference.forward_model import build_forward
        from paeplatform.inference.priors import redshift_prior as chosen_prior
        from paeplatform.inference.proposal_check import check_proposal
        from paeplatform.inference.proposal_training import train_proposal
        from paeplatform.instrument.filters import gaussian_filters
        from paeplatform.pae.bundle import PaeBundle, load_autoencoder, load_flow, save_proposal
        from paeplatform.sed.grid import rest_grid

        n_latent, bands = preset.pae.n_latent, bands_from(spherex_bands)
        parents = {
            "autoencoder": registry.by_content(AUTOENCODER, content_of(autoencoder)),
            "flow": registry.by_content(FLOW, content_of(latent_flow)),
        }
        made_from = (content_of(autoencoder), content_of(latent_flow), bands.content_hash())
        prior_version = content_version(redshift_prior).value
        checkpoint = workspace.checkpoint_dir("posterior-proposal", settings, *made_from, prior_version)
        with (
            one_line_failures(),
            registry.training_run(
                PROPOSAL,
                preset,
                data_version=prior_version,
                dagster_run_id=context.run.run_id,
                params={"n_latent_trained": n_latent},
            ) as run,
        ):
            model = PaeBundle(
                autoencoder=load_autoencoder(autoencoder),
                flow=load_flow(latent_flow),
                pae=preset.pae,
                n_latent=n_latent,
                wave=rest_grid(preset.rest_grid),
                band_hash=bands.content_hash(),
                library_hash="",
            )
            prior = chosen_prior(preset.prior, redshift_prior.row(0, named=True))
            forward = build_forward(
                model, gaussian_filters(bands), float(prior.z_max), preset.instrument.n_redshift_nodes
            )
            depths = np.stack([bands.depth("mev"), bands.depth("inflight")])
            made = train_proposal(
                forward,
                prior,
                depths,
                preset.proposal,
                n_latent=n_latent,
                seed=preset.seed,
                checkpoint_dir=checkpoint,
                on_epoch=lambda epoch: log_new_epochs(run, epoch),
            )
            proposal, fit = made.proposal, made.fit
            record = record_proposal(
                fit,
                check_proposal(proposal, forward, prior, depths, preset.proposal, seed=preset.seed),
            )
            folder = workspace.scratch_path("proposal")
            save_proposal(proposal, preset.proposal, n_latent, proposal.n_band, proposal.z_limits, folder)
            content = file_digest(folder)
            record.log(run, fit)
            version = registry.register(
                PROPOSAL,
                {"proposal": folder},
                signature=proposal_signature(),
                input_example=example_photometry(len(bands)),
                tags=model_tags(preset, content, n_latent)
                | {f"{name}_version": parent.version for name, parent in parents.items()}
                | {"band_hash": bands.content_hash(), "prior_id": prior.prior_id()},
            )
        workspace.forget_checkpoint(checkpoint)
        record.write(folder)
        return trained(folder, content, record, mlflow_links(run, version))

    return [posterior_proposal]
