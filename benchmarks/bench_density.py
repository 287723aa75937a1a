"""One evaluation of the log density and of its gradient, and where the time goes (paper section IV.3).

`run()` returns dicts {name, value, unit, target, bound, meets}. Times are per source, in a batch, on one device, with
the standard preset's network sizes; weights do not change the arithmetic, so an untrained model is timed. `bound` of
a value is what its matrix products cost at this machine's measured float32 rate (one device), of a gradient three
times that: one forward and two products backward. The paper quotes some 2 ms on an A100 for one evaluation, in the
order flow, redshifting, decoder, filters.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from benchmarks.timing import best_seconds, less_is_better
from paeplatform.config import load_preset
from paeplatform.inference.model.forward_model import PaeForward, build_forward
from paeplatform.inference.model.posterior import LogPosterior, WhitenedPhotometry, whiten
from paeplatform.inference.model.priors import BpzPrior
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.filters import gaussian_filters
from paeplatform.pae.autoencoder import build_autoencoder
from paeplatform.pae.bundle import PaeBundle
from paeplatform.pae.flow import build_flow
from paeplatform.sed.grid import rest_grid

BATCH = 1024
REPEATS = 30


def run() -> list[dict[str, Any]]:
    """About half a minute."""
    preset = load_preset("standard")
    wave, n_latent = np.asarray(rest_grid(preset.rest_grid)), preset.pae.n_latent
    autoencoder = build_autoencoder(preset.pae.autoencoder, n_latent, len(wave), key=jr.key(0))
    flow = build_flow(preset.pae.flow, jr.normal(jr.key(1), (4096, n_latent)), key=jr.key(2))
    bundle = PaeBundle(autoencoder, flow, preset.pae, n_latent, wave, load_bands().content_hash(), "")
    forward = build_forward(
        bundle, gaussian_filters(load_bands()), preset.prior.z_max, preset.instrument.n_redshift_nodes
    )
    posterior = LogPosterior(forward, BpzPrior(1.1, 0.7, 1.75, preset.prior.z_min, preset.prior.z_max))
    rng = np.random.default_rng(0)
    u = jnp.asarray(rng.normal(size=(BATCH, n_latent)), jnp.float32)
    z = jnp.asarray(rng.uniform(0.1, 2.0, BATCH), jnp.float32)
    flux = jax.vmap(forward)(u, z)
    photometry = whiten(flux, jnp.full_like(flux, 0.05) * jnp.max(jnp.abs(flux), axis=1, keepdims=True))
    v = jnp.concatenate([u, jnp.log(z)[:, None]], axis=1)

    flow_flop, decoder_flop, band_flop = _operations(preset, flux.shape[1])
    rate = _matrix_rate()
    latent = jax.vmap(flow.to_latent)(u)
    coefficients = jax.vmap(autoencoder.coefficients)(latent)  # type: ignore[attr-defined]
    parts = {
        "flow": (lambda m: jax.vmap(m.flow.to_latent)(u), flow_flop),
        "decoder": (lambda m: jax.vmap(m.autoencoder.coefficients)(latent), decoder_flop),
        "redshift_and_filters": (lambda m: jax.vmap(m.operator)(coefficients, z), band_flop),
    }
    figures = []
    for name, (function, flop) in parts.items():
        value = _microseconds(function, forward)
        gradient = _microseconds(_gradient_of(name, u, latent, coefficients, z), forward)
        bound = 1e6 * flop / rate
        figures.append(less_is_better(f"{name}_value", value, "us", None, bound))
        figures.append(less_is_better(f"{name}_gradient", gradient, "us", None, 3.0 * bound))

    def density(p: LogPosterior) -> jax.Array:
        return jax.vmap(p.free_log_prob)(v, photometry)

    def slope(p: LogPosterior) -> jax.Array:
        return jax.vmap(jax.grad(lambda v, d: p.free_log_prob(v, WhitenedPhotometry(*d))))(
            v, tuple(photometry)
        )

    bound = 1e6 * (flow_flop + decoder_flop + band_flop) / rate
    figures.append(less_is_better("log_density_value", _microseconds(density, posterior), "us", None, bound))
    figures.append(
        less_is_better("log_density_gradient", _microseconds(slope, posterior), "us", None, 3.0 * bound)
    )
    figures.append(less_is_better("matrix_rate_one_device", rate / 1e9, "GFLOP/s", None, None))
    return figures


def _gradient_of(name: str, u: jax.Array, latent: jax.Array, coefficients: jax.Array, z: jax.Array) -> Any:
    def flow(m: PaeForward) -> jax.Array:
        return jax.grad(lambda u: jnp.sum(jax.vmap(m.flow.to_latent)(u)))(u)

    def decoder(m: PaeForward) -> jax.Array:
        return jax.grad(lambda x: jnp.sum(jax.vmap(m.autoencoder.coefficients)(x)))(latent)  # type: ignore[attr-defined]

    def bands(m: PaeForward) -> Any:
        return jax.grad(lambda c, z: jnp.sum(jax.vmap(m.operator)(c, z)), argnums=(0, 1))(coefficients, z)

    return {"flow": flow, "decoder": decoder, "redshift_and_filters": bands}[name]


def _microseconds(function: Any, model: Any) -> float:
    compiled = eqx.filter_jit(function)
    return 1e6 * best_seconds(lambda: jax.block_until_ready(compiled(model)), REPEATS) / BATCH


def _operations(preset: Any, n_band: int) -> tuple[float, float, float]:
    """FLOP of the matrix products of one evaluation: flow, decoder, bands."""
    n_latent, cfg = preset.pae.n_latent, preset.pae.flow
    kept = n_latent // 2
    sizes = (kept, *(cfg.width,) * cfg.depth, (n_latent - kept) * (3 * cfg.n_knots - 1))
    flow = cfg.n_layers * sum(2 * a * b for a, b in pairwise(sizes))
    net = preset.pae.autoencoder.compact
    sizes = (n_latent, *net.decoder_widths, net.n_components)
    decoder = sum(2 * a * b for a, b in pairwise(sizes))
    # four slabs of the table are blended, then multiplied with the coefficients
    bands = (2 * 4 + 2) * (net.n_components + 1) * n_band
    return float(flow), float(decoder), float(bands)


def _matrix_rate() -> float:
    """FLOP/s of a float32 product of the conditioners' kind, (1024, 96) by (96, 96), on one device."""
    rng = np.random.default_rng(1)
    a = jnp.asarray(rng.normal(size=(BATCH, 96)), jnp.float32)
    b = jnp.asarray(rng.normal(size=(96, 96)) / 10.0, jnp.float32)

    @jax.jit
    def chain(a: jax.Array, b: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 100, lambda _, x: x @ b, a)

    return 100 * 2 * BATCH * 96 * 96 / best_seconds(lambda: chain(a, b).block_until_ready(), 10)


if __name__ == "__main__":
    import json

    print(json.dumps(run(), indent=1))
