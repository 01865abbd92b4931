"""What a request costs: by its route when it is let in, and by the tokens that its answer tells."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from ak_guard import ApiKeyMiddleware, Group, InputError, KeyManager, Meter, TokenUsage
from ak_guard.backends import MemoryBackend
from ak_guard.testing import ready_key
from ak_guard.usage import recorder
from tests.support import bearer, echo_app, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ak_guard import Decision
    from ak_guard.usage import UsageRecord

JSON = "application/json"
EVENTS = "text/event-stream"
#: What is taken before an answer has told anything.
ESTIMATE = 50
METER = Meter(default=ESTIMATE, tokens=True)

CHAT = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
RESPONSES = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10, "input_tokens_details": {"cached_tokens": 4}}
ANTHROPIC = {"input_tokens": 7, "output_tokens": 3, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 100}


def event(data: Any, name: str = "") -> str:
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n"


def chunk(word: str | None = None, **more: Any) -> str:
    return event({"choices": [] if word is None else [{"index": 0, "delta": {"content": word}}], **more})


DONE = "data: [DONE]\n\n"
CHAT_STREAM = ": hello\n\n" + chunk("one", usage=None) + chunk("two", usage=None) + chunk(usage=CHAT) + DONE
_RESPONSES_EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("response.created", {"response": {"usage": None}}),
    ("response.output_text.delta", {"delta": "one"}),
    ("response.completed", {"response": {"usage": RESPONSES}}),
]
RESPONSES_STREAM = "".join(event({"type": kind, **more}, kind) for kind, more in _RESPONSES_EVENTS)
LINES_STREAM = 'data: {"usage":\ndata:{"total_tokens":\nid: 1\ndata: 10}}\n\n'
_START: dict[str, Any] = {"type": "message", "usage": {**ANTHROPIC, "output_tokens": 1}}
ANTHROPIC_BEGINS = event({"type": "message_start", "message": _START}, "message_start") + "".join(
    event({"type": "content_block_delta", "delta": {"type": "text_delta", "text": word}}) for word in ("one", "two")
)
ANTHROPIC_STREAM = (
    ANTHROPIC_BEGINS
    + event({"type": "message_delta", "usage": {"input_tokens": None, "output_tokens": 2}})
    + event({"type": "message_delta", "usage": {"output_tokens": 3}})
    + event({"type": "message_stop"}, "message_stop")
)


class Answers:
    """An app that answers with these parts, each on its own; `messages` are what it has sent."""

    def __init__(
        self, parts: Iterable[str | bytes], kind: str = JSON, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        bodies = [part.encode() if isinstance(part, str) else part for part in parts]
        named = {"content-type": kind, **(headers or {})}
        self.messages: list[Message] = [
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(name.encode(), value.encode()) for name, value in named.items()],
            },
            *({"type": "http.response.body", "body": body, "more_body": True} for body in bodies),
        ]
        self.messages.append({"type": "http.response.body", "body": b"", "more_body": False})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for message in self.messages:
            await send(message)


class Guarded:
    """An app behind a guard, and one key; each call tells what it has used in the end."""

    def __init__(
        self, app: ASGIApp, cost: Any = METER, *, rules: dict[str, Any] | None = None, **settings: Any
    ) -> None:
        backend = settings.pop("backend", None) or MemoryBackend()
        self.keys = KeyManager(backend)
        self.app = ApiKeyMiddleware(app, backend=backend, cost=cost, ratelimit_headers=False, **settings)
        self.rules = {"quota": 10**9, **(rules or {})}
        self.sent: list[Message] = []
        #: What was used when each of them was handed on.
        self.used_then: list[int] = []
        self._issued: Any = None

    async def call(self, path: str = "/", method: str = "GET", *, leave_after: int | None = None, **more: Any) -> int:
        if self._issued is None:
            self._issued = await self.keys.create("dev-local", **self.rules)
        asked = {"type": "http.request", "body": b"", "more_body": False}

        async def receive() -> Message:
            return asked

        async def send(message: Message) -> None:
            if leave_after is not None and len(self.sent) >= leave_after:
                raise OSError("nobody is there any more")
            self.sent.append(message)
            self.used_then.append(await self.used())

        headers = [(b"x-api-key", self._issued.secret.encode())]
        scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers, **more}
        self.sent, self.used_then = [], []
        await self.app(scope, receive, send)
        return await self.used()

    async def used(self) -> int:
        quota = (await self.keys.status(self._issued.key.id)).quota
        return 0 if quota is None else quota.used

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


TABLE = Meter({"POST /v1/chat/*": 50, "/v1/*/status": 2, "GET *": 0, "/v1/chat/completions": 7}, default=3)


@pytest.mark.parametrize(
    ("method", "path", "cost"),
    [
        ("POST", "/v1/chat/completions", 50),
        ("PUT", "/v1/chat/completions", 7),
        ("GET", "/v1/chat/completions", 0),
        ("HEAD", "/x", 0),
        ("PUT", "/v1/jobs/status", 2),
        ("POST", "/v1/models", 3),
        # Whatever two readers could take for two places is as dear as the dearest.
        ("GET", "/v1//chat/completions", 50),
        ("POST", "/v1/x/../chat/completions", 50),
        ("POST", "/v1/x;/chat", 50),
        ("POST", "/v1/%63hat/completions", 50),
        # Some apps take any case of a method, and some servers hand it on as it was sent.
        ("post", "/v1/chat/completions", 50),
    ],
)
async def test_a_route_costs_what_the_first_line_that_matches_says(method: str, path: str, cost: int) -> None:
    assert await Guarded(Answers(["{}"]), TABLE).call(path, method) == cost


async def test_routes_are_those_that_the_guarded_app_sees() -> None:
    guarded = Guarded(Answers(["{}"]), TABLE)
    assert await guarded.call("/api/v1/chat/x", "POST", root_path="/api") == 50
    assert await guarded.call("/v1/a", "POST", raw_path=b"/v1%2Fa") == 100


def test_a_websocket_costs_what_its_route_says() -> None:
    backend = MemoryBackend()
    issued = asyncio.run(ready_key(backend, quota=10))
    app = ApiKeyMiddleware(echo_app(), backend=backend, cost=Meter({"GET /ws": 4}, tokens=True))
    with TestClient(app).websocket_connect("/ws", headers=bearer(issued.secret)) as socket:
        socket.receive_json()
    status = asyncio.run(KeyManager(backend).status(issued.key.id))
    assert status.quota is not None
    assert status.quota.used == 4


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"routes": {"POST /v1/chat/*": -1}}, "POST /v1/chat/*"),
        ({"routes": {"GET *": 0.5}}, "GET *"),
        ({"routes": {"GET *": True}}, "GET *"),
        ({"routes": {"GET *": 10**15}}, "GET *"),
        ({"routes": {"v1/chat": 1}}, "v1/chat"),
        ({"routes": {"/a*b/c": 1}}, "/a*b/c"),
        ({"routes": {5: 1}}, "5"),
        ({"routes": ["/v1"]}, "/v1"),
        ({"default": "1"}, "default"),
        ({"tokens": "all"}, "tokens"),
        ({"tokens": lambda used: used.output * 0.5}, "0.5"),
        ({"tokens": lambda used: -used.total}, "-6"),
        ({"tokens": lambda: 1}, "argument"),
        ({"routes": {"POST *": 0}, "default": 0, "tokens": True}, "free"),
    ],
)
def test_a_meter_that_cannot_work_says_so_when_it_is_made(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError) as wrong:
        Meter(**arguments)
    assert wrong.value.field == "cost"
    assert named in str(wrong.value)


def test_a_meter_does_not_change_any_more() -> None:
    routes = {"GET *": 0}
    meter = Meter(routes)
    routes["GET *"] = 5
    assert meter == Meter({"GET *": 0})
    with pytest.raises(AttributeError):
        meter.default = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("usage", "used"),
    [
        (CHAT, 10),
        ({"total_tokens": 4}, 4),
        ({"prompt_tokens": 7, "completion_tokens": 3}, 10),
        # Thoughts stand in the total alone.
        ({**CHAT, "total_tokens": 400}, 400),
        (RESPONSES, 10),
        ({"input_tokens": 7, "output_tokens": 3}, 10),
        (ANTHROPIC, 130),
        # A proxy that tells the cached ones in both ways.
        ({**CHAT, "prompt_tokens_details": {"cached_tokens": 4}, "cache_read_input_tokens": 4}, 10),
        ({"input_tokens": 0, "output_tokens": 0}, 0),
        ({"input_tokens": 10**14, "output_tokens": 3}, 10**14 + 3),
    ],
)
async def test_an_answer_costs_the_tokens_that_it_tells(usage: dict[str, Any], used: int) -> None:
    text = json.dumps({"id": "1", "choices": [{"message": {"content": "one"}}], "usage": usage})
    guarded = Guarded(Answers([text[:20], text[20:]]), rules={"quota": 10**15 - 1})
    assert await guarded.call() == used
    assert guarded.body.decode() == text


@pytest.mark.parametrize(
    ("stream", "used"),
    [(CHAT_STREAM, 10), (RESPONSES_STREAM, 10), (ANTHROPIC_STREAM, 130), (LINES_STREAM, 10)],
    ids=["chat", "responses", "messages", "lines"],
)
@hypothesis_settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_stream_costs_the_same_wherever_its_bytes_are_cut(data: st.DataObject, stream: str, used: int) -> None:
    text = stream.replace("\n", data.draw(st.sampled_from(["\n", "\r\n", "\r"]))).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    guarded = Guarded(Answers(parts, EVENTS))
    assert asyncio.run(guarded.call()) == used
    assert guarded.body == text


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("stream", "used"), [(LINES_STREAM, 10), (ANTHROPIC_STREAM, 130)], ids=["lines", "messages"])
async def test_a_stream_may_come_byte_by_byte(stream: str, used: int, line_end: str) -> None:
    text = stream.replace("\n", line_end).encode()
    assert await Guarded(Answers([text[at : at + 1] for at in range(len(text))], EVENTS)).call() == used


@pytest.mark.parametrize("kind", [JSON, "application/json; charset=utf-8", "application/vnd.chat+json", EVENTS])
async def test_what_passes_is_left_as_it_is_and_paid_before_its_last_part_is_there(kind: str) -> None:
    answer = CHAT_STREAM if kind == EVENTS else json.dumps({"usage": CHAT})
    app = Answers([answer[:9], b"", answer[9:]], kind)
    guarded = Guarded(app)
    await guarded.call()
    assert all(sent is message for sent, message in zip(guarded.sent, app.messages, strict=True))
    # Who reads JSON has read it with the end of the body, who reads a stream with the last event.
    assert guarded.used_then == [50, 50, 50, 10 if kind == EVENTS else 50, 10]


async def test_a_stream_that_tells_more_and_more_is_paid_as_it_goes_and_gives_back_at_its_end_alone() -> None:
    told = [chunk(str(count), usage={"total_tokens": count}) for count in (1, 60, 70, 40)]
    guarded = Guarded(Answers([*told, DONE], EVENTS))
    assert await guarded.call() == 40
    assert guarded.used_then == [50, 50, 60, 70, 70, 40, 40]


ABSURD = [-1, 1.5, True, "7", [7], 10**400, 10**15, float("nan")]


@pytest.mark.parametrize("number", ABSURD, ids=str)
@pytest.mark.parametrize("name", ["total_tokens", "prompt_tokens", "output_tokens", "cache_read_input_tokens"])
async def test_an_absurd_number_is_not_believed_nor_are_those_beside_it(
    name: str, number: Any, caplog: pytest.LogCaptureFixture
) -> None:
    text = json.dumps({"usage": {"input_tokens": 1, name: number}})
    guarded = Guarded(Answers([text]))
    assert await guarded.call() == ESTIMATE
    assert guarded.body.decode() == text
    assert await Guarded(Answers([f"data: {text}\n\n"], EVENTS)).call() == ESTIMATE
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


DEEP = b'{"usage":' + b"[" * 100_000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b'["usage"]',
        b'{"usage": null}',
        b'{"usage": {}}',
        b'{"usage": 7}',
        b'{"usage": "all", "response": "usage", "message": ["usage"]}',
        b'{"usage": {"total_tokens": 1',
        b'\xff\xfe"usage"',
        b'{"usage": {"total_tokens": ' + b"1" * 5_000 + b"}}",
        DEEP,
    ],
    ids=range(11),
)
async def test_garbage_is_handed_on_and_keeps_the_estimate(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    for kind, sent in ((JSON, body), (EVENTS, b"data: " + body + b"\n\n")):
        guarded = Guarded(Answers([sent], kind))
        assert await guarded.call() == ESTIMATE
        assert guarded.body == sent
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


async def test_headers_that_can_be_read_only_once_are_handed_on() -> None:
    async def app(_: Scope, __: Receive, send: Send) -> None:
        headers = (pair for pair in [(b"content-type", b"application/json"), (b"x-more", b"1")])
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps({"usage": CHAT}).encode()})

    guarded = Guarded(app)
    assert await guarded.call() == 10
    assert [name for name, _ in guarded.sent[0]["headers"]] == [b"content-type", b"x-more"]


TOLD = json.dumps({"usage": CHAT}).encode()


@pytest.mark.parametrize(
    "app",
    [
        Answers([TOLD], "text/plain"),
        Answers([TOLD], "application/x-ndjson"),
        Answers([TOLD], status=400),
        Answers([TOLD], status=500),
        Answers([gzip.compress(TOLD)], headers={"content-encoding": "gzip"}),
        Answers([TOLD], headers={"Content-Encoding": "br"}),
        Answers([TOLD[:-1] + b" " * 2**20, b"}"]),
        Answers([b"data: " + TOLD[:-1] + b" " * 2**20, b"}\n\n"], EVENTS),
    ],
    ids=["text", "lines", "400", "500", "gzip", "br", "large", "large event"],
)
async def test_what_is_not_read_keeps_the_estimate(app: Answers) -> None:
    assert await Guarded(app).call() == ESTIMATE


async def test_a_body_as_large_as_is_read_is_settled() -> None:
    text = TOLD[:-1] + b" " * (2**20 - len(TOLD)) + b"}"
    assert await Guarded(Answers([text[:1_000], text[1_000:]], headers={"content-encoding": "identity"})).call() == 10


async def test_an_event_that_is_too_large_is_passed_over_and_the_next_one_is_read() -> None:
    large = b'data: {"usage": {"total_tokens": 1}, "image": "' + b"x" * 2**20
    parts: list[str | bytes] = [large[:3], large[3:-9], large[-9:], b'"}\n', b"da", b"ta: {}\n\n"]
    assert await Guarded(Answers([*parts, chunk(usage=CHAT)], EVENTS)).call() == 10
    # It counts as an event like any other, no matter which of its lines is too large.
    unread = [*parts, large[:3], large[3:], b"\n\n", chunk("more")]
    assert await Guarded(Answers(unread, EVENTS), Meter(tokens=True)).call() == 3


@pytest.mark.parametrize(("estimate", "used"), [(1, 4), (50, 50)])
async def test_a_stream_without_usage_costs_a_token_for_each_event_and_no_less_than_its_route(
    estimate: int, used: int
) -> None:
    parts = [": hello\n\n", *(chunk(word) for word in "abcd"), "event: nothing\n\n", DONE]
    guarded = Guarded(Answers(parts, EVENTS), Meter(default=estimate, tokens=True))
    assert await guarded.call() == used
    assert guarded.used_then[-2:] == [used, used]


@pytest.mark.parametrize(
    ("parts", "used"),
    [
        ([chunk(str(count)) for count in range(99)], 98),
        # What an upstream in the manner of Anthropic has read is told before it answers.
        ([ANTHROPIC_BEGINS, chunk("unread")], 129),
    ],
    ids=["openai", "anthropic"],
)
async def test_a_client_that_leaves_pays_for_what_came(parts: list[str], used: int) -> None:
    guarded = Guarded(Answers(parts, EVENTS), Meter(tokens=True))
    with pytest.raises(OSError, match="nobody"):
        await guarded.call(leave_after=len(parts) - 1)
    assert await guarded.used() == used


async def test_a_client_that_leaves_before_a_whole_answer_pays_the_estimate() -> None:
    guarded = Guarded(Answers([TOLD[:9], TOLD[9:-1], b"}"]))
    with pytest.raises(OSError, match="nobody"):
        await guarded.call(leave_after=2)
    assert await guarded.used() == ESTIMATE


async def test_what_an_app_sends_after_its_call_has_ended_charges_and_raises_nothing() -> None:
    late: list[Callable[[Message], Any]] = []

    async def leaves_it_to_others(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", EVENTS.encode())]})
        late.append(send)

    guarded = Guarded(leaves_it_to_others)
    assert await guarded.call() == ESTIMATE
    await late[0]({"type": "http.response.body", "body": chunk(usage=CHAT).encode()})
    assert await guarded.used() == ESTIMATE


async def test_a_settlement_may_pass_the_limit_and_then_the_key_is_refused() -> None:
    guarded = Guarded(Answers([TOLD]), Meter(tokens=True), rules={"quota": 5})
    assert await guarded.call() == 10
    assert await guarded.call() == 10
    assert guarded.sent[0]["status"] == 429


async def test_what_the_app_charges_by_itself_comes_on_top() -> None:
    async def search(request: Request) -> JSONResponse:
        request.state.ak_guard.charge(int(request.query_params["units"]))
        return JSONResponse({"usage": CHAT})

    app = Starlette(routes=[Route("/", search)])
    assert await Guarded(app).call(query_string=b"units=5") == 15
    # It cannot give back what nobody has paid.
    assert await Guarded(app).call(query_string=b"units=-50") == 0


async def test_tokens_can_be_weighed_and_a_group_multiplies_the_result() -> None:
    seen: list[TokenUsage] = []

    def weigh(used: TokenUsage) -> int:
        seen.append(used)
        return used.input + 5 * used.output + used.cache_read // 10

    guarded = Guarded(
        Answers([ANTHROPIC_STREAM], EVENTS),
        Meter(default=ESTIMATE, tokens=weigh),
        groups=[Group("paid", multiplier=2)],
        rules={"group": "paid"},
    )
    assert await guarded.call() == 2 * (7 + 15 + 10)
    assert seen[-1] == TokenUsage(input=7, output=3, cache_read=100, cache_write=20)


@pytest.mark.parametrize(("multiplier", "used"), [(1, 10), (10**14, 10**14)])
async def test_a_price_that_no_budget_could_hold_is_not_charged(multiplier: int, used: int) -> None:
    guarded = Guarded(
        Answers([TOLD]),
        Meter(tokens=True),
        groups=[Group("paid", multiplier=multiplier)],
        rules={"group": "paid", "quota": 10**15 - 1},
    )
    assert await guarded.call() == used


async def test_a_function_that_fails_later_leaves_the_answer_and_the_estimate_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def weigh(used: TokenUsage) -> int:
        return 100 // abs(used.input - 7)

    guarded = Guarded(Answers([TOLD]), Meter(default=ESTIMATE, tokens=weigh))
    assert await guarded.call() == ESTIMATE
    assert guarded.body == TOLD
    assert "cost: the function of the tokens failed" in caplog.text


async def test_a_route_that_is_free_stays_free_whatever_its_answer_tells() -> None:
    # To ask for an answer once more is not to have it made once more.
    guarded = Guarded(Answers([TOLD]), Meter({"GET *": 0}, default=ESTIMATE, tokens=True))
    assert [await guarded.call(method=method) for method in ("POST", "GET", "GET")] == [10, 10, 10]


async def test_a_key_that_is_disabled_pays_for_what_its_stream_has_told() -> None:
    class Waits(Answers):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            for message in self.messages[:-1]:
                await send(message)
            told.set()
            await asyncio.Event().wait()

    told = asyncio.Event()
    guarded = Guarded(Waits([chunk("one"), chunk("two"), chunk("three")], EVENTS), Meter(tokens=True))
    call = asyncio.create_task(guarded.call())
    await told.wait()
    await guarded.keys.disable(guarded._issued.key.id)
    assert await asyncio.wait_for(call, 8) == 3


async def test_without_tokens_only_the_route_counts() -> None:
    assert await Guarded(Answers([TOLD]), Meter(default=ESTIMATE)).call() == ESTIMATE


async def test_what_a_guard_around_has_let_in_is_metered_once() -> None:
    backend = MemoryBackend()
    inside = ApiKeyMiddleware(Answers([TOLD]), backend=backend, cost=Meter(default=9, tokens=True))
    assert await Guarded(Starlette(routes=[Mount("/", inside)]), backend=backend).call() == 10
    # The one around has the say, also where it counts calls.
    assert await Guarded(Starlette(routes=[Mount("/", inside)]), 3, backend=backend).call() == 3
    refusing = ApiKeyMiddleware(Answers([TOLD]), backend=backend, allow_groups=["paid"])
    assert await Guarded(Starlette(routes=[Mount("/", refusing)]), backend=backend).call() == ESTIMATE


@pytest.mark.parametrize(("quota", "used", "told"), [(60, 10, ("admitted", 10)), (40, 0, ("insufficient_quota", 0))])
async def test_report_mode_charges_for_what_would_have_been_let_in_alone(
    quota: int, used: int, told: tuple[str, int]
) -> None:
    decisions: list[Decision] = []
    guarded = Guarded(Answers([TOLD]), mode="report", rules={"quota": quota}, on_decision=decisions.append)
    assert await guarded.call() == used
    assert guarded.body == TOLD
    assert [(one.code, one.cost) for one in decisions] == [told]


@pytest.mark.parametrize("cut_streams", [True, False])
@pytest.mark.parametrize("rules", [{}, {"max_concurrency": 1}, {"quota": None}], ids=["quota", "slots", "no budget"])
async def test_what_was_settled_is_what_is_recorded_and_told(
    cut_streams: bool, rules: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "WRITE_SECONDS", 0.02)
    records: list[UsageRecord] = []
    decisions: list[Decision] = []
    app = Answers([CHAT_STREAM], EVENTS)
    listening: dict[str, Any] = {"usage": records.extend, "on_decision": decisions.append, "cut_streams": cut_streams}
    await Guarded(app, rules=rules, **listening).call()

    async def written() -> bool:
        return bool(records)

    await until(written)
    assert [one.cost for one in records] == [10]
    assert [one.cost for one in decisions] == [10]


@pytest.mark.parametrize("outside", ["file", "environment"])
async def test_settings_from_outside_may_refer_to_a_meter(
    outside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prices_of_mine.py").write_text("from ak_guard import Meter\nmeter = Meter(default=50, tokens=True)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    if outside == "file":
        (tmp_path / "ak_guard.toml").write_text('cost = "prices_of_mine:meter"\n')
    else:
        monkeypatch.setenv("AK_GUARD_COST", "prices_of_mine:meter")
    backend = MemoryBackend()
    guarded = Guarded(Answers([TOLD]), backend=backend)
    guarded.app = ApiKeyMiddleware(Answers([TOLD]), backend=backend)
    assert await guarded.call() == 10
