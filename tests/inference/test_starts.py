"""Starting points: what the search finds, and which chains start anew."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from paeplatform.inference.batches.progress import SILENT
from paeplatform.inference.mclmc.chains import run_mclmc
from paeplatform.inference.model.posterior import LogPosterior, whiten
from paeplatform.inference.model.priors import UniformPrior
from paeplatform.inference.modes.starts import (
    best_of_strata,
    choose_starts,
    landmark_bank,
    prior_bank,
    prior_draws,
    reinitialise,
    score_bank,
    tempered_weights,
)
from paeplatform.inference.sources import Sources

ISLAND = np.array([4.5, -4.5], np.float32)  # 6.4 sigma out: no draw of the prior comes near


@pytest.fixture(scope="module")
def posterior(bump_forward):
    return LogPosterior(bump_forward, UniformPrior(0.05, 2.0))


def test_prior_draws_fill_the_redshift_range_evenly(posterior):
    u, z = prior_draws(posterior, 400, 2, np.random.default_rng(0))
    assert u.shape == (400, 2)
    counts = np.histogram(z, np.linspace(0.05, 2.0, 401))[0]
    assert np.all(counts == 1)  # stratified: one draw a stratum


def test_score_ranks_as_the_likelihood_does(posterior, bump_forward):
    bank = prior_bank(posterior, 300, 2, seed=1)
    flux = np.asarray(bump_forward(jnp.zeros(2), jnp.asarray(0.6)))[None] * 5.0
    flux_err = np.full_like(flux, 0.3)
    score = score_bank(bank, whiten(jnp.asarray(flux), jnp.asarray(flux_err)), "profile")[0]
    z = np.exp(np.asarray(posterior.log_z_of(jnp.asarray(bank.position[:, 2]))))
    exact = [
        float(
            posterior.log_likelihood(
                jnp.asarray(v[:2]), jnp.asarray(zi), jnp.asarray(flux[0]), jnp.asarray(flux_err[0])
            )
        )
        for v, zi in zip(bank.position[:40], z[:40], strict=True)
    ]
    assert score[:40] - score[0] == pytest.approx(np.array(exact) - exact[0], abs=0.05, rel=1e-3)


def test_best_of_strata_takes_one_from_each(posterior):
    bank = prior_bank(posterior, 300, 2, seed=1)
    score = np.random.default_rng(0).normal(size=(3, 300))
    chosen = best_of_strata(bank.position, score, 10)
    edges = np.sort(bank.position[:, -1])[::30]
    stratum = np.searchsorted(edges, bank.position[chosen, -1], side="right") - 1
    assert np.array_equal(stratum, np.tile(np.arange(10), (3, 1)))
    assert np.all(
        score[np.arange(3), score.argmax(axis=1)] == np.take_along_axis(score, chosen, axis=1).max(axis=1)
    )


@pytest.mark.parametrize("spread", [0.1, 10.0, 1e5])
def test_tempering_keeps_the_wanted_number_of_draws_in_play(spread):
    score = spread * np.random.default_rng(2).normal(size=1000)
    weights = tempered_weights(score, 16.0)
    assert weights.sum() == pytest.approx(1.0)
    assert 1.0 / np.sum(weights**2) >= 15.9
    if spread > 1.0:
        assert 1.0 / np.sum(weights**2) == pytest.approx(16.0, rel=0.01)
    else:
        assert weights == pytest.approx(np.exp(score) / np.exp(score).sum())  # T = 1 was enough


def test_choice_follows_the_weights_and_refuses_a_hopeless_source():
    score = np.full(100, -1e6)
    score[7], score[50] = 0.0, np.log(3.0)
    chosen = choose_starts(score, 400, np.random.default_rng(0), effective=1.0)
    assert np.sum(chosen == 50) == pytest.approx(300, abs=1) and np.sum(chosen == 7) == pytest.approx(
        100, abs=1
    )
    assert choose_starts(np.full(9, -np.inf), 4, np.random.default_rng(0), effective=1.0) is None


def test_only_chains_far_below_the_best_move_and_they_land_beside_it():
    rng = np.random.default_rng(5)
    position = rng.normal(size=(2, 4, 3)).astype(np.float32)
    log_like = np.array([[-50.0, -54.9, -55.1, -np.inf], [np.nan, -np.inf, np.nan, -np.inf]])
    fisher = np.tile(100.0 * np.eye(3), (2, 4, 1, 1))
    fisher[0, 2:] = 1e6  # a chain that moves takes no part in the metric
    new, metric, moved = reinitialise(log_like, position, fisher, rng.normal(size=(2, 4, 3)), 5.0, 0.05)
    assert moved.tolist() == [[False, False, True, True], [False] * 4]
    assert np.array_equal(new[~moved], position[~moved])
    distance = np.abs(new[0, 2:] - position[0, 0])
    assert 0.0 < distance.max() < 0.05 * 5.0 / np.sqrt(101.0)
    assert metric[0] == pytest.approx(np.tile(100.0 * np.eye(3), (4, 1, 1)))


class IslandForward(eqx.Module):
    """A bump whose place gives the redshift, but only on an island far out in u; elsewhere the spectrum is a slope."""

    log_wave: np.ndarray

    def __call__(self, u, z):
        near = jnp.exp(-0.5 * jnp.sum((u - ISLAND) ** 2) / 0.3**2)
        bump = jnp.exp(-0.5 * ((self.log_wave - jnp.log1p(z) - 0.1) / 0.1) ** 2)
        return jnp.exp(0.1 * u[0] * (self.log_wave - 1.0)) * (1.0 + 3.0 * near * bump)


def test_landmarks_find_an_island_that_prior_draws_miss(bump_forward, quick_mclmc):
    forward = IslandForward(bump_forward.log_wave)
    posterior = LogPosterior(forward, UniformPrior(0.05, 2.0))
    z_true = 0.7
    flux = 10.0 * np.asarray(forward(jnp.asarray(ISLAND), jnp.asarray(z_true)))[None]
    flux_err = np.full_like(flux, 0.3)
    common = {"n_latent": 2, "progress": SILENT}
    sources = Sources.numbered(flux, flux_err, 3)
    landmarks = np.array([[0.0, 0.0], ISLAND + 0.05], np.float32)
    found = run_mclmc(posterior, sources, quick_mclmc, landmarks=landmarks, **common)
    lost = run_mclmc(posterior, sources, quick_mclmc, **common)
    assert np.abs(found.z - z_true).max() < 0.1
    assert np.mean(np.abs(lost.z - z_true) < 0.1) < 0.5


def test_every_landmark_is_tried_at_every_redshift(posterior):
    landmarks = np.array([[0.5, -1.0], [3.0, 2.0], [0.0, 0.1]])
    bank = landmark_bank(posterior, landmarks, seed=1)
    z = np.exp(np.asarray(posterior.log_z_of(jnp.asarray(bank.position[:, 2])))).reshape(3, -1)
    assert np.allclose(bank.position[:, :2].reshape(3, -1, 2), landmarks[:, None])
    edges = np.linspace(0.05, 2.0, z.shape[1] + 1)
    assert all(np.all(np.histogram(row, edges)[0] == 1) for row in z)
