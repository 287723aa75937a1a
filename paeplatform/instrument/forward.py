"""The fast forward operators: redshift and filter integrals as one differentiable table look-up.

Both rest on one fact: what band b collects from a fixed piecewise-linear spectrum is a smooth function of s =
ln(1+z) alone. Nodes uniform in s hold its exact value and exact derivative (`weights.py`), and a cubic
Hermite polynomial joins them: continuous with its slope, as gradient-based sampling wants. All bands share
the node interval, so an evaluation reads one contiguous piece of the table, blends its four slabs into one
matrix and multiplies.

The derivative is written by hand for speed only: left to itself, XLA keeps the gathered slabs (80 kB a
source) in memory for the backward pass; `benchmarks/bench_forward.py` holds the figures.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from paeplatform.errors import BandSetError
from paeplatform.instrument.filters import FilterCurves
from paeplatform.instrument.weights import all_band_weights, as_sparse

BEYOND_Z_MAX = 0.01  # the table's margin above z_max, in ln(1+z)
CHUNK = 128  # sources per step of `many`: their blended matrices (2.6 MB) stay in cache
N_GROUP = 6  # groups of neighbouring bands in `GridOperator`, each padded to its own widest window


def redshift_nodes(z_max: float, n_nodes: int) -> np.ndarray:
    """Nodes (n_nodes,) uniform in ln(1+z), from z = 0 to one per cent of 1+z beyond `z_max`.

    Raises:
        BandSetError: `z_max` is not positive and finite, or `n_nodes` below 4.
    """
    if not 0.0 < z_max < np.inf or n_nodes < 4:
        raise BandSetError(f"forward table: z_max {z_max} must be positive and n_nodes {n_nodes} at least 4")
    return np.linspace(0.0, np.log1p(z_max) + BEYOND_Z_MAX, n_nodes)


def _hermite(t: Float[Array, ""]) -> Float[Array, "4"]:
    """Weights of (value, slope) at the left node, then at the right node, at t in [0, 1]."""
    u = 1.0 - t
    return jnp.stack([u * u * (1.0 + 2.0 * t), t * u * u, t * t * (1.0 + 2.0 * u), -t * t * u])


def _hermite_slope(t: Float[Array, ""]) -> Float[Array, "4"]:
    """Derivative of `_hermite` in t."""
    u = 1.0 - t
    return jnp.stack([-6.0 * t * u, u * (u - 2.0 * t), 6.0 * t * u, t * (t - 2.0 * u)])


class ForwardOperator(eqx.Module):
    """A linear map from a source (coefficients or a spectrum) to band fluxes, tabulated over redshift.

    Beyond the table's ends (z < 0, z > z_max and margin) fluxes are those at the end, with zero derivative in
    z. The tables are constants: no gradient flows into them.
    """

    inverse_step: eqx.AbstractVar[float]
    n_nodes: eqx.AbstractVar[int]

    @abstractmethod
    def blend(self, interval: Int[Array, ""], weight: Float[Array, "4"]) -> Any:
        """The map at one redshift: the table's four slabs of an interval, weighted."""

    @abstractmethod
    def contract(
        self, blended: Any, interval: Int[Array, ""], source: Float[Array, " source"]
    ) -> Float[Array, " band"]:
        """Applies a blended map to a source; linear in both."""

    def locate(self, z: Float[Array, ""]) -> tuple[Int[Array, ""], Float[Array, ""], Float[Array, ""]]:
        """(interval, t, dt/dz) at redshift z."""
        position = jnp.log1p(z) * self.inverse_step
        inside = (position >= 0.0) & (position <= self.n_nodes - 1.0)
        position = jnp.clip(position, 0.0, self.n_nodes - 1.0)
        interval = jnp.minimum(jax.lax.stop_gradient(position).astype(jnp.int32), self.n_nodes - 2)
        return interval, position - interval, jnp.where(inside, self.inverse_step / (1.0 + z), 0.0)

    def __call__(self, source: Float[Array, " source"], z: Float[Array, ""]) -> Float[Array, " band"]:
        """Band fluxes (n_band,) of one source at redshift z, in the source's unit; differentiable in both."""
        return _evaluate(source, jnp.asarray(z), operator=jax.lax.stop_gradient(self))

    def many(self, sources: Float[Array, "n source"], z: Float[Array, " n"]) -> Float[Array, "n band"]:
        """As `jax.vmap(operator)(sources, z)` for any n, in steps of `CHUNK` sources that stay in cache.

        Differentiable; the backward pass recomputes instead of storing. For a batch beyond a few hundred.
        """
        n_source = len(z)
        n_step = -(-n_source // CHUNK)
        if n_step <= 1:
            return jax.vmap(self)(sources, z)
        n_lane = -(-n_source // n_step)
        padding = n_lane * n_step - n_source
        sources = jnp.pad(sources, ((0, padding), (0, 0)))
        z = jnp.pad(z, (0, padding))
        # Source i sits in lane i // n_step: lanes, not steps, follow the order of sources, so that an array
        # sharded over devices keeps every step spread over all of them.
        by_step = (sources.reshape(n_lane, n_step, -1).swapaxes(0, 1), z.reshape(n_lane, n_step).T)
        fluxes = jax.lax.map(jax.checkpoint(lambda batch: jax.vmap(self)(*batch)), by_step)
        return fluxes.swapaxes(0, 1).reshape(n_lane * n_step, -1)[:n_source]


@eqx.filter_custom_jvp
def _evaluate(source: Array, z: Array, *, operator: ForwardOperator) -> Array:
    interval, t, _ = operator.locate(z)
    return operator.contract(operator.blend(interval, _hermite(t)), interval, source)


@_evaluate.def_jvp
def _evaluate_jvp(primals: tuple, tangents: tuple, *, operator: ForwardOperator) -> tuple[Array, Array]:
    (source, z), (source_dot, z_dot) = primals, tangents
    interval, t, dt_dz = operator.locate(z)
    blended = operator.blend(interval, _hermite(t))
    flux = operator.contract(blended, interval, source)
    flux_dot = jnp.zeros_like(flux)
    if source_dot is not None:
        flux_dot += operator.contract(blended, interval, source_dot)
    if z_dot is not None:
        # The barrier hides that both blends read the same slabs: sharing them means writing them out first.
        hidden = jax.lax.optimization_barrier(interval)
        slope = operator.contract(operator.blend(hidden, _hermite_slope(t)), interval, source)
        flux_dot += slope * (dt_dz * z_dot)
    return flux, flux_dot


class FoldedOperator(ForwardOperator):
    """Band fluxes of the spectrum sum_k coefficients[k] * basis[k]; made by `fold`.

    `table[j, 0]` holds the basis' band fluxes at node j, `table[j, 1]` their derivative in s times the node
    step.
    """

    table: Float[Array, "node 2 band component"]
    inverse_step: float = eqx.field(static=True)
    n_nodes: int = eqx.field(static=True)

    def blend(self, interval: Int[Array, ""], weight: Float[Array, "4"]) -> Float[Array, "band component"]:
        """The (n_band, n_component) matrix at one redshift."""
        left = jax.lax.dynamic_index_in_dim(self.table, interval, keepdims=False)
        right = jax.lax.dynamic_index_in_dim(self.table, interval + 1, keepdims=False)
        return weight[0] * left[0] + weight[1] * left[1] + weight[2] * right[0] + weight[3] * right[1]

    def contract(
        self,
        blended: Float[Array, "band component"],
        interval: Int[Array, ""],
        source: Float[Array, " component"],
    ) -> Float[Array, " band"]:
        """Matrix times coefficients."""
        return blended @ source

    def matrix(self, z: Float[Array, ""]) -> Float[Array, "band component"]:
        """Band fluxes of every basis spectrum at redshift z; differentiable, for bases of a few spectra."""
        fixed = jax.lax.stop_gradient(self)
        interval, t, _ = fixed.locate(z)
        return fixed.blend(interval, _hermite(t))


def fold(
    basis: np.ndarray, wave: np.ndarray, filters: FilterCurves, z_max: float, n_nodes: int
) -> FoldedOperator:
    """Folds a linear decoder head, redshift and filters into one table (float64, rounded at the end).

    Args:
        basis: (n_component, n_wave) spectra f_nu on `wave`, piecewise linear between its points, constant
            beyond.
        wave: (n_wave,) rest wavelength [um], increasing.
        filters: n_band tabulated curves.
        z_max: largest redshift asked for.
        n_nodes: nodes in ln(1+z), at least 4; 1024 for z_max = 3 meets the accuracy that tests/instrument
            states.

    Raises:
        BandSetError: shapes do not fit, or a wavelength or basis value is not finite.
    """
    basis, wave = np.asarray(basis, dtype=np.float64), _checked_grid(wave)
    if basis.ndim != 2 or basis.shape[1] != len(wave) or not np.isfinite(basis).all():
        raise BandSetError(f"basis {basis.shape} must be finite with shape (n_component, {len(wave)})")
    nodes = redshift_nodes(z_max, n_nodes)
    step = float(nodes[1] - nodes[0])
    table = np.empty((n_nodes, 2, len(filters), len(basis)), dtype=np.float32)
    for band, weights in enumerate(all_band_weights(wave, filters, nodes)):
        table[:, 0, band] = as_sparse(weights.value, weights.start, len(wave)) @ basis.T
        table[:, 1, band] = as_sparse(step * weights.slope, weights.start, len(wave)) @ basis.T
    return FoldedOperator(table=jnp.asarray(table), inverse_step=1.0 / step, n_nodes=n_nodes)


class GridOperator(ForwardOperator):
    """Band fluxes of any spectrum on the rest grid; made by `grid_operator`.

    Bands come in groups of neighbours, each with its own window. For the interval between nodes j and j+1,
    `tables[g][j, :, b]` holds the Hermite data (value, slope; left, right) of band b's weights on the grid
    points `starts[g][j, b] + k`.
    """

    tables: tuple[Float[Array, "interval 4 _ _"], ...]
    starts: tuple[Int[Array, "interval _"], ...]
    inverse_step: float = eqx.field(static=True)
    n_nodes: int = eqx.field(static=True)

    def blend(self, interval: Int[Array, ""], weight: Float[Array, "4"]) -> list[Float[Array, "_ _"]]:
        """Each group's weights at one redshift."""
        slabs = [jax.lax.dynamic_index_in_dim(table, interval, keepdims=False) for table in self.tables]
        return [weight[0] * s[0] + weight[1] * s[1] + weight[2] * s[2] + weight[3] * s[3] for s in slabs]

    def contract(
        self,
        blended: list[Float[Array, "_ _"]],
        interval: Int[Array, ""],
        source: Float[Array, " wave"],
    ) -> Float[Array, " band"]:
        """Weights times the spectrum under each band."""
        groups = []
        for weights, starts in zip(blended, self.starts, strict=True):
            start = jax.lax.dynamic_index_in_dim(starts, interval, keepdims=False)
            points = start[:, None] + jnp.arange(weights.shape[-1])
            groups.append(jnp.sum(weights * source.at[points].get(mode="promise_in_bounds"), axis=-1))
        return jnp.concatenate(groups)


def grid_operator(wave: np.ndarray, filters: FilterCurves, z_max: float, n_nodes: int) -> GridOperator:
    """Tabulates redshift and filters for spectra on `wave`; arguments and errors as in `fold`."""
    wave = _checked_grid(wave)
    nodes = redshift_nodes(z_max, n_nodes)
    step = float(nodes[1] - nodes[0])
    bands = all_band_weights(wave, filters, nodes)
    tables, starts = [], []
    for group in np.array_split(np.arange(len(filters)), min(N_GROUP, len(filters))):
        chosen = [bands[band] for band in group]
        first = np.stack([np.minimum(w.start[:-1], w.start[1:]) for w in chosen], axis=1)
        last = np.stack([np.maximum(w.start[:-1], w.start[1:]) + w.value.shape[1] for w in chosen], axis=1)
        n_window = int((last - first).max())
        first = np.minimum(first, len(wave) - n_window)
        table = np.zeros((n_nodes - 1, 4, len(group), n_window), dtype=np.float32)
        row = np.arange(n_nodes - 1)[:, None]
        for band, w in enumerate(chosen):
            for slab, nodes_of in ((0, slice(0, -1)), (2, slice(1, None))):
                column = (w.start[nodes_of] - first[:, band])[:, None] + np.arange(w.value.shape[1])
                table[row, slab, band, column] = w.value[nodes_of]
                table[row, slab + 1, band, column] = step * w.slope[nodes_of]
        tables.append(jnp.asarray(table))
        starts.append(jnp.asarray(first.astype(np.int32)))
    return GridOperator(tables=tuple(tables), starts=tuple(starts), inverse_step=1.0 / step, n_nodes=n_nodes)


def _checked_grid(wave: np.ndarray) -> np.ndarray:
    wave = np.asarray(wave, dtype=np.float64)
    if (
        wave.ndim != 1
        or len(wave) < 2
        or not np.isfinite(wave).all()
        or not np.all(np.diff(wave, prepend=0.0) > 0.0)
    ):
        raise BandSetError(f"wave {wave.shape} must be one-dimensional, finite, positive and increasing [um]")
    return wave
