"""Speed and accuracy of the forward operators and of catalogue photometry.

`run()` returns dicts {name, value, unit, target, bound, meets}. A time's `bound` is what the arithmetic of
one evaluation (blending four slabs and one product) costs at this machine's measured float32 matrix rate, or
its table bytes at the measured rate of reading an array of the table's size, whichever is longer; twice that
for value and gradient. At batch 128 repeated calls find their slabs in the cache and can beat it. Operators
are passed to the compiled function as arguments, as the samplers do.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import best_seconds, less_is_better
from paeplatform.config import load_preset
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.bulk import BulkPhotometer
from paeplatform.instrument.exact import exact_photometry
from paeplatform.instrument.filters import FilterCurves, gaussian_filters
from paeplatform.instrument.forward import FoldedOperator, ForwardOperator, fold, grid_operator
from paeplatform.sed.dust import DUST_LAWS
from paeplatform.sed.grid import hires_grid, library_on_grid, rest_grid
from paeplatform.sed.library import load_library
from paeplatform.sed.spectra import attenuated_spectra

N_COMPONENT = 49  # 48 components and the constant, as in the presets
BATCHES = (128, 1024)
REPEATS = 30
TARGET_EVALUATION_US = 10.0  # folded operator at batch 1024
TARGET_BUILD_S = 5.0
TARGET_WORST, TARGET_RMS = 1e-3, 1e-4  # issue, item 3
TARGET_BULK_PER_S = 2000.0


def run() -> list[dict]:
    """Measures both operators at two batch sizes, their accuracy, and the bulk photometer; about half a minute."""
    preset = load_preset("demo")
    wave, filters, z_max = rest_grid(preset.rest_grid), gaussian_filters(load_bands()), preset.prior.z_max
    n_nodes = preset.instrument.n_redshift_nodes
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    folded = fold(rng.standard_normal((N_COMPONENT, len(wave))), wave, filters, z_max, n_nodes)
    build_s = time.perf_counter() - start
    on_grid = grid_operator(wave, filters, z_max, n_nodes)
    rates = _machine_rates()
    results = [less_is_better("fold_build", build_s, "s", TARGET_BUILD_S, None)]
    for name, operator, n_source in (("folded", folded, N_COMPONENT), ("grid", on_grid, len(wave))):
        for batch in BATCHES:
            results += _timings(name, operator, n_source, batch, rates)
    return results + _accuracy(wave, filters, z_max, n_nodes) + _bulk(filters)


def _timings(
    name: str, operator: ForwardOperator, n_source: int, batch: int, rates: tuple[float, float]
) -> list[dict]:
    rng = np.random.default_rng(batch)
    x = jnp.asarray(rng.standard_normal((batch, n_source)), jnp.float32)
    z = jnp.asarray(rng.uniform(0.01, 3.0, batch), jnp.float32)
    tables = [leaf for leaf in jax.tree.leaves(operator) if eqx.is_inexact_array(leaf)]
    slab = sum(table.size for table in tables) // operator.n_nodes  # numbers read in one evaluation
    slab *= (
        2 if isinstance(operator, FoldedOperator) else 1
    )  # two nodes; the grid's table holds both at each interval
    bound_us = 1e6 * max(
        2.5 * slab / rates[0], 4.0 * slab / rates[1]
    )  # 2 operations to blend, a quarter of 2 to apply
    results = []
    for way in ("vmap", "many"):

        def fluxes(x: jax.Array, z: jax.Array, operator: ForwardOperator, way: str = way) -> jax.Array:
            return operator.many(x, z) if way == "many" else jax.vmap(operator)(x, z)

        def misfit(
            x: jax.Array, z: jax.Array, operator: ForwardOperator, fluxes: Callable = fluxes
        ) -> jax.Array:
            return jnp.sum(fluxes(x, z, operator) ** 2)

        folded_at_1024 = name == "folded" and batch == 1024
        for what, function in (
            ("eval", fluxes),
            ("value_and_grad", jax.value_and_grad(misfit, argnums=(0, 1))),
        ):
            compiled = eqx.filter_jit(function)
            value = (
                1e6
                * best_seconds(lambda f=compiled: jax.block_until_ready(f(x, z, operator)), REPEATS)
                / batch
            )
            target = TARGET_EVALUATION_US if folded_at_1024 and what == "eval" else None
            bound = bound_us * (1.0 if what == "eval" else 2.0)
            results.append(
                less_is_better(f"{name}_{what}_{way}_batch{batch}", value, "us/source", target, bound)
            )
    return results


def _accuracy(wave: np.ndarray, filters: FilterCurves, z_max: float, n_nodes: int) -> list[dict]:
    """|F/F_exact - 1| over bands and sources: dusty library galaxies; a one-cell line 20 times a flat continuum."""
    rng = np.random.default_rng(1)
    templates = library_on_grid(load_library(), wave)
    n = len(templates)
    law, ebv = rng.integers(0, len(DUST_LAWS), n), rng.uniform(0.0, 1.0, n)
    galaxies = attenuated_spectra(templates, wave, np.arange(n), law, ebv).astype(np.float64)
    lines = np.ones((100, len(wave)))
    lines[np.arange(100), rng.integers(40, len(wave) - 10, 100)] += 20.0
    results = []
    for name, spectra, z in (
        ("galaxies", galaxies, rng.uniform(0.003, z_max, n)),
        ("one_cell_lines", lines, rng.uniform(0.003, 0.5, 100)),
    ):
        exact = np.array([exact_photometry(wave, s, zi, filters) for s, zi in zip(spectra, z, strict=True)])
        operator = fold(spectra, wave, filters, z_max, n_nodes)
        fluxes = np.asarray(jax.vmap(operator)(jnp.eye(len(spectra)), jnp.asarray(z, jnp.float32)))
        error = np.abs(fluxes / exact - 1.0)
        results.append(
            less_is_better(f"folded_worst_error_{name}", error.max(), "relative", TARGET_WORST, None)
        )
        results.append(
            less_is_better(
                f"folded_rms_error_{name}", np.sqrt(np.mean(error**2)), "relative", TARGET_RMS, None
            )
        )
    return results


def _bulk(filters: FilterCurves) -> list[dict]:
    hires = hires_grid()
    spectra = np.tile(library_on_grid(load_library(), hires), (4, 1))
    z = np.random.default_rng(2).uniform(0.0, 3.0, len(spectra))
    photometer = BulkPhotometer(hires, filters)
    rate = len(spectra) / best_seconds(lambda: photometer.photometry(spectra, z), repeats=5)
    figure = less_is_better("bulk_photometry", rate, "sources/s", TARGET_BULK_PER_S, None)
    return [{**figure, "meets": bool(rate >= TARGET_BULK_PER_S)}]


def _machine_rates() -> tuple[float, float]:
    """(float32 operations/s of a matrix product, bytes/s read from an array of the table's size), here and now."""
    a = jnp.ones((1024, 1024), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    operations = 2.0 * 1024**3 / best_seconds(lambda: jax.block_until_ready(product(a)), repeats=10)
    source = jnp.ones(10_000_000, jnp.float32)
    largest = jax.jit(jnp.max)
    return operations, source.nbytes / best_seconds(
        lambda: jax.block_until_ready(largest(source)), repeats=10
    )
