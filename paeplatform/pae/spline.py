"""Monotonic rational-quadratic spline (Durkan et al. 2019, arXiv:1906.04032), as a FlowJAX bijection.

FlowJAX has one; this one bounds every slope and rounds less, so that float32 round trips of a trained flow hold, and
its inverse costs half as much.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from flowjax.bijections import AbstractBijection
from jaxtyping import Array, Float

MIN_BIN_SHARE = 0.1  # smallest bin, in units of an evenly spaced one
BOUND = 1.5  # of the unconstrained parameters: a bin is at most e^(2 BOUND) wider than another


class _Bin(NamedTuple):
    """The bin a value falls in: left edge, width, bottom, height, slopes at both edges."""

    left: Array
    width: Array
    bottom: Array
    height: Array
    slope_left: Array
    slope_right: Array


class BoundedSpline(AbstractBijection):
    """Scalar spline on [-interval, interval], the identity outside; zero parameters give the identity everywhere.

    Attributes:
        widths: unconstrained bin widths.
        heights: unconstrained bin heights.
        slopes: unconstrained log slopes at the interior knots; both ends have slope 1, to join the identity smoothly.
    """

    widths: Float[Array, " bin"]
    heights: Float[Array, " bin"]
    slopes: Float[Array, " knot"]
    interval: float = eqx.field(static=True)
    shape: ClassVar[tuple[int, ...]] = ()
    cond_shape: ClassVar[None] = None

    def __init__(self, n_bins: int, interval: float):
        self.widths = jnp.zeros(n_bins)
        self.heights = jnp.zeros(n_bins)
        self.slopes = jnp.zeros(n_bins - 1)
        self.interval = float(interval)

    def transform_and_log_det(
        self, x: Float[Array, ""], condition: None = None
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Eq. 4 and 5 of the source."""
        inside, clipped, b = self._located(x, by_height=False)
        position = (clipped - b.left) / b.width
        y, log_slope = _evaluate(b, position)
        return jnp.where(inside, y, x), jnp.where(inside, log_slope, 0.0)

    def inverse_and_log_det(
        self, y: Float[Array, ""], condition: None = None
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Eq. 6 to 8 of the source, in the form of the root that does not cancel."""
        inside, clipped, b = self._located(y, by_height=True)
        mean_slope = b.height / b.width
        rise = clipped - b.bottom
        excess = rise * (b.slope_left + b.slope_right - 2.0 * mean_slope)
        quadratic = b.height * (mean_slope - b.slope_left) + excess
        linear = b.height * b.slope_left - excess
        constant = -mean_slope * rise
        # Positive in exact arithmetic; rounding may take it below zero at a bin edge.
        discriminant = jnp.maximum(linear**2 - 4.0 * quadratic * constant, 1e-12)
        position = jnp.clip(2.0 * constant / (-linear - jnp.sqrt(discriminant)), 0.0, 1.0)
        x = b.left + position * b.width
        return jnp.where(inside, x, y), jnp.where(inside, -_evaluate(b, position)[1], 0.0)

    def _located(self, value: Array, *, by_height: bool) -> tuple[Array, Array, _Bin]:
        """(whether it lies within the interval, the value cut off at its ends, the bin of that)."""
        inside = jnp.abs(value) < self.interval
        value = jnp.clip(value, -self.interval, self.interval)
        lefts, widths = _bins(self.widths, self.interval)
        bottoms, heights = _bins(self.heights, self.interval)
        index = jnp.sum(value >= (bottoms if by_height else lefts)[1:])
        end = jnp.zeros(1, self.slopes.dtype)
        log_slopes = jnp.concatenate([end, self.slopes, end])
        slope_left, slope_right = (jnp.exp(_bounded(log_slopes[index + i])) for i in (0, 1))
        b = _Bin(lefts[index], widths[index], bottoms[index], heights[index], slope_left, slope_right)
        return inside, value, b


class SplineFromParameters(eqx.Module):
    """Makes a spline from a conditioner's output.

    FlowJAX's layers make such a function themselves, with arrays in its closure, which must not be made under `jit` or
    `eval_shape` (loading a model does that). This one holds no array.
    """

    n_bins: int = eqx.field(static=True)
    interval: float = eqx.field(static=True)

    def __init__(self, like: BoundedSpline):
        self.n_bins = like.widths.shape[-1]
        self.interval = like.interval

    def __call__(self, parameters: Float[Array, " parameter"]) -> BoundedSpline:
        """The spline of (bin widths, bin heights, interior slopes), all unconstrained."""
        parts = jnp.split(parameters, [self.n_bins, 2 * self.n_bins])
        blank = BoundedSpline(self.n_bins, self.interval)
        return eqx.tree_at(lambda s: (s.widths, s.heights, s.slopes), blank, tuple(parts))


def _bins(raw: Float[Array, " bin"], interval: float) -> tuple[Float[Array, " bin"], Float[Array, " bin"]]:
    """Left edges and sizes of the bins."""
    weight = jnp.exp(_bounded(raw))
    share = MIN_BIN_SHARE / raw.size + (1.0 - MIN_BIN_SHARE) * weight / jnp.sum(weight)
    # An edge is what lies left of it minus what lies right of it. A running sum from -interval would leave the rounding
    # error of its largest term at every edge: round trips of a trained flow were twice as bad.
    sign = 1.0 - 2.0 * jnp.triu(jnp.ones((raw.size, raw.size), raw.dtype))
    return interval * (sign @ share), 2.0 * interval * share


def _bounded(raw: Array) -> Array:
    return raw * jax.lax.rsqrt(1.0 + (raw / BOUND) ** 2)


def _evaluate(b: _Bin, position: Array) -> tuple[Array, Array]:
    """Value and log slope at a position in [0, 1] of a bin."""
    mean_slope = b.height / b.width
    across = position * (1.0 - position)
    denominator = mean_slope + (b.slope_left + b.slope_right - 2.0 * mean_slope) * across
    value = b.bottom + b.height * (mean_slope * position**2 + b.slope_left * across) / denominator
    numerator = b.slope_right * position**2 + 2.0 * mean_slope * across + b.slope_left * (1.0 - position) ** 2
    return value, 2.0 * jnp.log(mean_slope / denominator) + jnp.log(numerator)
