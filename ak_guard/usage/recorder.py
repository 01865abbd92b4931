"""Records of requests, written behind: a request only appends to a queue, and a timer hands on what is in it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
import secrets
from collections import deque
from contextvars import Context
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from ak_guard.loops import PerLoop
from ak_guard.records import ADMITTED
from ak_guard.usage.records import UsageRecord

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ak_guard.address import Address
    from ak_guard.records import ApiKey

#: How long a record waits before it is handed on, in seconds.
WRITE_SECONDS: Final = 0.5
#: So many wait at most; what comes then is counted and not kept.
MOST_WAITING: Final = 100_000

log: Final = logging.getLogger("ak_guard")

_BATCH: Final = 5_000
# Requests go on in between.
_AT_ONCE: Final = 250
# Whoever stops does not wait longer for a store that is away.
_GOODBYE_SECONDS: Final = 2.0

# Numbers, UUIDs and other long hexadecimal names.
_ID: Final = re.compile(
    r"(?<=/)(?:[0-9]+|[0-9a-fA-F]{16,}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(?=/|$)"
)


# What a request leaves behind, as cheap to put down as can be: when it came and ended, whose key it held, who called,
# method and path; where the app that answered is mounted and its route, if it tells; status, code of the refusal, cost,
# and the hint of a key that nobody holds.
Noted = tuple[
    float,
    float,
    "ApiKey | None",
    "Address | None",
    str | None,
    str,
    str | None,
    Any,
    int | None,
    str | None,
    int,
    str,
]


class Recorder:
    """Takes what requests leave behind and hands it to `sink` within a second, in batches.

    A batch that `sink` could not keep is sent again under the same name until it can; meanwhile the queue fills, and
    what does not fit any more is counted in `lost`.
    """

    def __init__(self, sink: Callable[[str, list[UsageRecord]], Awaitable[None]]) -> None:
        self._sink = sink
        self._waiting: deque[Noted] = deque()
        self._batch: tuple[str, list[UsageRecord]] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self._turn = PerLoop(asyncio.Lock)
        self._sent = False
        self._away = False
        self._told = 0
        #: How many records did not fit into the queue.
        self.lost: int = 0

    def add(self, noted: Noted) -> None:
        """One request has ended. Never waits and never fails; any event loop may call."""
        if len(self._waiting) >= MOST_WAITING:
            self.lost += 1
            return
        self._waiting.append(noted)
        # One loop at a time writes. A loop that was closed takes its timer with it.
        if self._loop is None or self._loop.is_closed():
            self._arm()

    def _arm(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._writing = None
        # The request that happened to come first lends nothing of its context to what is done for all.
        self._timer = self._loop.call_later(WRITE_SECONDS, self._begin, context=Context())

    def _begin(self) -> None:
        assert self._loop is not None, "it was armed"  # noqa: S101  # told to the type checker
        self._timer = None
        self._writing = self._loop.create_task(self._write(until_empty=False))
        self._writing.add_done_callback(self._written)

    def _written(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("usage could not be written", exc_info=error)
        if task is self._writing:
            self._writing = None
            if self._batch is None and not self._waiting:
                self._loop = None
            elif not task.cancelled():
                self._arm()

    async def _write(self, *, until_empty: bool) -> None:
        # Who comes while the last are written begins another writer, which must not send the batch that is on its way.
        async with self._turn.get():
            await self._write_waiting(until_empty=until_empty)

    async def _write_waiting(self, *, until_empty: bool) -> None:
        while self._batch is not None or self._waiting:
            if self._batch is None:
                self._batch = (secrets.token_hex(16), [])
            name, records = self._batch
            # What was sent once is sent again as it was.
            while not self._sent and self._waiting and len(records) < _BATCH:
                part = min(len(self._waiting), _AT_ONCE)
                records += [_record(self._waiting.popleft()) for _ in range(part)]
                await asyncio.sleep(0)
            self._sent = True
            try:
                await self._sink(name, records)
            except Exception as error:  # noqa: BLE001  # whatever a store fails with, requests go on
                if not self._away:
                    log.error("usage cannot be written and is tried again: %s: %s", type(error).__name__, error)
                self._away = True
                break
            if self._away:
                log.warning("usage is written again")
            self._away, self._sent, self._batch = False, False, None
            if not until_empty and len(self._waiting) < _BATCH:
                # What came meanwhile waits for its time, else a busy app would have a writer that never rests.
                break
        if self.lost > self._told:
            log.error("%d usage records did not fit into the queue and are lost", self.lost - self._told)
            self._told = self.lost

    async def aclose(self) -> None:
        """Hand on what waits. An outage is logged and not raised: whoever stops must go on stopping."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._writing = self._loop = None
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self._write(until_empty=True)
        except TimeoutError:
            pass
        left = len(self._waiting) + (0 if self._batch is None else len(self._batch[1]))
        if left:
            log.error("%d usage records could not be written before the end", left)


def handed_to(function: Callable[[list[UsageRecord]], object]) -> Callable[[str, list[UsageRecord]], Awaitable[None]]:
    """A sink that calls somebody's function with each batch. What it raises is logged, and the batch is not kept."""

    async def hand_over(_: str, records: list[UsageRecord]) -> None:
        try:
            answer = function(records)
            if inspect.isawaitable(answer):
                await answer
        except Exception:
            log.exception("the function that takes usage failed with a batch of %d records", len(records))

    return hand_over


def _record(noted: Noted) -> UsageRecord:
    at, ended, key, client, method, path, root, route, status, code, cost, hint = noted
    template = None if route is None else getattr(route, "path", None)
    return UsageRecord(
        at,
        None if key is None else key.id,
        None if key is None else key.group,
        None if client is None else client.text,
        method or "GET",
        _whole(template, path, root or "") if isinstance(template, str) and template else _without_ids(path),
        status,
        code or ADMITTED,
        cost,
        max(0.0, ended - at),
        hint if key is None else key.hint,
    )


def _whole(template: str, path: str, root: str) -> str:
    """The app's own route from the front of the path on: what it was included or mounted under it may not tell."""
    # Some servers tell the root in the path as well.
    inner = path.removeprefix(root)
    missing = inner.count("/") - template.count("/")
    # What holds slashes itself says nothing of what is missing.
    if missing <= 0 or ":path}" in template:
        return root + template
    return root + "/".join(inner.split("/")[: missing + 1]) + template


@lru_cache(maxsize=4_096)
def _without_ids(path: str) -> str:
    """The path with `*` for each segment that is an id: a route and not a document is what is counted."""
    return _ID.sub("*", path[:1_000])
