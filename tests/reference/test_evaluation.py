"""Galaxies that are no template, and what the methods show on test sources."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from paeplatform.catalog.mock import classify_templates
from paeplatform.config import Preset, load_preset
from paeplatform.instrument.bands import load_bands
from paeplatform.reference.evaluation import (
    MIXTURES,
    TEMPLATES,
    JudgedSources,
    figures_of,
    judged_sources,
    mixed_library,
)
from paeplatform.scores.metrics import METRICS
from paeplatform.scores.promotion import Evidence
from paeplatform.scores.promotion_rules import load_promotion_rules
from paeplatform.scores.scorecard import metric_values, score_sources
from paeplatform.sed.library import TemplateLibrary, load_library, mean_flux
from tests.small_reference import TINY
from tests.validation.conftest import LEVELS, made_up_posteriors


@pytest.fixture(scope="module")
def library() -> TemplateLibrary:
    return load_library()


@pytest.fixture(scope="module")
def mixed(library: TemplateLibrary) -> TemplateLibrary:
    return mixed_library(library, 3)


def test_mixtures_have_mean_one_and_the_types_of_the_library(
    library: TemplateLibrary, mixed: TemplateLibrary
) -> None:
    assert len(mixed) == len(library) and len(set(mixed.name)) == len(mixed)
    means = [mean_flux(wave, flux, 0.1, 5.0) for wave, flux in zip(mixed.wave, mixed.flux, strict=True)]
    np.testing.assert_allclose(means, 1.0, rtol=1e-6)
    np.testing.assert_array_equal(classify_templates(mixed), classify_templates(library))
    for wave, flux in zip(mixed.wave, mixed.flux, strict=True):
        assert np.all(np.diff(wave) > 0) and wave[0] <= 0.1 and wave[-1] >= 5.0 and np.all(flux >= 0)


def test_each_is_a_weighted_sum_of_the_two_that_its_name_says(
    library: TemplateLibrary, mixed: TemplateLibrary
) -> None:
    """The share is solved for by least squares on a grid of its own; no residual may be left."""
    place = {name: row for row, name in enumerate(library.name)}
    grid, shares = np.linspace(0.15, 4.9, 3000), []
    for row in range(0, len(mixed), 13):
        first, second = mixed.name[row].removeprefix("mixture/").split(" & ")
        assert first == library.name[row] and second != first
        parts = [np.interp(grid, library.wave[place[n]], library.flux[place[n]]) for n in (first, second)]
        found = np.interp(grid, mixed.wave[row], mixed.flux[row])
        share = np.dot(found - parts[1], parts[0] - parts[1]) / np.dot(*[parts[0] - parts[1]] * 2)
        np.testing.assert_allclose(found, share * parts[0] + (1 - share) * parts[1], rtol=1e-9, atol=1e-12)
        shares.append(share)
    assert min(shares) >= 0.3 and max(shares) <= 0.7 and np.std(shares) > 0.05


def test_the_seed_decides_the_mixtures(library: TemplateLibrary, mixed: TemplateLibrary) -> None:
    assert mixed_library(library, 3).content_hash() == mixed.content_hash()
    assert mixed_library(library, 4).name != mixed.name


def test_a_template_that_is_alone_in_its_type_gets_a_partner_of_another(library: TemplateLibrary) -> None:
    kinds = classify_templates(library)
    rows = [int(np.flatnonzero(kinds == kind)[0]) for kind in (0, 3)]
    two = TemplateLibrary(*(tuple(getattr(library, n)[r] for r in rows) for n in vars(library)))
    names = [name.removeprefix("mixture/").split(" & ") for name in mixed_library(two, 1).name]
    assert names == [list(two.name), list(reversed(two.name))]


@pytest.fixture(scope="module")
def preset() -> Preset:
    return load_preset(TINY)


def test_both_test_sets_hold_the_same_galaxies_with_other_spectra(preset: Preset) -> None:
    sets = judged_sources(preset, load_bands())
    one, other = sets[TEMPLATES].table, sets[MIXTURES].table
    assert one.height == preset.promotion.n_sources and other.height == preset.promotion.n_sources
    assert (
        other["template"].str.starts_with("mixture/").all()
        and not one["template"].str.contains("mixture").any()
    )
    both = one.join(other, on="object_id", suffix="_mixed")
    assert both.height > 0.8 * one.height, "of the same catalogue; the limit in z_AB moves a few"
    assert (both["z_true"] == both["z_true_mixed"]).all()
    assert (both["galaxy_type"] == both["galaxy_type_mixed"]).all()
    flux, mixed = (both[name].to_numpy() for name in ("flux", "flux_mixed"))
    change = np.abs(flux - mixed).max(axis=1)  # their noise is the same
    assert (change > 0.0).all() and change.max() > np.median(both["flux_err"].to_numpy())
    from paeplatform.scores.frozen_sources import draw_test_sources

    assert one.equals(draw_test_sources(preset, load_library(), load_bands())), "the frozen test set itself"


def test_the_figures_are_the_metrics_of_the_scores() -> None:
    rows = made_up_posteriors(200)
    scores = score_sources(rows, LEVELS, prefix="pae", z_range=(0.003, 3.0))
    sources = JudgedSources("made up", rows.select(pl.col("object_id")))
    found = figures_of(sources, {"pae": Evidence(scores)}, load_promotion_rules())
    assert (found.what, found.sources, set(found.methods)) == ("made up", 200, {"pae"})
    for name, interval in found.methods["pae"].items():
        metric = METRICS[name]
        assert interval.value == pytest.approx(float(metric.statistic(metric_values(scores, metric))))
        assert interval.low <= interval.value <= interval.high
    assert {"nmad_paper", "crps", "usable", "trusted"} <= set(found.methods["pae"])
