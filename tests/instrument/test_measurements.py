"""Measurements of many sources: their table, merging that changes no posterior, and binning."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from paeplatform.errors import BandSetError
from paeplatform.instrument.bands import BandSet
from paeplatform.instrument.measurements import (
    Measurements,
    channel_means,
    channel_of,
    merged,
    padded,
)
from paeplatform.instrument.slots import N_RESOLVING, SlotOperator, slot_operator

PARTS = ("flux", "flux_err", "wave_um", "width_um")


def random_measurements(count: list[int], seed: int = 0, scatter: float = 0.02) -> Measurements:
    """Measurements anywhere on detectors 1 to 4 and 5 to 6, whose resolving power scatters about 39 and 120."""
    rng = np.random.default_rng(seed)
    n = sum(count)
    red = rng.random(n) < 0.3
    wave = np.where(red, rng.uniform(3.85, 4.95, n), np.exp(rng.uniform(np.log(0.76), np.log(3.8), n)))
    width = wave / (np.where(red, 120.0, 39.0) * rng.uniform(1.0 - scatter, 1.0 + scatter, n))
    start = np.concatenate([[0], np.cumsum(count)])
    return Measurements(rng.normal(10.0, 3.0, n), rng.uniform(0.5, 2.0, n), wave, width, start)


@pytest.fixture(scope="module")
def operator(galaxies: np.ndarray, wave: np.ndarray) -> SlotOperator:
    return slot_operator(galaxies, wave, 3.0)


def test_a_table_gives_back_what_was_written_and_empty_sources_stay() -> None:
    given_ = random_measurements([3, 0, 5, 0])
    back = Measurements.from_table(pl.DataFrame(given_.to_columns()))
    assert back.count.tolist() == [3, 0, 5, 0]
    for name in PARTS:
        np.testing.assert_allclose(getattr(back, name), getattr(given_, name), rtol=1e-7)
    nothing = Measurements.from_table(pl.DataFrame(random_measurements([]).to_columns()))
    assert len(nothing) == 0


def test_a_bad_table_is_refused_with_column_and_row() -> None:
    table = pl.DataFrame(random_measurements([2, 3]).to_columns())
    with pytest.raises(BandSetError, match="measured_width_um is missing"):
        Measurements.from_table(table.drop("measured_width_um"))
    short = table.with_columns(pl.col("measured_flux_err").list.head(2))
    with pytest.raises(BandSetError, match="row 1: measured_flux_err has 2 numbers, measured_flux 3"):
        Measurements.from_table(short)
    with pytest.raises(BandSetError, match="measurements"):
        Measurements(np.ones(3), np.ones(2), np.ones(3), np.ones(3), np.array([0, 3]))


@settings(max_examples=40, deadline=None)
@given(count=st.lists(st.integers(0, 9), min_size=1, max_size=6), seed=st.integers(0, 999))
def test_rows_and_where_and_padding_keep_each_source(count: list[int], seed: int) -> None:
    given_ = random_measurements(count, seed)
    order = np.random.default_rng(seed).permutation(len(count))
    moved = given_.rows(order)
    arrays = padded(moved, max(*count, 1))
    for place, row in enumerate(order):
        own = slice(given_.start[row], given_.start[row + 1])
        n = count[row]
        np.testing.assert_array_equal(arrays.flux[place, :n], given_.flux[own])
        assert np.isinf(arrays.flux_err[place, n:]).all()
    keep = given_.flux > 10.0
    kept = given_.where(keep)
    assert len(kept) == len(count)
    np.testing.assert_array_equal(kept.flux, given_.flux[keep])
    np.testing.assert_array_equal(kept.source, given_.source[keep])


def test_padding_refuses_what_does_not_fit() -> None:
    with pytest.raises(BandSetError, match="5 measurements, more than 4"):
        padded(random_measurements([5]), 4)


def test_merging_keeps_total_weight_and_mean_flux_and_touches_no_other_source() -> None:
    given_ = random_measurements([300, 20_000, 1, 0])
    one = merged(given_, 1280)
    assert one.count.tolist()[::2] == [300, 1] and one.count[3] == 0
    assert 900 < one.count[1] <= 1280
    np.testing.assert_array_equal(one.flux[:300], given_.flux[:300])
    before, after = slice(300, 20_300), slice(300, 300 + one.count[1])
    weight, new = given_.flux_err[before] ** -2.0, one.flux_err[after] ** -2.0
    assert new.sum() == pytest.approx(weight.sum(), rel=1e-12)
    assert new @ one.flux[after] == pytest.approx(weight @ given_.flux[before], rel=1e-12)
    assert (np.diff(one.wave_um[after]) >= 0.0).all()
    assert merged(given_, 20_000) is given_


def test_widened_cells_make_any_source_fit() -> None:
    assert merged(random_measurements([5000]), 300).count[0] <= 300


@pytest.mark.parametrize(("scatter", "limit"), [(0.0, 0.01), (0.02, 0.03)])
def test_merging_changes_ln_l_by_a_hundredth_at_snr_200(
    galaxies, operator, scatter: float, limit: float
) -> None:
    """Of 20,000 measurements, up to a constant of the data: ln L one standard deviation from the truth in redshift,
    or in the spectrum, less ln L at the truth. In float64, since float32 changes it by as much."""
    lines = np.argsort(np.max(np.abs(np.diff(galaxies, axis=1)), axis=1))[-8:]  # strongest lines
    changes = []
    for row in lines.tolist():
        rng = np.random.default_rng(row)
        z, spectrum = rng.uniform(0.05, 2.0), np.eye(len(galaxies))[row]
        places = random_measurements([20_000], row, scatter)
        true = in_float64(operator, places, spectrum, z)
        error = np.full(len(true), np.sqrt(np.sum(true**2)) / 200.0)
        noisy = true + error * rng.standard_normal(len(true))
        whole = Measurements(noisy, error, places.wave_um, places.width_um, places.start)
        small = merged(whole, 1280)

        def chi2(some: Measurements, spectrum: np.ndarray, z: float) -> float:
            return float(np.sum(((some.flux - in_float64(operator, some, spectrum, z)) / some.flux_err) ** 2))

        for step, other in ((1e-4, 0.0), (0.0, 1e-3)):
            mixed = spectrum + other * np.eye(len(galaxies))[row - 1]
            moved = (in_float64(operator, whole, mixed, z + step) - true) / error
            width = 1.0 / np.sqrt(np.sum(moved**2))
            there = spectrum + width * (mixed - spectrum), z + width * step
            before, after = (chi2(some, *there) - chi2(some, spectrum, z) for some in (whole, small))
            changes.append(0.5 * (after - before))
    assert np.sqrt(np.mean(np.square(changes))) < limit


def in_float64(operator: SlotOperator, some: Measurements, source: np.ndarray, z: float) -> np.ndarray:
    """The operator's table, interpolated by SciPy's B-splines."""
    out, begin = np.empty(len(some.flux)), 0
    values = np.asarray(operator.table, np.float64) @ source
    for family in operator.families:
        grid, here = family.grid(operator.z_max), family.holds(some.wave_um, some.width_um)
        part = values[begin * N_RESOLVING : (begin + len(grid)) * N_RESOLVING].reshape(-1, N_RESOLVING)
        knots = grid[0] + family.step * np.arange(-2, len(grid) + 2)
        spline = BSpline(knots, part, 3)
        share = operator.place(some.wave_um[here], some.width_um[here]).share.astype(np.float64)
        x = np.log(some.wave_um[here]) - np.log1p(z)
        out[here] = np.sum(spline(x) * share, axis=1)
        begin += len(grid)
    return out


def test_channel_means_are_weighted_means_and_nothing_else_counts(bands: BandSet) -> None:
    given_ = random_measurements([400, 7])
    bad = np.array(given_.flux_err)
    bad[[3, 5]] = np.nan, -1.0
    given_ = Measurements(given_.flux, bad, given_.wave_um, given_.width_um, given_.start)
    channel = channel_of(given_, bands)
    means = channel_means(given_, bands, channel)
    nearest = np.abs(given_.wave_um[:, None] - bands.wave_um) / bands.bandwidth_um
    assert (nearest[np.arange(len(channel)), channel] <= nearest.min(axis=1) * 1.5).all()
    for source, band in ((0, int(channel[0])), (1, int(channel[-1]))):
        own = (given_.source == source) & (channel == band) & (given_.flux_err > 0.0)
        weight = given_.flux_err[own] ** -2.0
        assert means.flux[source, band] == pytest.approx(np.average(given_.flux[own], weights=weight))
        assert means.flux_err[source, band] == pytest.approx(weight.sum() ** -0.5)
        assert means.n[source, band] == own.sum()
    empty = means.n == 0
    assert np.isnan(means.flux[empty]).all() and np.isinf(means.flux_err[empty]).all()


def test_first_order_correction_is_exact_for_a_flux_linear_in_ln_wavelength(bands: BandSet) -> None:
    places = random_measurements([3000])
    flux = 5.0 + 2.0 * np.log(places.wave_um)
    given_ = Measurements(flux, np.ones(3000), places.wave_um, places.width_um, places.start)
    channel = channel_of(given_, bands)
    means = channel_means(given_, bands, channel)
    truth = 5.0 + 2.0 * np.log(bands.wave_um)
    full = means.n[0] > 0
    assert np.abs(means.flux[0] - truth)[full].max() > 1e-3
    np.testing.assert_allclose(means.at_centres(bands)[0][full], truth[full], atol=1e-9)


def test_a_lonely_channel_is_left_as_it_is(bands: BandSet) -> None:
    given_ = Measurements(
        np.array([3.0]), np.ones(1), bands.wave_um[40:41] * 1.004, bands.bandwidth_um[40:41], np.array([0, 1])
    )
    means = channel_means(given_, bands, channel_of(given_, bands))
    corrected = means.at_centres(bands)[0]
    assert corrected[40] == 3.0 and np.isnan(np.delete(corrected, 40)).all()
