"""Commands about where state is kept: migrate, storage."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from paeplatform.cli.options import HomeOption, JsonOption, PresetOption, settings_for
from paeplatform.cli.printing import print_json, print_text


def storage(json_: JsonOption = False, home: HomeOption = None, preset: PresetOption = None) -> None:
    """Say where runs, models and tables are kept, after a check of the settings of storage. Opens nothing.

    Example: [bold]paeplatform storage --home /srv/paeplatform[/bold]
    """
    settings = settings_for(home, preset)
    dagster = settings.storage.dagster
    places = {
        "mode": settings.storage.mode,
        "dagster": dagster.database.reference if dagster else str(settings.dagster_home / "history"),
        "mlflow": settings.tracking_uri,
        "artifacts": settings.artifact_root,
        "store": str(settings.store),
    }
    if json_:
        print_json(places)
        return
    table = Table("what", "where")
    for name, place in places.items():
        table.add_row(name, place)
    Console().print(table)


def migrate(
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Embedded home to take along. Default: this home, as it was before its storage.yaml.",
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    json_: JsonOption = False,
    home: HomeOption = None,
    preset: PresetOption = None,
) -> None:
    """Take an embedded home along to PostgreSQL and object storage, history and all; the source is only read.

    Write the new place into storage.yaml first, stop `paeplatform ui`, then run this. Interrupted, it goes on when run
    again; a second time it finds everything there. Afterwards dagster.yaml names PostgreSQL (the old one is kept as
    dagster.yaml.embedded).

    Examples: [bold]paeplatform migrate[/bold], [bold]paeplatform migrate --home /srv/new --from runs/demo[/bold]
    """
    from dataclasses import replace

    from paeplatform.resources.migration import StepDone
    from paeplatform.resources.migration import migrate as take_along
    from paeplatform.sensors.run import home_lock

    settings = settings_for(home, preset)

    def say(done: StepDone) -> None:
        if not json_:
            mark = "as before" if done.already else f"{done.seconds:.1f} s"
            print_text(f"{done.name:<13} {mark:>10}  {done.what}")

    old = replace(settings, home=(source or settings.home).expanduser().resolve())
    with home_lock(old):
        steps = take_along(settings, source=source, say=say)
    if json_:
        print_json([asdict(one) for one in steps])
