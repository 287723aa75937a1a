"""The peaks of a p(z): mixtures whose shares and medians are known, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from paeplatform.errors import InputError
from paeplatform.inference.results.solutions import LEAST_WEIGHT, boundaries, pz_curve, solutions

FEW = settings(max_examples=60)


def gaussian(n: int, centre: float, width: float) -> np.ndarray:
    """n draws at the middles of n equal slices of probability, so that shares and medians are exact."""
    return norm.ppf((np.arange(n) + 0.5) / n, centre, width)


@st.composite
def mixtures(draw: st.DrawFn) -> np.ndarray:
    """Draws of one to four Gaussians anywhere, some of them on top of each other, in some order."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    parts = [
        rng.normal(rng.uniform(0.1, 3.0), 10.0 ** rng.uniform(-3.5, -0.7), rng.integers(1, 400))
        for _ in range(draw(st.integers(1, 4)))
    ]
    return np.abs(rng.permutation(np.concatenate(parts)))


def test_a_mixture_has_the_shares_and_medians_of_its_parts() -> None:
    z = np.concatenate([gaussian(150, 2.1, 0.02), gaussian(300, 0.5, 0.01), gaussian(50, 1.2, 0.05)])
    found = solutions(z)
    assert [one.weight for one in found] == pytest.approx([0.6, 0.3, 0.1], abs=1e-12)
    assert [one.z for one in found] == pytest.approx([0.5, 2.1, 1.2], abs=1e-9)
    for one, sigma in zip(found, (0.01, 0.02, 0.05), strict=True):
        assert [one.z - one.low, one.high - one.z] == pytest.approx([sigma, sigma], rel=0.03)
    between = boundaries(z)
    assert len(between) == 2 and 0.55 < between[0] < 1.05 and 1.4 < between[1] < 2.0


def test_weights_are_shares_of_the_probability() -> None:
    """Two thirds of the draws carry a fifth of the weight."""
    z = np.concatenate([gaussian(200, 0.5, 0.01), gaussian(400, 1.5, 0.01)])
    weight = np.concatenate([np.full(200, 4.0 / 200), np.full(400, 1.0 / 400)])
    found = solutions(z, 7e-30 * weight)
    assert [(round(one.z, 6), round(one.weight, 9)) for one in found] == [(0.5, 0.8), (1.5, 0.2)]


def test_a_close_pair_is_told_apart_beside_a_distant_peak() -> None:
    z = np.concatenate([gaussian(200, 0.50, 5e-4), gaussian(150, 0.505, 5e-4), gaussian(150, 2.8, 0.02)])
    assert [round(one.z, 4) for one in solutions(z)] == [0.5, 0.505, 2.8]


def test_a_narrow_peak_on_a_broad_one_and_a_skewed_tail_are_one_solution() -> None:
    both = np.concatenate([gaussian(300, 0.8, 0.01), gaussian(200, 0.8, 0.15)])
    assert len(solutions(both)) == 1
    levels = (np.arange(500) + 0.5) / 500
    assert len(solutions(-0.2 * np.log1p(-levels))) == 1


@pytest.mark.parametrize(("n_far", "n_found"), [(4, 1), (5, 2), (40, 2)])
def test_less_than_one_per_cent_joins_the_nearest(n_far: int, n_found: int) -> None:
    z = np.concatenate([gaussian(500 - n_far, 0.5, 0.01), gaussian(n_far, 2.0, 0.01)])
    found = solutions(z)
    assert len(found) == n_found and sum(one.weight for one in found) == pytest.approx(1.0)
    if n_found == 2:
        assert found[1].weight == pytest.approx(n_far / 500) and found[1].z == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize(("place", "shares"), [(0.9, [0.598, 0.402]), (1.6, [0.594, 0.406])])
def test_a_stray_in_a_valley_joins_the_peak_nearer_to_it(place: float, shares: list[float]) -> None:
    z = np.concatenate([gaussian(297, 0.5, 0.01), gaussian(201, 2.0, 0.01), [place, place + 1e-3]])
    assert [one.weight for one in solutions(z)] == pytest.approx(shares, abs=1e-9)


@FEW
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([20, 100, 500, 2000]), st.floats(0.05, 2.9), st.floats(-4, -1)
)
def test_one_gaussian_is_one_solution(seed: int, n: int, centre: float, log_width: float) -> None:
    sigma = (1.0 + centre) * 10.0**log_width * 0.3
    z = centre + sigma * np.random.default_rng(seed).standard_normal(n)
    (found,) = solutions(z)
    assert found.weight == pytest.approx(1.0)
    assert found.z == pytest.approx(np.median(z), abs=1e-9) and found.low < found.z < found.high


@FEW
@given(mixtures())
def test_every_draw_is_in_exactly_one_solution(z: np.ndarray) -> None:
    found, between = solutions(z, n=len(z)), boundaries(z)
    assert sum(one.weight for one in found) == pytest.approx(1.0)
    assert len(found) == len(between) + 1 and (np.diff(between) > 0.0).all()
    part = np.searchsorted(between, z)
    assert sorted(one.weight for one in found) == pytest.approx(
        sorted(np.bincount(part, minlength=len(found)) / len(z))
    )
    assert not np.isin(z, between).any()
    assert all(one.weight >= LEAST_WEIGHT - 1e-9 for one in found)
    assert [one.weight for one in found] == sorted((one.weight for one in found), reverse=True)
    for one in found:
        inside = z[part == np.searchsorted(between, one.z)]
        assert inside.min() <= one.low <= one.z <= one.high <= inside.max()


@FEW
@given(mixtures(), st.integers(0, 2**32 - 1))
def test_order_and_copies_change_nothing(z: np.ndarray, seed: int) -> None:
    found = solutions(z, n=99)
    mixed = np.random.default_rng(seed).permutation(z)
    assert solutions(mixed, n=99) == found
    assert solutions(np.concatenate([z, mixed]), n=99) == found
    assert solutions(z, np.full(len(z), 8.0), n=99) == found
    assert solutions(np.append(z, 9.0), np.append(np.ones(len(z)), 0.0), n=99) == found


@FEW
@given(mixtures())
def test_fewer_are_the_first_of_all(z: np.ndarray) -> None:
    assert solutions(z, n=2) == solutions(z, n=99)[:2]


@FEW
@given(mixtures())
def test_the_curve_is_a_density(z: np.ndarray) -> None:
    place, density = pz_curve(z, n_points=400)
    assert (np.diff(place) > 0.0).all() and (density >= 0.0).all()
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * np.diff(place) * (density[1:] + density[:-1]))])
    assert cumulative[-1] == pytest.approx(1.0, abs=0.01)


def test_narrow_peaks_far_apart_leave_nothing_between_them() -> None:
    z = np.concatenate(
        [1.1283 + 5e-4 * np.linspace(-1, 1, 20) ** 3, 2.4285 + 5e-4 * np.linspace(-1, 1, 40) ** 3, [0.767]]
    )
    place, density = pz_curve(z, n_points=400)
    assert np.trapezoid(density, place) == pytest.approx(1.0, abs=0.002)


def test_the_curve_has_the_shares_of_separate_solutions() -> None:
    z = np.concatenate([gaussian(150, 2.1, 0.02), gaussian(300, 0.5, 0.001), gaussian(50, 1.2, 0.05)])
    place, density = pz_curve(z)
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * np.diff(place) * (density[1:] + density[:-1]))])
    assert np.interp(boundaries(z), place, cumulative) == pytest.approx([0.6, 0.7], abs=0.005)


def test_the_curve_of_a_gaussian_is_that_gaussian_a_little_wider() -> None:
    place, density = pz_curve(gaussian(2000, 0.5, 0.01))
    width = 0.01 * np.sqrt(1.0 + (0.9 * 2000**-0.2) ** 2)
    assert density.max() == pytest.approx(norm.pdf(0.0, 0.0, width), rel=0.01)
    assert place[density.argmax()] == pytest.approx(0.5, abs=0.001)


def test_no_draws_have_no_solution_and_one_draw_is_one() -> None:
    assert solutions([]) == [] and len(boundaries([])) == 0 and len(pz_curve([])[0]) == 0
    (only,) = solutions(np.full(500, 0.7))
    assert (only.z, only.low, only.high, only.weight) == pytest.approx((0.7, 0.7, 0.7, 1.0))
    place, density = pz_curve(np.full(500, 0.7))
    assert place[density.argmax()] == pytest.approx(0.7, abs=1e-4) and np.isfinite(density).all()
    assert len(solutions(np.repeat([0.5, 1.5], 250))) == 1, "two draws, however often they stand there"


@pytest.mark.parametrize(
    ("given_", "named"),
    [
        (([0.5, np.nan],), "finite and above -1"),
        (([0.5, -1.0],), "finite and above -1"),
        (([0.5, 0.6], [1.0]), "same length"),
        (([0.5, 0.6], [1.0, -1.0]), "not negative"),
        (([0.5, 0.6], [0.0, 0.0]), "not zero throughout"),
        (([0.5], None, 0), "at least 1"),
        (([[0.5]],), "lists"),
    ],
)
def test_what_is_no_p_of_z_is_refused(given_: tuple, named: str) -> None:
    with pytest.raises(InputError, match=named):
        solutions(*given_)
