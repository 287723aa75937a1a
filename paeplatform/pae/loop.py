"""The training loop shared by autoencoder and flow.

One jitted call runs an epoch: a `lax.scan` over shuffled batches of data that stay on the device. All randomness is
`fold_in(key, epoch)`, so a run that is killed and resumed ends in the same bytes as one that was not.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray
from tqdm.auto import tqdm

from paeplatform.config import FitConfig
from paeplatform.errors import CheckpointError, TrainingError
from paeplatform.fit_record import EpochRecord, FitResult, stop_reason
from paeplatform.pae.checkpoint import array_digest, read_header, read_state, write_state

GRADIENT_CLIP = 1.0  # global norm; quiet in healthy training, tames the few spectra with extreme lines
WARMUP_FRACTION = 0.02  # of the steps, for the cosine schedule
FINAL_LEARNING_RATE = 1e-3  # of the initial one, at the end of the cosine
VALIDATION_BATCH = 1024
CHECKPOINT_SHARE = 0.05  # writing checkpoints may take this share of the run

LossFn = Callable[[Any, Float[Array, "batch column"], PRNGKeyArray], Float[Array, ""]]


def split_indices(n: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Seeded split into training and held-out rows, both sorted.

    Args:
        n: number of rows.
        fraction: held out.
        seed: of the permutation.

    Raises:
        TrainingError: either part would be empty.
    """
    n_held_out = round(n * fraction)
    if n_held_out < 1 or n_held_out >= n:
        raise TrainingError(f"{n} rows cannot be split with a held-out fraction of {fraction}")
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])


def fit(
    model: Any,
    data: np.ndarray,
    loss_fn: LossFn,
    cfg: FitConfig,
    *,
    key: PRNGKeyArray,
    name: str,
    validation: np.ndarray,
    checkpoint_dir: Path | None = None,
    progress: bool = True,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> FitResult:
    """Trains with Adam until the epochs are done or the validation loss has stopped improving.

    Args:
        model: equinox module; every inexact array leaf is trained (constants inside use stop_gradient).
        data: (n, d) training rows.
        loss_fn: mean loss of (model, batch, key).
        cfg: schedule, batch, epochs and patience.
        key: source of all randomness.
        name: of the model, in messages, progress bar and checkpoint file.
        validation: (m, d) held-out rows; their loss is evaluated with one fixed key.
        checkpoint_dir: where the state is kept for a resume; None keeps none.
        progress: show a bar.
        on_epoch: called after each new epoch (not for epochs restored from a checkpoint).

    Raises:
        TrainingError: a loss was not finite (names model, epoch, step), or there are fewer rows than one batch needs.
    """
    started = time.monotonic()
    batch = min(cfg.batch_size, len(data))
    if batch < 1 or len(validation) < 1:
        raise TrainingError(f"{name}: needs at least one training and one validation row")
    n_steps = len(data) // batch
    schedule = _schedule(cfg, n_steps)
    optimiser = optax.chain(optax.clip_by_global_norm(GRADIENT_CLIP), optax.adam(schedule))
    params, static = eqx.partition(model, eqx.is_inexact_array)
    state = (params, params, optimiser.init(params))  # current weights, best weights, optimiser
    history: list[EpochRecord] = []

    identity = {"config": _config_digest(cfg, key, params), "data": array_digest(data, validation)}
    path = None if checkpoint_dir is None else Path(checkpoint_dir) / f"{name}.ckpt"
    state, history, finished = _resume(path, identity, state, name, progress)
    resumed_from = len(history)

    if finished is None:
        run_epoch = _epoch_function(static, loss_fn, optimiser, key, batch, n_steps)
        evaluate = _evaluation_function(static, loss_fn, jr.fold_in(key, 2**31 - 1))
        train_rows, validation_rows = jnp.asarray(data), jnp.asarray(validation)
        last_write, write_seconds = started, 0.0
        bar = tqdm(total=cfg.epochs, initial=len(history), desc=name, unit="epoch", disable=not progress)
        while finished is None:
            params, best, opt_state = state
            epoch = len(history) + 1
            params, opt_state, losses = run_epoch(params, opt_state, train_rows, epoch)
            validation_loss = float(evaluate(params, validation_rows))
            _check_finite(
                np.asarray(losses), validation_loss, name, epoch, float(schedule((epoch - 1) * n_steps))
            )
            record = EpochRecord(
                epoch, float(losses.mean()), validation_loss, float(schedule(epoch * n_steps - 1))
            )
            if validation_loss < min((r.validation_loss for r in history), default=np.inf):
                best = params
            state = (params, best, opt_state)
            history.append(record)
            finished = stop_reason(history, cfg)
            due = time.monotonic() - last_write > write_seconds / CHECKPOINT_SHARE
            if path is not None and (finished or due):
                before = time.monotonic()
                write_state(
                    path, {**identity, "finished": finished, "history": [asdict(r) for r in history]}, state
                )
                last_write = time.monotonic()
                write_seconds = last_write - before
            if on_epoch is not None:
                on_epoch(record)
            bar.update()
            bar.set_postfix(train=f"{record.train_loss:.3e}", val=f"{validation_loss:.3e}")
        bar.close()

    best_epoch = min(history, key=lambda r: r.validation_loss).epoch
    best_model = eqx.combine(state[1], static)
    return FitResult(
        best_model, tuple(history), best_epoch, finished, resumed_from, time.monotonic() - started
    )


def _epoch_function(
    static: Any, loss_fn: LossFn, optimiser: Any, key: PRNGKeyArray, batch: int, n_steps: int
) -> Any:
    def loss(params: Any, rows: Array, step_key: PRNGKeyArray) -> Array:
        return loss_fn(eqx.combine(params, static), rows, step_key)

    @partial(jax.jit, compiler_options=_compiler_options())
    def run_epoch(params: Any, opt_state: Any, data: Array, epoch: Array) -> tuple[Any, Any, Array]:
        order_key, noise_key = jr.split(jr.fold_in(key, epoch))
        order = jr.permutation(order_key, data.shape[0])[: n_steps * batch].reshape(n_steps, batch)

        def step(carry: tuple[Any, Any], index: tuple[Array, Array]) -> tuple[tuple[Any, Any], Array]:
            params, opt_state = carry
            rows, i = index
            value, gradient = jax.value_and_grad(loss)(params, data[rows], jr.fold_in(noise_key, i))
            updates, opt_state = optimiser.update(gradient, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), value

        (params, opt_state), losses = jax.lax.scan(step, (params, opt_state), (order, jnp.arange(n_steps)))
        return params, opt_state, losses

    return run_epoch


def _evaluation_function(static: Any, loss_fn: LossFn, key: PRNGKeyArray) -> Any:
    @partial(jax.jit, compiler_options=_compiler_options())
    def chunked(params: Any, rows: Array) -> Array:
        """Mean loss over (chunk, batch, column)."""

        def step(_: None, index: tuple[Array, Array]) -> tuple[None, Array]:
            chunk, i = index
            return None, loss_fn(eqx.combine(params, static), chunk, jr.fold_in(key, i))

        return jax.lax.scan(step, None, (rows, jnp.arange(rows.shape[0])))[1].mean()

    def evaluate(params: Any, rows: Array) -> float:
        size = min(VALIDATION_BATCH, rows.shape[0])
        n_whole = rows.shape[0] // size * size
        total = float(chunked(params, rows[:n_whole].reshape(-1, size, rows.shape[1]))) * n_whole
        if n_whole < rows.shape[0]:
            total += float(chunked(params, rows[None, n_whole:])) * (rows.shape[0] - n_whole)
        return total / rows.shape[0]

    return evaluate


def _compiler_options() -> dict[str, str] | None:
    """On CPU, the schedule that saves memory: with the default one, which runs independent operations side by side,
    the proposal's training at the sizes of preset standard stood still for ever (jaxlib 0.10.2, two cores: all threads
    idle, none to wake them).
    """
    if jax.default_backend() != "cpu":
        return None
    return {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


def _schedule(cfg: FitConfig, n_steps: int) -> optax.Schedule:
    total = cfg.epochs * n_steps
    if cfg.schedule == "exponential":
        return optax.exponential_decay(
            cfg.learning_rate, cfg.decay_epochs * n_steps, cfg.decay_rate, staircase=True
        )
    warmup = max(1, int(WARMUP_FRACTION * total))
    return optax.warmup_cosine_decay_schedule(
        0.0, cfg.learning_rate, warmup, max(total, warmup + 1), cfg.learning_rate * FINAL_LEARNING_RATE
    )


def _check_finite(losses: np.ndarray, validation_loss: float, name: str, epoch: int, rate: float) -> None:
    bad = np.flatnonzero(~np.isfinite(losses))
    if bad.size == 0 and np.isfinite(validation_loss):
        return
    where = f"step {bad[0] + 1} of {losses.size}" if bad.size else "the validation pass"
    raise TrainingError(
        f"{name}: loss is not finite in epoch {epoch}, {where} (learning rate {rate:.1e}); "
        "check the input for non-finite rows, or lower fit.learning_rate"
    )


def _config_digest(cfg: FitConfig, key: PRNGKeyArray, params: Any) -> str:
    """Everything but the data that decides the bytes of the result: settings, key, and the initial weights."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
    key_data = np.asarray(jr.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key)
    text = json.dumps(cfg.model_dump(mode="json"), sort_keys=True) + array_digest(key_data, *leaves)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _resume(
    path: Path | None, identity: dict[str, str], state: Any, name: str, progress: bool
) -> tuple[Any, list[EpochRecord], str | None]:
    """State, history and stop reason of a matching checkpoint; the given state and nothing otherwise."""
    if path is None or not path.exists():
        return state, [], None
    header = read_header(path)
    changed = [what for what, digest in identity.items() if header.get(what) != digest]
    if changed:
        _say(f"{name}: {path} was written with other {' and '.join(changed)}; starting afresh", progress)
        return state, [], None
    try:
        header, state = read_state(path, state)
    except CheckpointError as error:
        _say(f"{name}: {error}; starting afresh", progress)
        return state, [], None
    history = [EpochRecord(**record) for record in header["history"]]
    _say(f"{name}: resumed after epoch {len(history)} from {path}", progress)
    return state, history, header["finished"]


def _say(message: str, progress: bool) -> None:
    if progress:
        tqdm.write(message)
