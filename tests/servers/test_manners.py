"""The manners of pure ASGI: a guard adds itself and takes nothing away."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from ak_guard import ApiKeyMiddleware, KeyManager
from ak_guard.backends import MemoryBackend
from ak_guard.errors import AkGuardError
from tests.servers.bare import call, http_scope, no_body, plain, status_of
from tests.support import bearer, client_for, echo_app

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Message, Receive, Scope, Send

    from ak_guard import Decision

ECHO_PATH = "/v1/chat"
seen_outside: ContextVar[str] = ContextVar("seen_outside", default="nothing")


async def _guarded(app: Any, **rules: Any) -> tuple[ApiKeyMiddleware, str]:
    backend = MemoryBackend()
    issued = await KeyManager(backend).create("test", **rules)
    return ApiKeyMiddleware(app, backend=backend), issued.secret


async def test_a_streamed_answer_passes_piece_by_piece_and_starts_once() -> None:
    arrived: list[Message] = []
    after_each: list[int] = []

    async def streaming(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"1")]})
        for part in (b"one", b"two", b"three"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
            after_each.append(len(arrived))
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Message) -> None:
        arrived.append(message)

    guard, key = await _guarded(streaming, limits=["9/5h"])
    await guard(http_scope(key), no_body, send)
    assert after_each == [2, 3, 4]
    assert [message["type"] for message in arrived] == ["http.response.start"] + ["http.response.body"] * 4
    headers = dict(arrived[0]["headers"])
    assert headers[b"x-app"] == b"1"
    assert headers[b"ratelimit"] == b'"5h";r=8;t=18000'
    assert [message.get("body") for message in arrived[1:]] == [b"one", b"two", b"three", b""]


async def test_messages_that_are_no_start_are_handed_on_as_the_same_objects() -> None:
    own: list[Message] = [
        {"type": "http.response.debug", "info": {}},
        {"type": "http.response.body", "body": b"x", "more_body": True},
        {"type": "http.response.trailers", "headers": [(b"x-checksum", b"1")]},
    ]

    async def app(_: Scope, __: Receive, send: Send) -> None:
        for message in own:
            await send(message)

    guard, key = await _guarded(app, limits=["9/5h"])
    sent = await call(guard, http_scope(key))
    assert all(mine is theirs for mine, theirs in zip(own, sent, strict=True))


async def test_a_body_is_read_by_the_app_alone_and_the_disconnect_reaches_it() -> None:
    parts: list[Message] = [
        {"type": "http.request", "body": b"one", "more_body": True},
        {"type": "http.request", "body": b"two", "more_body": False},
        {"type": "http.disconnect"},
    ]
    waiting = list(parts)
    got: list[Message] = []

    async def receive() -> Message:
        return waiting.pop(0)

    async def app(_: Scope, receive: Receive, __: Send) -> None:
        got.extend([await receive(), await receive(), await receive()])

    guard, key = await _guarded(app)
    await call(guard, http_scope(key), receive)
    assert all(mine is theirs for mine, theirs in zip(parts, got, strict=True))


async def test_a_refusal_reads_nothing_of_the_body() -> None:
    async def receive() -> Message:
        raise AssertionError("the body was read")

    guard, _ = await _guarded(plain)
    assert (await call(guard, http_scope(), receive))[0]["status"] == 401


class _AppError(Exception):
    pass


@pytest.mark.parametrize(
    "error",
    [
        _AppError("broken"),
        ExceptionGroup("several", [_AppError("one"), ValueError("two")]),
        BaseExceptionGroup("mixed", [asyncio.CancelledError()]),
        asyncio.CancelledError("gone"),
        SystemExit(3),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("started", [False, True], ids=["before the start", "amid the body"])
@pytest.mark.parametrize("told", [False, True], ids=["", "with on_decision"])
async def test_what_the_app_raises_comes_out_unchanged(error: BaseException, *, started: bool, told: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if started:
            await plain(scope, receive, send)
        scope["state"]["ak_guard"].charge(1)
        raise error

    decisions: list[Decision] = []
    backend = MemoryBackend()
    issued = await KeyManager(backend).create("test", limits=["9/5h"])
    guard = ApiKeyMiddleware(app, backend=backend, on_decision=decisions.append if told else None)
    with pytest.raises(type(error)) as caught:
        await call(guard, http_scope(issued.secret))
    assert caught.value is error
    assert error.__cause__ is None
    assert [(decision.code, decision.status) for decision in decisions] == (
        [("admitted", 200 if started else None)] if told else []
    )
    status = await KeyManager(backend).status(issued.key.id)
    assert status.windows[0].used == 2


async def test_what_the_app_sets_in_its_context_is_visible_outside() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen_outside.set("set by the app")
        await plain(scope, receive, send)

    guard, key = await _guarded(app, limits=["9/5h"])
    task = asyncio.current_task()
    await call(guard, http_scope(key))
    assert seen_outside.get() == "set by the app"
    assert asyncio.current_task() is task


@pytest.mark.parametrize("kind", ["webtransport", "http2", "", "HTTP", "lifespan2"])
async def test_a_scope_of_another_type_is_not_let_through(kind: str) -> None:
    entered: list[Scope] = []

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        entered.append(scope)

    guard, key = await _guarded(app)
    with pytest.raises(AkGuardError, match="cannot be guarded"):
        await call(guard, http_scope(key, type=kind))
    assert entered == []


SHAPES: dict[str, Callable[[list[tuple[bytes, bytes]]], Any]] = {
    "a tuple of tuples": tuple,
    "a list of lists": lambda headers: [list(header) for header in headers],
    "a tuple of lists": lambda headers: tuple(list(header) for header in headers),
    "names with capitals": lambda headers: [(name.title(), value) for name, value in headers],
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("forward_key", [True, False], ids=["key forwarded", "key removed"])
async def test_headers_may_come_in_any_shape_that_asgi_allows(shape: Callable[..., Any], *, forward_key: bool) -> None:
    got: list[Any] = []

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        got.extend(name.lower() for name, _ in scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": ((b"x-app", b"1"),)})
        await send({"type": "http.response.body", "body": b""})

    backend = MemoryBackend()
    issued = await KeyManager(backend).create("test", limits=["9/5h"])
    guard = ApiKeyMiddleware(app, backend=backend, forward_key=forward_key)
    lines = [(b"x-other", b"1"), (b"authorization", b"Bearer " + issued.secret.encode())]
    sent = await call(guard, http_scope(headers=shape(lines)))
    assert got == ([b"x-other", b"authorization"] if forward_key else [b"x-other"])
    assert [name for name, _ in sent[0]["headers"]] == [b"x-app", b"ratelimit-policy", b"ratelimit"]
    assert await status_of(guard, http_scope(headers=shape(lines[:1]))) == 401


async def test_a_start_without_headers_is_completed() -> None:
    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    guard, key = await _guarded(app, limits=["9/5h"])
    sent = await call(guard, http_scope(key))
    assert dict(sent[0]["headers"])[b"ratelimit-policy"] == b'"5h";q=9;w=18000'


async def test_a_scope_without_what_is_optional_is_judged_all_the_same() -> None:
    guard, key = await _guarded(plain)
    bare = http_scope(key)
    for optional in ("raw_path", "client", "scheme"):
        del bare[optional]
    assert await status_of(guard, bare) == 200
    for nobody in (None, (), ("", 0), ("/run/app.sock", 0)):
        assert await status_of(guard, http_scope(key, client=nobody)) == 200
        assert await status_of(guard, http_scope(client=nobody)) == 401


async def test_the_state_that_the_server_shares_is_kept() -> None:
    got: list[dict[str, Any]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.append(dict(scope["state"]))
        await plain(scope, receive, send)

    guard, key = await _guarded(app)
    await call(guard, http_scope(key, state={"pool": "open"}))
    assert got[0]["pool"] == "open"
    assert got[0]["ak_guard"].key.name == "test"


async def test_a_caller_cannot_bring_an_admission_along() -> None:
    guard, key = await _guarded(echo_app())
    async with client_for(guard) as client:
        forged = {"ak_guard": "admitted", "state": "ak_guard", "x-ak-guard": "admitted"}
        assert (await client.get(ECHO_PATH, headers=forged)).status_code == 401
        assert (await client.get(ECHO_PATH, headers=bearer(key))).status_code == 200
    assert await status_of(guard, http_scope(state={"ak_guard": "admitted"})) == 401


async def test_an_admission_left_over_from_an_ended_request_lets_nobody_in() -> None:
    guard, key = await _guarded(plain)
    # ASGI has servers copy the state for each request; one that forgets it must not open the door.
    shared: dict[str, Any] = {}
    assert await status_of(guard, http_scope(key, state=shared)) == 200
    assert await status_of(guard, http_scope(state=shared)) == 401
