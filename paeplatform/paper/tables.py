"""The paper's result tables from a score table, its own numbers beside ours (sections VI and VII, appendices A and B).

Each function takes the lazy table of `sample_scores` and returns a small one: a row a selection, statistics with
bootstrap errors, and columns `paper_<name>` where the paper quotes a number. The selections are cuts or bins in the
quoted uncertainty sigma_z/(1 + z_hat), of each method's own unless said otherwise.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import polars as pl

from paeplatform.paper import numbers as paper
from paeplatform.paper.sample_scores import (
    FIDUCIAL,
    LABELS,
    latent_method,
    latent_sizes,
    methods_in,
    of_methods,
)
from paeplatform.paper.table_rows import (
    Resampling,
    named,
    present,
    small_table,
    statistics_of,
    statistics_row,
)
from paeplatform.scores.bootstrap import bootstrap_error
from paeplatform.scores.metrics import CALIBRATION, POINT, PRECISION_BINS, PROPER, SIGMA_CUTS, pearson
from paeplatform.scores.statistics import bins_of

TABLE_1_CUTS = (0.02, 0.2)
TABLE_2_CUTS = (0.01, 0.2)
FLAG_RATIO = 2.0  # sigma_PAE / sigma_TF
BRIGHT, FAINT = 20.0, 22.5  # z_AB
RHAT_LIMITS = (1.1, 1.2)


def prior_table(scores: pl.LazyFrame, resampling: Resampling) -> pl.DataFrame:
    """Table 1: TF and the PAE under four choices of priors.

    Returns:
        method, label, cut; n, n_total, share (n of n_total, which sample sizes do not enter); mean_bias, median_sigma,
        nmad_paper, nmad_usual, eta_3sigma, eta_015 and pit_ks with errors; the paper's numbers.
    """
    rows = []
    for method in present(scores, *LABELS):
        for cut in TABLE_1_CUTS:
            row = statistics_row(scores, method, pl.col("width") < cut, (*POINT, "pit_ks"), resampling)
            numbers = paper.TABLE_1.get((method, cut))
            names = ("n", "mean_bias", "median_sigma", "nmad_paper", "eta_3sigma")
            share = {"paper_share": None if numbers is None else numbers[0] / paper.N_SOURCES}
            rows.append(named(method) | {"cut": cut} | row | share | paper.beside(names, numbers))
    return small_table(rows)


def latent_table(scores: pl.LazyFrame, resampling: Resampling) -> pl.DataFrame:
    """Table 2: the same sources with PAEs of several n_latent, by Markov chains.

    Returns:
        n_latent, cut; f_rhat (R-hat < 1.1, of all sources, not of the cut's), n, n_total, share, mean_bias, nmad_paper,
        eta_3sigma with errors; the paper's numbers.
    """
    rows = []
    for size in latent_sizes(scores):
        method = latent_method(size)
        share = _chain_numbers(of_methods(scores, method), resampling)
        for cut in TABLE_2_CUTS:
            row = statistics_row(
                scores, method, pl.col("width") < cut, ("mean_bias", "nmad_paper", "eta_3sigma"), resampling
            )
            numbers = paper.TABLE_2.get((size, cut))
            rows.append(
                {"n_latent": size, "cut": cut, "f_rhat": share["f_rhat_1_1"]}
                | {"f_rhat_err": share["f_rhat_1_1_err"]}
                | row
                | {"paper_f_rhat": paper.TABLE_2_RHAT.get(size)}
                | paper.beside(("n", "mean_bias", "nmad_paper", "eta_3sigma"), numbers)
            )
    return small_table(rows)


def sigma_cut_table(scores: pl.LazyFrame, resampling: Resampling) -> pl.DataFrame:
    """Fig. 11 as numbers: TF, PAE and SBI by cut in their own uncertainty.

    Returns:
        method, label, cut (null: all); n, n_total, share; all point statistics with errors; the paper's where it
        quotes some.
    """
    rows = []
    for method in present(scores, "tf", FIDUCIAL, "sbi"):
        for cut in (*SIGMA_CUTS, None):
            chosen = pl.lit(True) if cut is None else pl.col("width") < cut
            numbers = None if cut is None else paper.FIG_11.get((method, cut))
            rows.append(
                named(method)
                | {"cut": cut}
                | statistics_row(scores, method, chosen, POINT, resampling)
                | paper.beside(("n", "nmad_paper", "eta_3sigma", "mean_bias"), numbers)
            )
    return small_table(rows)


def flag_table(scores: pl.LazyFrame, resampling: Resampling) -> pl.DataFrame:
    """Section VI.3: sources whose PAE uncertainty is over twice TF's, by bin of TF's precision (Fig. 13).

    Only sources that both methods have a p(z) for enter.

    Returns:
        bin (of TF's sigma_z/(1+z)), sources ("all", "flagged", "unflagged"), n; for TF and PAE mean_bias, nmad_paper
        and eta_3sigma with errors (`tf_`, `pae_`); pae_f_trusted; f_rhat (< 1.1) and rhat_median of the PAE posteriors
        that came from chains, null where none did; the paper's numbers.
    """
    paired = pair(scores).drop("quantiles", "quantiles_tf").collect().lazy()  # joined once, not for every row
    flagged = pl.col("flagged")
    groups = {"all": pl.lit(True), "flagged": flagged, "unflagged": ~flagged}
    names = ("mean_bias", "nmad_paper", "eta_3sigma")
    rows = []
    bins = bins_of("width_tf", PRECISION_BINS, "sigma_TF/(1+z)")
    for index, (name, inside) in enumerate(bins.items()):
        for group, chosen in groups.items():
            here = paired.filter(inside & chosen)
            row = {"bin": name, "sources": group}
            for prefix, suffix, wanted in (("tf", "_tf", names), ("pae", "", (*names, "f_trusted"))):
                columns = ("error_true", "error_hat", "z_score", "width", "trusted", "usable")
                table = here.select("object_id", *(pl.col(f"{c}{suffix}").alias(c) for c in columns))
                found = statistics_of(table, {group: pl.lit(True)}, wanted, resampling)[0]
                row["n"] = found.pop("n")
                row |= {f"{prefix}_{key}": value for key, value in found.items()}
            chains = _chain_numbers(here, resampling)
            row |= {"f_rhat": chains["f_rhat_1_1"], "rhat_median": chains["rhat_median"]}
            row |= paper.beside(("n", "tf_eta_3sigma"), paper.FLAGGED.get((index, group)))
            row |= paper.beside(("f_rhat", "rhat_median"), paper.FLAGGED_RHAT.get((index, group)))
            rows.append(row)
    return small_table(rows)


def error_correlation(scores: pl.LazyFrame, resampling: Resampling) -> pl.DataFrame:
    """Section VI.2.1: correlation of TF's and the PAE's errors z_hat - z_true, by bin of the PAE's precision (Fig. 12).

    Returns:
        bin, n, pearson and spearman with errors; null where fewer than three sources are left. paper_low and
        paper_high: the range the paper quotes for the less precise bins.
    """
    paired = pair(scores).select("z_true", "z_hat", "z_hat_tf", "width").collect().lazy()
    edges = (0.0, *SIGMA_CUTS, np.inf)
    rows = []
    for low, (name, inside) in zip(edges, bins_of("width", edges, "sigma_PAE/(1+z)").items(), strict=False):
        here = paired.filter(inside)
        estimates = here.select(pl.col("z_hat_tf", "z_hat") - pl.col("z_true"))
        errors = estimates.collect().to_numpy().T
        row = {"bin": name, "low": low, "n": errors.shape[1]}
        for key, values in (("pearson", errors), ("spearman", _ranks(errors))):
            enough = errors.shape[1] > 2
            row[key] = float(pearson(values)) if enough else None
            row[f"{key}_err"] = (
                bootstrap_error(values, pearson, resampling.n, resampling.seed) if enough else None
            )
        quoted = paper.CORRELATION_RANGE if low >= 0.01 else None
        rows.append(row | paper.beside(("low", "high"), quoted))
    return small_table(rows)


def convergence_table(scores: pl.LazyFrame, resampling: Resampling) -> pl.DataFrame:
    """Appendix A: convergence of Markov chains with and without the NF prior (Fig. 18).

    Returns:
        method, label, nf_prior, n (sources with an R-hat); rhat_median, acl_median and acl_p95 [steps], f_rhat_1_1,
        f_rhat_1_2, ess_median with errors; the paper's numbers. Methods that no chain was run for are left out.
    """
    rows = []
    for method in methods_in(scores):
        numbers = _chain_numbers(of_methods(scores, method), resampling)
        if not numbers["n"] or method in ("tf", "sbi"):
            continue
        with_prior = not method.startswith("free")
        quoted = paper.CONVERGENCE[with_prior]
        rows.append(
            named(method)
            | {"nf_prior": with_prior}
            | numbers
            | {f"paper_{key}": value for key, value in quoted.items()}
        )
    return small_table(rows)


def comparison_table(scores: pl.LazyFrame, resampling: Resampling) -> pl.DataFrame:
    """Fig. 17 as numbers: PAE, SBI and TF on the sources that all of them have a p(z) for, bright and all.

    Returns:
        selection, method, label; n; point, calibration and proper scores with errors; the paper's NMAD and eta_3sigma.
    """
    methods = present(scores, FIDUCIAL, "sbi", "tf")
    shared = (
        of_methods(scores, *methods)
        .filter(pl.col("usable") > 0.5)
        .group_by("object_id")
        .len()
        .filter(pl.col("len") == len(methods))
        .select("object_id")
    )
    known = scores.join(shared, on="object_id", how="semi")
    rows = []
    for limit in (BRIGHT, FAINT):
        for method in methods:
            row = statistics_row(
                known, method, pl.col("mag_z") < limit, (*POINT, *CALIBRATION, *PROPER), resampling
            )
            quoted = paper.FIG_17.get((method, limit))
            rows.append(
                {"selection": f"zAB < {limit:g}"}
                | named(method)
                | row
                | paper.beside(("nmad_paper", "eta_3sigma"), quoted)
            )
    return small_table(rows)


def pair(scores: pl.LazyFrame) -> pl.LazyFrame:
    """The fiducial PAE's rows beside TF's of the same sources (columns with suffix `_tf`), and whether flagged.

    Only sources with both. `flagged`: sigma_z/(1+z) of the PAE over `FLAG_RATIO` times that of TF (section VI.3).
    """
    good = scores.filter(pl.col("usable") > 0.5)
    columns = (
        "z_hat",
        "sigma_z",
        "error_true",
        "error_hat",
        "z_score",
        "width",
        "trusted",
        "usable",
        "quantiles",
    )
    tf = of_methods(good, "tf").select("object_id", *columns)
    joined = of_methods(good, FIDUCIAL).join(tf, on="object_id", suffix="_tf", how="inner")
    return joined.with_columns(flagged=pl.col("width") > FLAG_RATIO * pl.col("width_tf")).sort("object_id")


def _ranks(values: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return np.stack([rankdata(row) for row in values]) if values.shape[1] else values


def _chain_numbers(rows: pl.LazyFrame, resampling: Resampling) -> dict[str, float | int | None]:
    """Convergence statistics with errors of the rows that have an R-hat; null when none has."""
    chains = rows.select("rhat", "acl", "ess").filter(pl.col("rhat").is_finite()).collect()
    n = chains.height
    rhat, acl, ess = (chains[name].to_numpy() for name in ("rhat", "acl", "ess"))
    median = partial(np.median, axis=-1)
    wanted = {
        "rhat_median": (rhat, median),
        "acl_median": (acl, median),
        "acl_p95": (acl, lambda v: np.percentile(v, 95, axis=-1)),
        "ess_median": (ess, median),
        **{
            f"f_rhat_{str(limit).replace('.', '_')}": (
                rhat,
                lambda v, limit=limit: np.mean(v < limit, axis=-1),
            )
            for limit in RHAT_LIMITS
        },
    }
    numbers: dict[str, float | int | None] = {"n": n}
    for name, (values, statistic) in wanted.items():
        numbers[name] = float(statistic(values)) if n else None
        fraction = numbers[name] if name.startswith("f_rhat") else None
        numbers[f"{name}_err"] = bootstrap_error(
            values, statistic, resampling.n, resampling.seed, fraction=fraction
        )
    return numbers
