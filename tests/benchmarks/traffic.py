"""The requests that are sent, and the bare apps that answer them."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request

PATH: Final = "/v1/models"
#: A documentation address, so that it counts as somebody's own: see "Floods" in the guard.
CLIENT: Final = "203.0.113.10"

# With `authorization` these are ten headers, as a browser or an SDK sends them.
HEADERS: Final[list[tuple[bytes, bytes]]] = [
    (b"host", b"api.example.com"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b"en-GB,en;q=0.9"),
    (b"connection", b"keep-alive"),
    (b"content-type", b"application/json"),
    (b"user-agent", b"OpenAI/Python 1.99.1"),
    (b"x-stainless-lang", b"python"),
    (b"x-stainless-retry-count", b"0"),
]


def request(secret: str | None, client: str = CLIENT) -> dict[str, Any]:
    """What uvicorn makes of a GET with this key; the harness copies it for each call."""
    headers = list(HEADERS)
    if secret is not None:
        headers.insert(3, (b"authorization", b"Bearer " + secret.encode()))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("10.0.0.1", 80),
        "client": (client, 40_000),
        "scheme": "http",
        "root_path": "",
        "headers": headers,
        "state": {},
        "method": "GET",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
    }


def requests(secrets: Iterable[str]) -> list[dict[str, Any]]:
    return [request(secret) for secret in secrets]


async def pong(_: Request) -> PlainTextResponse:  # an async endpoint, as the apps guarded here have
    return PlainTextResponse("pong")


def starlette_app() -> Starlette:
    """The app that everybody guards."""
    return Starlette(routes=[Route(PATH, pong)])


def networks(count: int) -> list[str]:
    """So many networks that cannot be merged, none of which holds `CLIENT`."""
    first = int(ipaddress.IPv4Address("11.0.0.0"))
    return [f"{ipaddress.IPv4Address(first + 512 * at)}/24" for at in range(count)]


def addresses_in(inside: Iterable[str]) -> list[str]:
    """One address of each network."""
    return [network.replace(".0/24", ".7") for network in inside]
