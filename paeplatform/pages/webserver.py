"""Dagster's page behind the guard: `python -m paeplatform.pages.webserver`, in place of `dagster-webserver`.

`dagster-webserver` has no place for a middleware. This builds the same app from the same parts
(`dagster_webserver.cli`) and serves it with the same settings; DAGSTER_HOME names the instance.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import uvicorn
from dagster import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._utils.interrupts import setup_interrupt_handlers
from dagster._utils.log import configure_loggers
from dagster_webserver import cli as upstream
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.version import __version__
from starlette.applications import Starlette

from paeplatform.errors import InputError
from paeplatform.pages.guard import Guard
from paeplatform.pages.hosts import hosts_from_environment

LIVE_DATA_POLL_MS = 2000  # these two are the defaults of `dagster-webserver`
CODE_SERVER_LOG_LEVEL = "info"


def guarded_app(context: WorkspaceProcessContext, hosts: Sequence[str]) -> Guard:
    """Dagster's app for an open workspace, behind the guard.

    Args:
        context: the instance and its code locations.
        hosts: names of the page besides those of this machine.
    """
    app = create_app_from_workspace_process_context(context, "", LIVE_DATA_POLL_MS, lifespan=_lifespan)
    return Guard(app, hosts)


def main(argv: Sequence[str] | None = None) -> None:
    """Serves Dagster's page until it is interrupted.

    Args:
        argv: `--host`, `--port`, `--workspace`; default: those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="paeplatform.pages.webserver", description="Dagster's page, guarded."
    )
    parser.add_argument("--host", default=upstream.DEFAULT_WEBSERVER_HOST)
    parser.add_argument("--port", type=int, default=upstream.DEFAULT_WEBSERVER_PORT)
    parser.add_argument("--workspace", required=True, help="a workspace.yaml")
    options = parser.parse_args(argv)
    try:
        hosts = hosts_from_environment()
    except InputError as error:
        sys.exit(f"error: {error}")

    configure_loggers(log_level="INFO")
    setup_interrupt_handlers()  # a termination is an interrupt, so that code servers are ended in order
    with DagsterInstance.get() as instance:
        instance.optimize_for_webserver(
            upstream.DEFAULT_DB_STATEMENT_TIMEOUT,
            upstream.DEFAULT_POOL_RECYCLE,
            upstream.DEFAULT_POOL_MAX_OVERFLOW,
        )
        with WorkspaceProcessContext(
            instance,
            version=__version__,
            workspace_load_target=WorkspaceFileTarget(paths=[options.workspace]),
            code_server_log_level=CODE_SERVER_LOG_LEVEL,
        ) as context:
            app = guarded_app(context, hosts)
            logging.getLogger(upstream.WEBSERVER_LOGGER_NAME).info(
                "Serving Dagster, guarded, on http://%s:%d in process %d",
                options.host,
                options.port,
                os.getpid(),
            )
            uvicorn.run(app, host=options.host, port=options.port, log_level="warning")


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    # An interrupt cancels the server's last task (https://github.com/encode/uvicorn/issues/1160): no traceback for it.
    with suppress(asyncio.CancelledError):
        yield


if __name__ == "__main__":
    main()
