"""Importance sampling against posteriors integrated on a grid; independence of batch, order, damage and devices.

The proposal is untrained, so that everything a source needs is found by the adaptive stages.
"""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from paeplatform.inference.batches.progress import SILENT, Progress
from paeplatform.inference.importance import sampling as importance
from paeplatform.inference.importance.sampling import PATHS, run_importance
from paeplatform.inference.model.model_error import model_error
from paeplatform.inference.results.pareto import effective_draws, pareto_smooth
from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.inference.sources import Sources
from tests.inference.line_problem import (
    CONFIG,
    LINES,
    LOG_WAVE,
    TRUST,
    Z_MAX,
    Z_MIN,
    integrated,
    numpy_model,
    posterior,
    source,
    untrained,
)

N_KEPT = 200
TWO_MODED = (5, 6)
# total SNR 5 to 200; bands lost; and, last, one line in a window that does not show where the other would be
SOURCES = [
    source(0, 5.0, 0.5),
    source(1, 15.0, 0.3),
    source(2, 40.0, 0.9),
    source(3, 200.0, 0.7),
    source(4, 30.0, 0.6, window=(-1.0, 0.8)),
    source(5, 25.0, 1.1, window=(0.58, 1.12)),
    source(6, 60.0, 1.1, window=(0.58, 1.12)),
]
FLUX, FLUX_ERR = (np.stack(part) for part in zip(*SOURCES, strict=True))
IDS = np.array([5, -1, 2**40, 7, 8, 9, 10])


def run(
    rows=slice(None), *, flux=FLUX, flux_err=FLUX_ERR, ids=IDS, seed=4, cfg=CONFIG, progress=SILENT, **more
):
    return run_importance(
        posterior(),
        untrained(),
        Sources(flux[rows], flux_err[rows], ids[rows], seed),
        cfg,
        TRUST,
        n_kept=N_KEPT,
        progress=progress,
        **more,
    )


@pytest.fixture(scope="module")
def result():
    return run()


@functools.cache
def integrated_row(row):
    return integrated(FLUX[row], FLUX_ERR[row])


@pytest.mark.parametrize("row", range(len(SOURCES)))
def test_redshift_posterior_is_the_integrated_one(result, row):
    z, cdf, mean, std = integrated_row(row)
    ess = result.ess[row]
    assert result.trusted[row] and ess > 300.0
    # Monte Carlo: a mean of n draws is off by std/sqrt(n); four sigma, the effective number trusted to a factor of 1.5
    # since Kish's is not that of every function; and the grid's own error
    error = 4.0 * np.sqrt(1.5 / ess)
    assert abs(result.columns["pae_z_mean"][row] - mean) < (error + 0.01) * std
    # two modes put more scatter into the standard deviation than a normal's 1/sqrt(2n), by no more than sqrt 2
    assert abs(np.log(result.columns["pae_z_std"][row] / std)) < error + 0.01
    levels = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
    reached = np.interp(np.interp(levels, QUANTILE_LEVELS, result.columns["pae_z_quantiles"][row]), z, cdf)
    # between the stored levels the quantile is interpolated, which at a gap between two modes is off by up to a level
    slack = 0.02 if row in TWO_MODED else 0.005
    assert np.all(np.abs(reached - levels) < error * np.sqrt(levels * (1.0 - levels)) + 1.0 / ess + slack)


@pytest.fixture(scope="module")
def with_errors():
    """The same sources by a model that knows its errors, which are larger towards the red."""
    nodes = np.geomspace(0.2, 6.0, 40)
    term = model_error(nodes, eps_of(np.log(nodes)), np.exp(LOG_WAVE.astype(np.float64)))
    given = Sources(FLUX, FLUX_ERR, IDS, 4)
    return run_importance(
        posterior(model_error=term), untrained(), given, CONFIG, TRUST, n_kept=N_KEPT, progress=SILENT
    )


def eps_of(log_rest):
    return np.interp(log_rest, [-1.0, 1.0], [0.02, 0.1])


@pytest.mark.parametrize("row", [1, 2, 3, *TWO_MODED])
def test_with_the_models_own_errors_it_is_the_integrated_one_too(result, with_errors, row):
    _, _, mean, std = integrated(FLUX[row], FLUX_ERR[row], eps_of)
    ess = with_errors.ess[row]
    assert with_errors.trusted[row] and ess > 300.0
    error = 4.0 * np.sqrt(1.5 / ess)
    assert abs(with_errors.columns["pae_z_mean"][row] - mean) < (error + 0.01) * std
    assert abs(np.log(with_errors.columns["pae_z_std"][row] / std)) < error + 0.01
    if row == 3:  # at a signal-to-noise of 200 the errors are mostly the model's
        assert std > 2.0 * result.columns["pae_z_std"][row]


@pytest.mark.parametrize("row", [0, 1, 4])
def test_the_evidence_is_the_mean_likelihood_of_prior_draws(result, row):
    rng, n = np.random.default_rng(row), 100_000
    u, z = rng.normal(size=(n, 2)), posterior().z_prior.sample(n, rng)
    used = np.isfinite(FLUX_ERR[row])
    s = (FLUX[row] / FLUX_ERR[row])[used].astype(np.float64)
    m = numpy_model(u, z)[:, used] / FLUX_ERR[row][used]
    best = np.maximum(m @ s / np.sum(m * m, axis=1), 0.0)
    log_like = -0.5 * np.sum((s - best[:, None] * m) ** 2, axis=1)
    weight = np.exp(log_like - log_like.max())
    expected = log_like.max() + np.log(weight.mean())
    # relative errors of both means; that of the weighted draws by their effective number
    error = np.sqrt(weight.var() / weight.mean() ** 2 / n + 1.5 / result.ess[row])
    assert error < 0.2
    assert abs(result.log_evidence[row] - expected) < 4.0 * error


@pytest.mark.parametrize("row", TWO_MODED)
def test_both_modes_are_found_with_their_mass(result, row):
    """The line is the first at z = 1.1, or the second at z = 0.27; prior and Jacobian make the masses unequal."""
    z, cdf, _, _ = integrated_row(row)
    other = np.exp(np.log1p(1.1) - (LINES[1] - LINES[0])) - 1.0
    gap = 0.5 * (1.1 + other)
    below = np.interp(gap, z, cdf)
    assert 0.05 < below < 0.95
    # next to nothing lies between them
    assert np.interp(gap + 0.1, z, cdf) - np.interp(gap - 0.1, z, cdf) < 0.02
    found = np.mean(result.draws.z[row] < gap)
    # Monte Carlo of the weighted draws, and the rounding of systematic resampling to 1/n_kept
    tolerance = 4.0 * np.sqrt(1.5 * below * (1.0 - below) / result.ess[row]) + 2.0 / N_KEPT
    assert found == pytest.approx(below, abs=tolerance)
    assert result.columns["multimodal"][row]
    for mode in (1.1, other):
        assert np.min(np.abs(result.draws.z[row] - mode)) < 0.1


def test_sharp_and_faint_sources_took_different_ways(result):
    """What the other tests speak of happens: some are lost to the proposal, some need one round, some several."""
    assert set(result.path) <= set(PATHS)
    rounds = (result.n_draws - CONFIG.n_proposal) // CONFIG.n_adapted
    assert np.array_equal(result.path == "adapted", rounds > 0)
    assert np.array_equal(result.n_draws, CONFIG.n_proposal + rounds * CONFIG.n_adapted)
    assert rounds.max() >= 2 and len(set(rounds)) >= 2
    bare = run(cfg=CONFIG.model_copy(update={"n_rounds": 0}))
    lost = bare.ess < CONFIG.climb_below_ess
    assert lost.any() and not lost.all()


def test_trust_is_what_ess_and_khat_say_and_pools_are_what_it_was_judged_by():
    bare = run(cfg=CONFIG.model_copy(update={"n_rounds": 0}))
    assert np.array_equal(bare.trusted, (bare.khat < TRUST.khat_max) & (bare.ess >= TRUST.ess_min))
    assert not bare.trusted.all()
    assert set(bare.pools) == set(np.flatnonzero(~bare.trusted))
    assert np.all(bare.path == "proposal") and np.all(bare.n_draws == CONFIG.n_proposal)
    for row, pool in bare.pools.items():
        assert pool.v.shape == (CONFIG.n_proposal, 3)
        smoothed, khat = pareto_smooth(pool.log_weight[None])
        assert khat[0] == bare.khat[row]
        assert effective_draws(smoothed)[0] == pytest.approx(bare.ess[row], rel=1e-12)
    every = run(keep_pools=True)
    assert set(every.pools) == set(range(len(SOURCES)))
    for row, pool in every.pools.items():
        assert len(pool.v) == len(pool.log_target) == len(pool.log_weight) == every.n_draws[row]
        smoothed, khat = pareto_smooth(pool.log_weight[None])
        assert khat[0] == every.khat[row]
        # the density of a pool's draws is the posterior's, in the sampler's coordinates
        at = np.argsort(pool.log_weight)[::-1][:50]
        again = [float(free_log_prob(pool.v[i], FLUX[row], FLUX_ERR[row])) for i in at[:3]]
        chi2 = -2.0 * pool.log_target[at[:3]]
        assert again == pytest.approx(pool.log_target[at[:3]], abs=1e-4 * (100.0 + np.abs(chi2).max()))


@jax.jit
def free_log_prob(v, flux, flux_err):
    from paeplatform.inference.model.posterior import whiten

    return posterior().free_log_prob(v, whiten(flux, flux_err))


def test_kept_draws_stand_for_the_weighted_ones(result):
    z = result.draws.z.astype(np.float64)
    assert z.shape == (len(SOURCES), N_KEPT) and result.draws.u.shape == (len(SOURCES), N_KEPT, 2)
    assert np.all((z >= Z_MIN * (1 - 1e-6)) & (z <= Z_MAX * (1 + 1e-6)))
    assert result.draws.weight == pytest.approx(1.0 / N_KEPT)
    std = result.columns["pae_z_std"]
    # systematic resampling of unordered draws scatters no more than plain sampling of n_kept would
    assert np.all(np.abs(z.mean(axis=1) - result.columns["pae_z_mean"]) < 4.0 * std / np.sqrt(N_KEPT))
    for level in (0.2, 0.5, 0.8):
        bound = np.array([np.interp(level, QUANTILE_LEVELS, q) for q in result.columns["pae_z_quantiles"]])
        share = (z < bound[:, None]).mean(axis=1)
        assert np.all(np.abs(share - level) < 4.0 * np.sqrt(level * (1 - level) / N_KEPT) + 0.02)
    # and carry the density of the posterior over (u, ln z)
    log_prob = jax.jit(jax.vmap(posterior().log_prob, in_axes=(0, None, None)))
    for row in range(len(SOURCES)):
        x = np.column_stack([result.draws.u[row, :20], np.log(result.draws.z[row, :20])])
        expected = np.asarray(log_prob(jnp.asarray(x), FLUX[row], FLUX_ERR[row]))
        slope = (
            2e-6 * 200.0**2
        )  # a redshift rounded by 1e-7 moves the residuals of a source of SNR 200 by 2e-5 each
        assert result.draws.log_prob[row, :20] == pytest.approx(expected, abs=slope)


def as_catalogue(found, rows=slice(None)):
    """What is written of each source, in the catalogue's precision."""
    named = {name: values[rows] for name, values in found.columns.items()}
    named = {n: v if v.dtype == bool else v.astype(np.float32) for n, v in named.items()}
    draws = {name: getattr(found.draws, name)[rows] for name in ("u", "z", "weight", "log_prob")}
    judged = {name: getattr(found, name)[rows] for name in ("ess", "khat", "n_draws", "path", "trusted")}
    return named | draws | judged


def assert_same(one, two):
    assert one.keys() == two.keys()
    for name in one:
        equal = np.array_equal(one[name], two[name], equal_nan=one[name].dtype.kind == "f")
        assert equal, name


def test_result_does_not_depend_on_batch_mates_or_order(result):
    """Bitwise: some of the sources in another order, one alone (its batch is padded with itself), and all again."""
    for order in ([6, 0, 3, 5], [3], list(range(7))):
        assert_same(as_catalogue(run(order)), as_catalogue(result, order))
    other = run([3], seed=5)
    assert not np.array_equal(other.draws.z[0], result.draws.z[3])
    renamed = run([3], ids=IDS + 1)
    assert not np.array_equal(renamed.draws.z[0], result.draws.z[3])


def test_groups_are_not_seen_in_the_result(result, monkeypatch):
    monkeypatch.setattr(importance, "GROUP", 3)
    ticks = []
    grouped = run(keep_pools=True, progress=Progress(False, ticks.append))
    assert_same(as_catalogue(grouped), as_catalogue(result))
    assert set(grouped.pools) == set(range(7))
    assert [len(grouped.pools[row].v) for row in range(7)] == grouped.n_draws.tolist()
    assert sum(ticks) == pytest.approx(7.0)


def test_sources_without_data_or_with_absurd_ones_fail_alone(result):
    flux, flux_err = FLUX.copy(), FLUX_ERR.copy()
    flux_err[1], flux[2] = np.inf, 1e30
    found = run(flux=flux, flux_err=flux_err)
    assert found.path[1] == "none" and found.n_draws[1] == 0 and not found.trusted[1] and found.ess[1] == 0.0
    assert 1 not in found.pools
    for values in found.columns.values():
        assert np.isnan(values[1]).all() if values.dtype != bool else not values[1]
    assert np.isnan(found.draws.z[1]).all() and np.isnan(found.draws.u[1]).all()
    assert not found.trusted[2]
    rest = [0, 3, 4, 5, 6]
    assert_same(as_catalogue(found, rest), as_catalogue(result, rest))


def test_all_masked_and_no_sources_are_legal_inputs():
    found = run(slice(0, 2), flux_err=np.full_like(FLUX_ERR, np.inf))
    assert list(found.path) == ["none", "none"] and np.isnan(found.columns["pae_z_mean"]).all()
    nothing = run(slice(0, 0))
    assert nothing.draws.z.shape == (0, N_KEPT) and nothing.ess.shape == (0,) and nothing.pools == {}


def test_without_a_prior_on_u_it_is_refused():
    with pytest.raises(ValueError, match="NF prior"):
        run_importance(posterior(nf_prior=False), untrained(), Sources(FLUX, FLUX_ERR, IDS, 0), CONFIG, TRUST)


@pytest.mark.slow
def test_several_devices_give_the_numbers_of_one(result, tmp_path, project_root):
    assert jax.device_count() == 1
    files = [str(tmp_path / name) for name in ("given.npz", "found.npz")]
    np.savez(files[0], flux=FLUX, flux_err=FLUX_ERR, object_id=IDS)
    subprocess.run(
        [sys.executable, "-m", "tests.inference.line_problem", *files, "4"],
        check=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(project_root)},
        cwd=project_root,
        timeout=300,
    )
    found = np.load(files[1])
    assert np.array_equal(found["path"], result.path)
    assert found["ess"] == pytest.approx(result.ess, rel=1e-4)
    assert found["khat"] == pytest.approx(result.khat, abs=1e-4)
    assert found["z"] == pytest.approx(result.draws.z, rel=1e-5)
    for name in ("pae_z_mean", "pae_z_std", "pae_z_quantiles"):
        assert found[name] == pytest.approx(result.columns[name], rel=1e-5)
