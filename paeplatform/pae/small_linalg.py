"""Linear algebra of small positive definite matrices, written out.

LAPACK's batched routines, called from a program that is split over several CPU devices, may never return (jaxlib
0.10.2, two devices on two cores); these stay inside XLA. They need no pivots, and are made for matrices of some ten
rows; batch them with vmap. Each goes through its rows in a loop of XLA's: written out row by row, they were most of
what a short run waited for, since each program that uses them compiles them anew.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def solve(matrix: Float[Array, "dim dim"], right: Float[Array, " dim"]) -> Float[Array, " dim"]:
    """matrix^-1 right of a positive definite matrix, by Gauss-Jordan elimination."""

    def eliminate(k: Array, table: Array) -> Array:
        pivot = table[k] / table[k, k]
        return (table - table[:, k, None] * pivot).at[k].set(pivot)

    table = jnp.concatenate([matrix, right[:, None]], axis=1)
    return jax.lax.fori_loop(0, right.size, eliminate, table)[:, -1]


def cholesky(matrix: Float[Array, "dim dim"]) -> Float[Array, "dim dim"]:
    """Lower factor of a positive definite matrix; NaN where it is not positive definite."""
    dim = matrix.shape[0]
    rows = jnp.arange(dim)

    def take_column(k: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        rest, factor = state
        column = jnp.where(rows >= k, rest[:, k] / jnp.sqrt(rest[k, k]), 0.0)
        return rest - jnp.outer(column, column), factor.at[:, k].set(column)

    return jax.lax.fori_loop(0, dim, take_column, (matrix, jnp.zeros_like(matrix)))[1]


def inverse_lower(factor: Float[Array, "dim dim"]) -> Float[Array, "dim dim"]:
    """Inverse of a lower triangular matrix, by forward substitution."""
    dim = factor.shape[0]
    eye = jnp.eye(dim, dtype=factor.dtype)

    def add_row(k: Array, inverse: Array) -> Array:
        # rows from k on are still zero, so that the product holds the known ones alone
        return inverse.at[k].set((eye[k] - factor[k] @ inverse) / factor[k, k])

    return jax.lax.fori_loop(0, dim, add_row, jnp.zeros_like(factor))


def log_determinant(matrix: Float[Array, "dim dim"]) -> Float[Array, ""]:
    """ln det of a positive definite matrix."""
    return 2.0 * jnp.sum(jnp.log(jnp.diagonal(cholesky(matrix))))
