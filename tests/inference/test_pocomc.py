"""pocoMC on small problems against numerical integration on a grid: mean, width, evidence, a second mode."""

import builtins
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from paeplatform.errors import ConfigError
from paeplatform.inference.batches.progress import SILENT
from paeplatform.inference.model.posterior import LOG_2PI, LogPosterior
from paeplatform.inference.model.priors import BpzPrior, UniformPrior
from paeplatform.inference.pocomc import PocomcStages, PosteriorPrior, run_pocomc
from paeplatform.inference.sources import Sources

pytest.importorskip("pocomc")

PRIOR = BpzPrior(1.4, 0.6, 1.3, 0.05, 2.0)
QUICK = PocomcStages(n_effective=128, n_active=64, n_draws=1000, n_evidence=1000, flow="maf3")


class TwoBumps(eqx.Module):
    """One latent (a slope) and two equal bumps 0.55 apart in ln wave, one of them left of most of the bands."""

    log_wave: np.ndarray

    def __call__(self, u, z):
        rest = self.log_wave - jnp.log1p(z)
        bumps = sum(jnp.exp(-0.5 * ((rest - place) / 0.08) ** 2) for place in (-0.45, 0.1))
        return jnp.exp(0.3 * u[0] * (self.log_wave - 1.0)) * (1.0 + 1.2 * bumps)


@pytest.fixture(scope="module")
def two_bumps():
    return TwoBumps(np.linspace(np.log(1.1), np.log(5.0), 24).astype(np.float32))


def integrate(posterior, flux, flux_err, n_latent, n_u=64, n_z=400):
    """Mean and std of (u, z), ln evidence, and (z, mass) of its marginal, by the midpoint rule over (u, ln z).

    A coarse pass finds the box, six standard deviations to either side, so that the fine one resolves conditional
    widths too. Batches of 1024: for 24 bands and batches of 4096 to 8191, jaxlib 0.10.2 miscompiles the chi^2 on CPUs.
    """
    low, high = np.log([float(posterior.z_prior.z_min), float(posterior.z_prior.z_max)])
    begin, end = np.array([-5.5] * n_latent + [low]), np.array([5.5] * n_latent + [high])
    density = eqx.filter_jit(
        lambda p, x: jax.lax.map(
            lambda x: p.log_prob(x, jnp.asarray(flux), jnp.asarray(flux_err)), x, batch_size=1024
        )
    )
    for n in ([48] * n_latent + [200], [n_u] * n_latent + [n_z]):
        step = (end - begin) / n
        nodes = [b + (np.arange(k) + 0.5) * h for b, k, h in zip(begin, n, step, strict=True)]
        points = np.stack([axis.ravel() for axis in np.meshgrid(*nodes, indexing="ij")], axis=1)
        log_p = np.asarray(density(posterior, jnp.asarray(points, jnp.float32)), np.float64)
        weight = np.exp(log_p - logsumexp(log_p))
        mean = weight @ points
        reach = 6.0 * np.sqrt(weight @ (points - mean) ** 2)
        begin, end = np.maximum(begin, mean - reach), np.minimum(end, mean + reach)
    points[:, -1] = np.exp(points[:, -1])
    mean = weight @ points
    std = np.sqrt(weight @ (points - mean) ** 2)
    mass = weight.reshape(-1, n_z).sum(axis=0)
    return mean, std, logsumexp(log_p) + np.log(step).sum(), (np.exp(nodes[-1]), mass)


def photometry_of(forward, u, z, snr, seed):
    rng = np.random.default_rng(seed)
    flux = 40.0 * np.asarray(forward(jnp.asarray(u), jnp.asarray(z)), np.float64)
    flux_err = np.full(flux.size, np.sqrt(np.sum(flux**2)) / snr)
    return flux + flux_err * rng.normal(size=flux.size), flux_err


def test_moments_and_evidence_are_the_integrals(bump_forward):
    posterior = LogPosterior(bump_forward, PRIOR)
    flux, flux_err = photometry_of(bump_forward, [0.4, 0.3], 0.6, 15.0, 2)
    mean, std, log_evidence, _ = integrate(posterior, flux, flux_err, 2)
    run = run_pocomc(
        posterior, Sources.numbered(flux[None], flux_err[None], 3), n_latent=2, stages=QUICK, progress=SILENT
    )
    draws = np.column_stack([run.draws.u[0], run.draws.z[0]]).astype(np.float64)
    # The particles are worth 1000 draws by their weights, half of that is allowed for their correlation:
    # sigma/sqrt(500) for a mean, 1/sqrt(1000) relative for a width that is near to normal; four of each.
    assert (np.abs(draws.mean(axis=0) - mean) / std).max() < 4.0 / np.sqrt(500)
    assert np.abs(np.log(draws.std(axis=0) / std)).max() < 4.0 / np.sqrt(1000) + 0.05
    # pocoMC's bootstrap error does not know how well the flow covers the tails: five of it, and at least 0.05
    assert abs(run.log_evidence[0] - log_evidence) < max(5.0 * run.log_evidence_err[0], 0.05)
    # what it calls likelihood and prior is the one posterior
    x = np.concatenate([run.draws.u[0, :5], np.log(run.draws.z[0, :5, None])], axis=1)
    expected = [posterior.log_prob(jnp.asarray(row), jnp.asarray(flux), jnp.asarray(flux_err)) for row in x]
    assert run.draws.log_prob[0, :5] == pytest.approx(np.asarray(expected), abs=2e-3)


def test_both_modes_get_their_share(two_bumps):
    posterior = LogPosterior(two_bumps, UniformPrior(0.05, 2.0))
    flux, flux_err = photometry_of(two_bumps, [0.2], 1.55, 10.0, 0)
    *_, log_evidence, (z, mass) = integrate(posterior, flux, flux_err, 1)
    middle = 1.0
    share = mass[z < middle].sum()
    assert 0.1 < share < 0.9  # the problem is bimodal, or the test tests nothing
    assert mass[(z > middle - 0.1) & (z < middle + 0.1)].sum() < 0.02
    run = run_pocomc(
        posterior, Sources.numbered(flux[None], flux_err[None], 5), n_latent=1, stages=QUICK, progress=SILENT
    )
    # modes are filled while the temperature is high, by some 128 particles: binomial error of 128, four times
    assert (run.draws.z[0] < middle).mean() == pytest.approx(
        share, abs=4.0 * np.sqrt(share * (1 - share) / 128)
    )
    assert abs(run.log_evidence[0] - log_evidence) < max(5.0 * run.log_evidence_err[0], 0.1)


def test_seed_and_id_decide_and_global_generators_stay_as_they_were(bump_forward):
    posterior = LogPosterior(bump_forward, PRIOR)
    flux, flux_err = photometry_of(bump_forward, [0.4, 0.3], 0.6, 8.0, 2)
    flux, flux_err = np.stack([flux, flux, flux]), np.stack([flux_err, flux_err, flux_err])
    flux_err[1] = np.inf
    quick = replace(QUICK, n_draws=200, n_evidence=100)
    sources = Sources(flux, flux_err, np.array([7, 8, -9]), 1)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    run = run_pocomc(posterior, sources, n_latent=2, stages=quick, progress=SILENT)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert run.failed.tolist() == [False, True, False]
    assert (
        np.isnan(run.draws.z[1]).all()
        and np.isnan(run.draws.weight[1]).all()
        and np.isnan(run.log_evidence[1])
    )
    assert run.draws.weight[[0, 2]].sum(axis=1) == pytest.approx([1.0, 1.0], rel=1e-5)
    again = run_pocomc(posterior, sources.rows(slice(1)), n_latent=2, stages=quick, progress=SILENT)
    assert np.array_equal(again.draws.z[0], run.draws.z[0]) and again.log_evidence[0] == run.log_evidence[0]
    assert not np.array_equal(run.draws.z[2], run.draws.z[0])  # another id, other random numbers


def test_prior_is_the_posteriors(bump_forward):
    posterior = LogPosterior(bump_forward, PRIOR)
    prior = PosteriorPrior(posterior, 2, np.random.default_rng(0))
    x = prior.rvs(4000)
    assert x.shape == (4000, 3) and prior.dim == 3
    assert ((x[:, -1] >= prior.bounds[-1, 0]) & (x[:, -1] <= prior.bounds[-1, 1])).all()
    # mean of p/q over draws of q = p is 1 for any density q on the same ground: here uniform in ln z, normal in u
    rng = np.random.default_rng(1)
    log_z = rng.uniform(*prior.bounds[-1], size=4000)
    log_p = prior.logpdf(np.column_stack([np.zeros((4000, 2)), log_z])) + LOG_2PI
    share = np.exp(log_p) * np.diff(prior.bounds[-1])
    assert share.mean() == pytest.approx(1.0, abs=4.0 * share.std() / np.sqrt(4000))
    assert prior.logpdf(np.array([[0.0, 0.0, prior.bounds[-1, 1] + 0.1]]))[0] == -np.inf


def test_refusals_come_before_work(bump_forward, monkeypatch):
    one = Sources.numbered(np.ones((1, 24)), np.ones((1, 24)), 0)
    with pytest.raises(ConfigError, match="nf_prior"):
        run_pocomc(LogPosterior(bump_forward, PRIOR, nf_prior=False), one, n_latent=2)
    with pytest.raises(ConfigError, match="at least 6"):
        run_pocomc(LogPosterior(bump_forward, PRIOR), one, n_latent=2, stages=PocomcStages(n_active=4))
    real_import = builtins.__import__

    def without_pocomc(name, *args, **kwargs):
        if name == "pocomc":
            raise ModuleNotFoundError("No module named 'pocomc'")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pocomc)
    with pytest.raises(ConfigError, match=r"pip install 'paeplatform\[pocomc\]'"):
        run_pocomc(LogPosterior(bump_forward, PRIOR), one, n_latent=2)
