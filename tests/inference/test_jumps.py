"""Jumps leave their target invariant, and each chain meets every prior draw at most once."""

import numpy as np
import pytest

from paeplatform.config import MclmcConfig
from paeplatform.inference.mclmc.jumps import EVERY_DISCARDED, MIN_DRAWS, Jumps, jump_times


def test_jumps_alone_sample_a_known_target():
    """Prior N(0,1), likelihood of a datum 1.0 +- 0.5: posterior N(0.8, 0.2). Chains start far out and only jump."""
    rng = np.random.default_rng(0)
    n_jumps, n_draws, n_chain = 400, 10, 40
    bank = rng.normal(size=n_jumps * n_draws)

    def log_like(x):
        return -0.5 * ((x - 1.0) / 0.5) ** 2

    jumps = Jumps(log_like(bank)[None], n_jumps, n_chain, [rng])
    state = np.full((1, n_chain), -2.0)
    visits = []
    for j in range(n_jumps):
        target = jumps.choose(j, log_like(state))
        state = np.where(target >= 0, bank[target], state)
        visits.append(state.copy())
    draws = np.concatenate(visits[20:])
    # All chains share one bank of 4000 draws of effective size about 2000: 4 sigma of 0.45/sqrt(2000) = 0.04
    assert draws.mean() == pytest.approx(0.8, abs=0.045)
    assert draws.std() == pytest.approx(np.sqrt(0.2), abs=0.03)


def test_chains_that_sample_the_target_go_on_doing_so_however_small_the_pool():
    rng = np.random.default_rng(3)
    n_jumps, n = 5, 4000
    bank = rng.normal(size=(n, n_jumps * MIN_DRAWS))  # one bank a chain: all chains independent

    def log_like(x):
        return -0.5 * ((x - 1.0) / 0.5) ** 2

    state = 0.8 + np.sqrt(0.2) * rng.normal(size=(n, 1))
    jumps = Jumps(log_like(bank), n_jumps, 1, [np.random.default_rng(k) for k in range(n)])
    for j in range(n_jumps):
        target = jumps.choose(j, log_like(state))
        taken = (target >= 0).mean()
        assert 0.3 < taken < 0.95
        state = np.where(target >= 0, np.take_along_axis(bank, np.maximum(target, 0), axis=1), state)
    # 4 sigma of 4000 independent draws
    assert state.mean() == pytest.approx(0.8, abs=4 * np.sqrt(0.2 / n))
    assert state.std() == pytest.approx(np.sqrt(0.2), rel=4 / np.sqrt(2 * n))


def test_a_chain_meets_each_draw_once_and_chains_meet_different_ones():
    n_jumps, n_chain = 40, 4
    jumps = Jumps(np.zeros((1, n_jumps * 10)), n_jumps, n_chain, [np.random.default_rng(1)])
    seen = [set() for _ in range(n_chain)]
    for j in range(n_jumps):
        target = jumps.choose(j, np.full((1, n_chain), -np.inf))[0]  # a hopeless state always leaves
        assert np.all(target >= 0)
        blocks = target // 10
        assert len(set(blocks.tolist())) == n_chain
        for chain, block in enumerate(blocks.tolist()):
            assert block not in seen[chain]
            seen[chain].add(block)


def test_hopeless_draws_are_never_taken_and_small_banks_switch_off():
    log_weight = np.full((1, 80), -np.inf)
    jumps = Jumps(log_weight, 4, 2, [np.random.default_rng(1)])
    assert jumps.choose(0, np.zeros((1, 2))).tolist() == [[-1, -1]]
    assert jumps.choose(0, np.full((1, 2), np.nan)).tolist() == [[-1, -1]]
    assert not Jumps(log_weight, 80, 2, [np.random.default_rng(1)]).enabled


def test_jumps_are_frequent_where_draws_are_kept_and_never_after_the_last_step():
    times = jump_times(MclmcConfig(n_steps=120, n_discard=50, jump_every=4))
    assert times == [10, 20, 30, 40, *range(50, 120, 4)] and EVERY_DISCARDED == 10
    assert jump_times(MclmcConfig(n_steps=60, n_discard=5, jump_every=30)) == [5, 35]
