"""Group promotion: the frozen test set, what registered models show on it, the gate's verdict, the champion.

Between a model and its champion stand two assets: its evaluation, made once for the same inputs, and its promotion,
which acts at most once on one evaluation. Posteriors depend on the champion alone.
"""

from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from paeplatform.assets.promotion.evaluation import (
    CODE,
    JUDGED_ON,
    Inputs,
    evaluate,
    evaluation_metadata,
    rules_file,
    rules_of,
)
from paeplatform.assets.promotion.gated import GATED, Gated
from paeplatform.assets.promotion.verdicts import (
    REJECTED,
    VERDICT,
    VERDICT_REASON,
    judge_challenger,
    verdict_metadata,
    verdict_table,
)
from paeplatform.assets.recording.inputs import tables_in
from paeplatform.assets.recording.metadata import TableResult, counts, table_result
from paeplatform.assets.recording.partitions import COMPUTE
from paeplatform.assets.recording.provenance import from_registry
from paeplatform.assets.recording.tables import bands_from, library_from
from paeplatform.assets.recording.versions import code_version, content_of_model, file_digest
from paeplatform.config import Preset
from paeplatform.resources.champions import Champions
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.registry import CHALLENGER, ModelRegistry
from paeplatform.resources.workspace import Workspace
from paeplatform.scores.promotion_rules import PART


def promotion_assets(preset: Preset) -> list[dg.AssetsDefinition]:
    """The assets of this group for a preset.

    Raises:
        ConfigError: the preset's file of promotion rules is at fault.
    """
    rules_of(preset)

    @dg.asset(
        group_name="promotion",
        kinds={"parquet", "polars"},
        code_version=code_version(
            2,
            preset,
            "promotion.n_sources",
            "promotion.n_unseen",
            "promotion.test_seed",
            "catalog",
            "templates.dust_laws",
            "release.mag_z_max",
            "instrument.depth",
        ),
    )
    def frozen_test_set(sed_templates: pl.DataFrame, spherex_bands: pl.DataFrame) -> TableResult:
        """Mock sources with a seed of their own, on which every registered model is judged and none is trained.

        Known galaxies have the templates that trainings draw from; unseen ones have spectra that no training makes.
        """
        from paeplatform.scores.frozen_sources import draw_test_sources

        with one_line_failures():
            table = draw_test_sources(preset, library_from(sed_templates), bands_from(spherex_bands))
        return table_result(
            table,
            {
                "parts": counts(table, PART),
                "median_snr": float(table["snr"].median()),  # type: ignore[arg-type]
                "median_z": float(table["z_true"].median()),  # type: ignore[arg-type]
            },
        )

    return [frozen_test_set, *(asset for kind in GATED.values() for asset in _assets_of(kind, preset))]


def _assets_of(kind: Gated, preset: Preset) -> list[dg.AssetsDefinition]:
    """Evaluation, promotion and champion of one registered model."""
    return [_evaluation(kind, preset), _promotion(kind, preset), _champion(kind)]


def _evaluation_name(kind: Gated) -> str:
    return f"{kind.short}_evaluation"


def _evaluation(kind: Gated, preset: Preset) -> dg.AssetsDefinition:
    @dg.asset(
        name=_evaluation_name(kind),
        group_name="promotion",
        kinds={"mlflow", "parquet"},
        ins={"model": dg.AssetIn(kind.model_asset), **tables_in(JUDGED_ON)},
        pool=COMPUTE,
        code_version=f"{CODE}-{kind.code(preset)}-{code_version(1, preset, 'validation.sigma_cuts')}",
        description=f"{kind.name} on the frozen test set: metrics with intervals, of known and of unseen galaxies, in "
        "all and by bin of sigma.",
    )
    def evaluated(
        context: dg.AssetExecutionContext,
        model: Path,
        registry: ModelRegistry,
        workspace: Workspace,
        **tables: Any,
    ) -> TableResult:
        run_id = context.run.run_id
        inputs = Inputs(preset=preset, registry=registry, workspace=workspace, run_id=run_id, **tables)
        with one_line_failures():
            version = registry.by_content(kind.name, content_of_model(model))
        found = evaluate(kind, version, inputs)
        table = found.evidence.scores.with_columns(version=pl.lit(version.version, pl.Int32))
        key = dg.DataVersion(f"{version.label}-{inputs.key(kind)}")
        return table_result(table, evaluation_metadata(found), version=key, show_rows=False)

    return evaluated


def _promotion(kind: Gated, preset: Preset) -> dg.AssetsDefinition:
    @dg.asset(
        name=kind.promotion_asset,
        group_name="promotion",
        kinds={"mlflow"},
        ins={"evaluation": dg.AssetIn(_evaluation_name(kind)), **tables_in(JUDGED_ON)},
        pool=COMPUTE,  # the champion is evaluated here when it was not yet on these sources
        code_version=f"2-{file_digest(rules_file(preset))}",
        description=f"The gate of {kind.name}: promotes a challenger that is shown to be better, or says why not.",
    )
    def promoted(
        context: dg.AssetExecutionContext,
        evaluation: pl.DataFrame,
        registry: ModelRegistry,
        workspace: Workspace,
        **tables: Any,
    ) -> TableResult:
        run_id = context.run.run_id
        inputs = Inputs(preset=preset, registry=registry, workspace=workspace, run_id=run_id, **tables)
        with one_line_failures():
            version = registry.by_version(kind.name, int(evaluation["version"][0]))
            judged = judge_challenger(kind, version, inputs)
        context.log.info(f"{kind.name} {version.label}: {judged.outcome}: {judged.reason}")
        return table_result(verdict_table(judged), verdict_metadata(judged), show_rows=False)

    return promoted


def _champion(kind: Gated) -> dg.AssetsDefinition:
    @dg.asset(
        name=kind.champion_asset,
        group_name="promotion",
        kinds={"mlflow"},
        deps=[kind.promotion_asset],
        code_version="1",
        metadata=from_registry(kind.name),
        description=f"The version of {kind.name} that @champion points at now: the model that makes the catalogue.\n\n"
        "Its data version is the model's version, so a champion moved by hand, here or in the MLflow UI, makes the "
        "posteriors stale, and a new challenger does not. A move by hand is written down with the next look.",
    )
    def champion(registry: ModelRegistry) -> dg.MaterializeResult:
        champions = Champions(registry, kind.name)
        with one_line_failures():
            noticed = champions.notice()
            current = champions.now()
            if current is None:
                _say_why_there_is_none(kind, registry)
                current = registry.by_alias(kind.name)
        last = champions.history()[-1]
        return dg.MaterializeResult(
            data_version=dg.DataVersion(current.label),
            metadata={
                "version": current.version,
                "promoted_by": last.by,
                "promoted_at": last.at,
                "previous_champion": "none" if last.previous is None else f"v{last.previous}",
                "reason": last.reason,
                "noticed_now": noticed is not None,
                "model": dg.MetadataValue.url(current.url),
                "tags": dg.MetadataValue.json(dict(current.tags)),
            },
        )

    return champion


def _say_why_there_is_none(kind: Gated, registry: ModelRegistry) -> None:
    """Fails when the gate turned the only candidate down; what needs no champion then goes on.

    Raises:
        dagster.Failure: with the gate's reason.
    """
    challenger = registry.find_alias(kind.name, CHALLENGER)
    if challenger is not None and challenger.tags.get(VERDICT) == REJECTED:
        raise dg.Failure(
            description=f"no {kind.name}@champion: {challenger.label} stays @{CHALLENGER}: "
            f"{challenger.tags.get(VERDICT_REASON)}; train a better one, or overrule with `paeplatform promote --model "
            f"{kind.name} --force --reason ...`",
            allow_retries=False,
        )
