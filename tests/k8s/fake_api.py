"""The HTTP side of the fake cluster: which requests it serves, and that each is one the caller may make."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from tests.k8s.fake_cluster import FakeCluster


class Refused(Exception):
    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


def selects(selector: str | None, values: Mapping[str, str]) -> bool:
    terms = (term.split("=", 1) for term in (selector or "").split(",") if term)
    return all(values.get(key) == value for key, value in terms)


_JOBS = re.compile(r"/apis/batch/v1/namespaces/(?P<space>[^/]+)/jobs(?:/(?P<name>[^/]+)(?P<part>/status)?)?$")
_CORE = re.compile(
    r"/api/v1/namespaces/(?P<space>[^/]+)/(?P<kind>pods|events)(?:/(?P<name>[^/]+)(?P<part>/log)?)?$"
)


def api_handler(cluster: FakeCluster) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self, method: str) -> None:
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or "{}")
            account = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            try:
                status, answer = 200, _route(cluster, account, method, url.path, query, body)
            except Refused as refused:
                status = refused.status
                answer = {"kind": "Status", "status": "Failure", "message": str(refused), "code": status}
            text = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            self._answer("POST")

        def do_DELETE(self) -> None:
            self._answer("DELETE")

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _route(
    cluster: FakeCluster, account: str, method: str, path: str, query: dict[str, str], body: dict[str, Any]
) -> Any:
    jobs, core = _JOBS.fullmatch(path), _CORE.fullmatch(path)
    found = jobs or core
    if found is None:
        cluster.refuse(404, f"{method} {path} is not served")
    kind = ("jobs" if jobs else found["kind"]) + (found["part"] or "")
    name = found["name"]
    verb = {"GET": "get" if name else "list", "POST": "create", "DELETE": "delete"}[method]
    cluster.allow(account, verb, kind)
    match verb, kind:
        case "create", "jobs":
            return cluster.create_job(body)
        case "get", "jobs" | "jobs/status":
            return cluster.job(name)
        case "list", "jobs":
            with cluster.lock:
                names = [
                    each
                    for each in cluster.jobs
                    if selects(query.get("fieldSelector"), {"metadata.name": each})
                ]
                return _list("batch/v1", "JobList", [cluster.job(each) for each in names])
        case "delete", "jobs":
            return cluster.delete_job(name)
        case "get", "pods":
            return cluster.pod(name)
        case "get", "pods/log":
            cluster.pod(name)
            lines = cluster.pods[name].log.read_text(errors="replace").splitlines()
            return "\n".join(lines[-int(query.get("tailLines", len(lines) or 1)) :])
        case "list", "pods":
            return _list("v1", "PodList", cluster.list_pods(query))
        case "delete", "pods":
            return cluster.delete_pod(name)
        case "list", "events":
            return _list("v1", "EventList", cluster.list_events(query))
    return cluster.refuse(405, f"{verb} {kind} is not served")


def _list(version: str, kind: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {}, "items": items}
