"""`paeplatform infer`: redshifts of what is in files of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from paeplatform.cli.options import HomeOption, JsonOption, OverwriteOption, PresetOption, settings_for
from paeplatform.cli.printing import print_json, print_text
from paeplatform.errors import ConfigError, InputError

if TYPE_CHECKING:
    import polars as pl

    from paeplatform.answers.asking import Corrections
    from paeplatform.inference.estimate import Estimator
    from paeplatform.inference.files.photometry_file import PhotometryFile
    from paeplatform.inference.model.priors import RedshiftPrior
    from paeplatform.intake.sources import ReadingOptions
    from paeplatform.resources.settings import PlatformSettings
    from paeplatform.targets import Target

CHAMPION = "champion"
METHODS = ("importance", "mclmc", "pocomc")  # of paeplatform.inference.estimate, which is heavy to import
SHIPPED = "the reference model that ships with paeplatform"
_HEADINGS = {"status": "status", "paths": "made by", "flags": "flag", "input_faults": "input"}
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
    from paeplatform.inference.files.posterior_file import check_output
    from paeplatform.intake.sources import holds_measurements

    if output is not None and output not in files:
        check_output(output, overwrite=overwrite)
    channels = [file for file in files if not holds_measurements(file)]
    model = _Model(settings_for(home, preset), preset, bundle, alias, prior, method, chains)
    if channels:
        _refuse_for_channels(files, channels[0], plot=plot, columns=columns, unit=unit, ebv_mw=ebv_mw,
                             error_floor=error_floor, confusion=confusion)  # fmt: skip
        _infer_channels(channels[0], model, output, overwrite, json_)
        return
    from paeplatform.answers.asking import Corrections
    from paeplatform.intake.sources import ReadingOptions

    _infer_measurements(
        files,
        model,
        ReadingOptions(_pairs(columns), unit, match_radius, flags),
        Corrections(ebv_mw, error_floor, confusion),
        output,
        plot=plot,
        overwrite=overwrite,
        json_=json_,
    )


@dataclass(frozen=True)
class _Model:
    """Which model answers, with what prior, by which sampler; as the command line says it."""

    settings: PlatformSettings
    preset: str | None
    bundle: Path | None
    alias: str | None
    prior: str | None
    method: str | None
    chains: bool

    def estimator(self) -> tuple[Estimator, str]:
        """The estimator, in a process that is made ready for heavy work, and what answers call the model."""
        from paeplatform.answers.quick import estimator_of, with_fallback
        from paeplatform.inference.batches.runtime import start_jax, user_cache

        folder, name = self._folder()
        shipped = name == SHIPPED
        # a home that nothing was made in is not made by asking a question
        start_jax(self.settings.cache / "jax" if (self.settings.home / "var").is_dir() else user_cache())
        settings = self.settings
        if shipped and self.preset is None:
            from paeplatform.config import load_preset
            from paeplatform.reference.shipped import REFERENCE

            settings = replace(settings, preset=load_preset(REFERENCE))
        chosen = with_fallback(settings.preset, self.chains)
        z_prior = _prior(self.prior, settings, shipped)
        return estimator_of(bundle=folder, preset=chosen, prior=z_prior, method=self.method), name

    def _folder(self) -> tuple[Path | None, str]:
        """(folder of the bundle, its name); no folder for the model that ships."""
        if self.bundle is not None:
            return self.bundle, str(self.bundle)
        if self.alias is None and not _has_models(self.settings):
            return None, SHIPPED
        from paeplatform.resources.registry import PAE, ModelRegistry

        registry = ModelRegistry.from_settings(self.settings)
        if self.alias is None and registry.find_alias(PAE, CHAMPION) is None:
            return None, SHIPPED
        found = registry.by_alias(PAE, self.alias or CHAMPION)
        return registry.artifact(found, "bundle"), f"pae@{self.alias or CHAMPION} ({found.label})"


def _has_models(settings: PlatformSettings) -> bool:
    """Whether anything was ever registered; without importing MLflow, which takes seconds."""
    return settings.storage.mlflow is not None or (settings.mlruns / "mlflow.db").is_file()


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


# -- measurements ----------------------------------------------------------------------------------------------------
def _infer_measurements(
    files: list[Path],
    model: _Model,
    reading: ReadingOptions,
    corrections: Corrections,
    output: Path | None,
    *,
    plot: bool,
    overwrite: bool,
    json_: bool,
) -> None:
    from paeplatform.answers.asking import answer
    from paeplatform.inference.files.posterior_file import write_posteriors
    from paeplatform.intake.sources import read_sources

    sources = read_sources(files, reading)
    single = len(sources) == 1
    if output is not None or not single:
        output = _output(files[0], output, overwrite)
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
        warnings += [
            f"{output.suffix} cannot hold {', '.join(left_out)}: left out (.parquet holds all)"
        ] * bool(left_out)
    if picture is not None:
        content = found.card(0) if single else found.page(files[0].name).encode()
        with picture.new() as unfinished:
            unfinished.write_bytes(content)
    summary = _summary(found.table) | {
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
        _print_summary(summary)
        _print_ends([], None, picture)


def _network(model: str) -> Any:
    """The SBI network that ships, beside the model that ships; None where there is none."""
    from paeplatform.reference.shipped import reference_sbi, ships_sbi

    return reference_sbi()[0] if model == SHIPPED and ships_sbi() else None


def _picture(file: Path, suffix: str, overwrite: bool) -> Target:
    from paeplatform.targets import Target

    target = Target(_beside(file, suffix), overwrite, "--plot")
    target.check()
    return target


def _beside(file: Path, suffix: str) -> Path:
    """FILE's name with _photoz and another ending, .gz and its own taken off."""
    name = file.name[: -len(".gz")] if file.name.lower().endswith(".gz") else file.name
    return file.with_name(f"{Path(name).stem}_photoz{suffix}")


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


# -- the 102 channels ------------------------------------------------------------------------------------------------
def _infer_channels(file: Path, model: _Model, output: Path | None, overwrite: bool, json_: bool) -> None:
    from paeplatform.inference.files.photometry_file import read_photometry_file
    from paeplatform.inference.files.posterior_file import write_posteriors
    from paeplatform.instrument.bands import load_bands

    output = _output(file, output, overwrite)
    photometry = read_photometry_file(file, len(load_bands()))
    estimator, name = model.estimator()
    posteriors = estimator.estimate(photometry.flux, photometry.flux_err, photometry.object_id)
    prior_id = estimator.z_prior.prior_id()
    table, warnings = _with_source_columns(posteriors, photometry, prior_id)
    left_out = write_posteriors(output, table, trust=estimator.preset.trust, overwrite=overwrite)
    if left_out:
        warnings.append(_not_held(output, left_out))
    summary = _summary(table) | {
        "file": str(file),
        "output": str(output),
        "model": name,
        "prior": prior_id,
        "method": estimator.sampler,
        "trust": estimator.preset.trust.model_dump(),
        "warnings": warnings,
    }
    if json_:
        print_json(summary)
    else:
        _print_summary(summary)


def _not_held(output: Path, columns: Sequence[str]) -> str:
    return f"{output.suffix} cannot hold {', '.join(columns)}: left out (.parquet holds all)"


def _output(file: Path, output: Path | None, overwrite: bool) -> Path:
    """Where the posteriors go, checked."""
    from paeplatform.inference.files.posterior_file import check_output

    output = _beside(file, ".parquet") if output is None else output
    if output.exists() and file.exists() and output.samefile(file):
        raise InputError(f"--output {output}: that is the photometry itself")
    check_output(output, overwrite=overwrite)
    return output


def _prior(choice: str | None, settings: PlatformSettings, shipped: bool) -> RedshiftPrior:
    """The prior named on the command line, else the preset's."""
    from paeplatform.cli.science import fitted_prior
    from paeplatform.inference.files.prior_file import read_prior_file
    from paeplatform.inference.model.priors import prior_from_preset

    if choice is not None and choice.lower().endswith(".csv"):
        return read_prior_file(Path(choice))
    if choice not in {None, "uniform", "bpz"}:
        raise ConfigError(f"--prior {choice}: must be uniform, bpz, or a .csv with columns z and density")
    if choice is not None:
        section = settings.preset.prior.model_copy(update={"redshift": choice})
        settings = replace(settings, preset=settings.preset.model_copy(update={"prior": section}))
    if shipped:
        from paeplatform.reference.shipped import reference_prior

        return prior_from_preset(settings.preset.prior, reference_prior())
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
