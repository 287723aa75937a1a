"""The rational-quadratic spline against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from paeplatform.pae.spline import BoundedSpline


def spline_of(seed: int, size: float = 3.0) -> BoundedSpline:
    rng = np.random.default_rng(seed)
    blank = BoundedSpline(8, 5.0)
    leaves, tree = jax.tree.flatten(blank)
    return jax.tree.unflatten(
        tree, [jnp.asarray(size * rng.normal(size=leaf.shape), jnp.float32) for leaf in leaves]
    )


X = jnp.linspace(-8.0, 8.0, 2001)
forward = jax.jit(lambda s, x: jax.vmap(s.transform_and_log_det)(x))
backward = jax.jit(lambda s, y: jax.vmap(s.inverse_and_log_det)(y))
slope = jax.jit(lambda s, x: jax.vmap(jax.grad(s.transform))(x))


def test_zero_parameters_are_the_identity():
    y, log_det = forward(BoundedSpline(8, 5.0), X)
    np.testing.assert_allclose(y, X, atol=2e-6)
    np.testing.assert_allclose(log_det, 0.0, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.floats(0.1, 30.0))
def test_spline_is_increasing_invertible_and_knows_its_slope(seed: int, size: float):
    spline = spline_of(seed, size)
    y, log_det = forward(spline, X)
    assert jnp.all(jnp.diff(y) > 0)
    x, inverse_log_det = backward(spline, y)
    # rounding of y is stretched by 1/slope on the way back
    np.testing.assert_array_less(jnp.abs(x - X), 2e-5 * (1.0 + jnp.exp(-log_det)))
    np.testing.assert_allclose(inverse_log_det, -log_det, atol=2e-2)
    inner = (jnp.abs(X) < 4.99) & (jnp.abs(X) > 1e-3)
    np.testing.assert_allclose(jnp.log(slope(spline, X))[inner], log_det[inner], atol=2e-3)


def test_tails_are_untouched():
    y, log_det = forward(spline_of(0), jnp.asarray([-50.0, -5.001, 5.001, 50.0]))
    np.testing.assert_array_equal(y, jnp.asarray([-50.0, -5.001, 5.001, 50.0]))
    np.testing.assert_array_equal(log_det, 0.0)
