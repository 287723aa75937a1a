"""pocoMC, the second sampler: preconditioned sequential Monte Carlo without gradients (paper section IV.2.1).

Karamanis et al. 2022 (arXiv:2207.05660). Particles travel from the prior to the posterior along a ladder of
temperatures, moved by preconditioned Crank-Nicolson steps in the space of a flow trained on them. It meets every mode
the prior draws meet, and gives the evidence; one source takes minutes, so that it is for checks and for single
sources, not for catalogues.

pocoMC sees (u, ln z), the prior of the one posterior object, and its likelihood through a compiled function of fixed
batch shape. It draws from NumPy's global generator and from torch's; both are seeded per source and put back
afterwards, so this must not run in a thread beside other users of these generators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from tqdm.auto import tqdm

from paeplatform.errors import ConfigError, InputError
from paeplatform.inference.batches.progress import SHOWN, Progress
from paeplatform.inference.model.draws import PosteriorDraws
from paeplatform.inference.model.posterior import LOG_2PI, LogPosterior, WhitenedPhotometry
from paeplatform.inference.sources import Sources
from paeplatform.instrument.noise import usable_bands
from paeplatform.random_keys import seeded_generator

FLOWS = ("nsf3", "nsf6", "nsf12", "maf3", "maf6", "maf12")
BATCH = 256  # likelihoods of one compiled call, padded


@dataclass(frozen=True)
class PocomcStages:
    """Sizes of a run.

    Attributes:
        n_effective: particles that each temperature is worth, pocoMC's measure of care.
        n_active: particles moved at a time, at most half of `n_effective` by pocoMC's advice.
        n_draws: sampling goes on until the particles are worth so many; as many are kept, with equal weights.
        n_evidence: draws of the flow for the evidence.
        flow: pocoMC's preconditioner, nsf or maf with 3, 6 or 12 transformations; most of the time goes into it.
    """

    n_effective: int = 512
    n_active: int = 256
    n_draws: int = 4000
    n_evidence: int = 4096
    flow: str = "maf3"

    def check(self, n_latent: int) -> None:
        """Refuses numbers with which pocoMC cannot work.

        Raises:
            ConfigError: a number is out of range, or there is no such flow.
        """
        if self.n_active < 2 * (n_latent + 1) or self.n_effective < self.n_active:
            raise ConfigError(
                f"pocoMC: n_active {self.n_active} must be at least {2 * (n_latent + 1)} (twice the dimension) "
                f"and n_effective {self.n_effective} at least n_active"
            )
        if self.flow not in FLOWS:
            raise ConfigError(f"pocoMC: flow {self.flow!r} must be one of {', '.join(FLOWS)}")
        if self.n_draws < 1 or self.n_evidence < 1:
            raise ConfigError(
                f"pocoMC: n_draws {self.n_draws} and n_evidence {self.n_evidence} must be positive"
            )


STAGES = PocomcStages()


@dataclass(frozen=True)
class PocomcRun:
    """Posterior and evidence of each source; NaN where `failed`.

    Attributes:
        draws: equal weights.
        log_evidence: (source,) ln of the integral of likelihood times prior, up to the likelihood's constant of the
            data. Differences between priors or models of one source are Bayes factors.
        log_evidence_err: (source,) pocoMC's bootstrap error of it.
        n_likelihood: (source,) likelihoods computed.
        failed: (source,) no usable band, or a flux in one that is not finite.
    """

    draws: PosteriorDraws
    log_evidence: Float[np.ndarray, " source"]
    log_evidence_err: Float[np.ndarray, " source"]
    n_likelihood: np.ndarray
    failed: np.ndarray


def run_pocomc(
    posterior: LogPosterior,
    sources: Sources,
    *,
    n_latent: int,
    stages: PocomcStages = STAGES,
    progress: Progress = SHOWN,
) -> PocomcRun:
    """Samples the posterior of every source, one after the other.

    Args:
        posterior: forward model, priors and treatment of the amplitude.
        sources: photometry and what the random numbers are made from.
        n_latent: size of u.
        stages: numbers of particles and draws.
        progress: whether a bar in galaxies is shown.

    Raises:
        ConfigError: pocoMC is not installed, the posterior has no NF prior on u (pocoMC starts from the prior and a
            flat one cannot be drawn from), or a number is out of range.
        InputError: shapes do not agree.
    """
    sampler = _sampler_class()
    if not posterior.nf_prior:
        raise ConfigError(
            "pocoMC needs prior.nf_prior: it starts from prior draws, and a flat u has none; use mclmc"
        )
    stages.check(n_latent)
    sources = sources.single()
    n_draws = stages.n_draws
    flux, flux_err = sources.fitted
    if flux.ndim != 2 or flux.shape != flux_err.shape:
        raise InputError(f"flux {flux.shape} and flux_err {flux_err.shape} must both be (source, band)")
    n_source = len(sources)
    usable = usable_bands(flux_err)
    failed = np.asarray(~usable.any(axis=1) | (usable & ~np.isfinite(flux)).any(axis=1))

    photometry = sources.whitened(posterior)
    x = np.full((n_source, n_draws, n_latent + 1), np.nan, np.float32)
    log_prob = np.full((n_source, n_draws), np.nan, np.float32)
    evidence, calls = np.full((2, n_source), np.nan), np.zeros(n_source, np.int64)
    for row in tqdm(np.flatnonzero(~failed), desc="pocoMC", unit="galaxy", disable=not progress.show):
        rng = seeded_generator(sources.seed, sources.object_id[row], 0x706D)
        prior = PosteriorPrior(posterior, n_latent, rng)
        likelihood = _Likelihood(posterior, photometry.rows(row))
        with _seeded(rng) as torch_seed:
            run = sampler(
                prior=prior,
                likelihood=likelihood,
                n_effective=stages.n_effective,
                n_active=stages.n_active,
                flow=stages.flow,
                vectorize=True,
                random_state=torch_seed,
            )
            run.run(n_total=n_draws, n_evidence=stages.n_evidence, progress=False)
            samples, weight, log_like, log_prior = run.posterior()
            evidence[:, row] = run.evidence()
        chosen = _systematic(weight, n_draws, rng)
        x[row], log_prob[row], calls[row] = samples[chosen], (log_like + log_prior)[chosen], run.calls
    weight = np.full((n_source, n_draws), 1.0 / n_draws, np.float32)
    weight[failed] = np.nan
    z = np.clip(np.exp(x[..., -1]), float(posterior.z_prior.z_min), float(posterior.z_prior.z_max))
    draws = PosteriorDraws(u=x[..., :-1], z=z.astype(np.float32), weight=weight, log_prob=log_prob)
    return PocomcRun(draws, evidence[0], evidence[1], calls, failed)


class PosteriorPrior:
    """The posterior's prior over x = (u, ln z), float64, as pocoMC asks for one."""

    def __init__(self, posterior: LogPosterior, n_latent: int, rng: np.random.Generator):
        self.posterior, self.dim, self._rng = posterior, n_latent + 1, rng
        log_limits = np.log([float(posterior.z_prior.z_min), float(posterior.z_prior.z_max)])
        self.bounds = np.array([[-np.inf, np.inf]] * n_latent + [log_limits])

    def logpdf(self, x: Float[np.ndarray, "draw dim"]) -> Float[np.ndarray, " draw"]:
        """ln N(u; 0, I) + ln p(z) + ln z, -inf outside the limits."""
        u, log_z = x[:, :-1], x[:, -1]
        inside = (log_z >= self.bounds[-1, 0]) & (log_z <= self.bounds[-1, 1])
        z_part = _padded(
            lambda z: _log_p_z(self.posterior, z), np.exp(np.where(inside, log_z, self.bounds[-1, 0]))
        )
        log_normal = -0.5 * np.sum(u**2, axis=1) - 0.5 * u.shape[1] * LOG_2PI
        return np.where(inside, log_normal + z_part + log_z, -np.inf)

    def rvs(self, size: int = 1) -> Float[np.ndarray, "draw dim"]:
        """Draws of u and ln z, the latter by `RedshiftPrior.ppf`."""
        z = self.posterior.z_prior.sample(size, self._rng)
        return np.column_stack([self._rng.standard_normal((size, self.dim - 1)), np.log(z)])


class _Likelihood:
    """ln L of one source at (draw, dim) positions, in float64 whatever the model computes in."""

    def __init__(self, posterior: LogPosterior, photometry: WhitenedPhotometry):
        self.posterior, self.photometry = posterior, jax.tree.map(jnp.asarray, photometry)

    def __call__(self, x: Float[np.ndarray, "draw dim"]) -> Float[np.ndarray, " draw"]:
        value = _padded(lambda x: _log_likelihoods(self.posterior, self.photometry, x), x)
        return np.where(np.isfinite(value), value, -np.inf)


def _padded(function: Callable[[np.ndarray], Array], values: np.ndarray) -> Float[np.ndarray, " draw"]:
    """`function` of float32 rows, in batches of one shape."""
    out = np.empty(len(values))
    for first in range(0, len(values), BATCH):
        rows = np.arange(first, min(first + BATCH, len(values)))
        out[rows] = np.asarray(function(np.float32(values[np.resize(rows, BATCH)])))[: len(rows)]
    return out


@eqx.filter_jit
def _log_likelihoods(posterior: LogPosterior, photometry: WhitenedPhotometry, x: Array) -> Array:
    def one(x: Array) -> Array:
        z = jnp.clip(jnp.exp(x[-1]), posterior.z_prior.z_min, posterior.z_prior.z_max)
        return posterior.log_likelihood_of(x[:-1], z, photometry)

    return jax.vmap(one)(x)


@eqx.filter_jit
def _log_p_z(posterior: LogPosterior, z: Array) -> Array:
    return jax.vmap(posterior.z_prior.log_density)(z)


def _systematic(weight: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Indices (n,) by systematic resampling."""
    cumulative = np.cumsum(weight / np.sum(weight))
    points = (np.arange(n) + rng.uniform()) / n
    return np.minimum(np.searchsorted(cumulative, points * cumulative[-1]), len(weight) - 1)


def _sampler_class() -> Any:
    try:
        from pocomc import Sampler
    except ImportError as error:
        raise ConfigError(
            f"pocoMC is not installed ({error}): pip install 'paeplatform[pocomc]', or choose another sampler"
        ) from error
    return Sampler


@contextmanager
def _seeded(rng: np.random.Generator) -> Iterator[int]:
    """Global generators and torch's thread count as pocoMC changes them, put back at the end; gives the seed."""
    import torch

    # pocoMC draws from NumPy's legacy global generator, so its state is what has to be kept
    state = np.random.get_state()  # noqa: NPY002
    n_threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        try:
            yield int(rng.integers(2**31))
        finally:
            np.random.set_state(state)  # noqa: NPY002
            torch.set_num_threads(n_threads)
