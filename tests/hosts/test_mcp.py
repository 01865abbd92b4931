"""A real MCP server behind the guard, driven by the real MCP client."""

from __future__ import annotations

from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from httpx2 import AsyncClient, Response
from mcp.client.auth import OAuthClientProvider
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl

from ak_guard import KeyManager
from ak_guard.backends import MemoryBackend
from tests.hosts.apps.mcp_app import build
from tests.support import bearer, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="module")
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture(scope="module", params=[f"mcp {version('mcp')}"])
def url(backend: MemoryBackend) -> Iterator[str]:
    with running(build(backend)) as address:
        yield address


@asynccontextmanager
async def session(url: str, **options: Any) -> AsyncIterator[Client]:
    async with (
        AsyncClient(**options) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
    ):
        yield client


class NothingKept:
    """Tokens are for OAuth, and there is none here."""

    async def get_tokens(self) -> OAuthToken | None:
        return None

    async def set_tokens(self, tokens: OAuthToken) -> None:
        raise AssertionError(tokens)

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        raise AssertionError(client_info)


async def test_a_client_with_a_key_uses_tools_and_pays(url: str, backend: MemoryBackend) -> None:
    keys = KeyManager(backend)
    issued = await keys.create("prod-agent", quota=100)
    async with session(url, headers=bearer(issued.secret)) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["whoami"]
        answer = await client.call_tool("whoami", {})
        assert [getattr(part, "text", None) for part in answer.content] == ["prod-agent"]
    quota = (await keys.status(issued.key.id)).quota
    assert quota is not None
    assert quota.used >= 3


@pytest.mark.parametrize(("quota", "code"), [(0, "insufficient_quota"), (None, "invalid_api_key")])
async def test_a_client_without_a_good_key_gets_no_session(
    url: str, backend: MemoryBackend, quota: int | None, code: str
) -> None:
    secret = "nobody" if quota is None else (await KeyManager(backend).create("prod-agent", quota=quota)).secret
    codes: list[str] = []

    async def listen(response: Response) -> None:
        await response.aread()
        codes.append(response.json()["code"])

    # Its errors are of many kinds, in groups; what it was told is what counts.
    with pytest.raises(Exception):  # noqa: B017, PT011
        async with session(url, headers=bearer(secret), event_hooks={"response": [listen]}):
            pass
    assert set(codes) == {code}


async def test_a_client_that_knows_oauth_finds_that_there_is_none_and_shows_what_is_needed(url: str) -> None:
    """A 401 for the documents of discovery would send such a client round in circles (RFC 9728, RFC 8414)."""
    asked: list[tuple[str, int]] = []

    async def listen(response: Response) -> None:
        asked.append((response.request.url.path, response.status_code))

    async def never(*_: str) -> Any:
        raise AssertionError("there is no server to be sent to")

    about = OAuthClientMetadata(client_name="agent", redirect_uris=[AnyUrl("http://127.0.0.1:1/callback")])
    auth = OAuthClientProvider(f"{url}/mcp", about, NothingKept(), never, never)
    with pytest.raises(ExceptionGroup) as refused:
        async with session(url, auth=auth, event_hooks={"response": [listen]}):
            pass
    assert "An API key is needed" in repr(refused.value)
    discovery = {path: status for path, status in asked if "/.well-known/" in path}
    assert len(discovery) >= 3
    assert set(discovery.values()) == {404}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/.well-known/oauth-protected-resource", 404),
        ("/.well-known/oauth-protected-resource/mcp", 404),
        ("/.well-known/oauth-authorization-server", 404),
        ("/mcp/.well-known/openid-configuration", 404),
        ("/.well-known/security.txt", 401),
        ("/.well-known/o", 401),
        ("/mcp", 401),
    ],
)
async def test_only_discovery_is_answered_404_and_never_reaches_the_app(url: str, path: str, status: int) -> None:
    async with AsyncClient(base_url=url) as client:
        for headers, code in (({}, "missing_api_key"), (bearer("nobody"), "invalid_api_key")):
            answer = await client.get(path, headers=headers)
            assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (status, status, code)
            assert ("www-authenticate" in answer.headers) == (status == 401)
