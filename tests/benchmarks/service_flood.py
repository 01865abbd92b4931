"""Very many made-up keys at once: what of it reaches the key service, and what a good key's holder notices."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.benchmarks import ours
from tests.benchmarks.caller import connection, message
from tests.benchmarks.harness import Figure, WrongAnswer
from tests.benchmarks.processes import house
from tests.benchmarks.report import Row, Table
from tests.benchmarks.service_cold import counted
from tests.benchmarks.traffic import PATH
from tests.benchmarks.wire import started

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.processes import Process

#: Calls a second that are wanted; how many there were is told.
RATE: Final = 10_000
SLOWER_AT_MOST: Final = 1.5
FAILURE_LIMIT: Final = 30
#: As many as a process may open where nobody has raised that, less a few.
_CONNECTIONS: Final = 512
#: Each made-up key comes so often, so that there is something to be looked up twice.
_TIMES: Final = 2
_EVERY_SECONDS: Final = 0.005
_GOOD_ADDRESS: Final = "203.0.113.10"


class Flood(NamedTuple):
    """Who calls: from one address, from many, or from where nobody can be told apart."""

    name: str
    addresses: Sequence[str]
    rate: int = RATE


FLOODS: Final = (
    Flood("one address", ["198.51.100.7"]),
    Flood("100 addresses", [f"198.18.0.{number}" for number in range(100)]),
    Flood("loopback", []),
    # One process answers fewer than that at all; these it can answer.
    Flood("one address", ["198.51.100.9"], RATE // 2),
    Flood("100 addresses", [f"198.18.1.{number}" for number in range(100)], RATE // 4),
)


async def flood(rounds: int, seconds: float) -> Table:
    """In rounds: nothing, each flood on the guarded app, the same on the same app without a guard."""
    title = f"{RATE:,} made-up keys a second wanted, {_CONNECTIONS} connections; a good key's requests beside them"
    table = Table("service-flood", title, "ms", "of unloaded")
    async with house() as at:
        await at.keys.create_group(ours.PAID)
        secret = await ours.issue(at.keys)
        service = await at.service(counted=True)
        guarded, bare = await at.guarded(service, failure_limit=f"{FAILURE_LIMIT}/minute"), await at.bare()
        with started("flood") as generator:
            for flooded in FLOODS:
                trial = _Trial(flooded, secret, service, generator)
                for _ in range(rounds):
                    await trial.run(guarded, bare, seconds)
                trial.rows(table, seconds)
                # A minute of failures is longer than anybody would wait here.
                await guarded.kill()
                await guarded.start()
    table.notes.append(
        "the load generator, the key service and who measures share one processor, the app has the other"
    )
    return table


class _Trial:
    def __init__(self, flooded: Flood, secret: str, service: Process, generator: Any) -> None:
        self._flood = flooded
        self._asked = message(secret, PATH, address=_GOOD_ADDRESS)
        self._service = service
        self._generator = generator
        self._unloaded: dict[str, list[float]] = {"guarded": [], "bare": []}
        self._loaded: dict[str, list[float]] = {"guarded": [], "bare": []}
        self._rates: dict[str, list[float]] = {"guarded": [], "bare": []}
        self._of_key = Counter[str]()
        self._of_address = Counter[str]()
        self._seconds = 0.0
        self._statuses = Counter[str]()

    async def run(self, guarded: Process, bare: Process, seconds: float) -> None:
        for name, server in (("bare", bare), ("guarded", guarded)):
            self._unloaded[name].append(await self._median(server, asyncio.sleep(seconds / 2)))
            counted(self._service)
            # Keys take long to make up, and meanwhile nothing is flooded.
            await asyncio.to_thread(self._generator.ask, self._job(server, seconds))
            begin = time.perf_counter()
            flooding = asyncio.create_task(asyncio.to_thread(self._generator.ask, {}))
            self._loaded[name].append(await self._median(server, flooding))
            told = flooding.result()
            self._rates[name].append(told["sent"] / told["seconds"])
            if name == "guarded":
                self._seconds += time.perf_counter() - begin
                self._statuses.update(told["statuses"])
                digests = counted(self._service)["digests"]
                self._of_key.update({known: times for known, times in digests.items() if known in told["keys"]})
                for known, times in digests.items():
                    if known in told["keys"]:
                        self._of_address[told["keys"][known]] += times

    def _job(self, server: Process, seconds: float) -> dict[str, Any]:
        flooded = self._flood
        job = {"port": server.port, "rate": flooded.rate, "seconds": seconds, "connections": _CONNECTIONS}
        return {**job, "addresses": list(flooded.addresses), "times": _TIMES}

    async def _median(self, server: Process, other: Any) -> float:
        """Milliseconds of the median request of the good key, while something else goes on."""
        going = asyncio.ensure_future(other)
        found = []
        async with connection(server.port) as caller:
            while not going.done():
                begin = time.perf_counter()
                answer = await caller.ask(self._asked)
                found.append(1000 * (time.perf_counter() - begin))
                if answer.status != 200:
                    raise WrongAnswer(f"a good key was answered {answer}")
                await asyncio.sleep(_EVERY_SECONDS)
        await going
        return Figure.of(found).median

    def rows(self, table: Table, seconds: float) -> None:
        flooded, add = self._flood, table.rows.append
        told = f"{flooded.name}, {flooded.rate:,}/s"
        add(Row(f"{told}: unloaded", Figure.of(self._unloaded["guarded"])))
        for name, target in (("guarded", SLOWER_AT_MOST), ("bare", None)):
            pairs = zip(self._loaded[name], self._unloaded[name], strict=True)
            share = Figure.of([loaded / unloaded for loaded, unloaded in pairs])
            rate = Figure.of(self._rates[name]).median
            add(Row(f"  flooded, {name} ({rate:,.0f}/s reached)", Figure.of(self._loaded[name]), share, target))
        add(Row("  look-ups of one key, at most", _one(max(self._of_key.values(), default=0)), target=1))
        if flooded.addresses:
            most = max(self._of_address.values())
            # A throttled address keeps one look-up a second.
            spared = int(self._seconds) + 1
            add(Row(f"  look-ups of one address, at most ({spared} s)", _one(most), target=FAILURE_LIMIT + spared))
        else:
            add(Row("  look-ups in all, each second", _one(self._of_key.total() / self._seconds)))
        table.notes.append(f"{told}: answered {dict(sorted(self._statuses.items()))}")


def _one(value: float) -> Figure:
    return Figure(value, value, value)
