"""Rebinning is a linear map that conserves flux, whatever the nodes."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from paeplatform.config import RestGridConfig, load_preset
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.exact import exact_photometry
from paeplatform.instrument.filters import gaussian_filters
from paeplatform.sed.grid import cell_edges, hires_grid, library_on_grid, rebin, rest_grid
from paeplatform.sed.library import load_library

GRID = rest_grid(RestGridConfig())


@st.composite
def spectra(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(2, 400))
    wave = np.cumsum(rng.exponential(size=n) ** draw(st.integers(1, 4)) + 1e-4)
    wave = draw(st.floats(0.01, 0.2)) + (wave - wave[0]) / (wave[-1] - wave[0]) * draw(st.floats(0.5, 8.0))
    return wave, rng.exponential(size=n) ** 3


@given(spectra(), st.integers(2, 300))
@settings(max_examples=100, deadline=None)
def test_integral_over_the_cells_is_conserved(spectrum: tuple[np.ndarray, np.ndarray], n_grid: int) -> None:
    wave, flux = spectrum
    grid = np.linspace(0.1, 5.0, n_grid)
    edges = cell_edges(grid)
    nodes = np.union1d(edges, wave[(wave > edges[0]) & (wave < edges[-1])])
    direct = np.trapezoid(
        np.interp(nodes, wave, flux), nodes
    )  # exact: flat beyond the ends, linear between nodes
    assert np.sum(rebin(wave, flux, grid) * np.diff(edges)) == pytest.approx(direct, rel=1e-10)


@given(spectra())
@settings(max_examples=30, deadline=None)
def test_each_cell_is_the_mean_of_the_spectrum_in_it(spectrum: tuple[np.ndarray, np.ndarray]) -> None:
    wave, flux = spectrum
    grid = np.linspace(0.3, 3.0, 7)
    edges = cell_edges(grid)
    means = rebin(wave, flux, grid)
    for low, high, mean in zip(edges[:-1], edges[1:], means, strict=True):
        inner = wave[(wave > low) & (wave < high)]
        pieces = np.concatenate([[low], inner, [high]])
        area = sum(quad(lambda x: np.interp(x, wave, flux), a, b)[0] for a, b in pairwise(pieces))
        assert mean == pytest.approx(area / (high - low), rel=1e-8)


def test_straight_lines_pass_unchanged_and_rows_are_independent() -> None:
    wave = np.geomspace(0.05, 6.0, 777)
    flux = np.stack([np.ones_like(wave), 0.3 + 2.0 * wave])
    even = np.linspace(0.1, 5.0, 500)  # nodes in the middle of their cells
    np.testing.assert_allclose(rebin(wave, flux, even)[1], 0.3 + 2.0 * even, rtol=1e-10)
    binned = rebin(wave, flux, GRID)
    np.testing.assert_allclose(binned[0], 1.0, rtol=1e-12)
    middle = 0.5 * (cell_edges(GRID)[1:] + cell_edges(GRID)[:-1])
    np.testing.assert_allclose(binned[1], 0.3 + 2.0 * middle, rtol=1e-10)
    np.testing.assert_allclose(middle, GRID, rtol=1e-5)  # a hundredth of the finest sigma_z


def test_a_line_narrower_than_a_cell_keeps_its_flux() -> None:
    wave = np.array([0.05, 0.6564, 0.6565, 0.6566, 6.0])
    flux = np.array([0.0, 0.0, 5.0, 0.0, 0.0])
    binned = rebin(wave, flux, GRID)
    assert np.sum(binned * np.diff(cell_edges(GRID))) == pytest.approx(5.0 * 1e-4, rel=1e-9)
    assert np.count_nonzero(binned > 1e-12) <= 2


def test_beyond_its_ends_a_spectrum_is_constant() -> None:
    binned = rebin(np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.linspace(0.1, 5.0, 50))
    assert binned[0] == pytest.approx(3.0)
    assert binned[-1] == pytest.approx(4.0)


def test_grids_are_the_papers_and_the_contracts() -> None:
    paper = rest_grid(load_preset("paper").rest_grid)
    np.testing.assert_array_equal(paper, np.linspace(0.1, 5.0, 500))
    assert (GRID[0], GRID[-1], len(GRID)) == (0.1, 5.0, 800)
    assert np.ptp(np.diff(np.log(GRID))) < 1e-12
    fine = hires_grid()
    assert (fine[0], fine[-1]) == pytest.approx((0.09, 5.2))
    steps = np.diff(np.log(fine))
    assert np.ptp(steps) < 1e-12
    assert steps[0] == pytest.approx(5e-4, rel=1e-3)


def test_both_grids_hold_the_same_flux_for_every_template() -> None:
    library = load_library()
    coarse, fine_grid = library_on_grid(library, GRID), hires_grid()
    fine = library_on_grid(library, fine_grid)
    assert coarse.shape == (160, len(GRID))
    inside = (fine_grid > 0.5) & (fine_grid < 4.5)
    cells = (GRID > 0.5) & (GRID < 4.5)
    # A window edge cuts cells of either grid: half a coarse cell of 400 at both ends bounds the difference.
    coarse_flux = np.sum(coarse[:, cells] * np.diff(cell_edges(GRID))[cells], axis=1)
    fine_flux = np.sum(fine[:, inside] * np.diff(cell_edges(fine_grid))[inside], axis=1)
    np.testing.assert_allclose(coarse_flux, fine_flux, rtol=8e-3)
    assert np.all(coarse >= 0.0)


@pytest.mark.parametrize(("grid", "largest", "least"), [("demo", 6e-4, 0.0), ("paper", 8e-3, 3e-3)])
def test_redshifts_of_line_galaxies_do_not_depend_on_the_grid(
    grid: str, largest: float, least: float
) -> None:
    """The best redshift of noiseless photometry of the template itself, seen through the rest grid, as the PAE's
    spectra are: on the paper's grid the lines are off by so much, on ours by less than the sharpest sigma_z (1e-3).
    """
    library, filters, wave = (
        load_library(),
        gaussian_filters(load_bands()),
        rest_grid(load_preset(grid).rest_grid),
    )
    for name, z in (("ilbert/SB6_A_0", 0.3), ("brown/UM_461", 0.15)):
        index = library.name.index(name)
        truth = exact_photometry(library.wave[index], library.flux[index], z, filters)
        rebinned = rebin(library.wave[index], library.flux[index], wave)
        offsets = np.linspace(-0.01, 0.01, 41)  # in z over 1+z
        models = [exact_photometry(wave, rebinned, z + (1.0 + z) * off, filters) for off in offsets]
        misfit = [np.sum((truth - (truth @ m) / (m @ m) * m) ** 2) for m in models]
        assert least <= abs(offsets[int(np.argmin(misfit))]) <= largest
