"""The flow given redshift against the one that does not know it: the gate's verdict, Table 1's numbers, Fig. 5's trend.

Both have the same autoencoder, that of the model with alias PAEPLATFORM_BENCH_ALIAS in PAEPLATFORM_BENCH_HOME, the
same training spectra and the same errors of the model. Flow and proposal are trained anew for both, the proposal with
PAEPLATFORM_BENCH_FLOW_PROPOSAL (default 0.2) of its epochs, on which p(z) does not depend. The trainings are kept in
PAEPLATFORM_BENCH_FLOW (a folder; default: runs/flow).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.standard import standard_model
from benchmarks.timing import figure
from benchmarks.trainings import whole_model
from paeplatform.catalog.mock import draw_mock_catalog
from paeplatform.catalog.training_set import augment_sources, training_spectra_of
from paeplatform.config import Preset, load_preset
from paeplatform.fit_record import FitOptions
from paeplatform.inference.batches.runtime import enable_compile_cache
from paeplatform.inference.estimate import Estimator
from paeplatform.instrument.bands import load_bands
from paeplatform.pae.bundle import PaeBundle, load_bundle, save_bundle
from paeplatform.pae.training import base_moments, encode_spectra, latents_to_base, split_indices
from paeplatform.reference.evaluation import PAE, TrainedModel, evidence_on, judged_sources
from paeplatform.scores.metrics import METRICS
from paeplatform.scores.promotion import Evidence, decide
from paeplatform.scores.promotion_rules import KNOWN, UNSEEN, load_promotion_rules
from paeplatform.scores.statistics import metric_intervals
from paeplatform.sed.grid import library_on_grid, rest_grid
from paeplatform.sed.library import load_library

FOLDER = Path(os.environ.get("PAEPLATFORM_BENCH_FLOW", "runs/flow"))
PROPOSAL_SHARE = float(os.environ.get("PAEPLATFORM_BENCH_FLOW_PROPOSAL", "0.2"))
N_HELD_OUT = 20_000  # spectra whose base variables are looked at
SHOWN = (
    "mean_bias",
    "median_sigma",
    "nmad_paper",
    "eta_3sigma",
    "coverage_68",
    "crps",
    "log_score",
    "trusted",
)


def run() -> list[dict[str, Any]]:
    """Half an hour on two cores for the trainings, a quarter for the inference."""
    enable_compile_cache(Path.home() / ".cache" / "paeplatform" / "jax")
    model, library = standard_model(), load_library()
    preset = _shortened(load_preset("standard"))
    catalog = draw_mock_catalog(preset, library)
    sources = augment_sources(preset, catalog)
    wave = rest_grid(preset.rest_grid)
    template_flux = library_on_grid(library, wave)
    held_out = split_indices(len(sources.z), preset.pae.autoencoder.fit.validation_fraction, preset.seed)[1][
        :N_HELD_OUT
    ]
    test_set = judged_sources(preset, load_bands())
    found: list[dict[str, Any]] = [figure("share_of_proposal_epochs", PROPOSAL_SHARE, "", None, None)]
    evidence: dict[str, Evidence] = {}
    for condition in ("none", "redshift"):
        flow = preset.pae.flow.model_copy(update={"condition": condition})
        settings = preset.model_copy(update={"pae": preset.pae.model_copy(update={"flow": flow})})
        folder = FOLDER / condition
        if not (folder / "bundle.json").is_file():
            (folder / "checkpoint").mkdir(parents=True, exist_ok=True)
            save_bundle(
                whole_model(
                    settings,
                    model.bundle.autoencoder,
                    sources,
                    template_flux,
                    library,
                    model.filters,
                    model.z_prior,
                    model.bundle.model_error,
                    FitOptions(folder / "checkpoint"),
                ),
                folder,
            )
        bundle = load_bundle(folder)
        spectra = training_spectra_of(sources, template_flux, wave, held_out)
        found += _of_base(condition, bundle, spectra, sources.z[held_out])
        shown = evidence_on(TrainedModel(bundle, _fitted(model)), settings, test_set)[PAE]
        evidence[condition] = shown
        found += _of_redshifts(condition, shown)
    verdict = decide(evidence["redshift"], evidence["none"], load_promotion_rules())
    print(verdict.reason)
    found.append(figure("gate_promotes_redshift", float(verdict.promote), "", None, None))
    for row in verdict.metrics:
        if row.passes is not None and row.excess is not None:
            print(row.part, row.name, row.champion, row.challenger, row.passes, row.better)
    return found


def _shortened(preset: Preset) -> Preset:
    fit = preset.proposal.fit
    short = fit.model_copy(update={"epochs": max(1, round(PROPOSAL_SHARE * fit.epochs))})
    return preset.model_copy(update={"proposal": preset.proposal.model_copy(update={"fit": short})})


def _fitted(model: Estimator) -> dict[str, float]:
    described = model.z_prior.to_dict()
    return {name: float(described[name]) for name in ("alpha", "beta", "gamma")}


def _of_base(name: str, bundle: PaeBundle, spectra: np.ndarray, z: np.ndarray) -> list[dict[str, Any]]:
    """How well the flow describes held-out spectra, and whether |u| knows their redshift (Fig. 5)."""
    latents = encode_spectra(bundle.autoencoder, spectra)
    norm = np.linalg.norm(latents_to_base(bundle.flow, latents, z).astype(np.float64), axis=1)
    moments = base_moments(bundle.flow, latents, z)
    return [
        figure(f"{name}_mean_log_density", moments["mean_log_prob"], "nats a spectrum", None, None),
        figure(f"{name}_norm_with_z", float(np.corrcoef(norm, z)[0, 1]), "Pearson", None, None),
        figure(f"{name}_max_abs_base_variance_error", moments["max_abs_variance_error"], "", None, None),
    ]


def _of_redshifts(name: str, evidence: Evidence) -> list[dict[str, Any]]:
    figures = []
    for part in (KNOWN, UNSEEN):
        row = metric_intervals(evidence.on(part).scores, (), n_resamples=500).row(0, named=True)
        figures += [
            figure(f"{name}_{part}_{metric}", row[metric], METRICS[metric].heading, None, None)
            for metric in SHOWN
            if row.get(metric) is not None
        ]
    return figures
