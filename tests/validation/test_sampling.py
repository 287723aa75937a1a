"""Priors of the tables, correlations with u, and rank tests, on problems with known answers."""

import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from scipy import stats

from paeplatform.inference.model.draws import PosteriorDraws
from paeplatform.inference.model.model_error import model_error
from paeplatform.inference.model.posterior import LogPosterior
from paeplatform.inference.model.priors import UniformPrior
from paeplatform.paper.ranks import SimulatedSources, rank_summary, rank_table, simulate_from_prior
from paeplatform.paper.sampling import latent_correlations, uniform_prior
from paeplatform.scores.latent_statistics import norm_trend, spectrum_statistics
from tests.inference.line_problem import LOG_WAVE, LinesForward, numpy_model

PRIOR = UniformPrior(0.01, 3.0)


def test_the_flat_limit_of_the_bpz_prior_is_uniform():
    ours, exact = uniform_prior(0.003, 3.0), UniformPrior(0.003, 3.0)
    z = jnp.asarray(np.linspace(0.004, 2.99, 200), jnp.float32)
    densities = [np.asarray([prior.log_density(one) for one in z]) for prior in (ours, exact)]
    np.testing.assert_allclose(*densities, atol=3e-6)
    q = np.linspace(0, 1, 101)
    np.testing.assert_allclose(ours.ppf(q), exact.ppf(q), rtol=1e-5)


def draws_of(u: np.ndarray, z: np.ndarray, weight: np.ndarray | None = None) -> PosteriorDraws:
    weight = np.full(z.shape, 1.0 / z.shape[1]) if weight is None else weight
    return PosteriorDraws(
        u.astype(np.float32), z.astype(np.float32), weight.astype(np.float32), np.zeros(z.shape, np.float32)
    )


def test_correlation_of_z_with_latents_is_numpys_also_with_weights():
    rng = np.random.default_rng(0)
    z = rng.normal(1.0, 0.1, (3, 400))
    u = np.stack([z * 2 + rng.normal(0, 0.1, z.shape), rng.normal(size=z.shape)], axis=-1)
    rho = latent_correlations(draws_of(u, z))
    for source in range(3):
        for k in range(2):
            expected = np.corrcoef(u[source, :, k], z[source])[0, 1]
            assert rho[source, k] == pytest.approx(expected, abs=1e-5)
    twice = np.concatenate([z, z[:, :200]], axis=1)
    weight = np.concatenate([np.full((3, 200), 2.0), np.full((3, 200), 1.0)], axis=1) / 600
    weighted = latent_correlations(draws_of(u, z, weight))
    doubled = latent_correlations(draws_of(np.concatenate([u, u[:, :200]], axis=1), twice))
    np.testing.assert_allclose(weighted, doubled, atol=1e-5)
    blank = draws_of(np.full((1, 4, 2), np.nan), np.full((1, 4), np.nan))
    assert np.isnan(latent_correlations(blank)).all()


def gaussian_problem(n: int, stretch: float = 1.0, shift: float = 0.0, seed: int = 1):
    """u ~ N(0, I) seen with unit noise: posterior N(d/2, 1/2). z is known to nothing but its prior."""
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((n, 3))
    data = u + rng.standard_normal((n, 3))
    z = PRIOR.sample(n, rng)
    draws = 0.5 * data[:, None] + shift + stretch * np.sqrt(0.5) * rng.standard_normal((n, 200, 3))
    z_draws = PRIOR.ppf(rng.uniform(size=(n, 200)))
    empty = np.zeros((n, 1))
    return SimulatedSources(u, z, empty, empty, np.arange(n)), draws_of(draws, z_draws)


def test_ranks_of_exact_posteriors_are_uniform():
    truth, draws = gaussian_problem(1500)
    ranks = rank_table(truth, draws, PRIOR, seed=0)
    summary = rank_summary(ranks, 50)
    assert summary["quantity"].to_list() == ["z", "u_1", "u_2", "u_3", "TARP"]
    assert (summary["p_value"] > 1e-3).all()
    assert summary["ks"][1] == pytest.approx(
        stats.kstest(ranks["rank_u"].to_numpy()[:, 0], "uniform").statistic
    )
    assert (summary["ks_err"] > 0).all()


@pytest.mark.parametrize(("stretch", "shift"), [(0.5, 0.0), (1.0, 0.4)])
def test_wrong_posteriors_are_found_by_ranks_and_tarp(stretch: float, shift: float):
    truth, draws = gaussian_problem(1500, stretch, shift)
    summary = rank_summary(rank_table(truth, draws, PRIOR, seed=0), 10)
    p = dict(summary.select("quantity", "p_value").iter_rows())
    assert p["u_1"] < 1e-6 and p["TARP"] < 1e-4 and p["z"] > 1e-3


def test_sources_without_draws_are_left_out_of_the_ranks():
    truth, draws = gaussian_problem(5)
    draws.z[2] = np.nan
    assert rank_table(truth, draws, PRIOR, seed=0)["object_id"].to_list() == [0, 1, 3, 4]


def test_norms_by_redshift_and_their_correlation():
    rng = np.random.default_rng(3)
    z = rng.uniform(0, 3, 3000)
    rows = pl.DataFrame({"z": z, "u_norm": 2.2 + 0.1 * z + rng.normal(0, 0.5, 3000)})
    trend = norm_trend(rows, 50)
    bins, whole = trend.head(-1), trend.row(-1, named=True)
    assert bins["n"].sum() == whole["n"] == 3000
    assert whole["pearson"] == pytest.approx(stats.pearsonr(rows["z"], rows["u_norm"]).statistic)
    assert bins["u_norm_mean"][-1] > bins["u_norm_mean"][0]
    assert bins["u_norm_mean_err"][0] == pytest.approx(0.5 / np.sqrt(bins["n"][0]), rel=0.4)


def test_reconstruction_statistics_are_the_errors_of_the_reconstruction(monkeypatch):
    from paeplatform.scores import latent_statistics

    rng = np.random.default_rng(4)
    spectra, offset = rng.uniform(0.5, 1.5, (7, 11)), np.linspace(0, 0.1, 11)
    monkeypatch.setattr(latent_statistics, "encode_spectra", lambda model, rows: rows)
    monkeypatch.setattr(latent_statistics, "decode_latents", lambda model, rows: rows + offset)
    monkeypatch.setattr(latent_statistics, "latents_to_base", lambda model, rows, z: rows[:, :2])
    rows, by_wave = spectrum_statistics(None, None, spectra, np.arange(7.0), np.arange(11.0))  # type: ignore[arg-type]
    np.testing.assert_allclose(by_wave["squared_error"], offset**2, atol=1e-12)
    np.testing.assert_allclose(rows["mse"], np.mean(offset**2), atol=1e-12)
    np.testing.assert_allclose(rows["u_norm"], np.hypot(spectra[:, 0], spectra[:, 1]))


def test_simulated_sources_have_the_errors_that_the_posterior_counts():
    posterior = LogPosterior(LinesForward(LOG_WAVE), PRIOR)
    nodes = np.geomspace(0.1, 10.0, 9)
    term = model_error(nodes, np.full(9, 0.2), np.exp(LOG_WAVE.astype(np.float64)))
    counted = LogPosterior(posterior.forward, PRIOR, model_error=term)
    depth = np.full(len(LOG_WAVE), 0.7)
    plain, erring = (simulate_from_prior(one, depth, 500, 2, 3) for one in (posterior, counted))
    np.testing.assert_array_equal(plain.u, erring.u)
    truth = numpy_model(plain.u.astype(np.float64), plain.z.astype(np.float64))
    norm = np.sum(truth * plain.flux, axis=1) / np.sum(truth**2, axis=1)
    truth *= norm[:, None]
    bright = np.sqrt(np.sum((truth / depth) ** 2, axis=1)) > 60.0
    off = ((erring.flux - plain.flux) / truth)[bright]
    # normal numbers of 20 %, but for the error of the amplitude above, which is below 2 %
    assert off.std() == pytest.approx(0.2, rel=4.0 / np.sqrt(2 * off.size) + 0.02)
    assert abs(off.mean()) < 4.0 * 0.2 / np.sqrt(off.size)
