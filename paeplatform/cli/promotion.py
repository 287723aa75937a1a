"""Commands of the model registry: models and its subcommand, promote, rollback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from paeplatform.cli.options import HomeOption, JsonOption, PresetOption, settings_for
from paeplatform.cli.printing import print_json, print_text
from paeplatform.cli.reference import install_reference
from paeplatform.errors import InputError, RegistryError

if TYPE_CHECKING:
    from paeplatform.assets.promotion.evaluation import Inputs
    from paeplatform.assets.promotion.gated import Gated
    from paeplatform.resources.registry import ModelRegistry, ModelVersion
    from paeplatform.resources.settings import PlatformSettings
    from paeplatform.scores.promotion import Verdict

ModelOption = Annotated[str, typer.Option(help="Registered model: pae or sbi-redshift.")]
PAE = "pae"
models_app = typer.Typer()


@models_app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Option(help="Only this registered model. Default: all.", show_default=False)
    ] = None,
    json_: JsonOption = False,
    home: HomeOption = None,
    preset: PresetOption = None,
) -> None:
    """List the registered versions: aliases, the gate's verdict and why, who made a champion and when.

    Example: [bold]paeplatform models --model pae --json | jq '.models.pae.history'[/bold]
    """
    settings = settings_for(home, preset)
    if context.invoked_subcommand is not None:  # home and preset hold for it too
        if json_ or model is not None:
            raise InputError(f"--json and --model belong behind `models {context.invoked_subcommand}`")
        return
    from paeplatform.assets.promotion.gated import GATED, gated
    from paeplatform.resources.champions import Champions
    from paeplatform.resources.registry import ModelRegistry

    registry = ModelRegistry.from_settings(settings)
    kinds = list(GATED.values()) if model is None else [gated(model)]
    tree = {}
    for kind in kinds:
        history = [vars(move) for move in Champions(registry, kind.name).history()]
        versions = [
            _described(registry, registry.by_version(kind.name, number))
            for number in registry.versions(kind.name)
        ]
        tree[kind.name] = {"versions": versions, "history": history}
    if json_:
        print_json({"home": str(settings.home), "models": tree})
        return
    if not any(found["versions"] for found in tree.values()):
        print_text(
            f"No model is registered under {settings.home}: `paeplatform run` trains and registers them, and "
            "`paeplatform models install-reference` registers the model that ships."
        )
        return
    table = Table("model", "aliases", "verdict", Column("why", overflow="fold"), "champion by")
    for name, found in tree.items():
        for row in found["versions"]:
            by = f"{row['promoted_by']}, {row['promoted_at']}" if row["promoted_by"] else ""
            table.add_row(
                f"{name} v{row['version']}",
                ", ".join(f"@{alias}" for alias in row["aliases"]),
                row["verdict"] or "not judged",
                escape(row["verdict_reason"] or ""),
                by,
            )
    Console().print(table)


models_app.command("install-reference")(install_reference)


def promote(
    model: ModelOption = PAE,
    version: Annotated[
        int | None, typer.Option(help="Which version. Default: @challenger.", min=1, show_default=False)
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also when the gate says no; asks for --reason.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Kept with the promotion.", show_default=False)] = None,
    json_: JsonOption = False,
    home: HomeOption = None,
    preset: PresetOption = None,
) -> None:
    """Make a version champion if it passes the gate: not worse in any metric on the frozen test set, better in one.

    It must be as good on both parts of the test set, the known and the unseen galaxies, and better on one of them.

    A version that was not yet evaluated is evaluated first, as is the champion. Without --force a version that
    does not pass stays what it is, and the exit code is 1.

    Examples: [bold]paeplatform promote[/bold],
    [bold]paeplatform promote --model pae --version 3 --force --reason "checked on COSMOS"[/bold]
    """
    if force and not (reason or "").strip():
        raise InputError('--force needs --reason "...": it is kept with the promotion')
    settings = settings_for(home, preset)
    from paeplatform.assets.promotion.gated import gated
    from paeplatform.assets.promotion.verdicts import hold_against_champion, record_verdict, verdict_table
    from paeplatform.resources.champions import COMMAND, Champions
    from paeplatform.resources.registry import CHALLENGER, ModelRegistry

    kind = gated(model)
    registry = ModelRegistry.from_settings(settings)
    chosen = (
        registry.by_version(kind.name, version) if version else registry.find_alias(kind.name, CHALLENGER)
    )
    if chosen is None:
        there = ", ".join(map(str, registry.versions(kind.name))) or "none yet"
        raise RegistryError(
            f"{kind.name} has no @{CHALLENGER}: name a version with --version; there are {there}"
        )
    champions = Champions(registry, kind.name)
    champions.notice()
    current = champions.now()
    if current is not None and current.version == chosen.version:
        _say(json_, {"model": kind.name, "version": chosen.version, "outcome": "is champion already"})
        return
    inputs = evaluation_inputs(settings, registry)
    against, verdict = hold_against_champion(kind, chosen, inputs)
    goes = verdict.promote or force
    note = (reason or "").strip()
    judged = record_verdict(chosen, verdict, against, inputs, promoted=verdict.promote)
    if goes:
        why = (note or verdict.reason) if verdict.promote else f"{note} (against the gate: {verdict.reason})"
        champions.promote(chosen.version, COMMAND, why)
    facts = {
        "model": kind.name,
        "version": chosen.version,
        "outcome": "promoted" if goes else "rejected",
        "forced": goes and not verdict.promote,
        "against": against,
        "reason": verdict.reason,
        "parts": dict(verdict.passes),
    }
    if json_:
        _say(True, facts | {"metrics": verdict_table(judged).to_dicts()})
    else:
        _print_verdict(kind, chosen, facts, verdict)
    if not goes:
        raise typer.Exit(1)


def rollback(
    model: ModelOption = PAE,
    reason: Annotated[str, typer.Option(help="Kept with the rollback.")] = "",
    json_: JsonOption = False,
    home: HomeOption = None,
    preset: PresetOption = None,
) -> None:
    """Make the champion before this one champion again. Called twice, it goes back two.

    The version that is taken down is not promoted by the automation again. Posteriors follow with the next run.

    Example: [bold]paeplatform rollback --model pae --reason "outliers in hp6-27256"[/bold]
    """
    settings = settings_for(home, preset)
    from paeplatform.assets.promotion.gated import gated
    from paeplatform.resources.champions import Champions
    from paeplatform.resources.registry import ModelRegistry

    kind = gated(model)
    move = Champions(ModelRegistry.from_settings(settings), kind.name).rollback(reason)
    facts = {"model": kind.name, "version": move.version, "outcome": "rolled back", "from": move.previous}
    _say(json_, facts)


def _described(registry: ModelRegistry, found: ModelVersion) -> dict[str, Any]:
    from paeplatform.assets.promotion.evaluation import EVALUATED_AT, METRIC_TAG
    from paeplatform.assets.promotion.verdicts import (
        VERDICT,
        VERDICT_AGAINST,
        VERDICT_AT,
        VERDICT_PARTS,
        VERDICT_REASON,
    )
    from paeplatform.resources.champions import (
        DEMOTED_AT,
        DEMOTED_BY,
        PROMOTED_AT,
        PROMOTED_BY,
        PROMOTED_OVER,
    )

    names = (VERDICT, VERDICT_REASON, VERDICT_PARTS, VERDICT_AGAINST, VERDICT_AT, EVALUATED_AT)
    names += (PROMOTED_BY, PROMOTED_AT, PROMOTED_OVER, DEMOTED_BY, DEMOTED_AT)
    metrics = {
        key.removeprefix(METRIC_TAG): text for key, text in found.tags.items() if key.startswith(METRIC_TAG)
    }
    return {
        "version": found.version,
        "aliases": registry.aliases(found),
        **{name: found.tags.get(name) for name in names},
        "metrics": metrics,
        "url": found.url,
    }


def evaluation_inputs(settings: PlatformSettings, registry: ModelRegistry) -> Inputs:
    """What an evaluation needs, as the last run left it in the store.

    Raises:
        RegistryError: an asset that is needed has not been made.
    """
    import polars as pl

    from paeplatform.assets.promotion.evaluation import Inputs
    from paeplatform.resources.objects import read_table
    from paeplatform.resources.workspace import Workspace

    def table(name: str) -> pl.DataFrame:
        path = settings.store / f"{name}.parquet"
        if not path.is_file():
            raise RegistryError(f"{path} does not exist: make it with `paeplatform run --select {name}`")
        return read_table(path)

    return Inputs(
        settings.preset,
        table("spherex_bands"),
        table("redshift_prior"),
        registry,
        Workspace.from_settings(settings),
        table("frozen_test_set"),
        "command line",
    )


def _print_verdict(kind: Gated, chosen: ModelVersion, facts: dict[str, Any], verdict: Verdict) -> None:
    table = Table("galaxies", "metric", "challenger", "champion", "", Column("why", overflow="fold"))
    for row in verdict.metrics:
        mark = {True: "[green]passes[/]", False: "[red]fails[/]", None: "-"}[row.passes]
        values = ("" if value is None else f"{value:.4g}" for value in (row.challenger, row.champion))
        table.add_row(
            row.part, row.name, *values, "[green]better[/]" if row.passes and row.better else mark, row.reason
        )
    Console().print(table)
    against = "the limits" if facts["against"] == "limits" else facts["against"]
    said = "promoted" if facts["outcome"] == "promoted" else "not promoted"
    forced = ", by --force" if facts["forced"] else ""
    print_text(f"{kind.name} {chosen.label} {said}{forced}; against {against}: {verdict.reason}")


def _say(json_: bool, facts: dict[str, Any]) -> None:
    if json_:
        print_json(facts)
        return
    more = f" from v{facts['from']}" if "from" in facts else ""
    print_text(f"{facts['model']} v{facts['version']}: {facts['outcome']}{more}")
