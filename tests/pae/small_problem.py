"""An autoencoder of a toy spectrum family that trains in seconds.

As a program (`python -m tests.pae.small_problem <folder>`) it trains with checkpoints in the folder and prints each
epoch, so that a test can kill it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from paeplatform.config import CompactNetConfig, FitConfig, PaeConfig, load_preset
from paeplatform.pae.training import EpochRecord, FitOptions, train_autoencoder

N_LATENT, EPOCHS, SEED = 3, 30, 5


def config(**fit: object) -> PaeConfig:
    demo = load_preset("demo").pae
    net = CompactNetConfig(encoder_widths=(24,), decoder_widths=(24,), n_components=8)
    settings = FitConfig(
        **{"learning_rate": 4e-3, "batch_size": 32, "epochs": EPOCHS, "threshold": 0.0, **fit}
    )
    return demo.model_copy(
        update={"autoencoder": demo.autoencoder.model_copy(update={"compact": net, "fit": settings})}
    )


def toy_spectra(n: int = 1200, seed: int = 0) -> np.ndarray:
    """(n, 50) positive spectra of mean 1: a power law, a break and a line, each of random strength."""
    rng = np.random.default_rng(seed)
    wave = np.linspace(0.1, 5.0, 50)
    slope, step, line = rng.uniform(-1.0, 0.5, n), rng.uniform(0.0, 1.0, n), rng.uniform(0.0, 2.0, n)
    spectra = wave ** slope[:, None] + step[:, None] * (wave > 0.4)
    spectra += line[:, None] * np.exp(-0.5 * ((wave - 2.0) / 0.15) ** 2)
    return (spectra / spectra.mean(axis=1, keepdims=True)).astype(np.float32)


def train(folder: Path | None, on_epoch: Callable[[EpochRecord], None] | None = None, **fit: object):
    return train_autoencoder(
        config(**fit),
        toy_spectra(),
        N_LATENT,
        seed=SEED,
        options=FitOptions(folder, progress=False, on_epoch=on_epoch),
    )


if __name__ == "__main__":

    def _report(record: EpochRecord) -> None:
        sys.stdout.write(f"{record.epoch}\n")
        sys.stdout.flush()
        time.sleep(0.2)  # room for the test to kill this process between two epochs

    train(Path(sys.argv[1]), on_epoch=_report)
