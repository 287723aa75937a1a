"""What is known of a training: its epochs, how it ended, and the rule that ends it. Common to all trainers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class EpochRecord:
    """Losses of one epoch (counted from 1)."""

    epoch: int
    train_loss: float
    validation_loss: float
    learning_rate: float


@dataclass(frozen=True)
class FitResult:
    """Outcome of `fit`.

    Attributes:
        model: with the weights of the best epoch.
        history: one record an epoch.
        best_epoch: counted from 1.
        stopped: "patience" or "epochs".
        resumed_from: epoch of the checkpoint continued from, 0 for a fresh run.
        seconds: wall time of this call.
    """

    model: Any
    history: tuple[EpochRecord, ...]
    best_epoch: int
    stopped: str
    resumed_from: int
    seconds: float


class StopRule(Protocol):
    """The settings that end a training."""

    @property
    def epochs(self) -> int:
        """At most so many."""
        ...

    @property
    def patience(self) -> int:
        """Epochs without improvement."""
        ...

    @property
    def threshold(self) -> float:
        """Relative improvement that counts."""
        ...


def stop_reason(history: Sequence[EpochRecord], cfg: StopRule) -> str | None:
    """ "patience", "epochs", or None while training goes on.

    The patience starts anew when the validation loss has fallen by more than `threshold` of its size.
    """
    reference, waited = np.inf, 0
    for record in history:
        if record.validation_loss < reference - cfg.threshold * abs(
            reference if np.isfinite(reference) else 0.0
        ):
            reference, waited = record.validation_loss, 0
        else:
            waited += 1
    if waited >= cfg.patience:
        return "patience"
    return "epochs" if len(history) >= cfg.epochs else None
