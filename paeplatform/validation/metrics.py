"""Point-estimate metrics of photometric redshifts, as the paper defines them and as the field usually does.

Symbols: z_hat is the estimate, sigma_z its quoted uncertainty, z_true the truth. The paper (section VI.1)
divides the absolute error by 1 + z_hat in its NMAD and by 1 + z_true in its mean bias; the usual NMAD is
1.4826 times the median absolute deviation of (z_hat - z_true)/(1 + z_true) about its own median. The two
differ by about 6 % for unbiased estimates and by more for biased ones, so every table states both.

All functions ignore sources without a usable estimate (a non-finite value, or sigma_z <= 0) and return NaN
when no source is left. `metric_table` turns that NaN into null, so that an empty selection never reads as a
perfect one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from paeplatform.errors import InputError

FloatArray = NDArray[np.float64]

PAPER_NMAD_FACTOR = 1.4  # section VI.1
USUAL_NMAD_FACTOR = 1.4826  # 1 / Phi^-1(3/4): the MAD of a Gaussian in units of its standard deviation
OUTLIER_THRESHOLD = 0.15
BOOTSTRAP_MAX_SOURCES = 20_000  # larger samples are resampled at this size and the error rescaled
_BOOTSTRAP_CHUNK_VALUES = 2_000_000  # float64 values per resampled block: 16 MB an array


def _columns(*arrays: ArrayLike) -> list[FloatArray]:
    """Equal-length 1-d float64 columns.

    Raises:
        InputError: an input is not one-dimensional, or the lengths differ.
    """
    columns = [np.asarray(array, dtype=np.float64) for array in arrays]
    shapes = [column.shape for column in columns]
    if any(len(shape) != 1 for shape in shapes) or len(set(shapes)) > 1:
        raise InputError(f"metric inputs must be one-dimensional and of equal length, got shapes {shapes}")
    return columns


def usable(z_hat: ArrayLike, sigma_z: ArrayLike, z_true: ArrayLike) -> NDArray[np.bool_]:
    """Sources that enter the metrics, shape (source,): finite values, positive sigma_z, z_hat and z_true
    above -1.
    """
    z_hat, sigma_z, z_true = _columns(z_hat, sigma_z, z_true)
    finite = np.isfinite(z_hat) & np.isfinite(sigma_z) & np.isfinite(z_true)
    return finite & (sigma_z > 0.0) & (z_hat > -1.0) & (z_true > -1.0)


def within_cut(z_hat: ArrayLike, sigma_z: ArrayLike, cut: float | None) -> NDArray[np.bool_]:
    """Selection sigma_z / (1 + z_hat) < cut, shape (source,); None selects every usable estimate."""
    z_hat, sigma_z = _columns(z_hat, sigma_z)
    good = usable(z_hat, sigma_z, np.zeros_like(z_hat))
    with np.errstate(invalid="ignore", divide="ignore"):
        return good & (sigma_z / (1.0 + z_hat) < (np.inf if cut is None else cut))


def fractional_errors(z_hat: ArrayLike, z_true: ArrayLike) -> FloatArray:
    """(z_hat - z_true) / (1 + z_true), shape (source,); NaN where an input is not finite."""
    z_hat, z_true = _columns(z_hat, z_true)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (z_hat - z_true) / (1.0 + z_true)


def z_scores(z_hat: ArrayLike, sigma_z: ArrayLike, z_true: ArrayLike) -> FloatArray:
    """Z = (z_hat - z_true) / sigma_z (section VI.1), shape (source,); NaN where there is no usable
    estimate.
    """
    z_hat, sigma_z, z_true = _columns(z_hat, sigma_z, z_true)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(usable(z_hat, sigma_z, z_true), (z_hat - z_true) / sigma_z, np.nan)


# The statistics work along the last axis, so that one definition serves a sample and a block of its
# resamples.


def _scaled_median_abs(errors: FloatArray) -> FloatArray:
    return PAPER_NMAD_FACTOR * np.median(np.abs(errors), axis=-1)


def _scaled_mad(errors: FloatArray) -> FloatArray:
    centre = np.median(errors, axis=-1, keepdims=True)
    return USUAL_NMAD_FACTOR * np.median(np.abs(errors - centre), axis=-1)


def _fraction_beyond(limit: float) -> Callable[[FloatArray], FloatArray]:
    return lambda values: np.mean(np.abs(values) > limit, axis=-1)


def _of_finite(values: FloatArray, statistic: Callable[[FloatArray], FloatArray]) -> float:
    finite = values[np.isfinite(values)]
    return float(statistic(finite)) if finite.size else float("nan")


def nmad_paper(z_hat: ArrayLike, z_true: ArrayLike) -> float:
    """The paper's NMAD: 1.4 median(|z_hat - z_true| / (1 + z_hat)) (section VI.1)."""
    z_hat, z_true = _columns(z_hat, z_true)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _of_finite((z_hat - z_true) / (1.0 + z_hat), _scaled_median_abs)


def nmad_usual(z_hat: ArrayLike, z_true: ArrayLike) -> float:
    """The usual NMAD: 1.4826 median(|e - median(e)|) with e = (z_hat - z_true) / (1 + z_true)."""
    return _of_finite(fractional_errors(z_hat, z_true), _scaled_mad)


def mean_bias(z_hat: ArrayLike, z_true: ArrayLike) -> float:
    """Mean of (z_hat - z_true) / (1 + z_true) (section VI.1)."""
    return _of_finite(fractional_errors(z_hat, z_true), np.mean)


def eta_3sigma(z_hat: ArrayLike, sigma_z: ArrayLike, z_true: ArrayLike) -> float:
    """Fraction of sources with |z_hat - z_true| / sigma_z > 3 (section VI.1)."""
    return _of_finite(z_scores(z_hat, sigma_z, z_true), _fraction_beyond(3.0))


def outlier_fraction_015(z_hat: ArrayLike, z_true: ArrayLike) -> float:
    """The usual catastrophic fraction: |z_hat - z_true| / (1 + z_true) > 0.15."""
    return _of_finite(fractional_errors(z_hat, z_true), _fraction_beyond(OUTLIER_THRESHOLD))


def median_sigma(z_hat: ArrayLike, sigma_z: ArrayLike) -> float:
    """Median of sigma_z / (1 + z_hat) (section VI.1)."""
    z_hat, sigma_z = _columns(z_hat, sigma_z)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _of_finite(sigma_z / (1.0 + z_hat), lambda values: np.median(values, axis=-1))


# Column of the table -> (which per-source quantity, which statistic of it).
_TABLE: dict[str, tuple[str, Callable[[FloatArray], FloatArray]]] = {
    "mean_bias": ("error_true", lambda values: np.mean(values, axis=-1)),
    "nmad_paper": ("error_hat", _scaled_median_abs),
    "nmad_usual": ("error_true", _scaled_mad),
    "eta_3sigma": ("z_score", _fraction_beyond(3.0)),
    "eta_015": ("error_true", _fraction_beyond(OUTLIER_THRESHOLD)),
    "z_score_median": ("z_score", lambda values: np.median(values, axis=-1)),
    "z_score_std": ("z_score", lambda values: np.std(values, axis=-1)),
    "median_sigma": ("width", lambda values: np.median(values, axis=-1)),
}
METRIC_NAMES: tuple[str, ...] = tuple(_TABLE)
_FRACTIONS = ("eta_3sigma", "eta_015")


def _bootstrap_errors(
    per_source: dict[str, FloatArray], n_bootstrap: int, rng: np.random.Generator
) -> dict[str, float]:
    """Standard deviations over resamples with replacement, all statistics on the same resamples.

    Above `BOOTSTRAP_MAX_SOURCES` the m-out-of-n bootstrap is used: every statistic here converges as n^-1/2,
    so the spread over resamples of m sources times sqrt(m/n) estimates the error at n, at a cost that no
    longer grows with n.
    """
    n_source = next(iter(per_source.values())).size
    n_draw = min(n_source, BOOTSTRAP_MAX_SOURCES)
    n_rows = max(1, _BOOTSTRAP_CHUNK_VALUES // n_draw)
    blocks: dict[str, list[FloatArray]] = {name: [] for name in _TABLE}
    for start in range(0, n_bootstrap, n_rows):
        index = rng.integers(0, n_source, size=(min(n_rows, n_bootstrap - start), n_draw))
        drawn = {key: values[index] for key, values in per_source.items()}
        for name, (key, statistic) in _TABLE.items():
            blocks[name].append(statistic(drawn[key]))
    scale = np.sqrt(n_draw / n_source)
    return {name: float(np.std(np.concatenate(values), ddof=1) * scale) for name, values in blocks.items()}


def _fraction_error_at_the_edge(fraction: float, n: int) -> float:
    """Standard deviation of the Jeffreys posterior of a fraction: where all or none count, resampling gives
    0.
    """
    a, b = fraction * n + 0.5, (1.0 - fraction) * n + 0.5
    return float(np.sqrt(a * b / ((a + b) ** 2 * (a + b + 1.0))))


def _row(
    per_source: dict[str, FloatArray], n_bootstrap: int, rng: np.random.Generator
) -> dict[str, float | None]:
    n = next(iter(per_source.values())).size
    if n == 0:
        return {key: None for name in _TABLE for key in (name, f"{name}_err")}
    values = {name: float(statistic(per_source[key])) for name, (key, statistic) in _TABLE.items()}
    errors: dict[str, float | None] = dict.fromkeys(_TABLE)
    if n >= 2 and n_bootstrap >= 2:
        errors.update(_bootstrap_errors(per_source, n_bootstrap, rng))
        for name in _FRACTIONS:
            if values[name] in (0.0, 1.0):
                errors[name] = _fraction_error_at_the_edge(values[name], n)
    return {
        key: item for name in _TABLE for key, item in ((name, values[name]), (f"{name}_err", errors[name]))
    }


def metric_table(
    z_hat: ArrayLike,
    sigma_z: ArrayLike,
    z_true: ArrayLike,
    cuts: Sequence[float],
    n_bootstrap: int = 200,
    seed: int = 0,
    include_all: bool = True,
) -> pl.DataFrame:
    """The metric table: one row per selection sigma_z / (1 + z_hat) < cut (sections VI.1-VI.2).

    Args:
        z_hat: estimates, shape (source,); a missing one is NaN.
        sigma_z: their quoted standard deviations, shape (source,), in redshift.
        z_true: true redshifts, shape (source,).
        cuts: upper limits of sigma_z / (1 + z_hat), each positive.
        n_bootstrap: resamples for the error columns; under 2 leaves them null.
        seed: of the resampling; a row depends on the seed and its own cut, not on the other cuts.
        include_all: append a row "all" (cut null) with every usable source.

    Returns:
        Columns `selection` (text), `cut`, `n` (sources in the row), `n_total` (sources given, unusable ones
        included), then each of `METRIC_NAMES` followed by its bootstrap standard error `<name>_err`. A row
        with n = 0 has null metrics; errors are null for n < 2. A fraction of exactly 0 or 1 carries the
        standard deviation of its Jeffreys posterior as error, since its bootstrap spread is 0.

    Raises:
        InputError: inputs of unequal length, or a cut that is not positive and finite.
    """
    z_hat, sigma_z, z_true = _columns(z_hat, sigma_z, z_true)
    bad = [cut for cut in cuts if not (np.isfinite(cut) and cut > 0.0)]
    if bad:
        raise InputError(f"cuts {bad} in sigma_z/(1+z) must be positive and finite")
    keep = usable(z_hat, sigma_z, z_true)
    n_total = z_hat.size
    z_hat, sigma_z, z_true = z_hat[keep], sigma_z[keep], z_true[keep]
    per_source = {
        "error_true": fractional_errors(z_hat, z_true),
        "error_hat": (z_hat - z_true) / (1.0 + z_hat),
        "z_score": (z_hat - z_true) / sigma_z,
        "width": sigma_z / (1.0 + z_hat),
    }
    selections: list[float | None] = [float(cut) for cut in cuts]
    if include_all:
        selections.append(None)
    rows = []
    for cut in selections:
        inside = per_source["width"] < (np.inf if cut is None else cut)
        chosen = {key: values[inside] for key, values in per_source.items()}
        rng = np.random.default_rng([seed, int(np.float64(cut or 0.0).view(np.uint64))])
        label = "all" if cut is None else f"sigma_z/(1+z) < {cut:g}"
        row = {"selection": label, "cut": cut, "n": int(inside.sum()), "n_total": n_total}
        rows.append(row | _row(chosen, n_bootstrap, rng))
    schema: dict[str, pl.DataType] = {
        "selection": pl.String(),
        "cut": pl.Float64(),
        "n": pl.Int64(),
        "n_total": pl.Int64(),
        **{key: pl.Float64() for name in _TABLE for key in (name, f"{name}_err")},
    }
    return pl.DataFrame(rows, schema=schema)
