"""The quality rules as Dagster asset checks: one check a rule, blocking where the rule is an error."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from paeplatform.assets.recording.provenance import first_three

if TYPE_CHECKING:
    from paeplatform.release.outcomes import RuleOutcome

ERROR = "error"


def check_name(rule: str) -> str:
    """A rule's name as Dagster allows it: errors.depth is errors_depth."""
    return rule.replace(".", "_")


def check_specs(asset: str, level: str, partitions: dg.PartitionsDefinition) -> list[dg.AssetCheckSpec]:
    """The checks of an asset whose partitions are judged by the rules of a level, "release" or "cell"."""
    from paeplatform.release.quality_rules import load_rules

    return [
        dg.AssetCheckSpec(
            check_name(rule.name),
            asset=asset,
            description=rule.what,
            blocking=rule.severity == ERROR,
            partitions_def=partitions,
        )
        for rule in load_rules().of_level(level)
    ]


def check_results(asset: str, level: str, outcomes: "Sequence[RuleOutcome]") -> Iterator[dg.AssetCheckResult]:
    """One result a rule of the level; a rule may have several outcomes (detectors, files), of which the worst shows."""
    from paeplatform.release.quality_rules import load_rules

    for rule in load_rules().of_level(level):
        here = [outcome for outcome in outcomes if outcome.rule == rule.name]
        failed = [outcome for outcome in here if not outcome.passed]
        shown = (failed or here)[:10]
        yield dg.AssetCheckResult(
            asset_key=asset,
            check_name=check_name(rule.name),
            passed=not failed,
            severity=dg.AssetCheckSeverity.ERROR if rule.severity == ERROR else dg.AssetCheckSeverity.WARN,
            description=_sentence(failed[0]) if failed else None,
            metadata={
                "rule": rule.name,
                "column": ", ".join(dict.fromkeys(outcome.column for outcome in shown)),
                "observed": "; ".join(str(outcome.observed) for outcome in shown),
                "expected": "; ".join(dict.fromkeys(str(outcome.expected) for outcome in shown)),
                "detail": "; ".join(outcome.detail for outcome in shown if outcome.detail),
                "judged": len(here),
                "failed": len(failed),
            },
        )


def broken(outcomes: "Sequence[RuleOutcome]") -> list[str]:
    """One sentence for each failed rule that is an error."""
    return [_sentence(one) for one in outcomes if not one.passed and one.severity == ERROR]


class Held(dg.Failure):
    """The quality gate holds a delivery or a cell. A step that ends with it is not retried: the data stay the same.

    Args:
        what: is held, like "release qr3-week1".
        faults: one sentence each, with rule, observed and expected value; the first three are shown.
        remedy: what to do, when that is not obvious.
    """

    def __init__(self, what: str, faults: "Sequence[str]", remedy: str = "") -> None:
        super().__init__(f"{what} is held: {first_three(faults)}{remedy}", allow_retries=False)


def _sentence(outcome: "RuleOutcome") -> str:
    return f"{outcome.rule}: {outcome.column} {outcome.observed}, expected {outcome.expected}" + (
        f" ({outcome.detail})" if outcome.detail else ""
    )
