"""Speed of the autoencoders' decoders and of the flows, and, for a trained bundle, their quality.

`run()` returns dicts {name, value, unit, target, bound, meets}. Times are per item in a batch of 1024 with randomly
initialised networks of the presets' sizes; `bound` is what their multiplications alone cost at this machine's measured
float32 matrix rate (a gradient: three times that). With a bundle and held-out spectra,
`run(bundle_folder=..., spectra=...)` adds errors and moments against the targets of the issue.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from benchmarks.timing import best_seconds, less_is_better
from paeplatform.config import AutoencoderConfig, load_preset
from paeplatform.pae.autoencoder import CompactAutoencoder, ConvAutoencoder, build_autoencoder
from paeplatform.pae.bundle import PaeBundle, load_bundle
from paeplatform.pae.flow import LatentFlow, build_flow
from paeplatform.pae.training import base_moments, encode_spectra, reconstruction_mse

BATCH = 1024
REPEATS = 20
N_WAVE = 500
TARGET_COMPACT_US = 5.0
TARGET_CONV_US = 30.0
TARGET_COUPLING_US = 20.0
TARGET_MEDIAN_MSE = {
    "demo": 1e-4,
    "standard": 3e-5,
}  # issue, item 5; the 95th percentile under five times that
TARGET_MEAN, TARGET_VARIANCE, TARGET_ROUND_TRIP = 0.1, 0.2, 1e-4


def run(
    bundle_folder: Path | None = None, spectra: np.ndarray | None = None, preset: str = "standard"
) -> list[dict]:
    """Measures decoders and flows; about a minute, mostly compilation.

    Args:
        bundle_folder: a trained bundle (`save_bundle`) whose quality to measure too.
        spectra: (n, n_wave) held-out mean-normalised spectra, needed with a bundle.
        preset: whose reconstruction target the bundle is held to.

    Raises:
        ValueError: a bundle without spectra.
    """
    if bundle_folder is not None and spectra is None:
        raise ValueError("measuring a bundle needs held-out spectra")
    rate = _matrix_rate()
    results = _decoders(rate) + _flows(rate)
    if bundle_folder is not None and spectra is not None:
        results += _quality(load_bundle(bundle_folder), spectra, TARGET_MEDIAN_MSE[preset])
    return results


def _decoders(rate: float) -> list[dict]:
    demo, paper = load_preset("demo").pae, load_preset("paper").pae
    results = []
    for name, cfg, target in (
        ("compact", demo.autoencoder, TARGET_COMPACT_US),
        ("conv", paper.autoencoder, TARGET_CONV_US),
    ):
        model = build_autoencoder(cfg, demo.n_latent, N_WAVE, key=jr.key(0))
        latents = jr.normal(jr.key(1), (BATCH, demo.n_latent))
        decode = eqx.filter_jit(lambda m, x: jax.vmap(m.decode)(x))
        bound = 1e6 * _decoder_operations(cfg, demo.n_latent) / rate
        results.append(
            less_is_better(f"{name}_decode", _time_us(decode, model, latents), "us/spectrum", target, bound)
        )
        if isinstance(
            model, CompactAutoencoder
        ):  # what inference evaluates: the head is folded into the forward table
            coefficients = eqx.filter_jit(lambda m, x: jax.vmap(m.coefficients)(x))
            head = 2.0 * cfg.compact.n_components * N_WAVE
            value = _time_us(coefficients, model, latents)
            results.append(
                less_is_better(f"{name}_coefficients", value, "us/source", None, bound - 1e6 * head / rate)
            )
    return results


def _decoder_operations(cfg: AutoencoderConfig, n_latent: int) -> float:
    """Multiplications and additions of one decode."""
    if cfg.architecture == "compact":
        net = cfg.compact
        widths = (n_latent, *net.decoder_widths, net.n_components, N_WAVE)
        return 2.0 * sum(a * b for a, b in itertools.pairwise(widths))
    widths = (n_latent, *cfg.conv.dense[::-1], cfg.conv.filters[-1])
    operations = 2.0 * sum(a * b for a, b in itertools.pairwise(widths))
    model = build_autoencoder(cfg, n_latent, N_WAVE, key=jr.key(0))
    assert isinstance(model, ConvAutoencoder)
    length = len(model.unpool)
    for layer in model.transposed:  # every input position meets every weight once
        operations += 2.0 * length * layer.weight.size
        length *= 4
    return operations


def _flows(rate: float) -> list[dict]:
    n_latent = load_preset("demo").pae.n_latent
    results = []
    for name, cfg, target in (
        ("coupling", load_preset("demo").pae.flow, TARGET_COUPLING_US),
        ("iaf", load_preset("paper").pae.flow, None),
    ):
        flow = build_flow(cfg, jr.normal(jr.key(0), (4096, n_latent)), key=jr.key(1))
        u = jr.normal(jr.key(2), (BATCH, n_latent))
        weights = eqx.filter(flow.layers, lambda leaf: eqx.is_inexact_array(leaf) and leaf.ndim == 3)
        bound = 1e6 * 2.0 * sum(leaf.size for leaf in jax.tree.leaves(weights)) / rate
        to_latent = eqx.filter_jit(lambda f, x: jax.vmap(f.to_latent)(x))
        to_base = eqx.filter_jit(lambda f, x: jax.vmap(f.to_base)(x))
        gradient = eqx.filter_jit(lambda f, x: jax.vmap(jax.grad(lambda v: f.to_latent(v).sum()))(x))
        results += [
            less_is_better(f"{name}_to_latent", _time_us(to_latent, flow, u), "us/source", target, bound),
            less_is_better(
                f"{name}_to_latent_gradient", _time_us(gradient, flow, u), "us/source", None, 3.0 * bound
            ),
            less_is_better(f"{name}_to_base", _time_us(to_base, flow, u), "us/source", None, bound),
        ]
    return results


def _quality(bundle: PaeBundle, spectra: np.ndarray, target: float) -> list[dict]:
    errors = reconstruction_mse(bundle.autoencoder, spectra)
    moments = base_moments(bundle.flow, encode_spectra(bundle.autoencoder, spectra))
    figures = (
        ("median_mse", np.median(errors), target),
        ("p95_mse", np.quantile(errors, 0.95), 5.0 * target),
        ("max_abs_base_mean", moments["max_abs_mean"], TARGET_MEAN),
        ("max_abs_base_variance_error", moments["max_abs_variance_error"], TARGET_VARIANCE),
        ("round_trip_error_1_sigma", _round_trip(bundle.flow, 1.0), TARGET_ROUND_TRIP),
        ("round_trip_error_3_sigma_p99", _round_trip(bundle.flow, 3.0, 0.99), None),
    )
    return [less_is_better(name, float(value), "1", goal, None) for name, value, goal in figures]


def _round_trip(flow: LatentFlow, spread: float, level: float = 1.0) -> float:
    u = spread * jr.normal(jr.key(0), (10_000, flow.shift.size))
    back = eqx.filter_jit(lambda f, x: jax.vmap(lambda row: f.to_base(f.to_latent(row)))(x))(flow, u)
    return float(jnp.quantile(jnp.abs(back - u).max(axis=1), level))


def _time_us(function: Callable, model: eqx.Module, rows: jax.Array) -> float:
    return 1e6 * best_seconds(lambda: jax.block_until_ready(function(model, rows)), REPEATS) / len(rows)


def _matrix_rate() -> float:
    """Float32 operations/s of a matrix product, here and now."""
    a = jnp.ones((1024, 1024), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    return 2.0 * 1024**3 / best_seconds(lambda: jax.block_until_ready(product(a)), REPEATS)
