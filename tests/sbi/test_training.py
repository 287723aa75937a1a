"""Training: closed-form posteriors are recovered, a kill changes nothing, sampling weights do what they say."""

import dataclasses

import numpy as np
import pytest
import torch

from paeplatform.errors import TrainingError
from paeplatform.fit_record import FitOptions
from paeplatform.model_files import read_state_bytes
from paeplatform.sbi.bank import TrainingBank, brightness_bins, sampling_weights, seen_weight
from paeplatform.sbi.inference import at_redshift, density_curves
from paeplatform.sbi.training import NAME, split_by_source, train_sbi
from tests.sbi.small import DEPTH, N_BAND, QUIET, Z_LIMITS, random_bank, small_config

LOW, HIGH = np.log1p(Z_LIMITS[0]), np.log1p(Z_LIMITS[1])


def train(bank: TrainingBank, cfg, **kwargs):
    options = FitOptions(progress=False, **kwargs)
    return train_sbi(bank, DEPTH, cfg, z_limits=Z_LIMITS, seed=11, options=options)


def same_weights(first, second) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def fluxes(x: np.ndarray) -> np.ndarray:
    """Nearly even in the distance from the middle: two redshifts explain a source about equally well."""
    offset = (x - 0.5 * (LOW + HIGH)) / (HIGH - LOW)
    even = np.outer(offset**2, np.linspace(10.0, 20.0, N_BAND))
    return even + 0.25 * offset[:, None] * np.cos(np.arange(N_BAND)) + 2.0


@pytest.fixture(scope="module")
def two_sided():
    """(network, noisy fluxes, exact posterior CDF on a grid) of sources uniform in ln(1+z)."""
    rng = np.random.default_rng(1)
    x = rng.uniform(LOW, HIGH, 20000)
    bank = TrainingBank(
        fluxes(x).astype(np.float32),
        np.expm1(x).astype(np.float32),
        np.zeros(len(x), np.float32),
        np.arange(len(x)),
    )
    cfg = small_config(bank=QUIET.model_dump(), fit={"epochs": 8, "batch_size": 128, "learning_rate": 4e-3})
    model = train(bank, cfg).model
    test_x = rng.uniform(LOW, HIGH, 400)
    flux = fluxes(test_x) + DEPTH * rng.standard_normal((400, N_BAND))
    grid = np.linspace(LOW, HIGH, 4001)
    chi2 = (((flux[:, None] - fluxes(grid)[None]) / DEPTH) ** 2).sum(2)
    density = np.exp(-0.5 * (chi2 - chi2.min(axis=1, keepdims=True)))
    cdf = np.cumsum(density, axis=1)
    return model, flux, test_x, grid, cdf / cdf[:, -1:]


def test_a_bimodal_posterior_known_in_closed_form_is_recovered(two_sided) -> None:
    model, flux, _, grid, exact = two_sided
    curves = density_curves(model, flux, np.broadcast_to(DEPTH, flux.shape))
    found = np.stack([np.interp(np.expm1(grid), z, c) for z, c in zip(curves.z, curves.cdf, strict=True)])
    distance = np.abs(found - exact).max(axis=1)
    assert np.median(distance) < 0.06
    assert np.quantile(distance, 0.9) < 0.15
    middle = np.searchsorted(grid, 0.5 * (LOW + HIGH))
    two = (exact[:, middle] > 0.2) & (exact[:, middle] < 0.8)
    assert two.mean() > 0.3, "the problem must have two-sided sources"
    assert np.abs(found[two, middle] - exact[two, middle]).mean() < 0.06


def test_ranks_of_the_truth_are_uniform(two_sided) -> None:
    model, flux, test_x, _, _ = two_sided
    place, log_prob = at_redshift(model, flux, np.broadcast_to(DEPTH, flux.shape), np.expm1(test_x))
    assert np.isfinite(log_prob).all()
    rank = np.sort(place)
    assert np.abs(rank - (np.arange(len(rank)) + 0.5) / len(rank)).max() < 0.1  # 1.6/sqrt(400) = 0.08 at 1 %


def test_a_killed_training_ends_in_the_same_bytes(tmp_path) -> None:
    bank, cfg = random_bank(), small_config(fit={"epochs": 4})
    whole = train(bank, cfg)

    class Killed(Exception):
        pass

    def kill(record) -> None:
        if record.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        train(bank, cfg, checkpoint_dir=tmp_path, on_epoch=kill)
    assert len(read_state_bytes(tmp_path / f"{NAME}.ckpt")[0]["history"]) in (1, 2)
    epochs = []
    resumed = train(bank, cfg, checkpoint_dir=tmp_path, on_epoch=lambda record: epochs.append(record.epoch))
    assert resumed.resumed_from >= 1 and epochs[0] == resumed.resumed_from + 1
    assert same_weights(whole.model, resumed.model)
    assert whole.history == resumed.history
    again = train(bank, cfg, checkpoint_dir=tmp_path)
    assert again.resumed_from == 4 and same_weights(whole.model, again.model)


@pytest.mark.parametrize("spoil", ["truncated", "other data", "other settings"])
def test_a_checkpoint_that_does_not_fit_is_left(tmp_path, spoil: str) -> None:
    bank, cfg = random_bank(), small_config(fit={"epochs": 1})
    train(bank, cfg, checkpoint_dir=tmp_path)
    path = tmp_path / f"{NAME}.ckpt"
    if spoil == "truncated":
        path.write_bytes(path.read_bytes()[:-10])
    elif spoil == "other data":
        bank = dataclasses.replace(bank, z=bank.z + np.float32(0.001))
    else:
        cfg = small_config(fit={"epochs": 1, "learning_rate": 1e-3})
    fit = train(bank, cfg, checkpoint_dir=tmp_path)
    assert fit.resumed_from == 0
    assert same_weights(fit.model, train(bank, cfg).model)


def test_training_lowers_the_loss_and_keeps_the_best_epoch() -> None:
    fit = train(random_bank(), small_config(fit={"epochs": 6}))
    losses = [record.validation_loss for record in fit.history]
    assert min(losses) < losses[0] - 0.3
    assert losses[fit.best_epoch - 1] == min(losses)


def test_training_stops_when_nothing_improves() -> None:
    cfg = small_config(fit={"epochs": 30, "patience": 2, "threshold": 0.5, "learning_rate": 1e-6})
    fit = train(random_bank(), cfg)
    assert fit.stopped == "patience" and len(fit.history) == 3


def test_copies_of_a_source_are_on_one_side() -> None:
    bank = random_bank()
    train_rows, held_out = split_by_source(bank.source_id, 0.2, 3)
    assert not set(bank.source_id[train_rows]) & set(bank.source_id[held_out])
    assert len(train_rows) + len(held_out) == len(bank)
    assert len(set(bank.source_id[held_out])) == 20
    with pytest.raises(TrainingError, match="cannot be split"):
        split_by_source(np.zeros(10, int), 0.2, 3)


def test_brightness_sampling_follows_the_paper() -> None:
    mag = np.random.default_rng(0).uniform(18.0, 22.5, 1000)
    bins = brightness_bins(mag)
    np.testing.assert_array_equal(np.bincount(bins)[1:], 200)  # quintiles
    assert mag[bins == 5].max() < mag[bins == 4].min()  # 5 is the brightest
    assert sampling_weights(mag, "catalog") is None and sampling_weights(mag, "flat") is None
    weight = sampling_weights(mag, "importance")
    assert weight is not None and weight.mean() == pytest.approx(1.0)
    share = np.array([weight[bins == b].sum() for b in range(1, 6)])
    np.testing.assert_allclose(share / share[0], np.arange(1, 6) ** 2)


def test_weights_in_the_loss_undo_the_sampling() -> None:
    """Drawn more often, the bright weigh less in the loss: p(z) is the catalogue's all the same."""
    rng = np.random.default_rng(4)
    n = 4000
    bright = rng.random(n) < 0.2
    x = np.where(bright, rng.uniform(LOW, LOW + 0.3, n), rng.uniform(LOW + 0.3, HIGH, n))
    bank = TrainingBank(  # no signal at all: the network can only learn how often each redshift occurs
        np.zeros((n, N_BAND), np.float32),
        np.expm1(x).astype(np.float32),
        np.where(bright, 18.0, 22.0).astype(np.float32),
        np.arange(n),
    )
    bright_share = {}
    for correct in (True, False):
        bank_cfg = QUIET.model_dump() | {"brightness": "importance", "correct_density": correct}
        model = train(bank, small_config(bank=bank_cfg, fit={"epochs": 4})).model
        place, _ = at_redshift(model, np.zeros((1, N_BAND)), DEPTH[None], np.expm1(np.array([LOW + 0.3])))
        bright_share[correct] = place[0]
    assert bright_share[True] == pytest.approx(0.2, abs=0.05)
    assert bright_share[False] == pytest.approx(25 / 55, abs=0.07)  # of b^2 = 1, 4, 9, 16, 25


def test_the_weight_by_observed_brightness_is_the_mean_of_what_was_drawn_with() -> None:
    rng = np.random.default_rng(0)
    ln_snr, noise = rng.uniform(1.0, 5.0, 20000), rng.standard_normal(20000)
    seen = seen_weight(ln_snr, 2.0 * ln_snr + noise)
    at = np.array([1.5, 3.0, 4.5])
    np.testing.assert_allclose(seen(at), 2.0 * at, atol=0.1)


def test_a_loss_that_is_not_finite_is_named() -> None:
    bank = random_bank()
    bank.flux[:] = np.float32(np.inf)
    with pytest.raises(TrainingError, match=r"sbi: loss is not finite in epoch 1"):
        train(bank, small_config())
