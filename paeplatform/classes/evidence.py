r"""The evidence of a class: the likelihood of each of its models, weighted and summed.

For fluxes d with errors sigma and a model m with relative errors eps, as for the posterior
(`inference.model.model_error`),

    V_i = sigma_i^2 + (eps_i A m_i)^2
    ln L = -1/2 sum (d_i - A m_i)^2 / V_i - 1/2 sum ln (V_i / sigma_i^2)
    ln p(D | class) = ln sum_models w L

The amplitude A is profiled: A >= 0 is the best one given V, and the A within V is found in four steps from V = sigma^2.
This is the posterior's default (`LogPosterior.amplitude = "profile"`). Integrating over a flat prior of ln A instead
would multiply L by sqrt(2 pi) sigma_A / A, which differs between the classes by no more than a factor of a few.

Two steps make this cheap. First, V is taken from the data, V = sigma^2 + eps^2 max(d^2 - sigma^2, 0), so that ln L of
all models follows from two matrix products. Second, the `N_EXACT` most probable models are computed again by the
formula above in float64. The other models keep the proportion to these that the first step gives them. For data at
the noise V is sigma^2 and the first step is exact; for bright data the most probable models hold all of the weight.
`log_likelihoods` is the formula alone, for any models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from paeplatform.classes.grid import ClassGrid

N_EXACT = 128  # models of a source that are computed by the formula
N_REFINED = 3  # steps of the amplitude within V after the first, as in `inference.model.model_error`
_TINY = 1e-30


@dataclass(frozen=True, eq=False)
class ClassEvidence:
    """What a class says of some sources.

    Attributes:
        log_evidence: ln p(D | class), up to the constant -1/2 sum ln (2 pi sigma^2), which all classes share.
        chi2: sum (d - A m)^2 / V of the most probable model: it contains the model's error.
        best_group: group of that model, which is most probable including its prior.
        best_model: its place within the group.
        z: the most probable redshift, and the 16 % and 84 % quantiles of the class's p(z); NaN without redshifts.
    """

    log_evidence: Float[np.ndarray, " source"]
    chi2: Float[np.ndarray, " source"]
    best_group: Int[np.ndarray, " source"]
    best_model: Int[np.ndarray, " source"]
    z: Float[np.ndarray, "source 3"]


def class_evidence(
    grid: ClassGrid,
    flux: Float[np.ndarray, "source band"],
    flux_err: Float[np.ndarray, "source band"],
    usable: np.ndarray,
    log_group_prior: Float[np.ndarray, "source group"] | None = None,
) -> ClassEvidence:
    """The evidence of a class for some sources.

    Args:
        grid: models of the class.
        flux: [uJy].
        flux_err: 1 sigma [uJy].
        usable: (source, band) bands to use: finite flux, finite and positive error. A source may have none; its
            evidence is then 1.
        log_group_prior: ln of factors of the weights of each group that differ from source to source, as p(z | m) does.

    Returns:
        Values for each source. Memory is 8 bytes for each source and model: give some tens of sources at a time.
    """
    signal, weight = whitened(flux, flux_err, usable)
    approximate = _approximate(grid, signal, weight)
    n_source, n_exact = len(flux), min(N_EXACT, approximate.shape[1])
    log_prior = np.broadcast_to(grid.log_prior.ravel(), approximate.shape)
    if log_group_prior is not None:
        log_prior = log_prior + np.repeat(log_group_prior, grid.n_model, axis=1)
    approximate += (
        log_prior.astype(np.float32) if log_group_prior is not None else log_prior[0].astype(np.float32)
    )
    kept = np.argpartition(approximate, -n_exact, axis=1)[:, -n_exact:]
    group, model = np.divmod(kept, grid.n_model)
    models = grid.flux[group, model].astype(np.float64) * weight[:, None]
    log_l, chi2 = log_likelihoods(models, signal[:, None], grid.error[group].astype(np.float64))
    exact = log_l + np.take_along_axis(log_prior, kept, axis=1)
    best = exact.argmax(axis=1)
    row = np.arange(n_source)

    first = np.take_along_axis(approximate, kept, axis=1)
    top_exact, top_first = _log_sum(exact), _log_sum(first.astype(np.float64))
    # shares of the sum over the models in hand: those left out as the first step has them
    share = np.exp(approximate - top_first[:, None].astype(np.float32))
    np.put_along_axis(share, kept, np.exp(exact - top_exact[:, None]).astype(np.float32), axis=1)
    total = share.sum(axis=1, dtype=np.float64)
    return ClassEvidence(
        log_evidence=top_exact + np.log(total),
        chi2=chi2[row, best],
        best_group=group[row, best],
        best_model=model[row, best],
        z=_redshifts(grid.z, share.reshape(n_source, -1, grid.n_model).sum(axis=2), group[row, best]),
    )


def whitened(
    flux: Float[np.ndarray, "source band"], flux_err: Float[np.ndarray, "source band"], usable: np.ndarray
) -> tuple[Float[np.ndarray, "source band"], Float[np.ndarray, "source band"]]:
    """(flux over error, weights by which model fluxes are multiplied), float64; zero in bands that are not usable.

    Weights are 1 / error up to a factor for each source that makes the largest one 1.
    """
    error = np.where(usable, flux_err, 1.0).astype(np.float64)
    signal = np.where(usable, flux, 0.0) / error
    smallest = np.min(np.where(usable, error, np.inf), axis=1, keepdims=True)
    weight = np.where(usable, np.where(np.isfinite(smallest), smallest, 1.0) / error, 0.0)
    return signal, weight


def log_likelihoods(
    model: Float[np.ndarray, "*pair band"],
    signal: Float[np.ndarray, "*pair band"],
    error: Float[np.ndarray, "*pair band"],
) -> tuple[Float[np.ndarray, " *pair"], Float[np.ndarray, " *pair"]]:
    """(ln L, chi^2) of pairs of model and source; shapes are broadcast.

    Args:
        model: whitened fluxes of amplitude 1: zero in masked bands.
        signal: whitened fluxes of the source.
        error: relative errors of the model.
    """
    variance = error**2
    growth = np.ones(np.broadcast_shapes(model.shape, signal.shape))
    amplitude = _amplitude(model, signal, growth)
    for _ in range(1 + N_REFINED):
        growth = 1.0 + variance * (amplitude[..., None] * model) ** 2
        amplitude = _amplitude(model, signal, growth)
    chi2 = np.sum((signal - amplitude[..., None] * model) ** 2 / growth, axis=-1)
    return -0.5 * chi2 - 0.5 * np.sum(np.log(growth), axis=-1), chi2


def _amplitude(model: np.ndarray, signal: np.ndarray, growth: np.ndarray) -> np.ndarray:
    weighted = model / growth
    best = np.sum(signal * weighted, axis=-1) / (np.sum(model * weighted, axis=-1) + _TINY)
    return np.maximum(best, 0.0)


def _approximate(
    grid: ClassGrid, signal: np.ndarray, weight: np.ndarray
) -> Float[np.ndarray, "source point"]:
    """ln L of every model with V from the data, float32."""
    excess = np.maximum(signal**2 - 1.0, 0.0)
    log_l = np.empty((len(signal), len(grid)), np.float32)
    flux, squared = (part.reshape(len(grid), grid.n_band) for part in (grid.flux, grid.squared))
    for first, last in grid.runs:
        growth = 1.0 + np.square(grid.error[first], dtype=np.float64) * excess
        points = slice(first * grid.n_model, last * grid.n_model)
        dot = (signal * weight / growth).astype(np.float32) @ flux[points].T
        norm = (weight**2 / growth).astype(np.float32) @ squared[points].T
        np.maximum(dot, 0.0, out=dot)
        dot *= dot
        norm += np.float32(_TINY)
        dot /= norm
        dot *= np.float32(0.5)
        # of the amplitude zero
        dot -= 0.5 * np.sum(signal**2 / growth + np.log(growth), axis=1, keepdims=True).astype(np.float32)
        log_l[:, points] = dot
    return log_l


def _log_sum(values: np.ndarray) -> np.ndarray:
    highest = values.max(axis=1)
    return highest + np.log(np.exp(values - highest[:, None]).sum(axis=1))


def _redshifts(z: np.ndarray, share: np.ndarray, best: np.ndarray) -> Float[np.ndarray, "source 3"]:
    """Redshift of the best model and the quantiles 16 % and 84 %; a group reaches halfway to its neighbours."""
    found = np.full((len(share), 3), np.nan)
    if not np.isfinite(z).all() or len(z) < 2:
        return found
    middle = 0.5 * (z[1:] + z[:-1])
    edges = np.concatenate([[z[0]], middle, [z[-1]]])
    total = np.cumsum(share, axis=1, dtype=np.float64)
    for row, rising in enumerate(total / total[:, -1:]):
        found[row, 1:] = np.interp([0.16, 0.84], np.concatenate([[0.0], rising]), edges)
    found[:, 0] = z[best]
    return found
