"""When a posterior lacks a hill, on Gaussian targets whose integral and height are known in closed form."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from paeplatform.inference.importance.round_mixtures import RoundMixtures
from paeplatform.inference.importance.second_search import FoundDraws, Hills, lacks
from paeplatform.inference.modes.mixture import StudentMixture

DIM, N = 4, 4000
LOG_2PI = np.log(2.0 * np.pi)
FISHER = np.diag([3.0, 8.0, 0.5, 99.0])
COVARIANCE = np.linalg.inv(FISHER + np.eye(DIM))


def hill(place, log_mass):
    """A Gaussian hill of this integral (ln), as Laplace's estimate describes it: `starts.laplace_evidence`."""
    position = np.full((1, DIM), 0.3)
    position[0, -1] = place
    return Hills(position, FISHER[None], np.array([log_mass - 0.5 * LOG_2PI]))


def draws(place=0.0, log_mass=0.0, seed=0):
    """Of the normal that a hill at `place` is, each drawn from the target itself."""
    mean = np.full(DIM, 0.3)
    mean[-1] = place
    v = np.random.default_rng(seed).multivariate_normal(mean, COVARIANCE, size=N)
    log_target = log_mass + multivariate_normal(mean, COVARIANCE).logpdf(v)
    return FoundDraws(v[:, -1], log_target, np.full(N, log_mass))


@pytest.mark.parametrize("log_mass", [-700.0, 0.0, 40.0])
def test_the_hill_that_the_draws_are_on_is_not_lacking(log_mass):
    assert not lacks(draws(log_mass=log_mass), hill(0.0, log_mass))


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, True), (0.2, True), (0.06, True), (0.04, False), (1e-6, False)]
)
def test_a_hill_elsewhere_is_lacking_if_it_holds_enough(share, expected):
    """Of both together it would hold `share`; the tops of equal Gaussians differ by as much as their masses."""
    assert lacks(draws(), hill(3.0, np.log(share / (1.0 - share)))) is expected


def test_a_hill_that_the_draws_have_too_is_not_lacking():
    one, two = draws(), draws(3.0, seed=1)
    both = FoundDraws(*(np.concatenate(pair) for pair in zip(one, two, strict=True)))
    both = both._replace(log_weight=np.full(2 * N, np.log(2.0)))  # of an even mixture, whose integral is 2
    assert not lacks(both, hill(3.0, 0.0))


def test_a_top_far_above_all_draws_is_lacking_at_the_same_redshift_too():
    narrow = Hills(np.full((1, DIM), 0.0), 1e8 * np.eye(DIM)[None], np.array([0.0]))
    # its share is small beside a mass of e^10, but its density is higher than that of any posterior with these draws
    assert lacks(draws(log_mass=10.0), narrow)
    assert not lacks(draws(log_mass=60.0), narrow)


def test_draws_without_any_weight_lack_every_hill():
    nothing = FoundDraws(np.zeros(5), np.full(5, -np.inf), np.full(5, -np.inf))
    assert lacks(nothing, hill(0.0, -50.0))
    assert not Hills(np.zeros((2, DIM)), np.zeros((2, DIM, DIM)), np.full(2, -np.inf)).any


def test_mixtures_of_rounds_are_found_again_by_row():
    def of(rows, n_component):
        rows = np.asarray(rows, float)
        mean = np.broadcast_to(rows[:, None, None], (len(rows), n_component, DIM))
        factor = np.broadcast_to(np.eye(DIM), (len(rows), n_component, DIM, DIM))
        return StudentMixture(mean, factor, np.full((len(rows), n_component), -np.log(n_component)))

    kept = RoundMixtures()
    kept.add(1, np.array([4, 1]), of([4, 1], 2))
    kept.add(1, np.array([3]), of([3], 5))  # with more components than the others
    kept.add(2, np.array([1]), of([1], 2))
    found = kept.of(1, np.array([3, 1, 1, 4]))
    assert found.mean[:, 0, 0].tolist() == [3.0, 1.0, 1.0, 4.0]
    assert np.exp(found.log_share).sum(axis=1) == pytest.approx(1.0)
    kept.forget(np.array([1, 3]))
    kept.add(1, np.array([1]), of([7], 2))
    assert kept.of(1, np.array([1, 4])).mean[:, 0, 0].tolist() == [7.0, 4.0]
