"""Targets: what a run is held to, as lines {name, value, unit, target, bound, meets} that reports and
benchmarks share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from paeplatform.config import DEFAULT_TRUST, TrustConfig
from paeplatform.errors import InputError
from paeplatform.scores.metrics import METRICS, OUTLIER_SIGMA

F_TRUSTED_MIN = 0.97  # of the sources; the paper's chains reach 0.977 with n_latent = 10 (Table 2)
F_RHAT_MIN = 0.95  # of the sources that chains sampled
# Total SNR > 50. Template fitting of galaxies outside its library reaches an NMAD of 0.010 and 10 % of
# 3-sigma outliers.
HIGH_SNR_NMAD_MAX = 0.012
HIGH_SNR_ETA_MAX = 0.04
# Held-out latents in the flow's base against N(0, I); the paper reaches 20 % in first and second moments.
CHI2_RANGE = (0.95, 1.1)  # median reduced chi^2; the paper has 1.04 (section V.1)
FLOW_MEAN_MAX = 0.1
FLOW_VARIANCE_MAX = 0.2
FLOW_ROUND_TRIP_MAX = 1e-4  # u -> latent -> u in float32, u ~ N(0, I)


def against_target(
    name: str, value: float | None, target: float, bound: str, unit: str = ""
) -> dict[str, Any]:
    """One line of the target list: {name, value, unit, target, bound, meets}.

    Args:
        name: what is measured.
        value: the measured number; None when there is none.
        target: the limit.
        bound: "max" when the value has to stay at or under the target, "min" when at or over it.
        unit: shown behind value and target.

    Returns:
        `meets` is None when the value is None or not finite: not measured is neither met nor missed.

    Raises:
        InputError: `bound` is neither "max" nor "min".
    """
    if bound not in ("max", "min"):
        raise InputError(f"bound {bound!r} of target {name!r} must be 'max' or 'min'")
    known = value is not None and bool(np.isfinite(value))
    meets = None
    if known and value is not None:
        meets = bool(value <= target if bound == "max" else value >= target)
    shown = float(value) if known and value is not None else None
    return {"name": name, "value": shown, "unit": unit, "target": target, "bound": bound, "meets": meets}


def release_targets(summary: Mapping[str, Any], trust: TrustConfig = DEFAULT_TRUST) -> list[dict[str, Any]]:
    """How many posteriors of a release can be trusted, from `posterior_summary`; where some are of chains, theirs.

    The second line is about R-hat < 1.1, the paper's limit, whatever this run trusts.

    Args:
        summary: of `posterior_summary`.
        trust: the limits that the statuses were made with.
    """
    weights = f"k-hat < {trust.khat_max:g} and ESS >= {trust.ess_min:g}"
    trusted = f"posteriors trusted: {weights}, or R-hat < {trust.rhat_max:g}"
    lines = [against_target(trusted, summary["f_trusted"], F_TRUSTED_MIN, "min")]
    if summary["n_chains"]:
        name = f"R-hat < 1.1, of the {summary['n_chains']} sources left to chains"
        lines.append(against_target(name, summary["f_rhat_below_1_1"], F_RHAT_MIN, "min"))
    return lines


def paper_targets(tables: Mapping[str, pl.DataFrame]) -> list[dict[str, Any]]:
    """What the paper claims, as lines to hold this run to; a line without its numbers is not measured.

    Args:
        tables: by name: "table_sigma_cuts", "table_priors", "table_pit", "table_latents", and "chi2" with column
            chi2_reduced of the fiducial PAE's sources.
    """
    lines = []
    outliers = f"PAE outliers beyond {OUTLIER_SIGMA:g} sigma, sigma_z/(1+z) <"
    for name, table, column, where in (
        (f"{outliers} 0.01", "table_sigma_cuts", "eta_3sigma", {"cut": 0.01}),
        (f"{outliers} 0.2", "table_sigma_cuts", "eta_3sigma", {"cut": 0.2}),
        ("PIT KS distance of the PAE", "table_pit", "pit_ks", {"bin": "all"}),
    ):
        tf, pae = (_number(tables.get(table), column, method=method, **where) for method in ("tf", "nf_bpz"))
        limit = float("nan") if tf is None else tf
        lines.append(against_target(f"{name}: no more than TF's", pae, limit, "max"))
    chi2 = tables.get("chi2")
    values = (
        chi2["chi2_reduced"].drop_nulls().drop_nans() if chi2 is not None else pl.Series([], dtype=pl.Float64)
    )
    median = float(values.median()) if values.len() else None  # type: ignore[arg-type]
    for words, limit, bound in zip(("at least", "at most"), CHI2_RANGE, ("min", "max"), strict=True):
        name = f"reduced chi^2 of reconstructions, median: {words}"
        lines.append(against_target(name, median, limit, bound))
    latents = tables.get("table_latents")
    if latents is not None and latents.height:
        share = latents.sort("n_latent")["f_rhat"][-1]
        lines.append(against_target("chains with R-hat < 1.1, largest n_latent", share, F_RHAT_MIN, "min"))
    return [line if np.isfinite(line["target"]) else line | {"target": None, "meets": None} for line in lines]


def _number(table: pl.DataFrame | None, column: str, **where: str | float) -> float | None:
    """The one row's number, None when there is no such row or no number."""
    if table is None or column not in table.columns:
        return None
    rows = table.filter(pl.all_horizontal(pl.col(name) == value for name, value in where.items()))
    return rows[column][0] if rows.height else None


def high_snr_targets(metrics: pl.DataFrame) -> list[dict[str, Any]]:
    """Accuracy of well-detected sources, from the row "all" of `evaluate_high_snr`'s metric table."""
    row = metrics.filter(pl.col("cut").is_null()).to_dicts()
    value: Mapping[str, Any] = row[0] if row else {}
    nmad, outliers = METRICS["nmad_paper"], f"fraction beyond {OUTLIER_SIGMA:g} sigma"
    return [
        against_target(f"{nmad.heading}, total SNR > 50", value.get(nmad.name), HIGH_SNR_NMAD_MAX, "max"),
        against_target(f"{outliers}, total SNR > 50", value.get("eta_3sigma"), HIGH_SNR_ETA_MAX, "max"),
    ]


def model_targets(
    autoencoder: Mapping[str, Any], flow: Mapping[str, Any], median_mse_max: float
) -> list[dict[str, Any]]:
    """How well the models stand on held-out data, from the numbers kept with them at training.

    Args:
        autoencoder: with `median_mse` and `p95_mse`, per-spectrum mean squared errors in mean-normalised flux.
        flow: with `max_abs_mean` and `max_abs_variance_error` of held-out latents in the flow's base, and `round_trip`.
        median_mse_max: limit of the median (`validation.median_mse_max` of the preset); the 95th percentile may be
            five times that.
    """
    return [
        against_target("autoencoder MSE, median", autoencoder.get("median_mse"), median_mse_max, "max"),
        against_target(
            "autoencoder MSE, 95th percentile", autoencoder.get("p95_mse"), 5 * median_mse_max, "max"
        ),
        against_target("flow base, largest |mean|", flow.get("max_abs_mean"), FLOW_MEAN_MAX, "max"),
        against_target(
            "flow base, largest |variance - 1|", flow.get("max_abs_variance_error"), FLOW_VARIANCE_MAX, "max"
        ),
        against_target("flow, largest round trip error", flow.get("round_trip"), FLOW_ROUND_TRIP_MAX, "max"),
    ]
