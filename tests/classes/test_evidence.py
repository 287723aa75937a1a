"""The evidence against the formula written out for every model, closed forms, and what must change nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy.special import logsumexp

from paeplatform.classes import evidence
from paeplatform.classes.evidence import class_evidence, log_likelihoods
from paeplatform.classes.grid import ClassGrid, class_grid
from paeplatform.errors import ConfigError


def usable(flux_err):
    return np.isfinite(flux_err) & (flux_err > 0.0)


def formula(model, flux, flux_err, error):
    """(ln L, chi^2) of one model, with the amplitude within V found as a fixed point."""
    use = usable(flux_err)
    d, m, sigma, eps = flux[use], model[use], flux_err[use], error[use]
    variance = sigma**2
    for _ in range(5):
        amplitude = max(np.sum(d * m / variance) / np.sum(m * m / variance), 0.0)
        last, variance = variance, sigma**2 + (eps * amplitude * m) ** 2
    chi2 = np.sum((d - amplitude * m) ** 2 / last)
    return -0.5 * chi2 - 0.5 * np.sum(np.log(last / sigma**2)), chi2


def test_agrees_with_the_formula_for_every_model(small_grid, noisy, monkeypatch):
    monkeypatch.setattr(evidence, "N_EXACT", len(small_grid))
    flux, flux_err = noisy
    found = class_evidence(small_grid, flux, flux_err, usable(flux_err))
    for row in range(len(flux)):
        values = np.array(
            [
                [formula(model, flux[row], flux_err[row], small_grid.error[group]) for model in models]
                for group, models in enumerate(small_grid.flux.astype(float))
            ]
        )
        log_p = values[..., 0] + small_grid.log_prior
        assert found.log_evidence[row] == pytest.approx(logsumexp(log_p), abs=1e-3)
        best = np.unravel_index(log_p.argmax(), log_p.shape)
        assert (found.best_group[row], found.best_model[row]) == best
        assert found.chi2[row] == pytest.approx(values[best][1], rel=1e-4)
        assert found.z[row, 0] == small_grid.z[best[0]]
        of_z = np.exp(logsumexp(log_p, axis=1) - logsumexp(log_p))
        edges = np.concatenate([[0.1], 0.5 * (small_grid.z[1:] + small_grid.z[:-1]), [2.0]])
        expected = np.interp([0.16, 0.84], np.concatenate([[0.0], np.cumsum(of_z)]), edges)
        np.testing.assert_allclose(found.z[row, 1:], expected, atol=2e-3)


def test_models_beyond_the_exact_ones_are_counted(small_grid, noisy, monkeypatch):
    flux, flux_err = noisy
    monkeypatch.setattr(evidence, "N_EXACT", len(small_grid))
    every = class_evidence(small_grid, flux, flux_err, usable(flux_err))
    monkeypatch.setattr(evidence, "N_EXACT", 20)
    some = class_evidence(small_grid, flux, flux_err, usable(flux_err))
    assert np.max(np.abs(every.log_evidence - some.log_evidence)) < 0.1
    np.testing.assert_array_equal(every.best_group, some.best_group)


def test_one_model_without_error_has_the_closed_form(bands):
    """ln L = -1/2 (sum d^2 - (sum d m)^2 / sum m^2) in units of sigma."""
    rng = np.random.default_rng(0)
    model, flux_err = rng.uniform(0.5, 2.0, len(bands)), rng.uniform(0.5, 1.5, (1, len(bands)))
    flux = 3.0 * model[None] + flux_err * rng.normal(size=flux_err.shape)
    grid = class_grid(
        "star", model[None, None], np.zeros((1, len(bands))), np.ones((1, 1)), 2, labels=("one",)
    )
    found = class_evidence(grid, flux, flux_err, usable(flux_err))
    d, m = flux[0] / flux_err[0], model / flux_err[0]
    expected = -0.5 * (d @ d - (d @ m) ** 2 / (m @ m))
    assert found.log_evidence[0] == pytest.approx(expected, rel=1e-6)
    assert found.chi2[0] == pytest.approx(-2.0 * expected, rel=1e-6)
    assert np.isnan(found.z).all()


def test_the_amplitude_is_the_best_given_the_variance_and_never_negative():
    rng = np.random.default_rng(1)
    model, error = rng.uniform(0.5, 2.0, 30), np.full(30, 0.1)
    signal = 20.0 * model + rng.normal(size=30)
    log_l, chi2 = log_likelihoods(model, signal, error)

    def at(amplitude):
        growth = 1.0 + (error * amplitude * model) ** 2
        best = optimize.minimize_scalar(lambda a: np.sum((signal - a * model) ** 2 / growth)).x
        return best, growth

    amplitude, growth = at(20.0)
    for _ in range(10):
        amplitude, growth = at(amplitude)
    assert chi2 == pytest.approx(np.sum((signal - amplitude * model) ** 2 / growth), rel=1e-3)
    assert log_l == pytest.approx(-0.5 * chi2 - 0.5 * np.sum(np.log(growth)), rel=1e-3)
    nothing, chi2 = log_likelihoods(model, -signal, error)
    assert nothing == pytest.approx(-0.5 * np.sum(signal**2)) and chi2 == pytest.approx(np.sum(signal**2))


@settings(max_examples=15)
@given(factor=st.floats(1e-6, 1e6), seed=st.integers(0, 2**16))
def test_units_and_what_masked_bands_hold_change_nothing(small_grid, noisy, factor, seed):
    flux, flux_err = (part[2:6] for part in noisy)
    use = usable(flux_err)
    first = class_evidence(small_grid, flux, flux_err, use)
    other = np.where(use, flux, np.random.default_rng(seed).normal(size=flux.shape) * 1e9)
    again = class_evidence(small_grid, factor * other, factor * flux_err, use)
    np.testing.assert_allclose(again.log_evidence, first.log_evidence, atol=2e-3)
    np.testing.assert_array_equal(again.best_group, first.best_group)


def test_factors_of_groups_weigh_the_models(small_grid, noisy):
    flux, flux_err = (part[:4] for part in noisy)
    plain = class_evidence(small_grid, flux, flux_err, usable(flux_err))
    prior = np.full((4, 40), np.log(2.0))
    twice = class_evidence(small_grid, flux, flux_err, usable(flux_err), prior)
    np.testing.assert_allclose(twice.log_evidence, plain.log_evidence + np.log(2.0), atol=1e-3)
    prior[:, 20:] = -np.inf
    near = class_evidence(small_grid, flux, flux_err, usable(flux_err), prior)
    assert (near.z[:, 0] < small_grid.z[20]).all()


def test_no_usable_band_has_an_evidence_of_one(small_grid):
    flux_err = np.full((1, small_grid.n_band), np.inf)
    found = class_evidence(small_grid, np.zeros_like(flux_err), flux_err, usable(flux_err))
    assert found.log_evidence[0] == pytest.approx(0.0, abs=1e-5)


def test_a_grid_says_what_is_wrong(small_grid):
    parts = {
        name: getattr(small_grid, name)
        for name in ("flux", "error", "log_prior", "z", "labels", "n_parameters")
    }
    faults = {
        "name 'comet' must be one of": {"name": "comet"},
        "error has shape": {"error": small_grid.error[1:]},
        "weights sum to 2": {"log_prior": small_grid.log_prior + np.log(2.0)},
        "fluxes must be finite": {"flux": -small_grid.flux},
        "relative errors must be": {"error": np.full_like(small_grid.error, np.nan)},
        "1 labels for 40 groups": {"labels": ("one",)},
    }
    for message, change in faults.items():
        with pytest.raises(ConfigError, match=message):
            ClassGrid(**({"name": "quasar"} | parts | change))
