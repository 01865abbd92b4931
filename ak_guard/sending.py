"""What passes between app and server: headers are added, and a response that goes on is noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ak_guard.replies import REFUSED_HANDSHAKE

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import Message, Receive, Send

    from ak_guard.budgets.slots import Slot
    from ak_guard.cutting import OpenStream
    from ak_guard.guard import Case
    from ak_guard.metering.reading import Reading
    from ak_guard.ratelimit_fields import Headers
    from ak_guard.streams import OpenStreams

_STARTS: Final = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})


def with_headers(send: Send, headers: Headers) -> Send:
    """Add headers where the response begins, and touch nothing else."""

    # No coroutine of its own: what it returns is awaited, and one less a message is worth having.
    def send_with_headers(message: Message) -> Awaitable[None]:
        if message["type"] in _STARTS:
            # A copy: an app may send the same message for each request.
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        return send(message)

    return send_with_headers


def with_status(send: Send, headers: Headers | None, case: Case) -> Send:
    """`with_headers` that remembers in `case.status` how the response began."""

    def send_with_status(message: Message) -> Awaitable[None]:
        note_status(case, message)
        if headers is not None and message["type"] in _STARTS:
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        return send(message)

    return send_with_status


def note_status(case: Case, message: Message) -> None:
    """How the response began. A websocket that is accepted has 101; where it is closed before, servers answer 403."""
    kind = message["type"]
    if kind.endswith("http.response.start"):
        case.status = message["status"]
    elif kind == "websocket.accept":
        case.status = 101
    elif kind == "websocket.close" and case.status is None:
        case.status = REFUSED_HANDSHAKE


def in_slot(send: Send, slot: Slot) -> Send:
    """Leave the slot with the last part of a response: what the app does afterwards takes nobody's place."""

    async def send_in_slot(message: Message) -> None:
        await send(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            slot.leave()

    return send_in_slot


def with_meter(send: Send, reading: Reading) -> Send:
    """Let `reading` see what the app sends, on its way and as it is."""

    def send_with_meter(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start" and not isinstance(message.get("headers", ()), list | tuple):
            # Some can be read only once.
            message = {**message, "headers": [*message["headers"]]}
        reading.see(message)
        return send(message)

    return send_with_meter


def with_streams(send: Send, headers: Headers | None, streams: OpenStreams, case: Case) -> Send:
    """`with_headers` for http; `case.stream` is set where the response turns out to be a stream.

    That is at its first part that is not its last: a plain response is entered nowhere.
    """

    def send_with_streams(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            if headers is not None:
                message = {**message, "headers": [*message.get("headers", ()), *headers]}
            case.start = message
        elif (stream := case.stream) is not None:
            ended: Awaitable[None] = stream.send(message)
            return ended
        elif "more_body" in message and message["more_body"]:  # noqa: RUF019  # twice as fast as get()
            streams.enter(case, send)
        return send(message)

    return send_with_streams


def with_socket(send: Send, headers: Headers | None, streams: OpenStreams, case: Case) -> Send:
    """`with_headers` for a websocket; `case.stream` is set where the app accepts it."""

    def send_with_socket(message: Message) -> Awaitable[None]:
        stream: OpenStream | None = case.stream
        if stream is not None:
            return stream.send(message)
        note_status(case, message)
        if headers is not None and message["type"] in _STARTS:
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        if message["type"] == "websocket.accept":
            streams.enter(case, send)
        return send(message)

    return send_with_socket


def until_cut(receive: Receive, case: Case) -> Receive:
    """What the app of a websocket receives: after the cut nothing but that the connection has ended."""

    async def receive_until_cut() -> Message:
        stream: OpenStream | None = case.stream
        if stream is None:
            return await receive()
        if stream.denial is None:
            message = await receive()
            if stream.denial is None:
                if message["type"] == "websocket.disconnect":
                    stream.over()
                return message
        return stream.disconnect

    return receive_until_cut
