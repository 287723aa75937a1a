"""The figures of single sources draw, take masked bands and failed sources, and show what they are given."""

import numpy as np
import polars as pl
import pytest

from paeplatform.figures.inference import missing_bands_figure, predictive_figure, profile_figure
from paeplatform.figures.style import figure_png
from paeplatform.inference.profile_likelihood import ProfileLikelihood
from paeplatform.inference.results.predictive import Predictive

RNG = np.random.default_rng(0)
WAVE = np.linspace(0.75, 5.0, 30)


def predictive_of(n):
    median = np.full((n, 30), 20.0)
    half = np.array([1.0, 2.0])[None, :, None] * np.ones((n, 1, 30))
    low, high = median[:, None] - half, median[:, None] + half
    if n:
        median[-1], low[-1], high[-1] = np.nan, np.nan, np.nan
    chi2 = np.where(np.isfinite(median[:, 0]), 31.0, np.nan)
    return Predictive(np.array([0.6827, 0.9545]), median, low, high, chi2)


def profile_of(n):
    grid = np.linspace(0.01, 3.0, 50)
    chi2 = 30.0 + ((grid - 0.7) / 0.2) ** 2 * np.ones((n, 1))
    if n:
        chi2[-1] = np.nan
    zeros = np.zeros((n, 50))
    return ProfileLikelihood(grid, chi2, np.zeros((n, 50, 2), np.float32), zeros, zeros > 1, False)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_predictive_figure(n):
    error = np.ones((n, 30))
    error[:, 4:7] = np.inf
    flux = 20.0 + RNG.normal(size=(n, 30))
    z = RNG.normal(0.7, 0.01, size=(n, 200))
    figure = predictive_figure(
        WAVE, flux, error, predictive_of(n), z=z, z_true=np.full(n, 0.7), names=["a"] * n
    )
    assert len(figure_png(figure, dpi=40)) > 1000
    if n == 3:
        assert figure.axes[0].get_title(loc="left") == "a, χ² 31 of 27 bands"
        assert len(figure.axes) == 9


@pytest.mark.parametrize("n", [0, 1, 3])
def test_profile_figure(n):
    profile = profile_of(n)
    others = {"template fitting": (profile.z_grid, profile.chi2 + 2.0)}
    z = RNG.normal(0.7, 0.1, size=(n, 200))
    figure = profile_figure(profile, z_true=np.full(n, 0.7), posterior_z=z, others=others)
    assert len(figure_png(figure, dpi=40)) > 1000
    if n == 3:
        ours, theirs = (figure.axes[0].lines[k].get_ydata() for k in (0, 1))
        assert np.min(ours) < 0.1 and theirs - ours == pytest.approx(np.ones(50))  # half of chi^2


def test_missing_bands_figure():
    fractions = [0.0, 0.25, 0.5]
    table = pl.DataFrame(
        {
            "fraction": np.repeat(fractions, 20),
            "pae_z_std": RNG.uniform(0.01, 0.02, 60),
            "pae_z_mean": np.full(60, 0.5),
        }
    )
    names = ("median_sigma", "nmad_paper", "mean_bias", "eta_3sigma", "coverage_1sigma", "coverage_2sigma")
    summary = pl.DataFrame(
        {"fraction": fractions, "n": [20, 20, 0]} | {name: [0.1, 0.2, None] for name in names}
    )
    assert len(figure_png(missing_bands_figure(summary, table), dpi=40)) > 1000
    assert len(figure_png(missing_bands_figure(summary.head(0), table.head(0)), dpi=40)) > 1000
