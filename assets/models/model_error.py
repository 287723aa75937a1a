"""Group models: how wrong the model is on galaxies that its training has not seen."""

from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from paeplatform.assets.models.training import MODELS
from paeplatform.assets.recording.metadata import TableResult, plot, table_result
from paeplatform.assets.recording.partitions import COMPUTE
from paeplatform.assets.recording.tables import bands_from, library_from
from paeplatform.assets.recording.versions import code_version, content_version, left_out
from paeplatform.config import Preset
from paeplatform.fit_record import FitOptions
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.workspace import Workspace

if TYPE_CHECKING:
    from paeplatform.pae.bundle import RelativeErrors


def model_error_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The measurement of a preset's model error."""
    settings = code_version(
        1,
        preset,
        "model_error",
        "training_set",
        "rest_grid",
        "catalog.z_max",
        "catalog.ebv_max",
        "pae.autoencoder",
        "pae.n_latent",
        "prior.z_min",
        "prior.z_max",
        "instrument.n_redshift_nodes",
        *left_out(preset),
    )

    @dg.asset(group_name=MODELS, kinds={"jax", "parquet"}, pool=COMPUTE, code_version=settings)
    def model_error(
        context: dg.AssetExecutionContext,
        sed_templates: pl.DataFrame,
        spherex_bands: pl.DataFrame,
        mock_catalog: pl.DataFrame,
        workspace: Workspace,
    ) -> TableResult:
        """Relative error of the model's flux by rest wavelength, from trainings without a part of the templates.

        Without folds in the preset the table is empty, and the likelihood counts the noise alone.
        """
        if not preset.model_error.folds:
            return table_result(errors_table(None), {"folds": 0}, show_rows=False)
        workspace.start_jax()
        from paeplatform.figures.models import model_error_figure
        from paeplatform.inference.folds import (
            fold_autoencoder,
            fold_misses,
            learnt_errors,
            template_folds,
        )

        library, bands = library_from(sed_templates), bands_from(spherex_bands)
        pins = settings, *(content_version(table).value for table in (sed_templates, mock_catalog))
        found, checkpoints = [], []
        with one_line_failures():
            for fold in template_folds(library, preset.model_error.folds, preset.seed):
                context.log.info(f"fold {fold.number}: a training without {len(fold.left_out)} templates")
                checkpoint = workspace.checkpoint_dir(f"fold-{fold.number}", *pins)
                autoencoder = fold_autoencoder(preset, library, mock_catalog, fold, FitOptions(checkpoint))
                found.append(fold_misses(autoencoder, preset, library, bands, mock_catalog, fold))
                checkpoints.append(checkpoint)
            errors = learnt_errors(preset, found)
        for checkpoint in checkpoints:
            workspace.forget_checkpoint(checkpoint)
        metadata = {
            "folds": len(found),
            "galaxies": sum(len(fold.relative) for fold in found),
            "median_error": float(pl.Series(errors.relative).median()),  # type: ignore[arg-type]
            "largest_error": float(errors.relative.max()),
            "errors": plot(model_error_figure(errors, found)),
        }
        return table_result(errors_table(errors), metadata)

    return [model_error]


def errors_table(errors: "RelativeErrors | None") -> pl.DataFrame:
    """One row a node: rest_wave_um [um] and relative; no row for a model without stated errors."""
    columns = {} if errors is None else errors._asdict()
    schema = {"rest_wave_um": pl.Float64, "relative": pl.Float64}
    return pl.DataFrame(columns, schema=schema)


def errors_from(table: pl.DataFrame) -> "RelativeErrors | None":
    """What `errors_table` laid out."""
    from paeplatform.pae.bundle import RelativeErrors

    if table.is_empty():
        return None
    return RelativeErrors(table["rest_wave_um"].to_numpy(), table["relative"].to_numpy())
