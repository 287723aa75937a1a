"""`paeplatform evaluate`: how good the champion is on galaxies that no part of its training has seen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from paeplatform.cli.options import HomeOption, JsonOption, OverwriteOption, PresetOption, settings_for
from paeplatform.cli.printing import print_json
from paeplatform.errors import InputError

if TYPE_CHECKING:
    from paeplatform.inference.estimate import Estimator
    from paeplatform.inference.model.priors import RedshiftPrior
    from paeplatform.resources.settings import PlatformSettings


TARGET_SNR = 50.0


def evaluate(
    sources: Annotated[int, typer.Option(help="How many fresh sources to infer.", min=1)] = 240,
    min_snr: Annotated[
        float, typer.Option(help="Total signal-to-noise a source must exceed.", min=0.0)
    ] = 50.0,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the fresh catalogue. Default: the preset's plus a million.", min=0),
    ] = None,
    alias: Annotated[str, typer.Option(help="Which registered bundle to measure.")] = "champion",
    posteriors: Annotated[
        Path | None,
        typer.Option(help="Also write the posterior summaries with the truth to this Parquet file."),
    ] = None,
    overwrite: OverwriteOption = False,
    json_: JsonOption = False,
    home: HomeOption = None,
    preset: PresetOption = None,
) -> None:
    """Measure a registered bundle on fresh mock galaxies: redshift metrics per cut in sigma_z/(1+z).

    The galaxies come from a catalogue of another seed, so neither they nor their noise were trained on. Some ten
    minutes for 240 sources on two cores.

    Example: [bold]paeplatform evaluate --preset standard --sources 240 --min-snr 50 --json[/bold]
    """
    from paeplatform.targets import MARK, Target, creator

    target = None if posteriors is None else Target(posteriors, overwrite, "--posteriors")
    if target is not None:
        target.check()
    settings = settings_for(home, preset)
    folder = registered_bundle(settings, alias)
    from paeplatform.inference.model.priors import prior_from_preset
    from paeplatform.scores.calibration import posterior_summary
    from paeplatform.scores.evaluate import evaluate_high_snr
    from paeplatform.scores.targets import high_snr_targets, release_targets
    from paeplatform.sed.library import load_library

    prior = prior_from_preset(settings.preset.prior, fitted_prior(settings))
    estimator = estimator_of(folder, prior, settings)
    library = load_library(settings.preset.templates.folder)
    metrics, rows = evaluate_high_snr(estimator, library, n_sources=sources, min_snr=min_snr, seed=seed)
    if target is not None:
        with target.new() as unfinished:
            rows.write_parquet(unfinished, metadata={MARK: creator()})
    summary = posterior_summary(rows, estimator.bundle.n_latent)
    # the targets are stated for bright sources
    accuracy = high_snr_targets(metrics) if min_snr >= TARGET_SNR else []
    targets = [*accuracy, *release_targets(summary, settings.preset.trust)]
    if json_:
        tree = {"preset": settings.preset.name, "min_snr": min_snr, "metrics": metrics.to_dicts()}
        print_json(tree | {"summary": summary, "targets": targets})
        return

    from paeplatform.cli.tables import metric_rich_table, target_line

    console = Console()
    title = f"{rows.height} fresh sources, total SNR > {min_snr:g}"
    console.print(metric_rich_table(metrics, title, width=console.width))
    for target in targets:
        console.print(target_line(target), highlight=False)


def estimator_of(
    folder: Path, z_prior: RedshiftPrior, settings: PlatformSettings, method: str | None = None
) -> Estimator:
    """The estimator of a bundle's folder in the survey's bands, in a process that is made ready for heavy work.

    Args:
        folder: of the bundle's files.
        z_prior: prior on z.
        settings: of the command.
        method: of sampling; None takes the preset's.
    """
    from paeplatform.resources.workspace import Workspace

    # before the first array: loading the weights already makes some
    Workspace.from_settings(settings).start_jax()
    from paeplatform.inference.estimate import Estimator
    from paeplatform.instrument.bands import load_bands
    from paeplatform.instrument.filters import gaussian_filters
    from paeplatform.pae.bundle import load_bundle

    bands = load_bands()
    return Estimator(load_bundle(folder), z_prior, bands, gaussian_filters(bands), settings.preset, method)


def registered_bundle(settings: PlatformSettings, alias: str) -> Path:
    """The folder of the bundle's files."""
    from paeplatform.resources.registry import PAE, ModelRegistry

    registry = ModelRegistry.from_settings(settings)
    return registry.artifact(registry.by_alias(PAE, alias), "bundle")


def fitted_prior(settings: PlatformSettings) -> dict[str, float] | None:
    """The p_BPZ parameters that asset `redshift_prior` stored; None when the preset's prior needs none.

    Raises:
        InputError: the preset asks for p_BPZ and none has been fitted yet.
    """
    if settings.preset.prior.redshift != "bpz":
        return None
    from paeplatform.resources.objects import read_table

    path = settings.store / "redshift_prior.parquet"
    if not path.is_file():
        raise InputError(
            f"{path} does not exist: fit the prior first with `paeplatform run --select redshift_prior`"
        )
    return read_table(path).row(0, named=True)
