"""Group inference: posteriors and template fits per release and sky cell, and the catalogue of them.

Content and inputs are recorded cell by cell (`paeplatform.assets.inference.cells`).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from paeplatform.assets.inference.cells import Cell, CellResults, Shown, Tables, cell_asset
from paeplatform.assets.inference.estimation import (
    CHAMPION_TAG,
    MISFIT_SETTINGS,
    PAE_POSTERIORS,
    EstimationInputs,
    load_champion,
    posterior_code,
    template_grid,
    trust_metadata,
)
from paeplatform.assets.recording.groups import asset_group
from paeplatform.assets.recording.metadata import counts, plot
from paeplatform.assets.recording.partitions import COMPUTE
from paeplatform.assets.recording.provenance import NOT_COMPARED
from paeplatform.assets.recording.tables import bands_from, photometry_at_centres
from paeplatform.assets.recording.versions import code_version
from paeplatform.config import Preset
from paeplatform.errors import CheckpointError
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.registry import PAE, ModelRegistry
from paeplatform.resources.workspace import Workspace

if TYPE_CHECKING:
    from paeplatform.inference.model.priors import RedshiftPrior

SAMPLED_WITH = "pae_prior"  # of posteriors: the prior they were sampled with, as JSON
# What the catalogue is made of: photometry, and beside it one table a method.
CATALOG_OF = ("release_photometry", "reweighted_posteriors", "template_fits", "sbi_posteriors")
# Bulky; the catalogue is what users of redshifts read.
NOT_IN_CATALOG = (
    "flux",
    "flux_err",
    "wave_offset",
    "n_exposures",
    "repeat_chi2",
    "pae_z_draws",
    SAMPLED_WITH,
)


def _pae_posteriors(preset: Preset) -> dg.AssetsDefinition:
    version = posterior_code(PAE_POSTERIORS, preset)

    @cell_asset(
        kinds={"jax", "blackjax", "parquet"},
        deps=["pae_champion"],
        pool=COMPUTE,
        code_version=version,
        # Posteriors carry the prior that they were sampled with, and are moved to another one by weights.
        metadata={NOT_COMPARED: ["redshift_prior"]},
    )
    def pae_posteriors(
        context: dg.AssetExecutionContext,
        release_photometry: Tables,
        release_measurements: Tables,
        spherex_bands: pl.DataFrame,
        redshift_prior: pl.DataFrame,
        registry: ModelRegistry,
        workspace: Workspace,
    ) -> dg.MaterializeResult[Tables]:
        """Redshift posteriors of one cell from the @champion of `pae`: summaries, quantiles, draws, diagnostics."""
        results = CellResults(
            context, release_photometry=release_photometry, release_measurements=release_measurements
        )
        chosen = load_champion(
            EstimationInputs(preset, spherex_bands, redshift_prior, registry, workspace), progress=True
        )

        def estimate(cell: Cell) -> pl.DataFrame:
            return chosen.estimate_release(*cell.inputs.values()).with_columns(
                release=pl.lit(cell.release),
                input_data_version=pl.lit(cell.versions["release_photometry"]),
                bundle_version=pl.lit(chosen.champion.version, pl.Int32),
                prior_id=pl.lit(chosen.prior_id),
                **{SAMPLED_WITH: pl.lit(chosen.prior)},
                code_version=pl.lit(version),
                run_id=pl.lit(context.run.run_id),
            )

        results.estimate(estimate, lambda table: _convergence(table, preset))
        return results.result(
            tags={CHAMPION_TAG: chosen.champion.label},
            metadata={
                "bundle": f"{PAE} {chosen.champion.label}",
                "model": dg.MetadataValue.url(chosen.champion.url),
                "prior": chosen.prior_id,
                **trust_metadata(preset),
            },
        )

    return pae_posteriors


def _template_fits(preset: Preset) -> dg.AssetsDefinition:
    @cell_asset(
        kinds={"jax", "parquet"},
        pool=COMPUTE,
        code_version=code_version(4, preset, "template_fit", "templates.dust_laws", *MISFIT_SETTINGS),
    )
    def template_fits(
        context: dg.AssetExecutionContext,
        release_photometry: Tables,
        sed_templates: pl.DataFrame,
        spherex_bands: pl.DataFrame,
        workspace: Workspace,
    ) -> dg.MaterializeResult[Tables]:
        """The baseline: every source of one cell against every template, dust law, E(B-V) and redshift."""
        results = CellResults(context, release_photometry=release_photometry)
        workspace.start_jax()
        from paeplatform.template_fit.fit import fit_templates

        grid = template_grid(preset, sed_templates, spherex_bands)
        with one_line_failures():
            bands = bands_from(spherex_bands)
            results.estimate(
                lambda cell: fit_templates(
                    grid, *photometry_at_centres(cell.inputs["release_photometry"], bands), trust=preset.trust
                ),
                lambda table: {"status": counts(table, "tf_status")},
            )
        return results.result(metadata={"models": grid.n_models, **trust_metadata(preset)})

    return template_fits


def _reweighted_posteriors(preset: Preset) -> dg.AssetsDefinition:
    @cell_asset(kinds={"jax", "parquet"}, pool=COMPUTE, code_version=posterior_code(4, preset))
    def reweighted_posteriors(
        context: dg.AssetExecutionContext,
        pae_posteriors: Tables,
        release_photometry: Tables,
        release_measurements: Tables,
        inference_prior: pl.DataFrame,
        spherex_bands: pl.DataFrame,
        registry: ModelRegistry,
        workspace: Workspace,
    ) -> dg.MaterializeResult[Tables]:
        """Posteriors under the p(z) in force: moved by weights where their draws allow it, else inferred again."""
        results = CellResults(
            context,
            pae_posteriors=pae_posteriors,
            release_photometry=release_photometry,
            release_measurements=release_measurements,
        )
        loaded_with = EstimationInputs(preset, spherex_bands, None, registry, workspace)
        in_force = PriorMove(loaded_with, inference_prior)

        def move(cell: Cell) -> tuple[pl.DataFrame, Shown]:
            table, inferred_again = in_force.move(*cell.inputs.values())
            return table, {"cell": cell.key, "inferred_again": inferred_again}

        results.make(move)
        return results.result(metadata={"prior": in_force.prior_id, **trust_metadata(preset)})

    return reweighted_posteriors


def _redshift_catalog(preset: Preset) -> dg.AssetsDefinition:
    @cell_asset(
        kinds={"parquet", "polars"},
        ins={name: dg.AssetIn(dagster_type=Tables) for name in CATALOG_OF},
        code_version=code_version(6, preset, "trust"),
    )
    def redshift_catalog(context: dg.AssetExecutionContext, **tables: Any) -> dg.MaterializeResult[Tables]:
        """The catalogue of one cell: source, redshifts by PAE, template fitting and SBI, flags, and what made each."""
        results = CellResults(context, **{name: tables[name] for name in CATALOG_OF})
        results.make(lambda cell: _joined(cell, preset))
        return results.result(metadata=trust_metadata(preset))

    return redshift_catalog


def _joined(cell: Cell, preset: Preset) -> tuple[pl.DataFrame, Shown]:
    """The catalogue of a cell: its photometry, and beside it what every method says of the source."""
    from paeplatform.outputs.flags import catalog_flags

    photometry, *estimates = cell.inputs.values()
    table = photometry
    for estimate in estimates:
        table = table.join(estimate, on="object_id", how="inner", validate="1:1", maintain_order="left")
    table = table.drop([name for name in NOT_IN_CATALOG if name in table.columns])
    with one_line_failures():
        _check_complete(table, photometry, cell)
        table = table.with_columns(catalog_flags=catalog_flags(table, preset.trust))
    return table, {
        "status": counts(table, "pae_status"),
        "template_fit_status": counts(table, "tf_status"),
        "sbi_status": counts(table, "sbi_status"),
    }


class PriorMove:
    """Moves posteriors from the prior that they were sampled with to the prior in force."""

    def __init__(self, loaded_with: EstimationInputs, inference_prior: pl.DataFrame) -> None:
        self._loaded_with = loaded_with
        self._prior = inference_prior.row(0, named=True)
        self.prior_id: str = self._prior["prior_id"]

    def move(
        self, posteriors: pl.DataFrame, photometry: pl.DataFrame, measurements: pl.DataFrame
    ) -> tuple[pl.DataFrame, int]:
        """(posteriors under the prior in force, how many were inferred again).

        Columns pae_reweight_ess and pae_moved ("no", "weights", "inferred") say how a source got there.
        """
        sampled_with = posteriors[SAMPLED_WITH][0] if posteriors.height else self._prior["prior"]
        if self._prior["prior"] == sampled_with:
            nothing = pl.lit(None, pl.Float32).alias("pae_reweight_ess")
            return posteriors.with_columns(nothing, pl.lit("no").alias("pae_moved")), 0
        import json

        from paeplatform.inference.model.priors import prior_from_dict
        from paeplatform.inference.results.reweight import reweight_table

        new = prior_from_dict(json.loads(self._prior["prior"]))
        with one_line_failures():
            moved = reweight_table(posteriors, sampled_with, new, trust=self._loaded_with.preset.trust)
        allowed = pl.col("pae_reweight_allowed")
        failed = pl.col("pae_status") == "failed"  # no data: no prior makes a posterior of it
        refused = moved.filter(~allowed & ~failed)["object_id"]
        moved = moved.with_columns(
            pl.when(failed).then(pl.lit("no")).otherwise(pl.lit("weights")).alias("pae_moved")
        ).drop("pae_reweight_allowed")
        if refused.is_empty():
            return moved, 0
        some = photometry.filter(pl.col("object_id").is_in(refused.implode()))
        again = self._inferred(some, measurements, posteriors, new)
        return _replaced(moved, again), refused.len()

    def _inferred(
        self,
        photometry: pl.DataFrame,
        measurements: pl.DataFrame,
        posteriors: pl.DataFrame,
        new: "RedshiftPrior",
    ) -> pl.DataFrame:
        """With the very bundle that made the rest."""
        version = int(posteriors["bundle_version"][0])
        chosen = load_champion(self._loaded_with, version, prior=new)
        again = chosen.estimate_release(photometry, measurements)
        return again.with_columns(pl.lit("inferred").alias("pae_moved"))


def _replaced(moved: pl.DataFrame, again: pl.DataFrame) -> pl.DataFrame:
    """The rows of `again` in the place of those of the same source; other columns stay as they were."""
    schema = {name: dtype for name, dtype in moved.schema.items() if name in again.columns}
    return moved.update(again.select(*schema).cast(schema), on="object_id", include_nulls=True)


def _convergence(table: pl.DataFrame, preset: Preset) -> Mapping[str, object]:
    from paeplatform.figures.redshift import convergence
    from paeplatform.scores.calibration import posterior_summary

    summary = posterior_summary(table, preset.pae.n_latent)
    diagnostics = (table[f"pae_{name}"].to_numpy() for name in ("rhat", "acl", "khat", "ess"))
    return {name: value for name, value in summary.items() if value is not None} | {
        "made_by": counts(table, "pae_path"),
        "status": counts(table, "pae_status"),
        "class": counts(table.with_columns(pl.col("class_best").fill_null("unknown")), "class_best"),
        "convergence": plot(convergence(*diagnostics, trust=preset.trust)),
    }


def _check_complete(table: pl.DataFrame, sources: pl.DataFrame, cell: Cell) -> None:
    if table.height != sources.height:
        raise CheckpointError(
            f"redshift_catalog of cell {cell.key}, release {cell.release}: {table.height} of {sources.height} sources "
            "have a posterior, a template fit and an SBI redshift; materialise pae_posteriors, template_fits and "
            "sbi_posteriors again"
        )


inference_assets = asset_group(_pae_posteriors, _template_fits, _reweighted_posteriors, _redshift_catalog)
