"""Targets: what a run is held to, as lines {name, value, unit, target, bound, meets} that reports and
benchmarks share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from paeplatform.errors import InputError

F_RHAT_MIN = 0.95  # of the sources below R-hat 1.1; the paper reaches 0.977 with n_latent = 10 (Table 2)
# Total SNR > 50. Template fitting of galaxies outside its library reaches an NMAD of 0.010 and 10 % of
# 3-sigma outliers.
HIGH_SNR_NMAD_MAX = 0.012
HIGH_SNR_ETA_MAX = 0.04


def judge(name: str, value: float | None, target: float, bound: str, unit: str = "") -> dict[str, Any]:
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


def unmet(targets: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the targets that were measured and missed."""
    return [target["name"] for target in targets if target.get("meets") is False]


def release_targets(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Convergence of a release, from `posterior_summary`."""
    return [judge("fraction of sources with R-hat < 1.1", summary["f_rhat_below_1_1"], F_RHAT_MIN, "min")]


def high_snr_targets(metrics: pl.DataFrame) -> list[dict[str, Any]]:
    """Accuracy of well-detected sources, from the row "all" of `evaluate_high_snr`'s metric table."""
    row = metrics.filter(pl.col("cut").is_null()).to_dicts()
    value: Mapping[str, Any] = row[0] if row else {}
    return [
        judge("NMAD (paper), total SNR > 50", value.get("nmad_paper"), HIGH_SNR_NMAD_MAX, "max"),
        judge("fraction beyond 3 sigma, total SNR > 50", value.get("eta_3sigma"), HIGH_SNR_ETA_MAX, "max"),
    ]


def reconstruction_targets(mse: ArrayLike, median_max: float) -> list[dict[str, Any]]:
    """Autoencoder error on held-out spectra: the median, and the 95th percentile within five times its limit.

    Args:
        mse: mean squared error per spectrum in mean-normalised flux, shape (spectrum,).
        median_max: limit of the median, 1e-4 for the demo preset and 3e-5 for standard.
    """
    values = np.asarray(mse, dtype=np.float64)
    median, high = np.percentile(values, [50, 95]) if values.size else (float("nan"), float("nan"))
    return [
        judge("autoencoder MSE, median", float(median), median_max, "max"),
        judge("autoencoder MSE, 95th percentile", float(high), 5 * median_max, "max"),
    ]
