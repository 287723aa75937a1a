"""Speed of the sampler on the demo preset's model and stages.

`run()` returns dicts {name, value, unit, target, bound, meets}. `bound` of a gradient is twice its forward
evaluation at the same batch and devices (reverse mode computes about as much again); of galaxies per hour, what
those gradients alone allow. Without a bundle an untrained one of the demo's size is timed: weights change the
posterior, not the arithmetic.
"""

from __future__ import annotations

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from paeplatform.config import MclmcConfig, Preset, load_preset
from paeplatform.inference.batches.progress import SILENT
from paeplatform.inference.mclmc.chains import run_mclmc
from paeplatform.inference.model.forward_model import PaeForward, build_forward
from paeplatform.inference.model.posterior import LogPosterior, WhitenedPhotometry, whiten
from paeplatform.inference.model.priors import BpzPrior
from paeplatform.inference.sources import Sources
from paeplatform.instrument.bands import load_bands
from paeplatform.instrument.filters import gaussian_filters
from paeplatform.pae.autoencoder import build_autoencoder
from paeplatform.pae.bundle import PaeBundle
from paeplatform.pae.flow import build_flow
from paeplatform.sed.grid import rest_grid

TARGET_PER_HOUR = 1000.0
TARGET_COMPILE_S = 60.0
GRADIENTS_PER_STEP = 2  # of the McLachlan integrator
SHARE = 0.1  # of the preset's steps that are timed
REPEATS = 20


def run(bundle: PaeBundle | None = None) -> list[dict[str, Any]]:
    """Compiles and times the demo's sampler on one batch of mock sources; about a minute and a half."""
    preset = load_preset("demo")
    bundle = bundle or _untrained(preset)
    forward = build_forward(
        bundle, gaussian_filters(load_bands()), preset.prior.z_max, preset.instrument.n_redshift_nodes
    )
    posterior = LogPosterior(forward, BpzPrior(1.1, 0.7, 1.75, preset.prior.z_min, preset.prior.z_max))
    full = preset.mclmc
    stages = ("n_burnin", "n_tune", "n_steps", "n_discard")
    cfg = full.model_copy(update={name: max(int(SHARE * getattr(full, name)), 50) for name in stages})
    flux, flux_err = _sources(forward, bundle.n_latent, cfg.batch_size * jax.device_count())

    compiled: list[float] = []

    def listen(name: str, seconds: float, **_: Any) -> None:
        if name.startswith("/jax/core/compile/"):
            compiled.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    _sample(posterior, flux, flux_err, cfg, bundle.n_latent)
    compile_s = sum(compiled)
    start = time.perf_counter()
    _sample(posterior, flux, flux_err, cfg, bundle.n_latent)
    seconds = time.perf_counter() - start
    steps, all_steps = (c.n_burnin + c.n_tune + c.n_steps for c in (cfg, full))
    per_hour = 3600.0 * len(flux) / (seconds * all_steps / steps)
    gradient_us = 1e6 * seconds / (steps * GRADIENTS_PER_STEP * len(flux) * cfg.n_chains)
    forward_us, alone_us = _evaluations(posterior, flux, flux_err, cfg, bundle.n_latent)
    share = jax.device_count()  # an evaluation is timed on one device, the sampler ran on all
    bound_us = 2.0 * forward_us / share
    best_per_hour = 3600e6 / (bound_us * all_steps * GRADIENTS_PER_STEP * full.n_chains)
    return [
        _result(
            "mclmc_galaxies_per_hour",
            per_hour,
            "1/h",
            TARGET_PER_HOUR,
            best_per_hour,
            per_hour >= TARGET_PER_HOUR,
        ),
        _result("mclmc_compile", compile_s, "s", TARGET_COMPILE_S, None, compile_s <= TARGET_COMPILE_S),
        _result("mclmc_gradient_in_sampler", gradient_us, "us", None, bound_us, None),
        _result("mclmc_gradient_alone_one_device", alone_us, "us", None, 2.0 * forward_us, None),
        _result("mclmc_forward_alone_one_device", forward_us, "us", None, None, None),
    ]


def _sample(
    posterior: LogPosterior, flux: np.ndarray, flux_err: np.ndarray, cfg: MclmcConfig, n_latent: int
) -> None:
    run_mclmc(posterior, Sources.numbered(flux, flux_err, 1), cfg, n_latent=n_latent, progress=SILENT)


def _evaluations(
    posterior: LogPosterior, flux: np.ndarray, flux_err: np.ndarray, cfg: MclmcConfig, n_latent: int
) -> tuple[float, float]:
    """Microseconds of one log density and of one gradient, in a batch of a device's lanes."""
    n_lane = cfg.batch_size * cfg.n_chains
    rng = np.random.default_rng(2)
    v = jnp.asarray(
        np.column_stack([rng.normal(size=(n_lane, n_latent)), rng.normal(-0.7, 0.3, n_lane)]), jnp.float32
    )
    rows = np.resize(np.arange(len(flux)), n_lane)
    photometry = whiten(jnp.asarray(flux[rows], jnp.float32), jnp.asarray(flux_err[rows], jnp.float32))

    def density(posterior: LogPosterior, v: jax.Array, photometry: WhitenedPhotometry) -> jax.Array:
        return jax.vmap(posterior.free_log_prob)(v, photometry)

    def gradient(posterior: LogPosterior, v: jax.Array, photometry: WhitenedPhotometry) -> jax.Array:
        return jax.grad(lambda v: density(posterior, v, photometry).sum())(v)

    times = []
    for function in (density, gradient):
        fast = eqx.filter_jit(function)
        fast(posterior, v, photometry).block_until_ready()
        took = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            fast(posterior, v, photometry).block_until_ready()
            took.append(time.perf_counter() - start)
        times.append(1e6 * float(np.median(took)) / n_lane)
    return times[0], times[1]


def _untrained(preset: Preset) -> PaeBundle:
    wave = np.asarray(rest_grid(preset.rest_grid))
    n_latent = preset.pae.n_latent
    autoencoder = build_autoencoder(preset.pae.autoencoder, n_latent, len(wave), key=jr.key(0))
    flow = build_flow(preset.pae.flow, jr.normal(jr.key(1), (4096, n_latent)), key=jr.key(2))
    return PaeBundle(autoencoder, flow, preset.pae, n_latent, wave, load_bands().content_hash(), "")


def _sources(forward: PaeForward, n_latent: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Model fluxes of prior draws with noise at a total SNR of 20."""
    rng = np.random.default_rng(0)
    u, z = rng.normal(size=(n, n_latent)), rng.uniform(0.1, 1.5, n)
    flux = np.asarray(jax.vmap(forward)(jnp.asarray(u, jnp.float32), jnp.asarray(z, jnp.float32)), np.float64)
    flux_err = np.repeat(np.sqrt(np.sum(flux**2, axis=1, keepdims=True)) / 20.0, flux.shape[1], axis=1)
    return flux + flux_err * rng.normal(size=flux.shape), flux_err


def _result(
    name: str, value: float, unit: str, target: float | None, bound: float | None, meets: bool | None
) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "target": target, "bound": bound, "meets": meets}


if __name__ == "__main__":
    import json

    print(json.dumps(run(), indent=1))
