"""Starts the pages of Dagster and MLflow as child processes, waits until they answer, and ends all of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from paeplatform.errors import InputError
from paeplatform.pages.hosts import hosts_from_environment, own_names
from paeplatform.pages.tracking import APP_NAME, require_entry_point

HOST = "127.0.0.1"
DAGSTER_PORT = 3000
MLFLOW_PORT = 5000
_LOG_TAIL = 15
# This machine is asked directly: a proxy, which http_proxy may name, would look for 127.0.0.1 on its own machine.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServiceError(RuntimeError):
    """A service ended by itself or did not answer in time; the message holds the end of its log."""


@dataclass
class Service:
    """One child process in a process group of its own, so that what it starts is ended with it.

    The child is a keeper (paeplatform/pages/keeper.py), which runs the command and ends it when this process is gone,
    also where `stop_all` could not be called.

    Attributes:
        name: also the name of its log file.
        command: the program and its arguments.
        health: URL that answers 200 once the service is up; None for one that serves no page.
    """

    name: str
    command: Sequence[str]
    health: str | None
    log: Path
    env: dict[str, str]
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Starts the process, its output going to the log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "paeplatform.pages.keeper", *self.command],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.PIPE,  # never written to: it closes when this process ends
                env=self.env,
                start_new_session=True,
            )

    def is_up(self) -> bool:
        """Whether the service answers.

        Raises:
            ServiceError: the process has ended.
        """
        self.raise_if_ended()
        if self.health is None:
            return True
        try:
            with _direct.open(self.health, timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def raise_if_ended(self) -> None:
        """Raises ServiceError with the end of the log when the process is gone."""
        if self.process is not None and self.process.poll() is not None:
            self._let_go()
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL:])
            raise ServiceError(
                f"{self.name} ended with code {self.process.returncode}; the end of {self.log}:\n{tail}"
            )

    def signal_group(self, number: signal.Signals) -> None:
        """Sends a signal to the process and to all it started."""
        if self.process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)

    def group_is_gone(self) -> bool:
        """Whether neither the process nor anything it started in its group is left."""
        if self.process is None:
            return True
        self.process.poll()  # reaps the child, whose zombie would keep the group alive
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            self._let_go()
            return True
        except PermissionError:
            return False
        return False

    def _let_go(self) -> None:
        """Closes the pipe to a keeper that has ended."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()


def require_free_port(port: int, option: str) -> None:
    """Raises InputError when something already listens on the port."""
    try:
        try_to_listen(HOST, port)
    except OSError as error:
        raise InputError(f"port {port} on {HOST} is taken: choose another with {option}") from error


def try_to_listen(host: str, port: int) -> None:
    """Raises OSError when an address cannot be listened on."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def platform_services(
    *,
    dagster_home: Path,
    tracking_uri: str,
    artifact_root: str,
    log_dir: Path,
    dagster_port: int,
    mlflow_port: int,
) -> list[Service]:
    """Dagster's web server and daemon, and MLflow's server, all bound to this machine only.

    Both pages stand behind the guard (paeplatform/pages/guard.py); MLflow's own switches say the same once more.
    The location name is the one `dg dev` uses (pyproject.toml), so that both find the same sensors and schedules.
    The address of MLflow's database goes by the environment: a command line is there for everyone to read.

    Raises:
        InputError: PAEPLATFORM_PAGE_HOSTS cannot be read, or MLflow does not find its guarded page.
    """
    from paeplatform.resources.settings import address

    require_entry_point()
    mlflow_names = (*own_names(mlflow_port), *hosts_from_environment())
    workspace = dagster_home / "workspace.yaml"
    workspace.write_text(
        "load_from:\n  - python_module: {module_name: paeplatform.definitions, location_name: paeplatform}\n"
    )
    env = {
        # Trainings use every core: a process that starts beside one takes longer than Dagster's minute.
        "DAGSTER_GRPC_TIMEOUT_SECONDS": "300",
        "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS": "300",
        **os.environ,
        "DAGSTER_HOME": str(dagster_home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "PAEPLATFORM_MLFLOW_UI": f"http://{HOST}:{mlflow_port}",
        "MLFLOW_BACKEND_STORE_URI": address(tracking_uri),
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(mlflow_names),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(
            f"{scheme}://{name}" for name in mlflow_names for scheme in ("http", "https")
        ),
        "PYTHONUNBUFFERED": "1",
    }

    def service(name: str, health: str | None, *arguments: str) -> Service:
        return Service(name, [sys.executable, "-m", *arguments], health, log_dir / f"{name}.log", env)

    return [
        service(
            "dagster-webserver",
            f"http://{HOST}:{dagster_port}/server_info",
            *("paeplatform.pages.webserver", "--host", HOST, "--port", str(dagster_port)),
            *("--workspace", str(workspace)),
        ),
        service("dagster-daemon", None, "dagster._daemon", "run", "-w", str(workspace)),
        service(
            "mlflow",
            f"http://{HOST}:{mlflow_port}/health",
            *("mlflow", "server", "--host", HOST, "--port", str(mlflow_port), "--workers", "1"),
            *("--app-name", APP_NAME, "--artifacts-destination", artifact_root),
        ),
    ]


def wait_until_up(services: Sequence[Service], timeout_s: float, on_up: Callable[[Service], None]) -> None:
    """Returns once every service answers; calls `on_up` for each as it does.

    Raises:
        ServiceError: one ended, or did not answer within `timeout_s` seconds.
    """
    waiting, deadline = list(services), time.monotonic() + timeout_s
    while waiting:
        for service in [one for one in waiting if one.is_up()]:
            on_up(service)
            waiting.remove(service)
        if waiting and time.monotonic() > deadline:
            names = ", ".join(service.name for service in waiting)
            raise ServiceError(
                f"{names} did not answer within {timeout_s:.0f} s; logs in {waiting[0].log.parent}"
            )
        time.sleep(0.25)


def stop_all(services: Sequence[Service], grace_s: float = 10.0) -> None:
    """Ends every service and what it started: an interrupt, then a termination, then a kill."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        for service in services:
            if not service.group_is_gone():
                service.signal_group(number)
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline:
            if all(service.group_is_gone() for service in services):
                return
            time.sleep(0.1)
