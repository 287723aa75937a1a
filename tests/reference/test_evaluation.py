"""The sources that the reference model is measured on, and its figures on each part of them."""

from __future__ import annotations

import polars as pl
import pytest

from paeplatform.config import load_preset
from paeplatform.instrument.bands import load_bands
from paeplatform.reference.evaluation import described, figures_of, judged_sources
from paeplatform.scores.frozen_sources import draw_test_sources
from paeplatform.scores.metrics import METRICS
from paeplatform.scores.promotion import Evidence
from paeplatform.scores.promotion_rules import load_promotion_rules
from paeplatform.scores.scorecard import metric_values, score_sources
from paeplatform.sed.library import load_library
from tests.small_reference import TINY
from tests.validation.conftest import LEVELS, made_up_posteriors


def test_the_sources_are_the_frozen_test_set() -> None:
    preset = load_preset(TINY)
    found = judged_sources(preset, load_bands())
    assert found.equals(draw_test_sources(preset, load_library(), load_bands()))
    what = described(preset, 160)
    assert set(what) == set(found["part"]) and "the 160 templates" in what["known"]
    assert "composites that no training makes" in what["unseen"]


def test_the_figures_are_the_metrics_of_the_scores_of_each_part() -> None:
    rows = made_up_posteriors(400)
    scores = score_sources(rows, LEVELS, prefix="pae", z_range=(0.003, 3.0))
    scores = scores.with_columns(
        part=pl.when(pl.int_range(pl.len()) < 200).then(pl.lit("known")).otherwise(pl.lit("unseen"))
    )
    figures = figures_of(
        {"known": "made up", "unseen": "made up too"}, {"pae": Evidence(scores)}, load_promotion_rules()
    )
    assert list(figures) == ["known", "unseen"]
    for part, words, n in (("known", "made up", 200), ("unseen", "made up too", 200)):
        found = figures[part]
        assert (found.what, found.sources, set(found.methods)) == (words, n, {"pae"})
        of_part = scores.filter(pl.col("part") == part)
        for name, interval in found.methods["pae"].items():
            metric = METRICS[name]
            assert interval.value == pytest.approx(float(metric.statistic(metric_values(of_part, metric))))
            assert interval.low <= interval.value <= interval.high
        assert {"nmad_paper", "crps", "usable", "trusted"} <= set(found.methods["pae"])
