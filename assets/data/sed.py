"""Group sed: the galaxy templates everything starts from."""

from pathlib import Path

import dagster as dg

from paeplatform.assets.recording.metadata import TableResult, counts, plot, table_result
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
    def sed_templates() -> TableResult:
        """Rest-frame galaxy templates: name, source, licence, wavelength [um] and f_nu with mean 1."""
        from paeplatform.figures.data import template_overview
        from paeplatform.sed.library import load_library

        grid = preset.rest_grid
        with one_line_failures():
            library = load_library(preset.templates.folder, grid.wave_min_um, grid.wave_max_um)
        table = library_table(library)
        metadata = {
            "templates": len(library),
            "sources": counts(table, "source"),
            "overview": plot(template_overview(library.wave, library.flux, library.source)),
        }
        return table_result(table, metadata, version=dg.DataVersion(library.content_hash()))

    return [sed_templates]


def _source_digest(preset: Preset) -> str:
    """So that an edited template folder, or a new packaged table, makes the library stale."""
    import paeplatform.sed as package

    path = preset.templates.folder or Path(str(package.__file__)).parent / "data" / "templates.parquet"
    return f"-{file_digest(path)[:8]}" if path.exists() else ""
