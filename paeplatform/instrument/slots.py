"""The forward operator of measurements at their own wavelengths: one table for every passband of the instrument.

A SPHEREx measurement has a passband of its own: centre lambda, width w (FWHM), shape T((lambda'/lambda - 1) R) with the
resolving power R = lambda/w. With lambda' = lambda e^y the photon-weighted mean of a spectrum f seen at redshift z is

    F = int T((e^y - 1) R) f(e^(x + y)) dy / int T((e^y - 1) R) dy,    x = ln lambda - ln(1+z).

So it depends on x and R alone. For each spectrum of a basis, F is tabulated exactly (`weights.py`) at nodes uniform
in x and at a few resolving powers. Between the nodes in x, F is a cubic spline in cardinal B-spline form: four
coefficients a value, continuous with two derivatives, error (h/sigma)^4/128 of a line's height for a step h and a
passband of standard deviation sigma in ln lambda. Between the resolving powers it is a polynomial through Chebyshev
nodes, whose weights do not depend on (u, z) and are computed once for each measurement.

The resolving power is some 31-56 on detectors 1-4 and 95-145 on 5-6. Each such family of passbands has a part of the
table over its own wavelengths, with a step that suits its widths.

An evaluation multiplies the table with the coefficients of the source, one matrix product whatever the number of
measurements, and reads four nodes for each of them. For many draws of a source this is faster than reading a row of
the table for each measurement, by a factor of thirty on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.ndimage import spline_filter1d

from paeplatform.errors import BandSetError
from paeplatform.instrument.filters import HALF_RANGE_FWHM, N_NODES
from paeplatform.instrument.weights import as_sparse, band_weights

N_TAP = 4  # nodes that a value is read from
N_RESOLVING = 5  # Chebyshev nodes in ln R of each family
MARGIN = 16  # nodes beyond the used range: there the spline's end condition has died out, as 0.27^16
BEYOND_Z_MAX = 0.01  # the table's margin above z_max, in ln(1+z)


@dataclass(frozen=True)
class PassbandFamily:
    """Passbands that share a part of the table: those of detectors alike in resolving power.

    Attributes:
        wave_um: limits of the centres [um].
        resolving_power: limits of R = centre / FWHM.
        step: of the table's nodes in ln lambda.
        offset: (node,) increasing, (lambda'/lambda - 1) R: distance from the centre in FWHM.
        transmission: (node,) at these offsets, piecewise linear between them; a measured curve can take the place of
            the Gaussian.
    """

    wave_um: tuple[float, float]
    resolving_power: tuple[float, float]
    step: float
    offset: tuple[float, ...]
    transmission: tuple[float, ...]

    def nodes(self) -> Float[np.ndarray, " resolving"]:
        """ln R of the Chebyshev nodes."""
        low, high = np.log(self.resolving_power)
        angle = (2 * np.arange(N_RESOLVING) + 1) * np.pi / (2 * N_RESOLVING)
        return 0.5 * (low + high) + 0.5 * (high - low) * np.cos(angle)

    def grid(self, z_max: float) -> Float[np.ndarray, " node"]:
        """x of the table's nodes: every centre at every redshift up to `z_max`, and the margins."""
        first = np.log(self.wave_um[0]) - np.log1p(z_max) - BEYOND_Z_MAX - MARGIN * self.step
        n_node = int(np.ceil((np.log(self.wave_um[1]) - first) / self.step)) + MARGIN + 1
        return first + self.step * np.arange(n_node)

    def holds(self, wave: np.ndarray, width: np.ndarray) -> Bool[np.ndarray, " slot"]:
        """Which passbands belong to the family."""
        with np.errstate(divide="ignore", invalid="ignore"):
            resolving = wave / width
        low, high = self.resolving_power
        inside = (wave >= self.wave_um[0]) & (wave <= self.wave_um[1])
        return inside & (resolving >= low) & (resolving <= high)


def _gaussian(wave_um: tuple[float, float], resolving: tuple[float, float], step: float) -> PassbandFamily:
    offset = np.linspace(-HALF_RANGE_FWHM, HALF_RANGE_FWHM, N_NODES)
    transmission = 2.0 ** (-4.0 * offset**2)
    return PassbandFamily(wave_um, resolving, step, tuple(offset.tolist()), tuple(transmission.tolist()))


# Steps are 0.48 and 0.45 of the standard deviation in ln lambda of the narrowest common passband (R = 45 and 135).
SPHEREX_PASSBANDS = (
    _gaussian((0.70, 3.95), (31.0, 56.0), 0.0045),
    _gaussian((3.70, 5.10), (95.0, 145.0), 0.0014),
)


def passbands_to_record(families: tuple[PassbandFamily, ...]) -> list[dict[str, Any]]:
    """JSON-ready description of passbands."""
    return [asdict(family) for family in families]


def passbands_from_record(record: Sequence[Mapping[str, Any]]) -> tuple[PassbandFamily, ...]:
    """The passbands that `passbands_to_record` described.

    Raises:
        BandSetError: a key is missing or unknown, or numbers are not of the shapes of `PassbandFamily`.
    """
    try:
        families = []
        for entry in record:
            lists = {name: tuple(map(float, value)) for name, value in entry.items() if name != "step"}
            families.append(PassbandFamily(**lists, step=float(entry["step"])))  # type: ignore[arg-type]
            shapes = [len(lists[name]) for name in ("wave_um", "resolving_power")]
            if shapes != [2, 2] or len(lists["offset"]) != len(lists["transmission"]):
                raise ValueError("limits must be pairs, and offset and transmission of one length")
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise BandSetError(f"passbands of the model: {error}") from error
    return tuple(families)


class Slots(NamedTuple):
    """Where the measurements of a source lie in a `SlotOperator`'s table, at z = 0.

    Attributes:
        position: in nodes of the measurement's family.
        per_ln_1z: nodes that ln(1+z) = 1 shifts it by.
        first, last: first and last node from which four nodes can be read.
        share: of each resolving power; sums to 1.
        log_wave: ln of the measurement's wavelength [um].
    """

    position: Float[Array, "*shape slot"]
    per_ln_1z: Float[Array, "*shape slot"]
    first: Int[Array, "*shape slot"]
    last: Int[Array, "*shape slot"]
    share: Float[Array, "*shape slot resolving"]
    log_wave: Float[Array, "*shape slot"]


class SlotOperator(eqx.Module):
    """Fluxes of the spectrum sum_k source[k] * basis[k] in passbands that each call names; made by `slot_operator`.

    Beyond the table's ends (z < 0, z > z_max and margin) fluxes are those at the end, with zero derivative in z. The
    table is a constant: no gradient flows into it.
    """

    table: Float[
        Array, "row component"
    ]  # row = node * N_RESOLVING + resolving power, families one after the other
    families: tuple[PassbandFamily, ...] = eqx.field(static=True)
    z_max: float = eqx.field(static=True)

    def __call__(
        self, source: Float[Array, " component"], z: Float[Array, ""], slots: Slots
    ) -> Float[Array, " slot"]:
        """Fluxes of one source at redshift z, in the source's unit; differentiable in both, made to be vmapped."""
        weight, node = self._taps(z, slots)
        return jnp.sum(weight * _read(jax.lax.stop_gradient(self.table) @ source, node), axis=1)

    def matrix(self, z: Float[Array, ""], slots: Slots) -> Float[Array, "slot component"]:
        """Fluxes of every basis spectrum at redshift z; differentiable, for bases of a few spectra."""
        weight, node = self._taps(z, slots)
        return jnp.einsum("st,stc->sc", weight, _read(jax.lax.stop_gradient(self.table), node))

    def _taps(
        self, z: Float[Array, ""], slots: Slots
    ) -> tuple[Float[Array, "slot tap"], Int[Array, " slot"]]:
        """(weights of the rows that each slot reads, the first node of them)."""
        place = slots.position - slots.per_ln_1z * jnp.log1p(z)
        place = jnp.clip(place, slots.first.astype(place.dtype), slots.last.astype(place.dtype) + 0.999)
        node = jax.lax.stop_gradient(place).astype(jnp.int32)
        spline = _cubic_b_spline(place - node)
        # Four nodes are one contiguous piece: its derivative adds as many numbers to one place, not to twenty.
        weight = (spline[:, :, None] * slots.share[:, None, :]).reshape(len(node), N_TAP * N_RESOLVING)
        return weight, node

    def place(self, wave: Float[np.ndarray, "*shape slot"], width: Float[np.ndarray, "*shape slot"]) -> Slots:
        """Where passbands lie in the table; one that belongs to no family is put somewhere, to be given no weight.

        Args:
            wave: centres [um].
            width: FWHM [um].

        Returns:
            NumPy arrays, float32 and int32.
        """
        wave, width = np.asarray(wave, dtype=np.float64), np.asarray(width, dtype=np.float64)
        position, per_ln_1z = np.zeros(wave.shape, np.float32), np.zeros(wave.shape, np.float32)
        first, last = np.zeros(wave.shape, np.int32), np.zeros(wave.shape, np.int32)
        share = np.zeros((*wave.shape, N_RESOLVING), np.float32)
        log_wave = np.zeros(wave.shape, np.float32)
        begin = 0
        for family in self.families:
            grid, here = family.grid(self.z_max), family.holds(wave, width)
            # the spline's four coefficients begin one node before the interval
            node = begin - 1 + (np.log(wave[here]) - grid[0]) / family.step
            position[here], per_ln_1z[here] = node, 1.0 / family.step
            first[here], last[here] = begin, begin + len(grid) - N_TAP
            log_wave[here] = np.log(wave[here])
            share[here] = _lagrange(np.log(wave[here] / width[here]), family.nodes())
            begin += len(grid)
        return Slots(position, per_ln_1z, first, last, share, log_wave)


def slot_operator(
    basis: np.ndarray,
    wave: np.ndarray,
    z_max: float,
    families: tuple[PassbandFamily, ...] = SPHEREX_PASSBANDS,
) -> SlotOperator:
    """Tabulates spectra in all passbands of the families (float64, rounded at the end).

    Args:
        basis: (n_component, n_wave) spectra f_nu on `wave`, piecewise linear between its points, constant beyond. The
            identity makes an operator for any spectrum on `wave`.
        wave: (n_wave,) rest wavelength [um], increasing.
        z_max: largest redshift asked for.
        families: passbands of the instrument.

    Raises:
        BandSetError: shapes do not fit, a value is not finite, or `z_max` is not positive.
    """
    basis, wave = np.asarray(basis, dtype=np.float64), np.asarray(wave, dtype=np.float64)
    if wave.ndim != 1 or len(wave) < 2 or not np.all(np.diff(wave, prepend=0.0) > 0.0):
        raise BandSetError(f"wave {wave.shape} must be one-dimensional, finite, positive and increasing [um]")
    if basis.ndim != 2 or basis.shape[1] != len(wave) or not np.isfinite(basis).all():
        raise BandSetError(f"basis {basis.shape} must be finite with shape (n_component, {len(wave)})")
    if not 0.0 < z_max < np.inf:
        raise BandSetError(f"slot table: z_max {z_max} must be positive and finite")
    parts = []
    for family in families:
        grid = family.grid(z_max)
        by_resolving = []
        for resolving in np.exp(family.nodes()):
            # a passband centred on 1 um, seen at 1 + z = e^-x
            centre_1um = 1.0 + np.asarray(family.offset) / resolving
            weights = band_weights(wave, centre_1um, np.asarray(family.transmission), -grid)
            fluxes = as_sparse(weights.value, weights.start, len(wave)) @ basis.T
            by_resolving.append(spline_filter1d(fluxes, order=3, axis=0, mode="mirror"))
        parts.append(np.stack(by_resolving, axis=1).reshape(-1, len(basis)))
    table = np.concatenate(parts).astype(np.float32)
    return SlotOperator(table=jnp.asarray(table), families=families, z_max=float(z_max))


def belongs_to_a_family(
    wave: np.ndarray, width: np.ndarray, families: tuple[PassbandFamily, ...] = SPHEREX_PASSBANDS
) -> Bool[np.ndarray, " slot"]:
    """Which passbands a `SlotOperator` of these families can predict."""
    return np.any([family.holds(np.asarray(wave), np.asarray(width)) for family in families], axis=0)


def _read(values: Float[Array, "row ..."], node: Int[Array, " slot"]) -> Float[Array, "slot tap ..."]:
    """The rows of four nodes from each of `node` on."""
    size = (N_TAP * N_RESOLVING, *values.shape[1:])
    rest = (0,) * (values.ndim - 1)
    return jax.vmap(lambda node: jax.lax.dynamic_slice(values, (node * N_RESOLVING, *rest), size))(node)


def _cubic_b_spline(t: Float[Array, " slot"]) -> Float[Array, "slot tap"]:
    """Values at t in [0, 1) of the four cardinal cubic B-splines that are not zero there."""
    s = 1.0 - t
    taps = (
        s * s * s / 6.0,
        (4.0 - 3.0 * t * t * (1.0 + s)) / 6.0,
        (4.0 - 3.0 * s * s * (1.0 + t)) / 6.0,
        t * t * t / 6.0,
    )
    return jnp.stack(taps, axis=-1)


def _lagrange(
    x: Float[np.ndarray, " slot"], nodes: Float[np.ndarray, " node"]
) -> Float[np.ndarray, "slot node"]:
    """Weights of the polynomial through the nodes, at each x."""
    out = np.ones((len(x), len(nodes)))
    for one, here in enumerate(nodes):
        for other, there in enumerate(nodes):
            if one != other:
                out[:, one] *= (x - there) / (here - there)
    return out
