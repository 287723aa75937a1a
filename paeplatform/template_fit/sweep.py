"""The best amplitude's score of every model for many sources: compiled, float32, one redshift at a time.

With d = flux / flux_err scaled to unit length and w = 1 / flux_err, a model m at its best amplitude A >= 0 leaves

    chi^2 = |d|^2 (1 - q^2),    q = max(d . (m w) / |m w|, 0)

so the profile over models is the largest q. A redshift's models (4 MB) are made, multiplied with all sources and
reduced while they are in the processor's cache; nothing of the grid's size is ever held. Sources that share their
errors need one matrix product: m w / |m w| is then the same for all of them. Otherwise |m w|^2 takes a second one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from paeplatform.template_fit.grid import TemplateGrid, node_slots

# |m w|^2 of a model without flux in any usable band is zero; its score becomes zero too
_TINY = 1e-36


class Sweep:
    """Scores of a grid's models, tile by tile in redshift.

    Args:
        grid: the models.
        tile: redshifts to a call.
    """

    def __init__(self, grid: TemplateGrid, tile: int = 16) -> None:
        self.grid = grid
        self._tile = tile
        self._lagrange = jnp.asarray(grid.lagrange, jnp.float32)
        self._ebv = jnp.asarray(grid.config.ebv, jnp.float32)

    def tiles(self) -> list[np.ndarray]:
        """Redshift indices of each call; the last ones are repeated to fill it."""
        n_z = len(self.grid.config.z)
        starts = range(0, n_z, self._tile)
        return [np.minimum(np.arange(first, first + self._tile), n_z - 1) for first in starts]

    def scores(
        self,
        z_index: np.ndarray,
        direction: Float[np.ndarray, "source band"],
        weight: Float[np.ndarray, "pattern band"],
    ) -> Float[Array, "z template source"]:
        """The largest q (before the cut at zero) over dust law and E(B-V).

        Args:
            z_index: (z,) indices of one tile.
            direction: d / |d|; zero in masked bands.
            weight: 1 / flux_err up to a factor, zero in masked bands: one row for all sources, or one each.
        """
        tile = jnp.asarray(self.grid.node_flux[z_index])
        exponent = jnp.asarray(self.grid.exponent[z_index], jnp.float32)
        data = jnp.asarray(direction.T, jnp.float32), jnp.asarray(weight, jnp.float32)
        return _scores(tile, exponent, self._lagrange, self._ebv, *data)


@jax.jit
def _scores(
    tile: Float[Array, "z template slot band"],
    exponent: Float[Array, "z law band"],
    lagrange: Float[Array, "ebv node"],
    ebv: Float[Array, " ebv"],
    direction: Float[Array, "band source"],
    weight: Float[Array, "pattern band"],
) -> Float[Array, "z template source"]:
    shared = weight.shape[0] == 1
    slot = node_slots(exponent.shape[1], lagrange.shape[1])

    def one(at: tuple[Array, Array]) -> Array:
        node_flux, exponent = at
        dimming = jnp.exp(-ebv[:, None] * exponent[:, None])  # law, ebv, band
        # a sum written out: XLA then makes the models in one pass, where a product would reorder its operands first
        model = sum(
            lagrange[:, node, None] * node_flux[:, slot[:, node], None] for node in range(lagrange.shape[1])
        )
        model = model * dimming  # template, law, ebv, band
        if shared:
            model = model * weight[0]
            norm = jnp.sum(model * model, axis=-1, keepdims=True)
            model = model * jax.lax.rsqrt(jnp.maximum(norm, _TINY))
        # the barrier keeps XLA from making the models anew inside the product
        n_template, n_band = model.shape[0], model.shape[-1]
        model = jax.lax.optimization_barrier(model.reshape(-1, n_band))
        score = model @ direction if shared else model @ (direction * weight.T)
        if not shared:
            norm = (model * model) @ (weight * weight).T
            score = score * jax.lax.rsqrt(jnp.maximum(norm, _TINY))
        return score.reshape(n_template, -1, score.shape[-1]).max(axis=1)

    return jax.lax.map(one, (tile, exponent))
