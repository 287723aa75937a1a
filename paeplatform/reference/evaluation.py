"""Measures the reference model: on galaxies of its templates, and on galaxies that are none of them.

The project has no spectra of independent galaxies. Those outside of the templates are therefore mixtures of two
templates of one type: composite galaxies that the training has not seen, though near to those that it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from paeplatform.catalog.mock import classify_templates
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
from paeplatform.scores.promotion_rules import PromotionRules
from paeplatform.scores.statistics import metric_intervals
from paeplatform.sed.library import TemplateLibrary, load_library

TEMPLATES, MIXTURES = "templates", "mixtures"
MIXTURE_SEED = 20_261_129
PAE, SBI = "pae", "sbi"  # methods, first part of the names of their columns
_SHARE = (0.3, 0.7)  # of the first of the two templates in a mixture


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


@dataclass(frozen=True, eq=False)
class JudgedSources:
    """Mock sources with a known redshift.

    Attributes:
        what: the sources, in words.
        table: of `draw_test_sources`.
    """

    what: str
    table: pl.DataFrame


def judged_sources(preset: Preset, bands: BandSet) -> dict[str, JudgedSources]:
    """The frozen test set, and the same galaxies with mixtures in the place of templates.

    Args:
        preset: see `draw_test_sources`; and templates.folder.
        bands: channels and depths.
    """
    library = load_library(preset.templates.folder)
    mixtures = mixed_library(library, MIXTURE_SEED)
    bright = (
        f"mock sources with z_AB < {preset.release.mag_z_max:g} from a catalogue that no training has seen"
    )
    return {
        TEMPLATES: JudgedSources(
            f"{bright}; their spectra are the {len(library)} templates, which the training draws from too",
            draw_test_sources(preset, library, bands),
        ),
        MIXTURES: JudgedSources(
            f"{bright}; the spectrum of each is a mixture of two templates of the same type, and no template",
            draw_test_sources(preset, mixtures, bands),
        ),
    }


def mixed_library(library: TemplateLibrary, seed: int) -> TemplateLibrary:
    """A library of mixtures: each template with another one of its type.

    The share of the first is uniform from 0.3 to 0.7. So each type has as many mixtures as it has templates, and each
    mixture has the type of its parts, since its colour lies between theirs.

    Args:
        library: templates whose mean flux is 1, as `load_library` gives them; at least two.
        seed: of the partners and shares.

    Returns:
        As many spectra as templates, with mean flux 1, on the wavelengths of both parts where both are known.
    """
    rng, kinds = np.random.default_rng(seed), classify_templates(library)
    everyone = np.arange(len(library))
    names, waves, fluxes = [], [], []
    for first in everyone:
        alike = everyone[(kinds == kinds[first]) & (everyone != first)]
        second = int(rng.choice(alike if alike.size else everyone[everyone != first]))
        share = rng.uniform(*_SHARE)
        parts = [(library.wave[row], library.flux[row]) for row in (int(first), second)]
        low, high = max(wave[0] for wave, _ in parts), min(wave[-1] for wave, _ in parts)
        nodes = np.union1d(*(wave for wave, _ in parts))
        nodes = nodes[(nodes >= low) & (nodes <= high)]
        one, other = (np.interp(nodes, *part) for part in parts)
        names.append(f"mixture/{library.name[int(first)]} & {library.name[second]}")
        waves.append(nodes)
        fluxes.append(share * one + (1.0 - share) * other)
    return TemplateLibrary(
        name=tuple(names),
        source=tuple("mixture of two templates" for _ in names),
        licence=library.licence,
        wave=tuple(waves),
        flux=tuple(fluxes),
    )


def evidence_on(model: TrainedModel, preset: Preset, sources: JudgedSources) -> dict[str, Evidence]:
    """What each method of a model shows on test sources.

    Args:
        model: trained.
        preset: settings of the samplers, the prior and the trust; the model's own.
        sources: to infer.

    Raises:
        BandSetError: the model was trained for other bands.
    """
    bands, z_range = load_bands(), (preset.prior.z_min, preset.prior.z_max)
    prior = prior_from_preset(preset.prior, model.bpz)
    estimator = Estimator(model.bundle, prior, bands, gaussian_filters(bands), preset)

    def by_pae(flux: np.ndarray, flux_err: np.ndarray, object_id: np.ndarray) -> pl.DataFrame:
        return estimator.estimate(flux, flux_err, object_id, progress=False)

    found = {PAE: evidence_of(by_pae, sources.table, prefix=PAE, z_range=z_range)}
    if model.sbi is not None:
        network = model.sbi

        def by_sbi(flux: np.ndarray, flux_err: np.ndarray, object_id: np.ndarray) -> pl.DataFrame:
            columns = flux, flux_err, object_id
            return estimate_sbi(network, *columns, preset.sbi, seed=preset.seed, progress=False)

        found[SBI] = evidence_of(by_sbi, sources.table, prefix=SBI, z_range=z_range)
    return found


def figures_of(sources: JudgedSources, evidence: Mapping[str, Evidence], rules: PromotionRules) -> Figures:
    """The gate's metrics with intervals, for the card."""
    methods = {}
    for method, shown in evidence.items():
        row = metric_intervals(shown.scores, (), n_resamples=rules.resamples).row(0, named=True)
        methods[method] = {
            name: Interval(value=row[name], low=row[f"{name}_low"], high=row[f"{name}_high"])
            for name in GATE_METRICS
            if row[name] is not None
        }
    return Figures(what=sources.what, sources=sources.table.height, methods=methods)
