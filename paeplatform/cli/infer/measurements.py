"""`paeplatform infer` on files of measurements at their own wavelengths."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from paeplatform.cli.infer.output import beside, not_held, output_path
from paeplatform.cli.infer.summary import print_summary, summary_of
from paeplatform.cli.printing import print_json, print_text

if TYPE_CHECKING:
    from paeplatform.answers.asking import Corrections
    from paeplatform.cli.infer.model import ChosenModel
    from paeplatform.intake.sources import ReadingOptions
    from paeplatform.targets import Target


def infer_measurements(
    files: list[Path],
    model: ChosenModel,
    reading: ReadingOptions,
    corrections: Corrections,
    output: Path | None,
    *,
    plot: bool,
    overwrite: bool,
    json_: bool,
) -> None:
    """Answers for the sources in files of measurements, and writes, draws and prints what was asked for.

    Args:
        files: of measurements.
        model: that answers.
        reading: what the user says of the files.
        corrections: to the measurements.
        output: where the table goes; None for the default, and for no table of a single source.
        plot: whether to draw the card of a single source, or the page of many.
        overwrite: whether files that the platform wrote may be replaced.
        json_: whether JSON is printed.
    """
    from paeplatform.answers.asking import answer
    from paeplatform.inference.files.posterior_file import write_posteriors
    from paeplatform.intake.sources import read_sources

    sources = read_sources(files, reading)
    single = len(sources) == 1
    if output is not None or not single:
        output = output_path(files[0], output, overwrite)
    picture = _picture(files[0], ".png" if single else ".html", overwrite) if plot else None
    estimator, name = model.estimator()
    if single and not json_:
        typer.echo("Inferring; the first time on a machine this compiles for half a minute ...", err=True)
    found = answer(sources, estimator, model=name, corrections=corrections, progress=not (json_ or single))
    if picture is not None:
        found = found.beside(_network(name))
    warnings = list(found.notes)
    if output is not None:
        left_out = write_posteriors(output, found.table, trust=estimator.preset.trust, overwrite=overwrite)
        warnings += not_held(output, left_out)
    if picture is not None:
        content = found.card(0) if single else found.page(files[0].name).encode()
        with picture.new() as unfinished:
            unfinished.write_bytes(content)
    summary = summary_of(found.table) | {
        "files": [str(file) for file in files],
        "rows": sources.n_rows,
        "set_aside": dict(sources.set_aside.group_by("reason").len().sort("reason").iter_rows()),
        "output": None if output is None else str(output),
        "picture": None if picture is None else str(picture.path),
        "model": name,
        "prior": estimator.z_prior.prior_id(),
        "method": estimator.sampler,
        "trust": estimator.preset.trust.model_dump(),
        "warnings": warnings,
    }
    if json_:
        answers = [
            {"name": fact.name, "says": found.sentences(row)} for row, fact in enumerate(found.facts[:1000])
        ]
        print_json(summary | {"answers": answers})
    elif single:
        for line in found.sentences(0):
            print_text(line)
        _print_ends(warnings, output, picture)
    else:
        _print_set_aside(summary)
        print_summary(summary)
        _print_ends([], None, picture)


def _network(model: str) -> Any:
    """The SBI network that ships, beside the model that ships; None where there is none."""
    from paeplatform.answers.quick import SHIPPED
    from paeplatform.reference.shipped import reference_sbi, ships_sbi

    return reference_sbi()[0] if model == SHIPPED and ships_sbi() else None


def _picture(file: Path, suffix: str, overwrite: bool) -> Target:
    from paeplatform.targets import Target

    target = Target(beside(file, suffix), overwrite, "--plot")
    target.check()
    return target


def _print_ends(warnings: list[str], output: Path | None, picture: Target | None) -> None:
    for warning in warnings:
        print_text(f"note: {warning}")
    if output is not None:
        print_text(f"written to {output}")
    if picture is not None:
        print_text(f"drawn in {picture.path}")


def _print_set_aside(summary: dict[str, Any]) -> None:
    print_text(f"{summary['rows']:,} measurements read of {summary['sources']:,} sources")
    for reason, n in summary["set_aside"].items():
        print_text(f"set aside: {n:,} {reason}")
