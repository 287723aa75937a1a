"""What another web page, another name or a form sends is refused; what the page and programs send passes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

from paeplatform.errors import InputError
from paeplatform.pages.guard import Guard
from paeplatform.pages.hosts import host_of, hosts_from_environment, own_names
from paeplatform.pages.webserver import guarded_app

PAGE = "http://127.0.0.1:3000"
SOCKET = "ws://127.0.0.1:3000/graphql"
EVIL = "http://evil.example"
MUTATION = 'mutation { setConcurrencyLimit(concurrencyKey: "evil", limit: 3) }'
SAME_ORIGIN = {
    "Origin": PAGE,
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Dest": "empty",
}
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


async def echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{request.method} {(await request.body()).decode()}")


async def greet(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("hello")
    await websocket.close()


def client_of(*hosts: str, base_url: str = PAGE) -> TestClient:
    routes = [WebSocketRoute("/graphql", greet), Route("/{path:path}", echo, methods=METHODS)]
    return TestClient(Guard(Starlette(routes=routes), hosts), base_url=base_url)


@pytest.fixture(scope="module")
def client() -> TestClient:
    return client_of()


@pytest.fixture(scope="module")
def dagster(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[DagsterInstance, WorkspaceProcessContext]]:
    """Dagster's own server on an instance without code locations."""
    folder: Path = tmp_path_factory.mktemp("dagster")
    with (
        DagsterInstance.local_temp(str(folder)) as instance,
        WorkspaceProcessContext(instance, workspace_load_target=EmptyWorkspaceTarget()) as context,
    ):
        yield instance, context


def limits(instance: DagsterInstance) -> set[str]:
    return set(instance.event_log_storage.get_concurrency_keys())


# ------------------------------------------------------------------------------------------ in front of Dagster
def test_without_the_guard_dagster_executes_what_another_site_sends(
    dagster: tuple[DagsterInstance, WorkspaceProcessContext],
) -> None:
    instance, context = dagster
    bare = TestClient(create_app_from_workspace_process_context(context), base_url=PAGE)
    try:
        bare.get("/graphql", params={"query": MUTATION}, headers={"Host": "evil.example", "Origin": EVIL})
        assert limits(instance) == {"evil"}  # once this fails, read again what the guard has to do
    finally:
        instance.event_log_storage.delete_concurrency_limit("evil")


@pytest.mark.parametrize(
    ("method", "sent"),
    [
        ("GET", {"params": {"query": MUTATION}}),
        ("GET", {"params": {"query": MUTATION}, "headers": SAME_ORIGIN}),
        ("GET", {"params": {"query": MUTATION}, "headers": LINK}),
        ("GET", {"params": {"query": MUTATION}, "headers": {"Origin": EVIL}}),
        ("GET", {"params": {"query": MUTATION}, "headers": {"Sec-Fetch-Site": "cross-site"}}),
        ("GET", {"params": [("query", MUTATION), ("query", "{ version }")]}),
        ("GET", {"params": [("query", "{ version }"), ("query", MUTATION)]}),
        ("GET", {"params": {"query": f"query q {{ version }} {MUTATION}", "operationName": "q"}}),
        ("POST", {"params": {"query": MUTATION}}),
        ("POST", {"params": {"query": MUTATION}, "headers": {"Content-Type": "text/plain"}}),
        ("POST", {"params": {"query": MUTATION}, "headers": SAME_ORIGIN}),
        # Dagster looks for `application/json` anywhere in the header
        ("POST", {"json": {"query": MUTATION}, "headers": {"Content-Type": "text/plain; application/json"}}),
        ("POST", {"content": MUTATION, "headers": {"Content-Type": "application/graphql"}}),
        ("POST", {"files": {"query": MUTATION.encode()}}),
        ("POST", {"json": {"query": MUTATION}, "headers": {"Host": "evil.example"}}),
        ("POST", {"json": {"query": MUTATION}, "headers": {"Origin": EVIL}}),
        ("POST", {"json": {"query": MUTATION}, "headers": {"Origin": "null"}}),
        ("POST", {"json": {"query": MUTATION}, "headers": {"Sec-Fetch-Site": "same-site"}}),
    ],
)
def test_mutations_of_dagster_that_are_not_the_pages_own_are_refused(
    dagster: tuple[DagsterInstance, WorkspaceProcessContext], method: str, sent: dict[str, Any]
) -> None:
    instance, context = dagster
    client = TestClient(guarded_app(context, []), base_url=PAGE)
    answer = client.request(method, "/graphql", **sent)
    assert answer.status_code == 403
    assert answer.text.count("\n") == 1
    assert "accepted: " in answer.text
    assert limits(instance) == set()


def test_dagsters_page_and_its_clients_work_through_the_guard(
    dagster: tuple[DagsterInstance, WorkspaceProcessContext],
) -> None:
    instance, context = dagster
    with TestClient(guarded_app(context, []), base_url=PAGE) as client:
        page = client.get("/assets", headers=LINK)
        assert page.status_code == 200
        assert "<html" in page.text
        assert page.headers["x-frame-options"] == "SAMEORIGIN"
        for headers in (SAME_ORIGIN, {}):
            query = client.get("/graphql", params={"query": "{ __typename }"}, headers=headers)
            assert query.json()["data"] == {"__typename": "Query"}
            try:
                assert client.post("/graphql", json={"query": MUTATION}, headers=headers).status_code == 200
                assert limits(instance) == {"evil"}
            finally:
                instance.event_log_storage.delete_concurrency_limit("evil")
        assert client.post("/report_asset_materialization/seen").status_code == 200
        with client.websocket_connect(SOCKET, ["graphql-ws"], headers={"Origin": PAGE}) as socket:
            socket.send_json({"type": "connection_init"})
            assert socket.receive_json() == {"type": "connection_ack"}


def test_another_site_reports_nothing_to_dagster(
    dagster: tuple[DagsterInstance, WorkspaceProcessContext],
) -> None:
    _, context = dagster
    client = TestClient(guarded_app(context, []), base_url=PAGE)
    for report in ("materialization", "check", "observation"):
        answer = client.post(f"/report_asset_{report}/forged", headers={"Origin": EVIL})
        assert answer.status_code == 403
        assert "Origin" in answer.text


# ------------------------------------------------------------------------------------------ each rule alone
@pytest.mark.parametrize("host", ["127.0.0.1:3000", "localhost:3000", "LOCALHOST:3000", "[::1]:3000"])
def test_the_names_of_this_machine_are_accepted_with_the_pages_own_port(
    client: TestClient, host: str
) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:3000", "localhost", "localhost:3001", "127.0.0.1:3000.evil.example", ""],
)
def test_another_host_is_refused_by_name(client: TestClient, host: str) -> None:
    answer = client.get("/", headers={"Host": host})
    assert answer.status_code == 403
    assert f"Host '{host}'" in answer.text
    assert "127.0.0.1:3000" in answer.text
    assert "PAEPLATFORM_PAGE_HOSTS" in answer.text


def test_two_hosts_or_none_are_refused(client: TestClient) -> None:
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "server": ("127.0.0.1", 3000)}
    guard = Guard(client.app)
    good = (b"host", b"localhost:3000")
    assert guard.refusal(scope | {"headers": [good]}) is None
    assert "Host (none)" in str(guard.refusal(scope | {"headers": []}))
    assert "evil.example" in str(guard.refusal(scope | {"headers": [good, (b"host", b"evil.example")]}))
    twice = [good, (b"origin", b"http://localhost:3000"), (b"origin", b"http://evil.example")]
    assert "Origin" in str(guard.refusal(scope | {"headers": twice}))


@pytest.mark.parametrize(
    "origin",
    [EVIL, "null", "http://localhost:8888", "http://localhost", "file://", "http://127.0.0.1:3000@evil.example",
     "http://evil.example/127.0.0.1:3000", "http://127.0.0.1:3000/", ""],
)  # fmt: skip
@pytest.mark.parametrize("method", METHODS)
def test_another_origin_is_refused_whatever_it_asks(client: TestClient, method: str, origin: str) -> None:
    answer = client.request(method, "/ajax-api/2.0/mlflow/runs/search", headers={"Origin": origin})
    assert answer.status_code == 403
    assert "Origin" in answer.text
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200),
        (LINK, 200),
        (LINK | {"Sec-Fetch-Site": "same-site"}, 200),  # the link from Dagster's page to MLflow's
        (LINK | {"Sec-Fetch-Dest": "iframe"}, 403),
        (LINK | {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 403),
        (LINK | {"Sec-Fetch-Site": "something-new"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_another_site_may_link_to_a_page_and_nothing_else(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    assert client.get("/runs/some-run", headers=headers).status_code == status


@pytest.mark.parametrize(
    "path", ["/graphql", "/api/2.0/mlflow/runs/get", "/ajax-api/2.0/mlflow/gateway-proxy"]
)
def test_another_site_may_not_link_to_what_programs_ask(client: TestClient, path: str) -> None:
    assert client.get(path, headers=LINK).status_code == 403
    assert client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/json"}, 200),  # curl, the clients of Dagster and MLflow
        ({"Content-Type": "application/x-protobuf"}, 200),  # MLflow's traces
        ({}, 200),
        ({"Content-Type": "text/plain"}, 403),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 403),
        ({"Content-Type": "Application/X-WWW-Form-Urlencoded"}, 403),
        (SAME_ORIGIN | {"Content-Type": "text/plain"}, 200),
        ({"Content-Type": "application/json", "Referer": f"{EVIL}/page"}, 403),
        ({"Content-Type": "application/json", "Referer": f"{PAGE}/runs?x=1"}, 200),
        ({"Content-Type": "application/json", "Sec-Fetch-Site": "none"}, 403),
        (LINK, 403),
    ],
)
def test_who_may_change_something(client: TestClient, headers: dict[str, str], status: int) -> None:
    sent = client.post("/ajax-api/2.0/mlflow/runs/delete", content=b"{}", headers=headers)
    assert sent.status_code == status


def test_an_artifact_of_any_type_may_be_put(client: TestClient) -> None:
    path = "/api/2.0/mlflow-artifacts/artifacts/note.txt"  # MLflow's client sends the type of the file
    assert client.put(path, content=b"x", headers={"Content-Type": "text/plain"}).text == "PUT x"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("{ version }", 200),
        ("query a { version } query b { version }", 200),
        ("fragment f on Query { version } query { ...f }", 200),
        ("# mutation\n{ version }", 200),
        ('{ search(text: "mutation { wipe }") }', 200),
        (MUTATION, 403),
        (f"# a comment\n,,, {MUTATION}", 403),
        ("subscription { runs }", 403),
        ("not GraphQL", 403),
        ("", 403),
        ("{" * 5000, 403),
    ],
)
def test_graphql_by_get_is_read_not_guessed(client: TestClient, query: str, status: int) -> None:
    assert client.get("/graphql", params={"query": query}).status_code == status


def test_websockets_of_another_site_or_name_are_refused(client: TestClient) -> None:
    for headers in ({"Origin": PAGE}, {}):
        with client.websocket_connect(SOCKET, headers=headers) as socket:
            assert socket.receive_text() == "hello"
    for headers in (
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
    ):
        with (
            pytest.raises(WebSocketDenialResponse) as refused,
            client.websocket_connect(SOCKET, headers=headers),
        ):
            pass
        assert refused.value.status_code == 403


def test_health_is_told_to_a_probe_that_knows_no_name(client: TestClient) -> None:
    for path in ("/server_info", "/health"):
        assert client.get(path, headers={"Host": "10.1.2.3:3000"}).status_code == 200
        assert client.post(path, headers={"Host": "10.1.2.3:3000"}).status_code == 403
        assert client.get(path, headers={"Host": "10.1.2.3:3000", "Origin": EVIL}).status_code == 403


def test_a_refusal_is_logged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    client.get("/", headers={"Origin": EVIL})
    assert "refused GET /: Origin 'http://evil.example'" in caplog.text


def test_names_from_the_environment_are_accepted_as_host_and_origin() -> None:
    names = hosts_from_environment({"PAEPLATFORM_PAGE_HOSTS": "Pages.example.org, localhost:8080,"})
    assert names == ("pages.example.org", "localhost:8080")
    behind_proxy = client_of(*names)
    for host, origin in (("pages.example.org", "https://pages.example.org"), ("localhost:8080",) * 2):
        origin = origin if "//" in origin else f"http://{origin}"
        assert behind_proxy.post("/x", json={}, headers={"Host": host, "Origin": origin}).status_code == 200
    assert behind_proxy.get("/", headers={"Host": "example.org"}).status_code == 403
    assert hosts_from_environment({}) == ()


@pytest.mark.parametrize(
    "hosts", ["*", "*.example.org", "http://example.org", "example.org/x", "a:b", "a b,c", "u@h"]
)
def test_a_name_that_cannot_be_one_is_refused_with_the_variable(hosts: str) -> None:
    with pytest.raises(InputError, match="PAEPLATFORM_PAGE_HOSTS"):
        hosts_from_environment({"PAEPLATFORM_PAGE_HOSTS": hosts})


def test_the_port_that_browsers_leave_out() -> None:
    assert own_names(80) == ("127.0.0.1", "localhost", "[::1]")
    assert client_of(base_url="http://localhost").get("/").status_code == 200
    assert host_of("http://[::1]:3000") == "[::1]:3000"
