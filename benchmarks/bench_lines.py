"""Galaxies whose emission lines are 0 to 5 times those of the library, with the lines marginalised and without.

The spectra are templates with lines, each with all its lines times one factor that is uniform from 0 to 5
(`sed.composites.change_lines`); `_by_group` has a factor for each group of lines instead, so that the ratios of lines
differ from the library's too. Beside them galaxies of the templates as they are. The model is that with alias
PAEPLATFORM_BENCH_ALIAS in PAEPLATFORM_BENCH_HOME; PAEPLATFORM_BENCH_LINES is the number of galaxies of each kind.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.bench_left_out import judged
from benchmarks.standard import standard_model
from benchmarks.timing import figure
from paeplatform.inference.batches.runtime import enable_compile_cache
from paeplatform.inference.estimate import Estimator
from paeplatform.instrument.bands import load_bands
from paeplatform.scores.evaluate import draw_bright_sources
from paeplatform.sed.composites import LINE_GROUPS, change_lines
from paeplatform.sed.grid import library_on_grid
from paeplatform.sed.library import TemplateLibrary, load_library, mean_flux
from paeplatform.sed.line_groups import LINE_GROUPS as TERMS
from paeplatform.sed.line_groups import SPREAD, areas

N = int(os.environ.get("PAEPLATFORM_BENCH_LINES", "400"))
LEAST_SNR = 20.0
VARIANTS = 6  # of each template
MOST_OUTLIERS, WIDEST, MOST_TIME, TRUSTED = 0.03, 1.25, 1.3, 0.97


def run() -> list[dict[str, Any]]:
    """A quarter of an hour on two cores."""
    enable_compile_cache(Path.home() / ".cache" / "paeplatform" / "jax")
    model = standard_model()
    library = load_library()
    wave = np.asarray(model.bundle.wave, dtype=np.float64)
    halpha = [group.name for group in TERMS].index("halpha_nii_sii")
    strong = areas(library_on_grid(library, wave), wave)[:, halpha] > 0.5 * SPREAD[halpha]
    with_lines = library.without([name for name, has in zip(library.name, strong, strict=True) if not has])
    kinds = {
        "scaled": scaled(with_lines, together=True),
        "by_group": scaled(with_lines, together=False),
        "as_they_are": with_lines,
    }
    values: dict[str, float] = {"templates_with_lines": float(len(with_lines))}
    seconds: dict[bool, float] = {False: 0.0, True: 0.0}
    for number, (kind, templates) in enumerate(kinds.items()):
        preset = model.preset.model_copy(update={"seed": model.preset.promotion.test_seed + 100 + number})
        sources = draw_bright_sources(preset, templates, load_bands(), N, LEAST_SNR, progress=False)
        for on in (False, True):
            table, took = inferred(model, sources, on)
            seconds[on] += took
            values |= judged(f"{kind}_{'with' if on else 'without'}", table)
    values["time_ratio"] = seconds[True] / seconds[False]
    targets = {
        "scaled_with_eta_3sigma": MOST_OUTLIERS,
        "scaled_with_z_score_std": WIDEST,
        "time_ratio": MOST_TIME,
    }
    more = {"scaled_with_trusted_before_mclmc": TRUSTED}
    return [
        figure(name, value, "", targets.get(name, more.get(name)), None, more=name in more)
        for name, value in values.items()
    ]


def scaled(library: TemplateLibrary, *, together: bool) -> TemplateLibrary:
    """`VARIANTS` of each template with its lines times factors from 0 to 5."""
    rng = np.random.default_rng(20261129)
    names, waves, fluxes, origins, licences = [], [], [], [], []
    for row, name in enumerate(library.name):
        for variant in range(VARIANTS):
            factors = rng.uniform(0.0, 5.0, len(LINE_GROUPS))
            factors = np.maximum(np.full(len(LINE_GROUPS), factors[0]) if together else factors, 1e-3)
            flux = change_lines(library.wave[row], library.flux[row], tuple(factors.tolist()))
            names.append(f"{name}/lines-{variant}")
            waves.append(library.wave[row])
            fluxes.append(flux / mean_flux(library.wave[row], flux, 0.1, 5.0))
            origins.append(library.source[row])
            licences.append(library.licence[row])
    return TemplateLibrary(tuple(names), tuple(origins), tuple(licences), tuple(waves), tuple(fluxes))


def inferred(model: Estimator, sources: pl.DataFrame, on: bool) -> tuple[pl.DataFrame, float]:
    """(posteriors beside the truth, seconds of the calls after the first, which compiles)."""
    inference = model.preset.inference.model_copy(update={"line_terms": on})
    told = replace(model, preset=model.preset.model_copy(update={"inference": inference}))
    columns = [sources[name].to_numpy() for name in ("flux", "flux_err", "object_id")]
    parts, took = [], 0.0
    for rows in (slice(0, 32), slice(32, None)):
        start = time.perf_counter()
        parts.append(told.estimate(*(column[rows] for column in columns), progress=False))
        took = time.perf_counter() - start
    return pl.concat(parts).with_columns(sources["z_true"], sources["snr"]), took
