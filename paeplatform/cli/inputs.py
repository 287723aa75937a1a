"""Commands that show and check what a run is given: presets, templates; and the version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console
from rich.table import Table

preset_app = typer.Typer(help="Show or check one preset.", no_args_is_help=True)
templates_app = typer.Typer(help="Check a folder of SED templates.", no_args_is_help=True)


def presets() -> None:
    """List the presets that ship with the package and their sizes."""
    from paeplatform.config import load_preset, preset_names

    table = Table()
    for column in ("preset", "catalogue", "training spectra", "autoencoder", "flow", "release sources"):
        table.add_column(column, justify="left" if column in {"preset", "autoencoder", "flow"} else "right")
    for name in preset_names():
        preset = load_preset(name)
        table.add_row(
            name,
            f"{preset.catalog.n_sources:,}",
            f"{preset.training_set.n_spectra:,}",
            preset.pae.autoencoder.architecture,
            preset.pae.flow.architecture,
            f"{len(preset.release.cells)} cells x {preset.release.sources_per_cell:,}",
        )
    Console().print(table)


@preset_app.command("show")
def preset_show(
    name: Annotated[str, typer.Argument(help="Preset name or YAML file.")],
) -> None:
    """Print a preset whole, with every default filled in.

    A starting point for your own: [bold]paeplatform preset show demo > mine.yaml[/bold]
    """
    from paeplatform.config import load_preset

    typer.echo(yaml.safe_dump(load_preset(name).model_dump(mode="json"), sort_keys=False), nl=False)


@preset_app.command("check")
def preset_check(
    file: Annotated[str, typer.Argument(help="YAML file (or preset name).")],
) -> None:
    """Check a preset: every key, type and range. Exit code 2 and one line when something is wrong.

    Example: [bold]paeplatform preset check mine.yaml[/bold]
    """
    from paeplatform.config import load_preset

    preset = load_preset(file)
    typer.echo(f"{file}: valid (name {preset.name}, digest {preset.digest()})")


@templates_app.command("check")
def templates_check(
    folder: Annotated[Path, typer.Argument(help="Folder of text files: wavelength [um], flux density f_nu.")],
) -> None:
    """Check a folder of your own SED templates before a preset points at it (templates.folder).

    Each file has two columns, rest-frame wavelength in um and flux density per unit frequency in any scale;
    wavelengths rise, fluxes are finite and not negative, and 0.1-5 um is covered.

    Example: [bold]paeplatform templates check my_templates/[/bold]
    """
    from paeplatform.sed.library import load_library

    library = load_library(folder)
    typer.echo(f"{folder}: {len(library)} templates, all valid (library {library.content_hash()})")


def version() -> None:
    """Print the version."""
    from paeplatform import __version__

    typer.echo(f"paeplatform {__version__}")
