"""What every asset that samples posteriors shares: the champion, loaded, and the settings that decide its answer."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from paeplatform.assets.recording.tables import bands_from, library_from, photometry_at_centres
from paeplatform.assets.recording.versions import code_version
from paeplatform.config import Preset
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.registry import PAE, ModelRegistry, ModelVersion
from paeplatform.resources.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

    from paeplatform.inference.model.priors import RedshiftPrior
    from paeplatform.template_fit.grid import TemplateGrid

PAE_POSTERIORS = 11  # number of the code version of posteriors: raised when the same model answers otherwise
CHAMPION_TAG = "paeplatform/champion"  # on a materialisation: the version of `pae` it used
# Of the preset; they decide a posterior beside the bundle.
POSTERIOR_SETTINGS = (
    "prior",
    "inference",
    "importance",
    "mclmc",
    "trust",
    "instrument.n_redshift_nodes",
)
MISFIT_SETTINGS = (
    "trust.reduced_chi2_max",
    "trust.tail_probability_min",
)  # they decide the status of a template fit


@dataclass(frozen=True)
class Estimation:
    """A champion, ready to answer.

    Attributes:
        champion: the version of `pae`.
        prior_id: of the redshift prior.
        prior: the redshift prior, as JSON.
        estimate: flux, flux_err (source, band) [uJy] and object_id (source,) to the table of `Estimator.estimate`.
    """

    champion: ModelVersion
    prior_id: str
    prior: str
    estimate: "Callable[[np.ndarray, np.ndarray, np.ndarray], pl.DataFrame]"


@dataclass(frozen=True)
class PaeEstimation(Estimation):
    """The champion of `pae`.

    Attributes:
        estimate_release: tables of photometry and measurements of the same sources to the table of `estimate` with the
            classes (`classes.classify`); of the measurements or of the channels, as `inference.wavelengths` says.
    """

    estimate_release: "Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame]"


@dataclass(frozen=True)
class EstimationInputs:
    """What a registered model is loaded with: settings, tables of assets (no prior where none is read), resources."""

    preset: Preset
    spherex_bands: pl.DataFrame
    redshift_prior: pl.DataFrame | None
    registry: ModelRegistry
    workspace: Workspace


def posterior_code(number: int, preset: Preset, *settings: str) -> str:
    """The code version of an asset that samples posteriors."""
    return code_version(number, preset, *POSTERIOR_SETTINGS, *settings)


def trust_metadata(preset: Preset) -> dict[str, dg.MetadataValue]:
    """The limits that a table's statuses and flags were made with, to be recorded with it."""
    return {"trust": dg.MetadataValue.json(preset.trust.model_dump())}


def template_grid(preset: Preset, sed_templates: pl.DataFrame, spherex_bands: pl.DataFrame) -> "TemplateGrid":
    """The models that template fitting holds against photometry.

    Raises:
        dagster.Failure: the settings of the grid are at fault.
    """
    from paeplatform.instrument.filters import gaussian_filters
    from paeplatform.template_fit.grid import TemplateGridConfig, build_template_grid

    with one_line_failures():
        filters = gaussian_filters(bands_from(spherex_bands))
        return build_template_grid(
            library_from(sed_templates), filters, TemplateGridConfig.from_preset(preset)
        )


def fetch_model(
    registry: ModelRegistry, name: str, version: int | None, artifact: str
) -> tuple[ModelVersion, Path]:
    """(a version of a registered model, the local folder of its weights); None takes the champion.

    Raises:
        RegistryError: no such version or champion, or its files are gone.
    """
    model = registry.by_alias(name) if version is None else registry.by_version(name, version)
    return model, registry.artifact(model, artifact)


def load_champion(
    inputs: EstimationInputs,
    version: int | None = None,
    *,
    prior: "RedshiftPrior | None" = None,
    progress: bool = False,
) -> PaeEstimation:
    """Fetches the champion and binds bands, prior and settings.

    Args:
        inputs: settings of prior and samplers, bands, fitted prior (None when `prior` is given), and where the champion
            is.
        version: this version of `pae` in place of the champion.
        prior: this p(z) in place of the preset's.
        progress: shows bars.

    Raises:
        dagster.Failure: no champion, or its files are at fault.
    """
    with one_line_failures():
        champion, folder = fetch_model(inputs.registry, PAE, version, "bundle")
    return bundle_estimation(champion, folder, inputs, prior=prior, progress=progress)


def bundle_estimation(
    model: ModelVersion,
    folder: Path,
    inputs: EstimationInputs,
    *,
    prior: "RedshiftPrior | None" = None,
    progress: bool = False,
) -> PaeEstimation:
    """Binds bands, prior and settings to a bundle, wherever its files are.

    Args:
        model: what answers call the bundle.
        folder: of its files.
        inputs: as in `load_champion`.
        prior: as in `load_champion`.
        progress: shows bars.

    Raises:
        dagster.Failure: the files are at fault.
    """
    inputs.workspace.start_jax()
    from paeplatform.classes.classify import Positions
    from paeplatform.classes.of_posteriors import classified, shared_classifier
    from paeplatform.inference.estimate import Estimator
    from paeplatform.inference.model.priors import prior_from_preset, prior_to_dict
    from paeplatform.instrument.filters import gaussian_filters
    from paeplatform.instrument.measurements import Measurements
    from paeplatform.pae.bundle import load_bundle

    preset, bands = inputs.preset, bands_from(inputs.spherex_bands)
    filters = gaussian_filters(bands)
    with one_line_failures():
        bundle = load_bundle(folder)
        if prior is None:
            assert inputs.redshift_prior is not None
            prior = prior_from_preset(preset.prior, inputs.redshift_prior.row(0, named=True))
        estimator = Estimator(bundle, prior, bands, filters, preset)

    def estimate(flux: "np.ndarray", flux_err: "np.ndarray", object_id: "np.ndarray") -> pl.DataFrame:
        with one_line_failures():
            return estimator.estimate(flux, flux_err, object_id, progress=progress)

    def estimate_release(photometry: pl.DataFrame, measurements: pl.DataFrame) -> pl.DataFrame:
        positions = Positions(*(photometry[name].cast(pl.Float64).to_numpy() for name in ("ra", "dec")))
        with one_line_failures():
            if preset.inference.wavelengths == "channels":
                given = photometry_at_centres(photometry, bands)
                table, draws = estimator.estimate_with_draws(*given, progress=progress)
                groups = [estimator.channel_sources(*given)]
            else:
                measured = photometry.select("object_id").join(
                    measurements, on="object_id", how="left", validate="1:1", maintain_order="left"
                )
                native, identity = Measurements.from_table(measured), measured["object_id"].to_numpy()
                table, draws = estimator.estimate_measured(native, identity, progress=progress)
                groups = estimator.measured_sources(native, identity)
            classes = classified(
                shared_classifier(bands),
                estimator.posterior,
                table,
                draws,
                groups,
                positions=positions,
                trust=preset.trust,
            )
        return table.hstack(classes)

    as_json = json.dumps(prior_to_dict(prior), sort_keys=True)
    return PaeEstimation(model, prior.prior_id(), as_json, estimate, estimate_release)
