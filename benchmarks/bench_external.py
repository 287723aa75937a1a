"""Redshifts with grz, W1 and W2 beside SPHEREx: how much better, and what zero points that are off do to them.

Mock galaxies of z_AB < 22.5 whose magnitudes in two surveys are off by up to 0.05 mag. SPHEREx alone, with the other
bands and their zero points marginalised, and with the zero points taken as right. Then the zero points are fitted. The
model is that with alias PAEPLATFORM_BENCH_ALIAS in PAEPLATFORM_BENCH_HOME; PAEPLATFORM_BENCH_EXTERNAL is the number of
galaxies.
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
from paeplatform.catalog.external import mock_external
from paeplatform.inference.batches.runtime import enable_compile_cache
from paeplatform.inference.estimate import Estimator
from paeplatform.inference.model.draws import PosteriorDraws
from paeplatform.inference.results.zero_points import fitted_zero_points
from paeplatform.inference.sources import ExternalFluxes, Sources
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.external import ExternalBands, nominal_bands
from paeplatform.scores.evaluate import draw_bright_sources
from paeplatform.sed.library import load_library

N = int(os.environ.get("PAEPLATFORM_BENCH_EXTERNAL", "2000"))
BANDS = ("legacy/g", "legacy/r", "legacy/z", "wise/W1", "wise/W2")
OFF_MAG = {"legacy": 0.05, "wise": -0.04}
WIDTH = 0.05  # prior of both, relative
LEAST_GAIN, MOST_BIAS, MOST_OFF, MOST_TIME, TRUSTED = 0.3, 0.002, 0.01, 1.3, 0.97


def run() -> list[dict[str, Any]]:
    """Half an hour on two cores."""
    enable_compile_cache(Path.home() / ".cache" / "paeplatform" / "jax")
    model, library = standard_model(), load_library()
    preset = model.preset.model_copy(update={"seed": model.preset.promotion.test_seed + 200})
    rows = draw_bright_sources(preset, library, load_bands(), N, 0.0, progress=False)
    marginal = nominal_bands(BANDS, dict.fromkeys(OFF_MAG, WIDTH))
    rows = mock_external(library, marginal, rows, preset.seed, zero_points_mag=OFF_MAG)
    certain = nominal_bands(BANDS, dict.fromkeys(OFF_MAG, 0.0))
    values: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for name, bands in (("alone", None), ("marginalised", marginal), ("taken_as_right", certain)):
        table, draws, seconds[name] = inferred(replace(model, external=bands), rows)
        values |= judged(name, table)
        if bands is marginal:
            values |= zero_points(replace(model, external=bands), bands, rows, table, draws)
    values["nmad_gain"] = 1.0 - values["marginalised_nmad"] / values["alone_nmad"]
    values["time_ratio"] = seconds["marginalised"] / seconds["alone"]
    targets = {"nmad_gain": LEAST_GAIN, "marginalised_trusted_before_mclmc": TRUSTED}
    limits = {"time_ratio": MOST_TIME, "largest_zero_point_error_mag": MOST_OFF}
    figures = [
        figure(name, value, "", targets.get(name, limits.get(name)), None, more=name in targets)
        for name, value in values.items()
    ]
    for shown in figures:
        if shown["name"] == "marginalised_bias":
            shown |= {"target": MOST_BIAS, "meets": abs(shown["value"]) <= MOST_BIAS}
    return figures


def inferred(model: Estimator, rows: pl.DataFrame) -> tuple[pl.DataFrame, PosteriorDraws, float]:
    """(posteriors beside the truth, draws, seconds of the calls after the first, which compiles)."""
    own = [rows[name].to_numpy() for name in ("flux", "flux_err", "object_id")]
    beside = None
    if model.external is not None:
        fluxes = (rows[f"external_{name}"].to_numpy() for name in ("flux", "flux_err"))
        beside = ExternalFluxes.of(model.external, *fluxes)
    model.estimate(
        *(part[:32] for part in own), external=None if beside is None else beside.rows(slice(0, 32))
    )
    start = time.perf_counter()
    table, draws = model.estimate_with_draws(*own, external=beside, progress=False)
    took = time.perf_counter() - start
    return table.with_columns(rows["z_true"], rows["snr"]), draws, took


def zero_points(
    model: Estimator, bands: ExternalBands, rows: pl.DataFrame, table: pl.DataFrame, draws: PosteriorDraws
) -> dict[str, float]:
    """What each survey is found to be off by, beside the truth."""
    beside = ExternalFluxes.of(bands, *(rows[f"external_{name}"].to_numpy() for name in ("flux", "flux_err")))
    own = (rows[name].to_numpy() for name in ("flux", "flux_err", "object_id"))
    flux, flux_err, identity = own
    sources = Sources(flux, flux_err, identity, model.preset.seed, None, beside)
    trusted = (table["pae_status"] == "converged").to_numpy()
    found = fitted_zero_points(model.posterior, bands, draws, sources, trusted)
    values = {}
    for row in found.iter_rows(named=True):
        survey = row["survey"]
        values[f"{survey}_zero_point_mag"] = row["zero_point_mag"]
        values[f"{survey}_zero_point_mag_err"] = row["zero_point_mag_err"]
    off = [abs(values[f"{survey}_zero_point_mag"] - true) for survey, true in OFF_MAG.items()]
    return values | {"largest_zero_point_error_mag": float(np.max(off))}
