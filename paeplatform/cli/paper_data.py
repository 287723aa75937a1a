"""`paeplatform paper-data`: the paper's own simulation files, listed and converted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from paeplatform.cli.options import HomeOption, JsonOption, OverwriteOption, PresetOption, settings_for
from paeplatform.cli.printing import print_json, print_text

if TYPE_CHECKING:
    from paeplatform.paespec.folder import Survey
    from paeplatform.resources.settings import PlatformSettings

SPECTRA, PHOTOMETRY = "training_spectra.parquet", "photometry.parquet"


def paper_data(
    folder: Annotated[
        Path, typer.Argument(help="Folder with phot/, line_catalogs/, select_catgrid_info/, filters/.")
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", help="Convert what is there into this folder.", file_okay=False, show_default=False
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    json_: JsonOption = False,
    home: HomeOption = None,
    preset: PresetOption = None,
) -> None:
    """List what a folder of the paper's simulation files (Zenodo 11406518) holds and misses; convert it with --to.

    Written are [bold]training_spectra.parquet[/bold] (the place of the asset of that name) and
    [bold]photometry.parquet[/bold] with z_true, which [bold]paeplatform infer[/bold] takes.

    Example: [bold]paeplatform paper-data ~/zenodo --to converted[/bold]
    """
    from paeplatform.paespec.folder import NEEDED, survey

    found = survey(folder)
    notes = _convert(found, to, settings_for(home, preset), overwrite) if to is not None else []
    if json_:
        files = {kind: [str(path) for path in paths] for kind, paths in found.files.items()}
        print_json({"files": files, "missing": found.missing, "notes": notes})
        return
    table = Table("what", "files", "needed for", Column("first", overflow="fold"))
    for kind, paths in found.files.items():
        first = str(paths[0].relative_to(folder)) if paths else "missing"
        table.add_row(kind, str(len(paths)), NEEDED.get(kind, ""), first)
    Console().print(table)
    for line in notes:
        print_text(line)


def _convert(found: Survey, to: Path, settings: PlatformSettings, overwrite: bool) -> list[str]:
    from paeplatform.paespec.filters import read_filters
    from paeplatform.paespec.photometry import read_photometry, read_properties, read_truth, with_truth
    from paeplatform.paespec.spectra import write_training_spectra
    from paeplatform.sed.grid import rest_grid
    from paeplatform.targets import MARK, Target, creator

    # All of them before the first is read, since reading takes minutes.
    spectra, table = (Target(to / name, overwrite, "--to") for name in (SPECTRA, PHOTOMETRY))
    if found.files["spectra"]:
        spectra.check()
    if found.files["noisy photometry"]:
        table.check()
    notes: list[str] = []
    if found.files["spectra"]:
        redshift = None
        if found.files["properties"]:
            known = read_properties(found.the("properties"))
            redshift = dict(zip(known["object_id"].to_list(), known["z_true"].to_list(), strict=True))
        with spectra.new() as unfinished:
            counts = write_training_spectra(
                found.the("spectra"), unfinished, rest_grid(settings.preset.rest_grid), redshift
            )
        notes.append(f"{SPECTRA}: " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    if found.files["noisy photometry"]:
        photometry, said = read_photometry(found.the("noisy photometry"))
        notes += said.lines
        if found.files["selection"]:
            photometry, said = with_truth(photometry, read_truth(found.the("selection")))
            notes += said.lines
        with table.new() as unfinished:
            photometry.write_parquet(unfinished, metadata={MARK: creator()})
        notes.append(f"{PHOTOMETRY}: {photometry.height} sources")
    if found.files["filters"]:
        curves = read_filters(found.files["filters"])
        notes.append(f"filters: {len(curves)} curves, {curves.wave.min():.3f} to {curves.wave.max():.3f} um")
    return notes
