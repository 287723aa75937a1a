"""Commands of daily operation: plan, backfill, quality."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from paeplatform.cli.options import HomeOption, JsonOption, PresetOption, settings_for
from paeplatform.cli.printing import print_json, print_text
from paeplatform.errors import InputError


def plan(json_: JsonOption = False, home: HomeOption = None, preset: PresetOption = None) -> None:
    """List what would run now, and why: new deliveries, and runs for what is missing or stale. Changes nothing.

    What the quality gate holds is listed too; it waits for a new delivery or for `paeplatform backfill`. What depends
    on the planned runs is planned when they are done; `paeplatform status` lists it already.

    Example: [bold]paeplatform plan --json | jq '.runs[].name'[/bold]
    """
    settings = settings_for(home, preset)
    from paeplatform.cli.tables import held_json, print_held
    from paeplatform.definitions import build_definitions
    from paeplatform.names import NAME_FORM
    from paeplatform.resources.instance import open_to_read
    from paeplatform.sensors.plan import plan_runs
    from paeplatform.sensors.releases import changed_deliveries, misnamed_deliveries
    from paeplatform.sensors.staleness import StalenessChecker

    misnamed = misnamed_deliveries(settings)
    with open_to_read(settings) as instance:
        arrived = changed_deliveries(settings, instance)
        checker = StalenessChecker(build_definitions(settings), instance, settings)
        runs, held = plan_runs(checker), checker.held()
    if json_:
        tree = {
            "deliveries": [
                {"release": one.release, "version": one.version, "fault": one.fault} for one in arrived
            ],
            "runs": [
                {
                    "name": run.name,
                    "assets": [key.to_user_string() for key in run.asset_keys],
                    "reason": run.reason,
                }
                for run in runs
            ],
            "held": held_json(held),
            "misnamed": misnamed,
        }
        print_json(tree)
        return
    for one in arrived:
        fault = f": {one.fault}" if one.fault else ""
        print_text(f"delivery to ingest: {one.release}, version {one.version}{fault}")
    for name in misnamed:
        print_text(f"not a release: {settings.landing / name}: its name must be {NAME_FORM}")
    print_held(held)
    if not runs:
        what = "everything else" if held else "everything"
        print_text("No run is due." if arrived else f"Nothing to do: {what} is current.")
        return
    table = Table("run", Column("makes", overflow="fold"), Column("why", overflow="fold"))
    for run in runs:
        made = ", ".join(target.asset_key.to_user_string() for target in run.targets)
        table.add_row(escape(run.name), escape(made), escape(run.reason))
    Console().print(table)


def backfill(
    release: Annotated[str, typer.Option(help="Release whose cells are made again.")],
    cells: Annotated[
        list[str] | None,
        typer.Option("--cells", help="A cell by key, as hp6-27256. May be given again. Default: all."),
    ] = None,
    only_failed: Annotated[
        bool, typer.Option("--only-failed", help="Only cells that are held, failed or out of date.")
    ] = False,
    json_: JsonOption = False,
    home: HomeOption = None,
    preset: PresetOption = None,
) -> None:
    """Make the cells of a release again, photometry to catalogue, one after the other in this process.

    Finished cells stay when it is interrupted; the same command with --only-failed goes on from there.

    Examples: [bold]paeplatform backfill --release qr3-week1[/bold],
    [bold]paeplatform backfill --release qr3-week1 --cells hp6-27256 --only-failed[/bold]
    """
    settings = settings_for(home, preset)
    from paeplatform.definitions import build_definitions
    from paeplatform.sensors.backfill import backfill as make

    def say(cell: str, outcome: str, why: str) -> None:
        if not json_:
            print_text(f"{cell:<16} {outcome:>6}  {why}")

    summary = make(
        settings,
        release,
        defs=build_definitions(settings),
        cells=cells,
        only_failed=only_failed,
        on_cell=say,
    )
    if json_:
        print_json(vars(summary))
    else:
        print_text(
            f"{len(summary.made)} made, {len(summary.held)} held, {len(summary.failed)} failed in "
            f"{summary.seconds / 60:.1f} min"
        )
    if not summary.ok:
        raise typer.Exit(1)


def quality(
    release: Annotated[
        str | None, typer.Option(help="Only this release. Default: all ingested.", show_default=False)
    ] = None,
    json_: JsonOption = False,
    home: HomeOption = None,
    preset: PresetOption = None,
) -> None:
    """Judge the stored statistics of every cell by the rules as they are now, and write the page of quality checks.

    Changes no gate: a threshold that you have changed takes hold when the cell is made again.

    Example: [bold]paeplatform quality --release qr3-week1[/bold]
    """
    settings = settings_for(home, preset)
    from paeplatform.assets.release.photometry import stored_outcomes
    from paeplatform.release.data_docs import write_data_docs
    from paeplatform.release.quality_rules import load_rules
    from paeplatform.resources.workspace import Workspace

    outcomes = stored_outcomes(Workspace.from_settings(settings), release)
    if not outcomes:
        raise InputError(
            f"no statistics of {release or 'any release'} under {settings.store}: ingest one first"
        )
    page = write_data_docs(settings.report / "quality", outcomes, load_rules())
    broken = {
        f"{name}|{cell or 'whole delivery'}": sorted({one.rule for one in found if not one.passed})
        for (name, cell), found in outcomes.items()
    }
    if json_:
        print_json({"page": str(page), "broken": broken})
        return
    table = Table("cell", Column("broken rules", overflow="fold"))
    for name, rules in broken.items():
        table.add_row(name, ", ".join(rules) or "none")
    Console().print(table)
    print_text(str(page))
