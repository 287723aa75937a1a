"""What a model shows on a test set: the scores of every source, and the rate at which it answers."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable

import numpy as np
import polars as pl

from paeplatform.inference.results.pz_summary import QUANTILE_LEVELS
from paeplatform.scores.evaluate import join_truth
from paeplatform.scores.promotion import Evidence
from paeplatform.scores.promotion_rules import PART
from paeplatform.scores.scorecard import score_sources

# flux, flux_err (source, band) [uJy] and object_id (source,) to a table of posteriors, a row a source
Estimate = Callable[[np.ndarray, np.ndarray, np.ndarray], pl.DataFrame]
_CALLS = 4  # at least so many calls: the first compiles, the others are timed
_CALL_SOURCES = 128


def evidence_of(
    estimate: Estimate, test_set: pl.DataFrame, *, prefix: str, z_range: tuple[float, float]
) -> Evidence:
    """Infers a test set and scores every source.

    Args:
        estimate: a model, ready to answer.
        test_set: of `draw_test_sources`: flux and flux_err (source, band) [uJy], object_id, z_true, part; without
            part, all sources are known galaxies.
        prefix: of the method, first part of the names of its columns.
        z_range: of the prior; the log score's background.

    Returns:
        Scores sorted by object_id with the column part, the rate over all sources (None for a single call), and the
        hardware.

    Raises:
        InputError: test_set has no z_true, or an object_id twice.
    """
    posteriors, rate = _timed(estimate, test_set)
    levels = QUANTILE_LEVELS.tolist()
    scores = score_sources(join_truth(posteriors, test_set), levels, prefix=prefix, z_range=z_range)
    if PART in test_set.columns:
        scores = scores.join(test_set.select("object_id", PART), on="object_id", maintain_order="left")
    return Evidence(scores, rate, hardware())


def hardware() -> str:
    """Kind of the processor, or of the accelerators, and how many: rates are compared on the same alone."""
    import jax

    devices = jax.devices()
    if devices[0].platform != "cpu":
        return f"{devices[0].device_kind} x{len(devices)}"
    return f"{platform.machine()} cpu x{os.cpu_count()}"


def _timed(estimate: Estimate, test_set: pl.DataFrame) -> tuple[pl.DataFrame, float | None]:
    """Posteriors, and galaxies an hour: the median over the calls after the first, which compiles.

    How the sources are cut into calls changes no posterior.
    """
    columns = [test_set[name].to_numpy() for name in ("flux", "flux_err", "object_id")]
    n_calls = min(max(_CALLS, test_set.height // _CALL_SOURCES), test_set.height)
    tables, rates = [], []
    for rows in np.array_split(np.arange(test_set.height), n_calls):
        began = time.monotonic()
        tables.append(estimate(*(column[rows] for column in columns)))
        rates.append(len(rows) / (time.monotonic() - began) * 3600.0)
    rate = float(np.median(rates[1:])) if len(rates) > 1 else None
    return pl.concat(tables), rate
