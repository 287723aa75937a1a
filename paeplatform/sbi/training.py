"""Training of the network (paper section VII): the negative log-likelihood of the true redshift, noise drawn afresh.

All randomness of an epoch comes from (seed, epoch), so a run that is killed and resumed ends in the same bytes as one
that was not, on the same device with the same number of threads.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from paeplatform.catalog.streams import Stream, stream_rng
from paeplatform.config import SbiConfig
from paeplatform.errors import CheckpointError, TrainingError
from paeplatform.fit_record import EpochRecord, FitOptions, FitResult, check_finite, run_epochs
from paeplatform.model_files import array_digest
from paeplatform.sbi.bank import SeenWeight, TrainingBank, sampling_weights, seen_weight
from paeplatform.sbi.checkpoint import tensor_bytes, tensors_from
from paeplatform.sbi.domain import trained_range
from paeplatform.sbi.features import total_snr
from paeplatform.sbi.model import SbiModel, build_model, choose_device
from paeplatform.sbi.noise import Photometry, observe

NAME = "sbi"
GRADIENT_CLIP = 1.0  # global norm: a source far outside a narrow p(z) is worth hundreds of nats
WARMUP_FRACTION = 0.02
FINAL_LEARNING_RATE = 1e-3  # of the first one, at the end of the cosine
VALIDATION_BATCH = 2048
SEEN_SAMPLE = 20_000
VALIDATION_EPOCH = 2**31 - 1  # its noise is always the same
REMEDY = "check the bank for non-finite rows, or lower sbi.fit.learning_rate"  # for a loss that is not finite


def train_sbi(
    bank: TrainingBank,
    depth: np.ndarray,
    cfg: SbiConfig,
    *,
    z_limits: tuple[float, float],
    seed: int,
    options: FitOptions = FitOptions(),
) -> FitResult:
    """Trains until the epochs are done or the validation loss has stopped improving.

    Held out are all copies of some sources, a `fit.validation_fraction` of them.

    Args:
        bank: noiseless photometry.
        depth: (band,) 1 sigma [uJy].
        cfg: network, noise, sampling and schedule.
        z_limits: (z_min, z_max) that p(z) is confined to.
        seed: of weights, order and noise.
        options: checkpoints and progress.

    Returns:
        The record; its model is the `SbiModel` of the best epoch, on the CPU, with its `trained_range`.

    Raises:
        TrainingError: a loss was not finite, or there are too few sources.
    """
    device = choose_device(cfg.device)
    model = build_model(cfg, depth, z_limits, seed=seed).to(device)
    train, held_out = split_by_source(bank.source_id, cfg.fit.validation_fraction, seed)
    run = _Run(model, bank, train, held_out, cfg, seed, device)
    identity = {
        "config": _config_digest(cfg, seed, z_limits),
        "data": array_digest(bank.flux, bank.z, bank.source_id, np.asarray(depth)),
    }
    result = run_epochs(run, cfg.fit, name=NAME, identity=identity, options=options)
    result.model.trained_range = trained_range(result.model, run.photometry(held_out, VALIDATION_EPOCH))
    return result


def split_by_source(source_id: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and held out, both ascending; copies of a source are all on one side.

    Raises:
        TrainingError: either part would be empty.
    """
    sources = np.unique(source_id)
    n_held_out = round(len(sources) * fraction)
    if n_held_out < 1 or n_held_out >= len(sources):
        raise TrainingError(
            f"{NAME}: {len(sources)} sources cannot be split with a held-out fraction of {fraction}"
        )
    chosen = np.random.default_rng(seed).permutation(sources)[:n_held_out]
    held_out = np.isin(source_id, chosen)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """The source of all randomness of an epoch."""
    return torch.Generator().manual_seed(int(stream_rng(seed, Stream.SBI_TRAINING, epoch).integers(2**62)))


class _Run:
    """State of a training: network, optimiser, best weights, and the bank as tensors."""

    def __init__(
        self,
        model: SbiModel,
        bank: TrainingBank,
        train: np.ndarray,
        held_out: np.ndarray,
        cfg: SbiConfig,
        seed: int,
        device: torch.device,
    ) -> None:
        self._model, self._cfg, self._seed, self._device = model, cfg, seed, device
        self._flux, self._x = torch.as_tensor(bank.flux), torch.log1p(torch.as_tensor(bank.z))
        self._depth = model.depth.detach().cpu()
        self._train, self._held_out = torch.as_tensor(train), held_out
        weight = sampling_weights(bank.mag_z[train], cfg.bank.brightness)
        self._weight = None if weight is None else torch.as_tensor(weight)
        self._seen_weight = self._learn_seen_weight(train, weight)
        self._batch = min(cfg.fit.batch_size, len(train))
        self._n_steps = len(train) // self._batch
        self._optimiser = torch.optim.AdamW(
            model.parameters(), lr=cfg.fit.learning_rate, weight_decay=cfg.fit.weight_decay, foreach=True
        )
        self.keep_as_best()
        compiled = device.type == "cuda"
        self._loss: Callable[[Photometry, Tensor], Tensor] = torch.compile(model) if compiled else model

    def epoch(self, number: int) -> EpochRecord:
        """One pass, then the validation loss."""
        generator = epoch_generator(self._seed, number)
        rows, drawn_with = self._draw(generator)
        losses = np.empty(self._n_steps)
        self._model.train()
        rate = 0.0
        for step in range(self._n_steps):
            rate = self._set_rate((number - 1) * self._n_steps + step)
            part = slice(step * self._batch, (step + 1) * self._batch)
            seen = observe(self._flux[rows[part]], self._depth, self._cfg.bank, generator)
            loss = self._losses(seen, rows[part])
            if self._seen_weight is not None and drawn_with is not None:
                wanted = torch.as_tensor(self._seen_weight(torch.log(total_snr(seen)).numpy()))
                loss = loss * (wanted / drawn_with[part]).float().to(self._device)
            loss = loss.mean()
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), GRADIENT_CLIP)
            self._optimiser.step()
            losses[step] = loss.item()
        validation = self._validation_loss()
        check_finite(NAME, number, losses, validation, rate, REMEDY)
        return EpochRecord(number, float(losses.mean()), validation, rate)

    def photometry(self, rows: np.ndarray, epoch: int) -> Photometry:
        """Noisy photometry of rows of the bank, on the CPU."""
        generator = epoch_generator(self._seed, epoch)
        return observe(self._flux[torch.as_tensor(rows)], self._depth, self._cfg.bank, generator)

    def keep_as_best(self) -> None:
        """The weights of now are the best so far."""
        self._best = {name: value.detach().clone() for name, value in self._model.state_dict().items()}

    def best_model(self) -> SbiModel:
        """The network with its best weights, on the CPU."""
        self._model.load_state_dict(self._best)
        return self._model.cpu().eval()

    def state(self) -> bytes:
        """Weights and optimiser."""
        tensors = {f"now.{name}": value for name, value in self._model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self._best.items()}
        for index, slots in self._optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": torch.as_tensor(value) for name, value in slots.items()}
        return tensor_bytes(tensors)

    def restore(self, state: bytes) -> None:
        """Takes over what `state` gave.

        Raises:
            CheckpointError: of another network.
        """
        tensors = tensors_from(state, "checkpoint")
        now = {name[4:]: value for name, value in tensors.items() if name.startswith("now.")}
        best = {name[5:]: value for name, value in tensors.items() if name.startswith("best.")}
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("adam."):
                _, index, slot = name.split(".")
                slots.setdefault(int(index), {})[slot] = value
        try:
            self._model.load_state_dict(now)
            self._best = {name: best[name].to(self._device) for name in now}
            groups = self._optimiser.state_dict()["param_groups"]
            self._optimiser.load_state_dict({"state": slots, "param_groups": groups})
        except (RuntimeError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"layout differs from the network ({str(error).splitlines()[0]})"
            ) from error

    def _draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """(rows of the bank, the weights they were drawn with) of an epoch."""
        n = len(self._train)
        if self._weight is None:
            return self._train[torch.randperm(n, generator=generator)], None
        drawn = torch.multinomial(self._weight, n, replacement=True, generator=generator)
        return self._train[drawn], self._weight[drawn]

    def _learn_seen_weight(self, train: np.ndarray, weight: np.ndarray | None) -> SeenWeight | None:
        if weight is None or not self._cfg.bank.correct_density:
            return None
        some = np.linspace(0, len(train) - 1, min(len(train), SEEN_SAMPLE)).astype(int)
        snr = total_snr(self.photometry(train[some], VALIDATION_EPOCH))
        return seen_weight(np.log(snr.numpy()), weight[some])

    def _losses(self, seen: Photometry, rows: Tensor) -> Tensor:
        there = Photometry(*(part.to(self._device) for part in seen))
        return -self._loss(there, self._x[rows].to(self._device))

    @torch.no_grad()
    def _validation_loss(self) -> float:
        self._model.eval()
        seen = self.photometry(self._held_out, VALIDATION_EPOCH)
        total, rows = 0.0, torch.as_tensor(self._held_out)
        for low in range(0, len(rows), VALIDATION_BATCH):
            part = slice(low, low + VALIDATION_BATCH)
            total += float(self._losses(Photometry(*(one[part] for one in seen)), rows[part]).double().sum())
        return total / len(rows)

    def _set_rate(self, step: int) -> float:
        cfg, total = self._cfg.fit, self._cfg.fit.epochs * self._n_steps
        rate = cfg.learning_rate
        if cfg.schedule == "cosine":
            warmup = max(1, int(WARMUP_FRACTION * total))
            fall = min(max((step - warmup) / max(total - warmup, 1), 0.0), 1.0)
            shape = FINAL_LEARNING_RATE + (1.0 - FINAL_LEARNING_RATE) * 0.5 * (1.0 + math.cos(math.pi * fall))
            rate *= min((step + 1) / warmup, 1.0) * shape
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        return rate


def _config_digest(cfg: SbiConfig, seed: int, z_limits: tuple[float, float]) -> str:
    parts = cfg.model_dump(mode="json", include={"encoder", "head", "bank", "fit"})
    text = json.dumps([parts, seed, list(map(float, z_limits)), torch.__version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
