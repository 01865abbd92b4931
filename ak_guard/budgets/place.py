"""Where windows are counted, in words that two processes can compare and that hold no secret."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from limits.aio.storage import Storage

    from ak_guard.budgets.base import MultiWindowSupport

BESIDE_THE_KEYS: Final = "beside the keys"

_PORTS: Final = {"redis": 6379, "rediss": 6379, "valkey": 6379, "valkeys": 6379, "memcached": 11211}


def place_of(limits: Storage | MultiWindowSupport | str | None) -> str:
    """What the setting `limits` names: `redis://host:6379/0`, `beside the keys`, or memory with its process.

    An object does not say where its store is: it has no place to compare.
    """
    if limits is None:
        return BESIDE_THE_KEYS
    if not isinstance(limits, str):
        return ""
    parts = urlsplit(limits)
    scheme = parts.scheme.removeprefix("async+").removeprefix("ak-guard+")
    if scheme == "memory":
        return f"the memory of {socket.gethostname()}:{os.getpid()}"
    hosts = ",".join(sorted(_host(host, scheme) for host in parts.netloc.rpartition("@")[2].split(",")))
    return f"{scheme}://{hosts}{_path(parts, scheme)}"


def _host(host: str, scheme: str) -> str:
    port = _PORTS.get(scheme)
    named = host.rpartition(":")[2].isdigit()
    return host.lower() if named or port is None else f"{host.lower()}:{port}"


def _path(parts: SplitResult, scheme: str) -> str:
    # The query may hold a password.
    return "/0" if parts.path in {"", "/"} and _PORTS.get(scheme) == 6379 else parts.path
