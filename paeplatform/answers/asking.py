"""A user's sources in, answers out: one table, and of each source what is said, drawn and leafed through.

The command `infer` and the function `paeplatform.estimate` are this, with a model chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from jaxtyping import Float

from paeplatform.answers.facts import SourceFacts, facts_of, galaxy_of
from paeplatform.answers.sentences import sentences
from paeplatform.inference.estimate import Estimator
from paeplatform.inference.model.draws import PosteriorDraws
from paeplatform.instrument.measurements import Measurements, channel_means, channel_of
from paeplatform.intake.corrections import check_ebv, check_noise, corrected
from paeplatform.intake.sources import UserSources

if TYPE_CHECKING:
    from paeplatform.outputs.seen import Seen
    from paeplatform.sbi.model import SbiModel

PAGE_SOURCES = 500  # whose drawing a page holds


@dataclass(frozen=True)
class Corrections:
    """What is done to the measurements before they are fitted (`intake.corrections`).

    Attributes:
        ebv_mw: E(B-V) of the Milky Way for all sources [mag]; None takes the files' own, where they have any.
        error_floor: [per cent of the flux], added to the errors in quadrature.
        confusion_ujy: [uJy], added to the errors in quadrature.
    """

    ebv_mw: float | None = None
    error_floor: float = 0.0
    confusion_ujy: float = 0.0

    def __post_init__(self) -> None:
        """Refuses numbers out of range, before anything is read or loaded."""
        check_noise(self.error_floor, self.confusion_ujy)
        if self.ebv_mw is not None:
            check_ebv(self.ebv_mw)


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says of some sources.

    Attributes:
        table: of `Estimator.estimate_measured`, with name, ra and dec [deg] before it, and after it the classes
            (`classes.classify`), prior_id and the files' other columns that are constant within a source.
        facts: of each source.
        draws: of the posteriors.
        measurements: as they were fitted.
        estimator: that answered.
        notes: what was assumed, one sentence each.
    """

    table: pl.DataFrame
    facts: list[SourceFacts]
    draws: PosteriorDraws
    measurements: Measurements
    estimator: Estimator
    notes: tuple[str, ...]

    def sentences(self, row: int) -> list[str]:
        """What a person reads of one source."""
        return sentences(self.table.row(row, named=True), self.facts[row], self.estimator.preset.trust)

    def seen(self, rows: Sequence[int] | np.ndarray) -> list[Seen | None]:
        """What the model predicts of some sources; None for one without a posterior."""
        from paeplatform.outputs.seen import predictions

        identity = self.table["object_id"].to_numpy()
        return predictions(self.estimator, self.measurements, identity, self.draws, np.asarray(rows))

    def card(self, row: int) -> bytes:
        """One source's card, as PNG: measurements, model, residuals, p(z) by method, and what is said of it."""
        from paeplatform.outputs.card import card_png, source_card

        own = self.measurements.rows(np.array([row]))
        galaxy = galaxy_of(self.table.row(row, named=True), self.facts[row], own)
        return card_png(source_card(galaxy, self.estimator.bands, self.seen([row])[0]))

    def page(self, title: str) -> str:
        """A self-contained HTML page to leaf through the sources."""
        from paeplatform.answers.page import answers_page

        return answers_page(
            self.table,
            self.seen(np.arange(min(PAGE_SOURCES, self.table.height))),
            self.facts,
            self.measurements,
            self.estimator.bands,
            trust=self.estimator.preset.trust,
            notes=self.notes,
            title=title,
        )

    def beside(self, sbi: SbiModel | None) -> Answers:
        """The same with template fitting and, given its network, SBI beside: columns tf_* and sbi_* of the table."""
        table = _without_ids(
            self.table, _template_fits(self.estimator, self.measurements, self.table["object_id"])
        )
        if sbi is not None:
            from paeplatform.sbi.inference import estimate_sbi

            flux, flux_err = in_channels(self.measurements, self.estimator)
            found = estimate_sbi(
                sbi,
                flux,
                flux_err,
                self.table["object_id"].to_numpy(),
                self.estimator.preset.sbi,
                progress=False,
            )
            table = _without_ids(table, found)
        return replace(self, table=table)


def answer(
    sources: UserSources,
    estimator: Estimator,
    *,
    model: str,
    corrections: Corrections = Corrections(),
    progress: bool = True,
) -> Answers:
    """Infers the redshifts of a user's sources.

    Args:
        sources: as they were read.
        estimator: model, prior and settings.
        model: what the model is called in the answers.
        corrections: extinction, error floor, confusion noise.
        progress: shows a bar with galaxies per hour.

    Raises:
        InputError: a correction is out of its range; names the source where it is one's.
    """
    if corrections.ebv_mw is not None:
        sources = replace(sources, ebv_mw=np.full(len(sources), corrections.ebv_mw))
    measurements = corrected(
        sources.measurements,
        sources.ebv_mw,
        corrections.error_floor,
        corrections.confusion_ujy,
        name=sources.name,
    )
    table, draws = estimator.estimate_measured(measurements, sources.object_id, progress=progress)
    table = table.hstack(_classes(estimator, sources, measurements, table, draws))
    prior_id = estimator.z_prior.prior_id()
    facts = facts_of(
        replace(sources, measurements=measurements),  # whose signal-to-noise is that of what was fitted
        model=model,
        prior_id=prior_id,
        n_latent=estimator.bundle.n_latent,
        error_floor=corrections.error_floor,
        confusion_ujy=corrections.confusion_ujy,
    )
    where = pl.DataFrame({"name": list(sources.name), "ra": sources.ra, "dec": sources.dec})
    table = where.with_columns(pl.col("ra", "dec").fill_nan(None)).hstack(table)
    table = table.with_columns(pl.lit(prior_id).alias("prior_id"))
    taken = [name for name in sources.extra.columns if name in table.columns]
    notes = list(sources.notes)
    if taken:
        notes.append(f"columns {', '.join(taken)} of the file were replaced by the answers'")
    table = table.hstack(sources.extra.drop(taken))
    return Answers(table, facts, draws, measurements, estimator, tuple(notes))


def _classes(
    estimator: Estimator,
    sources: UserSources,
    measurements: Measurements,
    table: pl.DataFrame,
    draws: PosteriorDraws,
) -> pl.DataFrame:
    """What each source is: the columns of `classes.of_posteriors`."""
    from paeplatform.classes.classify import Positions
    from paeplatform.classes.of_posteriors import classified, shared_classifier

    return classified(
        shared_classifier(estimator.bands),
        estimator.posterior,
        table,
        draws,
        estimator.measured_sources(measurements, sources.object_id),
        positions=Positions(np.asarray(sources.ra, np.float64), np.asarray(sources.dec, np.float64)),
        trust=estimator.preset.trust,
    )


def in_channels(
    measurements: Measurements, estimator: Estimator
) -> tuple[Float[np.ndarray, "source band"], Float[np.ndarray, "source band"]]:
    """(flux, flux_err) [uJy] of the averages in the channels, taken to their centres: what the baselines read."""
    bands = estimator.bands
    means = channel_means(measurements, bands, channel_of(measurements, bands))
    return np.nan_to_num(means.at_centres(bands)), means.flux_err


def _template_fits(estimator: Estimator, measurements: Measurements, object_id: pl.Series) -> pl.DataFrame:
    from paeplatform.sed.library import load_library
    from paeplatform.template_fit.fit import fit_templates
    from paeplatform.template_fit.grid import TemplateGridConfig, build_template_grid

    preset = estimator.preset
    library = load_library(preset.templates.folder)
    grid = build_template_grid(
        library, estimator.filters, TemplateGridConfig.from_preset(preset), progress=False
    )
    flux, flux_err = in_channels(measurements, estimator)
    return fit_templates(grid, flux, flux_err, object_id.to_numpy(), trust=preset.trust, progress=False)


def _without_ids(table: pl.DataFrame, more: pl.DataFrame) -> pl.DataFrame:
    """A table with the columns of another of the same rows that it does not have yet."""
    return table.hstack(more.drop([name for name in more.columns if name in table.columns]))
