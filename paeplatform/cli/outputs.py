"""Commands that hand results over: export, show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paeplatform.cli.options import HomeOption, OverwriteOption, PresetOption, settings_for
from paeplatform.cli.printing import print_text
from paeplatform.errors import InputError

if TYPE_CHECKING:
    import polars as pl
    from upath import UPath

    from paeplatform.outputs.card import Galaxy
    from paeplatform.resources.settings import PlatformSettings


def export(
    release: Annotated[str, typer.Option(help="Release to export.")],
    file_format: Annotated[
        str, typer.Option("--format", help="parquet, fits, votable, qp or hats.")
    ] = "parquet",
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", help="File (hats: folder) to write. Default: <release> with the format's ending."
        ),
    ] = None,
    cells: Annotated[
        list[str] | None, typer.Option("--cells", help="A cell by key. May be given again. Default: all.")
    ] = None,
    overwrite: OverwriteOption = False,
    home: HomeOption = None,
    preset: PresetOption = None,
) -> None:
    """Write a release's catalogue for others: units, UCDs, flags and provenance go into the header.

    Missing values are null or NaN, never -99. qp holds p(z) as a density that integrates to 1 and has the
    catalogue's 51 quantiles.

    Examples: [bold]paeplatform export --release mock-r1 --format fits[/bold],
    [bold]paeplatform export --release mock-r1 --format hats --to catalogues/mock-r1[/bold]
    """
    settings = settings_for(home, preset)
    import polars as pl

    from paeplatform.assets.release.accepted import refuse_held_catalog
    from paeplatform.outputs.formats import FORMATS, SUFFIXES, check_export_target
    from paeplatform.outputs.formats import export as write
    from paeplatform.resources.instance import open_to_read
    from paeplatform.resources.objects import scan_table

    if file_format not in FORMATS:
        raise InputError(f"--format {file_format!r} must be one of {', '.join(FORMATS)}")
    tables = _cells(settings, release, cells)
    catalog = pl.concat([scan_table(path) for path in tables])
    path = to or Path(f"{release}{SUFFIXES[file_format]}")
    check_export_target(path, file_format, overwrite=overwrite)
    with open_to_read(settings) as instance:
        notes = refuse_held_catalog(instance, release, [table.stem for table in tables])
    write(catalog, path, file_format, _provenance(catalog, release), overwrite=overwrite)
    rows = catalog.select(pl.len()).collect().item()
    print_text(f"{path}: {rows:,} sources of {len(tables)} cell(s)")
    for note in notes:
        print_text(f"note: {note}")


def show(
    source: Annotated[int, typer.Argument(help="object_id of the source.")],
    release: Annotated[
        str | None,
        typer.Option(help="Release to look in. Default: the only one that has it.", show_default=False),
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", help="PNG to write. Default: <object_id>.png.")] = None,
    overwrite: OverwriteOption = False,
    home: HomeOption = None,
    preset: PresetOption = None,
) -> None:
    """Draw one galaxy's card: photometry, posterior predictive SED, p(z) by method, flags and provenance.

    Example: [bold]paeplatform show 1917987867317780881 --release mock-r1[/bold]
    """
    from paeplatform.targets import Target

    target = Target(to or Path(f"{source}.png"), overwrite, "--to")
    target.check()
    settings = settings_for(home, preset)
    galaxy = _galaxy(settings, source, release)
    from paeplatform.instrument.bands import load_bands
    from paeplatform.outputs.card import card_png, source_card

    predictive = _predictive(settings, galaxy) if galaxy.row["pae_z_mean"] is not None else None
    with target.new() as unfinished:
        unfinished.write_bytes(card_png(source_card(galaxy, load_bands(), predictive)))
    print_text(str(target.path))


def _cells(settings: PlatformSettings, release: str, cells: list[str] | None) -> list[UPath]:
    """Catalogue files of a release.

    Raises:
        InputError: no such release or cell.
    """
    from paeplatform.cli.tables import stored_tables

    base = settings.store / "redshift_catalog"
    known = _releases(base)
    if release not in known:
        raise InputError(
            f"no catalogue of release {release!r} under {base}: there are {', '.join(known) or 'none'}"
        )
    found = stored_tables(base / release)
    unknown = sorted(set(cells or ()) - set(found))
    if unknown:
        raise InputError(f"release {release} has no cell {', '.join(unknown)}: there are {', '.join(found)}")
    return [path for key, path in found.items() if cells is None or key in cells]


def _releases(base: UPath) -> list[str]:
    """Releases that have a catalogue. Folders are listed, since in a pattern a name such as r[1] means another one."""
    from paeplatform.resources.objects import names_in

    return sorted(name for name in names_in(base) if not name.startswith(".") and (base / name).is_dir())


def _provenance(catalog: pl.LazyFrame, release: str) -> dict[str, str]:
    from paeplatform import __version__

    names = ("bundle_version", "prior_id", "code_version", "input_data_version")
    columns = catalog.select(*names).unique().collect()
    return {
        "release": release,
        "creator": f"paeplatform {__version__}",
        **{name: ", ".join(map(str, columns[name].unique().sort().to_list()[:8])) for name in names},
    }


def _galaxy(settings: PlatformSettings, source: int, release: str | None) -> Galaxy:
    """Raises:
    InputError: the source is in no catalogue, or in several and no release is named.
    """
    import numpy as np
    import polars as pl

    from paeplatform.cli.tables import stored_tables
    from paeplatform.instrument.bands import load_bands
    from paeplatform.instrument.measurements import COLUMNS
    from paeplatform.outputs.card import Galaxy
    from paeplatform.resources.objects import read_table, scan_table

    base = settings.store / "redshift_catalog"
    found: list[tuple[str, str, dict[str, Any]]] = []
    for known in [name for name in _releases(base) if release in (None, name)]:
        for cell, path in stored_tables(base / known).items():
            rows = scan_table(path).filter(pl.col("object_id") == source).collect()
            found += [(known, cell, row) for row in rows.iter_rows(named=True)]
    if not found:
        where = f"release {release}" if release else "any release"
        raise InputError(f"no source {source} in {where} under {base}; `paeplatform export` lists them")
    if len(found) > 1:
        names = ", ".join(name for name, _, _ in found)
        raise InputError(f"source {source} is in {names}: choose with --release")
    name, cell, row = found[0]

    def one(asset: str) -> dict[str, Any]:
        table = read_table(settings.store / asset / name / f"{cell}.parquet")
        return table.filter(pl.col("object_id") == source).row(0, named=True)

    draws = one("reweighted_posteriors")["pae_z_draws"]
    if (settings.store / "release_measurements" / name / f"{cell}.parquet").is_file():
        measured = one("release_measurements")
        columns = [np.asarray(measured[f"measured_{key}"], dtype=np.float64) for key in COLUMNS]
    else:  # the release was made before measurements were kept: its channels
        photometry, bands = one("release_photometry"), load_bands()
        flux, error = (np.asarray(photometry[key], dtype=np.float64) for key in ("flux", "flux_err"))
        columns = [flux, error, bands.wave_um, bands.bandwidth_um]
    return Galaxy(row, *columns, z_draws=np.asarray(draws if draws is not None else [], dtype=np.float64))


def _predictive(settings: PlatformSettings, galaxy: Galaxy) -> Any:
    """What the model of the source's row predicts of its measurements; None where it has no proposal to draw from."""
    import json

    from paeplatform.cli.science import estimator_of
    from paeplatform.inference.model.priors import prior_from_dict
    from paeplatform.outputs.card import predict
    from paeplatform.resources.objects import read_table
    from paeplatform.resources.registry import PAE, ModelRegistry

    registry, preset = ModelRegistry.from_settings(settings), settings.preset
    version = registry.by_version(PAE, int(galaxy.row["bundle_version"]))
    folder = registry.artifact(version, "bundle")
    stored = read_table(settings.store / "inference_prior.parquet").row(0, named=True)
    prior = prior_from_dict(json.loads(stored["prior"]))
    # weighted draws show the SED well enough, and chains would take minutes to compile
    without_chains = preset.inference.model_copy(update={"fallback": False})
    settings = replace(settings, preset=preset.model_copy(update={"inference": without_chains}))
    estimator = estimator_of(folder, prior, settings, "importance")
    if estimator.proposal is None or not preset.prior.nf_prior:
        return None
    return predict(estimator, galaxy)
