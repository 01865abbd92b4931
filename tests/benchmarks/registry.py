"""A register of keys as a large service has it: groups, owners, environments, ends, quotas, windows, last uses."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import insert

from ak_guard import ApiKey, BackendError, Group, KeyManager
from ak_guard.backends import SQLBackend
from ak_guard.database import tables
from ak_guard.listing import folded
from tests.benchmarks.stores import a_place_apart
from tests.databases import ask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy import Table

_DAY: Final = 86_400.0
#: Each has about half as many keys as the one before.
GROUPS: Final = ("default", "paid", "partners", "internal", "batch", "trial", "eu", "research", "mobile", "legacy")
OWNERS: Final = 300
_WORDS: Final = (
    "api", "web", "billing", "worker", "search", "export", "import", "support", "mobile", "report", "mailer", "crawler",
    "ledger", "webhook", "gateway", "cache", "shop", "invoice", "metrics", "chat",
)  # fmt: skip
_ENVIRONMENTS: Final = ("prod-", "prod-", "prod-", "staging-", "dev-", "test-", "")
_LETTERS: Final = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_WINDOWS: Final = {"1000/5h": 5 * 3_600.0, "4000/1d": _DAY, "20000/7d": 7 * _DAY}
_QUOTA: Final = 50_000
# A transaction that takes long is given up.
_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Register:
    """Keys in one database; `sample` is a row in the middle of them."""

    keys: KeyManager
    sample: dict[str, Any]


@contextlib.asynccontextmanager
async def register(store: str, count: int) -> AsyncIterator[Register]:
    """A database of its own with `count` keys, the same ones each time."""
    with tempfile.TemporaryDirectory() as folder:
        async with a_place_apart(store, Path(folder)) as place:
            backend = SQLBackend(place.backend)
            async with KeyManager(backend) as keys:
                for group in GROUPS[1:]:
                    await keys.create_group(Group(group, limits=["100000/1d"]))
                rows = list(_people(count, time.time()))
                chance = random.Random(2)
                await _fill(backend, tables.keys, rows)
                for table, made in (
                    (tables.secrets, _secrets),
                    (tables.last_used, _last_uses),
                    (tables.windows, _windows),
                ):
                    await _fill(backend, table, [one for row in rows for one in made(row, chance)])
                await asyncio.to_thread(_settle_down, place.backend)
                yield Register(keys, rows[count // 2])


async def _fill(backend: SQLBackend, table: Table, rows: list[dict[str, Any]]) -> None:
    for at in range(0, len(rows), _AT_ONCE):
        async with backend.database.write(BackendError) as connection:
            await connection.execute(insert(table), rows[at : at + _AT_ONCE])


def _settle_down(url: str) -> None:
    """What a database that runs for a while does by itself."""
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    else:
        ask(url, "VACUUM ANALYZE")


def _people(count: int, now: float) -> Iterator[dict[str, Any]]:
    """Rows of keys, the oldest first."""
    chance = random.Random(1)
    for number in range(count):
        created = now - 700 * _DAY * (count - number) / count
        words = "-".join(chance.choices(_WORDS, k=2))
        key = ApiKey(
            f"key_{chance.getrandbits(80):020x}",
            f"{chance.choice(_ENVIRONMENTS)}{words}-{number % 1_000}",
            hint=f"ak_…{''.join(chance.choices(_LETTERS, k=4))}",
        )
        rules = chance.random()
        yield {
            "id": key.id,
            "name": key.name,
            "group_name": GROUPS[min(int(chance.expovariate(0.7)), len(GROUPS) - 1)],
            "enabled": chance.random() > 0.08,
            "created_at": created,
            "updated_at": created + chance.random() * (now - created),
            # A third never ends, the others within a year or some time ago.
            "expires_at": None if chance.random() < 0.33 else now + _DAY * chance.uniform(-40, 365),
            "allow_ips": ["203.0.113.0/24", "198.51.100.7/32"] if rules < 0.25 else [],
            "deny_ips": [],
            "quota": _QUOTA * chance.choice((1, 2, 10)) if rules < 0.5 else None,
            "limits": list(_WINDOWS) if rules < 0.7 else None,
            "owner": None if chance.random() < 0.1 else f"owner-{int(OWNERS * chance.random() ** 2)}",
            "metadata": {"ticket": f"OPS-{number}", "stored": "vault"} if rules < 0.3 else {},
            "hint": key.hint,
            "folded": folded(key),
            "environment": key.environment,
            "replaces": None,
            "replaced_by": None,
            "max_concurrency": None,
        }


def _secrets(row: dict[str, Any], chance: random.Random) -> Iterator[dict[str, Any]]:
    yield {
        "digest": chance.randbytes(32),
        "pepper_id": None,
        "key_id": row["id"],
        "valid_until": None,
        "created_at": row["created_at"],
    }


def _last_uses(row: dict[str, Any], chance: random.Random) -> Iterator[dict[str, Any]]:
    """Four of five were used, most of them lately."""
    if chance.random() < 0.8:
        age = min(chance.expovariate(1 / (20 * _DAY)), time.time() - row["created_at"])
        yield {"key_id": row["id"], "at": time.time() - age, "address": f"203.0.113.{chance.randrange(256)}"}


def _windows(row: dict[str, Any], chance: random.Random) -> Iterator[dict[str, Any]]:
    """Half of those with windows of their own have them under way, and most with a quota have used some."""
    common = {"subject": f"key/{row['id']}", "generation": 1, "before": 0}
    now = time.time()
    if row["limits"] and chance.random() < 0.5:
        for text, seconds in _WINDOWS.items():
            start = now - seconds * chance.random()
            end, used = start + seconds, int(int(text.partition("/")[0]) * min(1.0, 1.1 * chance.random()))
            slot = f"{seconds:.0f}/first-use/units"
            yield {**common, "slot": slot, "start": start, "end": end, "used": used, "keep_until": end}
    if row["quota"] is not None and chance.random() < 0.8:
        used = int(row["quota"] * min(1.0, 1.05 * chance.random()))
        yield {**common, "slot": "quota", "start": row["created_at"], "end": None, "used": used, "keep_until": None}
