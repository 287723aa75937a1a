"""Photometry in, redshift posteriors out: the one object that assets, served models and the command line ask."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from paeplatform.config import Preset
from paeplatform.errors import BandSetError, ConfigError
from paeplatform.inference.batches.progress import Progress
from paeplatform.inference.model.draws import PosteriorDraws, joined
from paeplatform.inference.model.forward_model import PaeForward, build_forward
from paeplatform.inference.model.linear_terms import LinearTerms, LineColumns, line_columns
from paeplatform.inference.model.model_error import model_error_of
from paeplatform.inference.model.posterior import LogPosterior
from paeplatform.inference.model.priors import RedshiftPrior
from paeplatform.inference.pocomc import run_pocomc
from paeplatform.inference.results.binning import binning_chi2
from paeplatform.inference.results.goodness import goodness
from paeplatform.inference.results.summaries import PosteriorSummaries, summarise
from paeplatform.inference.samplers import by_importance, by_mclmc, of_weighted_draws, widened
from paeplatform.inference.screening import screen, screen_measurements
from paeplatform.inference.sources import ExternalFluxes, Sources
from paeplatform.instrument.bands import BandSet
from paeplatform.instrument.external import ExternalBands
from paeplatform.instrument.filters import FilterCurves
from paeplatform.instrument.measurements import Measurements, channel_means, channel_of, merged, padded
from paeplatform.pae.bundle import PaeBundle
from paeplatform.pae.proposal import Proposal


@dataclass(frozen=True)
class SourceGroup:
    """Sources that are sampled together.

    Attributes:
        rows: their places among all that were given, increasing.
        sources: in channels, or with measurements in arrays of one length.
        reason: what was wrong with a source's numbers; None for nothing.
    """

    rows: np.ndarray
    sources: Sources
    reason: np.ndarray


METHODS = ("importance", "mclmc", "pocomc")
# Places for measurements: each source takes the smallest that holds its own, so that few shapes are compiled. Those
# of three visits of the 102 channels fit into 320; merged measurements of any source into the last.
SLOT_COUNTS = (112, 320, 1280)
_KEPT_FORWARDS = 2
_lines: dict[int, tuple[PaeForward, LineColumns]] = {}  # of the last forward model, by its id
_forwards: OrderedDict[tuple, tuple[tuple, PaeForward]] = OrderedDict()


@dataclass(frozen=True, eq=False)
class Estimator:
    """A trained PAE with everything that decides its answer beside the photometry.

    Attributes:
        bundle: trained PAE.
        z_prior: prior on z (`redshift_prior`).
        bands: the band set of the photometry; must be the one the bundle was trained for.
        filters: its curves.
        preset: seed and sections prior, inference, importance, mclmc, trust and instrument are used.
        method: one of `METHODS`; None takes `preset.inference.method`. "importance" needs a bundle with a
            proposal that covers the prior's redshifts, and the NF prior; where one is missing, MCLMC takes its place.
        external: bands of other surveys that photometry may have beside; their zero points are marginalised.

    Raises:
        BandSetError: the bands are not the bundle's, or an external band lies beside all that the model predicts.
        ConfigError: the method is unknown.
    """

    bundle: PaeBundle
    z_prior: RedshiftPrior
    bands: BandSet
    filters: FilterCurves
    preset: Preset
    method: str | None = None
    external: ExternalBands | None = None

    def __post_init__(self) -> None:
        if self.external is not None:
            self.external.check_within(np.asarray(self.bundle.wave), float(self.z_prior.z_max))
        if self.sampler not in METHODS:
            raise ConfigError(f"inference method {self.sampler!r} must be one of {', '.join(METHODS)}")
        if self.bundle.band_hash and self.bundle.band_hash != self.bands.content_hash():
            raise BandSetError(
                f"band set {self.bands.content_hash()} is not the one this model was trained for "
                f"({self.bundle.band_hash}); give that band set or train a new model"
            )

    @property
    def sampler(self) -> str:
        """The method that is asked for: its own, or else the preset's."""
        return self.preset.inference.method if self.method is None else self.method

    @property
    def forward(self) -> PaeForward:
        """The bundle's forward model, up to the highest redshift of the prior, of channels and of measurements."""
        n_nodes = self.preset.instrument.n_redshift_nodes
        return shared_forward(self.bundle, self.filters, float(self.z_prior.z_max), n_nodes, self.external)

    @property
    def posterior(self) -> LogPosterior:
        """The density over (u, z) that is sampled."""
        prior = self.preset.prior
        term = model_error_of(self.bundle, self.bands.wave_um) if self.preset.inference.model_error else None
        lines = self._lines() if self.preset.inference.line_terms else None
        zero_points = None if self.external is None else self.external.zero_points().astype(np.float32)
        linear = None
        if lines is not None or zero_points is not None:
            linear = LinearTerms(lines, zero_points)
        return LogPosterior(self.forward, self.z_prior, prior.nf_prior, prior.amplitude, term, linear)

    def _lines(self) -> LineColumns:
        key = id(self.forward)
        if key not in _lines:
            made = line_columns(
                self.bundle.wave,
                self.filters,
                float(self.z_prior.z_max),
                self.preset.instrument.n_redshift_nodes,
                self.bundle.passbands,
                None if self.external is None else self.external.filters,
            )
            _lines.clear()
            _lines[key] = (self.forward, made)  # the forward model is held, so that its id stays its own
        return _lines[key][1]

    @property
    def proposal(self) -> Proposal | None:
        """The bundle's amortised proposal; None where there is none, or it leaves redshifts of the prior out."""
        return self.bundle.proposal if covers(self.bundle.proposal, self.z_prior) else None

    def estimate(
        self,
        flux: Float[np.ndarray, "source band"],
        flux_err: Float[np.ndarray, "source band"],
        object_id: Int[np.ndarray, " source"],
        *,
        external: ExternalFluxes | None = None,
        progress: bool = True,
        on_progress: Callable[[float], None] | None = None,
    ) -> pl.DataFrame:
        """Every source's posterior, summarised.

        Bad numbers in a source's photometry are masked and named (`screening`); a source that is left without a band
        gets a row of nulls. Neither changes another source.

        Args:
            flux: [uJy]; negative values are legal.
            flux_err: 1 sigma [uJy]; infinite or NaN masks the band.
            object_id: distinct integers; with `preset.seed` they fix each source's random numbers, so neither the
                order of the rows nor the other sources change a result.
            external: of the same sources, in the bands of `external`; None for SPHEREx alone.
            progress: shows a bar with galaxies per hour.
            on_progress: called with the number of galaxies done since the last call.

        Returns:
            The table of `summarise` with pae_binning_chi2, null for channels; rows in the order given.

        Raises:
            BandSetError: shapes do not fit.
            ConfigError: object ids are not distinct integers, one for each source.
        """
        table, _ = self.estimate_with_draws(
            flux, flux_err, object_id, external=external, progress=progress, on_progress=on_progress
        )
        return table

    def estimate_with_draws(
        self,
        flux: Float[np.ndarray, "source band"],
        flux_err: Float[np.ndarray, "source band"],
        object_id: Int[np.ndarray, " source"],
        *,
        external: ExternalFluxes | None = None,
        progress: bool = True,
        on_progress: Callable[[float], None] | None = None,
    ) -> tuple[pl.DataFrame, PosteriorDraws]:
        """As `estimate`, with the kept draws over (u, z) of each source, in the same order."""
        given = self.channel_sources(flux, flux_err, object_id, external)
        shown = Progress(progress, on_progress)
        table, draws = self._posteriors(self.posterior, given.sources, given.reason, shown)
        return table.with_columns(pl.lit(None, pl.Float32).alias("pae_binning_chi2")), draws

    def estimate_measured(
        self,
        measurements: Measurements,
        object_id: Int[np.ndarray, " source"],
        *,
        external: ExternalFluxes | None = None,
        progress: bool = True,
        on_progress: Callable[[float], None] | None = None,
    ) -> tuple[pl.DataFrame, PosteriorDraws]:
        """As `estimate_with_draws`, of measurements at their own wavelengths: the likelihood compares each measurement
        with the model in its own passband.

        The measurements binned into channels serve the amortised proposal alone, which proposes.

        Args:
            measurements: any number a source. Faulty ones are left out and named. A source with more than the last of
                `SLOT_COUNTS` is reduced to fewer that say the same (`measurements.merged`).
            object_id: see `estimate`.
            external: see `estimate`.
            progress: see `estimate`.
            on_progress: see `estimate`.

        Returns:
            The table of `summarise` with pae_binning_chi2 (`results.binning`), and the kept draws, in the order given.

        Raises:
            ConfigError: object ids are not distinct integers, one for each source.
        """
        groups = self.measured_sources(measurements, object_id, external)
        posterior, shown = self.posterior, Progress(progress, on_progress)
        tables, draws = [], []
        for group in groups:
            table, found = self._posteriors(posterior, group.sources, group.reason, shown)
            harm = binning_chi2(posterior, found, group.sources, self.bands)
            tables.append(table.with_columns(pl.Series("pae_binning_chi2", harm).fill_nan(None)))
            draws.append(found)
        back = np.argsort(np.concatenate([group.rows for group in groups]))
        return pl.concat(tables)[back], joined(draws, back)

    def channel_sources(
        self,
        flux: Float[np.ndarray, "source band"],
        flux_err: Float[np.ndarray, "source band"],
        object_id: Int[np.ndarray, " source"],
        external: ExternalFluxes | None = None,
    ) -> SourceGroup:
        """The sources of photometry in channels as the samplers take them: one group of all.

        Raises:
            BandSetError: shapes do not fit.
            ConfigError: object ids are not distinct integers, one for each source.
        """
        object_id = np.asarray(object_id)
        screened = screen(flux, flux_err, len(self.bands))
        _check_ids(object_id, len(screened.flux))
        sources = Sources(screened.flux, screened.flux_err, object_id, self.preset.seed, None, external)
        return SourceGroup(np.arange(len(sources)), sources, screened.reason)

    def measured_sources(
        self,
        measurements: Measurements,
        object_id: Int[np.ndarray, " source"],
        external: ExternalFluxes | None = None,
    ) -> list[SourceGroup]:
        """The sources of measurements as the samplers take them, in groups of as many places for measurements.

        Raises:
            ConfigError: object ids are not distinct integers, one for each source.
        """
        object_id = np.asarray(object_id)
        _check_ids(object_id, len(measurements))
        screened = screen_measurements(measurements)
        sound = merged(screened.measurements, SLOT_COUNTS[-1])
        means = channel_means(sound, self.bands, channel_of(sound, self.bands))
        flux, flux_err = np.nan_to_num(means.at_centres(self.bands)), means.flux_err
        size = np.searchsorted(SLOT_COUNTS, sound.count)
        groups = []
        for number in np.unique(size) if len(size) else [0]:
            rows = np.flatnonzero(size == number)
            own = padded(sound.rows(rows), SLOT_COUNTS[number])
            beside = None if external is None else external.rows(rows)
            sources = Sources(flux[rows], flux_err[rows], object_id[rows], self.preset.seed, own, beside)
            groups.append(SourceGroup(rows, sources, screened.reason[rows]))
        return groups

    def _posteriors(
        self, posterior: LogPosterior, sources: Sources, reason: np.ndarray, progress: Progress
    ) -> tuple[pl.DataFrame, PosteriorDraws]:
        """Summaries and draws."""
        trust = self.preset.trust
        found = self._sample(posterior, sources, progress)
        fit = goodness(posterior, found.draws, sources, trust)
        found = widened(found, fit.misfit, fit.error_scale, self.z_prior, trust.misfit_prior_share)
        return summarise(sources, found, posterior, trust, reason, fit), found.draws

    def _sample(self, posterior: LogPosterior, sources: Sources, progress: Progress) -> PosteriorSummaries:
        preset, bundle, proposal = self.preset, self.bundle, self.proposal
        if self.sampler == "pocomc":
            run = run_pocomc(posterior, sources, n_latent=bundle.n_latent, progress=progress)
            return of_weighted_draws(run.draws, posterior, preset.inference.n_kept, "pocomc", preset.trust)
        if self.sampler == "importance" and proposal is not None and posterior.nf_prior:
            return by_importance(
                posterior, proposal, sources, preset, landmarks=bundle.landmarks, progress=progress
            )
        return by_mclmc(
            posterior,
            proposal,
            sources,
            preset,
            n_latent=bundle.n_latent,
            landmarks=bundle.landmarks,
            progress=progress,
        )


def _check_ids(object_id: np.ndarray, n_source: int) -> None:
    if object_id.shape != (n_source,) or not np.issubdtype(object_id.dtype, np.integer):
        raise ConfigError(
            f"object_id {object_id.shape} {object_id.dtype} must be {n_source} integers, one a source"
        )
    n_repeated = n_source - len(np.unique(object_id))
    if n_repeated:
        raise ConfigError(f"object_id: {n_repeated} ids occur twice; they must be distinct")


def covers(proposal: Proposal | None, z_prior: RedshiftPrior) -> bool:
    """Whether a proposal's draws reach all redshifts of a prior; without that, importance sampling is blind to some."""
    if proposal is None:
        return False
    low, high = np.asarray(proposal.log_z_limits, dtype=np.float64)
    slack = 1e-5  # float32 of the limits
    return bool(np.log(z_prior.z_min) > low - slack and np.log(z_prior.z_max) < high + slack)


def shared_forward(
    bundle: PaeBundle,
    filters: FilterCurves,
    z_max: float,
    n_nodes: int,
    external: ExternalBands | None = None,
) -> PaeForward:
    """`build_forward`, kept for the last few bundles: partitions of one run share it.

    Compiled programs need no keeping: the forward model enters them as an argument, so other weights hit JAX's
    own cache.
    """
    key = (id(bundle), id(filters), z_max, n_nodes, id(external))
    if key not in _forwards:
        beside = None if external is None else external.filters
        made = build_forward(bundle, filters, z_max, n_nodes, slots=True, external=beside)
        # what the ids are of is held with the entry, so that they stay theirs
        _forwards[key] = ((bundle, filters, external), made)
        while len(_forwards) > _KEPT_FORWARDS:
            _forwards.popitem(last=False)
    _forwards.move_to_end(key)
    return _forwards[key][1]
