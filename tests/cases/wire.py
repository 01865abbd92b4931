"""One request over the wire: the scope a server would make of it, and what came back."""

from __future__ import annotations

import json
import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from tests.cases.guarded import SET_BY_APP, Visit
from tests.cases.language import UnknownWord, known_only

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message

    from ak_guard import Decision

_SHOWN: Final = re.compile(r'"(?P<name>[^"]+)"(?P<rest>[^,]*)')


@dataclass(eq=False)
class Outcome:
    """What became of one request."""

    visit: Visit
    messages: list[Message] = field(default_factory=list)
    raised: BaseException | None = None
    decision: Decision | None = None

    def _of(self, kind: str) -> list[Message]:
        return [message for message in self.messages if message["type"].endswith(kind)]

    @property
    def status(self) -> int | None:
        """101 for a websocket that was accepted; None where none was sent: a fault, or a closed websocket."""
        if self.accepted:
            return 101
        starts = self._of("http.response.start")
        assert len(starts) <= 1, "a response began twice"
        return starts[0]["status"] if starts else None

    @property
    def accepted(self) -> bool:
        return bool(self._of("websocket.accept"))

    @property
    def close(self) -> Message | None:
        return next(iter(self._of("websocket.close")), None)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self._of("http.response.body"))

    @property
    def content(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.body)
        return content

    @property
    def code(self) -> str | None:
        """The code of the guard's refusal; None when it let the request in or was not asked."""
        if self.decision is not None:
            return None if self.decision.admitted or not self.decision.enforced else self.decision.code
        if self.close is not None and not self.visit.called:
            reason: str = self.close["reason"]
            return reason
        if self.visit.called or not self.body:
            return None
        code: str | None = self.content.get("code") if self.header("content-type") == "application/json" else None
        return code

    def headers(self, name: str) -> list[str]:
        starts = self._of("http.response.start") + self._of("websocket.accept")
        pairs = [pair for start in starts for pair in start.get("headers", ())]
        return [value.decode("latin-1") for key, value in pairs if key.lower() == name.encode()]

    def header(self, name: str) -> str | None:
        values = self.headers(name)
        assert len(values) <= 1, f"{name} was sent {len(values)} times"
        return values[0] if values else None

    @property
    def windows(self) -> list[dict[str, str]]:
        """The windows as `RateLimit` and `RateLimit-Policy` show them, in their order, without the quota."""
        left, policy = _items(self.header("ratelimit")), _items(self.header("ratelimit-policy"))
        assert [item["name"] for item in left] == [item["name"] for item in policy]
        return [one | other for one, other in zip(left, policy, strict=True) if "w" in other]

    @property
    def everything_sent(self) -> str:
        return repr(self.messages) + repr(self.raised)


def _items(line: str | None) -> list[dict[str, str]]:
    return [
        {"name": match["name"], **dict(part.split("=", 1) for part in match["rest"].split(";") if part)}
        for match in _SHOWN.finditer(line or "")
    ]


def scope_of(request: dict[str, Any], visit: Visit) -> dict[str, Any]:
    kind = request.get("type", "http")
    path = request.get("path", "/")
    headers = [(_bytes(name), _bytes(value)) for name, value in request.get("headers", [])]
    client = request.get("client", "203.0.113.10")
    scope: dict[str, Any] = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": "ws" if kind == "websocket" else "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "root_path": request.get("root_path", ""),
        "query_string": request.get("query", "").encode(),
        "headers": _typed(headers, request.get("scope_headers_type", "list")),
        "client": None if client is None else (client, 40_000),
        "server": ("testserver", 80),
        "visit": visit,
    }
    if kind == "http":
        scope["method"] = request.get("method", "GET")
    if kind == "websocket":
        scope["subprotocols"] = request.get("subprotocols", [])
        scope["extensions"] = {name: {} for name in request.get("extensions", [])}
    return scope


def _typed(headers: list[tuple[bytes, bytes]], kind: str) -> Any:
    if kind not in {"list", "tuple"}:
        raise UnknownWord("scope_headers_type", kind)
    return headers if kind == "list" else tuple(headers)


def _bytes(value: str | dict[str, Any]) -> bytes:
    """Header text, `{hex: ...}` for raw bytes, or `{prefix, repeat, times}` for long ones."""
    if isinstance(value, str):
        return value.encode("latin-1")
    if "hex" in value:
        known_only(value, {"hex", "prefix"}, "header")
        prefix: str = value.get("prefix", "")
        return prefix.encode() + bytes.fromhex(value["hex"])
    known_only(value, {"repeat", "times", "prefix"}, "header")
    text: str = value.get("prefix", "") + value["repeat"] * value["times"]
    return text.encode("latin-1")


async def exchange(app: ASGIApp, request: dict[str, Any]) -> Outcome:
    """Send one request and take what comes back, also an exception: what a server would get."""
    outcome = Outcome(Visit(request.get("cost", 1), request.get("app", {})))
    scope = scope_of(request, outcome.visit)
    incoming: deque[Message] = deque()
    if scope["type"] == "websocket":
        incoming += [{"type": "websocket.connect"}]
        incoming += [{"type": "websocket.receive", "text": text} for text in request.get("says", [])]
    else:
        incoming += [{"type": "http.request", "body": request.get("body", "").encode(), "more_body": False}]

    async def receive() -> Message:
        gone = "websocket.disconnect" if scope["type"] == "websocket" else "http.disconnect"
        return incoming.popleft() if incoming else {"type": gone}

    async def send(message: Message) -> None:
        outcome.messages.append(message)

    SET_BY_APP.set("")
    try:
        await app(scope, receive, send)
    except UnknownWord:
        raise
    except Exception as error:  # noqa: BLE001  # whatever gets out is part of what came back
        outcome.raised = error
    outcome.visit.contextvar_outside = SET_BY_APP.get()
    return outcome
