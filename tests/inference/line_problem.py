"""Galaxies of two lines over a sloped continuum: p(z) can be integrated, and has two modes when a line is lost.

As a program (`python -m tests.inference.line_problem <given.npz> <found.npz> <devices>`) it runs importance sampling
on several host devices.
"""

from __future__ import annotations

import sys

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from paeplatform.config import FitConfig, ImportanceConfig, ProposalConfig, TrustConfig
from paeplatform.inference.batches.progress import SILENT
from paeplatform.inference.model.posterior import LogPosterior
from paeplatform.inference.model.priors import BpzPrior
from paeplatform.inference.sources import Sources
from paeplatform.pae.proposal import build_proposal

N_BAND, Z_MIN, Z_MAX = 32, 0.05, 2.0
LOG_WAVE = np.linspace(np.log(0.75), np.log(5.0), N_BAND).astype(np.float32)
LINES, WIDTH = (0.1, 0.6), 0.1  # ln of the rest wavelengths [um]

CONFIG = ImportanceConfig(
    n_proposal=500,
    n_adapted=500,
    n_rounds=4,
    n_components=4,
    n_starts=8,
    climb_below_ess=25.0,
    ess_target=400.0,
    batch_size=4,
)
TRUST = TrustConfig()
PROPOSAL = ProposalConfig(
    encoder_widths=(16,),
    n_layers=2,
    width=16,
    n_knots=4,
    n_bank=2048,
    fit=FitConfig(learning_rate=3e-3, batch_size=128, epochs=4),
)


class LinesForward(eqx.Module):
    """u0 tilts the continuum, u1 sets the height of both lines."""

    log_wave: np.ndarray

    def __call__(self, u, z):
        rest = self.log_wave - jnp.log1p(z)
        lines = sum(jnp.exp(-0.5 * ((rest - line) / WIDTH) ** 2) for line in LINES)
        return jnp.exp(0.3 * u[0] * (self.log_wave - 0.8)) * (1.0 + lines * jnp.exp(0.4 * u[1]))


def numpy_model(u, z):
    """`LinesForward` in float64; u (..., 2) and z broadcast."""
    log_wave = LOG_WAVE.astype(np.float64)
    rest = log_wave - np.log1p(z)[..., None]
    lines = sum(np.exp(-0.5 * ((rest - line) / WIDTH) ** 2) for line in LINES)
    slope = np.exp(0.3 * u[..., 0, None] * (log_wave - 0.8))
    return slope * (1.0 + lines * np.exp(0.4 * u[..., 1, None]))


def posterior(**choices):
    return LogPosterior(LinesForward(LOG_WAVE), BpzPrior(1.4, 0.7, 1.3, Z_MIN, Z_MAX), **choices)


def untrained():
    return build_proposal(PROPOSAL, 2, N_BAND, (Z_MIN, Z_MAX), key=jr.key(0), t_moments=(0.5, 1.2))


def source(seed, snr, z, window=None):
    """(flux, flux_err) of one galaxy; bands with ln(wave) outside `window` are masked."""
    rng = np.random.default_rng(seed)
    flux = 7.0 * numpy_model(0.7 * rng.normal(size=2), np.array(z))
    flux_err = np.full(N_BAND, np.sqrt(np.sum(flux**2)) / snr) * rng.uniform(0.7, 1.4, N_BAND)
    flux = flux + flux_err * rng.normal(size=N_BAND)
    if window is not None:
        low, high = window
        flux_err[(low > LOG_WAVE) | (high < LOG_WAVE)] = np.inf
    return flux.astype(np.float32), flux_err.astype(np.float32)


def growth(s, m, eps):
    """(model,) rows: factor on each variance by the relative errors `eps` of the model, at the best amplitude given it.

    The amplitude is the fixed point, approached until float64 sees no change.
    """
    found = np.ones_like(m)
    for _ in range(200):
        best = np.maximum((m / found) @ s / np.sum(m * m / found, axis=1), 0.0)
        after = 1.0 + (eps * best[:, None] * m) ** 2
        if np.allclose(after, found, rtol=1e-12):
            break
        found = after
    return found


def integrated(flux, flux_err, eps=None):
    """(z grid, its CDF, mean and standard deviation) by float64 sums over (u0, u1, z); amplitude profiled.

    Args:
        flux: of one source.
        flux_err: infinite masks a band.
        eps: relative error of the model by ln of the rest wavelength; None for a model without.
    """
    used = np.isfinite(flux_err)
    s = (flux[used] / flux_err[used]).astype(np.float64)

    def marginal(z, axes):
        """ln p(z) on the grid, and mean and standard deviation of u."""
        u = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
        height = np.empty((len(z), len(u)))
        for i, one_z in enumerate(z):
            m = numpy_model(u, np.full(len(u), one_z))[:, used] / flux_err[used]
            grown = np.ones_like(m)
            if eps is not None:
                grown = growth(s, m, eps(LOG_WAVE[used].astype(np.float64) - np.log1p(one_z)))
            best = np.maximum((m / grown) @ s / np.sum(m * m / grown, axis=1), 0.0)
            misfit = (s - best[:, None] * m) ** 2 / grown + np.log(grown)
            height[i] = -0.5 * np.sum(misfit, axis=1) - 0.5 * np.sum(u**2, axis=1)
        mass = np.exp(height - height.max()) * (z**1.4 * np.exp(-((z / 0.7) ** 1.3)))[:, None]
        of_u = (mass * np.gradient(z)[:, None]).sum(axis=0)
        mean = of_u @ u / of_u.sum()
        return mass.sum(axis=1), mean, np.sqrt(of_u @ (u - mean) ** 2 / of_u.sum())

    # a rough pass finds where the mass is, a fine one integrates it
    axis, rough = np.linspace(-4.5, 4.5, 41), np.geomspace(Z_MIN, Z_MAX, 250)
    density, mean, std = marginal(rough, (axis, axis))
    reach = 6.0 * std + 2.0 * (axis[1] - axis[0])
    axes = [np.linspace(max(m - r, -4.5), min(m + r, 4.5), 49) for m, r in zip(mean, reach, strict=True)]
    wanted = np.interp(np.linspace(0.0, 1.0, 200), _cdf(rough, density**0.1), rough)
    z = np.unique(np.concatenate([wanted, rough[::3]]))
    density, _, _ = marginal(z, axes)
    cdf = _cdf(z, density)
    density = density / np.trapezoid(density, z)
    mean = np.trapezoid(z * density, z)
    return z, cdf, mean, np.sqrt(np.trapezoid((z - mean) ** 2 * density, z))


def _cdf(z, density):
    cdf = np.concatenate([[0.0], np.cumsum(0.5 * np.diff(z) * (density[1:] + density[:-1]))])
    return cdf / cdf[-1]


if __name__ == "__main__":
    from paeplatform.inference.batches.runtime import use_host_devices

    given_path, found_path, n_devices = sys.argv[1:]
    use_host_devices(int(n_devices))

    import jax

    from paeplatform.inference.importance.sampling import run_importance

    assert jax.device_count() == int(n_devices)
    given = np.load(given_path)
    result = run_importance(
        posterior(),
        untrained(),
        Sources(given["flux"], given["flux_err"], given["object_id"], 4),
        CONFIG,
        TRUST,
        n_kept=200,
        progress=SILENT,
    )
    np.savez(
        found_path,
        z=result.draws.z,
        ess=result.ess,
        khat=result.khat,
        path=result.path,
        **{name: values for name, values in result.columns.items() if values.dtype == np.float64},
    )
