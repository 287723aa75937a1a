"""Trains the amortised proposal on the PAE's own prior with fresh noise.

A bank of prior draws (u, z) with their noiseless band fluxes is made once; every batch gives each of its rows a
brightness, an error per band, masked bands and noise anew, so that no photometry is seen twice. What the network
learns is the posterior of this simulation, which is the exact posterior up to the prior on brightness; importance
sampling removes the difference.

The simulation is broad on purpose (`Observing`): a posterior that the proposal does not cover costs far more than one
that it covers too widely.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from paeplatform.config import ProposalConfig
from paeplatform.errors import TrainingError
from paeplatform.inference.model.forward_model import PaeForward
from paeplatform.inference.model.model_error import ModelError
from paeplatform.inference.model.posterior import WhitenedPhotometry
from paeplatform.inference.model.priors import RedshiftPrior
from paeplatform.pae.loop import FitOptions, FitResult, fit
from paeplatform.pae.proposal import Proposal, build_proposal, logit_z

MODEL_CHUNK = 4096
UNIFORM_SHARE = 0.3  # of the bank's redshifts; the others follow p(z): the prior may be another one when used
FULL_SHARE = 0.7  # of simulated sources with every band; the others lose up to LARGEST_LOSS of them
LARGEST_LOSS = 0.8
ROUGH_SHARE = (
    0.5  # of simulated sources whose errors scatter about the survey depth, by up to LARGEST_SCATTER
)
LARGEST_SCATTER = 0.4  # standard deviation in ln(error)
BRIGHT_SHARE = 0.4  # of simulated sources above BRIGHT_SNR: their posteriors are the hardest to learn
BRIGHT_SNR = 40.0
# Of one row, in nats. A draw many widths away from its posterior would drown the rest of its batch.
LARGEST_LOSS_OF_ROW = 60.0
EDGE = 1e-3  # in ln z: bank redshifts keep this distance from the limits, where logit_z diverges


class Observing(NamedTuple):
    """The simulated survey: from noiseless fluxes to whitened photometry.

    Attributes:
        depths: (kind, band) 1-sigma depths; one kind is drawn for each source.
        snr_min, snr_max: limits of the total signal-to-noise, drawn log-uniformly below and above BRIGHT_SNR.
    """

    depths: Float[Array, "kind band"]
    snr_min: float
    snr_max: float

    def __call__(
        self, model: Float[Array, " band"], key: PRNGKeyArray, relative: Float[Array, " band"] | None = None
    ) -> WhitenedPhotometry:
        """Photometry of a source with these noiseless fluxes (any unit), off by the relative errors of the model."""
        keys = jr.split(key, 9)
        n_band = model.size
        low, high = jnp.log(self.snr_min), jnp.log(self.snr_max)
        middle = jnp.clip(jnp.log(BRIGHT_SNR), low, high)
        bright = jr.bernoulli(keys[0], BRIGHT_SHARE)
        place = jr.uniform(keys[1])
        log_snr = jnp.where(bright, middle + place * (high - middle), low + place * (middle - low))
        depth = self.depths[jr.randint(keys[2], (), 0, self.depths.shape[0])]
        scatter = jr.bernoulli(keys[3], ROUGH_SHARE) * jr.uniform(keys[4], maxval=LARGEST_SCATTER)
        error = depth * jnp.exp(scatter * jr.normal(keys[5], (n_band,)))
        loss = jnp.where(jr.bernoulli(keys[6], FULL_SHARE), 0.0, jr.uniform(keys[7], maxval=LARGEST_LOSS))
        lost_key, noise_key = jr.split(keys[8])
        used = jr.uniform(lost_key, (n_band,)) >= loss
        weight = jnp.where(used, 1.0 / error, 0.0)
        weight = weight * jnp.sqrt(jnp.maximum(jnp.sum(used), 1) / jnp.maximum(jnp.sum(weight**2), 1e-30))
        signal = weight * model
        signal = signal * jnp.exp(log_snr) / jnp.sqrt(jnp.sum(signal**2) + 1e-30)
        if relative is not None:
            signal = signal * (1.0 + relative * jr.normal(jr.fold_in(key, 1), (n_band,)))
        return WhitenedPhotometry(signal + jnp.where(used, jr.normal(noise_key, (n_band,)), 0.0), weight)


@dataclass(frozen=True)
class TrainedProposal:
    """A proposal and how its training went."""

    proposal: Proposal
    fit: FitResult


def train_proposal(
    forward: PaeForward,
    z_prior: RedshiftPrior,
    depths: Float[np.ndarray, "kind band"],
    cfg: ProposalConfig,
    *,
    n_latent: int,
    seed: int,
    model_error: ModelError | None = None,
    options: FitOptions = FitOptions(),
) -> TrainedProposal:
    """Simulates sources from the PAE's prior and fits the proposal to them by maximum likelihood.

    Args:
        forward: the trained PAE with its filters.
        z_prior: redshift prior most of the bank follows; its limits are the proposal's.
        depths: 1-sigma depths [uJy] of the surveys to be broad over.
        cfg: sizes of network, bank and training.
        n_latent: size of u.
        seed: of bank, weights and noise.
        model_error: of the likelihood that the proposal is for; None for one without.
        options: checkpoints and progress.

    Raises:
        TrainingError: a model flux of the bank is not finite, or a loss was not finite.
    """
    bank = simulation_bank(forward, z_prior, cfg.n_bank, n_latent, seed)
    n_validation = min(max(cfg.n_bank // 20, 256), 8192)
    validation = simulation_bank(forward, z_prior, n_validation, n_latent, seed + 1)
    limits = float(z_prior.z_min), float(z_prior.z_max)
    low, high = np.log(np.asarray(limits))
    raw = np.asarray(logit_z(jnp.asarray(bank[:, n_latent]), low, high))
    start = build_proposal(
        cfg,
        n_latent,
        bank.shape[1] - n_latent - 1,
        limits,
        key=jr.key(seed),
        t_moments=(float(raw.mean()), float(raw.std())),
    )
    observing = Observing(jnp.asarray(depths, jnp.float32), cfg.snr_min, cfg.snr_max)
    result = fit(
        start,
        bank,
        proposal_loss(observing, n_latent, model_error),
        cfg.fit,
        key=jr.key(seed + 1),
        name="posterior-proposal",
        validation=validation,
        options=options,
    )
    return TrainedProposal(result.model, result)


def simulation_bank(
    forward: PaeForward, z_prior: RedshiftPrior, n: int, n_latent: int, seed: int
) -> Float[np.ndarray, "draw column"]:
    """Rows (u, ln z, noiseless band fluxes) of prior draws, float32.

    Raises:
        TrainingError: a flux is not finite.
    """
    rng = np.random.default_rng([seed, 0x50524F])
    z_min, z_max = float(z_prior.z_min), float(z_prior.z_max)
    z = np.where(rng.uniform(size=n) < UNIFORM_SHARE, rng.uniform(z_min, z_max, n), z_prior.sample(n, rng))
    log_z = np.clip(np.log(z), np.log(z_min) + EDGE, np.log(z_max) - EDGE).astype(np.float32)
    u = rng.standard_normal((n, n_latent)).astype(np.float32)
    parts = []
    for first in range(0, n, MODEL_CHUNK):
        rows = np.arange(first, first + MODEL_CHUNK) % n  # one shape, one compilation
        parts.append(np.asarray(_model_fluxes(forward, u[rows], log_z[rows])))
    model = np.concatenate(parts)[:n]
    bad = np.flatnonzero(~np.isfinite(model).all(axis=1))
    if bad.size:
        raise TrainingError(
            f"posterior-proposal: {bad.size} of {n} prior draws have fluxes that are not finite, the first at "
            f"z = {np.exp(log_z[bad[0]]):.4f}; the flow or the autoencoder is broken"
        )
    return np.concatenate([u, log_z[:, None], model], axis=1).astype(np.float32)


@eqx.filter_jit
def _model_fluxes(forward: PaeForward, u: Array, log_z: Array) -> Float[Array, "draw band"]:
    return jax.vmap(forward)(u, jnp.exp(log_z))


def relative_errors(model_error: ModelError | None, log_z: Array) -> Float[Array, " band"] | None:
    """Of the channels' fluxes at ln z; None without errors of the model."""
    return None if model_error is None else model_error.at(model_error.channel_log_wave, jnp.exp(log_z))


def proposal_loss(observing: Observing, n_latent: int, model_error: ModelError | None = None):  # type: ignore[no-untyped-def]
    """Mean -ln q(u, ln z | simulated photometry) of a batch of bank rows.

    On one device: gradients of a batch that is shared out have to meet, and on CPU devices that meeting has hung
    (jaxlib 0.10.2); two cores gained nothing measurable.
    """

    def loss(proposal: Proposal, batch: Float[Array, "batch column"], key: PRNGKeyArray) -> Float[Array, ""]:
        def one(row: Array, key: PRNGKeyArray) -> Array:
            photometry = observing(row[n_latent + 1 :], key, relative_errors(model_error, row[n_latent]))
            context = proposal.context(photometry.signal, photometry.weight)
            loss = -proposal.log_prob(context, row[:n_latent], row[n_latent])
            return jnp.minimum(loss, LARGEST_LOSS_OF_ROW)

        return jnp.mean(jax.vmap(one)(batch, jr.split(key, len(batch))))

    return loss
