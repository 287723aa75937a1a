"""Rows as `Estimator.estimate_measured` makes them, and facts, made up for tests of what is said of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from paeplatform.answers.facts import SourceFacts
from paeplatform.inference.results.predictive import Predictive
from paeplatform.inference.results.pz_summary import redshift_columns
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.measurements import Measurements, padded
from paeplatform.outputs.seen import Seen

N_LATENT = 10
LEVELS = np.array([0.6827, 0.9545])


def row_of(status: str = "converged", seed: int = 0, **more: Any) -> dict[str, Any]:
    """One row: z = 0.512 +- 0.014 of 98 measurements with chi^2 88, unless told otherwise."""
    z = np.random.default_rng(seed).normal(0.512, 0.014, 500)
    row = {
        "object_id": 7 + seed, "pae_z_draws": z, "pae_path": "proposal", "pae_status": status,
        "pae_ess": 812.0, "pae_khat": 0.3, "pae_chi2": 91.0, "pae_chi2_best": 88.0, "pae_error_scale": 1.0,
        "pae_n_bands": 90, "pae_n_measurements": 98, "z_flags": 0, "input_fault": None, "pae_binning_chi2": 0.2,
    }  # fmt: skip
    row |= more
    names = [f"pae_z_{name}" for name in ("median", "mode", "std", "err68_low", "err68_high")]
    if status == "failed" or row["pae_z_draws"] is None:
        gone = ("pae_z_draws", "pae_ess", "pae_khat", "pae_chi2", "pae_chi2_best", "pae_error_scale")
        return row | dict.fromkeys((*names, *gone)) | {"pae_path": "none"} | more
    columns = redshift_columns(row["pae_z_draws"][None], None, z_min=0.003, z_max=3.0, prefix="pae")
    return {name: float(columns[name][0]) for name in names} | row


def facts_of_one(name: str = "Cloverleaf", **more: Any) -> SourceFacts:
    """103 rows read, five of them set aside."""
    given: dict[str, Any] = {
        "name": name, "ra": 213.94271, "dec": 11.49539, "n_read": 103, "snr": 61.2, "model": "reference 1",
        "prior_id": "bpz-1a2b", "n_latent": N_LATENT, "set_aside": {"masked by its flags": 4, "no error": 1},
    }  # fmt: skip
    return SourceFacts(**given | more)


def table_of(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """The rows as one table, draws as lists of one length."""
    table = pl.DataFrame(
        [{key: value for key, value in row.items() if key != "pae_z_draws"} for row in rows],
        infer_schema_length=None,
    )
    draws = [
        None if row["pae_z_draws"] is None else np.asarray(row["pae_z_draws"], np.float32).tolist()
        for row in rows
    ]
    length = next((len(one) for one in draws if one is not None), 1)
    return table.with_columns(pl.Series("pae_z_draws", draws, dtype=pl.Array(pl.Float32, length)))


def measured(n_source: int, n_visits: int = 1) -> Measurements:
    """Fluxes about a slope, with a small error, beside the centres of the channels."""
    bands, rng = load_bands(), np.random.default_rng(1)
    n = n_source * n_visits * len(bands)
    wave = np.tile(bands.wave_um, n_source * n_visits) * np.exp(0.006 * rng.uniform(-1.0, 1.0, n))
    error = np.full(n, 2.0)
    flux = 30.0 + 8.0 * wave + error * rng.standard_normal(n)
    width = np.tile(bands.bandwidth_um, n_source * n_visits)
    return Measurements(flux, error, wave, width, np.arange(n_source + 1) * n_visits * len(bands))


def seen_of(measurements: Measurements, row: int) -> Seen:
    """What a model of the slope predicts of one of the sources."""
    own = padded(measurements.rows(np.array([row])), 320)
    model = np.where(np.isfinite(own.flux_err), 30.0 + 8.0 * own.wave_um, np.nan)
    spread = np.array([1.0, 2.0])[:, None]
    return Seen(own, Predictive(LEVELS, model, model[:, None] - spread, model[:, None] + spread, np.zeros(1)))
