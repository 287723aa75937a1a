"""The redshift prior p(z) ~ z^alpha exp(-(z/beta)^gamma) of the paper's eq. 7, and its fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from paeplatform.errors import InputError

# Fit bounds of (alpha, ln beta, ln gamma): wide enough for any survey's N(z), and alpha > -1 keeps the
# density proper.
_BOUNDS = ((-0.95, 10.0), (np.log(1e-3), np.log(20.0)), (np.log(0.2), np.log(12.0)))
_STARTS = ((1.0, np.log(0.3), np.log(1.0)), (2.0, np.log(1.0), np.log(2.0)))
MIN_SOURCES = 20


@dataclass(frozen=True)
class BpzFit:
    """Maximum-likelihood parameters of eq. 7 on (0, z_max].

    Attributes:
        alpha: power at low redshift.
        beta: scale, in units of z.
        gamma: exponent of the cut-off.
        n_sources: how many redshifts were fitted.
        ks: Kolmogorov-Smirnov distance between the fit and the redshifts.
    """

    alpha: float
    beta: float
    gamma: float
    n_sources: int
    ks: float


def bpz_log_density(z: np.ndarray, alpha: float, beta: float, gamma: float, z_max: float) -> np.ndarray:
    """Log density of eq. 7, normalised on (0, z_max], float64; -inf outside.

    With t = (z/beta)^gamma the normalisation is an incomplete gamma function, so no quadrature is needed.
    """
    z = np.asarray(z, dtype=np.float64)
    inside = (z > 0.0) & (z <= z_max)
    safe = np.where(inside, z, 1.0)
    log_p = alpha * np.log(safe) - (safe / beta) ** gamma - _log_norm(alpha, beta, gamma, z_max)
    return np.where(inside, log_p, -np.inf)


def bpz_cdf(z: np.ndarray, alpha: float, beta: float, gamma: float, z_max: float) -> np.ndarray:
    """Cumulative distribution of eq. 7 truncated to (0, z_max], float64."""
    shape = (alpha + 1.0) / gamma
    clipped = np.clip(np.asarray(z, dtype=np.float64), 0.0, z_max)
    return special.gammainc(shape, (clipped / beta) ** gamma) / special.gammainc(
        shape, (z_max / beta) ** gamma
    )


def fit_bpz(z: np.ndarray, z_max: float) -> BpzFit:
    """Fits eq. 7, truncated to (0, z_max], by maximum likelihood to single redshifts (no binning).

    Args:
        z: redshifts, shape (n,), n >= 20, each within (0, z_max].
        z_max: upper end of the support.

    Raises:
        InputError: too few sources, no spread, or a redshift out of range (names the row).
    """
    z = np.asarray(z, dtype=np.float64)
    _check_redshifts(z, z_max)
    log_z = np.log(z)
    mean_log_z = log_z.mean()

    def negative_log_like(x: np.ndarray) -> float:
        alpha, log_beta, gamma = x[0], x[1], np.exp(x[2])
        mean_power = np.exp(gamma * (log_z - log_beta)).mean()
        return _log_norm(alpha, np.exp(log_beta), gamma, z_max) - alpha * mean_log_z + mean_power

    # Nelder-Mead: three parameters, strongly correlated, so a simplex restarted once is simpler than scaling
    # gradients.
    options = {"xatol": 1e-7, "fatol": 1e-12, "maxiter": 4000, "maxfev": 4000}
    fits = []
    for start in _STARTS:
        for _ in range(2):
            fit = optimize.minimize(
                negative_log_like, start, method="Nelder-Mead", bounds=_BOUNDS, options=options
            )
            start = fit.x
        fits.append(fit)
    best = min(fits, key=lambda fit: fit.fun)
    alpha, beta, gamma = float(best.x[0]), float(np.exp(best.x[1])), float(np.exp(best.x[2]))
    ks = stats.kstest(z, lambda v: bpz_cdf(v, alpha, beta, gamma, z_max)).statistic
    return BpzFit(alpha=alpha, beta=beta, gamma=gamma, n_sources=len(z), ks=float(ks))


def _log_norm(alpha: float, beta: float, gamma: float, z_max: float) -> float:
    """Logarithm of the integral of z^alpha exp(-(z/beta)^gamma) over (0, z_max]."""
    shape = (alpha + 1.0) / gamma
    fraction = special.gammainc(shape, (z_max / beta) ** gamma)
    return (alpha + 1.0) * np.log(beta) - np.log(gamma) + special.gammaln(shape) + np.log(fraction)


def _check_redshifts(z: np.ndarray, z_max: float) -> None:
    if z.ndim != 1 or len(z) < MIN_SOURCES:
        raise InputError(
            f"the redshift prior needs a list of at least {MIN_SOURCES} redshifts, got shape {z.shape}"
        )
    bad = ~((z > 0.0) & (z <= z_max))  # NaN fails both
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"redshift prior: row {row} has z = {z[row]}, outside (0, {z_max}]; {int(bad.sum())} such rows"
        )
    if np.ptp(z) <= 0.0:
        raise InputError(
            f"redshift prior: all {len(z)} redshifts equal {z[0]}; there is no distribution to fit"
        )
