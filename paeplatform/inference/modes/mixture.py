"""Mixtures of multivariate Student t: what the adaptive stages of importance sampling draw from.

All is float64, since widths of a bright source's posterior differ by a factor of a thousand between directions. The fit
treats one source in JAX (`jax.enable_x64`) and is made to be vmapped; densities and draws are NumPy's, for which
nothing is compiled.

The fit is the EM algorithm of a t mixture with weights (Peel & McLachlan 2000, Statistics and Computing 10, 339;
Cappe et al. 2008, arXiv:0710.4242, for its use in population Monte Carlo).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int

from paeplatform.pae.small_linalg import cholesky, inverse_lower

# degrees of freedom: tails heavy enough to cover what a Gaussian would miss, and a finite variance
FREEDOM = 8.0
EM_STEPS = 8  # with 4, a quarter of the runs on a toy with two hills stayed below an efficiency of 0.2
RESAMPLED = 512  # draws the fit looks at
# Weights are tempered until they are worth this many draws: a covariance in 11 dimensions needs several times 11.
TEMPERED_DRAWS = 60.0
SHRINKAGE = 8.0  # draws' worth of the starting covariance in each component's
START_SCALE = 0.5  # of a starting component's covariance, in units of the whole's times n^(-2/dim)
SMALLEST_SHARE = 0.02  # of a component, in units of an equal share: none is ever given up
JITTER = 1e-10
# Of the fitted widths: those of few draws are too narrow, and what they leave out no draw meets again (decision 10).
INFLATION = 1.6
# The same for mixtures over the proposal's base points, where posteriors are less bent (decision 16).
BASE_INFLATION = 1.3


class StudentMixture(NamedTuple):
    """Components of one source.

    Attributes:
        mean: (component, dim).
        factor: (component, dim, dim) lower Cholesky factors of the scale matrices.
        log_share: (component,) ln of the shares, which sum to 1.
    """

    mean: Float[Array, "component dim"]
    factor: Float[Array, "component dim dim"]
    log_share: Float[Array, " component"]


def log_prob(
    mixture: StudentMixture, x: Float[np.ndarray, "*source draw dim"]
) -> Float[np.ndarray, "*source draw"]:
    """Log density of mixtures at the draws of their sources, by NumPy like `sample`; NaN where one is not finite.

    Args:
        mixture: of one source, or of many along leading axes.
        x: float64 draws of the same sources.
    """
    mean, factor, log_share = (np.asarray(part, dtype=np.float64) for part in mixture)
    dim = mean.shape[-1]
    inverse = np.zeros_like(factor)
    with np.errstate(all="ignore"):
        for k in range(dim):  # forward substitution
            inverse[..., k, :] = -(factor[..., k, None, :k] @ inverse[..., :k, :])[..., 0, :]
            inverse[..., k, k] += 1.0
            inverse[..., k, :] /= factor[..., k, k, None]
        y = (x[..., None, :, :] - mean[..., None, :]) @ np.swapaxes(inverse, -1, -2)
        squared = np.einsum("...nd,...nd->...n", y, y)
        log_det = np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1)
        parts = _log_density(np, squared, log_det[..., None], log_share[..., None], dim)
        top = parts.max(axis=-2)
        return top + np.log(np.exp(parts - np.where(np.isfinite(top), top, 0.0)[..., None, :]).sum(axis=-2))


def _log_density(xp: Any, squared: Any, log_det: Any, log_share: Any, dim: int) -> Any:
    """ln (share times density) of components, from squared whitened distances; of NumPy or JAX arrays."""
    constant = math.lgamma(0.5 * (FREEDOM + dim)) - math.lgamma(0.5 * FREEDOM)
    constant -= 0.5 * dim * math.log(FREEDOM * math.pi)
    return constant - 0.5 * (FREEDOM + dim) * xp.log1p(squared / FREEDOM) - log_det + log_share


def sample(mixture: StudentMixture, rng: np.random.Generator, n: int) -> Float[np.ndarray, "draw dim"]:
    """`n` draws, float64, by NumPy: each number of draws and components would have JAX compile for seconds.

    A mixture that could not be fitted (shares of NaN) gives draws of NaN, which can never have weight.
    """
    mean, factor, log_share = (np.asarray(part, dtype=np.float64) for part in mixture)
    share = np.exp(log_share - log_share.max())
    if not np.isfinite(share).all():
        return np.full((n, mean.shape[1]), np.nan)
    which = rng.choice(len(share), n, p=share / share.sum())
    y = rng.standard_normal((n, mean.shape[1])) / np.sqrt(rng.chisquare(FREEDOM, n) / FREEDOM)[:, None]
    return mean[which] + np.einsum("nij,nj->ni", factor[which], y)


def tempered(log_weight: Float[Array, " draw"], effective: float) -> tuple[Array, Array]:
    """(weights, their effective number): softmax(log_weight / T), T >= 1 the smallest that reaches `effective`.

    Draws of weight zero (-inf) stay at zero. When fewer than `effective` draws have weight, T ends at its largest.
    """
    shifted = log_weight - jnp.max(log_weight)

    def weights(log_t: Array) -> tuple[Array, Array]:
        w = jnp.exp(shifted * jnp.exp(-log_t))
        w = w / jnp.sum(w)
        return w, 1.0 / jnp.sum(w**2)

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        enough = weights(middle)[1] >= effective
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    zero = jnp.zeros((), log_weight.dtype)
    _, high = jax.lax.fori_loop(0, 30, halve, (zero, zero + 16.0))
    return weights(jnp.where(weights(zero)[1] >= effective, zero, high))


def fit_choices(rng: np.random.Generator, n_component: int) -> tuple[float, Int[np.ndarray, " component"]]:
    """What chance decides in `fit_mixture`: (offset, first)."""
    return rng.uniform(), rng.choice(RESAMPLED, n_component, replace=False)


def fit_mixture(
    x: Float[Array, "draw dim"],
    log_weight: Float[Array, " draw"],
    offset: Float[Array, ""],
    first: Int[Array, " component"],
    inflation: float | Float[Array, ""] = INFLATION,
) -> StudentMixture:
    """The mixture that covers weighted draws.

    Args:
        x: draws.
        log_weight: their log importance weights, up to a constant; -inf for a draw that is not to count.
        offset: within [0, 1), of the systematic resampling that chooses `RESAMPLED` of them.
        first: which of these are the starting centres, one for each component.
        inflation: factor on the fitted widths.
    """
    dim, n_component = x.shape[-1], first.shape[0]
    weight, effective = tempered(log_weight, TEMPERED_DRAWS)
    mean = weight @ x
    centred = x - mean
    whole = (centred * weight[:, None]).T @ centred
    whole = whole + JITTER * (1.0 + jnp.trace(whole)) * jnp.eye(dim, dtype=x.dtype)
    start = START_SCALE * n_component ** (-2.0 / dim) * whole
    points = (jnp.arange(RESAMPLED) + offset) / RESAMPLED
    index = jnp.minimum(jnp.searchsorted(jnp.cumsum(weight), points), x.shape[0] - 1)
    chosen = x[index]
    mixture = StudentMixture(
        mean=chosen[first],
        factor=jnp.broadcast_to(cholesky(start), (n_component, dim, dim)),
        log_share=jnp.full(n_component, -jnp.log(1.0 * n_component), x.dtype),
    )

    def step(_: int, mixture: StudentMixture) -> StudentMixture:
        return _em_step(mixture, chosen, start, effective)

    fitted = jax.lax.fori_loop(0, EM_STEPS, step, mixture)
    return fitted._replace(factor=inflation * fitted.factor)


def _em_step(mixture: StudentMixture, x: Array, start: Array, effective: Array) -> StudentMixture:
    n, dim = x.shape
    y, log_det = _whitened(mixture, x)
    squared = jnp.sum(y**2, axis=-1)
    joint = _log_density(jnp, squared, log_det, mixture.log_share, dim)
    share = jnp.exp(joint - logsumexp(joint, axis=1, keepdims=True))  # (draw, component)
    weighted = share * (FREEDOM + dim) / (FREEDOM + squared)
    total = jnp.sum(share, axis=0)
    mean = (weighted.T @ x) / (jnp.sum(weighted, axis=0) + 1e-30)[:, None]
    mean = jnp.where((total > 1e-6)[:, None], mean, mixture.mean)
    centred = x[:, None] - mean  # (draw, component, dim)
    scatter = jnp.einsum("nk,nki,nkj->kij", weighted, centred, centred) / (total + 1e-30)[:, None, None]
    trust = effective * total / n
    trust = (trust / (trust + SHRINKAGE))[:, None, None]
    scale = trust * scatter + (1.0 - trust) * start
    factor = jax.vmap(cholesky)(scale)
    factor = jnp.where(jnp.isfinite(factor).all(axis=(1, 2), keepdims=True), factor, mixture.factor)
    share = jnp.maximum(total / n, SMALLEST_SHARE / total.size)
    return StudentMixture(mean, factor, jnp.log(share / jnp.sum(share)))


def _whitened(mixture: StudentMixture, x: Array) -> tuple[Array, Array]:
    """((draw, component, dim) whitened draws, (component,) log determinants)."""

    def one(mean: Array, factor: Array) -> tuple[Array, Array]:
        return (x - mean) @ inverse_lower(factor).T, jnp.sum(jnp.log(jnp.diagonal(factor)))

    y, log_det = jax.vmap(one, out_axes=(1, 0))(mixture.mean, mixture.factor)
    return y, log_det
