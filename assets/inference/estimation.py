"""What every asset that samples posteriors shares: the champion, loaded, and the settings that decide its answer."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from paeplatform.assets.recording.tables import bands_from
from paeplatform.assets.recording.versions import code_version
from paeplatform.config import Preset
from paeplatform.resources.failures import one_line_failures
from paeplatform.resources.registry import PAE, ModelRegistry, ModelVersion
from paeplatform.resources.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np

    from paeplatform.inference.model.priors import RedshiftPrior

PAE_POSTERIORS = 6  # number of the code version of posteriors: raised when the same model answers otherwise
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
    """The champion, ready to answer.

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


def posterior_code(number: int, preset: Preset, *settings: str) -> str:
    """The code version of an asset that samples posteriors."""
    return code_version(number, preset, *POSTERIOR_SETTINGS, *settings)


def trust_metadata(preset: Preset) -> dict[str, dg.MetadataValue]:
    """The limits that a table's statuses and flags were made with, to be recorded with it."""
    return {"trust": dg.MetadataValue.json(preset.trust.model_dump())}


def load_champion(
    preset: Preset,
    spherex_bands: pl.DataFrame,
    redshift_prior: pl.DataFrame | None,
    registry: ModelRegistry,
    workspace: Workspace,
    *,
    version: int | None = None,
    prior: "RedshiftPrior | None" = None,
    progress: bool = True,
) -> Estimation:
    """Fetches the champion and binds bands, prior and settings.

    Args:
        preset: settings of prior and samplers.
        spherex_bands: table of the bands.
        redshift_prior: table of the fitted prior; None when `prior` is given.
        registry: where the champion is.
        workspace: prepares JAX.
        version: this version of `pae` in place of the champion.
        prior: this p(z) in place of the preset's.
        progress: shows bars.

    Raises:
        dagster.Failure: no champion, or its files are at fault.
    """
    with one_line_failures():
        champion = registry.by_alias(PAE) if version is None else registry.by_version(PAE, version)
        folder = registry.artifact(champion, "bundle")
    workspace.start_jax()
    from paeplatform.inference.estimate import Estimator
    from paeplatform.inference.model.priors import prior_from_preset, prior_to_dict
    from paeplatform.instrument.filters import gaussian_filters
    from paeplatform.pae.bundle import load_bundle

    bands = bands_from(spherex_bands)
    filters = gaussian_filters(bands)
    with one_line_failures():
        bundle = load_bundle(folder)
        if prior is None:
            assert redshift_prior is not None
            prior = prior_from_preset(preset.prior, redshift_prior.row(0, named=True))
        estimator = Estimator(bundle, prior, bands, filters, preset)

    def estimate(flux: "np.ndarray", flux_err: "np.ndarray", object_id: "np.ndarray") -> pl.DataFrame:
        with one_line_failures():
            return estimator.estimate(flux, flux_err, object_id, progress=progress)

    as_json = json.dumps(prior_to_dict(prior), sort_keys=True)
    return Estimation(champion, prior.prior_id(), as_json, estimate)
