"""The key service over real sockets: who may ask, what it answers, what it refuses and how."""

from __future__ import annotations

import importlib
import json
import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from httpx2 import AsyncClient

from ak_guard import ConfigurationError, Group, KeyManager
from ak_guard.admin import service_app
from ak_guard.admin.bodies import MAX_BODY
from ak_guard.backends import MemoryBackend
from ak_guard.backends.documents import VERSION, found_document, found_from
from ak_guard.keys import digest
from tests.support import bearer, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

TOKEN = "service-token-of-these-tests"
PROTOCOL = Path(__file__).parents[2] / "ak_guard" / "admin" / "protocol.md"
OLDER = "an-older-service-token-too"


@pytest.fixture(scope="module")
def keys() -> KeyManager:
    return KeyManager(MemoryBackend())


@pytest.fixture(scope="module")
def url(keys: KeyManager) -> Iterator[str]:
    with running(service_app(keys, tokens=[TOKEN, OLDER])) as served:
        yield served


@pytest.fixture
async def client(url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(base_url=url, headers=bearer(TOKEN), trust_env=False) as opened:
        yield opened


async def test_a_key_is_told_by_its_digest(client: AsyncClient, keys: KeyManager) -> None:
    await keys.create_group(Group("paid", routes=["/v1/*"], limits=["60/1m"], multiplier="1/3"))
    issued = await keys.create("prod-api", group="paid", quota=7, allow_ips=["203.0.113.0/24"])
    answer = await client.post("/v1/resolve", json={"digest": digest(issued.secret.encode()).hex()})
    assert answer.status_code == 200
    told = answer.json()
    assert (told["key"]["id"], told["key"]["quota"], told["key"]["limits"]) == (issued.key.id, 7, None)
    assert told["key"]["allow_ips"] == ["203.0.113.0/24"]
    assert told["group"]["multiplier"] == "1/3"
    assert told["valid_until"] is None
    assert issued.secret not in answer.text
    assert answer.headers["cache-control"] == "no-store"


async def test_a_digest_that_nobody_holds_is_no_error(client: AsyncClient) -> None:
    answer = await client.post("/v1/resolve", json={"digest": "0" * 64})
    assert (answer.status_code, answer.json()["key"]) == (200, None)


@pytest.mark.parametrize("token", [TOKEN, OLDER])
async def test_each_of_several_tokens_is_good(client: AsyncClient, token: str) -> None:
    answer = await client.post("/v1/resolve", json={"digest": "0" * 64}, headers=bearer(token))
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "credentials",
    [{}, bearer("another-token-that-is-long"), {"authorization": f"Basic {TOKEN}"}, {"authorization": TOKEN}],
    ids=["none", "another", "basic", "bare"],
)
async def test_without_a_good_token_nothing_is_told(
    url: str, credentials: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncClient(base_url=url, headers=credentials, trust_env=False) as client:
        for answer in (
            await client.post("/v1/resolve", content=b"x" * (MAX_BODY + 1)),
            await client.get("/v1/nowhere"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
            assert answer.headers["www-authenticate"] == 'Bearer realm="ak_guard"'
        assert (await client.get("/v1/healthz")).json()["status"] == "ok"
    assert "another-token" not in caplog.text


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b'{"digest": "ab"}', "application/json", 422, "invalid"),
        (b'{"digest": 1}', "application/json", 422, "invalid"),
        (b'{"digest": "%s", "key": 1}' % (b"0" * 64), "application/json", 422, "invalid"),
        (b"[]", "application/json", 422, "invalid"),
        (b"", "application/json", 422, "invalid"),
        (b"{", "application/json", 400, "bad_request"),
        (b'{"digest": "\xff"}', "application/json", 400, "bad_request"),
        (b'{"\\ud800": 1}', "application/json", 422, "invalid"),
        (b"digest=ab", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b" " * (MAX_BODY + 1), "application/json", 413, "too_large"),
    ],
)
async def test_what_is_wrong_with_a_body_is_said(
    client: AsyncClient, content: bytes, kind: str, status: int, code: str
) -> None:
    answer = await client.post("/v1/resolve", content=content, headers={"content-type": kind})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_body_without_an_announced_length_is_measured_too(client: AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY // 65_536 + 1):
            yield b" " * 65_536

    answer = await client.post("/v1/resolve", content=endless(), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_the_text_of_a_key_sent_by_mistake_is_not_repeated(
    client: AsyncClient, keys: KeyManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    issued = await keys.create("prod-api")
    answer = await client.post("/v1/resolve", json={"digest": issued.secret})
    assert [error["field"] for error in answer.json()["errors"]] == ["digest"]
    assert issued.secret not in answer.text + caplog.text


async def test_paths_and_methods_that_are_not_there_are_told(client: AsyncClient) -> None:
    nowhere = await client.get("/v1/nowhere")
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "not_found")
    method = await client.get("/v1/resolve")
    assert (method.status_code, method.json()["code"]) == (405, "method_not_allowed")
    assert method.headers["allow"] == "POST"


async def test_the_openapi_document_names_every_path_and_the_token(client: AsyncClient) -> None:
    document = (await client.get("/v1/openapi.json")).json()
    assert "/v1/resolve" in document["paths"]
    assert document["components"]["securitySchemes"]["service token"]["scheme"] == "bearer"
    assert "/docs" not in json.dumps(document)


async def test_without_tokens_nobody_may_ask(keys: KeyManager) -> None:
    with running(service_app(keys)) as url:
        async with AsyncClient(base_url=url, headers=bearer(TOKEN), trust_env=False) as client:
            assert (await client.post("/v1/resolve", json={"digest": "0" * 64})).status_code == 401


async def test_tokens_may_come_from_the_environment(keys: KeyManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AK_GUARD_SERVICE_TOKENS", f" {TOKEN} ,{OLDER},")
    with running(service_app(keys)) as url:
        async with AsyncClient(base_url=url, headers=bearer(OLDER), trust_env=False) as client:
            assert (await client.post("/v1/resolve", json={"digest": "0" * 64})).status_code == 200


@pytest.mark.parametrize("token", ["short", "with a blank in the midst", "ünïcödé-long-enough-text", "x" * 513])
def test_a_token_that_cannot_serve_is_a_fault_of_the_setup(keys: KeyManager, token: str) -> None:
    with pytest.raises(ConfigurationError, match="tokens") as caught:
        service_app(keys, tokens=[token])
    assert token not in str(caught.value)


async def test_a_check_of_somebody_else_is_asked_too(keys: KeyManager) -> None:
    asked: list[bytes] = []

    async def check(told: bytes) -> bool:
        asked.append(told)
        return told == digest(b"a-token-out-of-a-table")

    with running(service_app(keys, tokens=[TOKEN], checks=[check])) as url:
        async with AsyncClient(base_url=url, trust_env=False) as client:
            for token, status in (("a-token-out-of-a-table", 200), (TOKEN, 200), ("neither-the-one-nor", 401)):
                answer = await client.post("/v1/resolve", json={"digest": "0" * 64}, headers=bearer(token))
                assert answer.status_code == status
    assert asked == [digest(b"a-token-out-of-a-table"), digest(b"neither-the-one-nor")]


def test_without_the_extra_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("ak_guard.admin", "fastapi"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'ak_guard\[admin\]'"):
        importlib.import_module("ak_guard.admin").service_app  # noqa: B018  # asked for, which is when it is missed


async def test_a_path_names_all_its_methods(client: AsyncClient) -> None:
    answer = await client.request("PATCH", "/v1/workers/0123456789abcdef")
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, PUT")


async def test_a_whole_number_may_be_written_with_a_point(client: AsyncClient) -> None:
    window = {"amount": 5.0, "seconds": 60.0, "anchor": "first-use", "unit": "units"}
    asked = {"subject": "key/a", "asks": [{"window": window, "need": 2.0}], "now": 1_800_000_000}
    answer = await client.post("/v1/acquire", json=asked)
    assert (answer.status_code, answer.json()["taken"]) == (200, [2])
    asked["asks"] = [{"window": window, "need": 2.5}]
    refused = await client.post("/v1/acquire", json=asked)
    assert [error["field"] for error in refused.json()["errors"]] == ["asks.0.need"]


async def test_a_lease_id_is_used_by_one_call_only(client: AsyncClient) -> None:
    window = {"amount": 10, "seconds": 60}
    lease = {"id": "lease-of-one-call", "worker": "w", "seconds": 5}
    asked = {"subject": "key/b", "asks": [{"window": window, "need": 2}], "now": 1_800_000_000, "lease": lease}
    first = await client.post("/v1/acquire", json={**asked, "call": "one"})
    again = await client.post("/v1/acquire", json={**asked, "call": "one"})
    assert first.json() == again.json()
    other = await client.post("/v1/acquire", json={**asked, "call": "two"})
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    level = await client.post("/v1/peek", json={"subject": "key/b", "windows": [window], "now": 1_800_000_000})
    assert level.json()["levels"][0]["used"] == 2


async def test_what_is_decided_here_is_told_in_the_time_of_the_caller(client: AsyncClient) -> None:
    window = {"amount": 1, "seconds": 3_600}
    asked = {"subject": "key/c", "asks": [{"window": window, "need": 1}], "now": 1_000.0}
    (end,) = (await client.post("/v1/acquire", json=asked)).json()["ends"]
    assert end == pytest.approx(4_600, abs=60)
    # A caller whose clock is far ahead rolls no window.
    late = await client.post("/v1/acquire", json={**asked, "now": 1_000_000.0})
    assert late.json()["granted"] is False
    assert late.json()["ends"][0] == pytest.approx(1_003_600, abs=60)


async def test_the_written_protocol_names_what_the_service_offers_and_its_example_is_read(client: AsyncClient) -> None:
    written = PROTOCOL.read_text()
    offered = (await client.get("/v1/openapi.json")).json()["paths"]
    paths = {(method.upper(), re.sub("{.*?}", "{}", path)) for path, methods in offered.items() for method in methods}
    named = re.findall(r"`(GET|POST|PUT|DELETE) (/v1/[a-z/{}.-]+)", written)
    assert {(method, re.sub("{.*?}", "{}", path)) for method, path in named} == paths | {("GET", "/v1/openapi.json")}
    (example,) = re.findall(r"```json\n(.*?)```", written, re.DOTALL)
    found = found_from(json.loads(example))
    assert found is not None
    assert found_document(found) == json.loads(example)
    assert f"version {VERSION}" in written.splitlines()[0]
