"""Every kind of URI reaches its Redis: one server, a cluster, and one behind sentinels."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from ak_guard.budgets import Ask, Change, Grant, Lease, MultiWindowSupport, Quota, Window, counters_from
from ak_guard.budgets.leases import Leases
from ak_guard.budgets.redis import RedisStorage
from ak_guard.budgets.redis_address import Address, parse_address
from ak_guard.errors import BudgetError, ConfigurationError
from tests.services import url_of
from tests.stores.redis_server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY = Window(1_000, 86_400)
QUOTA = Quota(5_000)
PASSWORD = "a-password-nobody-may-see"


async def use(storage: MultiWindowSupport, subjects: int) -> None:
    """A take under a lease, a settlement, a look and a give-back, for subjects that live in different places."""
    now = time.time()
    for number in range(subjects):
        subject, lease = f"key/{number}", Lease(f"lease-{number}", "w", 60.0)
        grant = await storage.acquire(subject, [Ask(DAY, 5), Ask(QUOTA, 5)], lease=lease, now=now)
        assert isinstance(grant, Grant)
        storage.settle(subject, [Change(DAY, 10, None)], now=now)
    await storage.flush()
    for number in range(subjects):
        levels = await storage.peek(f"key/{number}", [DAY, QUOTA], now=now)
        assert [(level.used, level.held) for level in levels] == [(15, 5), (5, 5)]
        await storage.give_back(f"lease-{number}", {DAY.slot: 3})
        await storage.give_back(f"lease-{number}", {DAY.slot: 3})
        assert (await storage.peek(f"key/{number}", [DAY], now=now))[0].used == 12


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    server.start()
    server.ask("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
    deadline = time.monotonic() + 10
    while "cluster_state:ok" not in server.ask("CLUSTER", "INFO"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield server
    server.kill()


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "master").mkdir()
    server = Server(tmp_path / "master", password=PASSWORD)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def sentinel(tmp_path: Path, master: Server) -> Iterator[Server]:
    config = tmp_path / "sentinel.conf"
    config.write_text(f"sentinel monitor budgets 127.0.0.1 {master.port} 1\nsentinel auth-pass budgets {PASSWORD}\n")
    watching = Server(tmp_path, str(config), "--sentinel")
    watching.start()
    yield watching
    watching.kill()


@pytest.mark.parametrize("scheme", ["redis", "valkey", "async+redis", "async+valkey", "ak-guard+redis"])
async def test_one_server(scheme: str) -> None:
    parts = urlsplit(url_of("redis"))
    counters = counters_from(f"{scheme}://{parts.netloc}{parts.path}")
    assert isinstance(counters, Leases)
    assert isinstance(counters.store, RedisStorage)
    assert await counters.store.check()
    assert counters.promise.shared
    await counters.aclose()


@pytest.mark.parametrize("scheme", ["redis+cluster", "async+valkey+cluster"])
async def test_a_cluster(cluster: Server, scheme: str) -> None:
    storage = RedisStorage(f"{scheme}://127.0.0.1:{cluster.port},127.0.0.1:{cluster.port}")
    await use(storage, 20)
    assert await storage.reset() == 20
    assert (await storage.peek("key/1", [DAY], now=time.time()))[0].used == 0
    await storage.aclose()


async def test_a_cluster_away_and_back(cluster: Server) -> None:
    storage = RedisStorage(f"redis+cluster://127.0.0.1:{cluster.port}")
    await use(storage, 1)
    cluster.kill()
    storage.settle("key/0", [Change(DAY, 100, None)], now=time.time())
    for _ in range(2):
        with pytest.raises(BudgetError):
            await storage.peek("key/0", [DAY], now=time.time())
    cluster.start()
    deadline = time.monotonic() + 10
    while True:
        try:
            (level,) = await storage.peek("key/0", [DAY], now=time.time())
            break
        except BudgetError:
            assert time.monotonic() < deadline
    assert level.used == 112
    await storage.aclose()


@pytest.mark.parametrize("scheme", ["redis+sentinel", "async+valkey+sentinel"])
async def test_behind_a_sentinel(sentinel: Server, scheme: str) -> None:
    storage = RedisStorage(f"{scheme}://:{PASSWORD}@127.0.0.1:1,127.0.0.1:{sentinel.port}/budgets")
    await use(storage, 3)
    assert await storage.reset() == 3
    await storage.aclose()


async def test_a_service_that_sentinels_do_not_know_is_an_outage(sentinel: Server) -> None:
    storage = RedisStorage(f"redis+sentinel://127.0.0.1:{sentinel.port}/another")
    with pytest.raises(BudgetError):
        await storage.peek("key/0", [DAY], now=time.time())
    await storage.aclose()


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("redis://host:1/2", Address("redis://host:1/2")),
        ("rediss://u:p@host", Address("rediss://u:p@host")),
        ("valkey://host", Address("redis://host")),
        ("valkeys://host", Address("rediss://host")),
        ("redis+cluster://a,b:7", Address(nodes=(("a", 6379), ("b", 7)))),
        ("valkey+cluster://u:p%40w@[::1]:7", Address(nodes=(("::1", 7),), username="u", password="p@w")),
        ("redis+sentinel://a,b:7/name", Address(nodes=(("a", 26379), ("b", 7)), service="name")),
        ("async+valkey+sentinel://:p@a/x", Address(nodes=(("a", 26379),), service="x", password="p")),
    ],
)
def test_what_a_uri_says(uri: str, address: Address) -> None:
    assert parse_address(uri) == address


@pytest.mark.parametrize(
    "uri",
    [
        f"redis://:{PASSWORD}@host:port",
        f"redis://:{PASSWORD}@host:99999999",
        f"redis://:{PASSWORD}@host?nothing=known",
        f"redis://:{PASSWORD}@host?socket_timeout=long",
        f"redis+cluster://:{PASSWORD}@host:port",
        f"redis+cluster://:{PASSWORD}@a,,b",
        f"redis+cluster://:{PASSWORD}@a/name",
        f"redis+sentinel://:{PASSWORD}@host:26379",
        f"redis+sentinel://:{PASSWORD}@/name",
    ],
)
def test_a_uri_that_cannot_be_read_is_refused_without_repeating_it(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="limits: ") as refusal:
        counters_from(uri)
    assert PASSWORD not in str(refusal.value)
    assert refusal.value.__suppress_context__


def test_the_password_is_not_shown() -> None:
    for uri in (f"redis://:{PASSWORD}@host", f"redis+cluster://:{PASSWORD}@host"):
        assert PASSWORD not in repr(parse_address(uri))


def test_without_the_extra_the_line_to_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ak_guard.budgets.redis")
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.setitem(sys.modules, "redis.exceptions", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'ak_guard\[redis\]'"):
        counters_from("redis://127.0.0.1")
