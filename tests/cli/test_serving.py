"""Services come up, are noticed when they die, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from paeplatform.cli.serving import HOST, Service, ServiceError, require_free_port, stop_all, wait_until_up
from paeplatform.errors import InputError

# Starts a grandchild that ignores an interrupt, as a code server may, and writes its id down.
PARENT = """
import pathlib, subprocess, sys, time
code = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(600)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def service(name: str, folder: Path, *arguments: str, health: str | None = None) -> Service:
    return Service(name, [sys.executable, *arguments], health, folder / f"{name}.log", dict(os.environ))


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_waits_until_the_page_answers_and_ends_it(tmp_path: Path) -> None:
    port = free_port()
    page = service(
        "page", tmp_path, "-m", "http.server", str(port), "--bind", HOST, health=f"http://{HOST}:{port}/"
    )
    seen: list[str] = []
    try:
        page.start()
        wait_until_up([page], 60.0, lambda one: seen.append(one.name))
        assert page.is_up()
    finally:
        stop_all([page])
    assert seen == ["page"]
    assert page.group_is_gone()


def test_grandchildren_that_ignore_an_interrupt_are_ended_too(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    parent = service("parent", tmp_path, "-c", PARENT, str(note))
    parent.start()
    try:
        for _ in range(600):
            if note.exists() and note.read_text():
                break
            time.sleep(0.05)
        grandchild = int(note.read_text())
        assert is_alive(grandchild)
    finally:
        stop_all([parent], grace_s=1.0)
    for _ in range(
        200
    ):  # killed; whoever adopts the orphan has to bury it first, which a busy machine does late
        if parent.group_is_gone():
            break
        time.sleep(0.05)
    assert parent.group_is_gone()
    assert not is_alive(grandchild)


def test_a_service_that_dies_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    dying = service(
        "dying", tmp_path, "-c", "raise SystemExit('no such database')", health="http://127.0.0.1:9/"
    )
    dying.start()
    with pytest.raises(ServiceError, match=r"(?s)dying ended with code 1.*no such database"):
        wait_until_up([dying], 60.0, lambda _: None)


def test_a_service_that_never_answers_times_out(tmp_path: Path) -> None:
    silent = service(
        "silent", tmp_path, "-c", "import time; time.sleep(600)", health=f"http://{HOST}:{free_port()}/"
    )
    silent.start()
    try:
        with pytest.raises(ServiceError, match="silent did not answer"):
            wait_until_up([silent], 0.5, lambda _: None)
    finally:
        stop_all([silent])
    assert silent.group_is_gone()


def test_a_taken_port_is_refused_by_name_of_the_option() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port}.*--mlflow-port"):
            require_free_port(port, "--mlflow-port")
    require_free_port(port, "--mlflow-port")


@pytest.mark.slow
def test_ui_serves_dagster_and_mlflow_and_leaves_nothing_running(tmp_path: Path) -> None:
    dagster_port, mlflow_port = free_port(), free_port()
    command = [
        sys.executable,
        "-c",
        "from paeplatform.cli import main; main()",
        "ui",
        "--home",
        str(tmp_path),
    ]
    command += ["--dagster-port", str(dagster_port), "--mlflow-port", str(mlflow_port)]
    shown = tmp_path / "shown.txt"
    with shown.open("w") as out:
        ui = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        for _ in range(600):
            assert ui.poll() is None, shown.read_text()
            if "Ctrl-C" in shown.read_text():
                break
            time.sleep(0.3)
        assert f"http://127.0.0.1:{dagster_port}" in shown.read_text()
        for url, wanted in (
            (f"http://{HOST}:{dagster_port}/server_info", "dagster_version"),
            (f"http://{HOST}:{mlflow_port}/", "MLflow"),
        ):
            with urllib.request.urlopen(url, timeout=30) as page:
                assert wanted in page.read().decode()
        own = children(ui.pid)
        assert len(own) >= 3
    finally:
        ui.send_signal(signal.SIGTERM)
        ui.wait(timeout=90)
    assert ui.returncode == 0
    assert not [pid for pid in own if is_alive(pid)]


def children(pid: int) -> list[int]:
    """All descendants of a process, from /proc."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # a process may end while we look
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
    found, frontier = [], [pid]
    while frontier:
        frontier = [child for child, parent in parents.items() if parent in frontier]
        found += frontier
    return found
