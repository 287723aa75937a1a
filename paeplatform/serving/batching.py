"""Requests that wait are answered together: samplers and networks work on padded batches anyway."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import polars as pl

Answerer = TypeVar("Answerer")  # what answered a batch, for instance a loaded model


class Busy(RuntimeError):
    """More sources wait than the service takes in."""


@dataclass
class _Job(Generic[Answerer]):
    flux: np.ndarray
    flux_err: np.ndarray
    object_id: np.ndarray
    done: Future[tuple[Answerer, pl.DataFrame]] = field(default_factory=Future)


class Batcher(Generic[Answerer]):
    """One thread that answers, so that a model is never entered twice at a time.

    A source's answer depends on neither the order nor the company it is asked in, so requests may share a call; two
    with the same object_id do not, since ids are distinct within a call.
    """

    def __init__(
        self,
        answer: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[Answerer, pl.DataFrame]],
        *,
        max_sources: int,
        max_waiting: int,
    ) -> None:
        """Starts the thread.

        Args:
            answer: flux, flux_err (source, band) and object_id (source,) to (who answered, a table in that order).
            max_sources: of one call.
            max_waiting: sources that may wait.
        """
        self._answer = answer
        self._max_sources, self._max_waiting = max_sources, max_waiting
        self._jobs: queue.Queue[_Job[Answerer] | None] = queue.Queue()
        self._kept: _Job[Answerer] | None = None  # taken from the queue, for the next call
        self._waiting, self._lock = 0, threading.Lock()
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    def submit(
        self, flux: np.ndarray, flux_err: np.ndarray, object_id: np.ndarray
    ) -> Future[tuple[Answerer, pl.DataFrame]]:
        """Queues sources.

        Raises:
            Busy: too many are waiting.
        """
        with self._lock:
            if self._waiting and self._waiting + len(flux) > self._max_waiting:
                raise Busy(f"{self._waiting} sources are waiting: try again later")
            self._waiting += len(flux)
        job: _Job[Answerer] = _Job(flux, flux_err, object_id)
        self._jobs.put(job)
        return job.done

    def close(self) -> None:
        """Answers what is queued, then ends the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while True:
            batch, ended = self._next_batch()
            if batch:
                self._run(batch)
            if ended:
                return

    def _next_batch(self) -> tuple[list[_Job[Answerer]], bool]:
        first = self._kept or self._jobs.get()
        self._kept = None
        if first is None:
            return [], True
        batch, ids = [first], set(first.object_id.tolist())
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return batch, False
            if job is None:
                return batch, True
            if len(ids) + len(job.flux) > self._max_sources or not ids.isdisjoint(job.object_id.tolist()):
                self._kept = job
                return batch, False
            batch.append(job)
            ids.update(job.object_id.tolist())

    def _run(self, batch: list[_Job[Answerer]]) -> None:
        try:
            columns = (
                np.concatenate([getattr(job, name) for job in batch])
                for name in ("flux", "flux_err", "object_id")
            )
            who, table = self._answer(*columns)
        except Exception as error:
            if len(batch) > 1:  # whose fault it was is found out one by one
                for job in batch:
                    self._run([job])
                return
            self._forget(batch)
            batch[0].done.set_exception(error)
            return
        self._forget(batch)
        start = 0
        for job in batch:
            job.done.set_result((who, table.slice(start, len(job.flux))))
            start += len(job.flux)

    def _forget(self, batch: list[_Job[Answerer]]) -> None:
        with self._lock:
            self._waiting -= sum(len(job.flux) for job in batch)
