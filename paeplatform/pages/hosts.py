"""The names under which a page may be asked for: those of this machine, and those that the environment adds."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from paeplatform.errors import InputError

HOSTS_VARIABLE = "PAEPLATFORM_PAGE_HOSTS"
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
_NAME = re.compile(r"([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


def own_names(port: int) -> tuple[str, ...]:
    """The names of a page on this machine, as a browser writes them into Host."""
    return tuple(name if port == 80 else f"{name}:{port}" for name in LOOPBACK_NAMES)


def hosts_from_environment(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The names that PAEPLATFORM_PAGE_HOSTS adds, separated by commas.

    Raises:
        InputError: one is not `name` or `name:port`.
    """
    hosts = [host.strip().lower() for host in environment.get(HOSTS_VARIABLE, "").split(",")]
    for host in filter(None, hosts):
        if not _NAME.fullmatch(host):
            raise InputError(
                f"{HOSTS_VARIABLE}: {host!r} is not a name or a name:port, such as localhost:8080"
            )
    return tuple(filter(None, hosts))


def host_of(url: str, *, whole: bool = True) -> str | None:
    """The host and port of an http(s) address; None for anything else, such as the origin `null`.

    Args:
        url: an origin or an address.
        whole: accept nothing after host and port.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError where it is no number
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        return None
    if whole and url.lower() != f"{parts.scheme}://{parts.netloc}".lower():
        return None
    return parts.netloc.lower()
