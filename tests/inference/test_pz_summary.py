"""Summaries of weighted draws and of densities on a grid, against NumPy, closed forms and replication."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from paeplatform.errors import InputError
from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS, redshift_columns, summarise_pz_grid

LIMITS = {"z_min": 0.003, "z_max": 3.0}
GRID = np.linspace(0.0, 3.0, 1501)


def of_draws(z, weight=None):
    return redshift_columns(
        np.atleast_2d(z), None if weight is None else np.atleast_2d(weight), prefix="x", **LIMITS
    )


def distances(one, other):
    """Largest difference of every column between two tables."""
    return {name: np.max(np.abs(one[name].astype(float) - other[name].astype(float))) for name in one}


@pytest.fixture(scope="module")
def draws():
    rng = np.random.default_rng(0)
    z = rng.gamma(4.0, 0.1, size=(70, 2001)) + 0.05  # more rows than one chunk
    z[::3, :700] = rng.normal(1.8, 0.02, size=z[::3, :700].shape)
    return z


@pytest.mark.parametrize("weight", [None, 1.0, 7e-30])
def test_equal_weights_are_numpys_statistics(draws, weight):
    columns = of_draws(draws, None if weight is None else np.full_like(draws, weight))
    assert columns["x_z_quantiles"] == pytest.approx(np.quantile(draws, QUANTILE_LEVELS, axis=1).T, abs=1e-11)
    assert columns["x_z_median"] == pytest.approx(np.median(draws, axis=1), abs=1e-11)
    assert columns["x_z_mean"] == pytest.approx(draws.mean(axis=1), abs=1e-12)
    assert columns["x_z_std"] == pytest.approx(draws.std(axis=1), abs=1e-12)
    for name, sigma in (("err68", 1.0), ("err95", 2.0)):
        for side, sign in (("low", -1.0), ("high", 1.0)):
            expected = np.quantile(draws, stats.norm.cdf(sign * sigma), axis=1)
            assert columns[f"x_z_{name}_{side}"] == pytest.approx(
                expected, abs=1e-5
            )  # levels of seven digits
    assert columns["multimodal"].tolist() == [row % 3 == 0 for row in range(70)]
    assert all(values.dtype == np.float64 for name, values in columns.items() if name.startswith("x_"))


def test_integer_weights_are_draws_repeated(draws):
    """Quantiles lie within the stated 1/n of the repeated draws' CDF; moments and edge agree exactly."""
    rng = np.random.default_rng(1)
    repeat = rng.poisson(2.0, size=draws.shape[1])
    columns = of_draws(draws, np.broadcast_to(repeat, draws.shape).astype(np.float32))
    many = np.repeat(draws, repeat, axis=1)
    assert columns["x_z_mean"] == pytest.approx(many.mean(axis=1), abs=1e-12)
    assert columns["x_z_std"] == pytest.approx(many.std(axis=1), abs=1e-12)
    n_eff = repeat.sum() ** 2 / (repeat**2).sum()
    for row, values in zip(many, columns["x_z_quantiles"], strict=True):
        ranked = np.sort(row)
        below = np.searchsorted(ranked, values - 1e-9) / len(row)
        upto = np.searchsorted(ranked, values + 1e-9) / len(row)
        # the window of the mean begins at q (1 - 1/n) and ends 1/n later
        assert np.all(upto >= QUANTILE_LEVELS * (1.0 - 1.0 / n_eff) - 1e-12)
        assert np.all(below <= QUANTILE_LEVELS * (1.0 - 1.0 / n_eff) + 1.0 / n_eff + 1e-12)


def test_weights_turn_one_gaussian_into_another():
    """Importance sampling by the definition: draws of N(0.8, 0.1), weighted to N(0.85, 0.05)."""
    n = 20_000
    z = stats.norm(0.8, 0.1).ppf((np.arange(n) + 0.5) / n)  # even strata: no Monte Carlo noise
    columns = of_draws(z, stats.norm(0.85, 0.05).pdf(z) / stats.norm(0.8, 0.1).pdf(z))
    assert columns["x_z_mean"][0] == pytest.approx(0.85, abs=1e-4)
    assert columns["x_z_std"][0] == pytest.approx(0.05, abs=1e-4)
    assert columns["x_z_quantiles"][0] == pytest.approx(stats.norm(0.85, 0.05).ppf(QUANTILE_LEVELS), abs=3e-4)
    assert columns["x_z_mode"][0] == pytest.approx(0.85, abs=0.005)
    assert not columns["multimodal"][0] and not columns["at_edge"][0]


def peaks_of_one_row(z, weight):
    """The mode's definition written out for one source, with np.histogram and np.quantile of repeated draws."""
    many = np.repeat(z, weight)
    n_eff = weight.sum() ** 2 / (weight**2).sum()
    scale = min(many.std(), np.subtract(*np.quantile(many, [0.75, 0.25])) / 1.34)
    width = 0.45 * scale * (n_eff / 10.0) ** -0.2
    edges = np.linspace(many.min() - 4.0 * width, many.max() + 4.0 * width, 1025)
    density = gaussian_filter1d(np.histogram(many, edges)[0].astype(float), width / (edges[1] - edges[0]))
    centre = 0.5 * (edges[1:] + edges[:-1])
    found, info = find_peaks(density, prominence=0.0)
    tall = found[info["prominences"] > 0.5 * density[found]]
    borders = [-np.inf, *(edges[a + density[a:b].argmin()] for a, b in pairwise(tall)), np.inf]
    heavy = [np.mean((many >= low) & (many < high)) > 0.05 for low, high in pairwise(borders)]
    return centre[density.argmax()], sum(heavy)


def test_mode_and_peaks_are_those_of_the_definition(draws):
    weight = np.random.default_rng(2).integers(1, 4, size=draws.shape)
    columns = of_draws(draws, weight.astype(float))
    expected = [peaks_of_one_row(z, w) for z, w in zip(draws, weight, strict=True)]
    spans = draws.max(axis=1) - draws.min(axis=1)
    off = np.abs(columns["x_z_mode"] - [mode for mode, _ in expected]) / spans
    # quartiles differ by up to 1/n, hence widths too; a flat top can move the mode by some cells
    assert np.quantile(off, 0.9) < 1e-3 and off.max() < 0.02
    assert columns["multimodal"].tolist() == [several > 1 for _, several in expected]


def test_a_few_light_draws_far_away_do_not_blur_the_mode():
    rng = np.random.default_rng(3)
    z = np.concatenate([rng.normal(0.5, 1e-3, 5000), [2.9, 3.0]])
    weight = np.concatenate([np.ones(5000), [1e-3, 1e-3]])
    assert of_draws(z, weight)["x_z_mode"][0] == pytest.approx(0.5, abs=4e-4)
    assert not of_draws(z, weight)["multimodal"][0]


def test_edges_count_weight_not_draws():
    z = np.concatenate([np.full(50, 2.99), np.full(950, 1.0), np.full(1, 1.1)])
    light, heavy = np.ones(1001), np.ones(1001)
    heavy[:50] = 2.0
    assert not of_draws(z, light)["at_edge"][0]
    assert of_draws(z, heavy)["at_edge"][0]
    assert of_draws(np.array([0.004, 0.01, 0.02, 0.025]))["at_edge"][0]


def test_rows_without_a_posterior_are_nan_and_their_neighbours_as_they_were(draws):
    z, weight = draws[:6].copy(), np.ones((6, draws.shape[1]))
    z[1, 5] = np.nan
    z[2] = np.inf
    weight[3] = 0.0
    weight[4, 7] = np.nan
    weight[5, 7] = -1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        columns = of_draws(z, weight)
        none = of_draws(np.full((3, 4), np.nan))
    alone = of_draws(z[:1])
    for name, values in columns.items():
        assert values[0] == pytest.approx(alone[name][0], abs=1e-12)
        if name.startswith("x_"):
            assert np.isnan(values[1:]).all() and np.isnan(none[name]).all(), name
        else:
            assert not values[1:].any() and not none[name].any()
    assert columns["x_z_quantiles"].shape == (6, 51) and none["x_z_quantiles"].shape == (3, 51)


def test_draws_that_are_all_alike_are_their_own_statistics():
    columns = of_draws(np.full((2, 30), 0.7))
    for name in ("mean", "median", "mode", "err68_low", "err95_high"):
        assert columns[f"x_z_{name}"] == pytest.approx([0.7, 0.7], abs=1e-15)
    assert columns["x_z_std"] == pytest.approx([0.0, 0.0], abs=1e-15) and not columns["multimodal"].any()
    assert of_draws(np.array([[0.4]]), np.array([[3.0]]))["x_z_quantiles"][0] == pytest.approx(
        np.full(51, 0.4)
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 200), st.floats(0.05, 3.0))
def test_order_and_splitting_of_draws(seed, n, shape):
    rng = np.random.default_rng(seed)
    z, weight = rng.normal(1.0, 0.2, n), rng.gamma(shape, size=n) + 1e-12
    whole = of_draws(z, weight)
    order = rng.permutation(n)
    assert max(distances(of_draws(z[order], weight[order]), whole).values()) < 1e-9
    # draws of weight zero change nothing
    padded = of_draws(np.append(z, [0.01, 2.9]), np.append(weight, [0.0, 0.0]))
    assert max(distances(padded, whole).values()) < 1e-9
    # one draw as two of half its weight: moments stay, quantiles stay within the window of 1/n
    at = rng.integers(n)
    half = weight.copy()
    half[at] *= 0.5
    split = of_draws(np.append(z, z[at]), np.append(half, half[at]))
    assert split["x_z_mean"] == pytest.approx(whole["x_z_mean"], abs=1e-12)
    assert split["x_z_std"] == pytest.approx(whole["x_z_std"], abs=1e-12)
    share = np.sort(weight / weight.sum())
    n_eff = 1.0 / np.sum(share**2)
    cdf = np.cumsum(weight[np.argsort(z)]) / weight.sum()
    at_low = np.searchsorted(cdf, QUANTILE_LEVELS * (1.0 - 1.0 / n_eff) - 1e-9)
    at_high = np.searchsorted(
        cdf, np.minimum(QUANTILE_LEVELS * (1.0 - 1.0 / n_eff) + 1.0 / n_eff, 1.0) + 1e-9
    )
    bounds = np.sort(z)[np.clip(at_low, 0, n - 1)], np.sort(z)[np.clip(at_high, 0, n - 1)]
    quantiles = split["x_z_quantiles"][0]
    assert np.all(quantiles >= bounds[0] - 1e-9) and np.all(quantiles <= bounds[1] + 1e-9)


# ---------------------------------------------------------------- a density on a grid
def test_gaussian_on_a_grid():
    columns = summarise_pz_grid(GRID, stats.norm(0.7, 0.05).pdf(GRID)[None] * 1e-200, prefix="tf")
    assert columns["tf_z_mean"][0] == pytest.approx(0.7, abs=1e-9)
    # linear interpolation adds h^2 / 6 to the variance
    assert columns["tf_z_std"][0] == pytest.approx(np.sqrt(0.05**2 + 0.002**2 / 6.0), abs=1e-9)
    assert columns["tf_z_mode"][0] == pytest.approx(0.7, abs=1e-12)
    assert columns["tf_z_quantiles"][0] == pytest.approx(stats.norm(0.7, 0.05).ppf(QUANTILE_LEVELS), abs=5e-5)
    assert columns["tf_z_err68_low"][0] == pytest.approx(0.65, abs=2e-5)
    assert not columns["multimodal"][0] and not columns["at_edge"][0]


def test_piecewise_linear_density_is_integrated_exactly():
    """Uneven nodes, some of them zero, against adaptive quadrature and the CDF itself."""
    rng = np.random.default_rng(4)
    grid = np.sort(rng.uniform(0.0, 2.0, 12))
    pz = rng.gamma(0.7, size=(70, 12))
    pz[:, [0, 4, 5]] = 0.0
    columns = summarise_pz_grid(grid, pz, prefix="tf", z_min=0.0, z_max=2.0)
    for row in (0, 33, 69):

        def density(z, p=pz[row] / np.trapezoid(pz[row], grid)):
            return np.interp(z, grid, p)

        def integral(function, end=grid[-1]):
            nodes = grid[(grid > grid[0]) & (grid < end)]
            return integrate.quad(function, grid[0], end, points=nodes, epsabs=1e-12)[0]

        mean = integral(lambda z: z * density(z))
        assert columns["tf_z_mean"][row] == pytest.approx(mean, abs=1e-10)
        variance = integral(lambda z, mean=mean: (z - mean) ** 2 * density(z))
        assert columns["tf_z_std"][row] == pytest.approx(np.sqrt(variance), abs=1e-10)
        for level, z in zip(QUANTILE_LEVELS, columns["tf_z_quantiles"][row], strict=True):
            assert integral(density, end=z) == pytest.approx(level, abs=1e-9)
        edge = np.expm1(np.log(3.0) * np.array([0.02, 0.98]))
        inside = integral(density, end=edge[1]) - (
            integral(density, end=edge[0]) if edge[0] > grid[0] else 0.0
        )
        assert columns["at_edge"][row] == (1.0 - inside > 0.05)


def test_grid_and_draws_tell_the_same_story():
    pz = 0.7 * stats.norm(0.5, 0.03).pdf(GRID) + 0.3 * stats.norm(1.4, 0.06).pdf(GRID)
    grid = summarise_pz_grid(GRID, pz[None], prefix="x", **LIMITS)
    n = 20_000
    cdf = 0.7 * stats.norm(0.5, 0.03).cdf(GRID) + 0.3 * stats.norm(1.4, 0.06).cdf(GRID)
    draws = of_draws(np.interp((np.arange(n) + 0.5) / n, cdf, GRID))
    assert grid["multimodal"][0] and draws["multimodal"][0]
    for name in grid:
        # where the CDF is flat between the peaks, a quantile is loosely defined: none of the levels lies there
        assert grid[name] == pytest.approx(draws[name], abs=0.01 if name.endswith("mode") else 1e-3), name


def test_peaks_on_a_grid():
    def mixture(second, sigma=0.03):
        return (1.0 - second) * stats.norm(0.5, 0.03).pdf(GRID) + second * stats.norm(1.4, sigma).pdf(GRID)

    end = stats.expon(scale=0.05).pdf(3.0 - GRID)
    pz = np.stack(
        [mixture(0.5), mixture(0.06), mixture(0.04), mixture(0.5, 0.3), end, 0.5 * end + mixture(0.5, 3.0)]
    )
    columns = summarise_pz_grid(GRID, pz, prefix="tf")
    assert columns["multimodal"].tolist() == [True, True, False, True, False, True]
    assert columns["at_edge"].tolist() == [False, False, False, False, True, True]
    assert columns["tf_z_mode"][4] == 3.0


def test_bad_rows_on_a_grid_are_nan_without_warnings():
    pz = np.tile(stats.norm(0.7, 0.05).pdf(GRID), (5, 1))
    pz[1, 3], pz[2, 3], pz[3, 3] = np.nan, -1e-9, np.inf
    pz[4] = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        columns = summarise_pz_grid(GRID, pz, prefix="tf")
    assert columns["tf_z_mean"][0] == pytest.approx(0.7)
    for name, values in columns.items():
        assert np.isnan(values[1:]).all() if name.startswith("tf_") else not values[1:].any()


def test_one_node_that_holds_everything_is_a_triangle():
    pz = np.zeros((1, len(GRID)))
    pz[0, 300] = 1.0
    columns = summarise_pz_grid(GRID, pz, prefix="tf")
    assert columns["tf_z_median"][0] == pytest.approx(0.6, abs=1e-12)
    assert columns["tf_z_std"][0] == pytest.approx(0.002 / np.sqrt(6.0), rel=1e-6)


def test_wrong_shapes_are_named():
    with pytest.raises(InputError, match=r"z \(2, 3\) and weight \(3, 2\)"):
        of_draws(np.ones((2, 3)), np.ones((3, 2)))
    with pytest.raises(InputError, match="z_max 1 must exceed z_min 2"):
        redshift_columns(np.ones((2, 3)), None, z_min=2.0, z_max=1.0, prefix="x")
    with pytest.raises(InputError, match=r"z_grid \(1501,\) and pz \(2, 4\)"):
        summarise_pz_grid(GRID, np.ones((2, 4)), prefix="tf")
    with pytest.raises(InputError, match="increase strictly"):
        summarise_pz_grid(np.array([0.0, 0.0, 1.0]), np.ones((2, 3)), prefix="tf")
