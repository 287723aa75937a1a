"""Commands that show how good results are: report (opens the page), tables (the paper's, for a folder of results)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paeplatform.cli.options import HomeOption, OverwriteOption, PresetOption, settings_for
from paeplatform.cli.printing import print_text
from paeplatform.errors import InputError

if TYPE_CHECKING:
    from paeplatform.resources.settings import PlatformSettings

_README = "README.md"
_TITLE = "# Tables of the run with preset "


def report(
    release: Annotated[
        str | None, typer.Option(help="Which release's page. Default: the preset's mock release.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--open/--no-open", help="Open it in a browser, or print its path.")
    ] = True,
    home: HomeOption = None,
    preset: PresetOption = None,
) -> None:
    """Open the validation report of a release in the browser; it needs no server and no network.

    Example: [bold]paeplatform report --no-open[/bold]
    """
    settings = settings_for(home, preset)
    page = settings.report / (release or settings.preset.release.name) / "index.html"
    if not page.is_file():
        known = sorted(path.parent.name for path in settings.report.glob("*/index.html"))
        raise InputError(
            f"no report at {page}: there are {', '.join(known) or 'none yet'}; `paeplatform run` makes them"
        )
    print_text(str(page))
    if show:
        import webbrowser

        if not webbrowser.open(page.resolve().as_uri()):
            print_text("no browser could be started: open the file by hand")


def tables(
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder to copy the tables to, with what made them.")
    ] = None,
    overwrite: OverwriteOption = False,
    home: HomeOption = None,
    preset: PresetOption = None,
) -> None:
    """Print the paper's tables as made last, or copy them (CSV, Markdown) to a folder with their provenance.

    Example: [bold]paeplatform tables --preset paper --home runs/paper --to docs/results/paper[/bold]
    """
    settings = settings_for(home, preset)
    found = sorted(settings.results.glob("table_*.md"))
    if not found:
        raise InputError(
            f"no tables under {settings.results} yet: make them with `paeplatform run --select paper_figures`"
        )
    if to is None:
        for path in found:
            typer.echo(path.read_text())
        return
    from paeplatform.targets import Target

    files = [path for table in found for path in (table, table.with_suffix(".csv"))]
    names = (*(path.name for path in files), _README)
    targets = {name: Target(to / name, overwrite, "--to", fault=_copy_fault) for name in names}
    for target in targets.values():
        target.check()
    texts = {path.name: path.read_bytes() for path in files}
    # The list of what was copied comes last: until then the one before it says which files may be replaced.
    texts[_README] = _provenance(settings, preset, [path.stem for path in found]).encode()
    for name, text in texts.items():
        with targets[name].new() as unfinished:
            unfinished.write_bytes(text)
    print_text(f"{to}: {len(found)} tables")


def _copy_fault(path: Path) -> str | None:
    """Why a file in the folder of copied tables may not be replaced: only those that its README.md lists may."""
    try:
        listing = (path.parent / _README).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        listing = ""
    ours = listing.startswith(_TITLE) and (path.name == _README or f"({path.name})" in listing)
    return None if ours else "was not written by `paeplatform tables`"


def _provenance(settings: PlatformSettings, given: str | None, names: list[str]) -> str:
    """The command, versions and seeds behind the tables; `given` is the preset as the caller named it."""
    from importlib.metadata import version

    from paeplatform import __version__
    from paeplatform.resources.models.tracking import git_commit

    preset = settings.preset
    libraries = ", ".join(f"{name} {version(name)}" for name in ("jax", "torch", "numpy", "polars"))
    listing = "\n".join(f"- [{name}]({name}.md), [CSV]({name}.csv)" for name in names)
    sizes = preset.tables
    return (
        f"{_TITLE}`{preset.name}`\n\n"
        f"Made by\n\n    paeplatform run --preset {given or preset.name} --select paper_figures\n\n"
        f"| what | value |\n|---|---|\n"
        f"| paeplatform | {__version__}, commit {git_commit(Path(__file__).resolve().parents[2])} |\n"
        f"| libraries | {libraries} |\n"
        f"| preset digest | {preset.digest()} |\n"
        f"| seed of trainings, of the sample | {preset.seed}, {preset.promotion.test_seed} |\n"
        f"| sources; of them by Markov chains alone | {sizes.n_sources:,}; {sizes.n_chained:,} |\n\n"
        f"{listing}\n"
    )
