"""Normalising flow between the base variable u ~ N(0, I) and autoencoder latents (paper section IV.1.2).

`coupling` (default) evaluates both directions in one pass. `iaf` is the paper's: u -> latent is one MADE pass, and
the inverse, which training needs, goes through the dimensions one by one. Layers are alike, so they are stacked and
scanned: the compiled graph holds one layer.

With `condition: redshift` the distribution of latents depends on ln(1+z): galaxies of other redshifts are other
galaxies. Both directions then need the redshift, and u ~ N(0, I) at each of them, so that the prior of (u, z) stays a
product and p(z) can be chosen and changed as before.
"""

from __future__ import annotations

from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from flowjax.bijections import (
    AbstractBijection,
    Affine,
    Chain,
    Coupling,
    MaskedAutoregressive,
    Permute,
    Scan,
)
from jaxtyping import Array, Float, Int, PRNGKeyArray

from paeplatform.config import FlowConfig
from paeplatform.errors import ConfigError
from paeplatform.pae.spline import BoundedSpline, SplineFromParameters

# The last conditioner layer starts this much smaller, so that what is untrained is nearly the identity.
IDENTITY_SCALE = 1e-2
ACTNORM_SAMPLE = 2048  # latents used for the data-dependent initialisation
LOG_2PI = float(np.log(2.0 * np.pi))
# z-scored latents further out than this are warped along a straight line: a sampler without a prior on u goes there.
STRAIGHT_BEYOND = 10.0


class TailWarp(eqx.Module):
    """asinh of z-scored latents, z-scored again: what lies far out comes within the splines' reach.

    A spline is the identity outside its interval, so that a template whose latents lie some 6 sigma out kept a place of
    nearly no probability, and its galaxies got other redshifts (docs/decisions/0019). asinh is smooth, has slope 1
    where most latents are, and brings 6 sigma to 2.5.

    Attributes:
        shift: (n_latent,) mean of the asinh of the z-scored training latents; a constant.
        scale: (n_latent,) their standard deviation; a constant.
    """

    shift: Float[Array, " latent"]
    scale: Float[Array, " latent"]

    @classmethod
    def of(cls, z: Float[Array, "n latent"]) -> TailWarp:
        """The warp for these z-scored latents."""
        bent = _bend(z)
        return cls(bent.mean(axis=0), jnp.maximum(bent.std(axis=0), 1e-6))

    def forward(self, z: Float[Array, " latent"]) -> Float[Array, " latent"]:
        """Warped z."""
        shift, scale = self._constants()
        return (_bend(z) - shift) / scale

    def inverse(self, warped: Float[Array, " latent"]) -> Float[Array, " latent"]:
        """The z of a warped one."""
        shift, scale = self._constants()
        bent = shift + scale * warped
        inner = jnp.clip(bent, -np.arcsinh(STRAIGHT_BEYOND), np.arcsinh(STRAIGHT_BEYOND))
        return jnp.sinh(inner) + (bent - inner) * np.hypot(1.0, STRAIGHT_BEYOND)

    def log_slope(self, z: Float[Array, " latent"]) -> Float[Array, ""]:
        """ln |det| of `forward`."""
        inner = jnp.clip(z, -STRAIGHT_BEYOND, STRAIGHT_BEYOND)
        return jnp.sum(-0.5 * jnp.log1p(inner**2) - jnp.log(self._constants()[1]))

    def _constants(self) -> tuple[Array, Array]:
        return jax.lax.stop_gradient((self.shift, self.scale))


class RedshiftCondition(eqx.Module):
    """What the conditioners of a conditional flow see of a redshift: ln(1+z), z-scored.

    Attributes:
        middle: () mean of ln(1+z) of the training spectra; a constant.
        width: () their standard deviation; a constant.
    """

    middle: Float[Array, ""]
    width: Float[Array, ""]

    @classmethod
    def of(cls, z: Float[Array, " n"]) -> RedshiftCondition:
        """For the redshifts of these training spectra."""
        log_z = jnp.log1p(z)
        return cls(log_z.mean(), jnp.maximum(log_z.std(), 1e-6))

    def __call__(self, z: Float[Array, ""]) -> Float[Array, " 1"]:
        """The number that a conditioner sees, as a vector."""
        middle, width = jax.lax.stop_gradient((self.middle, self.width))
        return ((jnp.log1p(z) - middle) / width)[None]

    @property
    def reference(self) -> Float[Array, ""]:
        """The redshift in the middle of the training spectra."""
        return jnp.expm1(self.middle)


def _bend(z: Array) -> Array:
    inner = jnp.clip(z, -STRAIGHT_BEYOND, STRAIGHT_BEYOND)
    return jnp.arcsinh(inner) + (z - inner) / np.hypot(1.0, STRAIGHT_BEYOND)


class LatentFlow(eqx.Module):
    """Bijection u <-> latent with its density.

    Attributes:
        shift: (n_latent,) mean of the training latents; a constant.
        scale: (n_latent,) their standard deviation; a constant.
        warp: of the z-scored latents (`FlowConfig.tails`); None leaves them.
        layers: the trained part, between u and the standardised latents: z-scored, and warped.
        base_shift: (n_latent,) zero until `recentred`; a constant.
        base_scale: (n_latent,) one until `recentred`; a constant.
        redshift: what a conditional flow sees of z; None for a flow that does not depend on it.

    Every method takes the redshift that the latent is of; a flow that does not depend on it ignores it.
    """

    shift: Float[Array, " latent"]
    scale: Float[Array, " latent"]
    warp: TailWarp | None
    layers: Scan
    base_shift: Float[Array, " latent"]
    base_scale: Float[Array, " latent"]
    redshift: RedshiftCondition | None = None

    def to_latent(
        self, u: Float[Array, " latent"], z: Float[Array, ""] | None = None
    ) -> Float[Array, " latent"]:
        """Latent of a base variable."""
        shift, scale, base_shift, base_scale = self._constants()
        x = self.layers.transform(base_shift + base_scale * u, self._condition(z))
        return shift + scale * (x if self.warp is None else self.warp.inverse(x))

    def to_base(
        self, latent: Float[Array, " latent"], z: Float[Array, ""] | None = None
    ) -> Float[Array, " latent"]:
        """Base variable of a latent."""
        _, _, base_shift, base_scale = self._constants()
        raw = self.layers.inverse(self.standardise(latent), self._condition(z))
        return (raw - base_shift) / base_scale

    def log_prob(
        self, latent: Float[Array, " latent"], z: Float[Array, ""] | None = None
    ) -> Float[Array, ""]:
        """Log density of a latent, given the redshift if the flow depends on it."""
        shift, scale, _, _ = self._constants()
        x = (latent - shift) / scale
        slope = 0.0 if self.warp is None else self.warp.log_slope(x)
        return self.standardised_log_prob(self.standardise(latent), z) + slope - jnp.sum(jnp.log(scale))

    def standardise(self, latent: Float[Array, " latent"]) -> Float[Array, " latent"]:
        """Z-scored and warped latent."""
        shift, scale, _, _ = self._constants()
        z = (latent - shift) / scale
        return z if self.warp is None else self.warp.forward(z)

    def standardised_log_prob(
        self, x: Float[Array, " latent"], z: Float[Array, ""] | None = None
    ) -> Float[Array, ""]:
        """Log density of a standardised latent, in its own units."""
        _, _, base_shift, base_scale = self._constants()
        raw, log_det = self.layers.inverse_and_log_det(x, self._condition(z))
        u = (raw - base_shift) / base_scale
        return -0.5 * jnp.sum(u**2) - 0.5 * u.size * LOG_2PI + log_det - jnp.sum(jnp.log(base_scale))

    def _condition(self, z: Float[Array, ""] | None) -> Float[Array, " 1"] | None:
        if self.redshift is None:
            return None
        if z is None:
            raise ValueError("this flow depends on redshift: give it that of the latent")
        return self.redshift(z)

    def _constants(self) -> tuple[Array, Array, Array, Array]:
        return jax.lax.stop_gradient((self.shift, self.scale, self.base_shift, self.base_scale))


def recentred(flow: LatentFlow, u: Float[Array, "n latent"]) -> LatentFlow:
    """The flow with its base variable z-scored, given the base variables of the training latents.

    Training adds jitter to the latents, and the base then holds that jitter too: without it, latents fill N(0, I) with
    variances down to a half in the directions in which the template sheets are thinnest. Prior draws would leave the
    sheets by as much.
    """
    mean, std = jnp.mean(u, axis=0), jnp.maximum(jnp.std(u, axis=0), 1e-3)
    constants = (flow.base_shift + flow.base_scale * mean, flow.base_scale * std)
    return eqx.tree_at(lambda f: (f.base_shift, f.base_scale), flow, constants)


def build_flow(
    cfg: FlowConfig,
    latents: Float[Array | np.ndarray, "n latent"],
    z: Float[Array | np.ndarray, " n"] | None = None,
    *,
    key: PRNGKeyArray,
) -> LatentFlow:
    """A new flow that is the standardisation followed by nearly the identity.

    Args:
        cfg: architecture and sizes.
        latents: training latents; they set the standardisation and, for `iaf`, the activation normalisation.
        z: their redshifts, for a flow that depends on them.
        key: of weights and permutations.

    Raises:
        ConfigError: fewer than two latent dimensions, which neither architecture can condition on one another, or no
            redshifts for a flow that depends on them.
    """
    n_latent = latents.shape[1]
    if n_latent < 2:
        raise ConfigError(
            f"n_latent {n_latent} must be at least 2: a flow conditions dimensions on one another"
        )
    redshift = None
    if cfg.condition == "redshift":
        if z is None:
            raise ConfigError("pae.flow.condition is redshift: the flow needs the redshifts of its latents")
        redshift = RedshiftCondition.of(jnp.asarray(z, jnp.float32))
    latents = jnp.asarray(latents, jnp.float32)
    shift, scale = latents.mean(axis=0), jnp.maximum(latents.std(axis=0), 1e-6)
    x = (latents - shift) / scale
    warp = TailWarp.of(x) if cfg.tails == "asinh" else None
    spline = BoundedSpline(cfg.n_knots, cfg.interval)
    net_key, permutation_key = jr.split(key)
    layers = eqx.filter_jit(eqx.filter_vmap(lambda k, p: _layer(cfg, n_latent, spline, p, k)))(
        jr.split(net_key, cfg.n_layers), layer_orders(cfg.n_layers, n_latent, permutation_key)
    )
    if cfg.architecture == "iaf":
        some = x[:ACTNORM_SAMPLE]
        some = some if warp is None else jax.vmap(warp.forward)(some)
        seen = None if redshift is None else jax.vmap(redshift)(jnp.asarray(z, jnp.float32)[:ACTNORM_SAMPLE])
        layers = eqx.filter_jit(_initialise_actnorm)(layers, some, seen)
    return LatentFlow(shift, scale, warp, Scan(layers), jnp.zeros(n_latent), jnp.ones(n_latent), redshift)


def layer_orders(n_layers: int, dim: int, key: PRNGKeyArray) -> Int[Array, "layer latent"]:
    """Order of the dimensions after each layer: halves swapped, shuffled, swapped, shuffled, ...

    Two coupling layers in a row then transform every dimension once; shuffles alone leave some out for many layers.
    """
    swap = jnp.roll(jnp.arange(dim), dim // 2)
    return jnp.stack(
        [swap if i % 2 == 0 else jr.permutation(jr.fold_in(key, i), dim) for i in range(n_layers)]
    )


def _layer(
    cfg: FlowConfig, dim: int, spline: BoundedSpline, order: Int[Array, " latent"], key: PRNGKeyArray
) -> Chain:
    """One layer of `cfg.architecture` and the permutation after it; `iaf` has an ActNorm on either side."""
    net = {"nn_width": cfg.width, "nn_depth": cfg.depth, "nn_activation": jax.nn.silu}
    net["cond_dim"] = None if cfg.condition == "none" else 1
    made: AbstractBijection
    if cfg.architecture == "coupling":
        made = Coupling(key, transformer=spline, untransformed_dim=dim // 2, dim=dim, **net)
        last = "conditioner"
    else:
        made = MaskedAutoregressive(key, transformer=spline, dim=dim, **net)
        last = "masked_autoregressive_mlp"
    made = eqx.tree_at(lambda m: getattr(m, last).layers[-1], made, replace_fn=shrunk)
    made = eqx.tree_at(lambda m: m.transformer_constructor, made, SplineFromParameters(spline))
    if cfg.architecture == "coupling":
        return Chain([made, Permute(order)])
    before, after = (Affine(jnp.zeros(dim), jnp.ones(dim)) for _ in range(2))
    return Chain([before, made, after, Permute(order)])


def shrunk(layer: eqx.Module) -> eqx.Module:
    """A last layer of a conditioner with its weights times `IDENTITY_SCALE`."""
    return jax.tree.map(lambda leaf: leaf * IDENTITY_SCALE if eqx.is_inexact_array(leaf) else leaf, layer)


def _initialise_actnorm(
    layers: Chain, x: Float[Array, "n latent"], seen: Float[Array, "n 1"] | None
) -> Chain:
    """Sets every ActNorm so that the data leave it with zero mean and unit variance on the way to the base."""
    arrays, static = eqx.partition(layers, eqx.is_array)

    def step(x: Array, layer_arrays: Chain) -> tuple[Array, Chain]:
        made, permute = (
            cast(AbstractBijection, eqx.combine(layer_arrays, static).bijections[i]) for i in (1, 3)
        )
        x = jax.vmap(permute.inverse)(x)
        after = Affine(x.mean(axis=0), x.std(axis=0) + 1e-6)
        x = jax.vmap(made.inverse, (0, None if seen is None else 0))(jax.vmap(after.inverse)(x), seen)
        before = Affine(x.mean(axis=0), x.std(axis=0) + 1e-6)
        x = jax.vmap(before.inverse)(x)
        return x, eqx.filter(Chain([before, made, after, permute]), eqx.is_array)

    _, arrays = jax.lax.scan(step, x, arrays, reverse=True)
    return eqx.combine(arrays, static)
