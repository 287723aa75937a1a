"""Group sed: the galaxy templates everything starts from."""

from pathlib import Path

import dagster as dg
import polars as pl

from paeplatform.assets.recording.metadata import plot, preview
from paeplatform.assets.recording.tables import library_table
from paeplatform.assets.recording.versions import code_version, file_digest
from paeplatform.config import Preset
from paeplatform.resources.failures import one_line_failures


def sed_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The assets of this group for a preset."""

    @dg.asset(
        group_name="sed",
        kinds={"parquet", "polars"},
        code_version=code_version(1, preset, "templates.folder", "rest_grid") + _source_digest(preset),
    )
    def sed_templates() -> dg.MaterializeResult[pl.DataFrame]:
        """Rest-frame galaxy templates: name, source, licence, wavelength [um] and f_nu with mean 1."""
        from paeplatform.figures.convergence import template_overview
        from paeplatform.sed.library import load_library

        grid = preset.rest_grid
        with one_line_failures():
            library = load_library(preset.templates.folder, grid.wave_min_um, grid.wave_max_um)
        table = library_table(library)
        return dg.MaterializeResult(
            value=table,
            data_version=dg.DataVersion(library.content_hash()),
            metadata={
                "templates": len(library),
                "sources": dg.MetadataValue.json(
                    dict(table["source"].value_counts().sort("source").iter_rows())
                ),
                "overview": plot(template_overview(library.wave, library.flux, library.source)),
                "preview": preview(table),
            },
        )

    return [sed_templates]


def _source_digest(preset: Preset) -> str:
    """So that an edited template folder, or a new packaged table, makes the library stale."""
    import paeplatform.sed as package

    path = preset.templates.folder or Path(str(package.__file__)).parent / "data" / "templates.parquet"
    return f"-{file_digest(path)[:8]}" if path.exists() else ""
