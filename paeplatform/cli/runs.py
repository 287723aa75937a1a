"""Commands that make things and say what was made: demo, run, status, metrics."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from paeplatform.cli.options import HomeOption, JsonOption, PresetOption, settings_for
from paeplatform.cli.printing import print_json, print_text
from paeplatform.errors import InputError

if TYPE_CHECKING:
    import polars as pl

    from paeplatform.resources.settings import PlatformSettings

DEMO = "demo"
FIRST_LOOK = ("mock_delivery", "pae_posteriors")  # what the demo makes with the model that ships
FIRST_ROWS = 8


def demo(home: HomeOption = None) -> None:
    """Run the whole pipeline once with the demo preset: templates, model, posteriors, metrics.

    First the model that ships with the package infers the release, so that redshifts are there after a few minutes.
    Then models are trained, and the gate holds them against it. Interrupted, the demo goes on where it stopped when
    run again; when everything is current, it does nothing.

    Example: [bold]paeplatform demo --home runs/demo[/bold]
    """
    settings = settings_for(home, DEMO)
    _first_look(settings)
    _catch_up(settings, None)
    _print_verdicts(settings)
    _print_places(settings)


def run(
    select: Annotated[
        list[str] | None,
        typer.Option(
            "--select", help="Asset to bring up to date, with what it needs upstream. May be given again."
        ),
    ] = None,
    no_training: Annotated[
        bool,
        typer.Option(
            "--no-training",
            help="Train, evaluate and promote no model: infer with the champions that there are.",
        ),
    ] = False,
    home: HomeOption = None,
    preset: PresetOption = None,
) -> None:
    """Make everything of a preset that is missing or stale, and nothing else.

    Examples: [bold]paeplatform run --preset standard --home runs/standard[/bold],
    [bold]paeplatform run --select redshift_prior[/bold]
    or [bold]paeplatform run --no-training --select pae_posteriors[/bold]
    """
    _catch_up(settings_for(home, preset), select, training=not no_training)


def status(json_: JsonOption = False, home: HomeOption = None, preset: PresetOption = None) -> None:
    """List what is missing or stale and what the quality gate holds, and why. Changes nothing.

    Example: [bold]paeplatform status --preset mine.yaml[/bold]
    """
    settings = settings_for(home, preset)

    from paeplatform.cli.tables import held_json, print_held
    from paeplatform.definitions import build_definitions
    from paeplatform.resources.instance import open_to_read
    from paeplatform.sensors.staleness import StalenessChecker

    with open_to_read(settings) as instance:
        checker = StalenessChecker(build_definitions(settings), instance, settings)
        targets, held = checker.stale(), checker.held()
    if json_:
        rows = [{"target": target.label, "reason": target.reason} for target in targets]
        tree = {"preset": settings.preset.name, "home": str(settings.home), "stale": rows}
        print_json(tree | {"held": held_json(held)})
        return
    print_held(held)
    if not targets:
        what = "Everything else" if held else "Everything"
        print_text(f"{what} of preset {settings.preset.name} under {settings.home} is current.")
        return
    table = Table("to be made", Column("why", overflow="fold"))
    for target in targets:
        table.add_row(escape(target.label), escape(target.reason))
    Console().print(table)
    print_text("`paeplatform run` makes them.")


def metrics(
    release: Annotated[
        str | None, typer.Option(help="Only this release. Default: all that have metrics.")
    ] = None,
    json_: JsonOption = False,
    home: HomeOption = None,
    preset: PresetOption = None,
) -> None:
    """Print the current metric tables, one per release.

    Example: [bold]paeplatform metrics --json | jq '.releases'[/bold]
    """
    settings = settings_for(home, preset)
    tables = _metric_tables(settings, release)
    if json_:
        rows = {name: table.to_dicts() for name, table in tables.items()}  # of no source: numbers are null
        print_json({"home": str(settings.home), "releases": rows})
        return
    _print_metrics(tables)


def _catch_up(settings: PlatformSettings, select: Sequence[str] | None, *, training: bool = True) -> None:
    """Makes what is missing or stale, and prints what came of it, with metrics and targets when all was asked for.

    Exit code 1, and the faults again at the end where they are seen, when something failed or is held.
    """
    from paeplatform.cli.tables import print_held
    from paeplatform.definitions import build_definitions
    from paeplatform.sensors.run import materialize_stale

    print_text(f"preset {settings.preset.name}, home {settings.home}")
    summary = materialize_stale(
        settings, select=select, training=training, progress=True, defs=build_definitions(settings)
    )
    print_held(summary.waiting)
    if not (summary.made or summary.failed or summary.held or summary.kept):
        print_text(f"Nothing to do: {'everything else' if summary.waiting else 'everything'} is current.")
    else:
        print_text(f"{len(summary.made)} made in {summary.seconds / 60:.1f} min")
    if not summary.ok:
        for target, fault in summary.failed:
            print_text(f"failed: {target.label}: {fault}", style="red")
        for target, rules in summary.held:
            print_text(f"held: {target.label}: {rules}", style="yellow")
        if summary.skipped:
            print_text(f"not tried, since they need it: {len(summary.skipped)}", style="red")
        print_text("What was made stays; the same command goes on from here.")
        raise typer.Exit(1)
    if select is None and training:
        _print_metrics(_metric_tables(settings, settings.preset.release.name))
        _print_targets(settings)


def _first_look(settings: PlatformSettings) -> None:
    """Redshifts of the release from the model that ships, in a home that has no model yet; before the trainings."""
    from paeplatform.cli.reference import install
    from paeplatform.resources.registry import PAE, ModelRegistry

    registry = ModelRegistry.from_settings(settings)
    if registry.versions(PAE):
        return
    began = time.monotonic()
    print_text("First the model that ships with the package (`paeplatform models install-reference`) ...")
    for outcome in install(settings, progress=True):
        print_text(outcome.line)
    if registry.find_alias(PAE) is None:
        print_text("The gate turned it down, so redshifts have to wait for the trainings.")
        return
    print_text(
        "\n... and its redshifts of the release (`paeplatform run --no-training --select pae_posteriors`):"
    )
    _catch_up(settings, FIRST_LOOK, training=False)
    _print_first_redshifts(settings, (time.monotonic() - began) / 60.0)
    print_text("\nNow the trainings, and all that is made of them:")


def _print_first_redshifts(settings: PlatformSettings, minutes: float) -> None:
    """The best-measured sources of the release, and what is said of the others."""
    import polars as pl

    from paeplatform.cli.tables import stored_tables
    from paeplatform.resources.objects import read_table

    folder = settings.store / "pae_posteriors" / settings.preset.release.name
    posteriors = pl.concat([read_table(path) for path in stored_tables(folder).values()])
    width = pl.col("pae_z_std") / (1.0 + pl.col("pae_z_median"))
    table = Table(
        "source", "redshift", "68 % interval", "status", title="best measured", title_justify="left"
    )
    for row in posteriors.sort(width, nulls_last=True).head(FIRST_ROWS).iter_rows(named=True):
        interval = f"{row['pae_z_err68_low']:.4f} to {row['pae_z_err68_high']:.4f}"
        table.add_row(str(row["object_id"]), f"{row['pae_z_median']:.4f}", interval, row["pae_status"])
    Console().print(table)
    counts = posteriors.group_by("pae_status").len().sort("len", descending=True)
    said = ", ".join(f"{n} {status}" for status, n in counts.iter_rows())
    print_text(f"{posteriors.height} sources after {minutes:.1f} min: {said}")


def _print_verdicts(settings: PlatformSettings) -> None:
    """Which versions infer, and what the gate said of the models trained here."""
    from paeplatform.assets.promotion.gated import GATED
    from paeplatform.cli.reference import said_of
    from paeplatform.resources.registry import ModelRegistry

    registry = ModelRegistry.from_settings(settings)
    print_text("")
    for kind in GATED.values():
        for number in registry.versions(kind.name):
            print_text(said_of(registry, registry.by_version(kind.name, number)))


def _metric_tables(settings: PlatformSettings, release: str | None) -> dict[str, pl.DataFrame]:
    """The stored tables of asset photoz_metrics by release.

    Raises:
        InputError: there is none, or not of that release.
    """
    from paeplatform.cli.tables import stored_tables
    from paeplatform.resources.objects import read_table

    folder = settings.store / "photoz_metrics"
    found = stored_tables(folder)
    if release is not None and release not in found:
        known = f"there are {', '.join(found)}" if found else "there are none yet"
        raise InputError(
            f"no metrics of release {release!r} under {folder}: {known}; `paeplatform run` makes them"
        )
    if not found:
        raise InputError(f"no metrics under {folder} yet: `paeplatform run` makes them")
    wanted = found if release is None else {release: found[release]}
    return {name: read_table(path) for name, path in wanted.items()}


def _print_metrics(tables: dict[str, pl.DataFrame]) -> None:
    from paeplatform.cli.tables import metric_rich_table

    console = Console()
    for release, table in tables.items():
        console.print()
        console.print(metric_rich_table(table, f"release {release}", width=console.width))


def _print_targets(settings: PlatformSettings) -> None:
    """The report's targets in words: what was wanted, what came out."""
    path = settings.report / settings.preset.release.name / "metrics.json"
    if not path.is_file():
        return
    from paeplatform.cli.tables import target_line

    for line in json.loads(path.read_text())["targets"]:
        Console().print(target_line(line), highlight=False, soft_wrap=True)


def _print_places(settings: PlatformSettings) -> None:
    from paeplatform.cli.servers.services import DAGSTER_PORT, HOST, MLFLOW_PORT

    page = settings.report / settings.preset.release.name / "index.html"
    print_text(
        f"\nWhere to look\n"
        f"  Dagster  http://{HOST}:{DAGSTER_PORT}   after `make ui` (or `paeplatform ui`)\n"
        f"  MLflow   http://{HOST}:{MLFLOW_PORT}   the same command serves both\n"
        f"  report   {page}",
    )
