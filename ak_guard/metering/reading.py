"""One response, read while it passes for what it says it cost."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, Protocol

from ak_guard.metering.count import Count
from ak_guard.metering.events import Events

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ak_guard.metering.meter import Meter
    from ak_guard.records import Admission

log: Final = logging.getLogger("ak_guard")

#: No larger JSON body and no larger event of a stream is read; the estimate stands.
MOST_BYTES: Final = 1_048_576

_IDENTITY: Final = frozenset({b"", b"identity"})


class _Reader(Protocol):
    """Takes the body of one kind of content, part by part."""

    def add(self, part: bytes) -> bool:
        """Whether the answer has told now what it took."""

    def end(self) -> None: ...


class Reading:
    """What the app answers to one request that `meter` has priced, and what is charged for it.

    Settled is what the answer has told, down as well as up. Where it tells nothing, because it was left or for lack of
    manners, each event of a stream counts as one token, and nothing is given back. What the app charges by itself comes
    on top. Nothing raises: the answer is more than its price.
    """

    __slots__ = ("_admission", "_count", "_meter", "_paid", "_reader")

    def __init__(self, meter: Meter, admission: Admission) -> None:
        self._meter = meter
        self._admission = admission
        self._paid: int = admission.receipt.cost
        self._count = Count()
        self._reader: _Reader | None = None

    def see(self, message: Mapping[str, Any]) -> None:
        """The app sends this next. Before it goes on, what it tells is charged."""
        kind = message["type"]
        if kind == "http.response.start":
            self._reader = _reader_of(message, self._count)
        elif kind == "http.response.body" and self._reader is not None:
            before = self._count.told
            if self._reader.add(bytes(message.get("body") or b"")):
                self._settle(final=True)
            elif self._count.told is not before:
                self._settle(final=False)
            if not message.get("more_body"):
                self.end()

    def end(self) -> None:
        """Nothing more comes, or nobody is there any more."""
        if self._reader is not None:
            self._reader.end()
            self._reader = None
            self._settle(final=True)

    def _settle(self, *, final: bool) -> None:
        """Charge what is due and not paid yet; give back only what the last word of the answer has left."""
        told = self._count.told
        usage = told or self._count.least
        due = None if usage is None else self._meter.units(usage)
        if due is None or due == self._paid or (due < self._paid and (told is None or not final)):
            return
        # The app may have given some back before.
        units = max(due - self._paid, -self._admission.receipt.cost)
        try:
            self._admission.charge(units)
        except (RuntimeError, ValueError) as error:
            log.debug("what an answer says it cost is not charged: %s", error)
        else:
            self._paid = due


def _reader_of(start: Mapping[str, Any], count: Count) -> _Reader | None:
    """Who reads a response that begins like this; None for what failed, is compressed, or is of another kind."""
    headers = {name.lower(): value.lower() for name, value in start.get("headers", ())}
    if start["status"] >= 400 or headers.get(b"content-encoding", b"").strip() not in _IDENTITY:
        return None
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip()
    if kind == b"text/event-stream":
        return _StreamReader(count)
    if kind == b"application/json" or (kind.startswith(b"application/") and kind.endswith(b"+json")):
        return _JsonReader(count)
    return None


class _JsonReader:
    __slots__ = ("_body", "_count", "_size")

    def __init__(self, count: Count) -> None:
        self._count = count
        self._body = bytearray()
        self._size = 0

    def add(self, part: bytes) -> bool:
        self._size += len(part)
        if self._size <= MOST_BYTES:
            self._body += part
        else:
            self._body.clear()
        return False

    def end(self) -> None:
        self._count.document(self._body)


class _StreamReader:
    __slots__ = ("_count", "_events")

    def __init__(self, count: Count) -> None:
        self._count = count
        self._events = Events(MOST_BYTES)

    def add(self, part: bytes) -> bool:
        told = False
        for data in self._events.add(part):
            told = self._count.event(data) or told
        return told

    def end(self) -> None:
        for data in self._events.end():
            self._count.event(data)
