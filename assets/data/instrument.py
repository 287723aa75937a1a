"""Group instrument: the SPHEREx channels."""

from pathlib import Path

import dagster as dg
import polars as pl

from paeplatform.assets.recording.metadata import plot, preview
from paeplatform.assets.recording.tables import bands_table
from paeplatform.assets.recording.versions import file_digest
from paeplatform.resources.failures import one_line_failures


def instrument_assets() -> list[dg.AssetsDefinition]:
    """The assets of this group."""

    @dg.asset(group_name="instrument", kinds={"parquet", "polars"}, code_version=f"1-{_packaged_digest()}")
    def spherex_bands() -> dg.MaterializeResult[pl.DataFrame]:
        """The 102 channels: centre and width [um], detector, 1-sigma depths [uJy] expected and in flight."""
        from paeplatform.figures.convergence import band_depths
        from paeplatform.instrument.bands import load_bands

        with one_line_failures():
            bands = load_bands()
        table = bands_table(bands)
        depths = {"maximum expected value": bands.depth("mev"), "in flight": bands.depth("inflight")}
        return dg.MaterializeResult(
            value=table,
            data_version=dg.DataVersion(bands.content_hash()),
            metadata={
                "channels": len(bands),
                "depths": plot(band_depths(bands.wave_um, depths, bands.detector, bands.bandwidth_um)),
                "preview": preview(table),
            },
        )

    return [spherex_bands]


def _packaged_digest() -> str:
    import paeplatform.instrument as package

    path = Path(str(package.__file__)).parent / "data" / "spherex_channels.csv"
    return file_digest(path)[:8] if path.exists() else "missing"
