"""Counters in Redis or Valkey: shared by every process, decided by a script that runs there."""

from __future__ import annotations

import asyncio
import math
import re
import threading
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from limits.aio.storage import Storage
from redis.exceptions import RedisError

from ak_guard.budgets import rows
from ak_guard.budgets.base import Grant, Lease, Level, Promise, Shortfall, refunds
from ak_guard.budgets.redis_address import parse_address
from ak_guard.budgets.redis_client import connect
from ak_guard.budgets.redis_debts import Debts
from ak_guard.budgets.redis_line import Line
from ak_guard.budgets.redis_script import BUDGETS, SLOTS
from ak_guard.budgets.redis_wire import Question, outcome, rows_and_held
from ak_guard.budgets.single import SingleCounters
from ak_guard.budgets.slots import Share, SlotSupport
from ak_guard.errors import BudgetError, ConfigurationError
from ak_guard.loops import PerLoop

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ak_guard.budgets.base import Ask, Change, Row
    from ak_guard.budgets.redis_debts import Batch
    from ak_guard.budgets.slots import Stake
    from ak_guard.budgets.windows import Window

# How many leases a process remembers the subject of; for others it asks.
_REMEMBERED: Final = 65_536
# How long the store knows the subject of a lease beyond its deadline: only until the lease itself is surely dead.
_INDEX_GRACE_SECONDS: Final = 1
# Settlements of so many subjects travel together.
_STEP: Final = 256


class RedisStorage(SingleCounters, Storage, SlotSupport):
    """A storage of `limits` in Redis 5 or later, Valkey, a cluster of them or one behind sentinels.

    A take is one call of one script, which sees all windows and leases of a subject at once; so takes are exact over
    any number of processes. The server's time decides. `own_time=False` lets the caller's `now` rule instead, for tests
    and simulations; nothing expires by itself then. All keys begin with `prefix`. What survives a restart of the server
    is up to its configuration.
    """

    STORAGE_SCHEME: list[str] | None = ["ak-guard+redis"]  # noqa: RUF012  # `limits` reads it so

    def __init__(
        self, uri: str, wrap_exceptions: bool = False, *, prefix: str = "ak_guard", own_time: bool = True
    ) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        if not prefix or set(prefix) & set("{}"):
            raise ConfigurationError(f"prefix: {prefix!r} must be a text without braces, which name cluster slots")
        self._address = parse_address(uri)
        connect(self._address)  # what is wrong with the URI is said now
        self._prefix = prefix
        self._own_time = own_time
        self._told = 0.0
        self._lines = PerLoop(lambda: Line(self._address))
        self._debts = Debts()
        self._lent: dict[str, str] = {}
        self._lock = threading.Lock()

    @property
    def promise(self) -> Promise:
        return Promise(durable=False, shared=True)

    async def acquire(self, subject: str, asks: Sequence[Ask], *, lease: Lease | None, now: float) -> Grant | Shortfall:
        asking = asyncio.ensure_future(self._acquire(subject, asks, lease, now))
        try:
            # Shielded, so that a request that goes away leaves the answer to be undone and not a hole.
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            asking.add_done_callback(partial(self._undo, subject, asks, lease, now))
            raise

    async def give_back(self, lease_id: str, unspent: Mapping[str, int]) -> None:
        subject = self._forget_lease(lease_id) or await self._lines.get().send("GET", self._index_key(lease_id))
        if subject:
            await self._ask(subject, self._question("give back", lease=Lease(lease_id, "", 0.0, "", unspent)))

    async def peek(self, subject: str, windows: Sequence[Window], *, now: float, need: int = 0) -> list[Level]:
        at, found = await self._read(subject, now)
        levels = []
        for window in windows:
            row, held = found.get(window.slot, (None, 0))
            levels.append(rows.told(rows.level(window, row, at, held=held, need=need), now - at))
        return levels

    async def peek_many(self, subjects: Sequence[tuple[str, Sequence[Window]]], *, now: float) -> list[list[Level]]:
        # Each subject has a slot of its own in a cluster; asked together they share the way there.
        return await asyncio.gather(*[self.peek(subject, windows, now=now) for subject, windows in subjects])

    async def restart(self, subject: str, windows: Sequence[Window]) -> None:
        await self._ask(subject, self._question("restart", slots=[window.slot for window in windows]))

    async def forget(self, subject: str) -> None:
        await self._ask(subject, self._question("forget"))

    def settle(self, subject: str, changes: Sequence[Change], *, now: float) -> None:
        self._debts.owe(subject, changes, now)

    async def flush(self) -> None:
        await self._settle(self._debts.subjects())

    async def hold_slots(self, subject: str, stake: Stake, *, now: float) -> Share:
        said = (stake.worker, stake.number, stake.floor, stake.want, stake.limit, repr(stake.seconds))
        return await self._slots(subject, now, *said)

    async def held_slots(self, subjects: Sequence[str], *, now: float) -> list[int]:
        found = await asyncio.gather(*(self._slots(subject, now) for subject in subjects))
        return [share.others for share in found]

    async def aclose(self) -> None:
        await super().aclose()
        mine = self._lines.get()
        # Those of other loops are closed there, as soon as nobody holds them.
        self._lines.drain()
        await mine.aclose()

    # The conversation with the script

    async def _acquire(self, subject: str, asks: Sequence[Ask], lease: Lease | None, now: float) -> Grant | Shortfall:
        if lease is not None:
            self._remember_lease(lease, subject)
        question = self._question("acquire", now, asks=asks, lease=lease)
        return outcome(asks, await self._ask(subject, question, now), now)

    async def _read(self, subject: str, now: float) -> tuple[float, dict[str, tuple[Row, int]]]:
        """The store's time, and by slot the rows of a subject with what is held of them."""
        answer = await self._ask(subject, self._question("read", now), now)
        return float(answer[0]), rows_and_held(answer)

    def _question(self, op: str, now: float | None = None, **more: Any) -> Question:
        # Where the caller's time rules and he names none, it is what he named last.
        self._told = self._told if now is None else now
        return Question(op, None if self._own_time else self._told, **more)

    async def _ask(self, subject: str, question: Question, now: float | None = None) -> list[str]:
        """Put a question to the script; what is owed to the subject is settled in the same step."""
        line = self._lines.get()
        if question.op != "settle" and line.settling is None and (others := self._debts.subjects(but=subject)):
            line.settling = asyncio.ensure_future(self._settle_beside(line, others))
        if doubtful := self._debts.doubtful(subject):
            await self._call(line, subject, self._question("settle"), doubtful, None)
        return await self._call(line, subject, question, self._debts.take(subject), now)

    async def _call(
        self, line: Line, subject: str, question: Question, batches: tuple[Batch, ...], now: float | None
    ) -> list[str]:
        moment = now
        if moment is None:
            moment = max((at for batch in batches for _, at in batch.changes), default=0.0)
        at = moment + line.ahead
        for _ in range(2):
            try:
                text = await line.run_script(BUDGETS, self._keys(subject), question.text(batches, at))
            except BudgetError:
                self._debts.unanswered(subject)
                raise
            answer: list[str] = text.split("\n")
            if answer[1] != "outside":
                self._debts.confirm(subject, batches)
                if now is not None:
                    line.ahead = float(answer[0]) - now
                return answer
            at = float(answer[0])
        raise BudgetError("the time of Redis lies outside every calendar window that was reckoned for it")

    def _undo(
        self,
        subject: str,
        asks: Sequence[Ask],
        lease: Lease | None,
        now: float,
        asked: asyncio.Future[Grant | Shortfall],
    ) -> None:
        """Whoever asked went away. A take under a lease is given back by whoever holds the lease."""
        if asked.cancelled() or asked.exception() is not None:
            return
        grant = asked.result()
        if lease is None and isinstance(grant, Grant):
            self.settle(subject, refunds(asks, grant), now=now)

    async def _settle(self, subjects: Sequence[str]) -> None:
        for first in range(0, len(subjects), _STEP):
            step = subjects[first : first + _STEP]
            settling = (self._ask(subject, self._question("settle")) for subject in step)
            for failure in await asyncio.gather(*settling, return_exceptions=True):
                if isinstance(failure, BaseException):
                    raise failure

    async def _settle_beside(self, line: Line, subjects: Sequence[str]) -> None:
        """Bring what is owed to other subjects while one is asked for."""
        try:
            # It stays owed; the next call tries again.
            with suppress(BudgetError):
                await self._settle(subjects)
        finally:
            line.settling = None

    async def _slots(self, subject: str, now: float, *said: str | int) -> Share:
        at = "" if self._own_time else repr(now)
        answer = await self._lines.get().run_script(SLOTS, [f"{self._home(subject)}:c"], at, *said)
        held, others, wanted = (int(number) for number in answer.split(","))
        return Share(held, others, bool(wanted))

    # Names

    def _keys(self, subject: str) -> tuple[str, str, str]:
        home = self._home(subject)
        return f"{home}:w", f"{home}:l", f"{home}:s:{self._debts.writer}"

    def _home(self, subject: str) -> str:
        # What stands in braces decides the cluster slot: one for all keys of a subject.
        tag = subject.replace("%", "%25").replace("}", "%7D") or "%"
        return f"{self._prefix}:{{{tag}}}"

    def _index_key(self, lease_id: str) -> str:
        return f"{self._prefix}:lease:{lease_id}"

    def _remember_lease(self, lease: Lease, subject: str) -> None:
        """Note whose lease it is. Who gives back is nearly always who took; for others it is written down too.

        In a cluster that is elsewhere than the lease itself, so it is a command of its own in the same round trip, and
        one whose failure only means that the lease counts as spent when somebody else gives it back.
        """
        with self._lock:
            self._lent.pop(lease.renews, None)
            self._lent[lease.id] = subject
            while len(self._lent) > _REMEMBERED:
                del self._lent[next(iter(self._lent))]
        seconds = math.ceil(lease.seconds) + _INDEX_GRACE_SECONDS
        noted = self._lines.get().send("SET", self._index_key(lease.id), subject, "EX", seconds)
        noted.add_done_callback(lambda written: written.cancelled() or written.exception())

    def _forget_lease(self, lease_id: str) -> str | None:
        with self._lock:
            return self._lent.pop(lease_id, None)

    # What `limits` asks of a storage

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        return BudgetError

    def _time(self) -> float:
        return time.time()

    async def _live(self, key: str, now: float) -> list[tuple[int, float]]:
        at, found = await self._read(key, now)
        return [(row.used, row.end + now - at) for row, _ in found.values() if at < row.end]

    async def check(self) -> bool:
        try:
            await self._lines.get().send("PING")
        except BudgetError:
            return False
        return True

    async def reset(self) -> int | None:
        line, subjects = self._lines.get(), 0
        try:
            client = await line.client()
            pattern = re.sub(r"([*?^\[\]\\-])", r"\\\1", self._prefix)
            step: list[str] = []
            async for key in client.keys(f"{pattern}:*"):
                subjects += key.endswith(":w")
                step.append(key)
                if len(step) == _STEP:
                    await _unlink(line, step)
                    step = []
            await _unlink(line, step)
        except (RedisError, OSError) as error:
            raise BudgetError(f"the store of budgets failed ({type(error).__name__})") from error
        return subjects


async def _unlink(line: Line, keys: Sequence[str]) -> None:
    # One by one, because in a cluster they live in different places; together they still are one round trip.
    await asyncio.gather(*(line.send("UNLINK", key) for key in keys))
