"""Amortised proposal: photometry in, a distribution over (u, ln z) out, cheap to draw from and to evaluate.

An encoder turns a source's photometry into a context and into the mean and Cholesky factor of a Gaussian; coupling
layers of splines, conditioned on the context, bend the standard normal before that Gaussian's affine map is applied:

    y = spline layers(eps; context),  eps ~ N(0, I),      x = mean(photometry) + factor(photometry) y.

The affine map carries position and width, which differ by a factor of a hundred between faint and bright sources;
splines on a fixed interval could not follow that. The splines carry curvature, skewness and further modes.
x = (u, t), t the standardised `logit_z`, so that every draw lies inside the redshift limits the proposal was
trained for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from paeplatform.config import ProposalConfig
from paeplatform.pae.autoencoder import Mlp
from paeplatform.pae.flow import LOG_2PI, layer_orders, shrunk
from paeplatform.pae.spline import BoundedSpline, SplineFromParameters

# Log of the smallest and largest scale of the Gaussian: beyond, a single source could ruin a batch in training.
SMALLEST_LOG_SCALE, LARGEST_LOG_SCALE = -6.5, 2.0
FEATURES_PER_BAND = 3  # and one for the whole, see `features`
DIRECTION_SCALE = 8.0  # brings the unit vector's elements to order one


class Context(NamedTuple):
    """What one source's photometry means for its draws.

    Attributes:
        hidden: (layer, width) share of every conditioner's first layer.
        mean: (dim,) of the affine map.
        factor: (dim, dim) lower triangular.
        inverse: (dim, dim) its inverse: a solve for every draw would cost more than the rest.
    """

    hidden: Float[Array, "layer width"]
    mean: Float[Array, " dim"]
    factor: Float[Array, "dim dim"]
    inverse: Float[Array, "dim dim"]


class ConditionalCoupling(eqx.Module):
    """A coupling layer whose splines depend on the untransformed half and on the context; then a permutation."""

    inner: eqx.nn.Linear
    middle: eqx.nn.Linear
    outer: eqx.nn.Linear
    order: Int[np.ndarray, " dim"] = eqx.field(static=False)
    n_kept: int = eqx.field(static=True)
    spline: SplineFromParameters = eqx.field(static=True)

    def transform(self, x: Array, hidden: Array) -> tuple[Array, Array]:
        """(image, log |det|) of a base point."""
        moved, log_det = self._through_splines(BoundedSpline.transform_and_log_det, x, hidden)
        return moved[self.order], log_det

    def inverse(self, y: Array, hidden: Array) -> tuple[Array, Array]:
        """(base point, log |det| of the inverse)."""
        return self._through_splines(BoundedSpline.inverse_and_log_det, y[jnp.argsort(self.order)], hidden)

    def _through_splines(self, direction: Callable, x: Array, hidden: Array) -> tuple[Array, Array]:
        """(the kept half as it is and the other through its splines in this direction, log |det|)."""
        kept, moved = x[: self.n_kept], x[self.n_kept :]
        h = jax.nn.silu(self.inner(kept) + hidden)
        h = jax.nn.silu(self.middle(h))
        splines = jax.vmap(self.spline)(self.outer(h).reshape(self.order.size - self.n_kept, -1))
        moved, log_det = jax.vmap(direction)(splines, moved)
        return jnp.concatenate([kept, moved]), jnp.sum(log_det)


class Proposal(eqx.Module):
    """q(u, ln z | photometry).

    Attributes:
        encoder: MLP of the photometry's features.
        to_hidden: context to every coupling layer's share.
        to_affine: context to mean and factor.
        layers: the coupling layers, stacked.
        t_shift: mean of logit_z over the training draws; a constant.
        t_scale: its standard deviation; a constant.
        log_z_limits: (2,) ln of the limits inside which draws lie; a constant.
    """

    encoder: Mlp
    to_hidden: eqx.nn.Linear
    to_affine: eqx.nn.Linear
    layers: ConditionalCoupling
    t_shift: Float[Array, ""]
    t_scale: Float[Array, ""]
    log_z_limits: Float[Array, " 2"]

    @property
    def dim(self) -> int:
        """Size of x: the latents and one for redshift."""
        return self.layers.order.shape[-1]

    @property
    def n_band(self) -> int:
        """Bands of the photometry it reads."""
        return (self.encoder.layers[0].weight.shape[1] - 1) // FEATURES_PER_BAND

    @property
    def z_limits(self) -> tuple[float, float]:
        """The redshift limits inside which draws lie."""
        low, high = np.exp(np.asarray(self.log_z_limits, dtype=np.float64))
        return float(low), float(high)

    def context(self, signal: Float[Array, " band"], weight: Float[Array, " band"]) -> Context:
        """Context of one source, from its whitened photometry (`inference.posterior.Photometry`)."""
        h = jax.nn.silu(self.encoder(features(signal, weight)))
        n_layer = self.layers.order.shape[0]
        affine = self.to_affine(h)
        mean, log_scale, below = jnp.split(affine, [self.dim, 2 * self.dim])
        middle, half = (
            0.5 * (LARGEST_LOG_SCALE + SMALLEST_LOG_SCALE),
            0.5 * (LARGEST_LOG_SCALE - SMALLEST_LOG_SCALE),
        )
        log_scale = middle + half * jnp.tanh((log_scale - middle) / half)
        unit = jnp.eye(self.dim).at[jnp.tril_indices(self.dim, -1)].set(below)
        scale = jnp.exp(log_scale)
        inverse = jax.scipy.linalg.solve_triangular(
            unit, jnp.diag(1.0 / scale), lower=True, unit_diagonal=True
        )
        return Context(self.to_hidden(h).reshape(n_layer, -1), mean, scale[:, None] * unit, inverse)

    def sample(self, context: Context, eps: Float[Array, " dim"]) -> tuple[Array, Array, Array]:
        """(u, ln z, ln q over (u, ln z)) of a standard normal vector."""
        y, log_det = self._through_layers(eps, context, inverse=False)
        x = context.mean + context.factor @ y
        log_q = -0.5 * jnp.sum(eps**2) - 0.5 * eps.size * LOG_2PI - log_det - self._log_scale(context)
        log_z, bend = self._log_z(x[-1])
        return x[:-1], log_z, log_q - bend

    def log_prob(self, context: Context, u: Array, log_z: Array) -> Float[Array, ""]:
        """ln q(u, ln z | photometry); -inf at and beyond the limits of ln z."""
        return self.base_and_log_prob(context, u, log_z)[1]

    def base_and_log_prob(self, context: Context, u: Array, log_z: Array) -> tuple[Array, Array]:
        """(normal vector that `sample` takes to (u, ln z), ln q there); ln q is -inf beyond the limits of ln z."""
        low, high = jax.lax.stop_gradient(self.log_z_limits)
        inside = (log_z > low) & (log_z < high)
        raw = logit_z(jnp.where(inside, log_z, 0.5 * (low + high)), low, high)
        t = (raw - jax.lax.stop_gradient(self.t_shift)) / jax.lax.stop_gradient(self.t_scale)
        x = jnp.append(u, t)
        y = context.inverse @ (x - context.mean)
        eps, log_det = self._through_layers(y, context, inverse=True)
        log_q = -0.5 * jnp.sum(eps**2) - 0.5 * eps.size * LOG_2PI + log_det - self._log_scale(context)
        return eps, jnp.where(inside, log_q - self._log_z(t)[1], -jnp.inf)

    def _through_layers(self, x: Array, context: Context, *, inverse: bool) -> tuple[Array, Array]:
        """(image, log |det|) of a point under all coupling layers, or under their inverses from the last on."""
        arrays, static = eqx.partition(self.layers, eqx.is_array)

        def step(carry: tuple, layer: tuple) -> tuple[tuple, None]:
            x, log_det = carry
            coupling = eqx.combine(layer[0], static)
            x, more = (coupling.inverse if inverse else coupling.transform)(x, layer[1])
            return (x, log_det + more), None

        return jax.lax.scan(step, (x, jnp.zeros(())), (arrays, context.hidden), reverse=inverse)[0]

    def _log_scale(self, context: Context) -> Array:
        return jnp.sum(jnp.log(jnp.diagonal(context.factor)))

    def _log_z(self, t: Array) -> tuple[Array, Array]:
        """(ln z, ln |d ln z / dt|) of the standardised coordinate."""
        shift, scale, limits = jax.lax.stop_gradient((self.t_shift, self.t_scale, self.log_z_limits))
        low, high = limits
        raw = shift + scale * t
        log_z = low + (high - low) * jax.nn.sigmoid(raw)
        bend = jnp.log(scale * (high - low)) + jax.nn.log_sigmoid(raw) + jax.nn.log_sigmoid(-raw)
        return log_z, bend


def logit_z(log_z: Array, low: Array, high: Array) -> Array:
    """Logit of where ln z lies between its limits."""
    place = jnp.clip((log_z - low) / (high - low), 1e-6, 1.0 - 1e-6)
    return jnp.log(place) - jnp.log1p(-place)


def features(signal: Float[Array, " band"], weight: Float[Array, " band"]) -> Float[Array, " feature"]:
    """What the encoder sees: direction and compressed value of the whitened photometry, and the weights.

    Three numbers a band and one for the whole: direction d/|d|, arcsinh(d), weight, and ln|d|, with d the signal.
    """
    norm = jnp.sqrt(jnp.sum(signal**2) + 1e-12)
    return jnp.concatenate(
        [
            DIRECTION_SCALE * signal / norm,
            jnp.arcsinh(signal),
            weight - 1.0,
            (jnp.log(norm) - 3.0)[None],
        ]
    )


def build_proposal(
    cfg: ProposalConfig,
    n_latent: int,
    n_band: int,
    z_limits: tuple[float, float],
    *,
    key: PRNGKeyArray,
    t_moments: tuple[float, float] = (0.0, 1.0),
) -> Proposal:
    """A new proposal: whatever the photometry, nearly a normal over (u, standardised logit_z), of width 0.8.

    Args:
        cfg: sizes.
        n_latent: size of u.
        n_band: bands of the photometry.
        z_limits: limits of redshift.
        key: of weights and permutations.
        t_moments: mean and standard deviation of `logit_z` over the draws it will be trained on.
    """
    dim = n_latent + 1
    n_kept = dim // 2
    encoder_key, hidden_key, affine_key, layer_key, order_key = jr.split(key, 5)
    spline = SplineFromParameters(BoundedSpline(cfg.n_knots, cfg.interval))
    n_parameter = (dim - n_kept) * (3 * cfg.n_knots - 1)

    def layer(key: PRNGKeyArray, order: Array) -> ConditionalCoupling:
        inner, middle, outer = jr.split(key, 3)
        return ConditionalCoupling(
            inner=eqx.nn.Linear(n_kept, cfg.width, use_bias=False, key=inner),
            middle=eqx.nn.Linear(cfg.width, cfg.width, key=middle),
            outer=shrunk(eqx.nn.Linear(cfg.width, n_parameter, key=outer)),
            order=order,
            n_kept=n_kept,
            spline=spline,
        )

    orders = layer_orders(cfg.n_layers, dim, order_key)
    n_context = cfg.encoder_widths[-1]
    low, high = np.log(z_limits[0]), np.log(z_limits[1])
    return Proposal(
        encoder=Mlp((FEATURES_PER_BAND * n_band + 1, *cfg.encoder_widths), key=encoder_key),
        to_hidden=eqx.nn.Linear(n_context, cfg.n_layers * cfg.width, key=hidden_key),
        to_affine=shrunk(eqx.nn.Linear(n_context, 2 * dim + dim * (dim - 1) // 2, key=affine_key)),
        layers=eqx.filter_vmap(layer)(jr.split(layer_key, cfg.n_layers), orders),
        t_shift=jnp.asarray(t_moments[0], jnp.float32),
        t_scale=jnp.asarray(t_moments[1], jnp.float32),
        log_z_limits=jnp.asarray([low, high], jnp.float32),
    )
