"""The training loop shared by autoencoder and flow.

One jitted call runs an epoch: a `lax.scan` over shuffled batches of data that stay on the device. All randomness is
`fold_in(key, epoch)`, so a run that is killed and resumed ends in the same bytes as one that was not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from paeplatform.config import FitConfig
from paeplatform.errors import TrainingError
from paeplatform.fit_record import EpochRecord, FitOptions, FitResult, check_finite, run_epochs
from paeplatform.model_files import array_digest
from paeplatform.pae.checkpoint import tree_bytes, tree_from

GRADIENT_CLIP = 1.0  # global norm; quiet in healthy training, tames the few spectra with extreme lines
WARMUP_FRACTION = 0.02  # of the steps, for the cosine schedule
FINAL_LEARNING_RATE = 1e-3  # of the initial one, at the end of the cosine
VALIDATION_BATCH = 1024
REMEDY = "check the input for non-finite rows, or lower fit.learning_rate"  # for a loss that is not finite

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
    options: FitOptions = FitOptions(),
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
        options: checkpoints and progress.

    Raises:
        TrainingError: a loss was not finite (names model, epoch, step), or there are fewer rows than one batch needs.
    """
    if len(data) < 1 or len(validation) < 1:
        raise TrainingError(f"{name}: needs at least one training and one validation row")
    run = _Run(model, data, validation, loss_fn, cfg, key, name)
    identity = {"config": run.digest, "data": array_digest(data, validation)}
    return run_epochs(run, cfg, name=name, identity=identity, options=options)


class _Run:
    """State of a training: current weights, best weights, optimiser, and the data on the device."""

    def __init__(
        self,
        model: Any,
        data: np.ndarray,
        validation: np.ndarray,
        loss_fn: LossFn,
        cfg: FitConfig,
        key: PRNGKeyArray,
        name: str,
    ) -> None:
        batch = min(cfg.batch_size, len(data))
        self._n_steps = len(data) // batch
        self._schedule = _schedule(cfg, self._n_steps)
        optimiser = optax.chain(optax.clip_by_global_norm(GRADIENT_CLIP), optax.adam(self._schedule))
        params, self._static = eqx.partition(model, eqx.is_inexact_array)
        self._state = (params, params, optimiser.init(params))  # current weights, best weights, optimiser
        self._rows, self._validation, self._name = jnp.asarray(data), jnp.asarray(validation), name
        self._train = _epoch_function(self._static, loss_fn, optimiser, key, batch, self._n_steps)
        self._evaluate = _evaluation_function(self._static, loss_fn, jr.fold_in(key, 2**31 - 1))
        self.digest = _config_digest(cfg, key, params)

    def epoch(self, number: int) -> EpochRecord:
        """One pass, then the validation loss."""
        params, best, opt_state = self._state
        params, opt_state, losses = self._train(params, opt_state, self._rows, number)
        validation_loss = float(self._evaluate(params, self._validation))
        first, last = (number - 1) * self._n_steps, number * self._n_steps - 1
        rate = float(self._schedule(first))
        check_finite(self._name, number, np.asarray(losses), validation_loss, rate, REMEDY)
        self._state = (params, best, opt_state)
        return EpochRecord(number, float(losses.mean()), validation_loss, float(self._schedule(last)))

    def keep_as_best(self) -> None:
        """The weights of now are the best so far."""
        params, _, opt_state = self._state
        self._state = (params, params, opt_state)

    def best_model(self) -> Any:
        """The model with its best weights."""
        return eqx.combine(self._state[1], self._static)

    def state(self) -> bytes:
        """Weights and optimiser."""
        return tree_bytes(self._state)

    def restore(self, state: bytes) -> None:
        """Takes over what `state` gave."""
        self._state = tree_from(state, self._state)


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


def _config_digest(cfg: FitConfig, key: PRNGKeyArray, params: Any) -> str:
    """Everything but the data that decides the bytes of the result: settings, key, and the initial weights."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
    key_data = np.asarray(jr.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key)
    text = json.dumps(cfg.model_dump(mode="json"), sort_keys=True) + array_digest(key_data, *leaves)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
