"""Group validation: the validation sample and every method's posteriors of it, behind the paper's tables.

They judge the models as trained, not the champion: the catalogue's own redshifts are judged release by release
(`paeplatform.assets.validation.report`).
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from paeplatform.assets.inference.cells import Tables
from paeplatform.assets.inference.estimation import (
    MISFIT_SETTINGS,
    PAE_POSTERIORS,
    posterior_code,
    template_grid,
)
from paeplatform.assets.inference.sbi_estimation import sbi_code
from paeplatform.assets.recording.groups import asset_group
from paeplatform.assets.recording.metadata import TableResult, counts, table_result
from paeplatform.assets.recording.partitions import latent_sizes
from paeplatform.assets.recording.tables import bands_from, library_from, photometry_of
from paeplatform.assets.recording.versions import code_version, content_version, file_digest, left_out
from paeplatform.assets.validation.declared import computed_asset, table_asset
from paeplatform.assets.validation.resumable_tables import in_pieces
from paeplatform.config import Preset
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.workspace import Workspace

if TYPE_CHECKING:
    from paeplatform.assets.recording.tables import Photometry

SIZES = "tables.n_sources", "tables.n_chained"  # settings that decide which sources are sampled


def _validation_sample(preset: Preset) -> dg.AssetsDefinition:
    @table_asset(code_version=code_version(1, preset, "tables.n_sources"))
    def validation_sample(
        frozen_test_set: pl.DataFrame, sed_templates: pl.DataFrame, spherex_bands: pl.DataFrame
    ) -> TableResult:
        """The sources of the paper's tables: the frozen test set, and more of its catalogue where tables want more."""
        from paeplatform.scores.frozen_sources import draw_validation_sample

        with one_line_failures():
            table = draw_validation_sample(
                preset, library_from(sed_templates), bands_from(spherex_bands), frozen_test_set
            )
        return _made(table, {"median_snr": float(table["snr"].median())})  # type: ignore[arg-type]

    return validation_sample


def _sample_template_fits(preset: Preset) -> dg.AssetsDefinition:
    code = code_version(
        2, preset, "template_fit", "templates.dust_laws", "tables.n_sources", *MISFIT_SETTINGS
    )

    @computed_asset(code_version=code)
    def sample_template_fits(
        validation_sample: pl.DataFrame,
        sed_templates: pl.DataFrame,
        spherex_bands: pl.DataFrame,
        workspace: Workspace,
    ) -> TableResult:
        """Template fitting of the validation sample: the baseline of every table."""
        workspace.start_jax()
        from paeplatform.template_fit.fit import fit_templates

        library, bands = library_from(sed_templates), bands_from(spherex_bands)
        grid = template_grid(preset, sed_templates, spherex_bands)

        def fit(photometry: "Photometry") -> pl.DataFrame:
            with one_line_failures():
                return fit_templates(grid, *photometry, trust=preset.trust, progress=False)

        pins = code, repr(grid.config), library.content_hash(), bands.content_hash()
        table = _resumed(workspace, preset, "sample-tf", validation_sample, fit, *pins)
        return _made(table, {"status": counts(table, "tf_status"), "models": grid.n_models})

    return sample_template_fits


def _sample_sbi_posteriors(preset: Preset) -> dg.AssetsDefinition:
    @computed_asset(kinds={"pytorch", "parquet"}, code_version=f"1-{sbi_code(preset)}")
    def sample_sbi_posteriors(
        validation_sample: pl.DataFrame, spherex_bands: pl.DataFrame, sbi_model: Path
    ) -> TableResult:
        """SBI's p(z) of the validation sample, from the network as trained."""
        from paeplatform.sbi.bundle import load_sbi
        from paeplatform.sbi.inference import estimate_sbi

        with one_line_failures():
            model, _ = load_sbi(sbi_model)
            photometry = photometry_of(validation_sample)
            table = estimate_sbi(model, *photometry, preset.sbi, seed=preset.seed, progress=False)
        return _made(table, {"status": counts(table, "sbi_status")})

    return sample_sbi_posteriors


def _sample_pae_posteriors(preset: Preset) -> dg.AssetsDefinition:
    @computed_asset(
        kinds={"jax", "blackjax", "parquet"},
        partitions_def=dg.StaticPartitionsDefinition(list(preset.tables.priors)),
        code_version=posterior_code(PAE_POSTERIORS, preset, *SIZES),
    )
    def sample_pae_posteriors(
        context: dg.AssetExecutionContext,
        validation_sample: pl.DataFrame,
        spherex_bands: pl.DataFrame,
        redshift_prior: pl.DataFrame,
        pae_model: Path,
        workspace: Workspace,
    ) -> TableResult:
        """Posteriors of the validation sample under one choice of priors (Table 1); "free": without a prior on u."""
        workspace.start_jax()
        from paeplatform.instrument.filters import gaussian_filters
        from paeplatform.pae.bundle import load_bundle
        from paeplatform.paper.sampling import (
            estimator_under,
            posteriors_under,
            posteriors_without_nf_prior,
        )

        choice, bands = context.partition_key, bands_from(spherex_bands)
        bpz, filters = redshift_prior.row(0, named=True), gaussian_filters(bands)
        names = ("free_uniform", "free_bpz") if choice == "free" else (choice,)
        with one_line_failures():
            bundle = load_bundle(pae_model)
            under = {name: estimator_under(name, bundle, preset, bpz, bands, filters) for name in names}

        def sample(photometry: "Photometry") -> pl.DataFrame:
            with one_line_failures():
                if choice == "free":
                    both = under["free_uniform"], under["free_bpz"]
                    tables = posteriors_without_nf_prior(*both, photometry, progress=False)
                else:
                    tables = {choice: posteriors_under(under[choice], photometry, progress=False)}
            return pl.concat([_of_method(table, name) for name, table in tables.items()])

        chained = choice == "free" or preset.inference.method == "mclmc"
        sources = validation_sample.head(preset.tables.n_chained) if chained else validation_sample
        pins = posterior_code(PAE_POSTERIORS, preset), file_digest(pae_model), str(bpz)
        table = _resumed(workspace, preset, f"sample-{choice}", sources, sample, *pins)
        return _made(table, _states(table))

    return sample_pae_posteriors


def _sample_chains(preset: Preset) -> dg.AssetsDefinition:
    @computed_asset(
        kinds={"jax", "blackjax", "parquet"},
        partitions_def=latent_sizes(preset),
        code_version=posterior_code(PAE_POSTERIORS, preset, *SIZES),
    )
    def sample_chains(
        context: dg.AssetExecutionContext,
        validation_sample: pl.DataFrame,
        spherex_bands: pl.DataFrame,
        sed_templates: pl.DataFrame,
        redshift_prior: pl.DataFrame,
        autoencoder: Path,
        latent_flow: Path,
        workspace: Workspace,
    ) -> TableResult:
        """Markov chains with the PAE of one latent size, both priors on: Table 2, and appendix A with the NF prior."""
        workspace.start_jax()
        from paeplatform.paper.latent_sizes import bundle_of_parts
        from paeplatform.paper.sample_scores import FIDUCIAL, latent_method
        from paeplatform.paper.sampling import estimator_under, posteriors_under

        n_latent, bands = int(context.partition_key), bands_from(spherex_bands)
        library = library_from(sed_templates)
        with one_line_failures():
            bundle = bundle_of_parts(autoencoder, latent_flow, preset, n_latent, bands, library)
            bpz = redshift_prior.row(0, named=True)
            chains = replace(estimator_under(FIDUCIAL, bundle, preset, bpz, bands), method="mclmc")

        def sample(photometry: "Photometry") -> pl.DataFrame:
            with one_line_failures():
                found = posteriors_under(chains, photometry, progress=False)
            return _of_method(found, latent_method(n_latent))

        parts = file_digest(autoencoder), file_digest(latent_flow)
        pins = posterior_code(PAE_POSTERIORS, preset), *parts, str(bpz)
        sources = validation_sample.head(preset.tables.n_chained)
        table = _resumed(workspace, preset, f"sample-chains-{n_latent}", sources, sample, *pins)
        return _made(table, {"n_latent": n_latent, **_states(table)})

    return sample_chains


def _sample_scores(preset: Preset) -> dg.AssetsDefinition:
    @table_asset(
        code_version=code_version(1, preset, "prior.z_min", "prior.z_max", "pae.n_latent", *left_out(preset)),
    )
    def sample_scores(
        validation_sample: pl.DataFrame,
        sample_template_fits: pl.DataFrame,
        sample_sbi_posteriors: pl.DataFrame,
        sample_pae_posteriors: Tables,
        sample_chains: Tables,
    ) -> TableResult:
        """Each source's part in every metric, for every method: what the tables and most figures are read from."""
        from paeplatform.paper.sample_scores import score_methods

        with one_line_failures():
            table = score_methods(
                validation_sample,
                tf=sample_template_fits,
                sbi=sample_sbi_posteriors,
                pae=list(sample_pae_posteriors.values()),
                chains={int(size): rows for size, rows in sample_chains.items()},
                n_latent=preset.pae.n_latent,
                z_range=(preset.prior.z_min, preset.prior.z_max),
                leave_out=preset.tables.leave_out,
            )
        return _made(table, {"methods": counts(table, "method")})

    return sample_scores


def _of_method(table: pl.DataFrame, method: str) -> pl.DataFrame:
    return table.drop("pae_z_draws").with_columns(method=pl.lit(method))


def _states(table: pl.DataFrame) -> dict[str, object]:
    shown = {"status": "pae_status", "made_by": "pae_path"}
    return {name: counts(table, column) for name, column in shown.items() if column in table.columns}


def _resumed(
    workspace: Workspace,
    preset: Preset,
    name: str,
    sources: pl.DataFrame,
    estimate: "Callable[[Photometry], pl.DataFrame]",
    *pins: str,
) -> pl.DataFrame:
    """Estimates in pieces, under a checkpoint that is dropped when all are done."""
    checkpoint = workspace.checkpoint_dir(name, content_version(sources).value, *pins)
    table = in_pieces(checkpoint, sources, preset.tables.piece, estimate)
    workspace.forget_checkpoint(checkpoint)
    return table


def _made(table: pl.DataFrame, metadata: dict[str, object]) -> TableResult:
    return table_result(table, {**metadata, "rows": table.height})


sample_assets = asset_group(
    _validation_sample,
    _sample_template_fits,
    _sample_sbi_posteriors,
    _sample_pae_posteriors,
    _sample_chains,
    _sample_scores,
)
