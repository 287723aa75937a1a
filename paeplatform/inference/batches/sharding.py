"""Lanes, or sources, split over the devices of a mesh."""

from __future__ import annotations

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array

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


def over_sources(function: Any, models: Any, mesh: Mesh, sources: tuple, active: Array | None = None) -> Any:
    """`function(*models, *source)` for one source after the other, sources split over the mesh's devices.

    Args:
        function: of the models and one source.
        models: shared by all sources.
        mesh: devices.
        sources: arrays with a leading axis of sources.
        active: (source,) which sources are wanted; the others, with which a batch is filled up, cost nothing and give
            zeros. None for all.
    """
    arrays, static = eqx.partition(models, eqx.is_array)

    def local(arrays: Any, sources: tuple, active: Array | None) -> Any:
        whole = eqx.combine(arrays, static)

        def one(source: tuple) -> Any:
            return function(*whole, *source)

        if active is None:
            return jax.lax.map(one, sources)

        def where_active(pair: tuple) -> Any:
            nothing = jax.tree.map(lambda out: jnp.zeros(out.shape, out.dtype), jax.eval_shape(one, pair[0]))
            return jax.lax.cond(pair[1], one, lambda _: nothing, pair[0])

        return jax.lax.map(where_active, (sources, active))

    specs = (PartitionSpec(), LANE, LANE)
    return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=LANE, check_vma=False)(
        arrays, sources, active
    )
