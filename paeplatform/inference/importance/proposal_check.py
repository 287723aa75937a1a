"""How well the amortised proposal alone describes posteriors, on simulated sources it was not trained on.

Importance sampling corrects what is wrong here, at a price in draws; the numbers say how much it will have to.
"""

from __future__ import annotations

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from paeplatform.config import ProposalConfig
from paeplatform.inference.importance.proposal_training import (
    Observing,
    relative_errors,
    simulation_bank,
)
from paeplatform.inference.model.forward_model import PaeForward
from paeplatform.inference.model.model_error import ModelError
from paeplatform.inference.model.posterior import WhitenedPhotometry, whiten
from paeplatform.inference.model.priors import RedshiftPrior
from paeplatform.pae.proposal import Proposal

N_DRAWS = 256  # of each source of a check
SEED_OFFSET = 2  # beyond the seeds of the training and validation banks


@dataclass(frozen=True)
class ProposalCheck:
    """Redshifts the proposal draws for simulated sources, beside the true ones.

    Attributes:
        z_true: (source,).
        z_median: (source,) of the draws.
        pit: (source,) share of draws below the truth, ties impossible; uniform for a calibrated proposal.
        pit_u: (source, n_latent) the same of the base variables.
    """

    z_true: Float[np.ndarray, " source"]
    z_median: Float[np.ndarray, " source"]
    pit: Float[np.ndarray, " source"]
    pit_u: Float[np.ndarray, "source latent"]


def check_proposal(
    proposal: Proposal,
    forward: PaeForward,
    z_prior: RedshiftPrior,
    depths: Float[np.ndarray, "kind band"],
    cfg: ProposalConfig,
    *,
    seed: int,
    n_sources: int = 512,
    model_error: ModelError | None = None,
) -> ProposalCheck:
    """Draws from the proposal for sources simulated as in its training, with another seed.

    Args:
        proposal: trained.
        forward: the model it was trained for.
        z_prior: that of the training.
        depths: 1-sigma depths [uJy] of the training.
        cfg: its limits of signal-to-noise are used.
        seed: of the training.
        n_sources: simulated.
        model_error: that of the training.
    """
    n_latent = proposal.dim - 1
    bank = simulation_bank(forward, z_prior, n_sources, n_latent, seed + SEED_OFFSET)
    observing = Observing(jnp.asarray(depths, jnp.float32), cfg.snr_min, cfg.snr_max)
    noise_key, draw_key = jr.split(jr.key(seed + SEED_OFFSET))
    photometry = _observe(observing, model_error, bank[:, n_latent:], jr.split(noise_key, n_sources))
    u, log_z = _draw(proposal, photometry, jr.split(draw_key, n_sources), N_DRAWS)
    u, log_z = np.asarray(u), np.asarray(log_z)
    half = 0.5 / N_DRAWS
    return ProposalCheck(
        z_true=np.exp(bank[:, n_latent]),
        z_median=np.exp(np.median(log_z, axis=1)),
        pit=np.mean(log_z < bank[:, n_latent, None], axis=1) * (1.0 - 2.0 * half) + half,
        pit_u=np.mean(u < bank[:, None, :n_latent], axis=1) * (1.0 - 2.0 * half) + half,
    )


def draw_redshifts(
    proposal: Proposal,
    flux: Float[np.ndarray, "source band"],
    flux_err: Float[np.ndarray, "source band"],
    *,
    n_draws: int = 256,
    seed: int = 0,
) -> Float[np.ndarray, "source draw"]:
    """Redshifts drawn from the proposal as it is, uncorrected.

    Args:
        proposal: trained.
        flux: [uJy], finite in usable bands.
        flux_err: 1 sigma [uJy]; not finite or not positive masks the band.
        n_draws: of each source.
        seed: of the draws; the same for every source, so that its neighbours do not matter.
    """
    photometry = whiten(jnp.asarray(flux, jnp.float32), jnp.asarray(flux_err, jnp.float32))
    keys = jnp.broadcast_to(jr.key(seed), (len(flux),))
    return np.exp(np.asarray(_draw(proposal, photometry, keys, n_draws)[1]))


@eqx.filter_jit
def _observe(
    observing: Observing, model_error: ModelError | None, rows: Array, keys: Array
) -> WhitenedPhotometry:
    """Photometry of rows of ln z and noiseless fluxes."""

    def one(row: Array, key: Array) -> WhitenedPhotometry:
        return observing(row[1:], key, relative_errors(model_error, row[0]))

    return jax.vmap(one)(rows, keys)


@eqx.filter_jit
def _draw(
    proposal: Proposal, photometry: WhitenedPhotometry, keys: Array, n_draws: int
) -> tuple[Array, Array]:
    """(u (source, draw, n_latent), ln z (source, draw))."""

    def one(signal: Array, weight: Array, key: Array) -> tuple[Array, Array]:
        context = proposal.context(signal, weight)
        eps = jr.normal(key, (n_draws, proposal.dim))
        u, log_z, _ = jax.vmap(lambda e: proposal.sample(context, e))(eps)
        return u, log_z

    return jax.vmap(one)(photometry.signal, photometry.weight, keys)
