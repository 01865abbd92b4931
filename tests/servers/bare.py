"""A guard called as a server calls it, message by message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


def http_scope(key: str | None = None, **more: Any) -> Scope:
    """A scope with no more in it than ASGI asks for."""
    headers = [] if key is None else [(b"authorization", b"Bearer " + key.encode())]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/v1/chat",
        "raw_path": b"/v1/chat",
        "query_string": b"",
        "headers": headers,
        "client": ("203.0.113.10", 40_000),
        **more,
    }


async def no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def call(app: ASGIApp, scope: Scope, receive: Receive = no_body) -> list[Message]:
    """Everything the app sends."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


async def status_of(app: ASGIApp, scope: Scope) -> int:
    status: int = (await call(app, scope))[0]["status"]
    return status


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that knows http and no lifespan."""
    if scope["type"] != "http":
        raise RuntimeError("only http is spoken here")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})
