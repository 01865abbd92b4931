"""The app behind the guard, which behaves as a case wants it to, and writes down what it saw."""

from __future__ import annotations

import contextvars
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.cases.language import UnknownWord, known_only

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from ak_guard import Admission

SET_BY_APP: Final[contextvars.ContextVar[str]] = contextvars.ContextVar("set_by_app", default="")

BEHAVIOURS: Final = {
    "raise_before_start",
    "sets_contextvar",
    "waits_for",
    "headers_type",
    "stream",
    "status",
    "own_headers",
    "charge",
    "reads_body",
    "raise_after_start",
    "trailers",
}


class X(Exception):
    pass


class Y(Exception):
    pass


FAULTS: Final[dict[str, Exception]] = {"X": X(), "group(X,Y)": ExceptionGroup("both", [X(), Y()])}


@dataclass(eq=False)
class Visit:
    """One request as the app behind the guard sees it. It travels in the scope."""

    cost: Any = 1
    behaviour: dict[str, Any] = field(default_factory=dict)
    called: bool = False
    scope: dict[str, Any] = field(default_factory=dict)
    received: list[Message] = field(default_factory=list)
    contextvar_outside: str = ""

    @property
    def admission(self) -> Admission | None:
        admission: Admission | None = self.scope.get("state", {}).get("ak_guard")
        return admission


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    visit: Visit = scope["visit"]
    visit.called = True
    visit.scope = {**scope, "state": dict(scope.get("state", {}))}
    known_only(visit.behaviour, BEHAVIOURS, "app")
    if fault := visit.behaviour.get("raise_before_start"):
        raise FAULTS[fault]
    if visit.behaviour.get("sets_contextvar"):
        SET_BY_APP.set("by the app")
    if (units := visit.behaviour.get("charge")) is not None:
        scope["state"]["ak_guard"].charge(units)
    if scope["type"] == "websocket":
        await _talk(visit, receive, send)
    elif scope["type"] == "http":
        await _answer(visit, scope, receive, send)


async def _talk(visit: Visit, receive: Receive, send: Send) -> None:
    visit.received.append(await receive())
    await send({"type": "websocket.accept", "headers": _headers(visit)})
    while (message := await receive())["type"] == "websocket.receive":
        visit.received.append(message)
        await send({"type": "websocket.send", "text": message["text"]})


async def _answer(visit: Visit, scope: Scope, receive: Receive, send: Send) -> None:
    behaviour = visit.behaviour
    if wanted := behaviour.get("waits_for"):
        while (message := await receive())["type"] != wanted:
            visit.received.append(message)
        visit.received.append(message)
    elif behaviour.get("reads_body"):
        visit.received.append(await receive())
    start = {"type": "http.response.start", "status": behaviour.get("status", 200), "headers": _headers(visit)}
    await send({**start, "trailers": True} if "trailers" in behaviour else start)
    if fault := behaviour.get("raise_after_start"):
        raise FAULTS[fault]
    chunks = [] if scope["method"] == "HEAD" else behaviour.get("stream", ["fine"])
    for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk.encode(), "more_body": True})
    await send({"type": "http.response.body", "body": b""})
    if "trailers" in behaviour:
        await send({"type": "http.response.trailers", "headers": _pairs(behaviour["trailers"])})


def _headers(visit: Visit) -> Any:
    headers = [(b"content-type", b"text/plain"), *_pairs(visit.behaviour.get("own_headers", []))]
    match visit.behaviour.get("headers_type", "list"):
        case "list":
            return headers
        case "tuple":
            return tuple(headers)
        case "generator":
            return (pair for pair in headers)
    raise UnknownWord("headers_type", visit.behaviour["headers_type"])


def _pairs(headers: list[list[str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers]
