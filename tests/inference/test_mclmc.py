"""The sampler against posteriors known by integration or on paper; independence of batch, order and devices."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from paeplatform.inference.batches.progress import SILENT, Progress
from paeplatform.inference.mclmc.chains import run_mclmc
from paeplatform.inference.mclmc.diagnostics import effective_sample_size, split_rhat
from paeplatform.inference.model.posterior import LogPosterior
from paeplatform.inference.model.priors import BpzPrior, TabulatedPrior
from paeplatform.inference.sources import Sources

Z_MIN, Z_MAX = 0.05, 2.0


def bump_sources(forward, snrs, seed):
    rng = np.random.default_rng(seed)
    rows = []
    for snr in snrs:
        flux = np.asarray(
            forward(jnp.asarray(rng.normal(size=2)), jnp.asarray(rng.uniform(0.3, 1.2))), np.float64
        )
        flux_err = np.full(flux.size, np.sqrt(np.sum(flux**2)) / snr)
        rows.append((flux + flux_err * rng.normal(size=flux.size), flux_err))
    return tuple(np.stack(part) for part in zip(*rows, strict=True))


@pytest.fixture(scope="module")
def bump(bump_forward):
    posterior = LogPosterior(bump_forward, BpzPrior(1.4, 0.6, 1.3, Z_MIN, Z_MAX))
    flux, flux_err = bump_sources(bump_forward, [12.0, 20.0, 30.0, 60.0, 3.0, 20.0], 21)
    flux_err[5, ::2] = np.inf
    return posterior, flux, flux_err


@pytest.fixture(scope="module")
def sampled(bump, quick_mclmc):
    posterior, flux, flux_err = bump
    ids = np.array([5, -1, 2**40, 7, 8, 9])
    return ids, run_mclmc(
        posterior, Sources(flux, flux_err, ids, 4), quick_mclmc, n_latent=2, progress=SILENT
    )


def integrated_cdf(posterior, flux, flux_err):
    """Redshift grid and the CDF of p(z), by a sum over a grid in (u0, u1, z)."""
    z, u = np.geomspace(Z_MIN, Z_MAX, 1200), np.linspace(-4.5, 4.5, 46)
    uu = jnp.asarray(np.stack(np.meshgrid(u, u, indexing="ij"), axis=-1).reshape(-1, 2), jnp.float32)

    @jax.jit
    def log_mass(z):
        prior = posterior.z_prior.log_density(z)
        log_like = jax.vmap(
            lambda u: posterior.log_likelihood(u, z, jnp.asarray(flux), jnp.asarray(flux_err))
        )(uu)
        return prior + jax.scipy.special.logsumexp(log_like - 0.5 * jnp.sum(uu**2, axis=1))

    log_density = np.asarray(jax.lax.map(log_mass, jnp.asarray(z, jnp.float32), batch_size=64), np.float64)
    density = np.exp(log_density - log_density.max())
    cdf = np.concatenate([[0.0], np.cumsum(0.5 * np.diff(z) * (density[1:] + density[:-1]))])
    return z, cdf / cdf[-1]


def test_redshift_posterior_is_the_integrated_one(bump, sampled):
    posterior, flux, flux_err = bump
    _, samples = sampled
    z_draws = samples.z.astype(np.float64)
    assert np.all(split_rhat(z_draws) < 1.1)
    ess = effective_sample_size(z_draws)
    assert np.all(ess > 100.0)
    for i in range(len(flux)):
        z, cdf = integrated_cdf(posterior, flux[i], flux_err[i])
        for level in (0.1, 0.25, 0.5, 0.75, 0.9):
            reached = np.interp(np.quantile(z_draws[i], level), z, cdf)
            # Monte Carlo: sqrt(p(1-p)/ESS), four sigma over 30 comparisons, the estimated ESS trusted to a factor 1.5;
            # and 0.01 for the bias of the unadjusted sampler and the grid
            assert reached == pytest.approx(
                level, abs=4.0 * np.sqrt(1.5 * level * (1.0 - level) / ess[i]) + 0.01
            )


def test_draws_stay_inside_the_prior_and_their_density_is_the_posterior(bump, sampled):
    posterior, flux, flux_err = bump
    _, samples = sampled
    assert samples.z.min() >= Z_MIN * (1 - 1e-6) and samples.z.max() <= Z_MAX * (1 + 1e-6)
    assert samples.u.shape == (6, 4, 100, 2) and samples.z_kept.shape == (6, 4, 100)
    for i, chain, kept in ((0, 0, 0), (3, 2, 50), (5, 3, 99)):
        x = jnp.append(samples.u[i, chain, kept], jnp.log(samples.z_kept[i, chain, kept]))
        expected = float(posterior.log_prob(x, jnp.asarray(flux[i]), jnp.asarray(flux_err[i])))
        assert samples.log_prob[i, chain, 10 * kept + 9] == pytest.approx(expected, abs=5e-3)


def test_gaussian_posterior_has_its_closed_form(linear_forward, quick_mclmc):
    """Linear model, flat prior on ln z, amplitude pinned by band 0: mean and covariance by linear algebra."""
    grid = np.geomspace(0.01, 5.0, 3000)
    posterior = LogPosterior(linear_forward, TabulatedPrior(grid, 1.0 / grid))
    truth = np.array([0.5, -0.3, 0.8, np.log(0.3)])
    flux_err = np.full(12, 0.3)
    flux_err[0] = 1e-3
    offset, slope = linear_forward.offset.astype(np.float64), linear_forward.slope.astype(np.float64)
    flux = offset + slope @ truth + flux_err * np.random.default_rng(4).normal(size=12)
    precision = slope.T @ (slope / flux_err[:, None] ** 2) + np.diag([1.0, 1.0, 1.0, 0.0])
    covariance = np.linalg.inv(precision)
    mean = covariance @ (slope.T @ ((flux - offset) / flux_err**2))
    samples = run_mclmc(
        posterior, Sources.numbered(flux[None], flux_err[None], 1), quick_mclmc, n_latent=3, progress=SILENT
    )
    x = np.concatenate([samples.u[0], np.log(samples.z_kept[0])[..., None]], axis=-1).astype(np.float64)
    pooled = x.reshape(-1, 4)
    error = np.sqrt(np.diag(covariance))
    ess = np.array([min(effective_sample_size(x[None, ..., k])[0], len(pooled)) for k in range(4)])
    assert np.all(ess > 50.0)
    assert np.all(np.abs(pooled.mean(axis=0) - mean) < 4.0 * error / np.sqrt(ess) + 0.02 * error)
    # relative error of a standard deviation from n draws: 1/sqrt(2n)
    assert np.all(np.abs(pooled.std(axis=0) / error - 1.0) < 4.0 / np.sqrt(2.0 * ess) + 0.02)


def test_result_does_not_depend_on_batch_mates_or_order(bump, sampled, quick_mclmc):
    posterior, flux, flux_err = bump
    ids, samples = sampled
    order = [4, 0, 3]
    again = run_mclmc(
        posterior,
        Sources(flux[order], flux_err[order], ids[order], 4),
        quick_mclmc,
        n_latent=2,
        progress=SILENT,
    )
    assert np.array_equal(again.z, samples.z[order])
    assert np.array_equal(again.u, samples.u[order])
    other = run_mclmc(
        posterior, Sources(flux[:1], flux_err[:1], ids[:1], 5), quick_mclmc, n_latent=2, progress=SILENT
    )
    assert not np.array_equal(other.z[0], samples.z[0])


def test_sources_without_data_fail_alone(bump, sampled, quick_mclmc):
    posterior, flux, flux_err = bump
    ids, samples = sampled
    damaged_err, damaged = flux_err.copy(), flux.copy()
    damaged_err[1], damaged[2] = np.inf, 1e30
    got = run_mclmc(
        posterior, Sources(damaged, damaged_err, ids, 4), quick_mclmc, n_latent=2, progress=SILENT
    )
    assert got.failed[1] and np.isnan(got.z[1]).all()
    assert not got.failed[[0, 3, 4, 5]].any()
    assert np.array_equal(got.z[[0, 3, 4, 5]], samples.z[[0, 3, 4, 5]])
    assert np.isfinite(got.z[~got.failed]).all()


def test_progress_adds_up_to_the_galaxies(bump, quick_mclmc):
    posterior, flux, flux_err = bump
    ticks = []
    run_mclmc(
        posterior,
        Sources.numbered(flux[:5], flux_err[:5], 4),
        quick_mclmc,
        n_latent=2,
        progress=Progress(False, ticks.append),
    )
    assert sum(ticks) == pytest.approx(5.0) and len(ticks) > 10


def test_no_source_is_a_legal_input(bump, quick_mclmc):
    posterior, flux, flux_err = bump
    samples = run_mclmc(
        posterior, Sources.numbered(flux[:0], flux_err[:0], 4), quick_mclmc, n_latent=2, progress=SILENT
    )
    assert samples.z.shape == (0, 4, 1000) and samples.u.shape == (0, 4, 100, 2)


SCRIPT = """
import sys
import numpy as np
from paeplatform.inference.batches.runtime import use_host_devices
use_host_devices(3)
import jax
from conftest import BumpForward
from paeplatform.config import MclmcConfig
from paeplatform.inference.mclmc.chains import run_mclmc
from paeplatform.inference.model.posterior import LogPosterior
from paeplatform.inference.model.priors import BpzPrior
from paeplatform.inference.batches.progress import SILENT
from paeplatform.inference.sources import Sources
assert jax.device_count() == 3
given = np.load(sys.argv[1])
forward = BumpForward(np.linspace(np.log(0.75), np.log(5.0), 24).astype(np.float32))
posterior = LogPosterior(forward, BpzPrior(1.4, 0.6, 1.3, 0.05, 2.0))
cfg = MclmcConfig.model_validate_json(sys.argv[3])
s = run_mclmc(
    posterior, Sources(given["flux"], given["flux_err"], given["ids"], 4), cfg, n_latent=2, progress=SILENT
)
np.save(sys.argv[2], s.z)
"""


def test_several_devices_give_the_numbers_of_one(bump, sampled, quick_mclmc, tmp_path):
    """The batch of one device is the same, so three devices run the very program of one."""
    assert jax.device_count() == 1
    _, flux, flux_err = bump
    ids, samples = sampled
    np.savez(tmp_path / "given.npz", flux=flux, flux_err=flux_err, ids=ids)
    here = Path(__file__).parent
    env = os.environ | {"PYTHONPATH": f"{here.parents[1]}{os.pathsep}{here}", "JAX_PLATFORMS": "cpu"}
    arguments = [str(tmp_path / "given.npz"), str(tmp_path / "z.npy"), quick_mclmc.model_dump_json()]
    subprocess.run([sys.executable, "-c", SCRIPT, *arguments], check=True, env=env, timeout=300)
    assert np.array_equal(np.load(tmp_path / "z.npy"), samples.z)
