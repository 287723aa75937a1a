"""The tiled float32 sweep with its float64 check, against the formula written out for every model in float64."""

import numpy as np
import pytest
from scipy import optimize

from paeplatform.template_fit import profile
from paeplatform.template_fit.profile import profile_sources


def brute_force(models, flux, flux_err):
    """chi^2 of every model at its best amplitude >= 0, in residual form: (z, template, law, ebv)."""
    use = np.isfinite(flux_err) & (flux_err > 0.0)
    f, m = flux[use] / flux_err[use], models[..., use] / flux_err[use]
    amplitude = np.maximum((m @ f) / np.sum(m**2, axis=-1), 0.0)
    return np.sum((f - amplitude[..., None] * m) ** 2, axis=-1), amplitude


def assert_is_brute_force(fit, all_models, flux, flux_err, rows):
    for row in rows:
        chi2, amplitude = brute_force(all_models, flux[row], flux_err[row])
        least = chi2.min(axis=(1, 2, 3))
        best = np.unravel_index(chi2.argmin(), chi2.shape)
        assert (fit.z_index[row], fit.template[row], fit.ebv_index[row]) == (best[0], best[1], best[3])
        assert fit.law[row] == best[2] or best[3] == 0  # without dust the laws are one model
        assert fit.amplitude[row] == pytest.approx(amplitude[best], rel=1e-9)
        assert fit.chi2[row].min() == pytest.approx(chi2.min(), abs=1e-6)
        use = np.isfinite(flux_err[row]) & (flux_err[row] > 0.0)
        null = np.sum((flux[row, use] / flux_err[row, use]) ** 2)
        assert fit.chi2_null[row] == pytest.approx(null, rel=1e-12)
        matters = least < least.min() + 20.0
        assert np.max(np.abs(fit.chi2[row] - least)[matters]) < 1e-3
        assert np.max(np.abs(fit.chi2[row] - least)) < 3e-6 * null + 1e-3
        pz, expected = (np.exp(-0.5 * (c - c.min())) for c in (fit.chi2[row], least))
        assert np.max(np.abs(pz - expected)) < 3e-4


def test_shared_errors_give_the_brute_force_answer(grid, all_models, sources):
    flux, flux_err, _ = sources
    fit = profile_sources(grid, flux, flux_err, progress=False)
    assert_is_brute_force(fit, all_models, flux, flux_err, range(len(flux)))


def test_errors_of_their_own_and_masks_give_the_brute_force_answer(grid, all_models, sources):
    flux, flux_err, _ = sources
    rng = np.random.default_rng(6)
    flux_err = flux_err * np.exp(0.3 * rng.normal(size=flux_err.shape))
    masked = rng.uniform(size=flux_err.shape) < 0.3
    flux_err[masked] = rng.choice([np.inf, np.nan, 0.0, -1.0], size=masked.sum())
    flux = np.where(masked, np.nan, flux)
    fit = profile_sources(grid, flux, flux_err, progress=False)
    assert_is_brute_force(fit, all_models, np.nan_to_num(flux), flux_err, range(len(flux)))


def test_both_ways_and_several_batches_agree(grid, sources, monkeypatch):
    """The same sources in one batch of shared errors, in batches of 8, and as if no two shared theirs."""
    flux, flux_err, _ = sources
    whole = profile_sources(grid, flux, flux_err, progress=False)
    for name, value in (("BATCH", 8), ("MIN_SHARED", 1000)):
        with monkeypatch.context() as patch:
            patch.setattr(profile, name, value)
            other = profile_sources(grid, flux, flux_err, progress=False)
        for field in ("z_index", "template", "law", "ebv_index"):
            assert np.array_equal(getattr(other, field), getattr(whole, field)), (name, field)
        assert np.max(np.abs(other.chi2 - whole.chi2) / whole.chi2_null[:, None]) < 3e-6
        assert other.amplitude == pytest.approx(whole.amplitude, rel=1e-12)


def test_noiseless_galaxies_of_the_grid_come_back(grid, all_models, sources, depth):
    where = sources[2]
    flux = 7.0 * all_models[tuple(where.T)]
    fit = profile_sources(grid, flux, np.tile(depth, (len(flux), 1)), progress=False)
    assert np.array_equal(fit.z_index, where[:, 0]) and np.array_equal(fit.template, where[:, 1])
    assert np.array_equal(fit.ebv_index, where[:, 3])
    assert fit.amplitude == pytest.approx(np.full(len(flux), 7.0), rel=1e-9)
    assert np.max(fit.chi2.min(axis=1)) < 1e-6


def test_amplitude_is_not_negative(grid, all_models, sources):
    flux, flux_err, _ = sources
    flux = np.concatenate([-np.abs(flux[-2:]), flux[:2]])
    fit = profile_sources(grid, flux, flux_err[:4], progress=False)
    assert np.all(fit.template[:2] == -1) and np.isnan(fit.amplitude[:2]).all()
    assert fit.chi2[:2] == pytest.approx(
        np.repeat(fit.chi2_null[:2, None], fit.chi2.shape[1], axis=1), rel=1e-12
    )
    assert_is_brute_force(fit, all_models, flux, flux_err, [2, 3])


def test_the_amplitude_is_the_minimum_along_its_line(grid, sources):
    """An optimiser that knows nothing of the formula finds the same amplitude and chi^2."""
    flux, flux_err, _ = sources
    fit = profile_sources(grid, flux[20:21], flux_err[20:21], progress=False)
    model = grid.models(fit.z_index, fit.template)[0, fit.law[0], fit.ebv_index[0]]
    found = optimize.minimize_scalar(
        lambda ln_a: np.sum(((flux[20] - np.exp(ln_a) * model) / flux_err[20]) ** 2),
        bracket=(np.log(fit.amplitude[0]) - 1.0, np.log(fit.amplitude[0]) + 0.7),
    )
    assert np.exp(found.x) == pytest.approx(fit.amplitude[0], rel=1e-5)
    assert found.fun == pytest.approx(np.nanmin(fit.chi2), rel=1e-9)


@pytest.mark.parametrize("unit", [1e-25, 1e25])
def test_units_do_not_matter(grid, sources, unit):
    flux, flux_err, _ = sources
    as_is = profile_sources(grid, flux[:20], flux_err[:20], progress=False)
    scaled = profile_sources(grid, flux[:20] * unit, flux_err[:20] * unit, progress=False)
    assert np.array_equal(scaled.z_index, as_is.z_index) and np.array_equal(scaled.template, as_is.template)
    assert scaled.chi2 == pytest.approx(as_is.chi2, rel=1e-4)
    assert scaled.amplitude == pytest.approx(unit * as_is.amplitude, rel=1e-9)


def test_a_bad_source_leaves_its_neighbours_as_they_were(grid, sources):
    flux, flux_err, _ = (part.copy() for part in sources)
    before = profile_sources(grid, flux, flux_err, progress=False)
    flux[3, 10], flux[4, 0], flux_err[5] = np.nan, np.inf, np.inf
    after = profile_sources(grid, flux, flux_err, progress=False)
    others = np.setdiff1d(np.arange(len(flux)), [3, 4, 5])
    assert np.isnan(after.chi2[3:6]).all() and np.all(after.z_index[3:6] == -1)
    assert np.array_equal(after.z_index[others], before.z_index[others])
    assert np.max(np.abs(after.chi2 - before.chi2)[others] / before.chi2_null[others, None]) < 3e-6
    nobody = profile_sources(grid, flux[3:6], flux_err[3:6], progress=False)
    assert np.isnan(nobody.chi2).all() and nobody.chi2.shape == (3, len(grid.config.z))
