"""What the tests of the pure steps share: scopes made by hand and the size of a property's search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterable

Pairs = list[tuple[bytes, bytes]]


def examples(count: int) -> settings:
    """How many examples a property tries. No deadline: the machine may be busy with something else."""
    return settings(max_examples=count, deadline=None)


def http(headers: Iterable[tuple[bytes, bytes]] = (), *, query: bytes = b"", **more: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "path": "/",
        "query_string": query,
        "headers": list(headers),
        "client": ("203.0.113.10", 40_000),
        **more,
    }


def websocket(
    subprotocols: Iterable[str] = (), headers: Iterable[tuple[bytes, bytes]] = (), **more: Any
) -> dict[str, Any]:
    """A websocket's scope; it has no method, and the subprotocols stand in a header too."""
    offered = list(subprotocols)
    line = [(b"sec-websocket-protocol", ", ".join(offered).encode("utf-8", "surrogateescape"))] if offered else []
    return {
        "type": "websocket",
        "path": "/ws",
        "query_string": b"",
        "headers": [*headers, *line],
        "subprotocols": offered,
        "client": ("203.0.113.10", 40_000),
        **more,
    }
