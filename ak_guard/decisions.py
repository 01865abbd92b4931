"""What became of each request, told to whoever listens once it has ended."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ak_guard.records import ADMITTED, Decision
from ak_guard.sending import note_status

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Message, Scope, Send

    from ak_guard.guard import Case
    from ak_guard.usage.recorder import Recorder

log: Final = logging.getLogger("ak_guard")


def note(recorder: Recorder, case: Case, scope: Scope, ended: float) -> None:
    """Leave behind what became of a request that has ended."""
    start, admission, subject = case.start, case.admission, case.subject
    denial = case.denial
    get = scope.get
    recorder.add(
        (
            case.now,
            ended,
            None if subject is None else subject.key,
            case.client,
            get("method"),
            scope["path"],
            get("root_path"),
            get("route"),
            case.status if start is None else start["status"],
            (None if admission is None else admission.receipt.refused) if denial is None else denial.code,
            0 if admission is None else admission.receipt.charged,
            case.hint,
        )
    )


class Watched:
    """A `send` that notes the status, and afterwards tells what was decided."""

    __slots__ = ("_case", "_clock", "_listener", "_report", "_scope", "_send")

    def __init__(
        self,
        send: Send,
        listener: Callable[[Decision], object],
        case: Case,
        scope: Scope,
        *,
        report: bool,
        clock: Callable[[], float],
    ) -> None:
        self._send = send
        self._listener = listener
        self._case = case
        self._scope = scope
        self._report = report
        self._clock = clock

    async def __call__(self, message: Message) -> None:
        note_status(self._case, message)
        await self._send(message)

    def tell(self) -> None:
        case = self._case
        decision = Decision(
            code=ADMITTED if case.denial is None else case.denial.code,
            enforced=case.denial is not None and not self._report,
            key=case.subject.key if case.subject else case.admission.key if case.admission else None,
            client=case.client.text if case.client else None,
            method=self._scope.get("method", "GET"),
            path=self._scope["path"],
            # What a guard around this one let in, that one has charged and told.
            cost=case.admission.cost if case.admission and case.subject else 0,
            status=case.status,
            at=case.now,
            duration=self._clock() - case.now,
        )
        try:
            self._listener(decision)
        except Exception:
            log.exception("on_decision failed; the response was not touched by it")
