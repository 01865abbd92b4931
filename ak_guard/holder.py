"""What the holder of a key may see of it: limits, what is used of them and when they reset. Looking costs nothing."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ak_guard.budgets.ledger import peek, running
from ak_guard.checks import limits_unavailable
from ak_guard.errors import BudgetError
from ak_guard.loops import PerLoop
from ak_guard.notation import iso
from ak_guard.status import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from ak_guard.guard import Case
    from ak_guard.paths import PublicPaths
    from ak_guard.replies import Replies
    from ak_guard.subject import Subject


class Holder:
    """Answers GET and HEAD at its path with the state of the key that asks, also of one that is used up or expired.

    Whoever may not use the key from there, or holds a disabled one or none, is refused as anywhere else. However often
    one key asks at a time, its counters are read once.
    """

    def __init__(self, paths: PublicPaths, replies: Replies, *, clock: Callable[[], float]) -> None:
        self._paths = paths
        self._replies = replies
        self._clock = clock
        self._flights: PerLoop[dict[str, asyncio.Task[Status]]] = PerLoop(dict)

    def __contains__(self, scope: Scope) -> bool:
        return scope.get("method") in {"GET", "HEAD"} and scope in self._paths

    async def answer(self, case: Case, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request of whom the guard has identified, or not."""
        if case.denial is None and case.subject is not None:
            try:
                status = await self._status(case.subject)
            except BudgetError:
                case.denial = limits_unavailable()
            else:
                await _send(document(case.subject, status, self._clock()), scope, send)
                return
        assert case.denial is not None, "without a key there is a refusal"  # noqa: S101  # told to the type checker
        case.status = await self._replies.send(case.denial, [], scope, receive, send)

    async def _status(self, subject: Subject) -> Status:
        flights = self._flights.get()
        key_id = subject.key.id
        flight = flights.get(key_id)
        if flight is None:
            flight = flights[key_id] = asyncio.create_task(self._read(subject))
            flight.add_done_callback(lambda _: flights.pop(key_id, None))
        return await asyncio.shield(flight)

    async def _read(self, subject: Subject) -> Status:
        levels = await peek(subject.budget, self._clock())
        return Status.of(subject.budget, levels, (await running([subject.budget]))[0])


def document(subject: Subject, status: Status, now: float) -> dict[str, Any]:
    """The answer as JSON. `state` is `active` or `expired`; times are ISO 8601 in UTC, amounts in their `unit`."""
    key = subject.key
    return {
        "key": {"id": key.id, "name": key.name, "hint": key.hint, "group": key.group},
        "state": "expired" if now >= subject.rules.expires_at else "active",
        "expires_at": iso(key.expires_at),
        **status.as_json(),
        "now": iso(datetime.fromtimestamp(now, UTC)),
    }


async def _send(answer: dict[str, Any], scope: Scope, send: Send) -> None:
    body = json.dumps(answer, ensure_ascii=False).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
