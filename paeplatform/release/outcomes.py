"""What a quality rule found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RuleOutcome:
    """One rule's judgement of one thing.

    Attributes:
        rule: name in quality_rules.yaml, like errors.depth.
        level: "release" or "cell": what a failed error holds.
        severity: "error" holds it, "warn" only says so.
        passed: whether all is well.
        column: judged, or the part of the manifest.
        observed: what was found, as text.
        expected: the accepted range, as text.
        detail: detector, file, or why nothing was judged.
    """

    rule: str
    level: str
    severity: str
    passed: bool
    column: str
    observed: str
    expected: str
    detail: str = ""
