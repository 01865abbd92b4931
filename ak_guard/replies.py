"""What is sent: one table from the code of a refusal to its status, its headers and its body."""

from __future__ import annotations

import json
import random
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.types import Receive, Scope, Send

    from ak_guard.ratelimit_fields import Headers
    from ak_guard.records import Denial


class Reply(NamedTuple):
    """How one kind of refusal is told.

    `error_type` is for OpenAI- and Anthropic-shaped clients, `challenge` what `WWW-Authenticate` holds beside the
    realm (RFC 6750 3.1), None for no challenge. `hopeless`: waiting does not help, so clients are told not to retry.
    """

    status: int
    title: str
    error_type: str
    challenge: str | None = None
    hopeless: bool = False


_INVALID_TOKEN: Final = 'error="invalid_token"'  # noqa: S105  # an attribute of RFC 6750

TABLE: Final[Mapping[str, Reply]] = {
    "misconfigured": Reply(503, "The API key guard is not configured", "api_error"),
    "missing_api_key": Reply(401, "An API key is needed", "authentication_error", ""),
    "credential_too_large": Reply(431, "The API key is too long", "invalid_request_error"),
    "ambiguous_credentials": Reply(
        400, "Several API keys were sent", "invalid_request_error", 'error="invalid_request"'
    ),
    "invalid_api_key": Reply(401, "The API key is not valid", "authentication_error", _INVALID_TOKEN),
    "too_many_failures": Reply(429, "Too many unknown API keys", "rate_limit_error"),
    "key_service_unavailable": Reply(503, "API keys cannot be checked", "overloaded_error"),
    "api_key_disabled": Reply(401, "The API key is disabled", "authentication_error", _INVALID_TOKEN),
    "api_key_expired": Reply(401, "The API key has expired", "authentication_error", _INVALID_TOKEN),
    "ip_not_allowed": Reply(403, "The client address is not allowed", "permission_error"),
    "group_not_allowed": Reply(
        403, "The group of the API key does not allow this", "permission_error", 'error="insufficient_scope"'
    ),
    "cost_exceeds_limit": Reply(429, "The request costs more than a whole limit", "rate_limit_error", hopeless=True),
    "insufficient_quota": Reply(429, "The quota is used up", "insufficient_quota", hopeless=True),
    "rate_limit_exceeded": Reply(429, "A rate limit is reached", "rate_limit_error"),
    "limits_unavailable": Reply(503, "Limits cannot be checked", "overloaded_error"),
    "concurrency_limit_exceeded": Reply(429, "Too many requests at a time", "rate_limit_error"),
}

#: Refusals for want of budget.
BUDGET_CODES: Final = frozenset(
    {"cost_exceeds_limit", "insufficient_quota", "rate_limit_exceeded", "concurrency_limit_exceeded"}
)
# draft-ietf-httpapi-ratelimit-headers registers this problem type (RFC 9457) with the member "violated-policies".
_QUOTA_EXCEEDED: Final = "https://iana.org/assignments/http-problem-types#quota-exceeded"
_TOO_MANY_REQUESTS: Final = 429
#: What servers answer where a websocket is closed before it was accepted (ASGI).
REFUSED_HANDSHAKE: Final = 403
_REALM: Final = 'Bearer realm="api"'


class Replies:
    """Render refusals. `quota_status` is 429, 402 or 403; `max_client_wait` in seconds, see `ApiKeyMiddleware`."""

    def __init__(self, *, quota_status: int, max_client_wait: float) -> None:
        statuses = {code: reply.status for code, reply in TABLE.items()} | {"insufficient_quota": quota_status}
        self._forms = {code: _Form(code, reply, statuses[code]) for code, reply in TABLE.items()}
        self._absent = {
            code: _Form(code, reply._replace(challenge=None), 404)
            for code, reply in TABLE.items()
            if reply.status == 401
        }
        self._max_client_wait = max_client_wait

    async def send(self, denial: Denial, ratelimit: Headers, scope: Scope, receive: Receive, send: Send) -> int:
        """Answer the request with the refusal, and return the status that its client is told.

        A websocket is refused before it is accepted.
        """
        websocket = scope["type"] == "websocket"
        if websocket:
            await receive()  # websocket.connect: servers listen to an answer only after it was taken
            if "websocket.http.response" not in (scope.get("extensions") or {}):
                # RFC 6455 7.4.1: 1008 is a violated policy. A close reason has at most 123 bytes.
                await send({"type": "websocket.close", "code": 1008, "reason": denial.code})
                return REFUSED_HANDSHAKE
        code = denial.code
        form = self._absent[code] if code in self._absent and _asks_for_oauth(scope["path"]) else self._forms[code]
        request_id = b"req_%024x" % random.getrandbits(96)  # names a request, guards nothing
        asked = _asked(scope["headers"])
        body = form.body(denial, request_id, anthropic=asked.anthropic)
        headers: Headers = [
            (b"content-type", b"application/problem+json" if asked.problem else b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id),
            (b"request-id", request_id),
            *form.headers,
            *ratelimit,
        ]
        wait = denial.retry_after
        if wait is not None:
            headers.append((b"retry-after", b"%d" % wait))
            if form.status == _TOO_MANY_REQUESTS and wait > self._max_client_wait:
                headers.append(_DO_NOT_RETRY)
        prefix = "websocket." if websocket else ""
        await send({"type": f"{prefix}http.response.start", "status": form.status, "headers": headers})
        if scope.get("method") == "HEAD":
            body = b""
        await send({"type": f"{prefix}http.response.body", "body": body})
        return form.status


def _asks_for_oauth(path: str) -> bool:
    """Whether a client looks for an authorization server (RFC 9728 3, RFC 8414 3), as those of MCP do after a 401.

    Where there is none, 404 says so and they show the first refusal; another 401 would lead them round in circles.
    """
    return "/.well-known/o" in path and any(known in path for known in _OAUTH_METADATA)


_OAUTH_METADATA: Final = (
    "/.well-known/oauth-protected-resource",
    "/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration",
)

# The SDKs of OpenAI and Anthropic would otherwise retry in vain, or sleep for hours.
_DO_NOT_RETRY: Final = (b"x-should-retry", b"false")


class _Form:
    """One row of the table, rendered as far as it is the same for all refusals."""

    __slots__ = ("_anthropic", "_plain", "headers", "status")

    def __init__(self, code: str, reply: Reply, status: int) -> None:
        self.status = status
        self.headers: Headers = [(b"cache-control", b"no-store")]
        if reply.challenge is not None:
            challenge = f"{_REALM}, {reply.challenge}" if reply.challenge else _REALM
            self.headers.append((b"www-authenticate", challenge.encode()))
        if reply.hopeless:
            self.headers.append(_DO_NOT_RETRY)
        kind = _QUOTA_EXCEEDED if code in BUDGET_CODES else "about:blank"
        self._plain = _template(code, reply, status, kind)
        self._anthropic = _template(code, reply, status, "error")

    def body(self, denial: Denial, request_id: bytes, *, anthropic: bool) -> bytes:
        """RFC 9457 members, and beside them what OpenAI- and Anthropic-shaped clients read."""
        detail = _quoted(denial.detail)
        full = _quoted(denial.full) if denial.full else b"[]"
        return (self._anthropic if anthropic else self._plain) % (detail, full, detail, request_id)


# Refusals come in streams of the same ones.
@lru_cache(maxsize=512)
def _quoted(value: str | tuple[str, ...]) -> bytes:
    return json.dumps(value).encode()


def _template(code: str, reply: Reply, status: int, kind: str) -> bytes:
    content: dict[str, Any] = {
        "type": kind,
        "title": reply.title,
        "status": status,
        "detail": "%s",
        "code": code,
        "violated-policies": "%s",
        "error": {
            "message": "%s",
            "type": reply.error_type,
            "param": None,
            "code": code,
            "details": {"error_code": code},
        },
        "request_id": "REQUEST",
    }
    if code not in BUDGET_CODES:
        # Takes no room, but keeps one list of arguments for all.
        content["violated-policies"] = "%.0s"
    text = json.dumps(content, separators=(",", ":"))
    text = text.replace('"violated-policies":"%.0s",', "%.0s").replace('"%s"', "%s").replace("REQUEST", "%s")
    return text.encode()


class _Asked(NamedTuple):
    anthropic: bool
    problem: bool


def _asked(headers: Iterable[tuple[bytes, bytes]]) -> _Asked:
    """Which shape of body the client wants."""
    anthropic = problem = False
    for name, value in headers:
        # Most names have another length.
        if len(name) in _ASKED_LENGTHS:
            lowered = name.lower()
            if lowered == b"accept":
                problem = problem or b"application/problem+json" in value.lower()
            elif lowered == b"anthropic-version":
                anthropic = True
    return _Asked(anthropic, problem)


_ASKED_LENGTHS: Final = frozenset({len(b"anthropic-version"), len(b"accept")})
