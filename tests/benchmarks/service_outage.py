"""The key service is killed, hangs and comes back, and callers of the apps that ask it are watched."""

from __future__ import annotations

import asyncio
import signal
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ak_guard.keys import mint
from tests.benchmarks.caller import Answer, connection, message
from tests.benchmarks.harness import Figure, WrongAnswer
from tests.benchmarks.processes import House, house
from tests.benchmarks.report import Row, Table
from tests.benchmarks.traffic import PATH

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.benchmarks.processes import Process

REFUSED_WITHIN_MS: Final = 50.0
BACK_WITHIN_SECONDS: Final = 2.0
#: Failures after which nobody is asked any more, and some more.
_OPENS: Final = 8
_GOOD: Final = Answer(200, "")
_UNKNOWN: Final = Answer(503, "key_service_unavailable")
_SPENT: Final = Answer(503, "limits_unavailable")
_PATIENCE_SECONDS: Final = 20.0
_EVERY_SECONDS: Final = 0.005


@dataclass(slots=True)
class Seen:
    """What callers saw, in milliseconds or seconds, over all trials."""

    before_open: list[float] = field(default_factory=list)
    unknown: list[float] = field(default_factory=list)
    hanging: list[float] = field(default_factory=list)
    open_after: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)
    spent: list[float] = field(default_factory=list)
    allowed: int = 0
    of_allowed: int = 0
    back: list[float] = field(default_factory=list)
    back_with_budgets: list[float] = field(default_factory=list)


async def outage(trials: int, unknown: int, stale: float) -> Table:
    """The service is killed and started again, each time; and once it hangs. `stale` is `stale_if_error`."""
    table = Table("service-outage", "`ak-guard serve` killed (SIGKILL) beside apps that ask it", "")
    seen = Seen()
    async with house() as at:
        scene = await _Scene.set(at, stale)
        for _ in range(trials):
            await scene.killed(seen, unknown)
        await scene.hung(seen, unknown)
    _rows(table, seen, stale)
    return table


class _Scene:
    """A service and two guards: one refuses while it cannot count, one counts by itself."""

    def __init__(self, at: House, service: Process, refusing: Process, allowing: Process, stale: float) -> None:
        self._at = at
        self._service = service
        self._refusing = refusing
        self._allowing = allowing
        self._stale = stale

    @classmethod
    async def set(cls, at: House, stale: float) -> _Scene:
        service = await at.service()
        # Each request asks whose key it is, so that the last answer before the end is of that moment.
        told = {"stale_if_error": stale, "cache_ttl": 0.0}
        allowing = await at.guarded(service, **told, on_unavailable="allow")
        return cls(at, service, await at.guarded(service, **told), allowing, stale)

    async def killed(self, seen: Seen, unknown: int) -> None:
        plain = (await self._at.keys.create("prod-plain")).secret
        limited = (await self._at.keys.create("prod-limited", limits=["100000/5h", "1000000/7d"])).secret
        # Whoever hears of a new key only after he has looked it up forgets it once more.
        await self._at.followed()
        for port in (self._allowing.port, self._refusing.port):
            for secret in (limited, plain):
                last = time.perf_counter()
                await _until(port, secret, lambda answer: answer == _GOOD)
        await self._service.kill()
        async with asyncio.TaskGroup() as group:
            stale = group.create_task(_until(self._refusing.port, plain, lambda answer: answer != _GOOD, last))
            spent = group.create_task(_until(self._refusing.port, limited, lambda answer: answer == _SPENT, last))
            counting = group.create_task(self._counts(limited, last))
            await self._strangers(seen.before_open, seen.unknown, unknown)
        seen.plain.append(stale.result())
        seen.spent.append(spent.result())
        seen.allowed += counting.result()[0]
        seen.of_allowed += counting.result()[1]
        await self._service.start()
        await self._back(seen)

    async def hung(self, seen: Seen, unknown: int) -> None:
        """It is frozen: connections are taken, and nobody answers."""
        self._service.signal(signal.SIGSTOP)
        begin = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(_OPENS):
                group.create_task(self._strangers(seen.hanging, [], 0, 1))
        seen.open_after.append(time.perf_counter() - begin)
        await self._strangers([], seen.unknown, unknown, 0)
        self._service.signal(signal.SIGCONT)
        await self._back(seen)

    async def _strangers(self, first: list[float], then: list[float], count: int, opens: int = _OPENS) -> None:
        """Requests with keys that nobody knows: those that find out, and those that are refused at once."""
        async with connection(self._refusing.port) as caller:
            for series, number in ((first, opens), (then, count)):
                for _ in range(number):
                    begin = time.perf_counter()
                    answer = await caller.ask(message(mint(), PATH))
                    series.append(1000 * (time.perf_counter() - begin))
                    if answer != _UNKNOWN:
                        raise WrongAnswer(f"an unknown key was answered {answer}")

    async def _counts(self, secret: str, since: float) -> tuple[int, int]:
        """How many requests the other guard lets in of those that come while it knows the key."""
        asked = good = 0
        async with connection(self._allowing.port) as caller:
            while time.perf_counter() < since + 0.9 * self._stale:
                asked += 1
                good += await caller.ask(message(secret, PATH)) == _GOOD
                await asyncio.sleep(_EVERY_SECONDS)
        return good, asked

    async def _back(self, seen: Seen) -> None:
        """Seconds from when it takes connections until keys that were never seen are let in."""
        begin = time.perf_counter()
        plain = (await self._at.keys.create("prod-plain")).secret
        limited = (await self._at.keys.create("prod-limited", limits=["100/5h"])).secret
        async with asyncio.TaskGroup() as group:
            first = group.create_task(_until(self._refusing.port, plain, lambda answer: answer == _GOOD, begin))
            second = group.create_task(_until(self._refusing.port, limited, lambda answer: answer == _GOOD, begin))
        seen.back.append(first.result())
        seen.back_with_budgets.append(second.result())


async def _until(port: int, secret: str, wanted: Callable[[Answer], bool], begin: float | None = None) -> float:
    """Seconds since `begin`, by default now, until this key is answered so."""
    since = time.perf_counter() if begin is None else begin
    async with connection(port) as caller:
        while not wanted(answer := await caller.ask(message(secret, PATH))):
            if time.perf_counter() > since + _PATIENCE_SECONDS:
                raise WrongAnswer(f"a key is still answered {answer} after {_PATIENCE_SECONDS:g} s")
            await asyncio.sleep(_EVERY_SECONDS)
    return time.perf_counter() - since


def _rows(table: Table, seen: Seen, stale: float) -> None:
    add = table.rows.append
    add(Row("unknown key, 503 once the breaker is open, ms", Figure.of(seen.unknown), target=REFUSED_WITHIN_MS))
    add(Row("  p99", _one(_p99(seen.unknown)), target=REFUSED_WITHIN_MS))
    add(Row("  while it is not open yet, killed, ms", Figure.of(seen.before_open)))
    add(Row("  while it is not open yet, frozen, ms", Figure.of(seen.hanging)))
    add(Row("frozen: open after so many seconds", Figure.of(seen.open_after)))
    name = f"key without budgets goes on for, s (stale_if_error {stale:g})"
    add(Row(name, Figure.of(seen.plain), target=stale, at_least=True))
    add(Row("key with budgets: limits_unavailable after, s", Figure.of(seen.spent)))
    let_in = seen.allowed / max(1, seen.of_allowed)
    add(Row('  let in with on_unavailable="allow", share', _one(let_in), target=1.0, at_least=True))
    add(Row("back: key never seen let in after, s", Figure.of(seen.back), target=BACK_WITHIN_SECONDS))
    add(Row("  the slowest", _one(max(seen.back)), target=BACK_WITHIN_SECONDS))
    add(Row("  the slowest with budgets", _one(max(seen.back_with_budgets)), target=BACK_WITHIN_SECONDS))


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[-1]


def _one(value: float) -> Figure:
    return Figure(value, value, value)
