"""What all trainers share: the loop over epochs with checkpoints, the rule that ends it, and what is known of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm.auto import tqdm

from paeplatform.config import FitConfig, SbiFitConfig
from paeplatform.errors import CheckpointError, TrainingError
from paeplatform.model_files import read_state_bytes, write_state_bytes

CHECKPOINT_SHARE = 0.05  # writing checkpoints may take this share of the run


@dataclass(frozen=True)
class EpochRecord:
    """Losses of one epoch (counted from 1)."""

    epoch: int
    train_loss: float
    validation_loss: float
    learning_rate: float


@dataclass(frozen=True)
class FitOptions:
    """How a training is kept and shown; none of it changes the result.

    Attributes:
        checkpoint_dir: where the state is kept for a resume; None keeps none.
        progress: shows a bar.
        on_epoch: called after each new epoch (not for epochs restored from a checkpoint).
    """

    checkpoint_dir: Path | None = None
    progress: bool = True
    on_epoch: Callable[[EpochRecord], None] | None = None


@dataclass(frozen=True)
class FitResult:
    """Outcome of a training.

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


class Trainee(Protocol):
    """A model in training, with optimiser and data, as `run_epochs` drives it."""

    def epoch(self, number: int) -> EpochRecord:
        """Trains for one epoch, counted from 1, and evaluates the validation loss.

        Raises:
            TrainingError: a loss is not finite.
        """
        ...

    def keep_as_best(self) -> None:
        """Remembers the weights of now as the best so far."""
        ...

    def best_model(self) -> Any:
        """The model with its best weights."""
        ...

    def state(self) -> bytes:
        """All that a resume needs."""
        ...

    def restore(self, state: bytes) -> None:
        """Takes over what `state` gave.

        Raises:
            CheckpointError: it is of another model.
        """
        ...


def run_epochs(
    trainee: Trainee,
    cfg: FitConfig | SbiFitConfig,
    *,
    name: str,
    identity: Mapping[str, str],
    options: FitOptions,
) -> FitResult:
    """Trains until the epochs are done or the validation loss has stopped improving.

    Args:
        trainee: the model in training.
        cfg: when to stop: after `epochs`, or `patience` epochs without an improvement by `threshold`.
        name: of the model, in messages, progress bar and checkpoint file.
        identity: digests of all that decides the result; a checkpoint with other ones is not resumed from.
        options: checkpoints and progress.

    Raises:
        TrainingError: a loss was not finite.
    """
    started = last_write = time.monotonic()
    write_seconds = 0.0
    folder = options.checkpoint_dir
    path = None if folder is None else Path(folder) / f"{name}.ckpt"
    history, finished = _resume(path, identity, trainee, name, options.progress)
    resumed_from = len(history)
    bar = tqdm(total=cfg.epochs, initial=len(history), desc=name, unit="epoch", disable=not options.progress)
    while finished is None:
        record = trainee.epoch(len(history) + 1)
        if record.validation_loss < min((r.validation_loss for r in history), default=np.inf):
            trainee.keep_as_best()
        history.append(record)
        finished = stop_reason(history, cfg)
        due = time.monotonic() - last_write > write_seconds / CHECKPOINT_SHARE
        if path is not None and (finished or due):
            before = time.monotonic()
            header = {**identity, "finished": finished, "history": [asdict(r) for r in history]}
            write_state_bytes(path, header, trainee.state())
            last_write = time.monotonic()
            write_seconds = last_write - before
        if options.on_epoch is not None:
            options.on_epoch(record)
        bar.update()
        bar.set_postfix(train=f"{record.train_loss:.3e}", val=f"{record.validation_loss:.3e}")
    bar.close()
    best_epoch = min(history, key=lambda r: r.validation_loss).epoch
    seconds = time.monotonic() - started
    return FitResult(trainee.best_model(), tuple(history), best_epoch, finished, resumed_from, seconds)


def check_finite(
    name: str, epoch: int, losses: np.ndarray, validation_loss: float, rate: float, remedy: str
) -> None:
    """Refuses an epoch with a loss, of a step or of the validation, that is not finite.

    Raises:
        TrainingError: names model, epoch, step and learning rate, and says the remedy.
    """
    bad = np.flatnonzero(~np.isfinite(losses))
    if bad.size == 0 and np.isfinite(validation_loss):
        return
    where = f"step {bad[0] + 1} of {losses.size}" if bad.size else "the validation pass"
    raise TrainingError(
        f"{name}: loss is not finite in epoch {epoch}, {where} (learning rate {rate:.1e}); {remedy}"
    )


def stop_reason(history: Sequence[EpochRecord], cfg: FitConfig | SbiFitConfig) -> str | None:
    """ "patience", "epochs", or None while training goes on.

    The patience starts anew when the validation loss has fallen by more than `threshold` of its size.
    """
    reference, waited = np.inf, 0
    for record in history:
        least = cfg.threshold * abs(reference) if np.isfinite(reference) else 0.0  # improvement that counts
        if record.validation_loss < reference - least:
            reference, waited = record.validation_loss, 0
        else:
            waited += 1
    if waited >= cfg.patience:
        return "patience"
    return "epochs" if len(history) >= cfg.epochs else None


def _resume(
    path: Path | None, identity: Mapping[str, str], trainee: Trainee, name: str, progress: bool
) -> tuple[list[EpochRecord], str | None]:
    """History and stop reason of a checkpoint of the same training, whose state the trainee takes over; or nothing."""
    if path is None or not path.exists():
        return [], None
    try:
        header, state = read_state_bytes(path)
        changed = [what for what, digest in identity.items() if header.get(what) != digest]
        if changed:
            raise CheckpointError(f"{path} was written with other {' and '.join(changed)}")
        trainee.restore(state)
    except CheckpointError as error:
        if progress:
            tqdm.write(f"{name}: {error}; starting afresh")
        return [], None
    history = [EpochRecord(**record) for record in header["history"]]
    if progress:
        tqdm.write(f"{name}: resumed after epoch {len(history)} from {path}")
    return history, header["finished"]
