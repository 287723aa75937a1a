"""Random keys of lanes: the same for a source whatever else is in its batch."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array


@eqx.filter_jit
def lane_keys(seed: Array, low: Array, high: Array, n_chains: int) -> Array:
    """Keys (lane, 2) from the seed and the two halves of each source's id."""

    def one(low: Array, high: Array) -> Array:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.PRNGKey(seed), low), high)
        return jax.vmap(lambda chain: jax.random.fold_in(key, chain))(jnp.arange(n_chains))

    return jax.vmap(one)(low, high).reshape(-1, 2)


@jax.jit
def stage_keys(keys: Array, stage: Array) -> Array:
    """Each lane's key of one stage."""
    return jax.vmap(lambda key: jax.random.fold_in(key, stage))(keys)


@eqx.filter_jit
def normals(keys: Array, dim: int) -> Array:
    """Standard normal numbers (lane, dim)."""
    return jax.vmap(lambda key: jax.random.normal(key, (dim,)))(keys)
