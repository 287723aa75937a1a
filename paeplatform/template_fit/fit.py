"""Template fitting of a table of sources: p(z) from the profile likelihood, its summaries and the best model.

`tf_status` says how a source came out:

| status | meaning |
|---|---|
| fitted | a model with positive amplitude is the best |
| misfit | the best model misses the data (`inference.results.status.misses_data`): its redshift means nothing |
| no_signal | no model beats an amplitude of zero: p(z) is the prior, there is no best model |
| no_bands | no usable band: nulls |
| bad_flux | a usable band has a flux that is not finite: nulls |
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
from jaxtyping import Float

from paeplatform.config import DEFAULT_TRUST, TrustConfig
from paeplatform.errors import ConfigError
from paeplatform.inference.model.priors import RedshiftPrior
from paeplatform.inference.results.pz_summary import summarise_pz_grid
from paeplatform.inference.results.status import misses_data
from paeplatform.instrument.noise import usable_bands
from paeplatform.source_columns import array_column, check_sources, nullable
from paeplatform.template_fit.grid import TemplateGrid
from paeplatform.template_fit.profile import profile_sources

STATUSES = ("fitted", "misfit", "no_signal", "no_bands", "bad_flux")  # only the first is to be trusted
N_PARAMETERS = 4  # of a model: template, redshift, E(B-V) and amplitude


def fit_templates(
    grid: TemplateGrid,
    flux: Float[np.ndarray, "source band"],
    flux_err: Float[np.ndarray, "source band"],
    object_id: np.ndarray,
    *,
    z_prior: RedshiftPrior | None = None,
    trust: TrustConfig = DEFAULT_TRUST,
    keep_pz: bool = False,
    progress: bool = True,
) -> pl.DataFrame:
    """Fits every model of a grid to every source (paper eq. 12).

    p(z) is the profile likelihood exp(-chi^2_min(z) / 2) times the prior, linear between the grid's redshifts and
    normalised. A p(z) narrower than the grid's step comes out as wide as the step lets it.

    Args:
        grid: `build_template_grid`; may be used again for other sources.
        flux: [uJy]; negative values are legal.
        flux_err: 1 sigma [uJy]; not finite or not positive masks the band.
        object_id: (source,) integers.
        z_prior: prior on z; None for none, as the paper has it.
        trust: limits of a misfit; those of the preset, as for the posteriors.
        keep_pz: adds the column tf_pz, p(z) at `grid.config.z`.
        progress: shows a bar in galaxies.

    Returns:
        One row a source, in the order given: object_id; the columns of `summarise_pz_grid` with prefix "tf"
        (f32); tf_multimodal and tf_at_edge; of the best model, whatever the prior, tf_z_best, tf_template, tf_dust_law
        (null without dust), tf_ebv [mag], tf_amplitude [uJy by the template's own scale] and tf_chi2; tf_chi2_null
        of an amplitude of zero; tf_n_bands; tf_status.

    Raises:
        BandSetError: flux or flux_err are not (source, band) for the grid's bands.
        ConfigError: object_id has another length or is not integer, or the prior leaves no redshift of the grid.
    """
    flux, flux_err, object_id = np.asarray(flux), np.asarray(flux_err), np.asarray(object_id)
    check_sources(flux, flux_err, grid.n_band, object_id)
    log_prior = _log_prior(z_prior, grid.config.z)
    fit = profile_sources(grid, flux, flux_err, progress=progress)

    pz = _density(fit.chi2, log_prior, grid.config.z)
    z_range = {} if z_prior is None else {"z_min": float(z_prior.z_min), "z_max": float(z_prior.z_max)}
    summary = summarise_pz_grid(grid.config.z, pz, prefix="tf", **z_range)
    columns: dict[str, pl.Series | np.ndarray] = {"object_id": object_id.astype(np.int64)}
    quantiles = summary.pop("tf_z_quantiles")
    flags = {f"tf_{name}": summary.pop(name) for name in ("multimodal", "at_edge")}
    usable = usable_bands(flux_err)
    known, detected = np.isfinite(fit.chi2_null), fit.template >= 0
    columns |= {name: nullable(values) for name, values in summary.items()}
    columns["tf_z_quantiles"] = array_column(quantiles, known)
    columns |= flags
    best_chi2 = np.where(
        detected, np.take_along_axis(fit.chi2, fit.z_index[:, None], axis=1)[:, 0], fit.chi2_null
    )
    misfit = detected & misses_data(best_chi2, usable.sum(axis=1), N_PARAMETERS, trust)
    ebv = np.where(detected, grid.config.ebv[fit.ebv_index], np.nan)
    columns |= {
        "tf_z_best": nullable(np.where(detected, grid.config.z[fit.z_index], np.nan)),
        "tf_template": _names(grid.name, fit.template, detected),
        "tf_dust_law": _names(grid.config.dust_laws, fit.law, detected & (ebv > 0.0)),
        "tf_ebv": nullable(ebv),
        "tf_amplitude": nullable(fit.amplitude),
        "tf_chi2": nullable(best_chi2),
        "tf_chi2_null": nullable(fit.chi2_null),
        "tf_n_bands": usable.sum(axis=1).astype(np.int16),
        "tf_status": np.select(
            [misfit, detected, known, usable.any(axis=1)],
            ["misfit", "fitted", "no_signal", "bad_flux"],
            "no_bands",
        ),
    }
    if keep_pz:
        columns["tf_pz"] = array_column(pz, known)
    return pl.DataFrame(columns)


def _log_prior(z_prior: RedshiftPrior | None, z: np.ndarray) -> np.ndarray:
    """ln p(z) at the grid's redshifts, float64; -inf where the prior has none."""
    if z_prior is None:
        return np.zeros(len(z))
    log_prior = np.asarray(jax.vmap(z_prior.log_prob)(jnp.asarray(z, jnp.float32)), np.float64)
    if not np.isfinite(log_prior).any():
        limits = f"{float(z_prior.z_min):g}-{float(z_prior.z_max):g}"
        raise ConfigError(
            f"redshift prior: none of the grid's redshifts, {z[0]:g}-{z[-1]:g}, lies within {limits}"
        )
    return log_prior


def _density(chi2: np.ndarray, log_prior: np.ndarray, z: np.ndarray) -> Float[np.ndarray, "source z"]:
    """Normalised p(z); NaN for a source without chi^2."""
    log_p = -0.5 * chi2 + log_prior
    pz = np.exp(log_p - log_p.max(axis=1, keepdims=True))
    return pz / np.trapezoid(pz, z, axis=1)[:, None]


def _names(names: tuple[str, ...], index: np.ndarray, known: np.ndarray) -> pl.Series:
    return pl.Series(
        [names[i] if good else None for i, good in zip(index, known, strict=True)], dtype=pl.String
    )
