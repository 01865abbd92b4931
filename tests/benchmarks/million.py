"""Very many keys in a database: does anything that looks at one of them cost more, and does a worker grow with them?"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import sqlite3
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ak_guard import ApiKeyMiddleware, KeyManager
from ak_guard.backends import SQLBackend
from ak_guard.database.tables import keys as keys_table
from ak_guard.database.tables import secrets as secrets_table
from ak_guard.keys import digest, mint
from tests.benchmarks import ours
from tests.benchmarks.harness import Figure, call_each
from tests.benchmarks.report import Row, Table
from tests.benchmarks.stores import a_place_apart
from tests.benchmarks.traffic import requests, starlette_app
from tests.databases import ask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from sqlalchemy import Table as Columns

FEW: Final = 1_000
TIMES_AT_MOST: Final = 2.0
#: Bytes that a worker may grow by with each further key, once its cache is full.
BYTES_AT_MOST: Final = 100
_IN_A_ROUND: Final = 3
_CACHE: Final = 1_000
_AT_ONCE: Final = 32
_SPREAD: Final = 2_654_435_761
_AROUND: Final = 2**32


async def million(
    many: int, rounds: int, callers: int, stores: Sequence[str] = ("sqlite", "postgres"), few: int = FEW
) -> Table:
    """Rounds in which a database of few keys and one of many take turns. Time on the clock."""
    table = Table("million", f"{many:,} keys in a database beside {few:,}", "ms", f"of {few:,} keys")
    for store in stores:
        async with _filled(store, few) as handful, _filled(store, many) as crowd:
            taken = await _compare(handful, crowd, rounds)
            for work, (with_few, with_many) in taken.items():
                share = Figure.of([more / less for more, less in zip(with_many, with_few, strict=True)])
                table.rows.append(Row(f"{store}, {work}", Figure.of(with_many), share, TIMES_AT_MOST))
            if store == "sqlite":
                grown = await _growth(crowd, callers)
                name = f"bytes a worker grows by a key beyond {callers:,}, cache_size={_CACHE:,}"
                # Fewer have not filled what is kept of addresses (8,192), which is bounded but grows until then.
                goal = BYTES_AT_MOST if callers >= 10_000 else None
                table.rows.append(Row(name, Figure(grown, grown, grown), target=goal))
    return table


class _Crowd:
    """A database with so many keys, of which each is found by a digest that can be told from its number."""

    def __init__(self, keys: KeyManager, url: str, count: int) -> None:
        self.keys = keys
        self.url = url
        self.count = count

    async def create(self) -> None:
        await self.keys.create("prod-api", group="paid", limits=ours.limits())

    async def first_page(self) -> None:
        assert len(await self.keys.list()) == 100

    async def page_within(self) -> None:
        number = random.randrange(self.count // 2, self.count)  # draws a place, guards nothing
        assert len(await self.keys.list(after=_id(number))) == 100

    async def cold_look_up(self) -> None:
        number = random.randrange(1, self.count)  # draws a key, guards nothing
        found = await self.keys.backend.find(_digest(number))
        assert found is not None
        assert found.key.id == _id(number)


async def _compare(few: _Crowd, crowd: _Crowd, rounds: int) -> dict[str, tuple[list[float], list[float]]]:
    works: dict[str, Callable[[_Crowd], Awaitable[None]]] = {
        "create": _Crowd.create,
        "list the first page": _Crowd.first_page,
        "list a page within": _Crowd.page_within,
        "cold look-up": _Crowd.cold_look_up,
    }
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            sides = [(few, taken[name][0]), (crowd, taken[name][1])]
            random.Random(number).shuffle(sides)
            for side, values in sides:
                begin = time.perf_counter()
                for _ in range(_IN_A_ROUND):
                    await work(side)
                if number:  # the first round warms up
                    values.append(1_000 * (time.perf_counter() - begin) / _IN_A_ROUND)
    return taken


async def _growth(crowd: _Crowd, callers: int) -> float:
    """What a guard holds more after twice as many keys have called than after `callers` of them, for each of these."""
    secrets = [mint() for _ in range(2 * callers)]
    await asyncio.to_thread(_give_secrets, crowd.url, secrets)
    app = starlette_app()
    service: dict[str, Any] = {**ours.SERVICE, "usage": False, "cache_size": _CACHE}
    app.add_middleware(ApiKeyMiddleware, backend=crowd.keys.backend, **service)
    tracemalloc.start()
    try:
        held: list[int] = []
        for first in (0, callers):
            for at in range(first, first + callers, _AT_ONCE):
                scopes = requests(secrets[at : min(at + _AT_ONCE, first + callers)])
                await asyncio.gather(*(call_each(app, [scope]) for scope in scopes))
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    return (held[1] - held[0]) / callers


# Filling: one key is made as people make them, and its rows are copied within the database.


@contextlib.asynccontextmanager
async def _filled(store: str, count: int) -> AsyncIterator[_Crowd]:
    with tempfile.TemporaryDirectory() as folder:
        async with a_place_apart(store, Path(folder)) as place:
            backend = SQLBackend(place.backend)
            async with KeyManager(backend) as keys:
                await keys.create_group(ours.PAID)
                template = await keys.create(
                    "prod-api", group="paid", allow_ips=["203.0.113.0/24"], quota=ours.AMPLE, limits=ours.limits()
                )
                await asyncio.to_thread(_copy, place.backend, template.key.id, count)
                yield _Crowd(keys, place.backend, count)


def _copy(url: str, template: str, count: int) -> None:
    """So many more keys like that one, numbered from 1, the newest with the highest number."""
    if url.startswith("sqlite"):
        # Numbers that look drawn, so that neighbours in time are no neighbours in the indexes of ids and digests.
        spread = f"((i * {_SPREAD}) % {_AROUND})"
        identity, text = f"printf('key_%010x%010x', {spread}, i)", f"printf('%010d%022d', {spread}, i)"
        stored, numbers = f"CAST({text} AS BLOB)", "n"
        before = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) "
    else:
        spread = f"((i::bigint * {_SPREAD}) % {_AROUND})"
        identity = f"'key_' || lpad(to_hex({spread}), 10, '0') || lpad(to_hex(i), 10, '0')"
        text = f"lpad({spread}::text, 10, '0') || lpad(i::text, 22, '0')"
        stored, numbers, before = f"convert_to({text}, 'UTF8')", f"generate_series(1, {count}) AS n(i)", ""
    later = "t.created_at + i * 0.001"
    statements = [
        before + _copied(keys_table, numbers, f"id = '{template}'", {"id": identity, "created_at": later}),
        before + _copied(secrets_table, numbers, f"key_id = '{template}'", {"key_id": identity, "digest": stored}),
    ]
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
            for statement in statements:
                file.execute(statement)
            file.commit()
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    else:
        ask(url, *statements, "ANALYZE")


def _copied(table: Columns, numbers: str, which: str, changed: dict[str, str]) -> str:
    names = [f'"{column.name}"' for column in table.c]
    values = [changed.get(column.name, f't."{column.name}"') for column in table.c]
    return (
        f"INSERT INTO {table.name} ({', '.join(names)}) "
        f"SELECT {', '.join(values)} FROM {numbers}, (SELECT * FROM {table.name} WHERE {which}) AS t"
    )


def _give_secrets(url: str, secrets: list[str]) -> None:
    """The first keys get secrets whose texts are known."""
    with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
        pairs = [(digest(secret.encode()), _digest(number)) for number, secret in enumerate(secrets, start=1)]
        file.executemany("UPDATE ak_secrets SET digest = ? WHERE digest = ?", pairs)
        file.commit()


def _id(number: int) -> str:
    return f"key_{number * _SPREAD % _AROUND:010x}{number:010x}"


def _digest(number: int) -> bytes:
    return b"%010d%022d" % (number * _SPREAD % _AROUND, number)
