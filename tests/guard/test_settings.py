"""The settings of the middleware, one by one, and what happens when one is wrong."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from limits.storage import MemoryStorage as SyncStorage
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.testclient import TestClient, WebSocketDenialResponse

from ak_guard import ApiKeyMiddleware, ConfigurationError, Decision, Group, KeyManager
from ak_guard.backends import MemoryBackend
from ak_guard.keys import mint
from ak_guard.testing import ready_key
from tests.support import bearer, client_for, echo_app

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from ak_guard import Issued
    from ak_guard.testing import ManualClock
    from ak_guard.usage.records import UsageRecord

WRONG: list[dict[str, Any]] = [
    {"backend": None},
    {"backend": "nonsense://"},
    {"backend": "memory://x"},
    {"backend": "sqlite://"},
    {"backend": "sqlite://host/keys.db"},
    {"backend": object()},
    {"limits": "nonsense://"},
    {"limits": SyncStorage()},
    {"groups": ["paid"]},
    {"extractors": []},
    {"extractors": ["beare"]},
    {"extractors": "bearer"},
    {"public_paths": ["/docs/*"]},
    {"public_paths": "/docs"},
    {"allow_groups": []},
    {"deny_groups": "paid"},
    {"deny_groups": [5]},
    {"forward_key": "no"},
    {"allow_ips": ["10.0.0.0/33"]},
    {"deny_ips": ["nonsense"]},
    {"trusted_proxies": ["*"]},
    {"cost": -1},
    {"cost": True},
    {"mode": []},
    {"quota_status": []},
    {"allow_groups": 5},
    {"public_paths": 5},
    {"groups": 5},
    {"extractors": 5},
    {"stale_if_error": float("inf")},
    {"stale_if_error": 10**12},
    {"cache_ttl": float("inf")},
    {"clock": str},
    {"limits": "rediss://localhost/0?ssl_cert_reqs=zzz"},
    {"mode": "reports"},
    {"quota_status": 418},
    {"failure_limit": "30"},
    {"stale_if_error": -1},
    {"cache_ttl": "30"},
    {"cache_size": 0},
    {"max_client_wait": -1},
    {"on_unavailable": "open"},
    {"on_decision": "print"},
    {"clock": 0},
    {"trusted_proxy": ["10.0.0.0/8"]},
]


@pytest.mark.parametrize("setting", WRONG, ids=lambda setting: next(iter(setting)))
async def test_a_wrong_setting_fails_the_start_and_lets_nothing_through(
    setting: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    name = next(iter(setting))
    app = Starlette(
        routes=echo_app().routes, middleware=[Middleware(ApiKeyMiddleware, **{"backend": "memory://", **setting})]
    )
    with pytest.raises(ConfigurationError, match=name), TestClient(app):
        pass
    async with client_for(app) as client:
        answer = await client.get("/", headers=bearer(mint()))
    assert answer.status_code == 503
    assert answer.json()["code"] == "misconfigured"
    assert name not in answer.text
    assert any(name in record.getMessage() for record in caplog.records)


async def test_a_missing_folder_of_the_database_fails_the_start() -> None:
    app = Starlette(middleware=[Middleware(ApiKeyMiddleware, backend="sqlite:////nowhere/at/all/keys.db")])
    with pytest.raises(ConfigurationError, match="folder"), TestClient(app):
        pass
    async with client_for(app) as client:
        assert (await client.get("/", headers=bearer(mint()))).json()["code"] == "misconfigured"


async def test_the_backend_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AK_GUARD_BACKEND", "memory://")
    async with client_for(ApiKeyMiddleware(echo_app())) as client:
        assert (await client.get("/")).status_code == 401


@pytest.fixture
def guarded(keys: KeyManager, clock: ManualClock) -> Any:
    """A client of a guarded app with these settings."""

    def make(ip: str = "203.0.113.10", **settings: Any) -> AbstractAsyncContextManager[Any]:
        app = ApiKeyMiddleware(echo_app(), backend=keys.backend, clock=clock, **settings)
        return client_for(app, ip=ip)

    return make


@pytest.fixture
async def issued(keys: KeyManager) -> Issued:
    return await keys.create("prod-api", group="paid", quota=10)


async def test_public_paths_need_no_key_and_tell_nothing_of_one(guarded: Any, issued: Issued) -> None:
    async with guarded(public_paths=["/health"], groups=[Group("paid")]) as client:
        answer = await client.get("/health", headers=bearer(issued.secret))
        assert (answer.status_code, answer.json()["key"]) == (200, None)
        assert "ratelimit" not in answer.headers
        for path in ("/health/", "//health", "/Health", "/healthz", "/%68ealth%2f", "/x%2f..%2fhealth", "/health;a"):
            assert (await client.get(path)).status_code == 401, path


async def test_only_a_true_preflight_passes_without_a_key(guarded: Any) -> None:
    preflight = {"origin": "https://app.example", "access-control-request-method": "GET"}
    async with guarded() as client:
        assert (await client.options("/", headers=preflight)).status_code == 200
        assert (await client.options("/", headers={"origin": "https://app.example"})).status_code == 401
        assert (await client.get("/", headers=preflight)).status_code == 401
    async with guarded(allow_preflight=False) as client:
        assert (await client.options("/", headers=preflight)).status_code == 401


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({}, 403),
        ({"groups": [Group("paid")]}, 200),
        ({"groups": [Group("paid")], "allow_groups": ["paid", "free"]}, 200),
        ({"groups": [Group("paid")], "allow_groups": ["free"]}, 403),
        ({"groups": [Group("paid")], "deny_groups": ["paid"]}, 403),
        ({"groups": [Group("paid", enabled=False)]}, 403),
        ({"groups": [Group("paid", routes=["/v2/*"])]}, 403),
        ({"groups": [Group("paid", routes=["GET /v1/*"])]}, 200),
    ],
)
async def test_groups_of_the_service(guarded: Any, issued: Issued, settings: dict[str, Any], status: int) -> None:
    async with guarded(**settings) as client:
        assert (await client.get("/v1/models", headers=bearer(issued.secret))).status_code == status


async def test_addresses_of_the_service_are_judged_before_any_lookup(guarded: Any) -> None:
    for settings in ({"allow_ips": ["198.51.100.0/24"]}, {"deny_ips": ["203.0.113.0/24"]}):
        async with guarded(**settings) as client:
            assert (await client.get("/", headers=bearer(mint()))).json()["code"] == "ip_not_allowed"
            assert (await client.get("/")).json()["code"] == "missing_api_key"


async def test_the_key_can_be_kept_from_the_app(guarded: Any, keys: KeyManager) -> None:
    secret = (await keys.create("prod-api")).secret
    async with guarded(forward_key=False) as client:
        answer = await client.get("/", headers={**bearer(secret), "x-api-key": secret, "x-other": "1"})
        assert secret not in answer.text
        assert answer.json()["headers"]["x-other"] == "1"
    async with guarded() as client:
        assert (await client.get("/", headers=bearer(secret))).json()["headers"]["authorization"] == f"Bearer {secret}"


async def test_the_key_is_kept_from_the_app_on_public_paths_and_by_inner_guards_too(
    keys: KeyManager, clock: ManualClock
) -> None:
    secret = (await keys.create("prod-api", quota=10)).secret
    told: list[Decision] = []
    inner = ApiKeyMiddleware(
        echo_app(),
        backend=keys.backend,
        clock=clock,
        forward_key=False,
        public_paths=["/open"],
        on_decision=told.append,
    )
    both = ApiKeyMiddleware(inner, backend=keys.backend, clock=clock)
    for app in (inner, both):
        async with client_for(app) as client:
            for path in ("/open", "/closed"):
                answer = await client.get(path, headers=bearer(secret))
                assert answer.status_code == 200
                assert secret not in answer.text
    assert [(decision.key.name if decision.key else None, decision.cost) for decision in told] == [
        ("prod-api", 1),
        ("prod-api", 0),
    ]


async def test_a_query_key_is_taken_out_of_the_scope(guarded: Any, keys: KeyManager) -> None:
    secret = (await keys.create("prod-api")).secret
    async with guarded(extractors=["bearer", "query:key"]) as client:
        answer = await client.get(f"/?a=%31&key={secret}&b=2")
        assert (answer.status_code, answer.json()["query"]) == (200, "a=%31&b=2")
    async with guarded() as client:
        assert (await client.get(f"/?key={secret}")).status_code == 401


async def test_the_client_comes_from_a_trusted_proxy(guarded: Any, keys: KeyManager) -> None:
    secret = (await keys.create("prod-api", allow_ips=["198.51.100.7"])).secret
    forwarded = {**bearer(secret), "x-forwarded-for": "192.0.2.1, 198.51.100.7, 10.0.0.2"}
    async with guarded(ip="10.0.0.1", trusted_proxies=["10.0.0.0/8"]) as client:
        assert (await client.get("/", headers=forwarded)).json()["client"] == "198.51.100.7"
    async with guarded(ip="10.0.0.1") as client:
        assert (await client.get("/", headers=forwarded)).status_code == 403


async def test_ratelimit_headers_can_be_turned_off(guarded: Any, keys: KeyManager) -> None:
    secret = (await keys.create("prod-api", limits=["1/1m"])).secret
    async with guarded(ratelimit_headers=False) as client:
        answers = [await client.get("/", headers=bearer(secret)) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert all("ratelimit" not in answer.headers for answer in answers)
    assert answers[1].headers["retry-after"] == "60"


async def test_report_mode_refuses_nothing_and_counts_what_it_would(
    keys: KeyManager, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ak_guard")
    issued = await keys.create("prod-api", limits=["1/1m"])
    app = ApiKeyMiddleware(echo_app(), backend=keys.backend, clock=clock, mode="report")
    async with client_for(app) as client:
        answers = [await client.get("/", headers=bearer(secret)) for secret in (issued.secret, issued.secret, mint())]
        answers.append(await client.get("/"))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert [answer.json()["key"] for answer in answers] == ["prod-api", "prod-api", None, None]
    assert app.would_refuse == {"rate_limit_exceeded": 1, "invalid_api_key": 1, "missing_api_key": 1}
    assert (await keys.status(issued.key.id)).windows[0].used == 1
    assert "would refuse with rate_limit_exceeded" in caplog.text


async def test_report_mode_opens_no_door_for_a_guard_that_enforces(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", quota=1)
    inner = ApiKeyMiddleware(echo_app(), backend=keys.backend, clock=clock)
    app = ApiKeyMiddleware(inner, backend=keys.backend, clock=clock, mode="report")
    async with client_for(app) as client:
        answers = [await client.get("/", headers=bearer(issued.secret)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 429, 429]
    assert app.would_refuse == {"insufficient_quota": 2}
    # Nobody paid twice: what the outer guard admitted, the inner one took as it was.
    quota = (await keys.status(issued.key.id)).quota
    assert quota is not None
    assert quota.used == 1


async def test_each_decision_is_told_once_after_the_response(keys: KeyManager, clock: ManualClock) -> None:
    told: list[Decision] = []
    issued = await keys.create("prod-api", limits=["3/1m"])
    app = ApiKeyMiddleware(echo_app(), backend=keys.backend, clock=clock, cost=2, on_decision=told.append)
    async with client_for(app) as client:
        await client.get("/v1/a", headers=bearer(issued.secret))
        await client.post("/v1/b", headers=bearer(issued.secret))
        await client.get("/v1/c")
    assert [(d.code, d.admitted, d.enforced, d.status, d.method, d.path, d.cost) for d in told] == [
        ("admitted", True, False, 200, "GET", "/v1/a", 2),
        ("rate_limit_exceeded", False, True, 429, "POST", "/v1/b", 0),
        ("missing_api_key", False, True, 401, "GET", "/v1/c", 0),
    ]
    assert [d.key.name if d.key else None for d in told] == ["prod-api", "prod-api", None]
    assert {d.client for d in told} == {"203.0.113.10"}


async def test_decision_and_record_tell_the_status_that_the_client_was_told(clock: ManualClock) -> None:
    told: list[Decision] = []
    written: list[UsageRecord] = []
    settings: dict[str, Any] = {"usage_path": "/mine", "on_decision": told.append, "usage": written.extend}
    keys = KeyManager(MemoryBackend(), clock=clock)
    secret = (await keys.create("prod-api")).secret
    app = ApiKeyMiddleware(echo_app(), backend=keys.backend, clock=clock, **settings)
    with TestClient(app) as client:
        client.get("/.well-known/oauth-protected-resource")
        with pytest.raises(WebSocketDenialResponse), client.websocket_connect("/socket"):
            pass
        client.get("/mine")
        client.get("/mine", headers=bearer(secret))
        plain = {"type": "websocket", "path": "/socket", "headers": [], "query_string": b"", "subprotocols": []}
        await app(plain, _connecting, _to_nobody)
    assert [(decision.path, decision.code, decision.status) for decision in told] == [
        ("/.well-known/oauth-protected-resource", "missing_api_key", 404),
        ("/socket", "missing_api_key", 401),
        ("/mine", "missing_api_key", 401),
        ("/mine", "admitted", 200),
        ("/socket", "missing_api_key", 403),
    ]
    # Looking at what is left is no use of a key.
    refused = [(decision.path, decision.status) for decision in told if not decision.admitted]
    assert [(record.route, record.status) for record in written] == refused


async def _connecting() -> dict[str, str]:
    return {"type": "websocket.connect"}


async def _to_nobody(_: Any) -> None:
    pass


async def test_what_a_listener_raises_touches_no_response(guarded: Any, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Decision) -> None:
        raise RuntimeError("the listener's own")

    async with guarded(on_decision=fail) as client:
        assert (await client.get("/")).status_code == 401
    assert "on_decision failed" in caplog.text


async def test_a_guard_inside_a_guard_charges_nothing_but_keeps_its_own_service_rules(clock: ManualClock) -> None:
    backend = MemoryBackend()
    secret = (await ready_key(backend, clock=clock, quota=10)).secret

    def nested(**inner: Any) -> Any:
        inside = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, **inner)
        return ApiKeyMiddleware(Starlette(routes=[Mount("/in", inside)]), backend=backend, clock=clock)

    async with client_for(nested()) as client:
        answer = await client.get("/in/x", headers=bearer(secret))
        assert (answer.status_code, answer.headers["ratelimit"]) == (200, '"quota";r=9')
    async with client_for(nested(deny_ips=["203.0.113.0/24"])) as client:
        refused = await client.get("/in/x", headers=bearer(secret))
        assert (refused.status_code, refused.json()["code"]) == (403, "ip_not_allowed")
    async with client_for(nested()) as client:
        assert (await client.get("/in/x", headers=bearer(secret))).headers["ratelimit"] == '"quota";r=7'
