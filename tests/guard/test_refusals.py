"""The refusal table of the contract, row by row, over the wire format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse

from ak_guard import ApiKeyMiddleware, BackendError, BudgetError, Group, KeyManager
from ak_guard.backends import Found, MemoryBackend
from ak_guard.budgets import MemoryStorage
from ak_guard.keys import mint
from ak_guard.testing import ManualClock
from tests.support import bearer, client_for, echo_app

if TYPE_CHECKING:
    from httpx2 import Response
    from starlette.types import Message

BUDGET_TYPE = "https://iana.org/assignments/http-problem-types#quota-exceeded"
PLAIN = 'Bearer realm="api"'
INVALID = 'Bearer realm="api", error="invalid_token"'


class Story:
    """A backend with one key for each way to be refused."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.backend = MemoryBackend()
        self.keys = KeyManager(self.backend, clock=self.clock)
        self.secrets: dict[str, str] = {}

    async def prepare(self) -> None:
        await self.keys.create_group(Group("models", routes=["GET /v1/models"]))
        rules: dict[str, dict[str, Any]] = {
            "good": {},
            "disabled": {"enabled": False},
            "expired": {"expires_in": "1s"},
            "elsewhere": {"allow_ips": ["198.51.100.0/24"]},
            "denied": {"allow_ips": ["203.0.113.0/24"], "deny_ips": ["203.0.113.10"]},
            "other-route": {"group": "models"},
            "ghost-group": {"group": "ghost"},
            "small": {"limits": ["1/1m"]},
            "spent": {"quota": 0},
        }
        for name, rule in rules.items():
            self.secrets[name] = (await self.keys.create(name, **rule)).secret
        self.clock.move(1)

    async def ask(
        self, headers: dict[str, str] | list[tuple[bytes, bytes]] | None = None, *, calls: int = 1, **options: Any
    ) -> Response:
        app = ApiKeyMiddleware(echo_app(), backend=self.backend, clock=self.clock, **options)
        async with client_for(app) as client:
            for _ in range(calls - 1):
                await client.get("/v1/chat", headers=headers)
            return await client.get("/v1/chat", headers=headers)


@pytest.fixture
async def story() -> Story:
    made = Story()
    await made.prepare()
    return made


def assert_refused(answer: Response, status: int, code: str) -> None:
    """The body's two shapes agree, and the headers of every refusal are there."""
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code)
    assert body["status"] == status
    assert body["error"]["code"] == code
    assert body["error"]["message"] == body["detail"] != ""
    assert body["error"]["param"] is None
    assert body["title"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"] == answer.headers["request-id"] == body["request_id"]
    assert answer.headers["content-type"] == "application/json"


async def test_no_key(story: Story) -> None:
    answer = await story.ask()
    assert_refused(answer, 401, "missing_api_key")
    assert answer.headers["www-authenticate"] == PLAIN
    assert "ratelimit" not in answer.headers


async def test_too_long(story: Story) -> None:
    assert_refused(await story.ask(bearer("x" * 513)), 431, "credential_too_large")


async def test_different_keys(story: Story) -> None:
    answer = await story.ask({**bearer(story.secrets["good"]), "x-api-key": story.secrets["small"]})
    assert_refused(answer, 400, "ambiguous_credentials")


@pytest.mark.parametrize(
    "text", ["ak_" + "A" * 37 + "!", "ak_" + "0" * 38, "zz_" + "A" * 37 + "é", "two words", "\x7f"]
)
async def test_malformed_and_unknown_are_told_apart_by_nothing(story: Story, text: str) -> None:
    unknown = await story.ask(bearer(mint()))
    malformed = await story.ask([(b"authorization", b"Bearer " + text.encode())])
    for answer in (unknown, malformed):
        assert_refused(answer, 401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == INVALID
    ignored = {"request_id"}
    assert {k: v for k, v in unknown.json().items() if k not in ignored} == {
        k: v for k, v in malformed.json().items() if k not in ignored
    }


@pytest.mark.parametrize(
    ("key", "status", "code", "challenge"),
    [
        ("disabled", 401, "api_key_disabled", INVALID),
        ("expired", 401, "api_key_expired", INVALID),
        ("elsewhere", 403, "ip_not_allowed", None),
        ("denied", 403, "ip_not_allowed", None),
        ("other-route", 403, "group_not_allowed", f'{PLAIN}, error="insufficient_scope"'),
        ("ghost-group", 403, "group_not_allowed", f'{PLAIN}, error="insufficient_scope"'),
    ],
)
async def test_a_known_key_that_may_not(story: Story, key: str, status: int, code: str, challenge: str | None) -> None:
    answer = await story.ask(bearer(story.secrets[key]))
    assert_refused(answer, status, code)
    assert answer.headers.get("www-authenticate") == challenge
    assert "ratelimit" not in answer.headers


async def test_a_refused_address_is_named_but_never_the_list(story: Story) -> None:
    answer = await story.ask(bearer(story.secrets["elsewhere"]))
    assert "203.0.113.10" in answer.json()["detail"]
    assert "198.51.100" not in answer.text


async def test_a_full_window(story: Story) -> None:
    answer = await story.ask(bearer(story.secrets["small"]), calls=2)
    assert_refused(answer, 429, "rate_limit_exceeded")
    assert answer.json()["type"] == BUDGET_TYPE
    assert answer.json()["violated-policies"] == ["1m"]
    assert answer.headers["retry-after"] == "60"
    assert answer.headers["ratelimit-policy"] == '"1m";q=1;w=60'
    assert answer.headers["ratelimit"] == '"1m";r=0;t=60'
    assert "x-should-retry" not in answer.headers


async def test_a_wait_that_is_too_long_for_clients(story: Story) -> None:
    answer = await story.ask(bearer(story.secrets["small"]), calls=2, max_client_wait=59)
    assert answer.headers["retry-after"] == "60"
    assert answer.headers["x-should-retry"] == "false"


async def test_the_latest_of_the_full_windows_counts(story: Story) -> None:
    issued = await story.keys.create("two", limits=["1/1m", "1/5h", "5/1d"])
    answer = await story.ask(bearer(issued.secret), calls=2)
    assert answer.json()["violated-policies"] == ["1m", "5h"]
    assert answer.headers["retry-after"] == "18000"
    story.clock.move(17_999)
    assert (await story.ask(bearer(issued.secret))).headers["retry-after"] == "1"
    story.clock.move(1)
    assert (await story.ask(bearer(issued.secret))).status_code == 200


@pytest.mark.parametrize("status", [429, 402, 403])
async def test_a_used_up_quota(story: Story, status: int) -> None:
    answer = await story.ask(bearer(story.secrets["spent"]), quota_status=status)
    assert_refused(answer, status, "insufficient_quota")
    assert answer.json()["type"] == BUDGET_TYPE
    assert answer.json()["error"]["type"] == "insufficient_quota"
    assert "retry-after" not in answer.headers
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["ratelimit-policy"] == '"quota";q=0'
    assert answer.headers["ratelimit"] == '"quota";r=0'


async def test_a_quota_goes_before_a_full_window_and_names_both(story: Story) -> None:
    issued = await story.keys.create("both", quota=1, limits=["1/1m"])
    answer = await story.ask(bearer(issued.secret), calls=2)
    assert_refused(answer, 429, "insufficient_quota")
    assert answer.json()["violated-policies"] == ["1m", "quota"]


async def test_a_cost_that_can_never_pass(story: Story) -> None:
    answer = await story.ask(bearer(story.secrets["small"]), cost=2)
    assert_refused(answer, 429, "cost_exceeds_limit")
    assert "retry-after" not in answer.headers
    assert answer.headers["x-should-retry"] == "false"
    assert (await story.keys.status((await story.keys.list(search="small"))[0].id)).windows[0].used == 0


async def test_a_quota_of_nothing_is_no_cost_that_exceeds(story: Story) -> None:
    assert_refused(await story.ask(bearer(story.secrets["spent"]), cost=5), 429, "insufficient_quota")


class Unreachable:
    """A backend whose store is away."""

    async def find(self, digest: bytes) -> Found | None:
        raise BackendError("away")


class UnreachableStorage(MemoryStorage):
    """Counters whose store is away."""

    STORAGE_SCHEME = None  # not to be found by URI

    async def acquire(self, *args: Any, **options: Any) -> Any:
        raise BudgetError("away")


async def test_a_backend_that_is_away(story: Story) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=Unreachable())
    async with client_for(app) as client:
        answer = await client.get("/", headers=bearer(mint()))
    assert_refused(answer, 503, "key_service_unavailable")
    assert int(answer.headers["retry-after"]) <= 5


async def test_counters_that_are_away(story: Story) -> None:
    answer = await story.ask(bearer(story.secrets["small"]), limits=UnreachableStorage())
    assert_refused(answer, 503, "limits_unavailable")
    assert int(answer.headers["retry-after"]) <= 5
    assert (await story.ask(bearer(story.secrets["good"]), limits=UnreachableStorage())).status_code == 200


async def test_the_shape_for_anthropic_clients(story: Story) -> None:
    answer = await story.ask({"anthropic-version": "2023-06-01"})
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "authentication_error"


async def test_problem_json_where_it_is_asked_for(story: Story) -> None:
    answer = await story.ask({"accept": "application/problem+json"})
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "about:blank"
    # RFC 9110 5.3: several lines are one list.
    for lines in ([b"application/problem+json", b"text/html"], [b"text/html", b"application/problem+json"]):
        asked = await story.ask([(b"accept", line) for line in lines])
        assert asked.headers["content-type"] == "application/problem+json"


async def test_head_has_no_body(story: Story) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=story.backend)
    async with client_for(app) as client:
        answer = await client.head("/")
    assert answer.status_code == 401
    assert answer.content == b""
    assert int(answer.headers["content-length"]) > 0


async def test_a_websocket_is_refused_with_status_and_body_where_the_server_can(story: Story) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=story.backend, clock=story.clock)
    client = TestClient(app)
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/ws"):
        pass
    assert refused.value.status_code == 401
    assert refused.value.json()["code"] == "missing_api_key"
    with client.websocket_connect("/ws", headers=bearer(story.secrets["small"])) as websocket:
        assert websocket.receive_json()["key"] == "small"
    with (
        pytest.raises(WebSocketDenialResponse) as full,
        client.websocket_connect("/ws", headers=bearer(story.secrets["small"])),
    ):
        pass
    assert full.value.status_code == 429
    assert full.value.headers["retry-after"] == "60"


async def test_a_websocket_is_closed_with_1008_where_the_server_cannot(story: Story) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=story.backend)
    sent: list[Message] = []
    told = iter([{"type": "websocket.connect"}])

    async def receive() -> Message:
        return next(told)

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "websocket", "path": "/ws", "headers": [], "subprotocols": []}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": "missing_api_key"}]
    with pytest.raises(StopIteration):
        next(told)
