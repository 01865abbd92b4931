"""How many tokens a call has used, as the upstream tells it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ak_guard import Admission


class Event(NamedTuple):
    """One event of a stream, as it came and as JSON; `data` is empty where it holds none. `last` says goodbye."""

    text: bytes
    data: dict[str, Any]
    last: bool = False


class Events:
    """Server-sent events out of bytes that are cut anywhere. `rest` is what stands behind the last whole event."""

    def __init__(self) -> None:
        self.rest = b""

    def add(self, part: bytes) -> Iterator[Event]:
        """The events that are whole now."""
        self.rest += part
        while (end := _end(self.rest)) is not None:
            text, self.rest = self.rest[:end], self.rest[end:]
            yield _event(text)


class Tokens:
    """Counts for one call, and charges what is not paid yet.

    Where the upstream has not said how many there were, because the client left or for lack of manners, each event
    counts as one token.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._total: int | None = None
        self._events = 0
        # The call paid one unit when it began.
        self._paid = 1

    def told(self, document: dict[str, Any]) -> bool:
        """Look for `usage` in an answer; whether it was there."""
        inner = document.get("response")
        usage = document.get("usage") or (inner.get("usage") if isinstance(inner, dict) else None)
        total = usage.get("total_tokens") if isinstance(usage, dict) else None
        if isinstance(total, int) and not isinstance(total, bool) and total >= 0:
            self._total = total
            return True
        return False

    def heard(self, event: Event) -> bool:
        """Count an event of a stream; True for the one that holds the usage and nothing else."""
        if event.data:
            self._events += 1
        told = self.told(event.data)
        if told or event.last:
            # Before it is handed on, so that whoever has read the answer finds it charged.
            self.charge()
        return told and event.data.get("choices") == []

    def charge(self) -> None:
        """Charge what was used until now. Some upstreams tell it again and again while they go on."""
        due = self._events if self._total is None else self._total
        if due > self._paid:
            self._admission.charge(due - self._paid)
            self._paid = due


def _end(text: bytes) -> int | None:
    ends = [at + len(mark) for mark in (b"\n\n", b"\r\n\r\n") if (at := text.find(mark)) >= 0]
    return min(ends) if ends else None


def _event(text: bytes) -> Event:
    data = b"\n".join(line[5:].strip() for line in text.splitlines() if line.startswith(b"data:"))
    try:
        found = json.loads(data)
    except ValueError:
        # A comment that keeps the connection alive, or the end.
        found = None
    return Event(text, found if isinstance(found, dict) else {}, last=data == b"[DONE]")
