"""Group instrument: the SPHEREx channels."""

from pathlib import Path

import dagster as dg

from paeplatform.assets.recording.metadata import TableResult, plot, table_result
from paeplatform.assets.recording.report_figures import depths_figure
from paeplatform.assets.recording.tables import bands_table
from paeplatform.assets.recording.versions import file_digest
from paeplatform.resources.failures import one_line_failures


def instrument_assets() -> list[dg.AssetsDefinition]:
    """The assets of this group."""

    @dg.asset(group_name="instrument", kinds={"parquet", "polars"}, code_version=f"1-{_packaged_digest()}")
    def spherex_bands() -> TableResult:
        """The 102 channels: centre and width [um], detector, 1-sigma depths [uJy] expected and in flight."""
        from paeplatform.instrument.bands import load_bands

        with one_line_failures():
            bands = load_bands()
        metadata = {"channels": len(bands), "depths": plot(depths_figure(bands))}
        return table_result(bands_table(bands), metadata, version=dg.DataVersion(bands.content_hash()))

    return [spherex_bands]


def _packaged_digest() -> str:
    import paeplatform.instrument as package

    path = Path(str(package.__file__)).parent / "data" / "spherex_channels.csv"
    return file_digest(path)[:8] if path.exists() else "missing"
