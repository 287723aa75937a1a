"""`paeplatform evaluate`: how good the champion is on galaxies that no part of its training has seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from paeplatform.cli.options import HomeOption, JsonOption, OverwriteOption, PresetOption, settings_for
from paeplatform.errors import InputError

if TYPE_CHECKING:
    from paeplatform.resources.settings import PlatformSettings


TARGET_SNR = 50.0


def add_to(app: typer.Typer) -> None:
    """Adds this module's command."""
    app.command()(evaluate)


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
    from paeplatform.targets import MARK, check_target, creator, new_target

    if posteriors is not None:
        check_target(posteriors, overwrite=overwrite, option="--posteriors")
    settings = settings_for(home, preset)
    folder = registered_bundle(settings, alias)

    from paeplatform.resources.workspace import Workspace

    Workspace.from_settings(
        settings
    ).start_jax()  # before the first array: loading the weights already makes some

    from paeplatform.inference.estimate import Estimator
    from paeplatform.inference.model.priors import prior_from_preset
    from paeplatform.instrument.bands import load_bands
    from paeplatform.instrument.filters import gaussian_filters
    from paeplatform.pae.bundle import load_bundle
    from paeplatform.scores.calibration import posterior_summary
    from paeplatform.scores.evaluate import evaluate_high_snr
    from paeplatform.scores.targets import high_snr_targets, release_targets
    from paeplatform.sed.library import load_library

    prior = prior_from_preset(settings.preset.prior, fitted_prior(settings))
    library, bands = load_library(settings.preset.templates.folder), load_bands()
    bundle = load_bundle(folder)
    estimator = Estimator(bundle, prior, bands, gaussian_filters(bands), settings.preset)
    metrics, rows = evaluate_high_snr(estimator, library, n_sources=sources, min_snr=min_snr, seed=seed)
    if posteriors is not None:
        with new_target(posteriors, overwrite=overwrite, option="--posteriors") as unfinished:
            rows.write_parquet(unfinished, metadata={MARK: creator()})
    summary = posterior_summary(rows, bundle.n_latent)
    accuracy = (
        high_snr_targets(metrics) if min_snr >= TARGET_SNR else []
    )  # the targets are stated for bright sources
    targets = [*accuracy, *release_targets(summary, settings.preset.trust)]
    if json_:
        tree = {"preset": settings.preset.name, "min_snr": min_snr, "metrics": metrics.to_dicts()}
        typer.echo(json.dumps(tree | {"summary": summary, "targets": targets}, indent=1))
        return

    from paeplatform.cli.tables import metric_rich_table, target_line

    console = Console()
    title = f"{rows.height} fresh sources, total SNR > {min_snr:g}"
    console.print(metric_rich_table(metrics, title, width=console.width))
    for target in targets:
        console.print(target_line(target), highlight=False)


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
