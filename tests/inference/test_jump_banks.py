"""Banks of draws for jumps: whatever they were drawn from, their weights give the integrated posterior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from paeplatform.inference.batches.progress import SILENT
from paeplatform.inference.batches.runtime import source_mesh
from paeplatform.inference.importance.sampling import run_importance
from paeplatform.inference.mclmc.jump_banks import N_DRAW, jump_bank
from paeplatform.inference.model.draws import Found
from paeplatform.inference.model.posterior import whiten
from paeplatform.inference.sources import Sources
from tests.inference.line_problem import CONFIG, TRUST, integrated, posterior, source, untrained

SOURCES = [source(0, 5.0, 0.5), source(2, 40.0, 0.9), source(5, 25.0, 1.1, window=(0.58, 1.12))]
FLUX, FLUX_ERR = (np.stack(part) for part in zip(*SOURCES, strict=True))
IDS = np.array([5, -1, 2**40])


def bank(proposal, rows=slice(None), seed=4):
    photometry = jax.tree.map(np.asarray, whiten(jnp.asarray(FLUX[rows]), jnp.asarray(FLUX_ERR[rows])))
    chosen = [pools()[row] for row in np.arange(len(FLUX))[rows]]
    sources = Sources(FLUX, FLUX_ERR, IDS, seed).rows(rows)
    return jump_bank(posterior(), photometry, Found(chosen, proposal), sources, source_mesh())


_POOLS = []


def pools():
    if not _POOLS:
        found = run_importance(
            posterior(),
            untrained(),
            Sources(FLUX, FLUX_ERR, IDS, 4),
            CONFIG,
            TRUST,
            keep_pools=True,
            progress=SILENT,
        )
        _POOLS.extend(found.pools[row] for row in range(len(FLUX)))
    return _POOLS


@pytest.mark.parametrize(("proposal", "rows"), [(untrained(), range(len(SOURCES))), (None, [1])])
def test_weighted_draws_are_the_posterior(proposal, rows):
    """With draws of the proposal those of a faint source too, whose tail a mixture does not reach."""
    made = bank(proposal)
    assert made.v.shape == (len(FLUX), N_DRAW, 3) and made.v.dtype == np.float32
    z = np.exp(np.asarray(posterior().log_z_of(jnp.asarray(made.v[..., -1]))))
    for row in rows:
        _, _, mean, std = integrated(FLUX[row], FLUX_ERR[row])
        weight = np.exp(made.log_weight[row] - made.log_weight[row].max())
        weight /= weight.sum()
        effective = 1.0 / np.sum(weight**2)
        assert effective > 200.0
        error = (
            4.0 * np.sqrt(1.5 / effective) + 0.01
        )  # as in test_importance: Monte Carlo and the grid's own error
        found = weight @ z[row]
        assert abs(found - mean) < error * std
        assert abs(np.log(np.sqrt(weight @ (z[row] - found) ** 2) / std)) < error


def test_a_jump_s_handful_comes_from_both_and_is_weighted_as_chains_are():
    """The density that chains are weighted with is that of the bank's own weights; draws are in random order."""
    made = bank(untrained())
    some = made.v[:, :64]
    log_q = made.log_density(source_mesh(), some)
    each = [made.photometry.rows(i) for i in range(len(FLUX))]
    target = [
        [posterior().free_log_prob(jnp.asarray(v), each[i]) for v in some[i, :8]] for i in range(len(FLUX))
    ]
    # the flow's density is rounded in float32 on its way there and back
    assert np.allclose(np.asarray(target) - log_q[:, :8], made.log_weight[:, :8], atol=2e-2)
    of_mixture, of_proposal = made.log_densities(source_mesh(), some)
    assert np.allclose(log_q, np.logaddexp(of_mixture, of_proposal) - np.log(2.0), atol=1e-5)
    from_elsewhere = log_q - of_mixture > 1.0  # places that only the proposal reaches
    halves = from_elsewhere[:, :32].mean(), from_elsewhere[:, 32:].mean()
    assert min(halves) > 0.2 and max(halves) < 0.8


def test_a_bank_depends_on_its_source_and_seed_alone():
    whole, one = bank(untrained()), bank(untrained(), slice(1, 2))
    assert np.array_equal(whole.v[1], one.v[0])
    assert np.allclose(whole.log_weight[1], one.log_weight[0], atol=1e-4)
    assert not np.array_equal(bank(untrained(), slice(1, 2), seed=5).v, one.v)
