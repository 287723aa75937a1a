"""Single sources, looked at closely: which are shown, their draws over (u, z) and posterior predictive SEDs (Figs. 7 to
9 and the report's browser).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from paeplatform.inference.estimate import Estimator
from paeplatform.inference.missing_bands import missing_bands
from paeplatform.inference.results.predictive import posterior_predictive
from paeplatform.inference.sources import Sources
from paeplatform.paper.tables import pair

BRIGHT_SNR = 50.0
PREDICTIVE_SEED = 0  # of marginalised amplitudes
_KINDS = ("bright", "good", "outlier", "flagged", "uncertain")


def choose_examples(scores: pl.LazyFrame, n: int) -> pl.DataFrame:
    """Some bright, good, outlying, flagged and uncertain sources, of about equal number.

    Args:
        scores: with rows of TF and of the fiducial PAE.
        n: sources at most.

    Returns:
        object_id and why: "bright" (the best detected), "good" (small error for its width, spread over widths),
        "outlier" (largest |Z|), "flagged" (sigma_PAE/sigma_TF > 2, largest ratio), "uncertain" (widest p(z)). Each
        source once, the first of these that it is.
    """
    both = pair(scores).collect()
    each = max(1, -(-n // len(_KINDS)))
    good = both.filter(pl.col("z_score").abs() < 1.0).sort("width")
    spread = (
        good[np.linspace(0, good.height - 1, min(each, good.height)).astype(int)] if good.height else good
    )
    ratio = pl.col("width") / pl.col("width_tf")
    groups = {
        "bright": both.top_k(each, by="snr"),
        "good": spread,
        "outlier": both.top_k(each, by=pl.col("z_score").abs()),
        "flagged": both.filter(pl.col("flagged")).top_k(each, by=ratio),
        "uncertain": both.top_k(each, by="width"),
    }
    chosen = pl.concat(
        [rows.select("object_id", pl.lit(why).alias("why")) for why, rows in groups.items() if rows.height]
        or [pl.DataFrame(schema={"object_id": pl.Int64, "why": pl.String})]
    )
    return chosen.unique("object_id", keep="first", maintain_order=True).head(n)


def example_table(
    chosen: pl.DataFrame,
    sample: pl.DataFrame,
    estimator: Estimator,
) -> pl.DataFrame:
    """The chosen sources' posteriors with draws and predicted fluxes.

    The first one is also inferred with growing parts of its bands masked: the fractions of the stress test (Fig. 9).

    Args:
        chosen: of `choose_examples`.
        sample: photometry and truth.
        estimator: under the fiducial priors.

    Returns:
        A row a source, then one for each further fraction of the first: object_id, why, fraction (of bands missing),
        z_true, mag_z, snr, galaxy_type, template; flux, flux_err (infinite where missing); model (median of the
        predicted fluxes), model_low_68, model_high_68, model_low_95, model_high_95 [uJy]; chi2; z_draws; u_draws
        (draws of u, one after the other); pae_z_mean, pae_z_std, pae_status. Arrays are lists of float32.
    """
    rows = chosen.join(sample, on="object_id", how="left", maintain_order="left")
    preset = estimator.preset
    fractions = [fraction for fraction in preset.stress_test.fractions if fraction > 0.0]
    flux, flux_err = (rows[name].to_numpy().astype(np.float64) for name in ("flux", "flux_err"))
    object_id = rows["object_id"].to_numpy()
    parts = [rows.with_columns(fraction=pl.lit(0.0))]
    errors = [flux_err]
    for fraction in fractions if rows.height else ():
        mask = missing_bands(flux_err[:1], object_id[:1], fraction, preset.seed)
        errors.append(np.where(mask, np.inf, flux_err[:1]))
        parts.append(rows.head(1).with_columns(fraction=pl.lit(fraction), why=pl.lit("missing bands")))
    every = pl.concat(parts)
    flux = np.concatenate([flux, *[flux[:1]] * (len(parts) - 1)])
    flux_err = np.concatenate(errors)
    ids = np.arange(len(flux), dtype=np.int64) + 1  # distinct, also where a source is inferred several times
    ids[: rows.height] = object_id
    ids[rows.height :] = -ids[rows.height :]
    table, draws = estimator.estimate_with_draws(flux, flux_err, ids, progress=False)
    sources = Sources(flux, flux_err, ids, PREDICTIVE_SEED)
    predicted = posterior_predictive(estimator.posterior, draws, sources)
    names = ("z_true", "mag_z", "snr", "galaxy_type", "template")
    low, high = predicted.flux_low, predicted.flux_high
    return every.select("object_id", "why", "fraction", *names).with_columns(
        _lists("flux", flux),
        _lists("flux_err", flux_err),
        _lists("model", predicted.flux),
        *(
            _lists(f"model_{end}_{level}", values[:, k])
            for k, level in enumerate((68, 95))
            for end, values in (("low", low), ("high", high))
        ),
        pl.Series("chi2", predicted.chi2),
        _lists("z_draws", draws.z),
        _lists("u_draws", draws.u.reshape(len(flux), -1)),
        table["pae_z_mean"].cast(pl.Float64),
        table["pae_z_std"].cast(pl.Float64),
        table["pae_status"],
    )


def _lists(name: str, values: np.ndarray) -> pl.Series:
    return pl.Series(name, np.asarray(values, dtype=np.float32).tolist(), dtype=pl.List(pl.Float32))
