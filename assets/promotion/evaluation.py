"""A registered version on the frozen test set: inferred, scored, logged to MLflow, once for the same inputs."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from paeplatform.assets.inference.estimation import EstimationInputs
from paeplatform.assets.promotion.gated import Gated
from paeplatform.assets.recording.metadata import markdown_table, model_links
from paeplatform.assets.recording.versions import content_version
from paeplatform.config import Preset
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.registry import ModelVersion
from paeplatform.scores.promotion_rules import (
    PACKAGED,
    PART,
    PromotionRules,
    load_promotion_rules,
    name_on,
)

if TYPE_CHECKING:
    from paeplatform.scores.promotion import Evidence

EVALUATED_ON, EVALUATED_AT, EVALUATION_RUN = "evaluated_on", "evaluated_at", "evaluation_run"
TEST_SET = "test_set"
METRIC_TAG = "metric."  # + `name_on` a part of the test set, on a version: value and interval
CODE = 2  # raised when the evaluation of the same posteriors changes
# The assets that every evaluation is made on.
JUDGED_ON = ("frozen_test_set", "spherex_bands", "redshift_prior")
_RECORD, _SCORES, _INTERVALS = "evaluation", "scores", "intervals"


@dataclass(frozen=True)
class Inputs(EstimationInputs):
    """What an evaluation needs beside the version: what the version is loaded with, and more.

    Attributes:
        frozen_test_set: of `draw_test_sources`.
        run_id: of the Dagster run, or of whatever asks.
    """

    redshift_prior: pl.DataFrame
    frozen_test_set: pl.DataFrame
    run_id: str

    def key(self, kind: Gated) -> str:
        """A hash over all that an evaluation's outcome depends on beside the version."""
        tables = (self.frozen_test_set, self.spherex_bands, self.redshift_prior)
        parts = [str(CODE), kind.code(self.preset), *(content_version(table).value for table in tables)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Evaluation:
    """What a version showed.

    Attributes:
        model: the version.
        evidence: for the gate.
        intervals: of `statistics.metric_intervals` for each part of the test set, named in the column part: metrics
            with intervals, in all and by bin of sigma.
        run_id: of the MLflow run that holds it.
        fresh: whether it was made now.
    """

    model: ModelVersion
    evidence: "Evidence"
    intervals: pl.DataFrame
    run_id: str
    fresh: bool


def evaluate(kind: Gated, model: ModelVersion, inputs: Inputs) -> Evaluation:
    """The version's evaluation on these inputs: the stored one, or else made now and stored.

    Raises:
        dagster.Failure: the version cannot be loaded or does not answer.
    """
    stored = stored_evaluation(kind, model, inputs)
    return _made(kind, model, inputs) if stored is None else stored


def stored_evaluation(kind: Gated, model: ModelVersion, inputs: Inputs) -> Evaluation | None:
    """The version's evaluation on these inputs, when it was made before and MLflow still holds it."""
    from paeplatform.scores.promotion import Evidence

    run_id = model.tags.get(EVALUATION_RUN)
    if run_id is None or model.tags.get(EVALUATED_ON) != inputs.key(kind):
        return None
    registry = inputs.registry
    record, scores, intervals = (
        registry.run_file(run_id, name)
        for name in (f"{_RECORD}.json", f"{_SCORES}.parquet", f"{_INTERVALS}.parquet")
    )
    if record is None or scores is None or intervals is None:
        return None
    facts = json.loads(record.read_text())
    evidence = Evidence(pl.read_parquet(scores, glob=False), facts["galaxies_per_hour"], facts["hardware"])
    return Evaluation(model, evidence, pl.read_parquet(intervals, glob=False), run_id, fresh=False)


def evaluation_metadata(evaluation: Evaluation) -> Mapping[str, dg.MetadataValue | float | int | str]:
    """For Dagster's UI: the headline numbers, and the table by bin of sigma."""
    from paeplatform.scores.metrics import THROUGHPUT

    rate = evaluation.evidence.galaxies_per_hour
    return {
        **model_links(evaluation.model),
        "sources": evaluation.evidence.scores.height,
        **_values(evaluation.intervals),
        **({} if rate is None else {THROUGHPUT: rate}),
        "hardware": evaluation.evidence.hardware,
        "metrics": dg.MetadataValue.md(intervals_markdown(evaluation.intervals)),
        "mlflow_run_id": evaluation.run_id,
        "kept": "made now" if evaluation.fresh else "from an earlier evaluation on the same inputs",
    }


def intervals_markdown(intervals: pl.DataFrame) -> str:
    """A table a part of the test set: a row a metric, a column a selection, each cell with its 95 % interval."""
    from paeplatform.scores.metrics import GATE_METRICS

    tables = []
    for part, selections in _by_part(intervals).items():
        rows = selections.to_dicts()
        table = markdown_table(
            ["metric", *(f"{row['selection']} (n = {row['n']})" for row in rows)],
            ([name, *(_interval_text(row, name) for row in rows)] for name in GATE_METRICS),
        )
        tables.append(f"{part} galaxies:\n\n{table}")
    return "\n\n".join(tables)


def _by_part(intervals: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The intervals of each part of the test set."""
    parts = intervals.partition_by(PART, as_dict=True, maintain_order=True)
    return {str(part): table for (part,), table in parts.items()}


def _values(intervals: pl.DataFrame) -> dict[str, float]:
    """The metrics over all sources of each part, by their names in MLflow."""
    from paeplatform.scores.statistics import values_of

    return {
        name_on(part, name): value
        for part, table in _by_part(intervals).items()
        for name, value in values_of(table).items()
    }


def _interval_texts(intervals: pl.DataFrame) -> dict[str, str]:
    """The same with their intervals, for tags."""
    from paeplatform.scores.statistics import values_of

    return {
        name_on(part, name): _interval_text(table.row(0, named=True), name)
        for part, table in _by_part(intervals).items()
        for name in values_of(table)
    }


def _interval_text(row: Mapping[str, Any], name: str) -> str:
    """0.031 (0.028 to 0.034)."""
    value = row[name]
    return "" if value is None else f"{value:.4g} ({row[f'{name}_low']:.3g} to {row[f'{name}_high']:.3g})"


def _made(kind: Gated, model: ModelVersion, inputs: Inputs) -> Evaluation:
    registry, preset = inputs.registry, inputs.preset
    inputs.workspace.start_jax()  # whatever the model: a process that has looked at JAX keeps its devices
    estimation = kind.load(inputs, model.version)
    from paeplatform.scores.evidence import evidence_of
    from paeplatform.scores.metrics import THROUGHPUT
    from paeplatform.scores.statistics import metric_intervals

    with one_line_failures():
        z_range = preset.prior.z_min, preset.prior.z_max
        evidence = evidence_of(
            estimation.estimate, inputs.frozen_test_set, prefix=kind.short, z_range=z_range
        )
        scores, rate = evidence.scores, evidence.galaxies_per_hour
        rules = rules_of(preset)
        cuts = preset.validation.sigma_cuts
        intervals = pl.concat(
            metric_intervals(evidence.on(part).scores, cuts, n_resamples=rules.resamples).select(
                pl.lit(part).alias(PART), pl.all()
            )
            for part in evidence.parts
        )
    counts = {part: evidence.on(part).scores.height for part in evidence.parts}
    values = {**_values(intervals), **({} if rate is None else {THROUGHPUT: rate})}
    facts = {
        "model": model.name,
        "version": model.version,
        "evaluated_on": inputs.key(kind),
        "prior_id": estimation.prior_id,
        "sources": scores.height,
        "sources_by_part": counts,
        "galaxies_per_hour": rate,
        "hardware": evidence.hardware,
        "metrics": intervals.to_dicts(),
    }
    test_set = content_version(inputs.frozen_test_set).value
    name = f"{model.name}-evaluation-{model.label}"
    with registry.training_run(name, preset, data_version=test_set, dagster_run_id=inputs.run_id) as run:
        run.log_metrics(values)
        run.log_json(facts, f"{_RECORD}.json")
        run.log_table(scores, _SCORES)
        run.log_table(intervals, _INTERVALS)
    shown = {f"{METRIC_TAG}{name}": text for name, text in _interval_texts(intervals).items()}
    if rate is not None:
        shown[f"{METRIC_TAG}{THROUGHPUT}"] = f"{rate:.0f}"
    registry.tag(
        model.name,
        model.version,
        {
            **shown,
            TEST_SET: f"{test_set}, {' and '.join(f'{n} {part}' for part, n in counts.items())} sources",
            EVALUATED_AT: datetime.now(UTC).isoformat(timespec="seconds"),
            EVALUATION_RUN: run.run_id,
            EVALUATED_ON: inputs.key(kind),  # last: without it there is no evaluation
        },
    )
    return Evaluation(
        registry.by_version(model.name, model.version), evidence, intervals, run.run_id, fresh=True
    )


def rules_file(preset: Preset) -> Path:
    """The file of a preset's rules of promotion."""
    return preset.promotion.rules or PACKAGED


def rules_of(preset: Preset) -> PromotionRules:
    """The rules of promotion of a preset.

    Raises:
        ConfigError: its file of rules is missing or at fault.
    """
    return load_promotion_rules(rules_file(preset))
