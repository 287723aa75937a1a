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
