"""From draws to catalogue columns: redshift statistics, convergence, goodness of fit, flags (rows I4, I8;
DESIGN section 6).

`z_flags` is a bit mask:

| bit | name | set when |
|---|---|---|
| 1 | UNCONVERGED | split R-hat of z is 1.1 or more |
| 2 | FEW_BANDS | fewer than 20 usable bands |
| 4 | LOW_ESS | effective sample size of z below 100 |
| 8 | AT_PRIOR_EDGE | over 5 % of the draws lie within 2 % (in ln(1+z) of the range) of z_min or z_max |
| 16 | MULTIMODAL | p(z) has a second peak, behind a dip below half its height, with over 5 % of the draws |
| 32 | BAD_FIT | reduced chi^2 of the mean reconstruction above 2 |
| 64 | NO_POSTERIOR | no usable band, or no finite density found: summaries are null |

`pae_status` is "failed" with NO_POSTERIOR, else "unconverged" with UNCONVERGED, else "converged".
"""

from __future__ import annotations

import itertools
from enum import IntFlag

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
from jaxtyping import Array, Float
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from paeplatform.inference.diagnostics import autocorrelation_length, effective_sample_size, split_rhat
from paeplatform.inference.mclmc import PosteriorSamples
from paeplatform.inference.posterior import LogPosterior, Photometry, whiten

QUANTILE_LEVELS = np.linspace(
    0.01, 0.99, 51
)  # cumulative probabilities of `pae_z_quantiles`; the middle one is the median
RHAT_LIMIT = 1.1
MIN_BANDS = 20
MIN_ESS = 100.0
EDGE_RANGE, EDGE_FRACTION = 0.02, 0.05
MODE_FRACTION = 0.05
MAX_REDUCED_CHI2 = 2.0
DENSITY_CELLS = 1024
CHI2_BATCH = 32  # sources whose mean reconstruction is computed in one compiled call


class ZFlag(IntFlag):
    """Bits of `z_flags`; the table stands at the top of this module."""

    UNCONVERGED = 1
    FEW_BANDS = 2
    LOW_ESS = 4
    AT_PRIOR_EDGE = 8
    MULTIMODAL = 16
    BAD_FIT = 32
    NO_POSTERIOR = 64


def summarise(
    object_id: np.ndarray,
    samples: PosteriorSamples,
    posterior: LogPosterior,
    flux: Float[np.ndarray, "source band"],
    flux_err: Float[np.ndarray, "source band"],
) -> pl.DataFrame:
    """One row a source, in the order given.

    Args:
        object_id: (source,) int64.
        samples: of `run_mclmc` for the same sources.
        posterior: the one that was sampled.
        flux: [uJy].
        flux_err: [uJy].

    Returns:
        Columns object_id; pae_z_mean, _median, _mode, _std; pae_z_err68_low/high and pae_z_err95_low/high
        (bounds, not half-widths: central intervals of 68.27 % and 95.45 %); pae_z_quantiles at
        `QUANTILE_LEVELS`; pae_rhat, pae_acl [steps], pae_ess; pae_chi2 of the posterior mean reconstruction;
        pae_n_bands; pae_n_reinit; pae_status; z_flags. A failed source keeps its row with nulls.
    """
    n_source = len(flux)
    ok = ~samples.failed
    z = samples.z.reshape(n_source, -1).astype(np.float64)
    n_bands = (np.isfinite(flux_err) & (np.asarray(flux_err) > 0.0)).sum(axis=1)
    columns: dict[str, np.ndarray] = {}
    levels = {"err68": (0.1586553, 0.8413447), "err95": (0.0227501, 0.9772499)}

    def put(name: str, values: np.ndarray) -> None:
        column = np.full((n_source, *values.shape[1:]), np.nan)
        column[ok] = values
        columns[name] = column

    put("pae_z_mean", z[ok].mean(axis=1))
    put("pae_z_median", np.median(z[ok], axis=1))
    peaks = [density_peaks(row) for row in z[ok]]
    put("pae_z_mode", np.array([mode for mode, _ in peaks]))
    put("pae_z_std", z[ok].std(axis=1))
    for name, (low, high) in levels.items():
        bounds = np.quantile(z[ok], [low, high], axis=1)
        put(f"pae_z_{name}_low", bounds[0])
        put(f"pae_z_{name}_high", bounds[1])
    put("quantiles", np.quantile(z[ok], QUANTILE_LEVELS, axis=1).T)
    put("pae_rhat", split_rhat(samples.z[ok]))
    put("pae_acl", autocorrelation_length(samples.z[ok]))
    put("pae_ess", effective_sample_size(samples.z[ok]))
    put("pae_chi2", mean_reconstruction_chi2(samples, posterior, flux, flux_err)[ok])

    multimodal = np.zeros(n_source, bool)
    multimodal[ok] = [several for _, several in peaks]
    edge = np.zeros(n_source, bool)
    edge[ok] = _at_edge(z[ok], float(posterior.z_prior.z_min), float(posterior.z_prior.z_max))
    n_parameters = samples.u.shape[-1] + 2  # u, z and the amplitude
    converged = columns["pae_rhat"] < RHAT_LIMIT
    with np.errstate(invalid="ignore"):
        bad_fit = columns["pae_chi2"] > MAX_REDUCED_CHI2 * np.maximum(n_bands - n_parameters, 1)
        low_ess = columns["pae_ess"] < MIN_ESS
    flags = np.zeros(n_source, np.int32)
    for flag, where in (
        (ZFlag.UNCONVERGED, ok & ~converged),
        (ZFlag.FEW_BANDS, n_bands < MIN_BANDS),
        (ZFlag.LOW_ESS, low_ess),
        (ZFlag.AT_PRIOR_EDGE, edge),
        (ZFlag.MULTIMODAL, multimodal),
        (ZFlag.BAD_FIT, bad_fit),
        (ZFlag.NO_POSTERIOR, ~ok),
    ):
        flags[where] |= int(flag)
    quantiles = columns.pop("quantiles")
    table = pl.DataFrame(
        {"object_id": np.asarray(object_id, dtype=np.int64)}
        | {name: pl.Series(values.astype(np.float32)).fill_nan(None) for name, values in columns.items()}
    )
    status = np.where(ok, np.where(converged, "converged", "unconverged"), "failed")
    rows = [
        row if good else None for row, good in zip(quantiles.astype(np.float32).tolist(), ok, strict=True)
    ]
    return table.with_columns(
        pl.Series("pae_z_quantiles", rows, dtype=pl.Array(pl.Float32, len(QUANTILE_LEVELS))),
        pl.Series("pae_n_bands", n_bands.astype(np.int16)),
        pl.Series("pae_n_reinit", samples.n_reinit.astype(np.int16)),
        pl.Series("pae_status", status.tolist(), dtype=pl.String),
        pl.Series("z_flags", flags),
    )


def density_peaks(z: Float[np.ndarray, " draw"]) -> tuple[float, bool]:
    """Mode of p(z) by a Gaussian kernel, and whether p(z) has a second separate peak.

    The kernel's width is 0.9 n_eff^-1/5 times the smaller of standard deviation and interquartile range / 1.34,
    halved so that narrow peaks of a multimodal p(z) survive; n_eff is taken as a tenth of the draws.
    """
    low, high = float(z.min()), float(z.max())
    low_quartile, high_quartile = np.quantile(z, [0.25, 0.75])
    scale = min(float(z.std()), float(high_quartile - low_quartile) / 1.34) or float(z.std())
    if not high > low or scale <= 0.0:
        return float(np.median(z)), False
    width = 0.45 * scale * max(len(z) / 10.0, 1.0) ** -0.2
    edges = np.linspace(low - 4.0 * width, high + 4.0 * width, DENSITY_CELLS + 1)
    centre = 0.5 * (edges[1:] + edges[:-1])
    counts = np.histogram(z, edges)[0].astype(np.float64)
    density = gaussian_filter1d(counts, max(width / (edges[1] - edges[0]), 0.7), mode="constant")
    mode = float(np.clip(centre[density.argmax()], low, high))
    # a peak counts when it stands above its surroundings by half its height ...
    found, info = find_peaks(density, prominence=0.0)
    prominent = found[info["prominences"] > 0.5 * density[found]]
    if len(prominent) < 2:
        return mode, False
    # ... and the draws between the dips on its sides are more than a few
    dips = [a + int(density[a:b].argmin()) for a, b in itertools.pairwise(prominent)]
    mass = np.add.reduceat(counts, [0, *dips]) / len(z)
    return mode, bool((mass > MODE_FRACTION).sum() > 1)


def _at_edge(z: Float[np.ndarray, "source draw"], z_min: float, z_max: float) -> np.ndarray:
    low, high = np.log1p(z_min), np.log1p(z_max)
    place = (np.log1p(z) - low) / (high - low)
    return ((place < EDGE_RANGE) | (place > 1.0 - EDGE_RANGE)).mean(axis=1) > EDGE_FRACTION


@eqx.filter_jit
def _mean_chi2(posterior: LogPosterior, photometry: Photometry, u: Array, z: Array) -> Array:
    def one(photometry: Photometry, u: Array, z: Array) -> Array:
        model = jax.vmap(lambda u, z: posterior.best_model(u, z, photometry))(u, z)
        return jnp.sum((photometry.signal - model.mean(axis=0)) ** 2)

    return jax.lax.map(lambda source: one(*source), (photometry, u, z))


def mean_reconstruction_chi2(
    samples: PosteriorSamples,
    posterior: LogPosterior,
    flux: Float[np.ndarray, "source band"],
    flux_err: Float[np.ndarray, "source band"],
) -> Float[np.ndarray, " source"]:
    """Chi^2 of the posterior mean of the model fluxes, over the kept draws, each at its best amplitude (paper
    section V.1).

    The mean is over fluxes, not over (u, z): the mean of the parameters of a curved posterior need not fit.
    """
    n_source, _, _, n_latent = samples.u.shape
    chi2 = np.full(n_source, np.nan)
    for first in range(0, n_source, CHI2_BATCH):
        rows = np.arange(first, min(first + CHI2_BATCH, n_source))
        padded = np.resize(rows, CHI2_BATCH)
        photometry = whiten(
            jnp.asarray(flux[padded], jnp.float32), jnp.asarray(flux_err[padded], jnp.float32)
        )
        u = samples.u[padded].reshape(CHI2_BATCH, -1, n_latent)
        z = samples.z_kept[padded].reshape(CHI2_BATCH, -1)
        chi2[rows] = np.asarray(_mean_chi2(posterior, photometry, jnp.asarray(u), jnp.asarray(z)))[
            : len(rows)
        ]
    return chi2
