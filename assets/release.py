"""Group release: photometry as delivered, cut into release x sky cell (row K2)."""

import dagster as dg
import polars as pl

from assets.metadata import preview
from assets.partitions import release_and_cell, release_cells
from assets.versions import content_version
from paeplatform.catalog.cells import parse_cell_key
from paeplatform.config import Preset
from paeplatform.errors import ConfigError
from resources.failures import one_line_failures


def release_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The assets of this group for a preset."""

    @dg.asset(
        group_name="release",
        kinds={"parquet", "polars"},
        partitions_def=release_cells(preset),
        code_version="1",
    )
    def release_photometry(
        context: dg.AssetExecutionContext, mock_photometry: pl.LazyFrame
    ) -> dg.MaterializeResult[pl.DataFrame]:
        """The photometry of one release in one sky cell: flux and flux_err [uJy] of every source in it."""
        release, key = release_and_cell(context.partition_key)
        with one_line_failures():
            _check_release(preset, release)
        table = mock_photometry.filter(pl.col("cell") == parse_cell_key(key)[1]).collect()
        return dg.MaterializeResult(
            value=table,
            data_version=content_version(table),
            metadata={"release": release, "cell": key, "preview": preview(table)},
        )

    return [release_photometry]


def _check_release(preset: Preset, release: str) -> None:
    if release != preset.release.name:
        raise ConfigError(
            f"release {release!r} is not the mock release {preset.release.name!r} of preset {preset.name!r}; "
            "only that one can be made"
        )
