"""Services come up, are noticed when they die, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from paeplatform.cli.servers.services import (
    HOST,
    Service,
    ServiceError,
    platform_services,
    require_free_port,
    stop_all,
    wait_until_up,
)
from paeplatform.errors import InputError

# Starts a grandchild that ignores an interrupt, as a code server may, and writes its id down.
LEAVES_A_CHILD = """
import pathlib, subprocess, sys, time
code = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
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
    parent = service("parent", tmp_path, "-c", f"{LEAVES_A_CHILD}time.sleep(600)", str(note))
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


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://{HOST}:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    port = free_port()
    page = service(
        "page", tmp_path, "-m", "http.server", str(port), "--bind", HOST, health=f"http://{HOST}:{port}/"
    )
    page.start()
    try:
        wait_until_up([page], 20.0, lambda _: None)
    finally:
        stop_all([page])


# A service that listens on a port and has a child that only a kill ends.
STUBBORN = """
import pathlib, socket, subprocess, sys, time
code = "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (2, 15)]; time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code])
listening = socket.create_server(("127.0.0.1", int(sys.argv[2])))
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(600)
"""
# Starts two of them, as `ui` does with its services; the second must not hold the pipe of the first.
OWNER = """
import os, pathlib, sys, time
from paeplatform.cli.servers.services import Service
folder, code = pathlib.Path(sys.argv[1]), sys.argv[2]
for name, port in zip(("first", "second"), sys.argv[3:], strict=True):
    command = [sys.executable, "-c", code, str(folder / name), port]
    Service(name, command, None, folder / f"{name}.log", dict(os.environ)).start()
time.sleep(600)
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_services_end_when_their_owner_is_killed(tmp_path: Path, stopped: bool) -> None:
    ports = [free_port(), free_port()]
    arguments = [str(tmp_path), STUBBORN, *map(str, ports)]
    owner = subprocess.Popen([sys.executable, "-c", OWNER, *arguments])
    family: list[int] = []
    try:
        notes = [tmp_path / "first", tmp_path / "second"]
        assert wait(lambda: all(note.exists() and note.read_text() for note in notes), 60.0)
        family = children(owner.pid)
        stubborn = [int(note.read_text()) for note in notes]
        assert set(stubborn) < set(family)
        if stopped:  # a service that cannot act, such as one that computes, is ended all the same
            for pid in stubborn:
                os.kill(parent_of(pid), signal.SIGSTOP)
        owner.kill()
        owner.wait()
        assert wait(lambda: not any(map(is_alive, family)), 30.0)
        for port in ports:
            require_free_port(port, "--port")
    finally:
        owner.kill()
        owner.wait()
        for pid in filter(is_alive, family):
            os.kill(pid, signal.SIGKILL)
    assert "the process that started this is gone" in (tmp_path / "first.log").read_text()


def test_what_a_service_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    crashed = service("crashed", tmp_path, "-c", f"{LEAVES_A_CHILD}raise SystemExit(3)", str(note))
    crashed.start()
    try:
        assert crashed.process is not None
        assert crashed.process.wait(60) == 3
        assert not is_alive(int(note.read_text()))
    finally:
        stop_all([crashed], grace_s=1.0)


def test_a_name_for_the_pages_that_cannot_be_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAEPLATFORM_PAGE_HOSTS", "*")
    with pytest.raises(InputError, match="PAEPLATFORM_PAGE_HOSTS"):
        services_in(tmp_path)


def test_the_pages_stand_behind_the_guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAEPLATFORM_PAGE_HOSTS", "localhost:8080")
    dagster, daemon, mlflow = services_in(tmp_path)
    assert "paeplatform.pages.webserver" in dagster.command
    assert daemon.health is None
    assert mlflow.command[mlflow.command.index("--app-name") + 1] == "paeplatform"
    names = ["127.0.0.1:5001", "localhost:5001", "[::1]:5001", "localhost:8080"]
    assert mlflow.env["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",") == names
    assert "https://localhost:8080" in mlflow.env["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")


def test_an_environment_without_the_entry_point_is_told_to_install_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paeplatform.pages.tracking.APP_NAME", "unknown")
    with pytest.raises(InputError, match="make install"):
        services_in(tmp_path)


def services_in(folder: Path) -> list[Service]:
    return platform_services(
        dagster_home=folder,
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        artifact_root=str(folder / "artifacts"),
        log_dir=folder / "log",
        dagster_port=3001,
        mlflow_port=5001,
    )


@pytest.fixture
def ui(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """`paeplatform ui` that serves both pages: its process, Dagster's port, MLflow's port."""
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
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        assert wait(lambda: process.poll() is not None or "Ctrl-C" in shown.read_text(), 180.0)
        assert process.poll() is None, shown.read_text()
        assert f"http://127.0.0.1:{dagster_port}" in shown.read_text()
        yield process, dagster_port, mlflow_port
    finally:
        process.terminate()
        process.wait(timeout=90)


@pytest.mark.slow
def test_ui_serves_dagster_and_mlflow_and_leaves_nothing_running(
    ui: tuple[subprocess.Popen[bytes], int, int],
) -> None:
    process, *ports = ui
    dagster, mlflow = (f"http://{HOST}:{port}" for port in ports)
    for url, wanted in ((f"{dagster}/server_info", "dagster_version"), (f"{mlflow}/", "MLflow")):
        status, text = asked(url)
        assert status == 200
        assert wanted in text
    own = children(process.pid)
    assert len(own) >= 3
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=90)
    assert process.returncode == 0
    assert not [pid for pid in own if is_alive(pid)]


@pytest.mark.slow
def test_no_other_web_page_drives_what_ui_serves_and_nothing_outlives_it(
    ui: tuple[subprocess.Popen[bytes], int, int],
) -> None:
    process, *ports = ui
    dagster, mlflow = (f"http://{HOST}:{port}" for port in ports)
    foreign = {
        "Origin": "http://evil.example",
        "Referer": "http://evil.example/",
        "Sec-Fetch-Site": "cross-site",
    }
    forged = [f"{dagster}/graphql?{urlencode({'query': mutation})}" for mutation in OF_ANOTHER_SITE]
    answers = [asked(url, sent) for url in forged for sent in (foreign, {"Host": "evil.example"}, {})]
    run = {"experiment_id": "0", "run_name": "forged"}
    sender = (foreign, {"Host": "evil.example"}, {"Content-Type": "text/plain"})
    answers += [asked(f"{mlflow}/api/2.0/mlflow/runs/create", sent, run) for sent in sender]
    assert [text for status, text in answers if status != 403] == []

    # What the pages themselves send, the sensor last: no forged request has started it.
    own = {"Origin": dagster, "Sec-Fetch-Site": "same-origin"}
    state = {
        "query": f"{{ sensorOrError(sensorSelector: {SENSOR}) {{ __typename "
        "... on Sensor { sensorState { status } } ... on PythonError { message } } }"
    }
    assert "STOPPED" in asked(f"{dagster}/graphql", own, state)[1]
    assert asked(f"{dagster}/graphql", own, {"query": OF_ANOTHER_SITE[2]})[0] == 200
    assert "RUNNING" in asked(f"{dagster}/graphql", own, state)[1]
    own = {"Origin": mlflow, "Sec-Fetch-Site": "same-origin"}
    search = (f"{mlflow}/ajax-api/2.0/mlflow/runs/search", own, {"experiment_ids": ["0"], "max_results": 5})
    assert asked(*search) == (200, "{}")
    assert asked(f"{mlflow}/api/2.0/mlflow/runs/create", {}, run)[0] == 200  # MLflow's client
    assert "forged" in asked(*search)[1]

    family = children(process.pid)
    process.kill()
    process.wait()
    assert wait(lambda: not any(map(is_alive, family)), 30.0)
    for port in ports:
        require_free_port(port, "--port")


REPOSITORY = 'repositoryName: "__repository__", repositoryLocationName: "paeplatform"'
SENSOR = f'{{{REPOSITORY}, sensorName: "release_sensor"}}'
# As an `<img src>` of any web page would send them.
OF_ANOTHER_SITE = (
    'mutation { addDynamicPartition(partitionKey: "../../outside/evil", partitionsDefName: "release", '
    f"repositorySelector: {{{REPOSITORY}}}) {{ __typename }} }}",
    f"mutation {{ launchPipelineExecution(executionParams: {{selector: {{{REPOSITORY}, "
    'pipelineName: "__ASSET_JOB"}, mode: "default"}) { __typename } }',
    f"mutation {{ startSensor(sensorSelector: {SENSOR}) {{ __typename }} }}",
    'mutation { stopSensor(id: "x", jobOriginId: "x") { __typename } }',
    'mutation { wipeAssets(assetPartitionRanges: [{assetKey: {path: ["table_ranks"]}}]) { __typename } }',
)


def asked(
    url: str, headers: dict[str, str] | None = None, body: dict[str, Any] | None = None
) -> tuple[int, str]:
    """Status and text of the answer; a body is posted as JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"} | (headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def wait(until: Callable[[], bool], seconds: float) -> bool:
    """Whether a condition comes true within a time."""
    deadline = time.monotonic() + seconds
    while not until():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


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
