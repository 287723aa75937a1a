"""How the work is cut: release and sky cell for data and results, latent size for models (rows K2, P4)."""

import dagster as dg

from paeplatform.catalog.cells import cell_key
from paeplatform.config import Preset

RELEASE = "release"
CELL = "cell"
COMPUTE = "compute"  # the concurrency pool of steps that use every core
releases = dg.DynamicPartitionsDefinition(name=RELEASE)


def cell_keys(preset: Preset) -> list[str]:
    """The partition keys of the preset's sky cells, in order of cell."""
    return [cell_key(preset.release.healpix_order, cell) for cell in sorted(preset.release.cells)]


def release_cells(preset: Preset) -> dg.MultiPartitionsDefinition:
    """Release x HEALPix cell: keep cells coarse enough that one is minutes of work."""
    return dg.MultiPartitionsDefinition(
        {RELEASE: releases, CELL: dg.StaticPartitionsDefinition(cell_keys(preset))}
    )


def latent_sizes(preset: Preset) -> dg.StaticPartitionsDefinition:
    """The latent sizes that are trained; the bundle takes `preset.pae.n_latent`."""
    return dg.StaticPartitionsDefinition([str(size) for size in preset.pae.n_latents])


def chosen_size(preset: Preset) -> dg.SpecificPartitionsPartitionMapping:
    """Takes, of an asset cut by latent size, the one the bundle uses."""
    return dg.SpecificPartitionsPartitionMapping([str(preset.pae.n_latent)])


def release_and_cell(partition_key: str) -> tuple[str, str]:
    """(release, cell) of the running partition.

    Args:
        partition_key: `context.partition_key` of a release x cell asset.
    """
    assert isinstance(partition_key, dg.MultiPartitionKey), partition_key
    keys = partition_key.keys_by_dimension
    return keys[RELEASE], keys[CELL]
