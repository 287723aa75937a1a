"""Redshift priors (eq. 7): JAX for the sampler, float64 NumPy/SciPy for quantiles and draws.

`log_density` is the smooth formula, defined for every z > 0: the sampler keeps z inside the limits by its choice of
coordinate. `log_prob` is the density proper: normalised over [z_min, z_max], -inf outside.

Parameters are zero-dimensional float64 arrays, not Python numbers: traced, so that a new fit needs no new
compilation, and exact, so that a prior survives its round trip through JSON.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import gammainc, gammaincinv, gammaln

from paeplatform.config import PriorConfig
from paeplatform.errors import ConfigError

# Of a tabulated prior, relative to its maximum: the log density and its slope must stay finite.
DENSITY_FLOOR = 1e-6


def _checked(name: str, value: Any, *, above: float) -> np.ndarray:
    number = float(value)
    if not np.isfinite(number) or number <= above:
        raise ConfigError(f"redshift prior: {name} {number:g} must be finite and above {above:g}")
    return np.asarray(number, dtype=np.float64)


def _checked_limits(z_min: Any, z_max: Any) -> tuple[np.ndarray, np.ndarray]:
    low = _checked("z_min", z_min, above=0.0)
    return low, _checked("z_max", z_max, above=float(low))


class RedshiftPrior(eqx.Module):
    """A density over [z_min, z_max]."""

    z_min: eqx.AbstractVar[np.ndarray]
    z_max: eqx.AbstractVar[np.ndarray]

    @abstractmethod
    def log_density(self, z: Float[Array, ""]) -> Float[Array, ""]:
        """The formula's ln p(z), normalised over [z_min, z_max] but continued smoothly beyond."""

    @abstractmethod
    def ppf(self, q: np.ndarray) -> np.ndarray:
        """Redshifts (float64, shape of `q`) below which the fraction q of the prior lies."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """JSON-ready description; `prior_from_dict` reverses it."""

    def log_prob(self, z: Float[Array, ""]) -> Float[Array, ""]:
        """ln p(z); -inf outside [z_min, z_max]."""
        inside = (z >= self.z_min) & (z <= self.z_max)
        return jnp.where(inside, self.log_density(jnp.clip(z, self.z_min, self.z_max)), -jnp.inf)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """`n` draws, float64."""
        return self.ppf(rng.uniform(size=n))

    def prior_id(self) -> str:
        """Short stable name for tags and catalogue rows: kind and a hash over the parameters."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return f"{self.to_dict()['kind']}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


class UniformPrior(RedshiftPrior):
    """p(z) constant on [z_min, z_max]."""

    z_min: np.ndarray
    z_max: np.ndarray

    def __init__(self, z_min: float, z_max: float):
        self.z_min, self.z_max = _checked_limits(z_min, z_max)

    def log_density(self, z: Float[Array, ""]) -> Float[Array, ""]:
        return -jnp.log(jnp.asarray(self.z_max - self.z_min)) * jnp.ones_like(z)

    def ppf(self, q: np.ndarray) -> np.ndarray:
        return self.z_min + np.asarray(q, dtype=np.float64) * (self.z_max - self.z_min)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "uniform", "z_min": float(self.z_min), "z_max": float(self.z_max)}


class BpzPrior(RedshiftPrior):
    """p(z) proportional to z^alpha exp(-(z/beta)^gamma) (eq. 7), a generalised gamma density truncated to the limits.

    With s = (alpha+1)/gamma and t = (z/beta)^gamma, its integral is beta^(alpha+1)/gamma Gamma(s) P(s, t).
    """

    alpha: np.ndarray
    beta: np.ndarray
    gamma: np.ndarray
    z_min: np.ndarray
    z_max: np.ndarray
    log_norm: np.ndarray

    def __init__(self, alpha: float, beta: float, gamma: float, z_min: float, z_max: float):
        self.alpha = _checked("alpha", alpha, above=-1.0)
        self.beta, self.gamma = _checked("beta", beta, above=0.0), _checked("gamma", gamma, above=0.0)
        self.z_min, self.z_max = _checked_limits(z_min, z_max)
        low, high = self._cdf_limits()
        if not high > low:
            raise ConfigError(
                f"redshift prior: alpha {float(alpha):g}, beta {float(beta):g}, gamma {float(gamma):g} "
                f"put no mass on [{float(z_min):g}, {float(z_max):g}]"
            )
        scale = (self.alpha + 1.0) * np.log(self.beta) - np.log(self.gamma) + gammaln(self._shape)
        self.log_norm = np.asarray(scale + np.log(high - low))

    @property
    def _shape(self) -> float:
        return float((self.alpha + 1.0) / self.gamma)

    def _cdf_limits(self) -> tuple[float, float]:
        low, high = (gammainc(self._shape, (z / self.beta) ** self.gamma) for z in (self.z_min, self.z_max))
        return float(low), float(high)

    def log_density(self, z: Float[Array, ""]) -> Float[Array, ""]:
        log_z = jnp.log(z)
        # exp of the logarithm: its derivative stays finite for every gamma as z goes to 0
        decay = jnp.exp(self.gamma * (log_z - jnp.log(self.beta)))
        return jnp.asarray(self.alpha * log_z - decay - self.log_norm)

    def ppf(self, q: np.ndarray) -> np.ndarray:
        low, high = self._cdf_limits()
        t = gammaincinv(self._shape, low + np.asarray(q, dtype=np.float64) * (high - low))
        return np.clip(self.beta * t ** (1.0 / self.gamma), self.z_min, self.z_max)

    def to_dict(self) -> dict[str, Any]:
        names = ("alpha", "beta", "gamma", "z_min", "z_max")
        return {"kind": "bpz"} | {name: float(getattr(self, name)) for name in names}


class TabulatedPrior(RedshiftPrior):
    """Piecewise linear density through given points; it ends at the first and last of them.

    Values below `DENSITY_FLOOR` of the maximum are raised to it, so that no redshift is excluded outright.
    """

    z: np.ndarray
    density: np.ndarray
    z_min: np.ndarray
    z_max: np.ndarray

    def __init__(self, z: np.ndarray, density: np.ndarray):
        z, density = np.asarray(z, dtype=np.float64), np.asarray(density, dtype=np.float64)
        if z.ndim != 1 or len(z) < 2 or density.shape != z.shape:
            raise ConfigError(
                f"redshift prior: z {z.shape} and density {density.shape} must be equal, 1-d, 2 or more"
            )
        self.z_min, self.z_max = _checked_limits(z[0], z[-1])
        if not np.all(np.diff(z) > 0.0):
            raise ConfigError("redshift prior: z must increase strictly")
        if not np.isfinite(density).all() or (density < 0.0).any() or density.max() <= 0.0:
            raise ConfigError("redshift prior: density must be finite, not negative and positive somewhere")
        density = np.maximum(density, DENSITY_FLOOR * density.max())
        self.z, self.density = z, density / np.trapezoid(density, z)

    def log_density(self, z: Float[Array, ""]) -> Float[Array, ""]:
        return jnp.log(jnp.interp(z, jnp.asarray(self.z), jnp.asarray(self.density)))

    def ppf(self, q: np.ndarray) -> np.ndarray:
        q = np.asarray(q, dtype=np.float64)
        width = np.diff(self.z)
        cdf = np.concatenate([[0.0], np.cumsum(0.5 * width * (self.density[1:] + self.density[:-1]))])
        cell = np.clip(np.searchsorted(cdf, q, side="right") - 1, 0, len(width) - 1)
        left, slope = self.density[cell], (np.diff(self.density) / width)[cell]
        area = np.maximum(q - cdf[cell], 0.0)
        # the root of left d + slope d^2 / 2 = area, written so that slope = 0 needs no special case
        step = 2.0 * area / (left + np.sqrt(np.maximum(left**2 + 2.0 * slope * area, 0.0)))
        return np.clip(self.z[cell] + step, self.z_min, self.z_max)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "tabulated", "z": self.z.tolist(), "density": self.density.tolist()}


def prior_to_dict(prior: RedshiftPrior) -> dict[str, Any]:
    """JSON-ready description of any prior."""
    return prior.to_dict()


def prior_from_dict(tree: Mapping[str, Any]) -> RedshiftPrior:
    """The prior that `prior_to_dict` described.

    Raises:
        ConfigError: unknown kind, a missing or unknown key, or a value outside its range.
    """
    kinds = {"uniform": UniformPrior, "bpz": BpzPrior, "tabulated": TabulatedPrior}
    arguments = {key: value for key, value in tree.items() if key != "kind"}
    if tree.get("kind") not in kinds:
        raise ConfigError(f"redshift prior: kind {tree.get('kind')!r} must be one of {', '.join(kinds)}")
    try:
        return kinds[tree["kind"]](**arguments)
    except TypeError as error:
        raise ConfigError(f"redshift prior of kind {tree['kind']!r}: {error}") from error


def prior_from_preset(cfg: PriorConfig, bpz: Mapping[str, Any] | None = None) -> RedshiftPrior:
    """The prior a preset asks for.

    Args:
        cfg: section `prior` of the preset.
        bpz: alpha, beta and gamma fitted to the catalogue (eq. 7); further keys are ignored.

    Raises:
        ConfigError: `cfg.redshift` is "bpz" and a parameter is missing or out of range.
    """
    if cfg.redshift == "uniform":
        return UniformPrior(cfg.z_min, cfg.z_max)
    missing = [name for name in ("alpha", "beta", "gamma") if name not in (bpz or {})]
    if bpz is None or missing:
        raise ConfigError(
            f"prior.redshift 'bpz' needs the fitted {', '.join(missing)}; fit it or choose 'uniform'"
        )
    return BpzPrior(bpz["alpha"], bpz["beta"], bpz["gamma"], cfg.z_min, cfg.z_max)
