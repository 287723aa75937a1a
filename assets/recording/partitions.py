"""How the work is cut: release and sky cell for data and results, latent size for models."""

from pathlib import Path

import dagster as dg

from paeplatform.config import Preset
from paeplatform.errors import InputError

RELEASE = "release"
CELL = "cell"
COMPUTE = "compute"  # the concurrency pool of steps that use every core
SHARED_RUN = 8  # cells that one run of a backfill infers: they share start-up and compiled programs
releases = dg.DynamicPartitionsDefinition(name=RELEASE)
cells = dg.DynamicPartitionsDefinition(name=CELL)  # grows with what is delivered
release_cells = dg.MultiPartitionsDefinition({RELEASE: releases, CELL: cells})


def latent_sizes(preset: Preset) -> dg.StaticPartitionsDefinition:
    """The latent sizes that are trained; the bundle takes `preset.pae.n_latent`."""
    return dg.StaticPartitionsDefinition([str(size) for size in preset.pae.n_latents])


def chosen_size(preset: Preset) -> dg.SpecificPartitionsPartitionMapping:
    """Takes, of an asset cut by latent size, the one the bundle uses."""
    return dg.SpecificPartitionsPartitionMapping([str(preset.pae.n_latent)])


def chosen_parts(preset: Preset) -> dict[str, dg.AssetIn]:
    """The inputs of an asset that takes autoencoder and flow of the latent size that the bundle uses."""
    mapping = chosen_size(preset)
    return {
        name: dg.AssetIn(partition_mapping=mapping, dagster_type=Path)
        for name in ("autoencoder", "latent_flow")
    }


def cell_partition(release: str, cell: str) -> dg.MultiPartitionKey:
    """The partition of one sky cell of a release, from the keys of both."""
    return dg.MultiPartitionKey({RELEASE: release, CELL: cell})


def release_and_cell(partition_key: str) -> tuple[str, str]:
    """(release, cell) of a partition of a release x cell asset, also when its key was made plain text.

    Raises:
        InputError: the text has another form.
    """
    if isinstance(partition_key, dg.MultiPartitionKey):
        keys = partition_key.keys_by_dimension
        return keys[RELEASE], keys[CELL]
    cell, bar, release = partition_key.partition("|")  # Dagster orders dimensions by name
    if not bar or "|" in release:
        raise InputError(
            f"partition {partition_key[:200]!r} must look like 'hp6-27256|mock-r1' (cell, bar, release)"
        )
    return release, cell
