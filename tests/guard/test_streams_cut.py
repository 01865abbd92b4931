"""Streams and websockets end when the key that opened them is no longer good."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from ak_guard import ApiKeyMiddleware, BackendError, Group, KeyManager
from ak_guard.backends import Found, MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ak_guard.backends import KeyStore
    from ak_guard.manager import Issued
    from ak_guard.testing import ManualClock

CHUNKED: list[tuple[bytes, bytes]] = []
END = {"type": "http.response.body", "body": b"", "more_body": False}


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 8
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


class Call:
    """One request to an app in the process, for as long as it takes."""

    def __init__(self, app: ASGIApp, secret: str, kind: str = "http") -> None:
        self.sent: list[Message] = []
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.incoming.put_nowait({"type": "websocket.connect"} if kind == "websocket" else {"type": "http.request"})
        scope: Scope = {
            "type": kind,
            "method": "GET",
            "path": "/",
            "query_string": b"",
            "headers": [(b"authorization", f"Bearer {secret}".encode())],
            "client": ("203.0.113.10", 40_000),
            "subprotocols": [],
        }
        self.cancelling_afterwards: int | None = None
        self.task = asyncio.create_task(self._run(app, scope))

    async def _run(self, app: ASGIApp, scope: Scope) -> None:
        await app(scope, self.incoming.get, self._send)
        task = asyncio.current_task()
        assert task is not None
        self.cancelling_afterwards = task.cancelling()

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    async def begun(self) -> Call:
        await until(lambda: len(self.sent) >= 2 or self.closed)
        return self

    async def over(self) -> None:
        async with asyncio.timeout(8):
            await self.task

    @property
    def closed(self) -> bool:
        return any(message["type"] == "websocket.close" for message in self.sent) or self.task.done()


class Upstream:
    """An app whose stream waits for something that may never come, and what became of it."""

    def __init__(self, headers: list[tuple[bytes, bytes]] = CHUNKED) -> None:
        self.headers = headers
        self.next: asyncio.Queue[bytes] = asyncio.Queue()
        self.ended: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.headers})
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            while chunk := await self.next.get():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise
        finally:
            if "state" in scope:
                scope["state"]["ak_guard"].charge(4)


async def talk(_: Scope, receive: Receive, send: Send) -> None:
    """A websocket that answers until its client is gone, and tells it what it then heard."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "hello"})
    while (message := await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "text": message["text"]})


class Remote:
    """A backend somewhere else: it may be away, and tells of changes only what a test makes it tell."""

    def __init__(self) -> None:
        self.store = MemoryBackend()
        self.away = False
        self.lookups = 0

    async def find(self, digest: bytes) -> Found | None:
        self.lookups += 1
        if self.away:
            raise BackendError("away")
        return await self.store.find(digest)


class Telling(Remote):
    def watch(self, listener: Callable[[str | None], None]) -> Callable[[], None]:
        return self.store.watch(listener)


async def _disable(keys: KeyManager, issued: Issued, _: ManualClock) -> None:
    await keys.disable(issued.key.id)


async def _delete(keys: KeyManager, issued: Issued, _: ManualClock) -> None:
    await keys.delete(issued.key.id)


async def _rotate_at_once(keys: KeyManager, issued: Issued, _: ManualClock) -> None:
    await keys.rotate(issued.key.id, grace=None)


async def _end_the_grace(keys: KeyManager, issued: Issued, clock: ManualClock) -> None:
    await keys.rotate(issued.key.id, grace="1h")
    clock.move("1h")
    await keys.update(issued.key.id, name="another name")


async def _expire(keys: KeyManager, issued: Issued, clock: ManualClock) -> None:
    await keys.update(issued.key.id, expires_at="2030-01-01T00:00:00")
    clock.now = 1_893_456_000.0
    await keys.update(issued.key.id, name="another name")


ENDS = pytest.mark.parametrize(
    ("end", "code"),
    [
        (_disable, "api_key_disabled"),
        (_delete, "invalid_api_key"),
        (_rotate_at_once, "invalid_api_key"),
        (_end_the_grace, "invalid_api_key"),
        (_expire, "api_key_expired"),
    ],
)


@ENDS
async def test_a_stream_ends_with_its_key(
    keys: KeyManager, backend: KeyStore, clock: ManualClock, end: Any, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="ak_guard")
    issued = await keys.create("prod-api", quota=100)
    upstream, told = Upstream(), list[Any]()
    app = ApiKeyMiddleware(upstream, backend=backend, clock=clock, on_decision=told.append)
    call = await Call(app, issued.secret).begun()
    other = await Call(app, (await keys.create("other")).secret).begun()
    await end(keys, issued, clock)
    await call.over()
    assert [message.get("body") for message in call.sent] == [None, b"one", b""]
    assert call.sent[-1] == END
    assert upstream.ended == ["CancelledError"]
    assert call.cancelling_afterwards == 0
    assert [(decision.code, decision.status, decision.cost) for decision in told] == [("admitted", 200, 5)]
    assert f"{code}: 1 open streams of key {issued.key.id} are cut" in caplog.messages
    assert issued.secret not in caplog.text
    upstream.next.put_nowait(b"")
    await other.over()
    assert len(other.sent) == 3


@ENDS
async def test_a_websocket_ends_with_its_key(
    keys: KeyManager, backend: KeyStore, clock: ManualClock, end: Any, code: str
) -> None:
    issued = await keys.create("prod-api")
    app = ApiKeyMiddleware(talk, backend=backend, clock=clock)
    call = await Call(app, issued.secret, "websocket").begun()
    await end(keys, issued, clock)
    await until(lambda: call.closed)
    # A message of the client that crossed the close is not answered.
    call.incoming.put_nowait({"type": "websocket.receive", "text": "still there?"})
    await call.over()
    assert call.sent[2:] == [{"type": "websocket.close", "code": 1008, "reason": code}]
    assert call.cancelling_afterwards == 0


@pytest.mark.parametrize("grace", [0.02])
async def test_a_websocket_whose_app_hears_nothing_is_cancelled(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch, grace: float
) -> None:
    monkeypatch.setattr("ak_guard.cutting.GRACE_SECONDS", grace)
    heard = list[Any]()

    async def deaf(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hello"})
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            heard.append(await receive())
            with pytest.raises(OSError, match="disabled"):
                await send({"type": "websocket.send", "text": "one more thing"})
            await send({"type": "websocket.close"})
            raise

    backend = MemoryBackend()
    keys = KeyManager(backend, clock=clock)
    issued = await keys.create("prod-api")
    call = await Call(ApiKeyMiddleware(deaf, backend=backend, clock=clock), issued.secret, "websocket").begun()
    await keys.disable(issued.key.id)
    await call.over()
    assert heard == [{"type": "websocket.disconnect", "code": 1008, "reason": "api_key_disabled"}]
    assert [message["type"] for message in call.sent] == ["websocket.accept", "websocket.send", "websocket.close"]
    await until(lambda: len(asyncio.all_tasks()) == 1)


class Setting:
    """A guard, a key and a backend that counts what it is asked."""

    def __init__(self, clock: ManualClock, backend: Remote) -> None:
        self.clock = clock
        self.backend = backend
        self.keys = KeyManager(backend.store, clock=clock)

    def guard(self, app: ASGIApp, **settings: Any) -> ApiKeyMiddleware:
        return ApiKeyMiddleware(app, backend=self.backend, clock=self.clock, **settings)


@pytest.fixture
def setting(clock: ManualClock) -> Setting:
    return Setting(clock, Telling())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ak_guard.streams._RETRY_SECONDS", 0.02)
    monkeypatch.setattr("ak_guard.streams._PAUSE_SECONDS", 0.01)


async def _rename(setting: Setting, issued: Issued) -> None:
    await setting.keys.update(issued.key.id, name="another name")


async def _off_and_on(setting: Setting, issued: Issued) -> None:
    await setting.keys.disable(issued.key.id)
    await setting.keys.enable(issued.key.id)


async def _rotate_with_grace(setting: Setting, issued: Issued) -> None:
    await setting.keys.rotate(issued.key.id, grace="1h")


async def _extend(setting: Setting, issued: Issued) -> None:
    await setting.keys.update(issued.key.id, expires_at="2100-01-01")
    setting.clock.move("30d")
    await _rename(setting, issued)


@pytest.mark.parametrize("change", [_rename, _off_and_on, _rotate_with_grace, _extend])
async def test_a_change_after_which_the_key_is_good_cuts_nothing(setting: Setting, quick: None, change: Any) -> None:
    issued = await setting.keys.create("prod-api", expires_in="7d")
    upstream = Upstream()
    call = await Call(setting.guard(upstream), issued.secret).begun()
    asked = setting.backend.lookups
    await change(setting, issued)
    await until(lambda: setting.backend.lookups > asked)
    upstream.next.put_nowait(b"two")
    await until(lambda: len(call.sent) == 3)
    upstream.next.put_nowait(b"")
    await call.over()
    assert [message.get("body") for message in call.sent] == [None, b"one", b"two", b""]
    assert upstream.ended == []


async def test_the_streams_of_a_key_cost_one_lookup(setting: Setting) -> None:
    issued = await setting.keys.create("prod-api")
    app = setting.guard(Upstream())
    calls = [await Call(app, issued.secret).begun() for _ in range(20)]
    assert setting.backend.lookups == 1
    await setting.keys.disable(issued.key.id)
    await asyncio.gather(*[call.over() for call in calls])
    assert setting.backend.lookups == 2
    assert all(call.sent[-1] == END for call in calls)
    await until(lambda: len(asyncio.all_tasks()) == 1)


async def test_a_changed_group_looks_at_every_key(setting: Setting) -> None:
    app = setting.guard(Upstream())
    issued = [await setting.keys.create(f"key-{number}") for number in range(3)]
    calls = [await Call(app, one.secret).begun() for one in issued]
    # The store changed behind everybody's back, and only afterwards something is told.
    setting.backend.store._keys.clear()
    setting.backend.store._secrets.clear()
    await setting.keys.create_group(Group("paid"))
    await asyncio.gather(*[call.over() for call in calls])
    assert all(call.sent[-1] == END for call in calls)


async def test_a_response_with_a_length_breaks_off_and_does_not_look_complete(setting: Setting) -> None:
    issued = await setting.keys.create("prod-api")
    app = setting.guard(Upstream([(b"Content-Length", b"10")]))
    call = await Call(app, issued.secret).begun()
    await setting.keys.disable(issued.key.id)
    with pytest.raises(OSError, match="This API key is disabled"):
        await call.over()
    assert [message.get("body") for message in call.sent] == [None, b"one"]


async def test_an_expiry_is_noticed_without_anybody_telling_it(clock: ManualClock, quick: None) -> None:
    setting = Setting(clock, Remote())
    issued = await setting.keys.create("prod-api", expires_in="1s")
    clock.move(0.95)
    call = await Call(setting.guard(Upstream()), issued.secret).begun()
    clock.move(0.05)
    await call.over()
    assert call.sent[-1] == END


async def test_a_backend_that_tells_nothing_is_asked_when_the_cache_is_old(clock: ManualClock, quick: None) -> None:
    setting = Setting(clock, Remote())
    issued = await setting.keys.create("prod-api")
    call = await Call(setting.guard(Upstream(), cache_ttl=0), issued.secret).begun()
    asked = setting.backend.lookups
    await until(lambda: setting.backend.lookups > asked)
    assert not call.task.done()
    await setting.keys.disable(issued.key.id)
    await call.over()
    assert call.sent[-1] == END


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_an_outage_cuts_nothing_before_stale_if_error(setting: Setting, quick: None, kind: str) -> None:
    issued = await setting.keys.create("prod-api")
    app = setting.guard(talk if kind == "websocket" else Upstream(), stale_if_error=60)
    call = await Call(app, issued.secret, kind).begun()
    setting.backend.away = True
    setting.clock.move(59.9)
    await _rename(setting, issued)
    asked = setting.backend.lookups
    await until(lambda: setting.backend.lookups >= asked + 3)
    assert len(call.sent) == 2
    setting.clock.move(0.1)
    await call.over()
    closed = {"type": "websocket.close", "code": 1013, "reason": "key_service_unavailable"}
    assert call.sent[-1] == (closed if kind == "websocket" else END)


async def test_an_outage_that_ends_in_time_is_forgotten(setting: Setting, quick: None) -> None:
    issued = await setting.keys.create("prod-api")
    call = await Call(setting.guard(Upstream(), stale_if_error=60), issued.secret).begun()
    setting.backend.away = True
    setting.clock.move(50)
    await _rename(setting, issued)
    asked = setting.backend.lookups
    await until(lambda: setting.backend.lookups >= asked + 2)
    setting.backend.away = False
    asked = setting.backend.lookups
    await until(lambda: setting.backend.lookups > asked)
    setting.backend.away = True
    setting.clock.move(50)
    await _rename(setting, issued)
    asked = setting.backend.lookups
    await until(lambda: setting.backend.lookups >= asked + 2)
    assert call.sent[-1]["body"] == b"one"
    await setting.keys.disable(issued.key.id)
    setting.backend.away = False
    await call.over()


async def test_a_key_that_expires_during_an_outage_is_cut(setting: Setting, quick: None) -> None:
    issued = await setting.keys.create("prod-api", expires_in="10s")
    call = await Call(setting.guard(Upstream()), issued.secret).begun()
    setting.backend.away = True
    setting.clock.move(10)
    await _rename(setting, issued)
    await call.over()
    assert call.sent[-1] == END


@pytest.mark.parametrize("settings", [{"cut_streams": False}, {"mode": "report"}], ids=["turned-off", "report"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_streams_go_on_where_cutting_is_off(setting: Setting, settings: dict[str, Any], kind: str) -> None:
    issued = await setting.keys.create("prod-api", quota=9)
    upstream = Upstream()
    app = setting.guard(talk if kind == "websocket" else upstream, **settings)
    call = await Call(app, issued.secret, kind).begun()
    await setting.keys.disable(issued.key.id)
    cut = Call(setting.guard(Upstream()), issued.secret)
    await cut.over()
    assert cut.sent[0]["status"] == 401
    call.incoming.put_nowait({"type": "websocket.receive", "text": "two"})
    upstream.next.put_nowait(b"two")
    await until(lambda: len(call.sent) == 3)
    assert not call.closed
    call.incoming.put_nowait({"type": "websocket.disconnect"})
    upstream.next.put_nowait(b"")
    await call.over()


async def test_the_setting_is_true_or_false(setting: Setting) -> None:
    call = Call(setting.guard(talk, cut_streams="no"), "nobody")
    await call.over()
    assert json.loads(call.sent[1]["body"])["code"] == "misconfigured"


async def test_a_change_before_the_first_part_of_a_stream_is_not_missed(setting: Setting) -> None:
    gate, upstream = asyncio.Event(), Upstream()

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await upstream(scope, receive, send)

    issued = await setting.keys.create("prod-api")
    call = Call(setting.guard(late), issued.secret)
    await until(lambda: setting.backend.lookups)
    await setting.keys.disable(issued.key.id)
    gate.set()
    await call.over()
    assert call.sent[-1] == END
    assert upstream.ended == ["CancelledError"]


async def test_an_app_that_does_not_let_itself_be_cancelled_sends_nothing_more(setting: Setting) -> None:
    refused = list[OSError]()

    async def stubborn(_: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        while len(refused) < 3:
            try:
                await send({"type": "http.response.body", "body": b"tick", "more_body": True})
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                continue
            except OSError as error:
                refused.append(error)
        await send({"type": "http.response.body", "body": b"all of it"})

    issued = await setting.keys.create("prod-api")
    call = await Call(setting.guard(stubborn), issued.secret).begun()
    await setting.keys.disable(issued.key.id)
    await call.over()
    assert call.sent[-1] == END
    assert {message["body"] for message in call.sent[1:-1]} == {b"tick"}
    assert call.cancelling_afterwards == 0


async def test_the_client_of_an_app_that_never_ends_is_not_kept_waiting(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ak_guard.cutting.GRACE_SECONDS", 0.02)
    gate = asyncio.Event()

    async def endless(_: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                continue

    issued = await setting.keys.create("prod-api")
    call = await Call(setting.guard(endless), issued.secret).begun()
    await setting.keys.disable(issued.key.id)
    await until(lambda: call.sent[-1] == END)
    assert not call.task.done()
    gate.set()
    await call.over()
    assert call.sent.count(END) == 1


@pytest.mark.parametrize("headers", [CHUNKED, [(b"content-length", b"10")]], ids=["chunked", "with-a-length"])
async def test_where_the_app_cannot_be_cancelled_its_stream_ends_all_the_same(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, headers: list[tuple[bytes, bytes]]
) -> None:
    def broken() -> None:
        raise RuntimeError("Future object is not initialized.")

    issued = await setting.keys.create("prod-api")
    upstream = Upstream(headers)
    call = await Call(setting.guard(upstream), issued.secret).begun()
    with monkeypatch.context() as patched:
        patched.setattr("ak_guard.cutting.GRACE_SECONDS", 0.02)
        patched.setattr("asyncio.all_tasks", broken)
        await setting.keys.disable(issued.key.id)
        await until(lambda: call.sent[-1] == END)
    upstream.next.put_nowait(b"two")
    with contextlib.suppress(OSError):
        await call.over()
    assert upstream.ended == ["StreamCutError"]
    assert len(call.sent) == 3


async def test_what_an_app_does_after_its_response_is_left_alone(setting: Setting) -> None:
    gate, done = asyncio.Event(), list[str]()

    async def thorough(_: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})
        await gate.wait()
        done.append("written")

    issued = await setting.keys.create("prod-api")
    app = setting.guard(thorough)
    call = Call(app, issued.secret)
    await until(lambda: len(call.sent) == 3)
    stream = await Call(setting.guard(Upstream()), issued.secret).begun()
    await setting.keys.disable(issued.key.id)
    await stream.over()
    gate.set()
    await call.over()
    assert done == ["written"]


async def test_an_error_of_the_app_itself_reaches_the_server(setting: Setting) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await Upstream()(scope, receive, send)
        except asyncio.CancelledError:
            raise ValueError("a bug") from None

    issued = await setting.keys.create("prod-api")
    call = await Call(setting.guard(broken), issued.secret).begun()
    await setting.keys.disable(issued.key.id)
    with pytest.raises(ValueError, match="a bug"):
        await call.over()
    assert call.sent[-1] == END


async def test_a_server_that_cancels_a_stream_while_it_is_cut_is_heard(setting: Setting) -> None:
    cleaning = asyncio.Event()

    async def slow_to_leave(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await Upstream()(scope, receive, send)
        finally:
            cleaning.set()
            await asyncio.Event().wait()

    issued = await setting.keys.create("prod-api")
    call = await Call(setting.guard(slow_to_leave), issued.secret).begun()
    await setting.keys.disable(issued.key.id)
    await cleaning.wait()
    call.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.over()
    assert call.task.cancelled()


async def test_a_client_that_leaves_while_it_is_cut_disturbs_nobody(setting: Setting) -> None:
    class Gone(Call):
        async def _send(self, message: Message) -> None:
            if len(self.sent) == 2:
                raise ConnectionResetError
            self.sent.append(message)

    issued = await setting.keys.create("prod-api")
    app = setting.guard(Upstream())
    call = await Gone(app, issued.secret).begun()
    await setting.keys.disable(issued.key.id)
    await call.over()
    assert len(call.sent) == 2


async def test_a_guard_inside_a_guard_ends_the_stream_once(setting: Setting) -> None:
    issued = await setting.keys.create("prod-api")
    call = await Call(setting.guard(setting.guard(Upstream())), issued.secret).begun()
    await setting.keys.disable(issued.key.id)
    await call.over()
    assert call.sent[2:] == [END]
    assert setting.backend.lookups == 2


async def test_guards_with_two_backends_end_it_once_too(setting: Setting, clock: ManualClock) -> None:
    other = MemoryBackend()
    keys = KeyManager(other, clock=clock)
    secret = "x7Kq9ZmTr4WdLp2Vb8Nc"
    here, there = await setting.keys.create("one", key=secret), await keys.create("two", key=secret)
    app = setting.guard(ApiKeyMiddleware(Upstream(), backend=other, clock=clock))
    call = await Call(app, secret).begun()
    await keys.disable(there.key.id)
    await setting.keys.disable(here.key.id)
    await call.over()
    assert call.sent[2:] == [END]
    assert call.cancelling_afterwards == 0


def test_a_stream_in_another_event_loop_is_cut(setting: Setting) -> None:
    issued = asyncio.run(setting.keys.create("prod-api"))
    app = setting.guard(Upstream())
    begun, sent = threading.Event(), list[Any]()

    async def stream() -> None:
        app.app = Upstream()
        call = await Call(app, issued.secret).begun()
        begun.set()
        await call.over()
        sent.extend(call.sent)
        await until(lambda: len(asyncio.all_tasks()) == 1)

    thread = threading.Thread(target=asyncio.run, args=[stream()])
    thread.start()
    assert begun.wait(5)
    asyncio.run(setting.keys.disable(issued.key.id))
    thread.join(8)
    assert sent[-1] == END


def test_an_event_loop_that_was_closed_over_its_streams_is_forgotten(setting: Setting) -> None:
    async def leave(secret: str) -> None:
        await Call(setting.guard(Upstream()), secret).begun()

    issued = asyncio.run(setting.keys.create("prod-api"))
    asyncio.run(leave(issued.secret))
    asyncio.run(setting.keys.disable(issued.key.id))
    assert asyncio.run(setting.keys.get(issued.key.id)).enabled is False
