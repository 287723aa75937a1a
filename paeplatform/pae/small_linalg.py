"""Linear algebra of small positive definite matrices, written out.

LAPACK's batched routines, called from a program that is split over several CPU devices, may never return (jaxlib
0.10.2, two devices on two cores); these stay inside XLA. They need no pivots, and are made for matrices of some ten
rows; batch them with vmap.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def solve(matrix: Float[Array, "dim dim"], right: Float[Array, " dim"]) -> Float[Array, " dim"]:
    """matrix^-1 right of a positive definite matrix, by Gauss-Jordan elimination."""
    table = jnp.concatenate([matrix, right[:, None]], axis=1)
    for k in range(right.size):
        pivot = table[k] / table[k, k]
        table = (table - table[:, k : k + 1] * pivot).at[k].set(pivot)
    return table[:, -1]


def cholesky(matrix: Float[Array, "dim dim"]) -> Float[Array, "dim dim"]:
    """Lower factor of a positive definite matrix; NaN where it is not positive definite."""
    dim = matrix.shape[0]
    rows, rest, columns = jnp.arange(dim), matrix, []
    for k in range(dim):
        column = jnp.where(rows >= k, rest[:, k] / jnp.sqrt(rest[k, k]), 0.0)
        columns.append(column)
        rest = rest - jnp.outer(column, column)
    return jnp.stack(columns, axis=1)


def inverse_lower(factor: Float[Array, "dim dim"]) -> Float[Array, "dim dim"]:
    """Inverse of a lower triangular matrix, by forward substitution."""
    dim = factor.shape[0]
    eye = jnp.eye(dim, dtype=factor.dtype)
    rows: list[Array] = []
    for k in range(dim):
        known = sum((factor[k, j] * rows[j] for j in range(k)), start=jnp.zeros(dim, factor.dtype))
        rows.append((eye[k] - known) / factor[k, k])
    return jnp.stack(rows)


def log_determinant(matrix: Float[Array, "dim dim"]) -> Float[Array, ""]:
    """ln det of a positive definite matrix."""
    return 2.0 * jnp.sum(jnp.log(jnp.diagonal(cholesky(matrix))))
