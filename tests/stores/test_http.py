"""What `HTTPBackend` is told and what it is answered: settings, certificates, strange services, the foreign example."""

from __future__ import annotations

import asyncio
import importlib
import json
import ssl
import sys
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from httpx2 import AsyncClient
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse

from ak_guard import ApiKey, ApiKeyMiddleware, BackendError, BudgetError, ConfigurationError, Group, KeyManager, Limit
from ak_guard import backends as package
from ak_guard.admin import models, service_app
from ak_guard.backends import Found, HTTPBackend, MemoryBackend, backend_from_url
from ak_guard.backends.documents import found_document, found_from, news_from, roll_from
from ak_guard.budgets import Ask, Grant, Window
from ak_guard.budgets.documents import held_from, levels_from, outcome_from, share_from
from ak_guard.budgets.slots import Share, Stake
from ak_guard.keys import digest
from tests.served import TOKEN, Tap, served
from tests.support import bearer, client_for, echo_app, running, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

NOBODY = digest(b"nobody")
HOUR = Window(10, 3_600)


@pytest.fixture
def tap() -> Tap:
    return Tap()


@pytest.fixture
def keys() -> KeyManager:
    return KeyManager(MemoryBackend())


@pytest.fixture
def url(keys: KeyManager, tap: Tap) -> Iterator[str]:
    with served(keys, tap=tap) as where:
        yield where


@pytest.fixture
async def backend(url: str) -> AsyncIterator[HTTPBackend]:
    opened = HTTPBackend(url, token=TOKEN)
    yield opened
    await opened.aclose()


# Settings


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("https://", {}),
        ("ftp://keys.internal", {}),
        ("https://keys.internal:0", {}),
        ("https://keys.internal:port", {}),
        ("https://user:hunter2@keys.internal", {}),
        ("https://keys.internal/?token=hunter2", {}),
        ("https://keys.internal", {"token": "hunter2 hunter2"}),
        ("https://keys.internal", {"headers": {"Authorization": "Bearer hunter2"}}),
        ("https://keys.internal", {"headers": {"x-tenant": "a\r\nx-other: hunter2"}}),
        ("https://keys.internal", {"headers": {"x-tenant": "hünter2"}}),
        ("https://keys.internal", {"connect": 0}),
        ("https://keys.internal", {"read": True}),
        ("https://keys.internal", {"read": "2"}),
        ("https://keys.internal", {"ca": "/nowhere/ca.pem"}),
        ("https://keys.internal", {"certificate": "/nowhere/client.pem"}),
        ("https://keys.internal", {"tls": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "ca": "ca.pem"}),
        ("http://127.0.0.1:9000", {"ca": "/nowhere/ca.pem"}),
    ],
)
def test_what_cannot_work_is_told_when_it_is_typed(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        HTTPBackend(url, **options)
    assert "hunter2" not in str(caught.value)
    assert str(caught.value).partition(":")[0] in {"backend", "token", "headers", "connect", "read", "ca", "tls"} | {
        "ca, certificate"
    }


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000", "https://keys.internal/path/"])
def test_a_url_is_enough(url: str) -> None:
    backend = backend_from_url(url)
    assert repr(backend) == f"HTTPBackend({url.rstrip('/')!r})"


def test_keys_cannot_be_managed_over_it() -> None:
    with pytest.raises(ConfigurationError, match="HTTPBackend can only look keys up"):
        KeyManager("http://127.0.0.1:9000")


def test_a_token_that_travels_in_the_clear_is_told(caplog: pytest.LogCaptureFixture) -> None:
    HTTPBackend("http://127.0.0.1:9000", token=TOKEN)
    HTTPBackend("https://keys.internal", token=TOKEN)
    HTTPBackend("http://keys.internal")
    assert caplog.text == ""
    HTTPBackend("http://keys.internal", token=TOKEN)
    assert "unencrypted" in caplog.text
    assert TOKEN not in caplog.text


def test_without_the_extra_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("ak_guard.backends.http")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'ak_guard\[http\]'"):
        package.HTTPBackend  # noqa: B018  # asking for it is what is tested
    answer = ApiKeyMiddleware(echo_app(), backend="https://keys.internal")
    with pytest.raises(ConfigurationError, match=r"ak_guard\[http\]"):
        asyncio.run(_started(answer))


async def _started(app: ASGIApp) -> None:
    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(_: Any) -> None:
        pass

    await app({"type": "lifespan"}, receive, send)


# What is sent


async def test_token_and_headers_go_along(
    keys: KeyManager, tap: Tap, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, str]] = []

    class Overheard(Tap):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            seen.append({name.decode(): value.decode() for name, value in scope["headers"]})
            await self.service(scope, receive, send)

    overheard = Overheard()
    overheard.service, tap.service = tap.service, overheard
    monkeypatch.setenv("AK_GUARD_SERVICE_TOKEN", TOKEN)
    # Proxies of the environment are for browsers and the like.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    backend = HTTPBackend(url, headers={"x-tenant": "blue"})
    assert await backend.find(NOBODY) is None
    await backend.aclose()
    assert [(one["authorization"], one["x-tenant"]) for one in seen] == [(f"Bearer {TOKEN}", "blue")]


async def test_a_wrong_token_is_an_outage_and_said_once_more_clearly(url: str) -> None:
    backend = HTTPBackend(url, token="another-token-of-nobody")
    with pytest.raises(BackendError, match="does not accept the service token") as caught:
        await backend.find(NOBODY)
    assert "another-token" not in str(caught.value)
    with pytest.raises(BudgetError, match="does not accept the service token"):
        await backend.counters.peek("key/a", [HOUR], now=0.0)
    await backend.aclose()


async def test_many_names_reach_the_service_whole(keys: KeyManager, backend: HTTPBackend) -> None:
    await keys.create_group(Group("グループ/ü", limits=["5/1h"], shared_limits=["9/1h"]))
    issued = await keys.create("prod-客服", group="グループ/ü", metadata={"ü": [1, {"a": None}]})
    async with client_for(ApiKeyMiddleware(echo_app(), backend=backend)) as client:
        answer = await client.get("/", headers=bearer(issued.secret))
    assert answer.json()["key"] == "prod-客服"
    assert answer.headers["ratelimit"].startswith('"1h";r=4')


# Certificates


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("certificates")
    names = {name: folder / f"{name}.pem" for name in ("ca", "server", "key", "client", "other")}
    authority.cert_pem.write_to_path(str(names["ca"]))
    trustme.CA().cert_pem.write_to_path(str(names["other"]))
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("guard@example.org")
    names["server"].write_bytes(server.cert_chain_pems[0].bytes())
    names["key"].write_bytes(server.private_key_pem.bytes())
    client.private_key_and_cert_chain_pem.write_to_path(str(names["client"]))
    return names


@pytest.fixture(scope="module")
def encrypted(files: dict[str, Path]) -> Iterator[str]:
    """A key service that talks only to clients with a certificate."""
    options = {"ssl_certfile": files["server"], "ssl_keyfile": files["key"], "ssl_ca_certs": files["ca"]}
    app = service_app(KeyManager(MemoryBackend()), tokens=[TOKEN])
    with running(app, ssl_cert_reqs=ssl.CERT_REQUIRED, **options) as url:
        yield url.replace("http:", "https:")


async def test_a_service_is_known_by_its_certificate_and_knows_the_client_by_his(
    encrypted: str, files: dict[str, Path]
) -> None:
    backend = HTTPBackend(encrypted, token=TOKEN, ca=str(files["ca"]), certificate=str(files["client"]))
    assert await backend.find(NOBODY) is None
    await backend.aclose()
    context = ssl.create_default_context(cafile=str(files["ca"]))
    context.load_cert_chain(str(files["client"]))
    backend = HTTPBackend(encrypted, token=TOKEN, tls=context)
    assert await backend.find(NOBODY) is None
    await backend.aclose()


@pytest.mark.parametrize(("ca", "client"), [("other", "client"), (None, "client"), ("ca", None)])
async def test_without_the_right_certificates_nobody_talks(
    encrypted: str, files: dict[str, Path], ca: str | None, client: str | None
) -> None:
    backend = HTTPBackend(
        encrypted,
        token=TOKEN,
        ca=None if ca is None else str(files[ca]),
        certificate=None if client is None else str(files[client]),
    )
    with pytest.raises(BackendError, match="key service"):
        await backend.find(NOBODY)
    await backend.aclose()


# Strange services


@pytest.mark.parametrize(
    "answer",
    [
        PlainTextResponse("<html>Sign in to the network</html>"),
        JSONResponse([]),
        JSONResponse({"found": False}),
        JSONResponse({"key": {}}),
        JSONResponse({"detail": "teapot"}, 418),
        JSONResponse({"code": "internal"}, 500),
        PlainTextResponse("", 204),
        RedirectResponse("https://elsewhere.example/"),
        JSONResponse({"detail": "not here"}, 404),
        JSONResponse({"detail": "slower"}, 429),
    ],
    # Not by address, which is another one in each process of the tests.
    ids=["page", "list", "no key", "empty key", "418", "500", "204", "redirect", "404", "429"],
)
async def test_an_answer_that_makes_no_sense_is_an_outage(
    url: str, tap: Tap, backend: HTTPBackend, answer: ASGIApp, keys: KeyManager
) -> None:
    issued = await keys.create("prod-api")
    tap.instead["/v1/resolve"] = answer
    async with client_for(ApiKeyMiddleware(echo_app(), backend=backend)) as client:
        refused = await client.get("/", headers=bearer(issued.secret))
        assert (refused.status_code, refused.json()["code"]) == (503, "key_service_unavailable")
        tap.instead.clear()

        async def back() -> bool:
            return (await client.get("/", headers=bearer(issued.secret))).status_code == 200

        await until(back)


FULL = ApiKey(
    id="key_0123456789abcdef0123",
    name="prod-客服",
    group="paid",
    enabled=False,
    created_at=datetime(2026, 11, 25, 10, 0, 0, 123456, tzinfo=UTC),
    updated_at=datetime(2026, 11, 25, 11, tzinfo=UTC),
    expires_at=datetime(2027, 1, 1, tzinfo=UTC),
    allow_ips=("203.0.113.0/24",),
    deny_ips=("203.0.113.7",),
    quota=0,
    limits=(Limit.parse("500 requests/1d calendar Europe/Berlin"), Limit(10, 60, anchor="sliding")),
    owner="ann",
    metadata={"a": [1, None]},
    hint="ak_…Zx9q",
    replaces="key_a",
    replaced_by="key_b",
    max_concurrency=3,
)
PAID = Group("paid", ["POST /v1/*"], ["5/1h"], ["9/1h"], "1/3", enabled=False)


def test_every_field_of_a_key_and_its_group_travels() -> None:
    for field in fields(ApiKey):
        default = ApiKey(id="", name="")
        assert getattr(FULL, field.name) != getattr(default, field.name), f"{field.name} is to be given here"
    told = json.loads(json.dumps(found_document(Found(FULL, PAID, 1_800_000_000.5))))
    assert found_from(told) == Found(FULL, PAID, 1_800_000_000.5)
    assert told["key"].keys() == models.Key.model_fields.keys() == {field.name for field in fields(ApiKey)}
    assert told["group"].keys() == models.Group.model_fields.keys() == {field.name for field in fields(Group)}
    assert found_from(json.loads(json.dumps(found_document(Found(replace(FULL, limits=None)))))) is not None


RULES = ["id", "group", "enabled", "expires_at", "allow_ips", "deny_ips", "quota", "limits", "max_concurrency"]


@pytest.mark.parametrize("rule", RULES)
def test_a_key_without_a_rule_is_no_key(rule: str) -> None:
    told = found_document(Found(FULL))
    del told["key"][rule]
    with pytest.raises(BackendError, match=f"'{rule}' is missing"):
        found_from(told)
    told["key"][rule] = {"enabled": 1, "limits": "5/1h", "expires_at": 1_800_000_000}.get(rule, True)
    with pytest.raises(BackendError, match="cannot be read"):
        found_from(told)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
STAKE = Stake("w", 1, floor=1, want=3, limit=2, seconds=6.0)
READERS: list[tuple[Callable[[Any], object], type[Exception], dict[str, Any]]] = [
    (found_from, BackendError, found_document(Found(FULL, PAID))),
    (news_from, BackendError, {"revision": 1, "keys": ["a"], "all": False}),
    (roll_from, BackendError, {"revision": 1, "now": 1.0, "workers": []}),
    (
        lambda told: outcome_from(told, [Ask(Window(5, 3_600), 1)], 0.0),
        BudgetError,
        {"granted": True, "used": [1], "ends": [None], "taken": [1], "generations": ["1"]},
    ),
    (lambda told: levels_from(told, 1), BudgetError, {"levels": [{"used": 1, "held": 0, "start": None, "end": None}]}),
    (lambda told: share_from(told, STAKE), BudgetError, {"held": 1, "others": 0, "wanted": False}),
    (lambda told: held_from(told, 1), BudgetError, {"held": [1]}),
]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(READERS), st.data())
def test_whatever_a_service_answers_it_is_understood_or_an_outage(
    reader: tuple[Callable[[Any], object], type[Exception], dict[str, Any]], data: st.DataObject
) -> None:
    read, failure, example = reader
    changed = {**example, data.draw(st.sampled_from(sorted(example))): data.draw(anything)}
    for told in (changed, data.draw(anything)):
        with suppress(failure):
            read(told)


NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"taken": [10**300], "used": [1]}, "far more than was asked for"),
        ({"taken": [5], "used": [5]}, "more than needed and extra"),
        ({"taken": [0], "used": [1]}, "less than is needed"),
        ({"taken": [1], "used": [0]}, "more taken than used"),
        ({"taken": [1], "used": [6]}, "more used than the limit"),
        ({"granted": False, "full": [0], "used": [5], "ends": [NOW - 1]}, "full, though it has ended"),
    ],
)
def test_what_a_service_cannot_have_granted_is_an_outage(told: dict[str, Any], reason: str) -> None:
    asks = [Ask(Window(5, 3_600), need=1, extra=2)]
    good = {"granted": True, "taken": [2], "used": [2], "ends": [NOW + 9], "generations": ["1"]}
    good |= {"full": [], "retry_at": None}
    assert outcome_from(good, asks, NOW) == Grant([2], [2], [NOW + 9], [1])
    with pytest.raises(BudgetError, match="cannot be read"):
        outcome_from({**good, **told}, asks, NOW)


def test_more_slots_than_a_worker_wanted_are_an_outage() -> None:
    assert share_from({"held": 2, "others": 0, "wanted": False}, STAKE) == Share(2, 0)
    with pytest.raises(BudgetError, match="cannot be read"):
        share_from({"held": 3, "others": 0, "wanted": False}, STAKE)


# Somebody else's service


async def test_a_foreign_service_is_understood_with_a_translation(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("examples.foreign_key_service")
    with running(module.service) as url:
        monkeypatch.setenv("SUBSCRIPTIONS_URL", url)
        module = importlib.reload(module)
        with running(module.app) as guarded:
            async with AsyncClient(base_url=guarded, trust_env=False) as client:
                answers = [await client.get("/", headers=bearer("an-old-key-of-ours-42")) for _ in range(4)]
                unknown = await client.get("/", headers=bearer("a-key-that-nobody-holds"))
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[0].json() == {"hello": "ACME"}
    assert unknown.json()["code"] == "invalid_api_key"


async def test_a_foreign_service_that_talks_nonsense_lets_nobody_in() -> None:
    module = importlib.import_module("examples.foreign_key_service")
    with running(JSONResponse({"subscription": "sub-1"})) as url:
        backend = HTTPBackend(url, translation=module.Subscriptions())
        async with client_for(ApiKeyMiddleware(echo_app(), backend=backend)) as client:
            refused = await client.get("/", headers=bearer("an-old-key-of-ours-42"))
            assert refused.json()["code"] == "key_service_unavailable"
        await backend.aclose()
