"""How wrong the model's spectra are, as a term of the likelihood: eazy's template error function (Brammer, van Dokkum &
Coppi 2008, ApJ 686, 1503, section 2.4).

A measurement of a galaxy that no training has seen differs from the best model by more than its noise. The term gives
measurement i the variance

    V_i = sigma_i^2 + (eps(lambda_i / (1 + z)) A m_i)^2

with the relative error eps of the model's flux at its rest wavelength. The likelihood is Gaussian with this variance:
ln L = -1/2 sum (d_i - A m_i)^2 / V_i - 1/2 sum ln (V_i / sigma_i^2). Without the second sum a redshift at which the
model is less certain would always win.

V depends on the amplitude A, which is to be removed. The A within V is plugged in: it is the best amplitude given V,
found in a few steps from V = sigma^2. V is then held while A is profiled or marginalised as without the term. That
neglects how V changes over the width of A, which is small: a relative change of 1/(total signal-to-noise).
"""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from paeplatform.errors import ConfigError
from paeplatform.pae.bundle import PaeBundle

N_REFINED = 3  # steps of the amplitude within V
UNEVEN = 1e-3  # by which distances of the nodes may differ from their mean
_TINY = 1e-30


class ModelError(eqx.Module):
    """Relative errors of model fluxes by rest wavelength; made by `model_error`.

    Attributes:
        relative: (node,) eps, 1 sigma, at nodes even in ln of the rest wavelength. Between them it is linear, beyond
            them as at the end.
        channel_log_wave: (channel,) ln of the channels' centres [um].
        first: ln of the first node [um].
        step: distance of the nodes.
    """

    relative: Float[Array, " node"]
    channel_log_wave: Float[Array, " channel"]
    first: float = eqx.field(static=True)
    step: float = eqx.field(static=True)

    def at(self, log_wave: Float[Array, " band"], z: Float[Array, ""]) -> Float[Array, " band"]:
        """Eps of bands with ln of the wavelength [um] `log_wave` for a source at redshift z."""
        place = (log_wave - jnp.log1p(z) - self.first) / self.step
        place = jnp.clip(place, 0.0, self.relative.size - 1.0)
        node = jnp.minimum(place.astype(jnp.int32), self.relative.size - 2)
        t = place - node
        return (1.0 - t) * self.relative[node] + t * self.relative[node + 1]

    def growth(
        self,
        signal: Float[Array, " band"],
        model: Float[Array, " band"],
        log_wave: Float[Array, " band"],
        z: Float[Array, ""],
    ) -> Float[Array, " band"]:
        """V_i / sigma_i^2 of each measurement, at the best amplitude A >= 0; 1 where a band is masked.

        Args:
            signal: whitened fluxes.
            model: whitened model fluxes of amplitude 1.
            log_wave: ln of the wavelengths [um].
            z: redshift.
        """
        variance = self.at(log_wave, z) ** 2
        growth = jnp.ones_like(model)
        for _ in range(1 + N_REFINED):
            weighted = model / growth
            best = jnp.sum(signal * weighted) / (jnp.sum(model * weighted) + _TINY)
            growth = 1.0 + variance * (jnp.maximum(best, 0.0) * model) ** 2
        return growth


def model_error(
    rest_wave_um: Float[np.ndarray, " node"],
    relative: Float[np.ndarray, " node"],
    channel_wave_um: Float[np.ndarray, " channel"],
) -> ModelError:
    """The term from a table.

    Args:
        rest_wave_um: increasing, even in the logarithm [um].
        relative: eps there, finite and not negative.
        channel_wave_um: centres of the channels [um].

    Raises:
        ConfigError: a table is not as described.
    """
    wave, relative = np.asarray(rest_wave_um, np.float64), np.asarray(relative, np.float64)
    if wave.ndim != 1 or wave.shape != relative.shape or len(wave) < 2:
        raise ConfigError(
            f"model error: rest_wave_um {wave.shape} and relative {relative.shape} must be two lists of one length, "
            "at least 2"
        )
    if not (np.isfinite(relative) & (relative >= 0.0)).all():
        raise ConfigError("model error: relative errors must be finite and not negative")
    if not (np.isfinite(wave) & (wave > 0.0)).all():
        raise ConfigError("model error: rest wavelengths must be finite and positive [um]")
    steps = np.diff(np.log(wave))
    if not (steps > 0.0).all() or np.ptp(steps) > UNEVEN * steps.mean():
        raise ConfigError("model error: rest wavelengths must increase, by one factor from each to the next")
    return ModelError(
        relative=jnp.asarray(relative, jnp.float32),
        channel_log_wave=jnp.asarray(np.log(np.asarray(channel_wave_um, np.float64)), jnp.float32),
        first=float(np.log(wave[0])),
        step=float(steps.mean()),
    )


def model_error_of(bundle: PaeBundle, channel_wave_um: Float[np.ndarray, " channel"]) -> ModelError | None:
    """The term of a trained model; None for one that does not state its errors.

    Args:
        bundle: trained PAE.
        channel_wave_um: centres of the channels [um].

    Raises:
        ConfigError: the bundle's table is not even in the logarithm.
    """
    errors = bundle.model_error
    return None if errors is None else model_error(errors.rest_wave_um, errors.relative, channel_wave_um)
