"""Measurements at their own wavelengths against averages in channels: errors that are true, and what they cost.

A simulated release: galaxies of the release's selection from a catalogue of a seed of their own
(that of the frozen test set), three visits of each channel, each exposure with its exact flux at its own wavelength.
The same exposures are fitted in these ways: every measurement at its own wavelength (native); their averages as if they
were at the channels' centres (channels), or taken there to first order (corrected); and the averages by template
fitting. The accuracy is that of sources whose total SNR is above 40; the KS distance that of all sources, in bins of
their own sigma_z/(1+z).

Compiling is not counted. Set PAEPLATFORM_BENCH_NATIVE to another number of sources for a trial, and
PAEPLATFORM_BENCH_NATIVE_SNR to the least total SNR of those that are fitted: the few bright sources of a larger release
say more than a thousand faint ones.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from benchmarks.standard import standard_model
from benchmarks.timing import best_seconds, figure
from paeplatform.config import Preset, load_preset
from paeplatform.inference.batches.blocks import target_block
from paeplatform.inference.batches.runtime import enable_compile_cache, source_mesh
from paeplatform.inference.estimate import Estimator
from paeplatform.inference.results.binning import UNSAFE
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.filters import gaussian_filters
from paeplatform.instrument.measurements import ChannelMeans, Measurements
from paeplatform.release.binning import bin_exposures, measurement_table
from paeplatform.release.flags import reject_mask
from paeplatform.release.rows import with_channel
from paeplatform.release.schema import source_id
from paeplatform.release.simulated.delivery import DeliverySpec, exposures
from paeplatform.release.simulated.sky import TemplateSky
from paeplatform.scores.calibration import ks_distance_to_uniform, pit_from_quantiles
from paeplatform.scores.evaluate import draw_bright_sources
from paeplatform.sed.library import load_library
from paeplatform.template_fit.fit import fit_templates
from paeplatform.template_fit.grid import TemplateGridConfig, build_template_grid

N_SOURCES = int(os.environ.get("PAEPLATFORM_BENCH_NATIVE", "2000"))
LEAST_SNR = float(os.environ.get("PAEPLATFORM_BENCH_NATIVE_SNR", "0"))
WARM = 128  # sources of the call that compiles
BRIGHT = 40.0  # total SNR
SIGMA_BINS = ((0.0, 0.003), (0.003, 0.01), (0.01, 0.03))  # of sigma_z/(1+z)
MOST_TIME = 1.6  # per galaxy, native over channels
WIDEST, MOST_OUTLIERS = 1.1, 0.015

Table = pl.DataFrame


def simulated(preset: Preset) -> tuple[Table, Table, Table]:
    """(truth, photometry, measurements) of a release, a row a source in the order of object_id."""
    library, bands = load_library(), load_bands()
    frozen = preset.model_copy(update={"seed": preset.promotion.test_seed})
    truth = draw_bright_sources(frozen, library, bands, N_SOURCES, 0.0, progress=False)
    identity = source_id(truth["ra"].to_numpy(), truth["dec"].to_numpy())
    truth = truth.drop("object_id").with_columns(pl.Series("object_id", identity)).sort("object_id")
    spec = DeliverySpec("native", n_visits=3, seed=preset.seed, depth=preset.instrument.depth)
    rows = exposures(truth, bands, spec, TemplateSky(library))
    positions = rows["ra"].to_numpy(), rows["dec"].to_numpy()
    rows = with_channel(rows.with_columns(pl.Series("object_id", source_id(*positions))), bands)
    reject = reject_mask(preset.release.flag_policy)
    photometry = bin_exposures(rows, bands, reject, 0)
    assert photometry["object_id"].equals(truth["object_id"])
    measurements = measurement_table(rows, photometry, reject)
    enough = photometry["snr"] >= LEAST_SNR
    return truth.filter(enough), photometry.filter(enough), measurements.filter(enough)


def at_centres(photometry: Table) -> np.ndarray:
    """Fluxes of the channels, taken to their centres."""
    columns = (photometry[name].to_numpy() for name in ("flux", "flux_err", "wave_offset", "n_exposures"))
    return ChannelMeans(*columns).at_centres(load_bands())


def timed(estimate: Callable[[np.ndarray], Table], n: int) -> tuple[Table, float]:
    """(answer for all sources, seconds a galaxy); a first call with some of them compiles."""
    estimate(np.arange(min(WARM, n)))
    start = time.perf_counter()
    table = estimate(np.arange(n))
    return table, (time.perf_counter() - start) / n


def accuracy(
    name: str, table: Table, z_true: np.ndarray, bright: np.ndarray, prefix: str
) -> dict[str, float]:
    """Spread of the z-scores, outliers and NMAD of bright sources, and KS distances in bins of sigma."""
    z, sigma = (table[f"{prefix}_z_{which}"].cast(pl.Float64).to_numpy() for which in ("mean", "std"))
    known = np.isfinite(z) & (sigma > 0.0)
    score, error = (z - z_true) / np.where(known, sigma, np.nan), (z - z_true) / (1.0 + z_true)
    use = known & bright
    quantiles = np.stack(
        [
            np.full(51, np.nan) if row is None else np.asarray(row)
            for row in table[f"{prefix}_z_quantiles"].to_list()
        ]
    )
    pit = pit_from_quantiles(z_true, quantiles, np.linspace(0.01, 0.99, 51))
    found = {
        f"{name}_bright_sources": float(use.sum()),
        f"{name}_z_score_std": float(np.std(score[use])),
        f"{name}_z_score_mad": float(1.4826 * np.median(np.abs(score[use] - np.median(score[use])))),
        f"{name}_eta_3sigma": float(np.mean(np.abs(score[use]) > 3.0)),
        f"{name}_nmad": float(1.4826 * np.median(np.abs(error[use] - np.median(error[use])))),
    }
    for low, high in SIGMA_BINS:
        here = known & (sigma / (1.0 + z) >= low) & (sigma / (1.0 + z) < high)
        found[f"{name}_ks_sigma_{low:g}_{high:g}"] = (
            ks_distance_to_uniform(pit[here]) if here.sum() > 9 else np.nan
        )
        found[f"{name}_n_sigma_{low:g}_{high:g}"] = float(here.sum())
    return found


def evaluation_cost(model: Estimator, measurements: Table) -> dict[str, float]:
    """Microseconds of one ln density, for 16 sources with 1,024 draws each, by 306 measurements and by channels."""
    posterior, mesh, rng = model.posterior, source_mesh(), np.random.default_rng(0)
    given = Measurements.from_table(measurements)
    some = given.rows(np.argsort(-given.count)[: 16 * mesh.size])
    sources = model.measured_sources(some, np.arange(len(some)))[-1].sources.single()
    v = jnp.asarray(rng.normal(size=(len(sources), 1024, model.bundle.n_latent + 1)) * 0.3, jnp.float32)
    cost = {}
    for name, photometry in (
        ("native", sources.whitened(posterior)),
        ("channels", sources.whitened(posterior).in_channels),
    ):
        placed = jax.tree.map(jnp.asarray, photometry)
        work = eqx.Partial(target_block, posterior, mesh, placed, v)
        seconds = best_seconds(lambda work=work: jax.block_until_ready(work()), 5)
        cost[name] = seconds / v.shape[0] / v.shape[1] * mesh.size * 1e6
    return cost


def run() -> list[dict[str, Any]]:
    """Some half hour on two idle cores, for 2,000 sources."""
    enable_compile_cache(Path.home() / ".cache" / "paeplatform" / "jax")
    preset, bands, model = load_preset("standard"), load_bands(), standard_model()
    truth, photometry, measurements = simulated(preset)
    z_true, n = truth["z_true"].to_numpy().astype(np.float64), truth.height
    bright = photometry["snr"].to_numpy() > BRIGHT
    ids, flux_err = photometry["object_id"].to_numpy(), photometry["flux_err"].to_numpy()
    raw, corrected = photometry["flux"].to_numpy(), at_centres(photometry)
    given = Measurements.from_table(measurements)
    grid = build_template_grid(
        load_library(), gaussian_filters(bands), TemplateGridConfig.from_preset(preset)
    )

    def fitted(flux: np.ndarray) -> Callable[[np.ndarray], Table]:
        return lambda rows: fit_templates(grid, flux[rows], flux_err[rows], ids[rows], trust=preset.trust)

    def binned(flux: np.ndarray) -> Callable[[np.ndarray], Table]:
        return lambda rows: model.estimate(flux[rows], flux_err[rows], ids[rows])

    ways: dict[str, tuple[str, Callable[[np.ndarray], Table]]] = {
        "native": ("pae", lambda rows: model.estimate_measured(given.rows(rows), ids[rows])[0]),
        "channels": ("pae", binned(raw)),
        "corrected": ("pae", binned(corrected)),
        "tf_channels": ("tf", fitted(raw)),
        "tf_corrected": ("tf", fitted(corrected)),
    }
    found: dict[str, float] = {}
    seconds: dict[str, float] = {}
    tables: dict[str, Table] = {}
    for name, (prefix, estimate) in ways.items():
        tables[name], seconds[name] = timed(estimate, n)
        found |= accuracy(name, tables[name], z_true, bright, prefix)
        if prefix == "pae":
            trusted = tables[name]["pae_status"] == "converged"
            found[f"{name}_converged"] = float(trusted.mean() or 0.0)
            found[f"{name}_converged_bright"] = float(trusted.filter(pl.Series(bright)).mean() or 0.0)
            found[f"{name}_by_chains"] = float((tables[name]["pae_path"] == "mclmc").mean() or 0.0)
    unsafe = tables["native"]["pae_binning_chi2"].fill_null(0.0).to_numpy() > UNSAFE
    for name, prefix in (("corrected", "pae"), ("tf_corrected", "tf")):
        safe = accuracy(name, tables[name], z_true, bright & ~unsafe, prefix)
        found[f"{name}_z_score_std_where_safe"] = safe[f"{name}_z_score_std"]
        found[f"{name}_eta_3sigma_where_safe"] = safe[f"{name}_eta_3sigma"]
    found["binning_unsafe"], found["binning_unsafe_bright"] = (
        float(unsafe.mean()),
        float(unsafe[bright].mean()),
    )
    return [*_figures(found), *_costs(seconds, evaluation_cost(model, measurements))]


def _figures(found: dict[str, float]) -> list[dict[str, Any]]:
    targets = {"native_z_score_std": WIDEST, "native_eta_3sigma": MOST_OUTLIERS}
    for low, high in SIGMA_BINS:
        targets[f"native_ks_sigma_{low:g}_{high:g}"] = found[f"channels_ks_sigma_{low:g}_{high:g}"]
    return [figure(name, value, "", targets.get(name), None) for name, value in found.items()]


def _costs(seconds: dict[str, float], cost: dict[str, float]) -> list[dict[str, Any]]:
    rates = [
        figure(f"{name}_per_hour", 3600.0 / value, "1/h", None, None, more=True)
        for name, value in seconds.items()
    ]
    ratio = seconds["native"] / seconds["channels"]
    return [
        *rates,
        figure("native_over_channels_time", ratio, "", MOST_TIME, None),
        *(figure(f"{name}_evaluation", value, "us", None, None) for name, value in cost.items()),
    ]
