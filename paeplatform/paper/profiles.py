"""Profile likelihoods of a few sources, the PAE's beside template fitting's (section VI.4.2, Fig. 16)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
from jaxtyping import Float

from paeplatform.inference.estimate import Estimator
from paeplatform.inference.model.posterior import LogPosterior, whiten
from paeplatform.inference.profile_likelihood import ProfileLikelihood, profile_likelihood
from paeplatform.instrument.noise import usable_bands
from paeplatform.paper.tables import pair
from paeplatform.template_fit.grid import TemplateGrid
from paeplatform.template_fit.profile import profile_sources

SCHEMA = {
    "object_id": pl.Int64,
    "why": pl.String,
    "z_true": pl.Float64,
    "snr": pl.Float64,
    "z_grid": pl.List(pl.Float64),
    "chi2": pl.List(pl.Float64),
    "tf_z_grid": pl.List(pl.Float64),
    "tf_chi2": pl.List(pl.Float64),
    "flux": pl.List(pl.Float64),
    "flux_err": pl.List(pl.Float64),
    "fit_z": pl.List(pl.Float64),
    "fit_model": pl.List(pl.List(pl.Float64)),
}
N_RANGES = 4  # equal ranges of redshift, of each of which the best fit is drawn


def choose_profiled(scores: pl.LazyFrame, n: int) -> pl.DataFrame:
    """Sources of Fig. 16: the one of total SNR nearest 56, then flagged ones of 0.05 < sigma_TF/(1+z) < 0.1, else those
    that come nearest to being flagged.

    Returns:
        object_id and why, at most `n` rows.
    """
    both = pair(scores).collect()
    bright = both.sort((pl.col("snr") - 56.0).abs()).head(1).with_columns(why=pl.lit("well detected"))
    ratio = pl.col("width") / pl.col("width_tf")
    faint = both.filter(pl.col("width_tf").is_between(0.05, 0.1)).sort(ratio, descending=True)
    named = pl.when(pl.col("flagged")).then(pl.lit("flagged")).otherwise(pl.lit("largest sigma ratio"))
    together = pl.concat([bright.select("object_id", "why"), faint.select("object_id", named.alias("why"))])
    return together.unique("object_id", keep="first", maintain_order=True).head(n)


def profile_table(
    chosen: pl.DataFrame,
    sample: pl.DataFrame,
    estimator: Estimator,
    grid: TemplateGrid,
) -> pl.DataFrame:
    """Both methods' profiles of the chosen sources.

    Args:
        chosen: of `choose_profiled`; none gives no rows.
        sample: photometry and truth.
        estimator: under the fiducial priors, which give the limits in z.
        grid: of template fitting.

    Returns:
        object_id, why, z_true, snr; z_grid and chi2 of the PAE's profile (300 redshifts), tf_z_grid and tf_chi2; flux
        and flux_err [uJy]; the PAE's best fits at some redshifts, fit_z and fit_model [uJy]: at the node nearest the
        truth, then the best of each of `N_RANGES` ranges.
    """
    if not chosen.height:
        return pl.DataFrame(schema=SCHEMA)
    rows = chosen.join(sample, on="object_id", how="left", maintain_order="left")
    flux, flux_err = rows["flux"].to_numpy(), rows["flux_err"].to_numpy()
    posterior = LogPosterior(estimator.forward, estimator.z_prior)
    bundle = estimator.bundle
    found = profile_likelihood(
        posterior,
        flux,
        flux_err,
        n_latent=bundle.n_latent,
        seed=estimator.preset.seed,
        landmarks=bundle.landmarks,
        progress=False,
    )
    fits = profile_sources(grid, flux, flux_err, progress=False)
    fit_z, fit_model = best_fits(posterior, found, flux, flux_err, rows["z_true"].to_numpy())
    lists = {
        "z_grid": np.tile(found.z_grid, (rows.height, 1)),
        "chi2": found.chi2,
        "tf_z_grid": np.tile(grid.config.z, (rows.height, 1)),
        "tf_chi2": fits.chi2,
        "flux": flux,
        "flux_err": flux_err,
        "fit_z": fit_z,
        "fit_model": fit_model,
    }
    return (
        rows.select("object_id", "why", "z_true", "snr")
        .with_columns(
            pl.Series(name, np.asarray(values, np.float64).tolist()) for name, values in lists.items()
        )
        .cast(SCHEMA)
    )  # type: ignore[arg-type]


def best_fits(
    posterior: LogPosterior,
    profile: ProfileLikelihood,
    flux: Float[np.ndarray, "source band"],
    flux_err: Float[np.ndarray, "source band"],
    z_true: Float[np.ndarray, " source"],
) -> tuple[Float[np.ndarray, "source fit"], Float[np.ndarray, "source fit band"]]:
    """Redshifts and model fluxes [uJy] of some of a profile's fits: at the truth, and the best of each range of z.

    Bands whose error is not finite or not positive hold NaN.
    """
    ranges = np.array_split(np.arange(len(profile.z_grid)), N_RANGES)
    chi2 = np.where(np.isnan(profile.chi2), np.inf, profile.chi2)
    nodes = np.column_stack(
        [
            np.abs(profile.z_grid - np.asarray(z_true)[:, None]).argmin(axis=1),
            *(part[chi2[:, part].argmin(axis=1)] for part in ranges),
        ]
    )
    u = np.take_along_axis(profile.u_best, nodes[:, :, None], axis=1)
    photometry = whiten(jnp.asarray(flux, jnp.float32), jnp.asarray(flux_err, jnp.float32))
    over_fits = jax.vmap(posterior.best_model, in_axes=(0, 0, None))
    model = jax.jit(jax.vmap(over_fits))(jnp.asarray(u), jnp.asarray(profile.z_grid[nodes]), photometry)
    error = np.where(usable_bands(flux_err), flux_err, np.nan)
    return profile.z_grid[nodes], np.asarray(model) * error[:, None]
