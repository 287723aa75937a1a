"""`paeplatform simulate-release`: deliveries like a survey's, good or deliberately bad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from paeplatform.cli.options import HomeOption, JsonOption, OverwriteOption, PresetOption, settings_for
from paeplatform.cli.printing import print_json, print_text
from paeplatform.errors import InputError
from paeplatform.names import check_release_name

if TYPE_CHECKING:
    import polars as pl

    from paeplatform.config import Preset
    from paeplatform.instrument.bands import BandSet
    from paeplatform.release.simulated.defects import DefectSpec
    from paeplatform.sed.library import TemplateLibrary


def simulate_release(
    name: Annotated[
        str | None,
        typer.Argument(help="Name of the release: small letters, digits, - and _.", show_default=False),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            help="Landing zone to write into. Default: that of the home.",
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    file_format: Annotated[str, typer.Option("--format", help="parquet, csv or fits.")] = "parquet",
    visits: Annotated[int, typer.Option(min=1, help="Exposures of a source in each channel.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of noise, flags and lost exposures.")] = 1,
    collection: Annotated[str, typer.Option(help="Label of the data collection.")] = "spherex_qr3",
    pipeline: Annotated[str, typer.Option(help="Version of the pipeline.")] = "7.0.5",
    defect: Annotated[
        list[str] | None,
        typer.Option(
            help="A defect by name, of all cells or, as NAME:hp6-27256, of one. May be given again."
        ),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--change-cell", help="Give this cell other noise: a delivery repeated with changes there."
        ),
    ] = None,
    list_defects: Annotated[
        bool, typer.Option("--list-defects", help="Say what defects there are, and stop.")
    ] = False,
    overwrite: OverwriteOption = False,
    json_: JsonOption = False,
    home: HomeOption = None,
    preset: PresetOption = None,
) -> None:
    """Write a delivery of the preset's mock sources: a manifest and files of single exposures.

    Examples: [bold]paeplatform simulate-release qr3-week1[/bold],
    [bold]paeplatform simulate-release qr3-bad --defect missing_detector:hp6-27256 --defect duplicates[/bold]
    """
    if list_defects:
        _print_defects(json_)
        return
    if name is None:
        raise InputError("give the release a name, as in `paeplatform simulate-release qr3-week1`")
    check_release_name(name)  # before the catalogue is drawn, which takes a while
    settings = settings_for(home, preset)
    from paeplatform.catalog.cells import parse_cell_key
    from paeplatform.instrument.bands import load_bands
    from paeplatform.release.simulated.delivery import DeliverySpec, check_delivery, write_delivery
    from paeplatform.release.simulated.sky import TemplateSky
    from paeplatform.sed.library import load_library

    spec = DeliverySpec(
        release=name,
        data_collection=collection,
        pipeline_version=pipeline,
        n_visits=visits,
        file_format=file_format,
        seed=seed,
        cell_seeds={parse_cell_key(key)[1]: seed + 1_000_003 for key in change or []},
        depth=settings.preset.instrument.depth,
        defects=_defects(defect or []),
    )
    folder = (to or settings.landing).expanduser() / name
    check_delivery(folder, spec, overwrite=overwrite)
    bands, library = load_bands(), load_library(settings.preset.templates.folder)
    sources = _sources(settings.preset, library, bands)
    manifest = write_delivery(
        sources, bands, folder, spec, sky=TemplateSky(library), overwrite=overwrite, progress=not json_
    )
    if json_:
        typer.echo(
            json.dumps({"folder": str(folder), "version": manifest.content_hash(), "rows": manifest.n_rows})
        )
        return
    print_text(
        f"{folder}: {manifest.n_rows:,} exposures of {manifest.n_sources:,} sources in {len(manifest.files)} file(s), "
        f"version {manifest.content_hash()}\n`paeplatform plan` says what it asks for, `paeplatform run` does it."
    )


def _sources(preset: Preset, library: TemplateLibrary, bands: BandSet) -> pl.DataFrame:
    """Photometry of the preset's mock sources of a release."""
    from paeplatform.catalog.mock import draw_mock_catalog
    from paeplatform.catalog.photometry import mock_photometry, select_release

    catalog = select_release(preset, draw_mock_catalog(preset, library))
    return mock_photometry(preset, library, bands, catalog, preset.seed)


def _defects(texts: list[str]) -> tuple[DefectSpec, ...]:
    from paeplatform.catalog.cells import parse_cell_key
    from paeplatform.release.simulated.defects import DefectSpec

    found = []
    for text in texts:
        name, _, cell = text.partition(":")
        found.append(DefectSpec(name, (parse_cell_key(cell)[1],) if cell else ()))
    return tuple(found)


def _print_defects(json_: bool) -> None:
    from paeplatform.release.simulated.defects import DEFECTS

    if json_:
        rows = [vars(defect) for defect in DEFECTS.values()]
        print_json({"defects": rows})
        return
    table = Table("defect", "concerns", "caught by", Column("what is wrong", overflow="fold"))
    for defect in DEFECTS.values():
        table.add_row(defect.name, defect.level, defect.caught_by, defect.doc)
    Console().print(table)
