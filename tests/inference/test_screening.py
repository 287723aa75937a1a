"""Each kind of bad input gets its reason, and the rows beside it keep every bit."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from paeplatform.errors import BandSetError
from paeplatform.inference.model.posterior import whiten
from paeplatform.inference.screening import FATAL, InputFault, reason_text, screen, screen_measurements
from paeplatform.instrument.measurements import Measurements
from tests.real_sources import real_measurements

N_BANDS = 6
ANYTHING = st.sampled_from(
    [0.0, -0.0, 1.0, -3.0, 5e-324, 1e-40, 1e-20, 1e7, 1e31, -1e200, np.inf, -np.inf, np.nan]
)


def good(n_source=3, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    flux_err = rng.uniform(0.5, 2.0, size=(n_source, N_BANDS))
    return (20.0 * flux_err * rng.normal(size=flux_err.shape)).astype(dtype), flux_err.astype(dtype)


@pytest.mark.parametrize(
    ("flux", "flux_err", "fault"),
    [
        (np.nan, 1.0, InputFault.FLUX_NOT_FINITE),
        (-np.inf, 1.0, InputFault.FLUX_NOT_FINITE),
        (1.0, 0.0, InputFault.ERROR_NOT_POSITIVE),
        (np.nan, -0.0, InputFault.ERROR_NOT_POSITIVE),
        (1.0, -2.0, InputFault.ERROR_NOT_POSITIVE),
        (1.0, -np.inf, InputFault.ERROR_NOT_POSITIVE),
        (1.0, 1e-7, InputFault.OUT_OF_RANGE),
        (-2e6, 1.0, InputFault.OUT_OF_RANGE),
        (1.0, 5e-324, InputFault.OUT_OF_RANGE),
        (1e300, 1e299, InputFault.OUT_OF_RANGE),
        (0.0, 1e31, InputFault.OUT_OF_RANGE),
        (7.0, np.inf, None),
        (np.nan, np.inf, None),
        (7.0, np.nan, None),
        (np.inf, np.nan, None),
        (-7.0, 1.0, None),
        (9e5, 1.0, None),
    ],
)
def test_one_band_at_fault_is_masked_and_named(flux, flux_err, fault):
    given_flux, given_err = good()
    given_flux[1, 2], given_err[1, 2] = flux, flux_err
    got = screen(given_flux, given_err, N_BANDS)
    assert got.reason.tolist() == [None, fault and str(fault.name).lower(), None]
    assert got.faults.tolist() == [0, int(fault or 0), 0]
    assert got.n_repaired.tolist() == [0, int(fault is not None), 0]
    assert not got.fatal.any()
    if fault is not None or not np.isfinite(flux_err):
        assert (got.flux[1, 2], got.flux_err[1, 2]) == (0.0, np.inf)
    else:
        assert (got.flux[1, 2], got.flux_err[1, 2]) == (flux, flux_err)


def test_a_source_without_a_band_left_is_fatal_whatever_took_them():
    flux, flux_err = good(5)
    flux_err[0] = np.inf
    flux[1] = np.nan
    flux_err[2, :3], flux[2, 3:] = -1.0, np.inf
    flux_err[3] *= 1e-9  # a wrong unit
    flux_err[4, 1:] = 0.0
    got = screen(flux, flux_err, N_BANDS)
    assert got.fatal.tolist() == [True, True, True, True, False]
    assert got.reason.tolist() == [
        "no_usable_band",
        "no_usable_band,flux_not_finite",
        "no_usable_band,flux_not_finite,error_not_positive",
        "no_usable_band,out_of_range",
        "error_not_positive",
    ]
    assert got.n_repaired.tolist() == [0, 6, 6, 6, 5]


@given(
    flux=arrays(np.float64, (3, N_BANDS), elements=ANYTHING),
    flux_err=arrays(np.float64, (3, N_BANDS), elements=ANYTHING),
    bad=st.lists(st.booleans(), min_size=7, max_size=7).filter(lambda rows: 1 <= sum(rows) <= 3),
    seed=st.integers(0, 100),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_neighbours_keep_every_bit_and_the_rest_is_clean(flux, flux_err, bad, seed, dtype):
    clean_flux, clean_err = good(7, seed, dtype)
    damaged_flux, damaged_err = clean_flux.copy(), clean_err.copy()
    rows = np.flatnonzero(bad)
    with np.errstate(over="ignore"):
        damaged_flux[rows], damaged_err[rows] = flux[: len(rows)], flux_err[: len(rows)]
    before = damaged_flux.tobytes(), damaged_err.tobytes()
    got = screen(damaged_flux, damaged_err, N_BANDS)
    assert (damaged_flux.tobytes(), damaged_err.tobytes()) == before
    others = np.setdiff1d(np.arange(7), rows)
    assert got.flux.dtype == dtype and got.flux_err.dtype == dtype
    assert got.flux[others].tobytes() == clean_flux[others].tobytes()
    assert got.flux_err[others].tobytes() == clean_err[others].tobytes()
    assert not got.faults[others].any()
    assert np.isfinite(got.flux).all() and (got.flux_err > 0.0).all()
    masked = np.isinf(got.flux_err)
    assert np.all(got.flux[masked] == 0.0)
    assert np.array_equal(got.fatal, masked.all(axis=1))
    # what the posterior makes of it: finite in float32, and the same bands in use
    photometry = whiten(jnp.asarray(got.flux, jnp.float32), jnp.asarray(got.flux_err, jnp.float32))
    assert np.isfinite(photometry.signal).all() and np.isfinite(photometry.weight).all()
    assert np.array_equal(np.asarray(photometry.weight) == 0.0, masked)
    # nothing is left to repair
    again = screen(got.flux, got.flux_err, N_BANDS)
    assert again.flux.tobytes() == got.flux.tobytes() and not again.n_repaired.any()


# -- numbers that stand for none --------------------------------------------------------------------------------------
def with_sentinels(value, places, error=1.0):
    """Three sources in 60 bands, the second with one number in some places."""
    rng = np.random.default_rng(4)
    flux, flux_err = 20.0 + rng.normal(size=(3, 60)), np.ones((3, 60))
    flux[1, places], flux_err[1, places] = value, error
    return flux, flux_err


def as_measurements(flux, flux_err):
    """The same numbers as measurements, all in one passband that exists."""
    n = flux.size
    start = np.arange(len(flux) + 1) * flux.shape[1]
    return Measurements(flux.ravel(), flux_err.ravel(), np.full(n, 2.0), np.full(n, 2.0 / 41.0), start)


@pytest.mark.parametrize("value", [-99.0, -999.0, -9999.0, -99e3, -37.25])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_number_that_stands_for_none_is_masked_though_its_error_is_good(value, dtype):
    places = [0, 10, 20, 59]
    flux, flux_err = (array.astype(dtype) for array in with_sentinels(value, places))
    got = screen(flux, flux_err, 60)
    assert got.reason.tolist() == [None, "sentinel", None] and got.n_repaired.tolist() == [0, 4, 0]
    assert np.flatnonzero(np.isinf(got.flux_err[1])).tolist() == places
    assert np.isfinite(got.flux_err[[0, 2]]).all() and not got.fatal.any()
    own = screen_measurements(as_measurements(flux, flux_err))
    assert own.reason.tolist() == [None, "sentinel", None] and own.n_repaired.tolist() == [0, 4, 0]
    assert own.measurements.count.tolist() == [60, 56, 60] and value not in own.measurements.flux


@pytest.mark.parametrize(
    ("value", "places", "error", "why"),
    [
        (-99.0, [0, 10], 1.0, "twice may be chance"),
        (-99.0, [0, 10, 20], 20.0, "within five sigma it may be noise"),
        (99.0, [0, 10, 20], 1.0, "a bright source has a flux"),
        (0.0, [0, 10, 20], 1.0, "zero is a flux"),
    ],
)
def test_other_repeated_numbers_are_data(value, places, error, why):
    flux, flux_err = with_sentinels(value, places, error)
    got, own = screen(flux, flux_err, 60), screen_measurements(as_measurements(flux, flux_err))
    assert got.reason.tolist() == own.reason.tolist() == [None, None, None], why
    assert got.flux.tobytes() == flux.tobytes(), why


def test_a_sentinel_is_one_too_where_its_error_is_large():
    flux, flux_err = with_sentinels(-99.0, [0, 10, 20, 30])
    flux_err[1, 30] = 50.0
    got = screen(flux, flux_err, 60)
    assert np.flatnonzero(np.isinf(got.flux_err[1])).tolist() == [0, 10, 20, 30]


def test_a_number_counts_in_its_own_source_alone():
    flux, flux_err = with_sentinels(-99.0, [0, 10])
    flux[0, :2] = flux[2, :2] = -99.0
    assert screen(flux, flux_err, 60).reason.tolist() == [None, None, None]
    assert screen_measurements(as_measurements(flux, flux_err)).reason.tolist() == [None, None, None]
    flux[0, 2] = -99.0
    assert screen(flux, flux_err, 60).reason.tolist() == ["sentinel", None, None]


def test_two_sentinels_and_nothing_beside_them_are_fatal():
    flux, flux_err = with_sentinels(-99.0, np.arange(60))
    flux[1, ::2] = -999.0
    got = screen(flux, flux_err, 60)
    assert got.reason.tolist() == [None, "no_usable_band,sentinel", None]
    assert got.n_repaired.tolist() == [0, 60, 0]


def test_integers_are_photometry_too_and_an_empty_call_is_legal():
    got = screen(np.ones((2, N_BANDS), np.int32), np.full((2, N_BANDS), 3), N_BANDS)
    assert got.flux.dtype == np.float64 and got.reason.tolist() == [None, None]
    assert screen(np.empty((0, N_BANDS)), np.empty((0, N_BANDS)), N_BANDS).reason.shape == (0,)


@pytest.mark.parametrize(
    ("flux", "flux_err", "part"),
    [
        (np.ones((2, 5)), np.ones((2, 5)), r"flux has shape \(2, 5\)"),
        (np.ones((2, N_BANDS)), np.ones((3, N_BANDS)), "but flux_err"),
        (np.ones(N_BANDS), np.ones((1, N_BANDS)), "flux has shape"),
        (np.full((1, N_BANDS), "1"), np.ones((1, N_BANDS)), "flux has dtype"),
        (np.ones((1, N_BANDS)), np.ones((1, N_BANDS), complex), "flux_err has dtype"),
    ],
)
def test_wrong_shapes_and_types_refuse_the_whole_call(flux, flux_err, part):
    with pytest.raises(BandSetError, match=part):
        screen(flux, flux_err, N_BANDS)


def test_names_of_the_reasons():
    assert reason_text(0) is None
    assert reason_text(int(InputFault.OUT_OF_RANGE | FATAL)) == "no_usable_band,out_of_range"


def test_real_measurements_are_all_in_passbands_that_the_model_knows():
    """The instrument's own wavelengths and widths, as delivered for two objects."""
    given = real_measurements()
    got = screen_measurements(given)
    assert got.reason.tolist() == [None, None]
    assert got.measurements.count.tolist() == given.count.tolist()
    assert (given.count > 90).all()
