"""The shape of the likelihood at a place: its Gauss-Newton picture, and the whitening that belongs to it."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array

from paeplatform.inference.batches.sharding import sharded
from paeplatform.inference.model.posterior import LogPosterior, WhitenedPhotometry
from paeplatform.inference.modes.starts import Geometry


def metric_lane(posterior: LogPosterior, photometry: WhitenedPhotometry, v: Array) -> Geometry:
    """Gauss-Newton picture of ln L at v; zero matrix, zero gradient and -inf where something is not finite."""

    def residual(v: Array) -> tuple[Array, Array]:
        r = posterior.free_residual(v, photometry)
        return r, r

    jacobian, r = jax.jacfwd(residual, has_aux=True)(v)
    fisher, gradient, log_like = jacobian.T @ jacobian, -jacobian.T @ r, -0.5 * jnp.sum(r**2)
    good = jnp.isfinite(fisher).all() & jnp.isfinite(gradient).all() & jnp.isfinite(log_like)
    return Geometry(
        jnp.where(good, fisher, 0.0), jnp.where(good, gradient, 0.0), jnp.where(good, log_like, -jnp.inf)
    )


@jax.jit
def whitening(fisher: Array) -> Array:
    """A square root of (fisher + 1)^-1, (lane, dim, dim); 1 is the prior's share."""
    eye = jnp.eye(fisher.shape[-1])

    def one(fisher: Array) -> Array:
        root = jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(fisher + eye), eye, lower=True).T
        return jnp.where(jnp.isfinite(root).all(), root, eye)

    return jax.vmap(one)(fisher)


@eqx.filter_jit
def metric(posterior: LogPosterior, mesh: Mesh, photometry: WhitenedPhotometry, v: Array) -> Geometry:
    """Gauss-Newton picture of ln L at v, for all lanes."""
    return sharded(metric_lane, posterior, mesh, (photometry, v))
