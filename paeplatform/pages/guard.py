"""One guard in front of the pages of Dagster and MLflow: only these pages, and programs, may drive them.

Neither page has a log-in, and a browser sends a request to 127.0.0.1 for any web page that asks for it. The guard
therefore reads what a browser says about a request and a web page cannot change: the Host that the browser looked
up (a foreign name that resolves to 127.0.0.1 is "DNS rebinding"), the Origin that asks, and the Sec-Fetch headers.
Programs (curl, the clients of Dagster and MLflow) send the right Host and none of the others.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from paeplatform.pages.hosts import HOSTS_VARIABLE, host_of, own_names

# A probe of Kubernetes asks for the pod's address, which nobody knows beforehand. These tell version numbers only.
HEALTH_PATHS = ("/server_info", "/health")
# Another site may link to a page that people read, not to what programs ask.
PROGRAM_PATHS = ("/api/", "/ajax-api/")
GRAPHQL_PATH = "/graphql"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
# What a form of any web page can send without asking first (the "simple" types of CORS).
FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
_log = logging.getLogger("uvicorn.error")  # the server's own log, which both pages write to var/log/


class Guard:
    """ASGI middleware that refuses what neither the page itself nor a program can have sent.

    The names of the page are 127.0.0.1, localhost and [::1] with the port that the connection came in on, and
    `hosts`. The rules, in this order:

    1. Host is one of these names.
    2. Origin, when given, is one of them; so for WebSockets, which browsers always open with an Origin.
    3. Sec-Fetch-Site, when given, is the page itself or the address bar. Another site may only open a page in a
       tab of its own (a link); it may not frame, embed or read one.
    4. A method that changes something comes from the page or from a program, and not as a form without an Origin.
    5. GraphQL by GET holds queries only; by another method it is application/json.

    Args:
        app: the page.
        hosts: more names, as `name` or `name:port`.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._hosts = tuple(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on to the page, or answers 403 with the reason."""
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        reason = self.refusal(scope)
        if reason is None:
            return await self._app(scope, receive, _unframed(send))
        _log.warning("refused %s %s: %s", scope.get("method", "WebSocket"), scope["path"], reason)
        if scope["type"] == "http" or "websocket.http.response" in scope.get("extensions", {}):
            answer = PlainTextResponse(f"{reason}\n", 403, {"X-Content-Type-Options": "nosniff"})
            return await answer(scope, receive, send)
        return await WebSocketClose(1008, reason[:100])(scope, receive, send)

    def refusal(self, scope: Scope) -> str | None:
        """Why a request is refused, in one line that names the header and what is accepted; None when it is not."""
        headers = Headers(scope=scope)
        names = self.names(scope)
        accepted = f"accepted: {', '.join(names)}; {HOSTS_VARIABLE} adds others"
        is_health = scope.get("method") in ("GET", "HEAD") and scope["path"] in HEALTH_PATHS
        hosts = [host.lower() for host in headers.getlist("host")]
        if not is_health and (len(hosts) != 1 or hosts[0] not in names):
            return f"Host {_shown(hosts)} is not a name of this page ({accepted})"
        origins = headers.getlist("origin")
        if origins and (len(origins) != 1 or host_of(origins[0]) not in names):
            return f"Origin {_shown(origins)} is another site ({accepted})"
        if scope["type"] == "websocket":
            return None
        return (
            _site_refusal(scope, headers)
            or _sender_refusal(scope, headers, names, accepted)
            or _graphql_refusal(scope, headers)
        )

    def names(self, scope: Scope) -> tuple[str, ...]:
        """The names of the page for a connection, as a browser writes them into Host."""
        _, port = scope.get("server") or (None, None)  # no port on a UNIX socket
        return (*own_names(port), *self._hosts) if port else self._hosts


def _site_refusal(scope: Scope, headers: Headers) -> str | None:
    site = headers.get("sec-fetch-site", "same-origin")
    if site == "same-origin" or (site == "none" and scope["method"] in SAFE_METHODS):
        return None
    is_link = (
        scope["method"] == "GET"
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
        and not scope["path"].startswith(PROGRAM_PATHS)
        and not _is_graphql(scope)
    )
    if site in ("same-site", "cross-site") and is_link:
        return None
    return f"Sec-Fetch-Site {_shown([site])}: another site may only link to a page (accepted: same-origin)"


def _sender_refusal(scope: Scope, headers: Headers, names: tuple[str, ...], accepted: str) -> str | None:
    if scope["method"] in SAFE_METHODS or "origin" in headers:
        return None
    referer = headers.get("referer")
    if referer is not None and host_of(referer, whole=False) not in names:
        return f"Referer {_shown([referer])} is another site ({accepted})"
    media_type = _media_type(headers)
    if scope["method"] == "POST" and media_type in FORM_TYPES:
        return (
            f"Content-Type {media_type!r} without an Origin may be a form of another site "
            "(accepted: application/json)"
        )
    return None


def _graphql_refusal(scope: Scope, headers: Headers) -> str | None:
    if not _is_graphql(scope):
        return None
    if scope["method"] not in SAFE_METHODS:
        if _media_type(headers) == "application/json":
            return None
        return (
            f"Content-Type {_media_type(headers)!r} is not accepted for GraphQL (accepted: application/json)"
        )
    # Every one, whichever of several the page would take.
    if all(map(_only_queries, QueryParams(scope["query_string"]).getlist("query"))):
        return None
    return (
        "GraphQL by GET holds something other than a query "
        "(accepted: queries; mutations by POST as application/json)"
    )


def _only_queries(text: str) -> bool:
    """Whether a GraphQL document can be read and holds no mutation and no subscription."""
    try:
        document = parse(text)
    except (GraphQLError, RecursionError):
        return False
    operations = [one for one in document.definitions if isinstance(one, OperationDefinitionNode)]
    return all(one.operation == OperationType.QUERY for one in operations)


def _is_graphql(scope: Scope) -> bool:
    return scope["path"].rstrip("/").endswith(GRAPHQL_PATH)


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "").split(";")[0].strip().lower()


def _shown(values: list[str]) -> str:
    return ", ".join(ascii(value[:80]) for value in values) or "(none)"


def _unframed(send: Send) -> Send:
    """Forbids other sites to frame the page, where a click meant for them would be one here."""

    async def with_header(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).setdefault("X-Frame-Options", "SAMEORIGIN")
        await send(message)

    return with_header
