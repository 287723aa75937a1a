"""What the benchmarks share: a wall time that other work disturbs least, and a figure as `make bench` keeps it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def best_seconds(work: Callable[[], object], repeats: int) -> float:
    """Shortest of `repeats` wall times [s], after one call that compiles."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def less_is_better(
    name: str, value: float, unit: str, target: float | None, bound: float | None
) -> dict[str, Any]:
    """A figure where less is better; `meets` is None without a target."""
    meets = None if target is None else bool(value <= target)
    return {
        "name": name,
        "value": float(value),
        "unit": unit,
        "target": target,
        "bound": bound,
        "meets": meets,
    }


def figure(
    name: str, value: float, unit: str, target: float | None, bound: float | None, *, more: bool = False
) -> dict[str, Any]:
    """A figure with a target; `more` says that more is better."""
    if not more:
        return less_is_better(name, value, unit, target, bound)
    meets = None if target is None else bool(value >= target)
    return less_is_better(name, value, unit, None, bound) | {"target": target, "meets": meets}
