"""The Dagster code location: everything the platform is made of, assembled by hand.

Importing this takes a second or two; jax, torch, mlflow, great_expectations and matplotlib are loaded by the
steps that need them (tests/platform/test_definitions.py).
"""

from __future__ import annotations

import warnings

import dagster as dg

from paeplatform.assets.data.instrument import instrument_assets
from paeplatform.assets.data.mock import mock_assets
from paeplatform.assets.data.sed import sed_assets
from paeplatform.assets.inference.posteriors import inference_assets
from paeplatform.assets.inference.prior import prior_assets
from paeplatform.assets.models.bundle import bundle_assets
from paeplatform.assets.models.model_error import model_error_assets
from paeplatform.assets.models.parts import model_assets
from paeplatform.assets.models.proposal import proposal_assets
from paeplatform.assets.models.sbi import sbi_assets
from paeplatform.assets.promotion.gate import promotion_assets
from paeplatform.assets.recording.placement import place_steps
from paeplatform.assets.release.deliveries import delivery_assets
from paeplatform.assets.release.photometry import release_assets
from paeplatform.assets.validation.paper_figures import paper_figure_assets
from paeplatform.assets.validation.paper_tables import paper_table_assets
from paeplatform.assets.validation.report import validation_assets
from paeplatform.assets.validation.sample import sample_assets
from paeplatform.config import Preset
from paeplatform.resources.kubernetes import ClusterSettings
from paeplatform.resources.registry import ModelRegistry
from paeplatform.resources.settings import PlatformSettings
from paeplatform.resources.store import FolderStore, ParquetStore
from paeplatform.resources.workspace import Workspace
from paeplatform.sensors.reconcile import reconcile_sensor, release_sensor


def build_definitions(settings: PlatformSettings, cluster: ClusterSettings | None = None) -> dg.Definitions:
    """The code location for a home and a preset; with a cluster its steps run as pods, else in the run's process."""
    preset = settings.preset
    with warnings.catch_warnings():
        # partition mappings and backfill policies are "beta", partitioned checks "preview" in Dagster 1.13, which
        # is pinned; said here, not to users
        warnings.simplefilter("ignore", dg.BetaWarning)
        warnings.simplefilter("ignore", dg.PreviewWarning)
        assets = place_steps(_assets(preset), cluster)
    resources = {
        "io_manager": ParquetStore(base=str(settings.store), cache=str(settings.cache)),
        "folders": FolderStore(base=str(settings.store / "models"), cache=str(settings.cache)),
        "registry": ModelRegistry.from_settings(settings),
        "workspace": Workspace.from_settings(settings),
    }
    return dg.Definitions(
        assets=assets,
        resources=resources,
        sensors=[
            release_sensor(settings),
            reconcile_sensor(dg.Definitions(assets=assets, resources=resources), settings),
        ],
        # On one machine one process a run: its steps share imports and compiled programs.
        executor=cluster.executor_def() if cluster else dg.in_process_executor,
    )


def _assets(preset: Preset) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    return [
        *sed_assets(preset),  # sed_templates
        *instrument_assets(),  # spherex_bands
        *mock_assets(preset),  # mock_catalog, redshift_prior, training_spectra, mock_photometry
        *model_assets(preset),  # autoencoder, latent_flow
        *model_error_assets(preset),  # model_error
        *proposal_assets(preset),  # posterior_proposal
        *bundle_assets(preset),  # pae_model
        *promotion_assets(preset),  # frozen_test_set, and of pae and sbi: _evaluation, _promotion, _champion
        *delivery_assets(preset),  # mock_delivery, raw_release, release_exposures, cell_exposures
        *release_assets(preset),  # release_photometry, _measurements, quarantined_sources, quality_statistics
        *prior_assets(preset),  # inference_prior
        *inference_assets(preset),  # pae_posteriors, template_fits, reweighted_posteriors, redshift_catalog
        *sbi_assets(preset),  # sbi_model, sbi_posteriors
        *sample_assets(preset),  # validation_sample and, of it, posteriors by method and sample_scores
        *paper_figure_assets(preset),  # paper_figures
        *paper_table_assets(preset),  # table_*, and held_out_spectra, posterior_ranks, example_posteriors ...
        *validation_assets(preset),  # photoz_metrics, missing_band_stress, validation_report
    ]


@dg.definitions
def defs() -> dg.Definitions:
    """What `dg dev`, the web server and the daemon load; home, preset and cluster come from the environment."""
    return build_definitions(PlatformSettings.from_env(), ClusterSettings.from_env())
