"""The quality checks of releases as one page: rules with their thresholds, and what each release and cell came to."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from paeplatform.files import write_whole
from paeplatform.release.judging import suite_of
from paeplatform.release.outcomes import RuleOutcome
from paeplatform.release.quality_rules import Rule, Rules

_CSS = """
body{font:15px/1.45 system-ui,sans-serif;color:#222;max-width:1080px;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%;margin:.6rem 0 1.8rem}th,td{border-bottom:1px solid #ddd;padding:.3rem .5rem;
text-align:left;vertical-align:top}th{background:#f5f5f5}.held{color:#b3400a;font-weight:600}.passed{color:#00694c}
.warn{color:#8a6100;font-weight:600}.broken{color:#b3400a;font-weight:600}
summary{cursor:pointer;padding:.2rem 0}small{color:#666}td.n{white-space:nowrap}
"""
Outcomes = Mapping[tuple[str, str], Sequence[RuleOutcome]]  # by (release, cell key)
PAGE, SUITE = "quality.html", "cell_quality.json"


def write_data_docs(folder: Path, outcomes: Outcomes, rules: Rules) -> Path:
    """Writes quality.html (no scripts, no links outside) and the Great Expectations suite beside it.

    Args:
        folder: made when missing.
        outcomes: by (release, cell key); cell "" for the rules on the whole delivery.
        rules: what was judged by.

    Returns:
        The page's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(
        folder / SUITE, json.dumps(suite_of(rules).to_json_dict(), indent=1, sort_keys=True, default=str)
    )
    body = [_overview(outcomes), _failures(outcomes), _rules(rules), _values(outcomes)]
    text = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Quality of releases</title>"
        f"<style>{_CSS}</style></head><body><h1>Quality of releases</h1>{''.join(body)}</body></html>"
    )
    return write_whole(folder / PAGE, text)


def _overview(outcomes: Outcomes) -> str:
    rows = [
        (release, part, _verdict(found), str(len({one.rule for one in found})), _broken(found))
        for release, part, found in _parts(outcomes)
    ]
    return "<h2>What passed</h2>" + _table(("release", "part", "gate", "rules", "broken"), rows)


def _failures(outcomes: Outcomes) -> str:
    rows = [
        (release, part, one.rule, one.column, one.observed, one.expected, one.detail)
        for release, part, found in _parts(outcomes)
        for one in found
        if not one.passed
    ]
    if not rows:
        return "<h2>What failed</h2><p>Nothing.</p>"
    head = ("release", "part", "rule", "column", "observed", "expected", "detail")
    return "<h2>What failed</h2>" + _table(head, rows)


def _rules(rules: Rules) -> str:
    rows = [(rule.name, rule.level, rule.severity, _range(rule), rule.what, rule.why) for rule in rules.rules]
    head = ("rule", "level", "severity", "accepted", "what is judged", "why")
    return "<h2>The rules</h2>" + _table(head, rows)


def _values(outcomes: Outcomes) -> str:
    """What every rule saw in every part, folded away; of a rule with many groups the range of values."""
    shown = []
    for release, part, found in _parts(outcomes):
        by_rule: dict[str, list[RuleOutcome]] = {}
        for one in found:
            by_rule.setdefault(one.rule, []).append(one)
        rows = [
            (name, _spread(ones), ones[0].expected if len({one.expected for one in ones}) == 1 else "each its own",
             str(len(ones)), "passed" if all(one.passed for one in ones) else "broken")
            for name, ones in by_rule.items()
        ]  # fmt: skip
        table = _table(("rule", "observed", "accepted", "judged", "outcome"), rows)
        title = html.escape(f"{release}, {part}")
        shown.append(f"<details><summary>{title}</summary>{table}</details>")
    return "<h2>What was seen</h2>" + "".join(shown)


def _parts(outcomes: Outcomes) -> list[tuple[str, str, Sequence[RuleOutcome]]]:
    """(release, cell or the whole delivery, what was found), in order."""
    return [(release, cell or "whole delivery", found) for (release, cell), found in sorted(outcomes.items())]


def _spread(ones: Sequence[RuleOutcome]) -> str:
    try:
        values = sorted((float(one.observed), one.observed) for one in ones)
    except ValueError:  # words
        return "; ".join(dict.fromkeys(one.observed for one in ones))[:200]
    return values[0][1] if len(values) == 1 else f"{values[0][1]} to {values[-1][1]}"


def _range(rule: Rule) -> str:
    parts = []
    if rule.low is not None and rule.high is not None:
        parts.append(f"{rule.low:g} to {rule.high:g}")
    elif rule.low is not None or rule.high is not None:
        parts.append(f"at least {rule.low:g}" if rule.high is None else f"at most {rule.high:g}")
    if rule.drift is not None:
        parts.append(f"{'then ' if parts else ''}within {rule.drift:g} of the release before")
    if rule.sigmas:
        parts.append(f"widened by {rule.sigmas:g} standard errors")
    return ", ".join(parts) or "holds or not"


def _verdict(found: Sequence[RuleOutcome]) -> str:
    failed = {one.severity for one in found if not one.passed}
    return "held" if "error" in failed else "warn" if failed else "passed"


def _broken(found: Sequence[RuleOutcome]) -> str:
    return ", ".join(sorted({one.rule for one in found if not one.passed}))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def cell(text: str) -> str:
        kind = f" class='{text}'" if text in ("held", "passed", "warn", "broken") else ""
        return f"<td{kind}>{html.escape(text)}</td>"

    body = "".join("<tr>" + "".join(map(cell, row)) + "</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>{body}</table>"
