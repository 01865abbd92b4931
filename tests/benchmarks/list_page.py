"""The page of keys at a large service: how long the server takes for each way to look at it, and what it weighs."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlencode

from ak_guard.admin import AdminTokens, console_app
from ak_guard.admin.console.assets import assets
from ak_guard.listing import KeyFilter, Order, cursor, standing
from ak_guard.testing import ManualClock
from tests.admin.consoles import Visitor
from tests.benchmarks.harness import Figure, WrongAnswer
from tests.benchmarks.registry import GROUPS, register
from tests.benchmarks.report import Row, Table
from tests.support import client_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from httpx2 import AsyncClient

    from tests.benchmarks.registry import Register

MOST_MS: Final = 150.0
#: Page, style sheet, script and icon together, before any compression.
MOST_BYTES: Final = 150_000
_SORTS: Final = ("name", "-name", "expires", "-expires", "quota", "-quota", "last_used", "-last_used")
_ROW: Final = b'<tr role="row"'


async def list_page(count: int, rounds: int, stores: Sequence[str] = ("sqlite", "postgres")) -> Table:
    """Every way to look at the list, in turn in an order drawn anew each round.

    Time on the clock, and beside it the least time that this process took of a processor: the console, and SQLite too.
    """
    table = Table("list", f"the console's page of keys, {count:,} of them", "ms")
    for store in stores:
        async with register(store, count) as there, _signed_in(there) as client:
            ways = await _ways(there)
            taken: dict[str, list[_Look]] = {way: [] for way in ways}
            order = list(ways)
            for number in range(rounds + 1):
                random.Random(number).shuffle(order)
                for way in order:
                    look = await _looked(client, way, ways[way])
                    if number:  # the first round warms up
                        taken[way].append(look)
            table.rows += [_row(f"{store}, {way}", looks) for way, looks in taken.items()]
            heaviest = max(look.weight for looks in taken.values() for look in looks)
            table.rows.append(_weight(f"{store}, bytes of the heaviest page with all it loads", heaviest))
            table.rows.append(Row(f"{store}, create a key", Figure.of(await _creating(there, rounds))))
    return table


@contextlib.asynccontextmanager
async def _signed_in(there: Register) -> AsyncIterator[AsyncClient]:
    tokens = AdminTokens(there.keys, environment="")
    # Templates are read from the disk, which a server does before it serves.
    console = await asyncio.to_thread(console_app, there.keys, tokens=tokens)
    async with client_for(console) as client:
        await Visitor(client, there.keys, tokens, await client.get("/sign-in"), ManualClock()).sign_in()
        yield client


async def _ways(there: Register) -> dict[str, dict[str, str]]:
    sample = there.sample
    name, hint = sample["name"], sample["hint"][-4:]
    busy, quiet = GROUPS[0], GROUPS[-1]
    ways: dict[str, dict[str, str]] = {"plain": {}}
    ways |= {f"sorted by {sort}": {"sort": sort} for sort in _SORTS}
    (listed,) = (await there.keys.page(KeyFilter(ids=(sample["id"],)))).items
    for sort in ("-last_used", "name", "expires", "-quota"):
        order = Order.parse(sort)
        ways[f"far within, by {sort}"] = {"sort": sort, "after": cursor(standing(listed, order), order)}
    ways |= {f"group {group}": {"group": group} for group in (busy, quiet)}
    ways |= {f"state {state}": {"state": state} for state in ("active", "disabled", "expired", "expiring", "endless")}
    ways["near a limit"] = {"state": "near"}
    ways["not used for 90 days"] = {"state": "unused", "sort": "last_used"}
    ways |= {f"environment {name}": {"env": name} for name in ("production", "test", "none")}
    ways |= {f"owner {owner}": {"owner": owner} for owner in ("owner-0", "owner-200")}
    ways |= {
        "search, a word of many names": {"q": "billing"},
        "search, one name": {"q": name},
        "search, last four": {"q": hint},
        "search, an id": {"q": sample["id"]},
        "search, an address": {"q": "203.0.113.7"},
        "search, nothing found": {"q": "no such key"},
        "search and group": {"q": "billing", "group": busy},
        "search, state, environment, by name": {
            "q": "worker", "state": "active", "env": "production", "sort": "name",
        },
        "group and state, by expires": {"group": busy, "state": "active", "sort": "expires"},
        "group, owner, environment": {"group": busy, "owner": "owner-0", "env": "production"},
    }  # fmt: skip
    return ways


class _Look(NamedTuple):
    """Milliseconds on the clock and of a processor, and bytes of the page."""

    spent: float
    worked: float
    weight: int


def _row(name: str, looks: Sequence[_Look]) -> Row:
    figure = Figure.of([look.spent for look in looks])
    least, worked = min(look.spent for look in looks), min(look.worked for look in looks)
    return Row(name, figure, target=MOST_MS, checks=f"least {least:.0f}, of a processor {worked:.0f}")


async def _looked(client: AsyncClient, way: str, query: dict[str, str]) -> _Look:
    begin, worked = time.perf_counter(), time.process_time()
    page = await client.get(f"/?{urlencode(query)}")
    spent, worked = 1_000 * (time.perf_counter() - begin), 1_000 * (time.process_time() - worked)
    rows = page.content.count(_ROW) - 1
    if page.status_code != 200 or (rows < 1) != ("nothing" in way):
        raise WrongAnswer(f"{way}: answered {page.status_code} with {rows} rows")
    return _Look(spent, worked, len(page.content))


def _weight(name: str, heaviest: int) -> Row:
    whole = float(heaviest + sum(len(asset.content) for asset in assets().values()))
    return Row(name, Figure(whole, whole, whole), target=MOST_BYTES)


async def _creating(there: Register, rounds: int) -> list[float]:
    taken = []
    for number in range(5 * rounds):
        begin = time.perf_counter()
        await there.keys.create(f"prod-new-{number}", group="paid", owner="owner-1", quota=1_000, expires_in="30d")
        taken.append(1_000 * (time.perf_counter() - begin))
    return taken
