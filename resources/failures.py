"""Turns what a user can put right into one line in Dagster's UI instead of a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from paeplatform.errors import InputError, TrainingError


@contextmanager
def one_line_failures() -> Iterator[None]:
    """Re-raises `InputError` and `TrainingError` as a Dagster failure that says their line and is not
    retried.

    Raises:
        dagster.Failure: caused by the original error, which stays reachable as `__cause__`.
    """
    try:
        yield
    except (InputError, TrainingError) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
