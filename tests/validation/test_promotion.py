"""The gate's decision on made-up models of known quality, and the file of its rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from paeplatform.errors import ConfigError, InputError
from paeplatform.scores.metrics import GATE_METRICS
from paeplatform.scores.promotion import Evidence, Verdict, decide
from paeplatform.scores.promotion_rules import JUDGED, PACKAGED, PromotionRules, load_promotion_rules
from paeplatform.scores.scorecard import score_sources

LEVELS = np.linspace(0.01, 0.99, 51)
RULES = load_promotion_rules()
N = 1500


def model(
    scatter: float = 0.02, quoted: float | None = None, bias: float = 0.0, failed: float = 0.0, noise: int = 1
) -> Evidence:
    """Gaussian posteriors of a survey of fixed truths. The errors of two models are alike in part, as on real data."""
    truth, shared = np.random.default_rng(0), np.random.default_rng(99)
    z_true = truth.uniform(0.1, 2.0, N)
    own = np.random.default_rng(noise)
    draw = 0.8 * shared.standard_normal(N) + 0.6 * own.standard_normal(N)
    z_hat = z_true + (bias + scatter * draw) * (1 + z_true)
    sigma = (quoted or scatter) * (1 + z_true)
    quantiles = z_hat[:, None] + sigma[:, None] * stats.norm.ppf(LEVELS)
    gone = np.random.default_rng(5).random(N) < failed
    rows = pl.DataFrame(
        {
            "object_id": np.arange(N),
            "z_true": z_true,
            "pae_z_mean": np.where(gone, np.nan, z_hat),
            "pae_z_std": np.where(gone, np.nan, sigma),
            "pae_z_quantiles": pl.Series(
                np.where(gone[:, None], np.nan, quantiles), dtype=pl.Array(pl.Float64, 51)
            ),
            "pae_status": np.where(gone, "failed", "converged"),
        }
    )
    return Evidence(score_sources(rows, LEVELS, prefix="pae", z_range=(0.0, 3.0)), 1000.0, "cpu x2")


def two_parts(known: Evidence, unseen: Evidence) -> Evidence:
    """One evidence of two made-up models, one for each part of the test set."""
    later = unseen.scores.with_columns(pl.col("object_id") + 10_000)
    scores = [
        table.with_columns(part=pl.lit(part)) for part, table in (("known", known.scores), ("unseen", later))
    ]
    return replace(known, scores=pl.concat(scores))


def blamed(verdict: Verdict) -> set[str]:
    return {row.name for row in verdict.metrics if row.passes is False}


CHAMPION = model()


def test_a_better_model_is_promoted_and_says_why():
    verdict = decide(model(scatter=0.016, noise=2), CHAMPION, RULES)
    assert verdict.promote, verdict.reason
    assert verdict.reason.startswith("better in nmad_paper, crps, log_score")
    assert [row.name for row in verdict.metrics] == list(JUDGED)
    scatter = verdict.metrics[0]
    assert scatter.challenger < scatter.champion and scatter.excess < 0 and scatter.better


def test_the_champion_again_is_as_good_but_not_better():
    verdict = decide(CHAMPION, CHAMPION, RULES)
    assert not verdict.promote and blamed(verdict) == set()
    assert verdict.reason == (
        "as good in all, but not shown to be better in any of nmad_paper, crps, log_score"
    )


def test_a_worse_model_is_rejected_with_each_metric_named():
    verdict = decide(model(scatter=0.03, noise=2), CHAMPION, RULES)
    assert not verdict.promote
    assert {"nmad_paper", "nmad_usual", "crps", "log_score"} <= blamed(verdict)
    assert verdict.reason.startswith("not shown to be as good in nmad_paper, nmad_usual")
    assert "allowed" in verdict.metrics[0].reason


@pytest.mark.parametrize(
    ("challenger", "named"),
    [
        (model(scatter=0.016, quoted=0.008, noise=2), {"coverage_68", "pit_ks"}),  # overconfident
        (model(scatter=0.016, quoted=0.05, noise=2), {"coverage_50", "pit_ks"}),  # underconfident
        (model(scatter=0.016, bias=0.01, noise=2), {"mean_bias"}),
        (model(scatter=0.016, failed=0.05, noise=2), {"usable"}),  # drops sources
        (replace(model(scatter=0.016, noise=2), galaxies_per_hour=400.0), {"galaxies_per_hour"}),
    ],
    ids=["narrow", "wide", "biased", "incomplete", "slow"],
)
def test_a_gain_in_scatter_does_not_buy_a_loss_elsewhere(challenger: Evidence, named: set[str]):
    verdict = decide(challenger, CHAMPION, RULES)
    assert not verdict.promote
    assert named <= blamed(verdict)


def test_rates_of_other_hardware_are_not_compared():
    slow = replace(model(scatter=0.016, noise=2), galaxies_per_hour=1.0, hardware="another")
    verdict = decide(slow, CHAMPION, RULES)
    assert verdict.promote
    assert verdict.metrics[-1].passes is None and "other hardware" in verdict.metrics[-1].reason


def test_few_sources_prove_nothing():
    def first(evidence: Evidence, n: int) -> Evidence:
        return replace(evidence, scores=evidence.scores.head(n))

    assert not decide(first(model(scatter=0.019, noise=2), 40), first(CHAMPION, 40), RULES).promote
    nothing = first(CHAMPION, 1)
    assert set(GATE_METRICS) - {"usable", "trusted"} <= blamed(decide(nothing, nothing, RULES)) | {
        "usable",
        "trusted",
    }


def test_luck_passes_as_a_gain_no_more_often_than_stated():
    """Models that are equal but for chance: a gain in any of `superiority` is found in 5 % of pairs, or less."""
    rules = RULES.model_copy(update={"resamples": 300})
    pairs = [(model(noise=10 + i), model(noise=60 + i)) for i in range(30)]
    gains = sum(any(row.better for row in decide(*pair, rules).metrics) for pair in pairs)
    assert gains <= 5  # binomial(30, 0.05) exceeds it once in 300


def test_without_a_champion_absolute_limits_decide():
    verdict = decide(CHAMPION, None, RULES)
    assert verdict.promote and verdict.reason == "no champion yet, and within all limits"
    poor = decide(model(scatter=0.2), None, RULES)
    assert not poor.promote
    assert "nmad_paper 0.1" in poor.reason and "accepted at most 0.1" in poor.reason
    assert {row.passes for row in poor.metrics} == {True, False, None}


def test_other_sources_are_refused():
    other = replace(CHAMPION, scores=CHAMPION.scores.with_columns(pl.col("object_id") + 1))
    with pytest.raises(InputError, match="same sources"):
        decide(other, CHAMPION, RULES)


def test_the_same_evidence_gives_the_same_verdict():
    challenger = model(scatter=0.018, noise=2)
    assert decide(challenger, CHAMPION, RULES) == decide(challenger, CHAMPION, RULES)


BETTER, WORSE = model(scatter=0.016, noise=2), model(scatter=0.03, noise=2)
BOTH = two_parts(CHAMPION, CHAMPION)


def test_a_gain_on_known_galaxies_does_not_buy_a_loss_on_unseen_ones():
    verdict = decide(two_parts(BETTER, WORSE), BOTH, RULES)
    assert not verdict.promote and dict(verdict.passes) == {"known": True, "unseen": False}
    assert verdict.reason.startswith("unseen galaxies: not shown to be as good in nmad_paper")
    assert "known galaxies: better" not in verdict.reason
    assert {row.part for row in verdict.metrics if row.passes is False} == {"unseen"}
    other = decide(two_parts(WORSE, BETTER), BOTH, RULES)
    assert not other.promote and dict(other.passes) == {"known": False, "unseen": True}
    assert other.reason.startswith("known galaxies: not shown to be as good in nmad_paper")


def test_a_challenger_must_be_as_good_on_both_parts_and_better_on_one():
    verdict = decide(two_parts(BETTER, BETTER), BOTH, RULES)
    assert verdict.promote and verdict.reason == decide(BETTER, CHAMPION, RULES).reason
    assert [(row.part, row.name) for row in verdict.metrics] == [
        *(("known", name) for name in JUDGED),
        *(("unseen", name) for name in GATE_METRICS),
    ], "the rate is judged once"
    for challenger, part in ((two_parts(BETTER, CHAMPION), "known"), (two_parts(CHAMPION, BETTER), "unseen")):
        one = decide(challenger, BOTH, RULES)
        assert one.promote and dict(one.passes) == {"known": True, "unseen": True}
        assert one.reason.startswith(f"{part} galaxies: better in ")
    neither = decide(BOTH, BOTH, RULES)
    assert not neither.promote and dict(neither.passes) == {"known": True, "unseen": True}
    assert neither.reason.startswith("as good in all, but not")


def test_each_part_is_judged_as_it_is_alone():
    verdict = decide(two_parts(BETTER, WORSE), BOTH, RULES)
    for part, challenger in (("known", BETTER), ("unseen", WORSE)):
        alone = [row for row in decide(challenger, CHAMPION, RULES).metrics if row.name in GATE_METRICS]
        found = [row for row in verdict.metrics if row.part == part and row.name in GATE_METRICS]
        assert [replace(row, part="known") for row in found] == alone


def test_the_limits_of_a_first_champion_hold_on_both_parts():
    assert decide(BOTH, None, RULES).reason == "no champion yet, and within all limits"
    poor = decide(two_parts(CHAMPION, model(scatter=0.2)), None, RULES)
    assert not poor.promote and dict(poor.passes) == {"known": True, "unseen": False}
    assert poor.reason.startswith("unseen galaxies: no champion yet, and outside the limits: nmad_paper 0.1")


def test_a_slow_challenger_is_blamed_once():
    verdict = decide(replace(two_parts(BETTER, BETTER), galaxies_per_hour=400.0), BOTH, RULES)
    assert not verdict.promote and verdict.reason == (
        "known galaxies: not shown to be as good in galaxies_per_hour"
    )


def test_sources_of_another_part_are_other_sources():
    swapped = BOTH.scores.with_columns(part=pl.lit("known"))
    with pytest.raises(InputError, match="same sources"):
        decide(replace(BOTH, scores=swapped), BOTH, RULES)
    with pytest.raises(InputError, match="same sources"):
        decide(replace(BOTH, scores=BOTH.scores.drop("part")), BOTH, RULES)


def test_unseen_galaxies_may_have_limits_of_their_own(tmp_path: Path):
    text, path = PACKAGED.read_text(), tmp_path / "rules.yaml"
    old = "name: nmad_paper, margin: 0.10, relative: true, high: 0.15"
    assert old in text
    path.write_text(text.replace(old, f"{old}, unseen: {{margin: 5.0, high: 0.9}}"))
    rules = load_promotion_rules(path)
    known, unseen = rules.on("known")[0], rules.on("unseen")[0]
    assert (known.margin, known.high, unseen.margin, unseen.high) == (0.1, 0.15, 5.0, 0.9)
    assert unseen.relative and unseen.low is None
    worse = two_parts(CHAMPION, WORSE)
    assert ("unseen", "nmad_paper") in failures(decide(worse, BOTH, RULES))
    assert ("unseen", "nmad_paper") not in failures(decide(worse, BOTH, rules))
    assert ("known", "nmad_paper") in failures(decide(two_parts(WORSE, CHAMPION), BOTH, rules))
    for number, (own, said) in enumerate(
        [("low: 0.5", r"nmad_paper: low 0.5 is above high 0.15"), ("relative: false", "relative")]
    ):
        broken = tmp_path / f"{number}.yaml"
        broken.write_text(text.replace(old, f"{old}, unseen: {{{own}}}"))
        with pytest.raises(ConfigError, match=said):
            load_promotion_rules(broken)


def failures(verdict: Verdict) -> set[tuple[str, str]]:
    return {(row.part, row.name) for row in verdict.metrics if row.passes is False}


def test_the_packaged_rules_judge_every_metric_once():
    assert tuple(rule.name for rule in RULES.metrics) == JUDGED
    assert all(rule.what and rule.why for rule in RULES.metrics)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("confidence: 0.95", "confidence: 1.5", "confidence"),
        ("confidence: 0.95", "surprise: 1", "surprise"),
        ("margin: 0.003, low: -0.05, high: 0.05", "margin: -1, low: -0.05, high: 0.05", "margin"),
        ("low: -0.05, high: 0.05", "low: 0.05, high: -0.05", "low 0.05 is above high -0.05"),
        ("name: nmad_usual", "name: nmad_paper", "listed twice: nmad_paper; missing: nmad_usual"),
        ("name: crps", "name: cprs", "unknown: cprs; missing: crps"),
        ("[nmad_paper, crps, log_score]", "[galaxies_per_hour]", "superiority galaxies_per_hour"),
        ("metrics:", "metrics: [", "promotion rules"),
    ],
)
def test_a_broken_file_of_rules_is_one_line(tmp_path: Path, old: str, new: str, said: str):
    text = PACKAGED.read_text()
    assert old in text
    path = tmp_path / "rules.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_promotion_rules(path)
    assert said in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_of_rules_is_one_line(tmp_path: Path):
    with pytest.raises(ConfigError, match="No such file"):
        load_promotion_rules(tmp_path / "none.yaml")
    assert isinstance(RULES, PromotionRules)
