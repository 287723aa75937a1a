"""The score table that validation's tables are read from: a row for each source and method of the validation sample.

Methods by the keys used throughout: "tf" (template fitting), "sbi", the PAE's four configurations of priors
(`PRIOR_CHOICES`), and "latent<n>", Markov chains with a PAE of n latents.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import polars as pl

from paeplatform.errors import InputError
from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.scores.calibration import reduced_chi2, summed_over
from paeplatform.scores.metrics import require_columns
from paeplatform.scores.scorecard import score_sources
from paeplatform.scores.scores import cde_loss_from_quantiles

# Configuration -> (NF prior on u, prior on z), as in Table 1.
PRIOR_CHOICES: dict[str, tuple[bool, str]] = {
    "nf_bpz": (True, "bpz"),
    "nf_uniform": (True, "uniform"),
    "free_bpz": (False, "bpz"),
    "free_uniform": (False, "uniform"),
}
FIDUCIAL = "nf_bpz"
LABELS = {
    "tf": "TF, uniform in z and models",
    "sbi": "SBI",
    "free_uniform": "PAE, no prior on u, z uniform",
    "nf_uniform": "PAE, u ~ N(0, I), z uniform",
    "free_bpz": "PAE, no prior on u, z ~ p_BPZ",
    "nf_bpz": "PAE, u ~ N(0, I), z ~ p_BPZ",
}
TRUTH = ("mag_z", "snr", "galaxy_type", "template")
_NUMBERS = ("rhat", "acl", "khat", "ess")


def latent_method(n_latent: int) -> str:
    """The key of the chains with a PAE of so many latents."""
    return f"latent{n_latent}"


def label_of(method: str) -> str:
    """A method in words."""
    if method.startswith("latent"):
        return f"PAE chains, n_latent = {method.removeprefix('latent')}"
    return LABELS.get(method, method)


def method_scores(
    posteriors: pl.DataFrame,
    sample: pl.DataFrame,
    method: str,
    *,
    prefix: str,
    z_range: tuple[float, float],
    n_latent: int | None = None,
) -> pl.DataFrame:
    """What every metric is a statistic of, a row a source.

    Args:
        posteriors: a row a source with object_id, `<prefix>_z_mean`, `_z_std`, `_z_quantiles`, `_status`, and where the
            method has them `_rhat`, `_acl`, `_khat`, `_ess`, `_chi2`, that of `summed_over`, and `pae_rho_uz`.
        sample: with object_id, z_true and `TRUTH`; it may hold further sources.
        method: key of the rows.
        prefix: of the posteriors' columns.
        z_range: of the prior; the background of the log score.
        n_latent: of the model, for the degrees of freedom of chi^2; None for none.

    Returns:
        method, object_id, z_true, `TRUTH`, z_hat, sigma_z, the columns of `score_sources`, cde_loss (on `CDE_EDGES`),
        quantiles (at `QUANTILE_LEVELS`), chi2_reduced, rhat, acl, khat, ess, and rho_uz_max, the largest |rho(z, u_i)|
        (section VI.3.1). NaN or null where a method has no such number.

    Raises:
        InputError: a column is missing, or a source is not in the sample or twice in it.
    """
    require_columns(sample, ("object_id", "z_true", *TRUTH), "validation sample lacks")
    joined = posteriors.join(
        sample.select("object_id", "z_true", *TRUTH), on="object_id", how="left", validate="m:1"
    ).sort("object_id")
    unknown = joined.filter(pl.col("z_true").is_null())["object_id"].to_list()
    if unknown:
        raise InputError(
            f"{len(unknown)} sources are not in the validation sample, the first is {unknown[0]}"
        )
    scores = score_sources(joined, QUANTILE_LEVELS.tolist(), prefix=prefix, z_range=z_range)
    quantiles = joined[f"{prefix}_z_quantiles"]
    cde = cde_loss_from_quantiles(joined["z_true"].to_numpy(), quantiles.to_numpy(), QUANTILE_LEVELS)
    chi2 = np.full(joined.height, np.nan)
    if n_latent is not None and f"{prefix}_chi2" in joined.columns:
        chi2 = reduced_chi2(
            _number(joined, f"{prefix}_chi2"), _number(joined, summed_over(joined, prefix)), n_latent
        )
    return scores.select(
        pl.lit(method).alias("method"),
        "object_id",
        "z_true",
        *(
            joined[name].cast(pl.String if name in ("galaxy_type", "template") else pl.Float64)
            for name in TRUTH
        ),
        pl.Series("z_hat", _number(joined, f"{prefix}_z_mean")),
        pl.Series("sigma_z", _number(joined, f"{prefix}_z_std")),
        *(name for name in scores.columns if name not in ("object_id", "z_true")),
        pl.Series("cde_loss", np.where(scores["usable"].to_numpy() > 0, cde, np.nan)),
        quantiles.cast(pl.Array(pl.Float32, len(QUANTILE_LEVELS))).alias("quantiles"),
        pl.Series("chi2_reduced", chi2),
        *(pl.Series(name, _number(joined, f"{prefix}_{name}")) for name in _NUMBERS),
        pl.Series("rho_uz_max", _largest_correlation(joined)),
    )


def score_methods(
    sample: pl.DataFrame,
    *,
    tf: pl.DataFrame,
    sbi: pl.DataFrame,
    pae: Sequence[pl.DataFrame],
    chains: Mapping[int, pl.DataFrame],
    n_latent: int,
    z_range: tuple[float, float],
    leave_out: Collection[str] = (),
) -> pl.DataFrame:
    """The score table of all methods.

    Args:
        sample: truth of the sources.
        tf: table of `fit_templates`.
        sbi: table of `estimate_sbi`.
        pae: tables of `posteriors_under`, with the configuration in column `method`.
        chains: the same by n_latent, of Markov chains.
        n_latent: of the PAE behind `pae`.
        z_range: of the prior.
        leave_out: templates that the PAE was not trained on.

    Returns:
        Rows of `method_scores`, by method in the order of the arguments, with `in_training`: whether the PAE's training
        had the source's template.
    """
    found = [
        method_scores(tf, sample, "tf", prefix="tf", z_range=z_range),
        method_scores(sbi, sample, "sbi", prefix="sbi", z_range=z_range),
    ]
    every = [(table, n_latent) for table in pae] + [(table, size) for size, table in sorted(chains.items())]
    for table, size in every:
        if not table.height:  # a preset may leave chains out
            continue
        for (method,), rows in table.group_by("method", maintain_order=True):
            found.append(
                method_scores(rows, sample, str(method), prefix="pae", z_range=z_range, n_latent=size)
            )
    return pl.concat(found).with_columns(in_training=~pl.col("template").is_in(list(leave_out)))


def of_methods(scores: pl.LazyFrame, *methods: str) -> pl.LazyFrame:
    """The rows of some methods."""
    return scores.filter(pl.col("method").is_in(methods))


def methods_in(scores: pl.LazyFrame) -> list[str]:
    """The methods that a score table holds, in order of name."""
    return scores.select(pl.col("method").unique().sort()).collect()["method"].to_list()


def latent_sizes(scores: pl.LazyFrame) -> list[int]:
    """The latent sizes whose chains a score table holds, ascending."""
    return sorted(
        int(name.removeprefix("latent")) for name in methods_in(scores) if name.startswith("latent")
    )


def _number(rows: pl.DataFrame, name: str) -> np.ndarray:
    if name not in rows.columns:
        return np.full(rows.height, np.nan)
    return rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _largest_correlation(rows: pl.DataFrame) -> np.ndarray:
    if "pae_rho_uz" not in rows.columns or not rows.height:
        return np.full(rows.height, np.nan)
    rho = np.abs(rows["pae_rho_uz"].to_numpy().astype(np.float64))  # null becomes a row of NaN
    known = np.asarray(np.isfinite(rho).any(axis=1))
    return np.where(known, np.nanmax(np.where(known[:, None], rho, 0.0), axis=1), np.nan)
