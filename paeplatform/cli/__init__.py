"""The `paeplatform` command.

Input that a user can put right ends in one line on stderr and exit code 2; anything else is a defect and
shows its traceback with exit code 1. Commands import what they need when they run, so that `--help` answers at
once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import typer

from paeplatform.cli import (
    capacity,
    deliveries,
    inputs,
    operate,
    outputs,
    paper_data,
    promotion,
    report,
    runs,
    science,
    storage,
)
from paeplatform.cli.infer import command as infer
from paeplatform.cli.servers import serve, ui
from paeplatform.errors import InputError

app = typer.Typer(
    name="paeplatform",
    help="Photometric redshifts of SPHEREx galaxies with a probabilistic autoencoder.\n\n"
    "Start with [bold]paeplatform demo[/bold], then look at the result with [bold]paeplatform ui[/bold].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (  # named after their functions, in the order of the help
    *(runs.demo, runs.run, runs.status, runs.metrics),
    *(ui.ui, science.evaluate, infer.infer),
    *(promotion.promote, promotion.rollback),
    *(serve.serve, deliveries.simulate_release),
    *(operate.plan, operate.backfill, operate.quality),
    *(outputs.export, outputs.show, report.report, report.tables, paper_data.paper_data),
    *(storage.storage, storage.migrate, capacity.plan_capacity, inputs.presets, inputs.version),
):
    app.command()(command)
app.add_typer(promotion.models_app, name="models")
app.add_typer(inputs.preset_app, name="preset")
app.add_typer(inputs.templates_app, name="templates")

EXIT_INPUT = 2


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the console script; ends the process with the command's exit code."""
    try:
        app(args=None if argv is None else list(argv), prog_name="paeplatform")
    except Exception as error:
        fault = input_fault(error)
        if fault is None:
            raise
        print(f"error: {' '.join(str(fault).split())}", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_INPUT)


def input_fault(error: BaseException) -> InputError | None:
    """The `InputError` behind an exception, which Dagster may have wrapped, or None when there is none."""
    return next((one for one in _causes(error) if isinstance(one, InputError)), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
