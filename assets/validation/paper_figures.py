"""Group validation: the paper's figures, drawn from its tables."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from paeplatform.assets.inference.cells import Tables
from paeplatform.assets.recording.inputs import inputs_of, tables_in, taken
from paeplatform.assets.recording.metadata import TableResult, picture, table_result
from paeplatform.assets.recording.provenance import hash_of_versions
from paeplatform.assets.recording.tables import bands_from
from paeplatform.assets.recording.versions import code_version, content_version
from paeplatform.assets.validation.declared import validation_asset
from paeplatform.config import Preset
from paeplatform.paper.table_list import TABLES
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.registry import ModelRegistry
from paeplatform.resources.workspace import Workspace

FIGURE_TABLES = (*(table.name for table in TABLES), "table_latent_norms", "table_ranks")


@dataclass(frozen=True)
class FigureInputs:
    """The assets that the figures are drawn from, beside `FIGURE_TABLES`."""

    sample_scores: pl.LazyFrame
    held_out_spectra: Tables
    example_posteriors: pl.DataFrame
    profile_likelihoods: pl.DataFrame
    posterior_ranks: pl.DataFrame
    spherex_bands: pl.DataFrame


def paper_figure_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The asset of all figures for a preset."""

    @validation_asset(
        kinds={"matplotlib", "mlflow"},
        ins={**inputs_of(FigureInputs), **tables_in(FIGURE_TABLES)},
        code_version=code_version(2, preset, "pae.n_latent", "prior.z_max"),
    )
    def paper_figures(
        context: dg.AssetExecutionContext, registry: ModelRegistry, workspace: Workspace, **tables: Any
    ) -> TableResult:
        """Figs. 3 and 5 to 18 of the paper as PNG and PDF, here and in an MLflow run with the tables they show."""
        from paeplatform.figures.paper import draw_paper_figures, write_figures

        inputs = taken(FigureInputs, tables)
        with one_line_failures():
            figures = draw_paper_figures(
                inputs.sample_scores,
                tables,
                {int(size): table for size, table in inputs.held_out_spectra.items()},
                inputs.example_posteriors,
                inputs.profile_likelihoods,
                inputs.posterior_ranks,
                bands_from(inputs.spherex_bands).wave_um,
                preset,
            )
            files = write_figures(workspace.results_dir() / "figures", figures)
        version = hash_of_versions({name: content_version(table).value for name, table in tables.items()})
        with registry.training_run(
            "validation-tables", preset, data_version=version, dagster_run_id=context.run.run_id
        ) as run:
            for row in files.iter_rows(named=True):
                run.log_file(Path(row["png"]), "figures")
                run.log_file(Path(row["pdf"]), "figures")
            for name, table in tables.items():
                run.log_table(table, name)
        pictures = {
            name: picture(Path(png).read_bytes(), figures[name])
            for name, png in files.select("name", "png").iter_rows()
        }
        folder = dg.MetadataValue.path(workspace.results_dir() / "figures")
        metadata = {"mlflow_run": dg.MetadataValue.url(run.url), "folder": folder, **pictures}
        return table_result(files, metadata, version=dg.DataVersion(version), show_rows=False)

    return [paper_figures]
