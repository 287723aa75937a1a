"""Rank tests of the full posterior over (u, z) on sources drawn from its own prior: SBC and TARP.

Simulation-based calibration (Talts et al. 2018): of a source drawn from the prior and observed with noise, the rank of
the true u_i or z among posterior draws is uniform. TARP (Lemos et al. 2023): so is the share of draws nearer than the
truth to a random point, which tests the joint posterior. Neither says whether the model is right, only whether
inference is.

The amplitude, which has no prior of its own, is drawn so that the total signal-to-noise is uniform over a range: that
is what the profile likelihood stands for (its ratio to the likelihood with flat A is the norm of the whitened model).
"""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
from jaxtyping import Array, Float
from scipy import stats

from paeplatform.inference.estimate import Estimator
from paeplatform.inference.model.draws import PosteriorDraws
from paeplatform.inference.model.forward_model import PaeForward
from paeplatform.inference.model.model_error import ModelError
from paeplatform.inference.model.posterior import LogPosterior
from paeplatform.inference.model.priors import RedshiftPrior
from paeplatform.scores.bootstrap import bootstrap_error
from paeplatform.scores.metrics import ks_distance

SNR_RANGE = (10.0, 100.0)
FIRST_ID = 2**40  # of simulated sources


@dataclass(frozen=True)
class SimulatedSources:
    """Prior draws and their noisy photometry.

    Attributes:
        u: (source, latent).
        z: (source,).
        flux, flux_err: (source, band) [uJy].
        object_id: (source,).
    """

    u: Float[np.ndarray, "source latent"]
    z: Float[np.ndarray, " source"]
    flux: Float[np.ndarray, "source band"]
    flux_err: Float[np.ndarray, "source band"]
    object_id: np.ndarray


def simulate_from_prior(
    posterior: LogPosterior,
    depth: Float[np.ndarray, " band"],
    n: int,
    n_latent: int,
    seed: int,
) -> SimulatedSources:
    """Sources drawn from the posterior's own prior, with the model's errors, if it counts them, and Gaussian noise;
    the total signal-to-noise without either is uniform in `SNR_RANGE`.

    Args:
        posterior: forward model, prior on z, and errors of the model.
        depth: 1 sigma error of each band [uJy].
        n: sources.
        n_latent: size of u.
        seed: of all draws.
    """
    rng = np.random.default_rng([seed, 0x534243])
    u = rng.standard_normal((n, n_latent)).astype(np.float32)
    z = posterior.z_prior.sample(n, rng).astype(np.float32)
    model = np.asarray(_fluxes(posterior.forward, jnp.asarray(u), jnp.asarray(z)), dtype=np.float64)
    norm = np.sqrt(((model / depth) ** 2).sum(axis=1))
    truth = model * (rng.uniform(*SNR_RANGE, n) / norm)[:, None]
    flux = truth + depth * rng.standard_normal(truth.shape)
    if posterior.model_error is not None:
        relative = np.asarray(_relative_errors(posterior.model_error, jnp.asarray(z)), dtype=np.float64)
        flux = flux + relative * truth * rng.standard_normal(truth.shape)
    return SimulatedSources(u, z, flux, np.broadcast_to(depth, flux.shape).copy(), FIRST_ID + np.arange(n))


def ranks_of_simulations(estimator: Estimator) -> pl.DataFrame:
    """`rank_table` of `tables.n_simulated` sources drawn from the fiducial prior and inferred as the catalogue's are.

    Args:
        estimator: under the fiducial priors; the depths of its bands are the noise.
    """
    preset, z_prior = estimator.preset, estimator.z_prior
    truth = simulate_from_prior(
        estimator.posterior,
        estimator.bands.depth(preset.instrument.depth),
        preset.tables.n_simulated,
        estimator.bundle.n_latent,
        preset.seed,
    )
    _, draws = estimator.estimate_with_draws(truth.flux, truth.flux_err, truth.object_id, progress=False)
    return rank_table(truth, draws, z_prior, preset.seed)


def rank_table(
    truth: SimulatedSources, draws: PosteriorDraws, z_prior: RedshiftPrior, seed: int
) -> pl.DataFrame:
    """Each source's ranks.

    Args:
        truth: simulated sources.
        draws: of their posteriors, of equal weight, a row each.
        z_prior: of both; in TARP's distance z counts as the normal score of its place in the prior, like a u_i.
        seed: of TARP's reference points, drawn from the prior.

    Returns:
        object_id, z_true, rank_z, rank_u (array), tarp: shares of draws, with half a draw's step added so that none is
        0 or 1. Sources without draws are left out.
    """
    n_draw = draws.z.shape[1]
    good = np.isfinite(draws.z).all(axis=1)
    u, z = draws.u[good].astype(np.float64), draws.z[good].astype(np.float64)
    u_true, z_true = truth.u[good].astype(np.float64), truth.z[good].astype(np.float64)
    step = 1.0 / (n_draw + 1)

    def share(below: np.ndarray) -> np.ndarray:
        return (below.sum(axis=1) + 0.5) * step

    place = _normal_score(z_prior)
    joint = np.concatenate([u, place(z)[..., None]], axis=-1)
    joint_true = np.concatenate([u_true, place(z_true)[:, None]], axis=-1)
    rng = np.random.default_rng([seed, 0x544152])
    reference = rng.standard_normal(joint_true.shape)
    distance = np.linalg.norm(joint - reference[:, None], axis=-1)
    nearer = distance < np.linalg.norm(joint_true - reference, axis=-1)[:, None]
    rank_u = share(u < u_true[:, None])
    return pl.DataFrame(
        {
            "object_id": truth.object_id[good],
            "z_true": z_true,
            "rank_z": share(z < z_true[:, None]),
            "rank_u": pl.Series(rank_u.tolist(), dtype=pl.Array(pl.Float64, rank_u.shape[1])),
            "tarp": share(nearer),
        }
    )


def rank_summary(ranks: pl.DataFrame, n_bootstrap: int = 200, seed: int = 0) -> pl.DataFrame:
    """How uniform the ranks are.

    Returns:
        quantity ("z", "u_1", ..., "TARP"), n, ks (distance to uniform) with its error, p_value of Kolmogorov's test,
        and mean, which 0.5 is expected of.
    """
    rank_u = ranks["rank_u"].to_numpy()
    columns = {"z": ranks["rank_z"].to_numpy()}
    columns |= {f"u_{k + 1}": rank_u[:, k] for k in range(rank_u.shape[1])}
    columns["TARP"] = ranks["tarp"].to_numpy()
    rows = []
    for name, values in columns.items():
        test = stats.kstest(values, "uniform") if len(values) else None
        rows.append(
            {
                "quantity": name,
                "n": len(values),
                "ks": None if test is None else float(test.statistic),
                "ks_err": bootstrap_error(values, ks_distance, n_bootstrap, seed),
                "p_value": None if test is None else float(test.pvalue),
                "mean": float(values.mean()) if len(values) else None,
            }
        )
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(("ks", "ks_err", "p_value", "mean"), pl.Float64))


def _normal_score(z_prior: RedshiftPrior):  # type: ignore[no-untyped-def]
    """z to the normal score of its place in the prior."""
    share = np.linspace(0.0, 1.0, 2001)
    nodes = np.maximum.accumulate(z_prior.ppf(share))
    return lambda z: stats.norm.ppf(np.clip(np.interp(z, nodes, share), 1e-4, 1.0 - 1e-4))


@eqx.filter_jit
def _fluxes(forward: PaeForward, u: Array, z: Array) -> Float[Array, "source band"]:
    return jax.vmap(forward)(u, z)


@eqx.filter_jit
def _relative_errors(model_error: ModelError, z: Array) -> Float[Array, "source band"]:
    return jax.vmap(lambda z: model_error.at(model_error.channel_log_wave, z))(z)
