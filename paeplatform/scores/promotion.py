"""The decision of the gate: whether a challenger takes the champion's place, and why, as a pure function.

The rules and their reading stand in promotion_rules.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from paeplatform.errors import InputError
from paeplatform.scores.bootstrap import resampled
from paeplatform.scores.metrics import METRICS, THROUGHPUT, Metric
from paeplatform.scores.promotion_rules import MetricRule, PromotionRules
from paeplatform.scores.scorecard import metric_values

_SEED = 0  # of the resampling: the same evidence gives the same verdict


@dataclass(frozen=True)
class Evidence:
    """What a model showed on the test set.

    Attributes:
        scores: of `scorecard.score_sources`.
        galaxies_per_hour: None when it was not measured.
        hardware: on which; rates of different hardware are not compared.
    """

    scores: pl.DataFrame
    galaxies_per_hour: float | None = None
    hardware: str = ""


@dataclass(frozen=True)
class MetricVerdict:
    """One metric's part in the decision.

    Attributes:
        name: of the metric.
        challenger, champion: values; None where there is none.
        excess: the challenger's loss minus the champion's; None without a champion.
        at_most: upper bound of that, with the rules' confidence.
        allowed: the margin in units of the loss.
        passes: whether it stands in the way of nothing; None when it was not judged.
        better: whether the challenger is shown to be better; False for metrics that may not decide it.
        reason: in words.
    """

    name: str
    challenger: float | None
    champion: float | None
    excess: float | None
    at_most: float | None
    allowed: float | None
    passes: bool | None
    better: bool
    reason: str


@dataclass(frozen=True)
class Verdict:
    """The decision.

    Attributes:
        promote: whether the challenger may become champion.
        reason: one line that names what decided.
        metrics: in the order of the rules.
    """

    promote: bool
    reason: str
    metrics: tuple[MetricVerdict, ...]


def decide(challenger: Evidence, champion: Evidence | None, rules: PromotionRules) -> Verdict:
    """Whether a challenger takes the champion's place.

    Args:
        challenger: its evidence.
        champion: evidence on the same sources; None while there is no champion, when the absolute limits decide.
        rules: of the gate.

    Raises:
        InputError: the two were not evaluated on the same sources.
    """
    if champion is None:
        return _against_limits(challenger, rules)
    if not challenger.scores.select("object_id", "z_true").equals(
        champion.scores.select("object_id", "z_true")
    ):
        raise InputError("challenger and champion were not evaluated on the same sources")
    rows = []
    for rule in rules.metrics:
        if rule.name == THROUGHPUT:
            rows.append(_throughput(challenger, champion, rule))
        else:
            rows.append(_paired(challenger, champion, METRICS[rule.name], rule, rules))
    worse = [row.name for row in rows if row.passes is False]
    better = [row.name for row in rows if row.better]
    if worse:
        return Verdict(False, f"not shown to be as good in {', '.join(worse)}", tuple(rows))
    if not better:
        named = ", ".join(rules.superiority)
        return Verdict(False, f"as good in all, but not shown to be better in any of {named}", tuple(rows))
    return Verdict(True, f"better in {', '.join(better)}, as good in all", tuple(rows))


def _against_limits(challenger: Evidence, rules: PromotionRules) -> Verdict:
    rows = []
    for rule in rules.metrics:
        if rule.name == THROUGHPUT:
            value = challenger.galaxies_per_hour
        else:
            metric = METRICS[rule.name]
            values = metric_values(challenger.scores, metric)
            value = float(metric.statistic(values)) if values.size else None
        limited = rule.low is not None or rule.high is not None
        passes = None if not limited else value is not None and rule.within(value)
        wanted = f"accepted {rule.limits_text()}"
        reason = wanted if passes is not False else f"outside: {_text(value)}, {wanted}"
        rows.append(MetricVerdict(rule.name, value, None, None, None, None, passes, False, reason))
    outside = [f"{row.name} {row.reason.removeprefix('outside: ')}" for row in rows if row.passes is False]
    if outside:
        return Verdict(False, f"no champion yet, and outside the limits: {'; '.join(outside)}", tuple(rows))
    return Verdict(True, "no champion yet, and within all limits", tuple(rows))


def _paired(
    challenger: Evidence, champion: Evidence, metric: Metric, rule: MetricRule, rules: PromotionRules
) -> MetricVerdict:
    ours, theirs = _common(challenger.scores, champion.scores, metric)
    if ours.size < 2:
        return MetricVerdict(
            rule.name, None, None, None, None, None, False, False, "fewer than two sources to compare"
        )
    value, reference = float(metric.statistic(ours)), float(metric.statistic(theirs))
    loss, loss_reference = float(metric.loss(value)), float(metric.loss(reference))

    def excess_loss(both: NDArray[np.float64]) -> NDArray[np.float64]:
        return metric.loss(metric.statistic(both[0])) - metric.loss(metric.statistic(both[1]))

    drawn = resampled(np.stack([ours, theirs]), excess_loss, rules.resamples, _SEED)
    at_most = float(np.quantile(drawn, rules.confidence))
    allowed = rule.margin * abs(loss_reference) if rule.relative else rule.margin
    passes = at_most <= allowed
    better = False
    if rule.name in rules.superiority:
        # each of k metrics gets a k-th of the risk of taking luck for a gain
        level = 1.0 - (1.0 - rules.confidence) / len(rules.superiority)
        better = float(np.quantile(drawn, level)) < 0.0
    excess = loss - loss_reference
    sure = f"with {100 * rules.confidence:g} % confidence"
    if not passes:
        reason = f"worse by {excess:.3g}, by at most {at_most:.3g} {sure}; allowed {allowed:.3g}"
    elif better:
        reason = f"better by {-excess:.3g}"
    else:
        reason = f"worse by at most {at_most:.3g} {sure}; allowed {allowed:.3g}"
    return MetricVerdict(rule.name, value, reference, excess, at_most, allowed, passes, better, reason)


def _common(
    ours: pl.DataFrame, theirs: pl.DataFrame, metric: Metric
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The metric's column for sources that both models answer; all of them for one that counts answers."""
    if metric.of_all:
        return ours[metric.column].to_numpy(), theirs[metric.column].to_numpy()
    both = (ours["usable"] > 0.0) & (theirs["usable"] > 0.0)
    return ours.filter(both)[metric.column].to_numpy(), theirs.filter(both)[metric.column].to_numpy()


def _throughput(challenger: Evidence, champion: Evidence, rule: MetricRule) -> MetricVerdict:
    ours, theirs = challenger.galaxies_per_hour, champion.galaxies_per_hour
    if ours is None or theirs is None or challenger.hardware != champion.hardware:
        why = "not measured" if ours is None or theirs is None else "measured on other hardware: not compared"
        return MetricVerdict(rule.name, ours, theirs, None, None, None, None, False, why)
    excess = theirs - ours
    allowed = rule.margin * theirs if rule.relative else rule.margin
    passes = excess <= allowed
    reason = f"{100 * ours / theirs:.0f} % of the champion's rate"
    if not passes:
        reason += f", at least {100 * (theirs - allowed) / theirs:.0f} % asked"
    return MetricVerdict(rule.name, ours, theirs, excess, excess, allowed, passes, False, reason)


def _text(value: float | None) -> str:
    return "no value" if value is None else f"{value:.4g}"
