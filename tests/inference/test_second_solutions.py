"""Columns of the second and third solution: mixtures of known shares, chi^2 by NumPy, and what must not change them."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from paeplatform.config import TrustConfig
from paeplatform.inference.model.draws import PosteriorDraws
from paeplatform.inference.model.posterior import LogPosterior
from paeplatform.inference.model.priors import TabulatedPrior, UniformPrior
from paeplatform.inference.results.goodness import goodness
from paeplatform.inference.results.predictive import thin_draws
from paeplatform.inference.results.pz_summary import draw_quantiles, redshift_columns
from paeplatform.inference.results.reweight import reweight_table
from paeplatform.inference.results.second_solutions import chi2_gap, leading_solutions, moved_gap
from paeplatform.inference.results.summaries import PosteriorSummaries, summarise
from paeplatform.inference.samplers import widened
from paeplatform.inference.sources import Sources
from tests.inference.bump_problem import numpy_model

N = 500
LIMITS = (0.05, 3.0)
NAMES = ["pae_z2", "pae_z2_weight", "pae_z3", "pae_z3_weight"]
TRUST = TrustConfig()


def mixture(*parts: tuple[int, float, float]) -> np.ndarray:
    """Draws of Gaussians (number, centre, width) at the middles of equal slices of probability, shuffled."""
    z = [norm.ppf((np.arange(n) + 0.5) / n, centre, width) for n, centre, width in parts]
    return np.random.default_rng(0).permutation(np.concatenate(z)).astype(np.float32)


@st.composite
def samples(draw: st.DrawFn) -> np.ndarray:
    """100 draws of one to five Gaussians anywhere, some of them on top of each other."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_part = draw(st.integers(1, 5))
    centre, width = rng.uniform(0.1, 2.9, n_part), 10.0 ** rng.uniform(-3.5, -0.7, n_part)
    which = rng.choice(n_part, 100, p=rng.dirichlet(np.ones(n_part)))
    return np.abs(rng.normal(centre[which], width[which])).astype(np.float32)


def found_of(z: np.ndarray, u: np.ndarray | None = None) -> PosteriorSummaries:
    """Findings of a sampler that kept these draws."""
    n_source, n_draw = z.shape
    columns = redshift_columns(z, None, prefix="pae", z_min=LIMITS[0], z_max=LIMITS[1])
    good = np.isfinite(z).all(axis=1)
    weight = np.where(good[:, None], np.float32(1.0 / n_draw), np.float32(np.nan)) * np.ones_like(z)
    u = np.zeros((n_source, n_draw, 2), np.float32) if u is None else u
    blank, count = np.full(n_source, np.nan), np.ones(n_source, np.int16)
    path = np.where(good, "adapted", "none").astype(object)
    draws = PosteriorDraws(u, z, weight, np.zeros_like(z))
    return PosteriorSummaries(
        columns, draws, z, path, good, 0.0 * blank + 500.0, blank, blank, blank, blank, count, count
    )


def chi2_of(forward, u: np.ndarray, z: np.ndarray, flux: np.ndarray, flux_err: np.ndarray) -> np.ndarray:
    """Chi^2 of some draws of one source, each at its best amplitude, in float64."""
    model = numpy_model(forward, u.astype(float), z.astype(float)) / flux_err
    signal = flux / flux_err
    amplitude = np.maximum(model @ signal / np.sum(model**2, axis=1), 0.0)
    return np.sum((signal - amplitude[:, None] * model) ** 2, axis=1)


def photometry(forward, n_source: int, error: float = 0.3, z: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    true = 3.0 * np.asarray(forward(jnp.zeros(2), jnp.asarray(z)), np.float64)
    noise = error * np.random.default_rng(3).standard_normal((n_source, len(true)))
    return true + noise, np.full((n_source, len(true)), error)


# -- the solutions -----------------------------------------------------------------------------------------------------
def test_medians_and_shares_are_those_of_the_mixture():
    rows = [
        mixture((500, 0.6, 0.02)),
        mixture((150, 2.0, 0.02), (350, 0.6, 0.01)),
        mixture((150, 2.1, 0.02), (300, 0.5, 0.01), (50, 1.2, 0.05)),
        mixture((70, 2.6, 0.02), (200, 0.5, 0.01), (130, 1.2, 0.05), (100, 1.8, 0.02)),
        np.where(np.arange(N) == 7, np.nan, mixture((150, 2.0, 0.02), (350, 0.6, 0.01))),
    ]
    got = leading_solutions(np.stack(rows)).columns()
    assert list(got) == NAMES
    nan = np.nan
    second = [(nan, nan), (2.0, 0.3), (2.1, 0.3), (1.2, 0.26), (nan, nan)]
    third = [(nan, nan), (nan, nan), (1.2, 0.1), (1.8, 0.2), (nan, nan)]
    for number, wanted in ((2, second), (3, third)):
        z, weight = zip(*wanted, strict=True)
        assert got[f"pae_z{number}"] == pytest.approx(z, abs=1e-6, nan_ok=True)
        assert got[f"pae_z{number}_weight"] == pytest.approx(weight, abs=1e-12, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(samples(), st.integers(0, 2**32 - 1))
def test_shares_are_shares_and_the_order_of_the_draws_changes_nothing(z: np.ndarray, seed: int):
    both = leading_solutions(np.stack([z, np.random.default_rng(seed).permutation(z)]))
    for values in (both.z, both.weight, both.low, both.high):
        assert np.array_equal(values[0], values[1], equal_nan=True)
    weight = both.weight[0][np.isfinite(both.weight[0])]
    assert len(weight) >= 1 and weight.sum() <= 1.0 + 1e-12 and (np.diff(weight) <= 1e-12).all()
    if len(weight) > 1:
        assert ((weight > 0.0) & (weight < 1.0)).all()
    for number in range(3):
        inside = both.holds(number, np.stack([z, z]))[0]
        if number >= len(weight):
            assert not inside.any() and np.isnan(both.z[0, number])
            continue
        # each solution is its own draws, and no draw is of two
        assert inside.mean() == pytest.approx(weight[number], abs=1e-12)
        _, copies = np.unique(z[inside], return_counts=True)
        if (copies == 1).all():
            assert both.z[0, number] == pytest.approx(np.median(z[inside].astype(float)), abs=1e-9)
    assert sum(both.holds(k, z[None].repeat(2, axis=0))[0].astype(int) for k in range(3)).max() <= 1


def test_quantiles_alone_are_those_of_the_columns_digit_for_digit():
    rng = np.random.default_rng(1)
    z, weight = rng.gamma(4.0, 0.1, size=(70, 301)), rng.exponential(size=(70, 301))
    columns = redshift_columns(z, weight, z_min=0.003, z_max=3.0, prefix="x")
    got = draw_quantiles(z, weight, (0.5, 0.1586553, 0.8413447))
    for place, name in enumerate(("median", "err68_low", "err68_high")):
        assert np.array_equal(got[:, place], columns[f"x_z_{name}"])


# -- the gap -----------------------------------------------------------------------------------------------------------
def test_the_gap_is_the_difference_of_the_best_draws(bump_forward):
    """Rows: the second peak away from the truth; the first one away from it; one peak; no posterior; three peaks."""
    z = np.stack(
        [
            mixture((150, 1.0, 0.02), (350, 0.4, 0.02)),
            mixture((350, 1.0, 0.02), (150, 0.4, 0.02)),
            mixture((500, 0.4, 0.02)),
            np.full(N, np.nan, np.float32),
            mixture((120, 1.0, 0.02), (300, 0.4, 0.02), (80, 1.7, 0.02)),
        ]
    )
    u = (0.2 * np.random.default_rng(1).standard_normal((5, N, 2))).astype(np.float32)
    flux, flux_err = photometry(bump_forward, 5)
    found = found_of(z, u)
    posterior = LogPosterior(bump_forward, UniformPrior(*LIMITS))
    sources = Sources.numbered(flux, flux_err, 0)
    table = summarise(sources, found, posterior, TRUST)
    used = thin_draws(found.draws, 256)
    for row, (first, second) in {0: (0.4, 1.0), 1: (1.0, 0.4), 4: (0.4, 1.0)}.items():
        chi2 = chi2_of(bump_forward, used.u[row], used.z[row], flux[row], flux_err[row])
        best = [chi2[np.abs(used.z[row] - centre) < 0.2].min() for centre in (first, second)]
        assert table["pae_chi2_gap"][row] == pytest.approx(best[1] - best[0], rel=1e-3, abs=1e-3)
    assert table["pae_chi2_gap"][0] > 10.0 and table["pae_chi2_gap"][1] < -10.0
    # the best draw of all is that of the better of the two
    assert table["pae_chi2_best"][0] == pytest.approx(
        chi2_of(bump_forward, used.u[0], used.z[0], flux[0], flux_err[0]).min(), rel=1e-3
    )
    assert table["pae_chi2_gap"].is_null().to_list() == [False, False, True, True, False]
    assert table["pae_z2"].is_null().to_list() == [False, False, True, True, False]
    assert table["pae_z3"].is_null().to_list() == [True, True, True, True, False]
    assert all(table.schema[name] == pl.Float32 for name in [*NAMES, "pae_chi2_gap"])
    assert table["pae_z2_weight"].to_list() == pytest.approx([0.3, 0.3, None, None, 0.24])
    assert table.select(NAMES).row(3) == (None,) * 4 and table["pae_status"][3] == "failed"


def test_a_solution_that_no_judged_draw_lies_in_is_judged_too(bump_forward):
    """Five draws of 500 in the second peak, all of them left out by the thinning to 256."""
    marked = np.arange(N, dtype=np.float32)[None]
    whole = PosteriorDraws(np.zeros((1, N, 2)), marked, np.full((1, N), 1.0 / N, np.float32), marked)
    unused = np.setdiff1d(np.arange(N), thin_draws(whole, 256).z[0].astype(int))[:5]
    z = np.empty((1, N), np.float32)
    z[0] = 0.4 + 0.02 * np.random.default_rng(2).standard_normal(N)
    z[0, unused] = 1.0 + 0.005 * np.arange(5)
    flux, flux_err = photometry(bump_forward, 1)
    found = found_of(z)
    posterior = LogPosterior(bump_forward, UniformPrior(*LIMITS))
    table = summarise(Sources.numbered(flux, flux_err, 0), found, posterior, TRUST)
    assert table["pae_z2"][0] == pytest.approx(1.01, abs=1e-3)
    assert table["pae_z2_weight"][0] == pytest.approx(0.01)
    chi2 = chi2_of(bump_forward, found.draws.u[0], z[0], flux[0], flux_err[0])
    expected = chi2[unused].min() - table["pae_chi2_best"][0]
    assert table["pae_chi2_gap"][0] == pytest.approx(expected, rel=1e-3)


def test_a_misfit_has_no_gap_since_its_pz_is_not_that_of_its_draws(bump_forward):
    z = mixture((150, 0.46, 0.001), (350, 0.4, 0.001))[None]
    flux, flux_err = photometry(bump_forward, 1)
    flux = flux[:, ::-1].copy()  # nothing that the model can be
    flux_err *= 1.5
    found = found_of(z)
    prior = UniformPrior(*LIMITS)
    posterior = LogPosterior(bump_forward, prior)
    sources = Sources.numbered(flux, flux_err, 0)
    fit = goodness(posterior, found.draws, sources, TRUST)
    assert fit.misfit[0] and 3.0 < fit.error_scale[0] < 10.0, fit.error_scale
    wide = widened(found, fit.misfit, fit.error_scale, prior, 0.5)
    table = summarise(sources, wide, posterior, TRUST, fit=fit)
    assert table["pae_status"][0] == "misfit" and table["pae_chi2_gap"].is_null()[0]
    assert table["pae_z_std"][0] > 0.5 and abs(table["pae_z_mode"][0] - 0.4) < 0.02
    np.testing.assert_allclose(table["pae_z2"].to_numpy(), leading_solutions(wide.z_kept).z[:, 1], rtol=1e-6)


def test_draws_without_a_spectrum_in_the_second_solution_leave_no_gap(bump_forward):
    """Chains keep more redshifts than spectra: the table's redshifts need not be those of the draws."""
    found = found_of(mixture((500, 0.4, 0.02))[None])
    leading = leading_solutions(mixture((10, 1.0, 0.02), (490, 0.4, 0.02))[None])
    flux, flux_err = photometry(bump_forward, 1)
    posterior, sources = (
        LogPosterior(bump_forward, UniformPrior(*LIMITS)),
        Sources.numbered(flux, flux_err, 0),
    )
    fit = goodness(posterior, found.draws, sources, TRUST)
    assert np.isfinite(leading.z[0, 1])
    assert np.isnan(chi2_gap(leading, posterior, found.draws, sources, fit)).all()


# -- another prior -----------------------------------------------------------------------------------------------------
def test_a_gap_moves_with_the_solutions():
    """Rows: the same order; changed places; the third comes second; both of one old solution; one left."""
    old = mixture((270, 0.5, 0.01), (150, 1.5, 0.01), (80, 2.5, 0.01))
    new = [
        mixture((250, 0.5, 0.01), (200, 1.5, 0.01), (50, 2.5, 0.01)),
        mixture((150, 0.5, 0.01), (270, 1.5, 0.01), (80, 2.5, 0.01)),
        mixture((270, 0.5, 0.01), (50, 1.5, 0.01), (180, 2.5, 0.01)),
        mixture((270, 0.49, 0.001), (230, 0.51, 0.001)),
        mixture((500, 0.5, 0.01)),
    ]
    before, after = leading_solutions(np.stack([old] * 5)), leading_solutions(np.stack(new))
    got = moved_gap(np.full(5, 3.0), before, after)
    assert got == pytest.approx([3.0, -3.0, np.nan, np.nan, np.nan], nan_ok=True)


def test_reweighting_moves_the_shares_by_the_ratio_of_the_priors():
    """Two narrow peaks: the new prior multiplies the share of the second by four, and it becomes the first."""
    z = np.stack([mixture((350, 0.5, 0.005), (150, 2.0, 0.005)), mixture((500, 0.5, 0.005))])
    uniform = UniformPrior(0.003, 3.0)
    rising = TabulatedPrior(
        np.array([0.003, 0.4, 0.6, 1.9, 2.1, 3.0]), np.array([1.0, 1.0, 1.0, 4.0, 4.0, 4.0])
    )
    summary = redshift_columns(z, None, z_min=0.003, z_max=3.0, prefix="pae")
    numbers = {k: v for k, v in summary.items() if v.ndim == 1 and v.dtype != bool}
    table = pl.DataFrame(numbers | leading_solutions(z).columns()).with_columns(
        pl.Series("pae_z_quantiles", summary["pae_z_quantiles"].tolist(), dtype=pl.Array(pl.Float32, 51)),
        pl.Series("pae_z_draws", z.tolist(), dtype=pl.Array(pl.Float32, N)),
        pl.Series("pae_chi2_gap", [7.5, None], dtype=pl.Float32),
    )
    got = reweight_table(table, uniform, rising)
    assert got["pae_reweight_allowed"].all()
    share = 4.0 * 0.3 / (4.0 * 0.3 + 0.7)  # of the peak at 2.0
    assert got["pae_z2"][0] == pytest.approx(0.5, abs=1e-3)
    assert got["pae_z2_weight"][0] == pytest.approx(1.0 - share, abs=1.5 / N)
    assert got["pae_chi2_gap"].to_list() == [-7.5, None]
    assert got["pae_z2"][1] is None and got["pae_z3"].null_count() == 2
    # whoever looks for peaks in the draws of the row finds the same
    kept = np.stack([row.to_numpy() for row in got["pae_z_draws"]])
    for name, values in leading_solutions(kept).columns().items():
        assert got[name].cast(pl.Float64).fill_null(np.nan).to_list() == pytest.approx(
            values.astype(np.float32).tolist(), nan_ok=True
        )
    # the same prior leaves them as they were
    same = reweight_table(table, uniform, uniform)
    assert same.select(NAMES).cast(pl.Float64).row(0) == pytest.approx((2.0, 0.3, None, None), abs=1e-5)
    assert same["pae_chi2_gap"].to_list() == [7.5, None]
    # what may not be moved has none
    low = reweight_table(table, uniform, UniformPrior(0.003, 0.3))
    assert low.select(*NAMES, "pae_chi2_gap").null_count().row(0) == (2,) * 5
    assert "pae_chi2_gap" not in reweight_table(table.drop("pae_chi2_gap"), uniform, rising).columns
