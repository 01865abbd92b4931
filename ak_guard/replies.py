"""What is sent: one table from the code of a refusal to its status, its headers and its body."""

from __future__ import annotations

import json
import math
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from starlette.types import Receive, Scope, Send

    from ak_guard.budgets.windows import Window
    from ak_guard.records import Denial

Headers = list[tuple[bytes, bytes]]


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

_BUDGET_CODES: Final = frozenset({"cost_exceeds_limit", "insufficient_quota", "rate_limit_exceeded"})
# draft-ietf-httpapi-ratelimit-headers registers this problem type (RFC 9457) with the member "violated-policies".
_QUOTA_EXCEEDED: Final = "https://iana.org/assignments/http-problem-types#quota-exceeded"
_REALM: Final = 'Bearer realm="api"'


class Replies:
    """Render refusals. `quota_status` is 429, 402 or 403; `max_client_wait` in seconds, see `ApiKeyMiddleware`."""

    def __init__(self, *, quota_status: int, max_client_wait: float) -> None:
        self._quota_status = quota_status
        self._max_client_wait = max_client_wait

    def status(self, denial: Denial) -> int:
        return self._quota_status if denial.code == "insufficient_quota" else TABLE[denial.code].status

    async def send(self, denial: Denial, ratelimit: Headers, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request with the refusal. A websocket is refused before it is accepted."""
        if scope["type"] == "websocket" and "websocket.http.response" not in (scope.get("extensions") or {}):
            await _close_websocket(denial, receive, send)
            return
        prefix = ""
        if scope["type"] == "websocket":
            prefix = "websocket."
            await receive()  # websocket.connect; servers answer only after it was taken
        status = self.status(denial)
        request_id = "req_" + secrets.token_hex(12)
        body, media_type = self._body(denial, status, request_id, scope)
        headers = [
            (b"content-type", media_type),
            (b"content-length", b"%d" % len(body)),
            *self._headers(denial, status, request_id),
            *ratelimit,
        ]
        await send({"type": f"{prefix}http.response.start", "status": status, "headers": headers})
        if scope.get("method") == "HEAD":
            body = b""
        await send({"type": f"{prefix}http.response.body", "body": body})

    def _headers(self, denial: Denial, status: int, request_id: str) -> Headers:
        reply = TABLE[denial.code]
        headers = [
            (b"cache-control", b"no-store"),
            (b"x-request-id", request_id.encode()),
            (b"request-id", request_id.encode()),
        ]
        if reply.challenge is not None:
            challenge = f"{_REALM}, {reply.challenge}" if reply.challenge else _REALM
            headers.append((b"www-authenticate", challenge.encode()))
        if denial.retry_after is not None:
            headers.append((b"retry-after", b"%d" % denial.retry_after))
        too_long = status == HTTPStatus.TOO_MANY_REQUESTS and (denial.retry_after or 0) > self._max_client_wait
        if reply.hopeless or too_long:
            # The SDKs of OpenAI and Anthropic would otherwise retry in vain, or sleep for hours.
            headers.append((b"x-should-retry", b"false"))
        return headers

    @staticmethod
    def _body(denial: Denial, status: int, request_id: str, scope: Scope) -> tuple[bytes, bytes]:
        """RFC 9457 members, and beside them what OpenAI- and Anthropic-shaped clients read."""
        reply = TABLE[denial.code]
        asked = _asked(scope)
        content: dict[str, Any] = {
            "type": _QUOTA_EXCEEDED if denial.code in _BUDGET_CODES else "about:blank",
            "title": reply.title,
            "status": status,
            "detail": denial.detail,
            "code": denial.code,
            "error": {
                "message": denial.detail,
                "type": reply.error_type,
                "param": None,
                "code": denial.code,
                "details": {"error_code": denial.code},
            },
            "request_id": request_id,
        }
        if denial.full:
            content["violated-policies"] = list(denial.full)
        if asked.anthropic:
            content["type"] = "error"
        media_type = b"application/problem+json" if asked.problem else b"application/json"
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(), media_type


class _Asked(NamedTuple):
    anthropic: bool
    problem: bool


def _asked(scope: Scope) -> _Asked:
    anthropic = problem = False
    for name, value in scope["headers"]:
        lower = name.lower()
        if lower == b"anthropic-version":
            anthropic = True
        elif lower == b"accept" and b"application/problem+json" in value.lower():
            problem = True
    return _Asked(anthropic, problem)


async def _close_websocket(denial: Denial, receive: Receive, send: Send) -> None:
    await receive()
    # RFC 6455 7.4.1: 1008 is a violated policy. A close reason has at most 123 bytes.
    await send({"type": "websocket.close", "code": 1008, "reason": denial.code})


def ratelimit_policy(windows: Iterable[Window]) -> bytes:
    """`RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers): `"5h";q=1000;w=18000, "quota";q=100000`."""
    items = []
    for window in windows:
        item = f'"{window.name}";q={window.amount}'
        if window.slot != "quota":
            item += f";w={window.seconds}"
        items.append(item)
    return ", ".join(items).encode()


def ratelimit(windows: Sequence[Window], used: Sequence[int], ends: Sequence[float], now: float) -> bytes:
    """`RateLimit`: `"5h";r=12;t=3611`, r units left, t seconds until more are there."""
    items = []
    for index, window in enumerate(windows):
        left = window.amount - used[index]
        item = f'"{window.name}";r={max(0, left)}'
        if window.slot != "quota":
            item += f";t={math.ceil(ends[index] - now) if ends[index] > now else 0}"
        items.append(item)
    return ", ".join(items).encode()
