"""Clients that know nothing of us: curl, a reader of RFC 9457, and scripts in a browser."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from email import message_from_string
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from ak_guard import ApiKeyMiddleware, KeyManager
from ak_guard.backends import MemoryBackend
from tests.clients.service import TOO_LONG, UNKNOWN
from tests.support import bearer, echo_app, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.clients.conftest import Served

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def curl(*arguments: str) -> tuple[str, dict[str, str], Any]:
    """The last status line, its headers in lower case, and the body read as JSON."""
    command = ["curl", "--silent", "--show-error", "--include", "--max-time", "15", *arguments]
    shown = subprocess.run(command, capture_output=True, check=True, timeout=20).stdout.decode()
    head, _, body = shown.rpartition("\r\n\r\n")
    # With retries all answers are shown, one behind the other.
    status, _, lines = head[head.rindex("HTTP/1.1 ") :].partition("\r\n")
    headers = {name.lower(): value for name, value in message_from_string(lines).items()}
    return status, headers, json.loads(body)


@needs_curl
def test_curl_shows_what_to_do_without_a_key(served: Served) -> None:
    status, headers, body = curl(f"{served.url}/v1/models")
    assert status == "HTTP/1.1 401 Unauthorized"
    assert headers["www-authenticate"] == 'Bearer realm="api"'
    assert headers["content-type"] == "application/json"
    assert headers["cache-control"] == "no-store"
    assert headers["x-request-id"] == headers["request-id"] == body["request_id"]
    assert body["code"] == body["error"]["code"] == "missing_api_key"


@needs_curl
@pytest.mark.parametrize(
    ("name", "line", "code"),
    [
        ("disabled", "HTTP/1.1 401 Unauthorized", "api_key_disabled"),
        ("elsewhere", "HTTP/1.1 403 Forbidden", "ip_not_allowed"),
        ("spent", "HTTP/1.1 429 Too Many Requests", "insufficient_quota"),
    ],
)
def test_curl_with_oauth2_bearer_gets_each_refusal(served: Served, name: str, line: str, code: str) -> None:
    status, headers, body = curl("--oauth2-bearer", served.key(name), f"{served.url}/v1/models")
    assert (status, body["code"]) == (line, code)
    assert "retry-after" not in headers


@needs_curl
def test_curl_with_a_key_that_is_too_long(served: Served) -> None:
    status, _, body = curl("--header", f"x-api-key: {TOO_LONG}", f"{served.url}/v1/models")
    assert status == "HTTP/1.1 431 Request Header Fields Too Large"
    assert body["code"] == "credential_too_large"


@needs_curl
def test_curl_gets_in_and_sees_what_is_left(served: Served) -> None:
    key = served.new_key(limits=["3/5h"], quota=50)
    status, headers, body = curl("--header", f"x-api-key: {key}", f"{served.url}/v1/models")
    assert status == "HTTP/1.1 200 OK"
    assert body["object"] == "list"
    assert headers["ratelimit-policy"] == '"5h";q=3;w=18000, "quota";q=50'
    assert headers["ratelimit"] == '"5h";r=2;t=18000, "quota";r=49'


@needs_curl
def test_curl_with_retry_waits_as_long_as_it_is_told_and_passes(served: Served) -> None:
    arguments = ("--oauth2-bearer", served.new_key(limits=["1/2s"]), f"{served.url}/v1/models")
    curl(*arguments)
    before = served.calls
    status, _, _ = curl("--retry", "2", *arguments)
    assert status == "HTTP/1.1 200 OK"
    assert served.calls - before == 2


@pytest.mark.parametrize("accept", ["application/problem+json", "application/json, Application/Problem+JSON;q=0.9"])
@pytest.mark.parametrize(
    ("name", "status", "code", "kind"),
    [
        ("unknown", 401, "invalid_api_key", "about:blank"),
        ("expired", 401, "api_key_expired", "about:blank"),
        ("reader", 403, "group_not_allowed", "about:blank"),
        ("spent", 429, "insufficient_quota", "https://iana.org/assignments/http-problem-types#quota-exceeded"),
    ],
)
def test_a_reader_of_problem_details_gets_them(
    served: Served, accept: str, name: str, status: int, code: str, kind: str
) -> None:
    key = UNKNOWN if name == "unknown" else served.key(name)
    answer = httpx2.post(f"{served.url}/v1/chat/completions", headers={**bearer(key), "accept": accept})
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["type"], problem["status"], answer.status_code) == (kind, status, status)
    assert problem["code"] == code
    assert problem["title"]
    assert problem["detail"]
    assert problem.get("violated-policies") == (["quota"] if name == "spent" else None)


PAGE = "https://app.example.com"
PREFLIGHT = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
}
CORS: dict[str, Any] = {
    "allow_origins": [PAGE],
    "allow_methods": ["POST"],
    "allow_headers": ["authorization", "content-type"],
    "expose_headers": ["retry-after", "ratelimit", "x-request-id"],
}


@pytest.fixture(scope="module", params=["CORS outside", "CORS inside"])
def page(request: pytest.FixtureRequest) -> Iterator[tuple[str, str, str]]:
    """The order of the two middlewares, the URL of the app, and a key for one request in five hours."""
    backend = MemoryBackend()
    key = asyncio.run(KeyManager(backend).create("staging-web", limits=["1/5h"])).secret
    stack = [Middleware(CORSMiddleware, **CORS), Middleware(ApiKeyMiddleware, backend=backend)]
    app = Starlette(middleware=stack if request.param == "CORS outside" else stack[::-1])
    app.mount("/", echo_app())
    with running(app) as url:
        yield request.param, url, key


def test_a_preflight_passes_without_a_key_and_names_what_is_allowed(page: tuple[str, str, str]) -> None:
    _, url, _ = page
    answer = httpx2.options(f"{url}/v1/chat", headers=PREFLIGHT)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "authorization" in answer.headers["access-control-allow-headers"]


def test_a_preflight_from_a_foreign_page_gets_no_permission(page: tuple[str, str, str]) -> None:
    _, url, _ = page
    answer = httpx2.options(f"{url}/v1/chat", headers={**PREFLIGHT, "origin": "https://elsewhere.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_other_options_requests_of_a_browser_need_a_key(page: tuple[str, str, str]) -> None:
    _, url, _ = page
    answer = httpx2.options(f"{url}/v1/chat", headers={"origin": PAGE})
    assert answer.status_code == 401


def test_a_script_can_read_refusals_where_cors_stands_outside(page: tuple[str, str, str]) -> None:
    order, url, key = page
    with_key = {"origin": PAGE, **bearer(key)}
    answers = [
        httpx2.post(f"{url}/v1/chat", headers={"origin": PAGE}),
        httpx2.post(f"{url}/v1/chat", headers=with_key),
        httpx2.post(f"{url}/v1/chat", headers=with_key),
    ]
    assert [answer.status_code for answer in answers] == [401, 200, 429]
    readable = [answer.headers.get("access-control-allow-origin") == PAGE for answer in answers]
    assert readable == ([True, True, True] if order == "CORS outside" else [False, True, False])
    if order == "CORS outside":
        assert "retry-after" in answers[2].headers["access-control-expose-headers"].lower()
        assert answers[2].headers["retry-after"] == "18000"
