"""Features, tokens, masks, and the sizes of the paper's network."""

import numpy as np
import pytest
import torch

from paeplatform.config import load_preset
from paeplatform.errors import ConfigError
from paeplatform.instrument.bands import load_bands
from paeplatform.sbi.encoder import Encoder
from paeplatform.sbi.model import build_model, choose_device, n_parameters
from paeplatform.sbi.noise import as_photometry, observe
from tests.sbi.small import DEPTH, N_BAND, fresh_model, noisy, random_bank, small_config


def photometry(flux_err: np.ndarray | None = None):
    flux, error = noisy(random_bank(20))
    return as_photometry(torch.as_tensor(flux), torch.as_tensor(error if flux_err is None else flux_err))


def test_tokens_are_windows_over_all_bands() -> None:
    features = fresh_model().encoder.features
    channels = torch.arange(2.0 * N_BAND).reshape(1, 2, N_BAND)
    tokens = features.tokens(channels)
    assert tokens.shape == (1, features.n_token, 20)
    assert features.n_token == 3  # bands 0-9, 5-14, 10-19, of which 17 exist
    np.testing.assert_array_equal(tokens[0, 1, :10], np.arange(5, 15))
    np.testing.assert_array_equal(tokens[0, 2, 10:], [*range(N_BAND + 10, 2 * N_BAND), 0, 0, 0])


@pytest.mark.parametrize("kind", ["scale_free", "paper"])
def test_values_of_masked_bands_do_not_matter(kind: str) -> None:
    model = fresh_model(small_config(encoder={"features": kind}))
    flux, error = noisy(random_bank(20))
    error[:, 3], error[:, 7], error[:, 9], error[:, 14:] = np.inf, np.nan, 0.0, -1.0
    other = flux.copy()
    other[:, [3, 7, 9]], other[:, 14:] = 1e9, np.nan
    with torch.no_grad():
        first, second = (
            model.context(as_photometry(torch.as_tensor(f), torch.as_tensor(error))) for f in (flux, other)
        )
    assert torch.isfinite(first).all()
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_a_source_answers_the_same_beside_one_with_empty_tokens() -> None:
    model = fresh_model()
    seen = photometry()
    flux, error = noisy(random_bank(20))
    error[10:, :10] = np.inf  # the first token is empty for half of them
    mixed = as_photometry(torch.as_tensor(flux), torch.as_tensor(error))
    with torch.no_grad():
        torch.testing.assert_close(model.context(seen)[:10], model.context(mixed)[:10], rtol=1e-5, atol=1e-6)
        changed = model.context(mixed)[10:] - model.context(seen)[10:]
    assert changed.abs().max() > 1e-3


def test_scale_free_channels_do_not_change_with_brightness() -> None:
    features = fresh_model().encoder.features
    flux = torch.as_tensor(random_bank(20).flux)
    error = torch.as_tensor(DEPTH).float().expand_as(flux)
    (faint, faint_whole), (bright, bright_whole) = (
        features(as_photometry(scale * flux, error)) for scale in (1.0, 50.0)
    )
    torch.testing.assert_close(faint[:, 0], bright[:, 0])
    torch.testing.assert_close(
        bright_whole[:, 0] - faint_whole[:, 0], torch.full((20,), np.log(50.0)).float()
    )


def test_noise_has_the_errors_it_states_and_masks_what_it_says() -> None:
    cfg = small_config(bank={"mask_probability": 1.0, "mask_fraction_max": 0.5}).bank
    seen = observe(
        torch.zeros(20000, N_BAND), torch.as_tensor(DEPTH).float(), cfg, torch.Generator().manual_seed(2)
    )
    used = seen.used.bool()
    whitened = (seen.flux / seen.flux_err)[used]
    assert whitened.std() == pytest.approx(1.0, abs=0.01)
    assert used.float().mean() == pytest.approx(0.75, abs=0.01)  # a share uniform up to 0.5 is lost
    assert (
        seen.used.sum(1).std() > 2.0
    )  # of varying fraction: a fixed one would give sqrt(17/4) = 1.8 at most
    ratio = torch.log(seen.flux_err / torch.as_tensor(DEPTH).float())[used]
    assert 0.0 < ratio.mean() < 0.1  # lost exposures make errors larger


def test_the_papers_network_has_its_size_and_takes_a_step() -> None:
    preset, bands = load_preset("paper"), load_bands()
    model = build_model(preset.sbi, bands.depth("mev"), (0.003, 3.0), seed=1)
    assert n_parameters(model) == pytest.approx(6.1e6, rel=0.02)
    encoder, head = model.encoder, model.head
    assert (len(encoder.layers), encoder.cls.shape[-1], len(head.steps)) == (6, 256, 8)
    assert encoder.embed.in_features == 20 and encoder.overview is None  # ten bands of flux and uncertainty
    rng = np.random.default_rng(0)
    flux = torch.as_tensor(rng.normal(20.0, 5.0, (8, len(bands)))).float()
    seen = as_photometry(flux, model.depth.expand_as(flux))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5)
    x = torch.linspace(0.1, 1.0, 8)
    before = -model(seen, x).mean()
    before.backward()
    optimiser.step()
    after = -model(seen, x).mean()
    assert torch.isfinite(before) and after < before


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    first = build_model(small_config(), DEPTH, (0.01, 3.0), seed=7)
    torch.manual_seed(6)
    second = build_model(small_config(), DEPTH, (0.01, 3.0), seed=7)
    for name, value in first.state_dict().items():
        torch.testing.assert_close(value, second.state_dict()[name], rtol=0, atol=0)


def test_faults_are_named_before_work_starts() -> None:
    with pytest.raises(ConfigError, match="token_width 10 exceeds the 5 bands"):
        build_model(small_config(), DEPTH[:5], (0.01, 3.0), seed=1)
    with pytest.raises(ConfigError, match="z_limits"):
        build_model(small_config(), DEPTH, (3.0, 0.01), seed=1)
    with pytest.raises(ConfigError, match="depth"):
        build_model(small_config(), DEPTH * np.nan, (0.01, 3.0), seed=1)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA device"):
            choose_device("cuda")


def test_encoder_reads_wavelengths_in_order() -> None:
    """Positions are learnt: swapping two tokens' worth of bands changes the context."""
    model = fresh_model(small_config(encoder={"global_widths": ()}))
    assert isinstance(model.encoder, Encoder)
    flux, error = noisy(random_bank(20))
    with torch.no_grad():
        straight, turned = (
            model.context(as_photometry(torch.as_tensor(f), torch.as_tensor(error)))
            for f in (flux, flux[:, ::-1].copy())
        )
    assert (straight - turned).abs().max() > 1e-4
