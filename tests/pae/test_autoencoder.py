"""The two autoencoders: shapes, the linear head, sizes, and that they can learn."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from paeplatform.config import AutoencoderConfig, CompactNetConfig, ConvNetConfig, FitConfig, load_preset
from paeplatform.errors import ConfigError
from paeplatform.pae.autoencoder import (
    ConvAutoencoder,
    build_autoencoder,
    training_moments,
)
from paeplatform.pae.strided import STRIDE, StridedConv, StridedTranspose

FIT = FitConfig(learning_rate=1e-3, batch_size=16, epochs=1)
SMALL = CompactNetConfig(encoder_widths=(16,), decoder_widths=(16,), n_components=7)
SMALL_CONV = ConvNetConfig(filters=(4, 8), kernel_size=5, dense=(8,))


def compact(n_latent: int = 3, n_wave: int = 60):
    cfg = AutoencoderConfig(architecture="compact", compact=SMALL, fit=FIT)
    return build_autoencoder(cfg, n_latent, n_wave, key=jr.key(0))


def test_decoded_spectrum_is_coefficients_times_basis():
    model = compact()
    latent = jr.normal(jr.key(1), (5, 3))
    coefficients = jax.vmap(model.coefficients)(latent)
    assert coefficients.shape == (5, 8)
    np.testing.assert_array_equal(coefficients[:, -1], 1.0)
    np.testing.assert_allclose(
        jax.vmap(model.decode)(latent), coefficients @ model.basis(), rtol=1e-5, atol=1e-6
    )


def test_untrained_compact_network_is_close_to_principal_components():
    rng = np.random.default_rng(0)
    spectra = 1.0 + rng.normal(size=(400, 3)) @ rng.normal(size=(3, 60)) * [0.3]
    moments = training_moments(spectra, 7)
    cfg = AutoencoderConfig(architecture="compact", compact=SMALL, fit=FIT)
    model = build_autoencoder(cfg, 3, 60, key=jr.key(0), moments=moments)
    weights = jax.tree.map(jnp.zeros_like, (model.encoder, model.decoder))
    linear = eqx.tree_at(lambda m: (m.encoder, m.decoder), model, weights)
    rebuilt = jax.vmap(lambda s: linear.decode(linear.encode(s)))(jnp.asarray(spectra, jnp.float32))
    np.testing.assert_allclose(rebuilt, spectra, atol=1e-3)  # rank three data, three latents


def test_training_moments_repeat_and_match_numpy():
    spectra = np.random.default_rng(3).lognormal(size=(300, 20))
    moments = training_moments(spectra, 4)
    np.testing.assert_allclose(moments.mean, spectra.mean(axis=0))
    singular = np.linalg.svd(spectra - spectra.mean(axis=0), compute_uv=False)[:4] / np.sqrt(300)
    np.testing.assert_allclose(np.linalg.norm(moments.components, axis=1), singular)
    np.testing.assert_array_equal(training_moments(spectra, 4).components, moments.components)


@pytest.mark.parametrize("n_wave", [500, 333, 64])
def test_conv_network_keeps_the_length_of_a_spectrum(n_wave: int):
    cfg = AutoencoderConfig(architecture="conv", conv=SMALL_CONV, fit=FIT)
    model = build_autoencoder(cfg, 4, n_wave, key=jr.key(0))
    latent = eqx.filter_jit(lambda m, x: m.encode(x))(model, jnp.ones(n_wave))
    spectrum = eqx.filter_jit(lambda m, x: m.decode(x))(model, latent)
    assert latent.shape == (4,)
    assert spectrum.shape == (n_wave,)
    # no gaps between the strides: every wavelength must be reachable from the latent
    sensitivity = jnp.abs(eqx.filter_jit(lambda m, x: jax.jacfwd(m.decode)(x))(model, latent)).sum(axis=1)
    assert jnp.all(sensitivity > 0)
    assert jnp.all(jnp.abs(jax.jit(jax.grad(lambda s: model.encode(s).sum()))(jnp.ones(n_wave))) > 0)


def test_paper_network_has_about_two_hundred_thousand_parameters():
    cfg = load_preset("paper").pae.autoencoder
    model = eqx.filter_eval_shape(lambda: build_autoencoder(cfg, 10, 500, key=jr.key(0)))
    assert isinstance(model, ConvAutoencoder)
    assert [conv.bias.size for conv in model.convs] == [12, 32, 128, 256]
    assert [layer.out_features for layer in model.dense_in.layers] == [256, 64, 16, 10]
    count = sum(leaf.size for leaf in jax.tree.leaves(model) if jnp.issubdtype(leaf.dtype, jnp.inexact))
    assert 180_000 < count - sum(leaf.size for leaf in jax.tree.leaves(model.scaling)) < 250_000


@pytest.mark.parametrize("kernel_size", [4, 9])
def test_kernels_that_the_strides_would_skip_over_are_refused(kernel_size: int):
    conv = ConvNetConfig(filters=(4,), kernel_size=kernel_size, dense=(8,))
    cfg = AutoencoderConfig(architecture="conv", conv=conv, fit=FIT)
    with pytest.raises(ConfigError, match="kernel_size"):
        build_autoencoder(cfg, 3, 100, key=jr.key(0))


def test_more_latents_than_components_are_refused():
    with pytest.raises(ConfigError, match="n_components 7"):
        compact(n_latent=8)


def test_moments_of_another_grid_are_refused():
    cfg = AutoencoderConfig(architecture="compact", compact=SMALL, fit=FIT)
    moments = training_moments(np.ones((5, 20)), 7)
    with pytest.raises(ConfigError, match="20 points"):
        build_autoencoder(cfg, 3, 60, key=jr.key(0), moments=moments)


@pytest.mark.parametrize(
    ("length", "n_in", "n_out", "kernel_size"), [(125, 12, 32, 5), (7, 32, 64, 8), (1, 1, 4, 5)]
)
def test_strided_convolutions_are_those_of_equinox_and_each_others_transpose(
    length, n_in, n_out, kernel_size
):
    """Weights (tap, group, inner, outer) rearranged into equinox's (outer, inner of the group, tap)."""
    down = StridedConv(n_in, n_out, kernel_size, key=jr.key(0))
    down = eqx.tree_at(lambda c: c.bias, down, jr.normal(jr.key(1), (n_out,)))
    groups = down.weight.shape[1]
    reference = eqx.nn.Conv1d(
        n_in, n_out, kernel_size, stride=STRIDE, padding=0, groups=groups, key=jr.key(2)
    )
    weight = down.weight.transpose(1, 3, 2, 0).reshape(n_out, n_in // groups, kernel_size)
    reference = eqx.tree_at(lambda c: (c.weight, c.bias), reference, (weight, down.bias[:, None]))
    x = jr.normal(jr.key(3), (length, n_in))
    padded = jnp.pad(x, ((0, 3 * STRIDE), (0, 0)))
    shorter = -(-length // STRIDE)
    np.testing.assert_allclose(eqx.filter_jit(down)(x), reference(padded.T).T[:shorter], rtol=1e-4, atol=1e-5)

    up = StridedTranspose(n_out, n_in, kernel_size, key=jr.key(4))
    up = eqx.tree_at(lambda c: c.weight, up, down.weight.swapaxes(2, 3))
    y = jr.normal(jr.key(5), (shorter, n_out))
    # <A x, y> = <x, A^T y>, on inputs that fill whole blocks
    whole = jr.normal(jr.key(6), (STRIDE * shorter, n_in))
    forward = jnp.sum((eqx.filter_jit(down)(whole) - down.bias) * y)
    assert float(forward) == pytest.approx(float(jnp.sum(whole * eqx.filter_jit(up)(y))), rel=1e-3, abs=1e-3)


def test_untrained_paper_network_passes_signals_on():
    """Spectra one scale apart must not fade on their way through the layers, or training never starts."""
    cfg = load_preset("paper").pae.autoencoder
    model = build_autoencoder(cfg, 10, 500, key=jr.key(0))
    spectra = 1.0 + jr.normal(jr.key(1), (64, 500))
    latents = eqx.filter_jit(lambda m, x: jax.vmap(m.encode)(x))(model, spectra)
    assert jnp.all(latents.std(axis=0) > 0.1)
    decoded = eqx.filter_jit(lambda m, x: jax.vmap(m.decode)(x))(model, latents)
    assert float(decoded.std(axis=0).mean()) > 0.1
