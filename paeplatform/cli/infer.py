"""`paeplatform infer`: redshift posteriors for photometry in a file of the user's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from paeplatform.cli.options import HomeOption, JsonOption, OverwriteOption, PresetOption, settings_for
from paeplatform.cli.printing import print_json, print_text
from paeplatform.cli.science import estimator_of, fitted_prior, registered_bundle
from paeplatform.errors import ConfigError, InputError

if TYPE_CHECKING:
    import polars as pl

    from paeplatform.inference.files.photometry_file import PhotometryFile
    from paeplatform.inference.model.priors import RedshiftPrior
    from paeplatform.resources.settings import PlatformSettings

CHAMPION = "champion"
METHODS = ("importance", "mclmc", "pocomc")  # of paeplatform.inference.estimate, which is heavy to import
_HEADINGS = {"status": "status", "paths": "made by", "flags": "flag", "input_faults": "input"}


def infer(
    file: Annotated[Path, typer.Argument(help="Photometry: .parquet, .csv or .fits.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where the posteriors go: .parquet, .csv or .fits. Default: FILE's name with _photoz.parquet.",
            show_default=False,
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Folder of a trained model, instead of a registered one.", show_default=False),
    ] = None,
    alias: Annotated[
        str | None,
        typer.Option(help="Which registered model. Default: champion.", show_default=False),
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(
            help="p(z): uniform, bpz (as fitted by `paeplatform run`), or a .csv with columns z and density. "
            "Default: the preset's.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help=f"Sampler: {', '.join(METHODS)}. Default: the preset's.", show_default=False),
    ] = None,
    overwrite: OverwriteOption = False,
    json_: JsonOption = False,
    home: HomeOption = None,
    preset: PresetOption = None,
) -> None:
    """Infer redshift posteriors for the galaxies in a file, and write one row a galaxy.

    FILE holds 102 fluxes and 1-sigma errors a row, in uJy: either two columns
    [bold]flux[/bold] and [bold]flux_err[/bold] of arrays, or flux_1 to flux_102 and flux_err_1 to
    flux_err_102. FITS may state Jy, mJy or nJy by TUNIT. An error of inf or NaN
    masks its band; negative fluxes are fine. [bold]object_id[/bold] (distinct integers) is
    kept, else rows are numbered; so are all other columns, such as z_true.

    Every galaxy gets a row: pae_status says how far to trust its posterior,
    z_flags why to be careful, input_fault what was wrong with its photometry.

    Examples: [bold]paeplatform infer galaxies.csv --preset standard[/bold]
    or [bold]paeplatform infer deep.fits --bundle models/pae -o deep_z.fits[/bold]
    """
    if bundle is not None and alias is not None:
        raise ConfigError("give --bundle or --alias, not both")
    if method is not None and method not in METHODS:
        raise ConfigError(f"--method {method}: must be one of {', '.join(METHODS)}")
    settings = settings_for(home, preset)

    from paeplatform.inference.files.photometry_file import read_photometry_file
    from paeplatform.inference.files.posterior_file import write_posteriors
    from paeplatform.instrument.bands import load_bands

    output = _output(file, output, overwrite)
    photometry = read_photometry_file(file, len(load_bands()))
    z_prior = _prior(prior, settings)
    folder, model = _model(bundle, alias or CHAMPION, settings)
    estimator = estimator_of(folder, z_prior, settings, method)
    posteriors = estimator.estimate(photometry.flux, photometry.flux_err, photometry.object_id)
    table, warnings = _with_source_columns(posteriors, photometry, z_prior.prior_id())
    left_out = write_posteriors(output, table, trust=settings.preset.trust, overwrite=overwrite)
    if left_out:
        warnings.append(f"{output.suffix} cannot hold {', '.join(left_out)}: left out (.parquet holds all)")
    summary = _summary(table) | {
        "file": str(file),
        "output": str(output),
        "model": model,
        "prior": z_prior.prior_id(),
        "method": estimator.sampler,
        "trust": settings.preset.trust.model_dump(),
        "warnings": warnings,
    }
    if json_:
        print_json(summary)
    else:
        _print_summary(summary)


def _output(file: Path, output: Path | None, overwrite: bool) -> Path:
    """Where the posteriors go, checked."""
    from paeplatform.inference.files.posterior_file import check_output

    output = file.with_name(f"{file.stem}_photoz.parquet") if output is None else output
    if output.exists() and file.exists() and output.samefile(file):
        raise InputError(f"--output {output}: that is the photometry itself")
    check_output(output, overwrite=overwrite)
    return output


def _model(bundle: Path | None, alias: str, settings: PlatformSettings) -> tuple[Path, str]:
    """The folder of the bundle named on the command line, and what the summary calls it."""
    return (registered_bundle(settings, alias), f"pae@{alias}") if bundle is None else (bundle, str(bundle))


def _prior(choice: str | None, settings: PlatformSettings) -> RedshiftPrior:
    """The prior named on the command line, else the preset's."""
    from paeplatform.inference.files.prior_file import read_prior_file
    from paeplatform.inference.model.priors import prior_from_preset

    if choice is not None and choice.lower().endswith(".csv"):
        return read_prior_file(Path(choice))
    if choice not in {None, "uniform", "bpz"}:
        raise ConfigError(f"--prior {choice}: must be uniform, bpz, or a .csv with columns z and density")
    if choice is not None:
        section = settings.preset.prior.model_copy(update={"redshift": choice})
        settings = replace(settings, preset=settings.preset.model_copy(update={"prior": section}))
    return prior_from_preset(settings.preset.prior, fitted_prior(settings))


def _with_source_columns(
    posteriors: pl.DataFrame, photometry: PhotometryFile, prior_id: str
) -> tuple[pl.DataFrame, list[str]]:
    """Adds what is known of each source: its prior, the file's other columns; and the warnings."""
    import polars as pl

    table = posteriors.with_columns(pl.lit(prior_id).alias("prior_id"))
    warnings = list(photometry.warnings)
    taken = [name for name in photometry.extra.columns if name in table.columns]
    if taken:
        warnings.append(f"columns {', '.join(taken)} of the photometry were replaced by the posterior's")
    return table.hstack(photometry.extra.drop(taken)), warnings


def _summary(table: pl.DataFrame) -> dict[str, Any]:
    """Counts and widths of a table of posteriors, ready for JSON."""
    import polars as pl

    from paeplatform.inference.results.summaries import ZFlag

    sigma = table.select((pl.col("pae_z_std") / (1.0 + pl.col("pae_z_median"))).median()).item()
    counts = table.group_by("pae_status").len().sort("len", "pae_status", descending=[True, False])
    faults = table.drop_nulls("input_fault").group_by("input_fault").len().sort("input_fault")
    flagged = {str(flag.name): int((table["z_flags"] & int(flag) != 0).sum()) for flag in ZFlag}
    return {
        "sources": table.height,
        "status": dict(counts.iter_rows()),
        "paths": dict(table.group_by("pae_path").len().sort("pae_path").iter_rows()),
        "flags": {name: n for name, n in flagged.items() if n},
        "input_faults": dict(faults.iter_rows()),
        "median_sigma": None if sigma is None else round(float(sigma), 6),
    }


def _print_summary(summary: dict[str, Any]) -> None:
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    shown.add_column("")
    shown.add_column("galaxies", justify="right")
    shown.add_column("%", justify="right")
    shown.add_row("all", f"{summary['sources']:,}", "100.0")
    for heading in _HEADINGS:
        for name, n in summary[heading].items():
            shown.add_row(
                escape(f"{_HEADINGS[heading]} {name}"), f"{n:,}", f"{100.0 * n / summary['sources']:.1f}"
            )
    Console().print(shown)
    if summary["median_sigma"] is not None:
        print_text(f"median sigma_z/(1+z) {summary['median_sigma']:.4f}")
    print_text(f"{summary['method']} with model {summary['model']}, prior {summary['prior']}")
    for warning in summary["warnings"]:
        print_text(f"note: {warning}")
    print_text(f"written to {summary['output']}")
