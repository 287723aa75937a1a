"""Commands that make things and say what was made: demo, run, status, metrics."""

from __future__ import annotations

import json
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


def demo(home: HomeOption = None) -> None:
    """Run the whole pipeline once with the demo preset: templates, model, posteriors, metrics.

    Some ten minutes on two cores. Interrupted, it goes on where it stopped when run again; when everything is
    current, it does nothing.

    Example: [bold]paeplatform demo --home runs/demo[/bold]
    """
    settings = settings_for(home, DEMO)
    _catch_up(settings, None)
    _print_places(settings)


def run(
    select: Annotated[
        list[str] | None,
        typer.Option(
            "--select", help="Asset to bring up to date, with what it needs upstream. May be given again."
        ),
    ] = None,
    home: HomeOption = None,
    preset: PresetOption = None,
) -> None:
    """Make everything of a preset that is missing or stale, and nothing else.

    Examples: [bold]paeplatform run --preset standard --home runs/standard[/bold]
    or [bold]paeplatform run --select redshift_prior[/bold]
    """
    _catch_up(settings_for(home, preset), select)


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


def _catch_up(settings: PlatformSettings, select: list[str] | None) -> None:
    """Makes what is missing or stale, and prints what came of it, with metrics and targets when all was asked for.

    Exit code 1, and the faults again at the end where they are seen, when something failed or is held.
    """
    from paeplatform.cli.tables import print_held
    from paeplatform.definitions import build_definitions
    from paeplatform.sensors.run import materialize_stale

    print_text(f"preset {settings.preset.name}, home {settings.home}")
    summary = materialize_stale(settings, select=select, progress=True, defs=build_definitions(settings))
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
    if select is None:
        _print_metrics(_metric_tables(settings, settings.preset.release.name))
        _print_targets(settings)


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
