"""Measures the reference model on both parts of the frozen test set: galaxies of its templates, and composites.

The project has no spectra of independent galaxies. Those outside of the templates are therefore composite galaxies
(`sed.composites`), which no training has seen, though near to those that it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from paeplatform.config import Preset
from paeplatform.inference.estimate import Estimator
from paeplatform.inference.model.priors import prior_from_preset
from paeplatform.instrument.bands import BandSet, load_bands
from paeplatform.instrument.filters import gaussian_filters
from paeplatform.pae.bundle import PaeBundle
from paeplatform.reference.card import Figures, Interval
from paeplatform.sbi.inference import estimate_sbi
from paeplatform.sbi.model import SbiModel
from paeplatform.scores.evidence import evidence_of
from paeplatform.scores.frozen_sources import draw_test_sources
from paeplatform.scores.metrics import GATE_METRICS
from paeplatform.scores.promotion import Evidence
from paeplatform.scores.promotion_rules import KNOWN, UNSEEN, PromotionRules
from paeplatform.scores.statistics import metric_intervals
from paeplatform.sed.library import load_library

PAE, SBI = "pae", "sbi"  # methods, first part of the names of their columns


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """What is measured.

    Attributes:
        bundle: the trained PAE.
        bpz: alpha, beta and gamma of the fitted p_BPZ.
        sbi: network of simulation-based inference; None where there is none.
    """

    bundle: PaeBundle
    bpz: Mapping[str, float]
    sbi: SbiModel | None = None


def judged_sources(preset: Preset, bands: BandSet) -> pl.DataFrame:
    """The frozen test set: known and unseen galaxies (`draw_test_sources`).

    Args:
        preset: see `draw_test_sources`; and templates.folder.
        bands: channels and depths.
    """
    return draw_test_sources(preset, load_library(preset.templates.folder), bands)


def described(preset: Preset, templates: int) -> dict[str, str]:
    """What the sources of each part of the test set are, in words.

    Args:
        preset: uses release.mag_z_max.
        templates: how many the library has.
    """
    bright = (
        f"mock sources with z_AB < {preset.release.mag_z_max:g} from a catalogue that no training has seen"
    )
    return {
        KNOWN: f"{bright}; their spectra are the {templates} templates, which the training draws from too",
        UNSEEN: f"{bright}; their spectra are composites that no training makes: each is of three templates of one "
        "type, each behind its own dust, with emission lines that are stronger or weaker",
    }


def evidence_on(model: TrainedModel, preset: Preset, test_set: pl.DataFrame) -> dict[str, Evidence]:
    """What each method of a model shows on a test set.

    Args:
        model: trained.
        preset: settings of the samplers, the prior and the trust; the model's own.
        test_set: of `judged_sources`.

    Raises:
        BandSetError: the model was trained for other bands.
    """
    bands, z_range = load_bands(), (preset.prior.z_min, preset.prior.z_max)
    prior = prior_from_preset(preset.prior, model.bpz)
    estimator = Estimator(model.bundle, prior, bands, gaussian_filters(bands), preset)

    def by_pae(flux: np.ndarray, flux_err: np.ndarray, object_id: np.ndarray) -> pl.DataFrame:
        return estimator.estimate(flux, flux_err, object_id, progress=False)

    found = {PAE: evidence_of(by_pae, test_set, prefix=PAE, z_range=z_range)}
    if model.sbi is not None:
        network = model.sbi

        def by_sbi(flux: np.ndarray, flux_err: np.ndarray, object_id: np.ndarray) -> pl.DataFrame:
            columns = flux, flux_err, object_id
            return estimate_sbi(network, *columns, preset.sbi, seed=preset.seed, progress=False)

        found[SBI] = evidence_of(by_sbi, test_set, prefix=SBI, z_range=z_range)
    return found


def figures_of(
    what: Mapping[str, str], evidence: Mapping[str, Evidence], rules: PromotionRules
) -> dict[str, Figures]:
    """The gate's metrics with intervals, for the card.

    Args:
        what: of `described`: the parts of the test set, and their sources in words.
        evidence: of `evidence_on`, by method.
        rules: how many resamples.

    Returns:
        The figures by part of the test set.
    """
    found = {}
    for part, words in what.items():
        methods, sources = {}, 0
        for method, shown in evidence.items():
            scores = shown.on(part).scores
            sources = scores.height
            row = metric_intervals(scores, (), n_resamples=rules.resamples).row(0, named=True)
            methods[method] = {
                name: Interval(value=row[name], low=row[f"{name}_low"], high=row[f"{name}_high"])
                for name in GATE_METRICS
                if row[name] is not None
            }
        found[part] = Figures(what=words, sources=sources, methods=methods)
    return found
