"""The models of one class in the channels: fluxes, relative errors and prior weights.

Models stand in groups. The models of a group share their relative error by channel and, where the class has one, their
redshift: a group of quasars is a redshift, a group of stars a template.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from paeplatform.errors import ConfigError

CLASSES = ("galaxy", "quasar", "star", "brown_dwarf")


@dataclass(frozen=True, eq=False)
class ClassGrid:
    """Models of one class.

    Attributes:
        name: of the class, one of `CLASSES`.
        flux: float32, each scaled so that its mean square over the channels is 1.
        error: relative error of the models of a group by channel, 1 sigma.
        log_prior: ln of the weights of the models, which sum to 1; -inf leaves a model out.
        z: redshift of each group; NaN for a class without one.
        labels: what to call each group; empty for a class without names.
        n_parameters: that a fit chooses, the amplitude among them: of the misfit rule.

    Raises:
        ConfigError: shapes do not agree, a flux is negative or not finite, or the weights do not sum to 1.
    """

    name: str
    flux: Float[np.ndarray, "group model band"]
    error: Float[np.ndarray, "group band"]
    log_prior: Float[np.ndarray, "group model"]
    z: Float[np.ndarray, " group"]
    labels: tuple[str, ...]
    n_parameters: int

    def __post_init__(self) -> None:
        if self.name not in CLASSES:
            raise ConfigError(f"class grid: name {self.name!r} must be one of {', '.join(CLASSES)}")
        n_group, n_model, n_band = self.flux.shape
        expected = {"error": (n_group, n_band), "log_prior": (n_group, n_model), "z": (n_group,)}
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ConfigError(
                    f"class grid {self.name}: {name} has shape {getattr(self, name).shape}, expected {shape}"
                )
        if self.labels and len(self.labels) != n_group:
            raise ConfigError(f"class grid {self.name}: {len(self.labels)} labels for {n_group} groups")
        if not (np.isfinite(self.flux).all() and (self.flux >= 0.0).all()):
            raise ConfigError(f"class grid {self.name}: fluxes must be finite and not negative")
        if not (np.isfinite(self.error).all() and (self.error >= 0.0).all()):
            raise ConfigError(f"class grid {self.name}: relative errors must be finite and not negative")
        total = float(np.exp(self.log_prior).sum())
        if not abs(total - 1.0) < 1e-6:
            raise ConfigError(f"class grid {self.name}: the prior weights sum to {total:g}, expected 1")

    @property
    def n_band(self) -> int:
        """Channels of a model."""
        return self.flux.shape[2]

    @property
    def n_model(self) -> int:
        """Models of a group."""
        return self.flux.shape[1]

    def __len__(self) -> int:
        return self.flux.shape[0] * self.flux.shape[1]

    @cached_property
    def squared(self) -> Float[np.ndarray, "group model band"]:
        """Fluxes squared, float32."""
        return np.square(self.flux)

    @cached_property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """(first group, one beyond the last) of the groups one after the other that have the same relative errors."""
        new = np.flatnonzero((np.diff(self.error, axis=0) != 0.0).any(axis=1)) + 1
        edges = [0, *new.tolist(), len(self.error)]
        return tuple(pairwise(edges))


def class_grid(
    name: str,
    flux: Float[np.ndarray, "group model band"],
    error: Float[np.ndarray, "group band"],
    weight: Float[np.ndarray, "group model"],
    n_parameters: int,
    *,
    z: Float[np.ndarray, " group"] | None = None,
    labels: tuple[str, ...] = (),
) -> ClassGrid:
    """A grid from fluxes of any scale and weights of any sum.

    Models without any flux get the weight zero.

    Args:
        name: of the class.
        flux: not negative.
        error: relative, by channel.
        weight: not negative, with a positive sum.
        n_parameters: of a fit.
        z: redshifts of the groups.
        labels: names of the groups.
    """
    scale = np.sqrt(np.mean(np.square(flux, dtype=np.float64), axis=2))
    safe = np.where(scale > 0.0, scale, 1.0)
    scaled = (flux / safe[:, :, None]).astype(np.float32)
    kept = np.where(scale > 0.0, weight, 0.0)
    with np.errstate(divide="ignore"):
        log_prior = np.log(kept / kept.sum())
    redshift = np.full(len(flux), np.nan) if z is None else np.asarray(z, np.float64)
    return ClassGrid(name, scaled, np.asarray(error, np.float32), log_prior, redshift, labels, n_parameters)
