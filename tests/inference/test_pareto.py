"""Pareto smoothing against arviz, known tails, and the sources that have none."""

import arviz
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import genpareto

from paeplatform.inference.results.pareto import effective_draws, pareto_smooth, tail_size


def log_weights(kind, n_draw, rng):
    return {
        "light": lambda: np.log(rng.uniform(size=n_draw)),
        "normal": lambda: rng.normal(size=n_draw),
        "heavy": lambda: 6.0 * rng.standard_t(3, size=n_draw) - 1e4,
        "spread": lambda: 40.0 * rng.normal(size=n_draw) + 500.0,
        "alike": lambda: 1e-6 * rng.normal(size=n_draw),
        "rounded": lambda: np.round(2.0 * rng.normal(size=n_draw), 1),
    }[kind]()


@settings(max_examples=60)
@given(
    kinds=st.lists(
        st.sampled_from(["light", "normal", "heavy", "spread", "alike", "rounded"]), min_size=1, max_size=6
    ),
    n_draw=st.sampled_from([21, 60, 225, 250, 1000, 4001]),
    seed=st.integers(0, 10**6),
)
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning:arviz")
def test_agrees_with_arviz(kinds, n_draw, seed):
    rng = np.random.default_rng(seed)
    raw = np.stack([log_weights(kind, n_draw, rng) for kind in kinds])
    smooth, khat = pareto_smooth(raw)
    expected, expected_khat = arviz.psislw(raw.copy())
    # ties may take each other's place in the tail: the sorted weights are the same
    assert np.sort(smooth, axis=1) == pytest.approx(np.sort(expected, axis=1), abs=1e-6)
    assert khat == pytest.approx(np.asarray(expected_khat), abs=1e-6)
    assert np.exp(smooth).sum(axis=1) == pytest.approx(1.0)


def test_most_of_a_batch_agrees_draw_by_draw():
    raw = np.random.default_rng(1).normal(size=(5, 1000)) * np.array([[0.3], [1.0], [2.0], [4.0], [9.0]])
    smooth, _ = pareto_smooth(raw)
    assert smooth == pytest.approx(arviz.psislw(raw.copy())[0], abs=1e-6)


@pytest.mark.parametrize("k", [-0.3, 0.2, 0.5, 0.9])
def test_shape_of_a_known_tail_is_found(k):
    """Weights drawn from a generalised Pareto distribution keep its shape above every threshold."""
    weights = genpareto.rvs(k, size=(50, 4000), random_state=3)
    _, khat = pareto_smooth(np.log(weights + 1.0))
    # one fit to 190 tail draws scatters by (1 + k)/sqrt(190) < 0.14; 50 averaged, the prior pulls by 10 of 200
    assert khat.mean() == pytest.approx(k + (0.5 - k) * 10 / 200, abs=4 * 0.14 / np.sqrt(50))


def test_smoothing_brings_a_heavy_tailed_mean_closer_to_the_truth():
    """Target N(0, 1.5^2) from a proposal N(0, 1): the ratio has an infinite variance."""
    x = np.random.default_rng(4).normal(size=(400, 500))
    log_ratio = -0.5 * x**2 / 2.25 + 0.5 * x**2
    smooth, _ = pareto_smooth(log_ratio)
    plain = np.exp(log_ratio) / np.exp(log_ratio).sum(axis=1, keepdims=True)
    error = {name: (w * x).sum(axis=1).std() for name, w in (("plain", plain), ("smooth", np.exp(smooth)))}
    assert error["smooth"] < error["plain"]


def test_excluded_draws_keep_weight_zero_and_the_others_theirs():
    raw = np.random.default_rng(2).normal(size=(2, 800))
    raw[:, ::2] = -np.inf
    raw[1, 0] = np.nan
    smooth, khat = pareto_smooth(raw)
    assert np.all(np.isneginf(smooth[:, ::2])) and np.isfinite(smooth[:, 1::2]).all()
    assert np.isfinite(khat).all()
    assert np.exp(smooth).sum(axis=1) == pytest.approx(1.0)
    assert np.all(effective_draws(raw[:1]) < 400)


def test_hopeless_sources_are_marked_and_nothing_is_nan():
    raw = np.random.default_rng(2).normal(size=(5, 100))
    raw[0] = -np.inf
    raw[1] = np.nan
    raw[2, 4:] = -np.inf  # four draws carry all
    raw[3, 7] = np.inf
    smooth, khat = pareto_smooth(raw)
    assert khat[:4].tolist() == [np.inf] * 4 and np.isfinite(khat[4])
    assert np.all(np.isneginf(smooth[:2])) and not np.isnan(smooth).any()
    assert np.exp(smooth[2:]).sum(axis=1) == pytest.approx(1.0)
    assert effective_draws(smooth)[:2].tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="source, draw"):
        pareto_smooth(np.zeros(5))


def test_equal_weights_have_no_tail():
    smooth, khat = pareto_smooth(np.full((1, 64), -3.0))
    assert khat.tolist() == [0.0]
    assert smooth == pytest.approx(-np.log(64.0))
    assert effective_draws(smooth)[0] == pytest.approx(64.0)
    # three draws of 64 far above the others are another matter
    assert pareto_smooth(np.where(np.arange(64) < 3, 9.0, -3.0)[None])[1].tolist() == [np.inf]


def test_a_source_does_not_depend_on_its_company():
    rng = np.random.default_rng(5)
    raw = np.stack([log_weights(kind, 500, rng) for kind in ("normal", "rounded", "heavy", "spread")])
    raw[1, 20:] = -np.inf  # a short tail
    together = pareto_smooth(raw)
    for i in range(len(raw)):
        alone = pareto_smooth(raw[i : i + 1])
        assert np.array_equal(alone[0][0], together[0][i]) and alone[1][0] == together[1][i]


@settings(max_examples=30)
@given(shift=st.floats(-1e5, 1e5), seed=st.integers(0, 1000))
def test_a_constant_and_the_order_of_draws_do_not_matter(shift, seed):
    rng = np.random.default_rng(seed)
    raw = 2.0 * rng.normal(size=(1, 300))
    order = rng.permutation(300)
    smooth, khat = pareto_smooth(raw)
    again, khat_again = pareto_smooth(raw[:, order] + shift)
    assert again == pytest.approx(smooth[:, order], abs=1e-8)
    assert khat_again == pytest.approx(khat, abs=1e-8)


def test_effective_draws_and_tail_size_by_hand():
    assert effective_draws(np.log([[1.0, 1.0, 2.0]])) == pytest.approx(16.0 / 6.0)
    assert effective_draws(np.array([[0.0, -np.inf], [-2000.0, -2000.0]])).tolist() == [1.0, 2.0]
    assert [tail_size(n) for n in (100, 225, 16000)] == [20, 45, 380]
