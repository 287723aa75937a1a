"""`paeplatform plan-capacity`: what a release of so many sources costs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from paeplatform.cli.options import JsonOption
from paeplatform.cli.printing import print_json, print_text
from paeplatform.errors import InputError

if TYPE_CHECKING:
    from paeplatform.capacity import Plan


def plan_capacity(
    sources: Annotated[float, typer.Option(help="Sources of the release, as 4.5e8.")] = 4.5e8,
    gpus: Annotated[int, typer.Option(help="GPUs that infer at the same time; 0 for none.")] = 0,
    workers: Annotated[int, typer.Option(help="Workers of two CPU cores each.")] = 16,
    order: Annotated[int, typer.Option(help="HEALPix order of the cells; 5 makes 12,288 of the sky.")] = 5,
    cells: Annotated[
        int | None, typer.Option(help="Cells that hold sources. Default: the whole sky.", show_default=False)
    ] = None,
    rate: Annotated[
        list[str] | None,
        typer.Option(
            "--rate",
            help="STEP=SOURCES_AN_HOUR of one GPU (or worker, for a step that runs on workers), as "
            "pae_posteriors=800000. May be given again.",
        ),
    ] = None,
    rates: Annotated[Path | None, typer.Option(help="Another file of rates.", show_default=False)] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="Folder of your own benchmark results, as benchmarks/results.", show_default=False),
    ] = None,
    gpu_price: Annotated[float, typer.Option(help="Price of a GPU-hour, to add costs.", min=0)] = 0.0,
    worker_price: Annotated[float, typer.Option(help="Price of a worker-hour.", min=0)] = 0.0,
    json_: JsonOption = False,
) -> None:
    """Reckon partitions, time and storage of a release, and what a new model and a new prior ask for again.

    Rates on CPUs are measured, those of GPUs are assumed until you give yours: the last line says which.

    Examples: [bold]paeplatform plan-capacity --sources 4.5e8 --gpus 32[/bold],
    [bold]paeplatform plan-capacity --gpus 8 --rate pae_posteriors=1.2e6[/bold]
    """
    from paeplatform.capacity import load_rates, plan

    figures = load_rates(rates, results, _given(rate or []))
    made = plan(sources, gpus=gpus, workers=workers, rates=figures, healpix_order=order, cells=cells)
    if json_:
        tree = asdict(made)
        tree["rates"] = figures.model_dump(mode="json")
        print_json(tree)
        return
    _print(made, gpus, workers, gpu_price, worker_price)


def _given(rates: list[str]) -> dict[str, float]:
    found = {}
    for one in rates:
        step, _, value = one.partition("=")
        try:
            found[step] = float(value)
        except ValueError:
            raise InputError(
                f"--rate {one!r} must be STEP=SOURCES_AN_HOUR, as pae_posteriors=800000"
            ) from None
    return found


def _print(made: Plan, gpus: int, workers: int, gpu_price: float, worker_price: float) -> None:
    print_text(
        f"{made.sources:.3g} sources in {made.cells:,} cells of {made.sources_per_cell:,.0f}; {made.runs:,} runs; "
        f"{made.minutes_per_cell:,.1f} min of posteriors a cell\n{gpus} GPUs, {workers} workers of two cores",
    )
    table = Table("work")
    for heading in ("GPU-hours", "worker-hours", "days"):
        table.add_column(heading, justify="right")
    priced = gpu_price > 0 or worker_price > 0
    if priced:
        table.add_column("cost", justify="right")
    for name, work in (
        ("the release", made.first),
        ("another champion", made.new_champion),
        ("another prior", made.new_prior),
    ):
        row = [name, f"{work.gpu_hours:,.0f}", f"{work.worker_hours:,.0f}", f"{work.hours / 24:,.2f}"]
        if priced:
            row.append(f"{work.gpu_hours * gpu_price + work.worker_hours * worker_price:,.0f}")
        table.add_row(*row)
    Console().print(table)
    tables = ", ".join(f"{name} {size:.2f}" for name, size in made.terabytes.items() if name != "total")
    print_text(
        f"store {made.terabytes['total']:.1f} TB in {made.objects:,} objects ({tables}); Dagster's events "
        f"{made.event_log_gigabytes:.1f} GB\nassumed, not measured: {', '.join(made.assumed) or 'nothing'}",
    )
