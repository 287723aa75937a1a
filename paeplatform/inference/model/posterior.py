"""The log posterior over SED latents and redshift (eq. 4 to 6).

Coordinates. `log_prob` takes x = (u, ln z), its density includes the Jacobian dz/d ln z = z. The sampler moves in
v = (u, t) instead, where ln z is a smooth function of t: equal to t well inside the limits, bent over
`EDGE_WIDTH` towards ln z_min and ln z_max, which lie at infinity. So every draw respects the limits, nothing is
clipped or excluded, and the density falls off smoothly; a wall in ln z steep enough to hold would drive the
sampler's step size to nothing.

Amplitude. A is profiled, ln L = -1/2 min over A >= 0 of chi^2(A), or marginalised over A >= 0 with a flat prior,
ln L = -1/2 chi^2(A*) - 1/2 ln a + ln Phi(A* sqrt(a)) with a = sum (m/sigma)^2 and A* the unrestricted optimum
of eq. 4. Chi^2 is summed over residuals: in float32, sum d^2 - b^2/a is off by 0.03 at a total SNR of 200, the
residual form by 1e-4.

Errors of the model. With `model_error` the variance of each measurement is that of its noise and that of the model's
flux together (`model_error`); without it the likelihood is eq. 5.

Linear terms. With `linear_terms` groups of emission lines may be stronger or weaker than in the model; their strengths
are marginalised with Gaussian priors (`linear_terms`), so that (u, z) stays what is sampled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from paeplatform.inference.model.linear_terms import Fitted, LinearTerms, fitted
from paeplatform.inference.model.model_error import ModelError
from paeplatform.inference.model.priors import RedshiftPrior
from paeplatform.instrument.slots import Slots

EDGE_WIDTH = 0.2  # in ln z: over which the sampler's coordinate bends at the limits
LOG_2PI = 1.8378770664093453
TINY = 1e-30

ForwardModel = Callable[[Float[Array, " latent"], Float[Array, ""]], Float[Array, " band"]]


class WhitenedPhotometry(NamedTuple):
    """One source, whitened: free of units, masked bands zero.

    Its bands are the channels of the forward model or, with `slots`, measurements at their own wavelengths: then the
    posterior is that of the measurements, and `channels` are what they give when they are binned. Whatever only
    proposes (the amortised proposal, banks of prior draws) reads `in_channels`.

    Attributes:
        signal: (band,) flux over flux_err.
        weight: (band,) reference error over flux_err; its mean square over the usable bands is 1. Model amplitudes are
            therefore in units of the reference error, and multiplying flux and flux_err by one factor changes nothing.
        slots: where the measurements lie in the forward model's table; None for channels.
        channels: (channel,) the same source in channels, without slots; None where the bands are channels.
        external_log_wave: (external,) ln of the pivot wavelengths [um] of other surveys' bands, which are the last of
            the bands; None without such bands. `channels` is then there too, and does not have them.
    """

    signal: Float[Array, " *shape band"]
    weight: Float[Array, " *shape band"]
    slots: Slots | None = None
    channels: WhitenedPhotometry | None = None
    external_log_wave: Float[Array, " *shape external"] | None = None

    @property
    def in_channels(self) -> WhitenedPhotometry:
        """The source in the forward model's channels."""
        return self if self.channels is None else self.channels

    @property
    def n_external(self) -> int:
        """How many of the bands, the last ones, are of other surveys."""
        return 0 if self.external_log_wave is None else self.external_log_wave.shape[-1]

    def rows(self, rows: np.ndarray | int) -> WhitenedPhotometry:
        """Some of many sources, or one."""
        return jax.tree.map(lambda part: part[rows], self)


def whiten(flux: Float[Array, " *shape band"], flux_err: Float[Array, " *shape band"]) -> WhitenedPhotometry:
    """Whitens fluxes and errors [uJy]; bands with flux_err not finite or not positive get zero weight."""
    # NumPy arrays stay on the host: of every shape that came along JAX would compile each step
    xp: Any = np if isinstance(flux, np.ndarray) and isinstance(flux_err, np.ndarray) else jnp
    usable = xp.isfinite(flux_err) & (flux_err > 0.0)
    n_used = xp.maximum(xp.sum(usable, axis=-1, keepdims=True), 1)
    smallest = xp.min(xp.where(usable, flux_err, xp.inf), axis=-1, keepdims=True)
    smallest = xp.where(
        xp.isfinite(smallest), smallest, 1.0
    )  # squares of ratios to it neither overflow nor vanish
    divisor = xp.where(usable, flux_err, 1.0)
    ratio = xp.where(usable, smallest / divisor, 0.0)
    rms = xp.sqrt(xp.maximum(xp.sum(ratio**2, axis=-1, keepdims=True) / n_used, TINY))
    signal = xp.where(usable, flux, 0.0) / divisor
    return WhitenedPhotometry(signal=signal.astype(flux.dtype), weight=(ratio / rms).astype(flux.dtype))


class LogPosterior(eqx.Module):
    """ln p(u, z | flux) up to a constant: ln L + ln N(u; 0, I) if `nf_prior` + ln p(z).

    Attributes:
        forward: (u, z) -> (band,) model fluxes of amplitude 1; for photometry with slots it has `measured` too, as
            `PaeForward` has.
        z_prior: prior on z, and its limits.
        nf_prior: whether u carries its standard normal prior; without it u is flat (and the posterior may be
        improper). amplitude: how eq. 4's scale is removed.
        model_error: how wrong the model's fluxes are; None for a model without errors.
        linear_terms: departures from the model that are marginalised; None for none.
    """

    forward: ForwardModel
    z_prior: RedshiftPrior
    nf_prior: bool = eqx.field(static=True, default=True)
    amplitude: Literal["profile", "marginal"] = eqx.field(static=True, default="profile")
    model_error: ModelError | None = None
    linear_terms: LinearTerms | None = None

    @property
    def noise_alone(self) -> bool:
        """Whether the covariance of the data is that of their noise, whatever (u, z) is."""
        return self.model_error is None and self.linear_terms is None

    # -- likelihood ------------------------------------------------------------------------------------------------
    def log_likelihood(
        self,
        u: Float[Array, " latent"],
        z: Float[Array, ""],
        flux: Float[Array, " band"],
        flux_err: Float[Array, " band"],
    ) -> Float[Array, ""]:
        """ln L (eq. 5 with A removed), up to a constant of the data."""
        return self.log_likelihood_of(u, z, whiten(flux, flux_err))

    def log_likelihood_of(
        self, u: Float[Array, " latent"], z: Float[Array, ""], photometry: WhitenedPhotometry
    ) -> Float[Array, ""]:
        """`log_likelihood` of whitened photometry."""
        if self.has_terms(photometry):
            return self._terms_marginalised(u, z, photometry)
        model, growth = self._compared(u, z, photometry)
        signal = photometry.signal
        if growth is not None:
            signal, model = signal / jnp.sqrt(growth), model / jnp.sqrt(growth)
        norm_squared = jnp.sum(model**2) + TINY
        best = jnp.sum(signal * model) / norm_squared
        if self.amplitude == "profile":
            value = -0.5 * jnp.sum((signal - jnp.maximum(best, 0.0) * model) ** 2)
        else:
            chi2 = jnp.sum((signal - best * model) ** 2)
            value = -0.5 * chi2 - 0.5 * jnp.log(norm_squared) + norm.logcdf(best * jnp.sqrt(norm_squared))
        return value if growth is None else value - 0.5 * jnp.sum(jnp.log(growth))

    def _compared(self, u: Array, z: Array, photometry: WhitenedPhotometry) -> tuple[Array, Array | None]:
        """(whitened model of amplitude 1, growth of each variance by the model's errors, or None without them)."""
        model = photometry.weight * self.model(u, z, photometry)
        if self.model_error is None:
            return model, None
        slots, beside = photometry.slots, photometry.external_log_wave
        log_wave = self.model_error.channel_log_wave if slots is None else slots.log_wave
        log_wave = log_wave if beside is None else jnp.concatenate([log_wave, beside])
        return model, self.model_error.growth(photometry.signal, model, log_wave, z)

    def has_terms(self, photometry: WhitenedPhotometry) -> bool:
        """Whether there are linear terms for a source: zero points are none where it has no external bands."""
        return self.linear_terms is not None and self.linear_terms.concern(photometry.n_external)

    def with_terms(
        self, u: Array, z: Array, photometry: WhitenedPhotometry
    ) -> tuple[Fitted, Float[Array, " band"] | None]:
        """Amplitude and strengths of the linear terms, and the factor on each variance by the model's errors.

        Only where `has_terms`.
        """
        model, growth = self._compared(u, z, photometry)
        return fitted(*self._in_whole_errors(z, photometry, model, growth)), growth

    def _terms_marginalised(self, u: Array, z: Array, photometry: WhitenedPhotometry) -> Float[Array, ""]:
        """`log_likelihood_of` with the linear terms marginalised."""
        found, growth = self.with_terms(u, z, photometry)
        value = -0.5 * (jnp.sum(found.off**2) + jnp.sum(found.strength**2) + found.log_det)
        if self.amplitude == "marginal":
            # from the best A >= 0 to the best of any sign, where the closed form begins
            short = jnp.minimum(found.free_amplitude, 0.0)
            norm_squared = found.norm_squared
            value += 0.5 * short**2 * norm_squared - 0.5 * jnp.log(norm_squared)
            value += norm.logcdf(found.free_amplitude * jnp.sqrt(norm_squared))
        return value if growth is None else value - 0.5 * jnp.sum(jnp.log(growth))

    def whitened_terms(
        self, u: Array, z: Array, photometry: WhitenedPhotometry
    ) -> tuple[Float[Array, " band"], Float[Array, " band"], Float[Array, "term band"]]:
        """Signal, model of amplitude 1 and columns of the linear terms, each in units of the whole errors."""
        return self._in_whole_errors(z, photometry, *self._compared(u, z, photometry))

    def _in_whole_errors(
        self, z: Array, photometry: WhitenedPhotometry, model: Array, growth: Array | None
    ) -> tuple[Array, Array, Array]:
        assert self.linear_terms is not None
        signal, scale = photometry.signal, photometry.weight
        if growth is not None:
            root = jnp.sqrt(growth)
            signal, model, scale = signal / root, model / root, scale / root
        plugged = jnp.maximum(jnp.sum(signal * model) / (jnp.sum(model**2) + TINY), 0.0)
        columns = self.linear_terms.columns(z, model, scale, photometry.slots, photometry.n_external)
        return signal, model, plugged * columns

    def model(self, u: Array, z: Array, photometry: WhitenedPhotometry) -> Float[Array, " band"]:
        """Model fluxes of amplitude 1 in the bands of the photometry."""
        forward: Any = self.forward
        own = forward(u, z) if photometry.slots is None else forward.measured(u, z, photometry.slots)
        if photometry.external_log_wave is None:
            return own
        return jnp.concatenate([own, forward.external(u, z)])

    def best_model(self, u: Array, z: Array, photometry: WhitenedPhotometry) -> Float[Array, " band"]:
        """Whitened model at its best amplitude A >= 0, comparable with `photometry.signal`."""
        return self.best_model_and_growth(u, z, photometry)[0]

    def best_model_and_growth(
        self, u: Array, z: Array, photometry: WhitenedPhotometry
    ) -> tuple[Float[Array, " band"], Float[Array, " band"] | None]:
        """`best_model`, and the factor on each measurement's variance by the model's errors; None without them."""
        if self.has_terms(photometry):
            found, growth = self.with_terms(u, z, photometry)
            return photometry.signal - (found.off if growth is None else found.off * jnp.sqrt(growth)), growth
        model, growth = self._compared(u, z, photometry)
        weighted = model if growth is None else model / growth
        best = jnp.sum(photometry.signal * weighted) / (jnp.sum(model * weighted) + TINY)
        return jnp.maximum(best, 0.0) * model, growth

    def residual(self, u: Array, z: Array, photometry: WhitenedPhotometry) -> Float[Array, " band_and_term"]:
        """(signal - best model) in units of the whole error of each measurement; its square sums to chi^2.

        With linear terms their best strengths follow, in units of their widths: the sum is then chi^2 by the covariance
        that the terms give the data.
        """
        if self.has_terms(photometry):
            found, _ = self.with_terms(u, z, photometry)
            return jnp.concatenate([found.off, found.strength])
        model, growth = self.best_model_and_growth(u, z, photometry)
        off = photometry.signal - model
        return off if growth is None else off / jnp.sqrt(growth)

    # -- posterior in (u, ln z) ------------------------------------------------------------------------------------
    def log_prob(
        self, x: Float[Array, " dim"], flux: Float[Array, " band"], flux_err: Float[Array, " band"]
    ) -> Float[Array, ""]:
        """Log density over x = (u, ln z), -inf outside [z_min, z_max]."""
        z = jnp.exp(x[-1])
        inside = (z >= self.z_prior.z_min) & (z <= self.z_prior.z_max)
        return jnp.where(inside, self._log_prob(x[:-1], x[-1], whiten(flux, flux_err)), -jnp.inf)

    def _log_prob(self, u: Array, log_z: Array, photometry: WhitenedPhotometry) -> Float[Array, ""]:
        return self.log_likelihood_of(u, jnp.exp(log_z), photometry) + self._log_prior(u, log_z)

    def _log_prior(self, u: Array, log_z: Array) -> Float[Array, ""]:
        log_prior = self.z_prior.log_density(jnp.exp(log_z)) + log_z
        if self.nf_prior:
            log_prior = log_prior - 0.5 * jnp.sum(u**2) - 0.5 * u.size * LOG_2PI
        return log_prior

    # -- the sampler's coordinates ---------------------------------------------------------------------------------
    def log_z_of(self, t: Float[Array, " *shape"]) -> Float[Array, " *shape"]:
        """ln z, always inside the limits, of the sampler's coordinate t."""
        low, high = self._log_limits()
        a, k = (t - low) / EDGE_WIDTH, (high - low) / EDGE_WIDTH
        return jnp.clip(low + EDGE_WIDTH * (jax.nn.softplus(a) - jax.nn.softplus(a - k)), low, high)

    def coordinate_of(self, log_z: Float[Array, " *shape"]) -> Float[Array, " *shape"]:
        """Inverse of `log_z_of`; ln z must lie inside the limits (values at a limit are taken as just inside)."""
        low, high = self._log_limits()
        k = (high - low) / EDGE_WIDTH
        f = jnp.clip((log_z - low) / EDGE_WIDTH, 1e-5 * k, (1.0 - 1e-5) * k)
        return low + EDGE_WIDTH * (f + jnp.log(-jnp.expm1(-f)) - jnp.log(-jnp.expm1(f - k)))

    def free_log_prob(self, v: Float[Array, " dim"], photometry: WhitenedPhotometry) -> Float[Array, ""]:
        """Log density over v = (u, t), Jacobian included; what the sampler follows."""
        return self._log_prob(v[:-1], self.log_z_of(v[-1]), photometry) + self.log_bend(v[-1])

    def free_log_prior(self, v: Float[Array, " dim"]) -> Float[Array, ""]:
        """The share of the priors in `free_log_prob`."""
        return self._log_prior(v[:-1], self.log_z_of(v[-1])) + self.log_bend(v[-1])

    def log_bend(self, t: Float[Array, " *shape"]) -> Float[Array, " *shape"]:
        """ln (d ln z / dt); zero well inside the limits."""
        low, high = self._log_limits()
        a, k = (t - low) / EDGE_WIDTH, (high - low) / EDGE_WIDTH
        return jax.nn.log_sigmoid(a) + jax.nn.log_sigmoid(k - a) + jnp.log(-jnp.expm1(-k))

    def free_residual(self, v: Float[Array, " dim"], photometry: WhitenedPhotometry) -> Float[Array, " band"]:
        """`residual` at v; its Jacobian makes the Fisher matrix."""
        return self.residual(v[:-1], jnp.exp(self.log_z_of(v[-1])), photometry)

    def _log_limits(self) -> tuple[Array, Array]:
        return jnp.log(jnp.asarray(self.z_prior.z_min)), jnp.log(jnp.asarray(self.z_prior.z_max))
