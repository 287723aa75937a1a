"""The decision of the gate: whether a challenger takes the champion's place, and why, as a pure function.

The rules and their reading stand in promotion_rules.yaml. They apply to each part of the test set, the known and the
unseen galaxies: a challenger must be as good on both, and better on one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from paeplatform.errors import InputError
from paeplatform.scores.bootstrap import resampled
from paeplatform.scores.metrics import METRICS, THROUGHPUT, Metric
from paeplatform.scores.promotion_rules import KNOWN, PART, PARTS, MetricRule, PromotionRules
from paeplatform.scores.scorecard import metric_values

_SEED = 0  # of the resampling: the same evidence gives the same verdict


@dataclass(frozen=True)
class Evidence:
    """What a model showed on the test set.

    Attributes:
        scores: of `scorecard.score_sources`, with the column part; without it, all sources are known galaxies.
        galaxies_per_hour: None when it was not measured.
        hardware: on which; rates of different hardware are not compared.
    """

    scores: pl.DataFrame
    galaxies_per_hour: float | None = None
    hardware: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the test set that sources are of, in the order of `PARTS`."""
        if PART not in self.scores.columns:
            return (KNOWN,)
        there = set(self.scores[PART].unique())
        return tuple(part for part in PARTS if part in there)

    def on(self, part: str) -> Evidence:
        """What it showed on one part; the rate stays that over all sources."""
        if PART not in self.scores.columns:
            return self
        return replace(self, scores=self.scores.filter(pl.col(PART) == part))


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
        part: of the test set.
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
    part: str = KNOWN


@dataclass(frozen=True)
class Verdict:
    """The decision.

    Attributes:
        promote: whether the challenger may become champion.
        reason: one line that names what decided, and on which part of the test set.
        metrics: in the order of the rules, first of known, then of unseen galaxies.
        passes: by part of the test set, whether the challenger is as good on it.
    """

    promote: bool
    reason: str
    metrics: tuple[MetricVerdict, ...]
    passes: Mapping[str, bool]


@dataclass(frozen=True)
class _PartVerdict:
    """The decision on one part of the test set: as good in all metrics, and better in one that may decide."""

    passes: bool
    better: bool
    reason: str
    metrics: tuple[MetricVerdict, ...]


def decide(challenger: Evidence, champion: Evidence | None, rules: PromotionRules) -> Verdict:
    """Whether a challenger takes the champion's place: as good on each part of the test set, better on one of them.

    Args:
        challenger: its evidence.
        champion: evidence on the same sources; None while there is no champion, when the absolute limits decide.
        rules: of the gate.

    Raises:
        InputError: the two were not evaluated on the same sources.
    """
    if champion is not None and not _sources(challenger).equals(_sources(champion)):
        raise InputError("challenger and champion were not evaluated on the same sources")
    verdicts = {}
    for part in challenger.parts:
        if champion is None:
            verdicts[part] = _against_limits(challenger.on(part), rules.on(part))
        else:
            verdicts[part] = _against_champion(
                challenger.on(part), champion.on(part), part, rules, len(challenger.parts)
            )
    return Verdict(
        promote=all(v.passes for v in verdicts.values()) and any(v.better for v in verdicts.values()),
        reason=_reason(verdicts),
        metrics=tuple(
            replace(row, part=part) for part, verdict in verdicts.items() for row in verdict.metrics
        ),
        passes={part: verdict.passes for part, verdict in verdicts.items()},
    )


def _sources(evidence: Evidence) -> pl.DataFrame:
    scores = evidence.scores
    return scores.select("object_id", "z_true", *([PART] if PART in scores.columns else []))


def _reason(verdicts: Mapping[str, _PartVerdict]) -> str:
    """What decided: the parts on which a challenger is worse; or else those on which it is better, or all."""
    worse = [part for part, verdict in verdicts.items() if not verdict.passes]
    better = [part for part, verdict in verdicts.items() if verdict.better]
    by_reason: dict[str, list[str]] = {}
    for part in worse or better or verdicts:
        by_reason.setdefault(verdicts[part].reason, []).append(part)
    if len(verdicts) == 1 or (not worse and len(by_reason) == 1 and len(next(iter(by_reason.values()))) > 1):
        return next(iter(by_reason))
    return "; ".join(f"{' and '.join(parts)} galaxies: {reason}" for reason, parts in by_reason.items())


def _against_champion(
    challenger: Evidence, champion: Evidence, part: str, rules: PromotionRules, n_parts: int
) -> _PartVerdict:
    rows = []
    for rule in rules.on(part):
        if rule.name == THROUGHPUT:
            rows.append(_throughput(challenger, champion, rule))
        else:
            rows.append(_paired(challenger, champion, METRICS[rule.name], rule, rules, n_parts))
    worse = [row.name for row in rows if row.passes is False]
    better = [row.name for row in rows if row.better]
    if worse:
        return _PartVerdict(False, False, f"not shown to be as good in {', '.join(worse)}", tuple(rows))
    if not better:
        named = ", ".join(rules.superiority)
        reason = f"as good in all, but not shown to be better in any of {named}"
        return _PartVerdict(True, False, reason, tuple(rows))
    return _PartVerdict(True, True, f"better in {', '.join(better)}, as good in all", tuple(rows))


def _against_limits(challenger: Evidence, rules: tuple[MetricRule, ...]) -> _PartVerdict:
    rows = []
    for rule in rules:
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
        reason = f"no champion yet, and outside the limits: {'; '.join(outside)}"
        return _PartVerdict(False, False, reason, tuple(rows))
    return _PartVerdict(True, True, "no champion yet, and within all limits", tuple(rows))


def _paired(
    challenger: Evidence,
    champion: Evidence,
    metric: Metric,
    rule: MetricRule,
    rules: PromotionRules,
    n_parts: int,
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
        # each of k metrics on each part gets its share of the risk of taking luck for a gain
        level = 1.0 - (1.0 - rules.confidence) / (len(rules.superiority) * n_parts)
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
