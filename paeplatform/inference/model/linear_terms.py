"""Linear departures from the model with Gaussian priors, marginalised in closed form.

Beside A m the model of the data has terms A c_k t_k with c_k ~ N(0, width_k^2): groups of emission lines that are
stronger or weaker than the model has learned (`sed.line_groups`), and zero points of other surveys, for which t_k are
the model's fluxes in the bands of a survey. With the columns T_k = A width_k t_k / sigma the whitened data have the
covariance I + T^T T, and by Woodbury's identity

    chi^2 = |r - T^T b|^2 + |b|^2,    b = (I + T T^T)^-1 T r,    r = s - A m,
    ln det (I + T^T T) = ln det (I + T T^T),

which needs one system of as many rows as there are terms. b are the best strengths in units of their widths. Chi^2 is
that sum of squares and not r^T C^-1 r, which in float32 would be a difference of large numbers.

The amplitude within T is plugged in, as that within the errors of the model is (`model_error`): it is the best one
without the terms. Then T is held while A is profiled or marginalised with the covariance.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from paeplatform.instrument.filters import FilterCurves
from paeplatform.instrument.forward import FoldedOperator, fold
from paeplatform.instrument.slots import PassbandFamily, SlotOperator, Slots, slot_operator
from paeplatform.pae.small_linalg import cholesky, inverse_lower, solve
from paeplatform.sed.line_groups import SPREAD, profiles

_TINY = 1e-30


class LinearTerms(eqx.Module):
    """What a galaxy's fluxes may have more or less of than its model; made by `linear_terms`.

    Attributes:
        lines: groups of emission lines; None for none.
        zero_points: (survey, external) relative change of each external band by one standard deviation of its survey's
            zero point; None where there are no external bands.
    """

    lines: LineColumns | None = None
    zero_points: Float[Array | np.ndarray, "survey external"] | None = None

    def concern(self, n_external: int) -> bool:
        """Whether there is a term for a source with so many external bands."""
        return self.lines is not None or (self.zero_points is not None and n_external > 0)

    def columns(
        self,
        z: Float[Array, ""],
        model: Float[Array, " band"],
        scale: Float[Array, " band"] | float,
        slots: Slots | None,
        n_external: int,
    ) -> Float[Array, "term band"]:
        """Fluxes of each term at one standard deviation, for a galaxy of amplitude 1 at redshift z, times `scale`.

        Args:
            z: redshift.
            model: model fluxes of amplitude 1, times `scale`.
            scale: what whitens fluxes; 1 for fluxes as they are.
            slots: of the measurements; None for the channels.
            n_external: how many of the bands, the last ones, are of other surveys.

        Raises:
            ValueError: there are measurements or external bands, and the lines were made without.
        """
        parts = []
        if self.lines is not None:
            parts.append(scale * self.lines.columns(z, slots, n_external))
        if self.zero_points is not None and n_external:
            n_own = model.shape[-1] - n_external
            change = jax.lax.stop_gradient(jnp.asarray(self.zero_points)) * model[None, n_own:]
            parts.append(jnp.pad(change, ((0, 0), (n_own, 0))))
        return jnp.concatenate(parts)


class LineColumns(eqx.Module):
    """Groups of emission lines in all bands; made by `line_columns`.

    Attributes:
        channels: fluxes of each group in the channels.
        slots: fluxes in measurements at their own wavelengths; None for a model of the channels alone.
        external: fluxes in the bands of other surveys; None for a model without.
        width: (group,) standard deviation of a group's strength, in units of the galaxy's mean flux.
    """

    channels: FoldedOperator
    slots: SlotOperator | None
    external: FoldedOperator | None
    width: Float[Array, " group"]

    def columns(
        self, z: Float[Array, ""], slots: Slots | None, n_external: int = 0
    ) -> Float[Array, "group band"]:
        """Fluxes of each group at one standard deviation; see `LinearTerms.columns`."""
        if slots is None:
            matrix = self.channels.matrix(z)
        elif self.slots is None:
            raise ValueError(
                "these lines are of the channels alone: make them with the passbands of measurements"
            )
        else:
            matrix = self.slots.matrix(z, slots)
        if n_external:
            if self.external is None:
                raise ValueError("these lines are without external bands: make them with their curves")
            matrix = jnp.concatenate([matrix, self.external.matrix(z)])
        return jax.lax.stop_gradient(self.width)[:, None] * matrix.T


class Fitted(NamedTuple):
    """The best amplitude and strengths given (u, z), and what marginalising the strengths leaves.

    Attributes:
        amplitude: best A >= 0.
        free_amplitude: best A of any sign.
        norm_squared: m^T C^-1 m, the inverse variance of A.
        strength: (term,) best strengths in units of their widths.
        off: (band,) whitened data minus model with its terms.
        log_det: ln det of the covariance.
    """

    amplitude: Float[Array, ""]
    free_amplitude: Float[Array, ""]
    norm_squared: Float[Array, ""]
    strength: Float[Array, " term"]
    off: Float[Array, " band"]
    log_det: Float[Array, ""]


def fitted(
    signal: Float[Array, " band"], model: Float[Array, " band"], terms: Float[Array, "term band"]
) -> Fitted:
    """Solves for amplitude and strengths.

    Args:
        signal: whitened fluxes.
        model: whitened model of amplitude 1.
        terms: whitened columns at the amplitude that is plugged in.
    """
    matrix = jnp.eye(len(terms), dtype=terms.dtype) + terms @ terms.T
    of_signal, of_model = (solve(matrix, terms @ vector) for vector in (signal, model))
    left = model - of_model @ terms
    # |m - T^T b|^2 + |b|^2: a sum of squares, not m^T m minus what the terms take
    norm_squared = jnp.sum(left**2) + jnp.sum(of_model**2) + _TINY
    best = jnp.sum(signal * left) / norm_squared
    amplitude = jnp.maximum(best, 0.0)
    strength = of_signal - amplitude * of_model
    off = signal - amplitude * model - strength @ terms
    log_det = 2.0 * jnp.sum(jnp.log(jnp.diagonal(cholesky(matrix))))
    return Fitted(amplitude, best, norm_squared, strength, off, log_det)


def strengths(
    signal: Float[Array, " band"], model: Float[Array, " band"], terms: Float[Array, "term band"]
) -> tuple[Float[Array, " term"], Float[Array, "term term"]]:
    """Mean and covariance of the strengths in units of their widths, with A free and flat; arguments as of `fitted`."""
    norm_squared = jnp.sum(model**2) + _TINY
    along = terms @ model
    # what is left of the columns when the amplitude has taken its part
    matrix = jnp.eye(len(terms), dtype=terms.dtype) + terms @ terms.T - jnp.outer(along, along) / norm_squared
    right = terms @ signal - along * jnp.sum(model * signal) / norm_squared
    inverse = inverse_lower(cholesky(matrix))
    covariance = inverse.T @ inverse
    return covariance @ right, covariance


def line_columns(
    wave_um: Float[np.ndarray, " wave"],
    filters: FilterCurves,
    z_max: float,
    n_nodes: int,
    families: tuple[PassbandFamily, ...] | None,
    external: FilterCurves | None = None,
) -> LineColumns:
    """The groups of `sed.line_groups.LINE_GROUPS`, with the library's spread as widths.

    Args:
        wave_um: rest-frame grid of the model [um].
        filters: of the channels.
        z_max: largest redshift asked for.
        n_nodes: of the tables over redshift, in ln(1+z).
        families: passbands of measurements at their own wavelengths; None for the channels alone.
        external: curves of other surveys' bands.

    Raises:
        InputError: the grid does not hold all lines.
        BandSetError: the grid or the curves do not fit (`fold`).
    """
    wave = np.asarray(wave_um, dtype=np.float64)
    basis = profiles(wave)
    return LineColumns(
        channels=fold(basis, wave, filters, z_max, n_nodes),
        slots=None if families is None else slot_operator(basis, wave, z_max, families),
        external=None if external is None else fold(basis, wave, external, z_max, n_nodes),
        width=jnp.asarray(SPREAD, jnp.float32),
    )
