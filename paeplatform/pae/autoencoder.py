"""Autoencoders of mean-normalised rest-frame spectra (paper sections II.2 and IV.1.1).

Two architectures share one interface, `encode` and `decode` on single spectra (vmap outside):

- `CompactAutoencoder`: the decoder ends in a linear head, so a decoded spectrum is `coefficients(latent) @ basis()`.
  Redshift and filters act linearly on the basis and fold into one table; that is why it is the default.
- `ConvAutoencoder`: the paper's one-dimensional CNN, with strides.

Both keep the per-wavelength mean and scale of the training spectra as constants; build them with `training_moments`.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from paeplatform.config import AutoencoderConfig, CompactNetConfig, ConvNetConfig
from paeplatform.errors import ConfigError
from paeplatform.pae.strided import SILU_GAIN, STRIDE, StridedConv, StridedTranspose

DENSE_GAIN = SILU_GAIN * np.sqrt(3.0)  # equinox draws weights with a standard deviation of 1 / sqrt(3 n_in)
SCALE_FLOOR = 1e-2  # smallest per-wavelength scale (mean-normalised flux) that inputs are divided by


class SpectrumMoments(NamedTuple):
    """What a network knows of its training spectra before it is trained.

    Attributes:
        mean: (n_wave,) mean spectrum.
        scale: (n_wave,) standard deviation at each wavelength.
        components: (n_component, n_wave) principal components times their standard deviations.
    """

    mean: np.ndarray
    scale: np.ndarray
    components: np.ndarray


def training_moments(
    spectra: np.ndarray, n_components: int, seed: int = 0, n_sample: int = 8192
) -> SpectrumMoments:
    """Mean, scale and principal components of a seeded subsample.

    Args:
        spectra: (n, n_wave) mean-normalised spectra.
        n_components: components wanted; missing ones (fewer spectra than components) are zero.
        seed: of the subsample.
        n_sample: size of the subsample.
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(spectra), size=min(n_sample, len(spectra)), replace=False))
    sample = np.asarray(spectra[rows], dtype=np.float64)
    mean = sample.mean(axis=0)
    residual = sample - mean
    variance, vectors = np.linalg.eigh(residual.T @ residual / len(sample))
    order = np.argsort(variance)[::-1][:n_components]
    components = np.zeros((n_components, spectra.shape[1]))
    # Signs of eigenvectors are a LAPACK choice; fix them so that equal data give equal weights.
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    components[: len(order)] = (vectors * signs * np.sqrt(np.maximum(variance, 0.0)))[:, order].T
    return SpectrumMoments(mean, sample.std(axis=0), components)


class Mlp(eqx.Module):
    """Dense layers with SiLU between them; the last one is linear."""

    layers: tuple[eqx.nn.Linear, ...]

    def __init__(self, sizes: tuple[int, ...], *, gain: float = 1.0, key: PRNGKeyArray):
        keys = jr.split(key, len(sizes) - 1)
        layers = tuple(
            eqx.nn.Linear(a, b, key=k) for (a, b), k in zip(itertools.pairwise(sizes), keys, strict=True)
        )
        self.layers = jax.tree.map(lambda leaf: gain * leaf, layers)

    def __call__(self, x: Float[Array, " inner"]) -> Float[Array, " outer"]:
        """What the last layer gives of a row of the first one's size."""
        for layer in self.layers[:-1]:
            x = jax.nn.silu(layer(x))
        return self.layers[-1](x)


class _InputScaling(eqx.Module):
    """Constants that standardise a spectrum at each wavelength; they take no gradient."""

    mean: Float[Array, " wave"]
    scale: Float[Array, " wave"]

    @classmethod
    def of(cls, moments: SpectrumMoments) -> _InputScaling:
        scale = np.maximum(moments.scale, SCALE_FLOOR)
        return cls(jnp.asarray(moments.mean, jnp.float32), jnp.asarray(scale, jnp.float32))

    def __call__(self, spectrum: Float[Array, " wave"]) -> Float[Array, " wave"]:
        mean, scale = jax.lax.stop_gradient((self.mean, self.scale))
        # arcsinh: a few line-dominated or infrared-bright spectra lie tens of scales away from the mean.
        return jnp.arcsinh((spectrum - mean) / scale)


class CompactAutoencoder(eqx.Module):
    """MLP encoder and MLP decoder with a linear head of `n_components` spectra plus a constant one.

    Both halves carry a linear path beside the MLP, initialised to the principal components, so that training starts
    from the linear autoencoder.
    """

    scaling: _InputScaling
    encoder: Mlp
    encoder_linear: Float[Array, "latent wave"]
    decoder: Mlp
    decoder_linear: Float[Array, "component latent"]
    head: Float[Array, "component wave"]
    constant: Float[Array, " wave"]

    def __init__(
        self,
        cfg: CompactNetConfig,
        n_latent: int,
        n_wave: int,
        moments: SpectrumMoments,
        *,
        key: PRNGKeyArray,
    ):
        enc_key, dec_key = jr.split(key)
        self.scaling = _InputScaling.of(moments)
        self.encoder = Mlp((n_wave, *cfg.encoder_widths, n_latent), key=enc_key)
        self.decoder = Mlp((n_latent, *cfg.decoder_widths, cfg.n_components), key=dec_key)
        components = moments.components[: cfg.n_components]
        norm = np.maximum((components**2).sum(axis=1), 1e-12)
        self.encoder_linear = jnp.asarray((components / norm[:, None])[:n_latent], jnp.float32)
        self.decoder_linear = jnp.eye(cfg.n_components, n_latent)
        self.head = jnp.asarray(components, jnp.float32)
        self.constant = jnp.asarray(moments.mean, jnp.float32)

    def encode(self, spectrum: Float[Array, " wave"]) -> Float[Array, " latent"]:
        """Latent of a mean-normalised spectrum."""
        linear = self.encoder_linear @ (spectrum - jax.lax.stop_gradient(self.scaling.mean))
        return linear + self.encoder(self.scaling(spectrum))

    def coefficients(self, latent: Float[Array, " latent"]) -> Float[Array, " component_and_one"]:
        """Weights of the rows of `basis()`; the last is the constant 1."""
        weights = self.decoder_linear @ latent + self.decoder(latent)
        return jnp.append(weights, jnp.ones((), weights.dtype))

    def basis(self) -> Float[Array, "component_and_one wave"]:
        """The spectra that a decoded spectrum is a sum of."""
        return jnp.concatenate([self.head, self.constant[None]])

    def decode(self, latent: Float[Array, " latent"]) -> Float[Array, " wave"]:
        """Spectrum of a latent: `coefficients(latent) @ basis()`."""
        return self.coefficients(latent) @ self.basis()


class ConvAutoencoder(eqx.Module):
    """The paper's CNN (section IV.1.1): strided convolutions, dense layers, and their transposed mirror.

    The last feature map (two positions long for 500 wavelengths) is reduced to one value per channel by a trainable
    weight per channel and position; flattening it would double the size of the network.
    """

    scaling: _InputScaling
    convs: tuple[StridedConv, ...]
    pool: Float[Array, "position channel"]
    dense_in: Mlp
    dense_out: Mlp
    unpool: Float[Array, "position channel"]
    unpool_bias: Float[Array, "position channel"]
    transposed: tuple[StridedTranspose, ...]
    n_wave: int = eqx.field(static=True)

    def __init__(
        self, cfg: ConvNetConfig, n_latent: int, n_wave: int, moments: SpectrumMoments, *, key: PRNGKeyArray
    ):
        if not STRIDE < cfg.kernel_size <= 2 * STRIDE:
            raise ConfigError(
                f"conv.kernel_size {cfg.kernel_size} must be {STRIDE + 1} to {2 * STRIDE}: the stride is {STRIDE}"
            )
        conv_key, in_key, out_key, back_key, pool_key, unpool_key = jr.split(key, 6)
        pairs = list(itertools.pairwise((1, *cfg.filters)))
        length = n_wave
        for _ in pairs:
            length = -(-length // STRIDE)
        size, width = cfg.kernel_size, cfg.filters[-1]
        self.n_wave = n_wave
        self.scaling = _InputScaling.of(moments)
        self.convs = tuple(
            StridedConv(a, b, size, key=k)
            for (a, b), k in zip(pairs, jr.split(conv_key, len(pairs)), strict=True)
        )
        # Unlike weights along the positions: alike ones would only ever see their sum.
        self.pool = jr.normal(pool_key, (length, width)) / np.sqrt(length)
        self.unpool = jr.normal(unpool_key, (length, width))
        self.unpool_bias = jnp.zeros((length, width))
        self.dense_in = Mlp((width, *cfg.dense, n_latent), gain=DENSE_GAIN, key=in_key)
        self.dense_out = Mlp((n_latent, *cfg.dense[::-1], width), gain=DENSE_GAIN, key=out_key)
        self.transposed = tuple(
            StridedTranspose(b, a, size, key=k)
            for (a, b), k in zip(pairs[::-1], jr.split(back_key, len(pairs)), strict=True)
        )

    def encode(self, spectrum: Float[Array, " wave"]) -> Float[Array, " latent"]:
        """Latent of a mean-normalised spectrum."""
        features = self.scaling(spectrum)[:, None]
        for conv in self.convs:
            features = jax.nn.silu(conv(features))
        return self.dense_in(jnp.sum(features * self.pool, axis=0))

    def decode(self, latent: Float[Array, " latent"]) -> Float[Array, " wave"]:
        """Spectrum of a latent; the network predicts the deviation from the training mean in units of its scale."""
        features = jax.nn.silu(self.dense_out(latent) * self.unpool + self.unpool_bias)
        for layer in self.transposed[:-1]:
            features = jax.nn.silu(layer(features))
        deviation = self.transposed[-1](features)[: self.n_wave, 0]
        mean, scale = jax.lax.stop_gradient((self.scaling.mean, self.scaling.scale))
        return mean + scale * deviation


Autoencoder = CompactAutoencoder | ConvAutoencoder


def build_autoencoder(
    cfg: AutoencoderConfig,
    n_latent: int,
    n_wave: int,
    *,
    key: PRNGKeyArray,
    mean_spectrum: np.ndarray | None = None,
    moments: SpectrumMoments | None = None,
) -> Autoencoder:
    """A new autoencoder.

    Args:
        cfg: architecture and widths.
        n_latent: latent size.
        n_wave: grid points of a spectrum.
        key: of the random initial weights.
        mean_spectrum: (n_wave,) used when no `moments` are given.
        moments: of the training spectra (`training_moments`); without it inputs are centred only and the linear head is
            random (enough for a skeleton to load weights into).

    Raises:
        ConfigError: n_latent above n_components (compact), or a kernel that the strides do not allow (conv).
    """
    if cfg.architecture == "compact" and n_latent > cfg.compact.n_components:
        raise ConfigError(
            f"n_latent {n_latent} must not exceed compact.n_components {cfg.compact.n_components}"
        )
    if moments is None:
        mean = np.ones(n_wave) if mean_spectrum is None else np.asarray(mean_spectrum)
        rng = np.random.default_rng(0)
        moments = SpectrumMoments(
            mean, np.ones(n_wave), rng.normal(size=(cfg.compact.n_components, n_wave)) * 0.1
        )
    if moments.mean.shape != (n_wave,):
        raise ConfigError(f"mean spectrum has {moments.mean.shape[0]} points, the grid has n_wave {n_wave}")
    network, sizes = (
        (CompactAutoencoder, cfg.compact) if cfg.architecture == "compact" else (ConvAutoencoder, cfg.conv)
    )
    # one compilation instead of one for the random numbers of every weight shape
    return eqx.filter_jit(lambda k: network(sizes, n_latent, n_wave, moments, key=k))(key)
