"""Turns what a user can put right into one line in Dagster's UI instead of a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from paeplatform.errors import InputError, RegistryError, TrainingError

BUSY_RETRIES, BUSY_WAIT_SECONDS = 3, 10.0
_BUSY = ("database is locked", "database table is locked")
# What PostgreSQL's driver says of a server that went away, restarts or takes no more connections.
_GONE = (
    "server closed the connection unexpectedly",
    "terminating connection due to",
    "connection to server at",
    "could not connect to server",
    "ssl connection has been closed unexpectedly",
    "the database system is",
    "remaining connection slots are reserved",
)


@contextmanager
def one_line_failures() -> Iterator[None]:
    """Re-raises `InputError` and `TrainingError` as a Dagster failure that says their line and is not
    retried; a database that another process holds is tried again.

    Raises:
        dagster.Failure: caused by the original error, which stays reachable as `__cause__`.
        dagster.RetryRequested: MLflow's database is locked, or cannot be reached.
    """
    try:
        yield
    except (InputError, TrainingError) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    except Exception as error:
        if is_busy(error):
            raise dg.RetryRequested(BUSY_RETRIES, BUSY_WAIT_SECONDS) from busy_line(error)
        raise


@contextmanager
def failing_alone() -> Iterator[None]:
    """Re-raises `InputError` as a Dagster failure without it as the cause: it is one partition's alone, others go on.

    Raises:
        dagster.Failure: says its line and is not retried.
    """
    try:
        yield
    except InputError as error:
        raise dg.Failure(str(error), allow_retries=False) from None


def is_busy(error: BaseException | None) -> bool:
    """Whether an error, or one of its causes, says that a database is locked or not to be reached now."""
    while error is not None:
        if any(text in str(error).lower() for text in (*_BUSY, *_GONE)):
            return True
        error = error.__cause__ or error.__context__
    return False


def busy_line(error: BaseException) -> RegistryError:
    """The same in a line that says what to do."""
    first = str(error).splitlines()[0]
    if any(text in first.lower() for text in _GONE):
        return RegistryError(f"MLflow's database cannot be reached; is it up? Try again later ({first})")
    return RegistryError(
        f"MLflow's database is locked by another process; end it, or try again later ({first})"
    )
