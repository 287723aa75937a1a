"""Lanes, or sources, split over the devices of a mesh."""

from __future__ import annotations

from functools import partial
from typing import Any

import equinox as eqx
import jax
from jax.sharding import Mesh, PartitionSpec

from paeplatform.inference.model.posterior import LogPosterior

LANE = PartitionSpec("lane")


def sharded(function: Any, posterior: LogPosterior, mesh: Mesh, lanes: tuple, shared: tuple = ()) -> Any:
    """vmap of `function(posterior, *lanes, *shared)` over lanes, lanes split over the mesh's devices."""
    arrays, static = eqx.partition(posterior, eqx.is_array)

    def local(arrays: Any, lanes: tuple, shared: tuple) -> Any:
        one = partial(function, eqx.combine(arrays, static))
        return jax.vmap(lambda lane: one(*lane, *shared))(lanes)

    specs = (PartitionSpec(), LANE, PartitionSpec())
    return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=LANE, check_vma=False)(
        arrays, lanes, shared
    )


def over_sources(function: Any, models: Any, mesh: Mesh, sources: tuple) -> Any:
    """`function(*models, *source)` for one source after the other, sources split over the mesh's devices."""
    arrays, static = eqx.partition(models, eqx.is_array)

    def local(arrays: Any, sources: tuple) -> Any:
        whole = eqx.combine(arrays, static)
        return jax.lax.map(lambda source: function(*whole, *source), sources)

    return jax.shard_map(local, mesh=mesh, in_specs=(PartitionSpec(), LANE), out_specs=LANE, check_vma=False)(
        arrays, sources
    )
