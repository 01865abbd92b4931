"""A request with a known key does little: counted in calls, because time is only measured in benchmarks."""

from __future__ import annotations

import ipaddress
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import ak_guard
from tests.benchmarks.ours import guarded

if TYPE_CHECKING:
    from types import FrameType

    from starlette.types import Message

_OURS: Final = str(Path(ak_guard.__file__).parent)
# It takes 18. Whoever needs more here changes what each request costs, and should measure it.
_MOST_CALLS: Final = 20


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Message) -> None:
    pass


async def test_what_was_read_once_is_not_read_again() -> None:
    case = await guarded("ak_guard")
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            calls[frame.f_code.co_filename] += 1

    for counted in (False, False, True):
        sys.setprofile(count if counted else None)
        try:
            # A server makes everything anew for each request, so nothing can be recognised by identity.
            await case.app({**case.scopes[0], "headers": list(case.scopes[0]["headers"])}, _receive, _send)
        finally:
            sys.setprofile(None)
    assert case.close is not None
    await case.close()

    ours = {name: number for name, number in calls.items() if name.startswith(_OURS)}
    assert 0 < sum(ours.values()) <= _MOST_CALLS, ours
    assert ipaddress.__file__ not in calls
