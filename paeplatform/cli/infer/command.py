"""`paeplatform infer`: redshifts of what is in files of the user's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from paeplatform.cli.infer.model import ChosenModel
from paeplatform.cli.options import HomeOption, JsonOption, OverwriteOption, PresetOption, settings_for
from paeplatform.errors import ConfigError, InputError

METHODS = ("importance", "mclmc", "pocomc")  # of paeplatform.inference.estimate, which is heavy to import
_OF_FILES = "Reading files of measurements"
_OF_DATA = "What is done to measurements"


def infer(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Tables of measurements, or one table of the 102 channels.",
            metavar="FILE...",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where the table goes: .parquet, .csv or .fits. Default: the first FILE's name with "
            "_photoz.parquet; of a single source no table is written.",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        bool,
        typer.Option(
            "--plot",
            help="Draw: of one source its card (FILE's name with _photoz.png), of many a page to leaf through "
            "(_photoz.html).",
        ),
    ] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Folder of a trained model, instead of a registered one.", show_default=False),
    ] = None,
    alias: Annotated[
        str | None,
        typer.Option(
            help="Which registered model. Default: the champion of the home; where there is none, the "
            "reference model that ships with the package.",
            show_default=False,
        ),
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            help="p(z): uniform, bpz (as fitted by `paeplatform run`; of the reference model its own), or a .csv with "
            "columns z and density. Default: the preset's.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help=f"Sampler: {', '.join(METHODS)}. Default: the preset's.", show_default=False),
    ] = None,
    chains: Annotated[
        bool,
        typer.Option(
            "--chains",
            help="Markov chains for the few sources that importance sampling cannot be trusted for; compiling them "
            "takes most of a minute.",
        ),
    ] = False,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            help="OURS=THEIRS: a column by its name in the file, such as flux=F_total. May be given again.",
            rich_help_panel=_OF_FILES,
            show_default=False,
        ),
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(
            help="Of the fluxes, where the file does not say: uJy, mJy, Jy, nJy or ABmag.",
            rich_help_panel=_OF_FILES,
            show_default=False,
        ),
    ] = None,
    match_radius: Annotated[
        float,
        typer.Option(
            help="Rows within it are one source, where there are neither ids nor names \\[arcsec].",
            rich_help_panel=_OF_FILES,
        ),
    ] = 1.0,
    flags: Annotated[
        str,
        typer.Option(
            help="Which flagged measurements are set aside: tool (as the archive advises) or strict (any flag that "
            "speaks against one).",
            rich_help_panel=_OF_FILES,
        ),
    ] = "tool",
    ebv_mw: Annotated[
        float | None,
        typer.Option(
            "--ebv-mw",
            help="E(B-V) of the Milky Way for all sources \\[mag]. Default: a column ebv_mw, if there is one.",
            rich_help_panel=_OF_DATA,
            show_default=False,
        ),
    ] = None,
    error_floor: Annotated[
        float,
        typer.Option(
            help="Added to the errors in quadrature \\[per cent of the flux].", rich_help_panel=_OF_DATA
        ),
    ] = 0.0,
    confusion: Annotated[
        float,
        typer.Option(
            help="Confusion noise of a deep field, added to the errors in quadrature \\[uJy].",
            rich_help_panel=_OF_DATA,
        ),
    ] = 0.0,
    overwrite: OverwriteOption = False,
    json_: JsonOption = False,
    home: HomeOption = None,
    preset: PresetOption = None,
) -> None:
    """Redshifts of the sources in your files, and how far to trust them. Needs no training and no home.

    FILE is a table of SPHEREx measurements as IRSA's spectrophotometry tool exports it, or one that says the same in
    other words: wavelength, width, flux, flux_err, and what there is of flags, detector, positions, ids, names. CSV and
    other text, Parquet, FITS, VOTable, ECSV and IPAC tables, also gzipped; a row a measurement, or a row a source with
    arrays in its cells; one source a file or many. Units are read from the file. What is set aside is counted, with
    reasons.

    One FILE may hold the 102 channels instead: columns [bold]flux[/bold] and [bold]flux_err[/bold] of arrays, or
    flux_1 to flux_102 and flux_err_1 to flux_err_102, in uJy. An error of inf or NaN masks its band.

    Every source gets a row: pae_status says how far to trust its posterior, z_flags why to be careful, input_fault
    what was wrong with its data. A misfit has no usable redshift, however the columns look.

    Examples: [bold]paeplatform infer my_export.csv --plot[/bold],
    [bold]paeplatform infer night*.fits --unit mJy --ebv-mw 0.03 -o night_z.fits[/bold]
    or [bold]paeplatform infer galaxies.parquet --preset standard --alias challenger[/bold]
    """
    if bundle is not None and alias is not None:
        raise ConfigError("give --bundle or --alias, not both")
    if method is not None and method not in METHODS:
        raise ConfigError(f"--method {method}: must be one of {', '.join(METHODS)}")
    from paeplatform.cli.infer.channels import infer_channels
    from paeplatform.cli.infer.measurements import infer_measurements
    from paeplatform.inference.files.posterior_file import check_output
    from paeplatform.intake.sources import holds_measurements

    if output is not None and output not in files:
        check_output(output, overwrite=overwrite)
    channels = [file for file in files if not holds_measurements(file)]
    model = ChosenModel(settings_for(home, preset), preset, bundle, alias, prior, method, chains)
    if channels:
        _refuse_for_channels(files, channels[0], plot=plot, columns=columns, unit=unit, ebv_mw=ebv_mw,
                             error_floor=error_floor, confusion=confusion)  # fmt: skip
        infer_channels(channels[0], model, output, overwrite, json_)
        return
    from paeplatform.answers.asking import Corrections
    from paeplatform.intake.sources import ReadingOptions

    infer_measurements(
        files,
        model,
        ReadingOptions(_pairs(columns), unit, match_radius, flags),
        Corrections(ebv_mw, error_floor, confusion),
        output,
        plot=plot,
        overwrite=overwrite,
        json_=json_,
    )


def _pairs(columns: list[str] | None) -> dict[str, str]:
    """`--columns flux=F_total` as a mapping.

    Raises:
        ConfigError: not of this form, or one name twice.
    """
    pairs: dict[str, str] = {}
    for text in columns or []:
        ours, separator, theirs = text.partition("=")
        if not separator or not ours.strip() or not theirs.strip():
            raise ConfigError(f"--columns {text}: must be OURS=THEIRS, such as flux=F_total")
        if ours.strip() in pairs:
            raise ConfigError(f"--columns {text}: {ours.strip()} is given twice")
        pairs[ours.strip()] = theirs.strip()
    return pairs


def _refuse_for_channels(files: list[Path], file: Path, *, plot: bool, **options: Any) -> None:
    """Raises InputError for what goes with measurements only."""
    if len(files) > 1:
        raise InputError(f"{file} holds the 102 channels: such a file is read alone, not with others")
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value] + ["--plot"] * plot
    if given:
        raise InputError(f"{file} holds the 102 channels: {', '.join(given)} is for files of measurements")
