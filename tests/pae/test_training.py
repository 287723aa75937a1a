"""Training: it learns, stops, repeats itself to the byte, survives a kill, and says clearly what went wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from paeplatform.config import FitConfig
from paeplatform.errors import TrainingError
from paeplatform.model_files import read_state_bytes
from paeplatform.pae.training import (
    FitOptions,
    encode_spectra,
    fit,
    reconstruction_mse,
    split_indices,
    train_autoencoder,
)
from tests.pae.small_problem import EPOCHS, N_LATENT, SEED, config, toy_spectra, train

QUIET = FitOptions(progress=False)


def weights(model) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array))]


@pytest.fixture(scope="module")
def undisturbed():
    return train(None)


def test_training_learns_what_three_linear_components_cannot(undisturbed):
    model, result = undisturbed
    spectra = toy_spectra()
    train_rows, held_out = split_indices(len(spectra), 0.2, SEED)
    errors = reconstruction_mse(model, spectra[held_out])
    mean = spectra[train_rows].mean(axis=0)
    vectors = np.linalg.svd(spectra[train_rows] - mean, full_matrices=False)[2][:N_LATENT]
    residual = spectra[held_out] - mean
    linear = np.mean((residual - residual @ vectors.T @ vectors) ** 2)
    assert errors.shape == (len(held_out),)
    assert errors.mean() < 0.5 * linear
    assert result.history[-1].validation_loss < 0.5 * result.history[0].validation_loss
    assert result.best_epoch == 1 + int(np.argmin([r.validation_loss for r in result.history]))
    assert result.stopped == "epochs"
    assert len(result.history) == EPOCHS


def test_reported_errors_are_eq_8(undisturbed):
    model, _ = undisturbed
    spectra = toy_spectra(7, seed=9)
    rebuilt = jax.vmap(model.decode)(jnp.asarray(encode_spectra(model, spectra)))
    np.testing.assert_allclose(
        reconstruction_mse(model, spectra), np.mean((rebuilt - spectra) ** 2, axis=1), rtol=1e-3, atol=1e-9
    )


def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path, undisturbed, project_root: Path):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.pae.small_problem", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=project_root,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 4:
                break
    finally:
        process.kill()
        process.wait()
    (checkpoint,) = tmp_path.glob("*.ckpt")
    assert read_state_bytes(checkpoint)[0]["finished"] is None
    model, result = train(tmp_path)
    assert 1 <= result.resumed_from < EPOCHS
    assert weights(model) == weights(undisturbed[0])
    assert result.history == undisturbed[1].history
    # and once finished, asking again trains nothing
    called = []
    again, repeated = train(tmp_path, on_epoch=called.append)
    assert not called
    assert repeated.resumed_from == EPOCHS
    assert weights(again) == weights(model)


def test_checkpoint_of_other_settings_or_damaged_starts_afresh(tmp_path: Path):
    first, _ = train(tmp_path, epochs=2)
    (checkpoint,) = tmp_path.glob("*.ckpt")
    content = checkpoint.read_bytes()
    assert train(tmp_path, epochs=1)[1].resumed_from == 0
    checkpoint.write_bytes(content[:-100])
    model, result = train(tmp_path, epochs=2)
    assert result.resumed_from == 0
    assert weights(model) == weights(first)


def test_early_stopping_returns_the_best_weights():
    """A loss whose minimum the oversized steps jump over: validation stops improving at once."""

    def loss(model, batch, key):
        return jnp.mean((model.weight[0, 0] - batch[:, 0]) ** 2)

    model = eqx.nn.Linear(1, 1, key=jr.key(0))
    model = eqx.tree_at(lambda m: m.weight, model, jnp.full((1, 1), 0.9))
    rows = np.ones((40, 1), np.float32)
    cfg = FitConfig(
        learning_rate=0.2,
        batch_size=40,
        epochs=50,
        schedule="exponential",
        decay_rate=0.999,
        patience=4,
        threshold=1e-3,
    )
    result = fit(model, rows, loss, cfg, key=jr.key(1), name="toy", validation=rows, options=QUIET)
    losses = [r.validation_loss for r in result.history]
    assert result.stopped == "patience"
    assert len(losses) < 50
    assert result.best_epoch == 1 + int(np.argmin(losses))
    assert float(loss(result.model, jnp.asarray(rows), None)) == pytest.approx(min(losses), rel=1e-5)


def test_validation_loss_weighs_every_row_alike():
    """2,500 rows do not divide into whole batches."""

    def loss(model, batch, key):
        return jnp.mean(batch) + 0.0 * model.weight[0, 0]

    rows = np.random.default_rng(0).normal(5.0, 1.0, (2500, 1)).astype(np.float32)
    rows[-1] = 1000.0
    cfg = FitConfig(learning_rate=1e-3, batch_size=64, epochs=1)
    model = eqx.nn.Linear(1, 1, key=jr.key(0))
    result = fit(model, rows, loss, cfg, key=jr.key(1), name="toy", validation=rows, options=QUIET)
    assert result.history[0].validation_loss == pytest.approx(rows.mean(dtype=np.float64), rel=1e-5)


def test_every_epoch_is_reported_once():
    seen = []
    _, result = train(None, on_epoch=seen.append, epochs=3)
    assert [r.epoch for r in seen] == [1, 2, 3]
    assert tuple(seen) == result.history
    assert all(r.learning_rate > 0 for r in seen)


def test_divergence_names_model_epoch_and_step():
    def loss(model, batch, key):
        return jnp.mean(jnp.where(jnp.any(batch > 9.0), jnp.nan, 1.0) * model.weight**2)

    rows = np.ones((32, 1), np.float32)
    rows[3] = 10.0
    model = eqx.nn.Linear(1, 1, key=jr.key(0))
    cfg = FitConfig(learning_rate=1e-3, batch_size=8, epochs=2)
    with pytest.raises(TrainingError, match=r"toy: loss is not finite in epoch 1, step [1-4] of 4") as caught:
        fit(model, rows, loss, cfg, key=jr.key(1), name="toy", validation=rows[:1], options=QUIET)
    assert "learning_rate" in str(caught.value)


def test_non_finite_spectra_are_refused_before_training():
    spectra = toy_spectra(50)
    spectra[17, 3] = np.nan
    with pytest.raises(TrainingError, match="1 of 50 rows are not finite, the first is row 17"):
        train_autoencoder(config(), spectra, N_LATENT, seed=0, options=QUIET)


def test_split_is_seeded_and_complete():
    train_rows, held_out = split_indices(101, 0.2, 3)
    assert len(held_out) == 20
    np.testing.assert_array_equal(np.sort(np.concatenate([train_rows, held_out])), np.arange(101))
    np.testing.assert_array_equal(split_indices(101, 0.2, 3)[1], held_out)
    assert not np.array_equal(split_indices(101, 0.2, 4)[1], held_out)
    with pytest.raises(TrainingError, match="cannot be split"):
        split_indices(2, 0.1, 0)
