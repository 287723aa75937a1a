"""Written-out linear algebra against NumPy's, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paeplatform.pae.small_linalg import cholesky, inverse_lower, log_determinant, solve


def positive_definite(dim, spread, seed):
    """Eigenvalues over `spread` decades, as widths of a bright source's posterior have."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    return (basis * 10.0 ** np.linspace(0.0, spread, dim)) @ basis.T


@settings(deadline=None, max_examples=25)
@given(dim=st.integers(1, 12), spread=st.floats(0.0, 8.0), seed=st.integers(0, 1000))
def test_agrees_with_numpy_to_what_the_condition_number_leaves(dim, spread, seed):
    matrix = positive_definite(dim, spread, seed)
    right = np.random.default_rng(seed + 1).normal(size=dim)
    with jax.enable_x64(True):
        factor = np.asarray(cholesky(jnp.asarray(matrix)))
        inverse = np.asarray(inverse_lower(jnp.asarray(factor)))
        found = np.asarray(solve(jnp.asarray(matrix), jnp.asarray(right)))
        log_det = float(log_determinant(jnp.asarray(matrix)))
    # backward stable: a residual of some dim^2 roundings of the largest element, amplified by the condition number
    rounding = 1e-14 * dim**2
    assert np.abs(factor @ factor.T - matrix).max() <= rounding * np.abs(matrix).max()
    assert np.array_equal(factor, np.tril(factor))
    assert np.abs(inverse @ factor - np.eye(dim)).max() <= rounding * 10.0 ** (0.5 * spread)
    assert found == pytest.approx(
        np.linalg.solve(matrix, right), rel=rounding * 10.0**spread, abs=rounding * 10.0**spread
    )
    assert log_det == pytest.approx(np.linalg.slogdet(matrix)[1], abs=rounding * 10.0**spread)


def test_a_matrix_that_is_not_positive_definite_gives_nan():
    assert np.isnan(np.asarray(cholesky(jnp.asarray([[1.0, 2.0], [2.0, 1.0]])))).any()
