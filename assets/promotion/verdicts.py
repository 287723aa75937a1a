"""The gate's verdict on a version: reached, carried out and written down in MLflow and Dagster."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from paeplatform.assets.promotion.evaluation import Inputs, evaluate, rules_of
from paeplatform.assets.promotion.gated import Gated
from paeplatform.assets.recording.metadata import markdown_table, model_links
from paeplatform.resources.champions import DEMOTED_AT, DEMOTED_BY, GATE, Champions
from paeplatform.resources.registry import CHALLENGER, ModelVersion

if TYPE_CHECKING:
    from paeplatform.scores.promotion import Verdict

VERDICT, VERDICT_REASON, VERDICT_AGAINST, VERDICT_AT = (
    "verdict",
    "verdict_reason",
    "verdict_against",
    "verdict_at",
)
VERDICT_PARTS = "verdict_parts"  # since the test set has two; versions judged before do not have it
PROMOTED, REJECTED, LEFT = "promoted", "rejected", "left alone"
LIMITS = "limits"


@dataclass(frozen=True)
class Judged:
    """A verdict and what came of it.

    Attributes:
        model: the version judged.
        outcome: PROMOTED, REJECTED, or LEFT when it was not the gate's to decide.
        reason: one line.
        against: the champion it was held against, as "v1", or LIMITS.
        verdict: of the rules; None when nothing was compared.
    """

    model: ModelVersion
    outcome: str
    reason: str
    against: str
    verdict: "Verdict | None"


def judge_challenger(kind: Gated, model: ModelVersion, inputs: Inputs) -> Judged:
    """What the automation does with a version: promotes it, rejects it, or leaves it alone.

    Only a version that is @challenger is judged, and never one that was champion before: whoever took it down, by hand
    or by a rollback, had a reason. Nor is a champion replaced that was taken down without another in its place.

    Raises:
        dagster.Failure: the champion cannot be evaluated.
    """
    champions = Champions(inputs.registry, kind.name)
    why = _not_for_the_gate(model, champions, inputs)
    if why is not None:
        return Judged(model, LEFT, why, "", None)
    against, verdict = hold_against_champion(kind, model, inputs)
    judged = record_verdict(model, verdict, against, inputs, promoted=verdict.promote)
    if verdict.promote:  # last: what comes to nothing before it is judged again
        champions.promote(model.version, GATE, verdict.reason)
    return judged


def hold_against_champion(kind: Gated, model: ModelVersion, inputs: Inputs) -> tuple[str, "Verdict"]:
    """(what the version was held against, the verdict), each evaluated first where that is missing.

    Raises:
        dagster.Failure: one of the two cannot be evaluated.
    """
    from paeplatform.scores.promotion import decide

    rules = rules_of(inputs.preset)
    champion = Champions(inputs.registry, kind.name).now()
    challenged = evaluate(kind, model, inputs).evidence
    if champion is None:
        return LIMITS, decide(challenged, None, rules)
    return champion.label, decide(challenged, evaluate(kind, champion, inputs).evidence, rules)


def record_verdict(
    model: ModelVersion, verdict: "Verdict", against: str, inputs: Inputs, *, promoted: bool
) -> Judged:
    """Writes a verdict down as tags of the version."""
    outcome = PROMOTED if promoted else REJECTED
    inputs.registry.tag(
        model.name,
        model.version,
        {
            VERDICT: outcome,
            VERDICT_REASON: verdict.reason,
            VERDICT_PARTS: parts_text(verdict),
            VERDICT_AGAINST: against,
            VERDICT_AT: datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
    return Judged(model, outcome, verdict.reason, against, verdict)


def parts_text(verdict: "Verdict") -> str:
    """The parts of the test set, each with whether the version passes on it: known passes, unseen fails."""
    return ", ".join(f"{part} {'passes' if passes else 'fails'}" for part, passes in verdict.passes.items())


def verdict_table(judged: Judged) -> pl.DataFrame:
    """A row a metric and part of the test set; without a comparison, no rows."""
    rows = [] if judged.verdict is None else [vars(row) for row in judged.verdict.metrics]
    names = ("challenger", "champion", "excess", "at_most", "allowed")
    schema = {"part": pl.String(), "name": pl.String(), **{name: pl.Float64() for name in names}}
    schema |= {"passes": pl.Boolean(), "better": pl.Boolean(), "reason": pl.String()}
    return pl.DataFrame(rows, schema=schema).select(
        pl.lit(judged.model.version, pl.Int32).alias("version"),
        pl.lit(judged.outcome).alias("outcome"),
        pl.lit(judged.against).alias("against"),
        pl.all(),
    )


def verdict_metadata(judged: Judged) -> Mapping[str, dg.MetadataValue | str]:
    """For Dagster's UI: outcome, reason and a table with the reason of each metric."""
    shown: dict[str, dg.MetadataValue | str] = {
        "verdict": judged.outcome,
        "reason": judged.reason,
        **model_links(judged.model),
    }
    if judged.verdict is not None:
        shown["against"] = judged.against
        shown["parts"] = parts_text(judged.verdict)
        shown["metrics"] = dg.MetadataValue.md(verdict_markdown(judged.verdict))
    return shown


def verdict_markdown(verdict: "Verdict") -> str:
    """The verdict as a table."""
    rows = []
    for row in verdict.metrics:
        mark = {True: "passes", False: "FAILS", None: "not judged"}[row.passes]
        mark = "better" if row.passes and row.better else mark
        values = ("" if value is None else f"{value:.4g}" for value in (row.challenger, row.champion))
        rows.append([row.part, row.name, *values, mark, row.reason])
    return markdown_table(["galaxies", "metric", "challenger", "champion", "", "why"], rows)


def _not_for_the_gate(model: ModelVersion, champions: Champions, inputs: Inputs) -> str | None:
    champions.notice()
    current = champions.now()
    if current is not None and current.version == model.version:
        return f"{model.label} is @champion already"
    if CHALLENGER not in inputs.registry.aliases(model):
        return (
            f"{model.label} is not @{CHALLENGER}: `paeplatform promote --version {model.version}` promotes it"
        )
    tags = inputs.registry.by_version(model.name, model.version).tags
    if DEMOTED_BY in tags:
        return (
            f"{model.label} was @champion and was taken down by {tags[DEMOTED_BY]} on {tags.get(DEMOTED_AT)}: only "
            "`paeplatform promote` promotes it again"
        )
    if current is None and champions.history():
        return "@champion was taken down by hand: set it in the MLflow UI or with `paeplatform promote`"
    return None
