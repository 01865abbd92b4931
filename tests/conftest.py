"""What most tests need: a clock to move, each backend there is, a manager, and nothing that blocks the event loop."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from blockbuster import blockbuster_ctx
from xdist.scheduler import LoadScopeScheduling

from ak_guard import KeyManager
from ak_guard.testing import ManualClock
from tests.backends import BACKENDS, opened
from tests.databases import Databases

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ak_guard.backends import KeyStore


#: What takes longest begins first, so that nobody waits for it at the end.
LONGEST = (
    "processes",
    "browser",
    "test_readme.py",
    "cli",
    "admin",
    "stores",
    "test_benchmarks_run.py",
    "test_examples.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        part = item.path.relative_to(Path(__file__).parent).parts[0]
        return LONGEST.index(part) if part in LONGEST else len(LONGEST)

    items.sort(key=rank)


class Shares(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Shares the tests out by file, but those with many processes to one worker: they would disturb one another."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "processes" if "/processes/" in file else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Shares:
    return Shares(config, log)


@pytest.fixture(autouse=True)
def nothing_blocks() -> Iterator[None]:
    """A blocking call on the event loop, made from the package, fails the test."""
    with blockbuster_ctx("ak_guard") as blocking:
        # SQLAlchemy makes the path of the file absolute when it prepares an engine, once for each loop.
        blocking.functions["os.path.abspath"].can_block_in(
            "sqlalchemy/dialects/sqlite/pysqlite.py", "create_connect_args"
        )
        # A time zone's rules are read from disk the first time somebody names it.
        for function in blocking.functions.values():
            function.can_block_in("zoneinfo/_tzpath.py", "find_tzfile")
            function.can_block_in("zoneinfo/_common.py", "load_data")
            function.can_block_in("ak_guard/notation.py", "known_zone")
            # A driver looks for certificates and a file of passwords each time it connects.
            function.can_block_in("asyncpg/connect_utils.py", "_parse_connect_arguments")
            # Where a driver only knows asyncio, migrations have a loop of their own in a thread of their own.
            function.can_block_in("ak_guard/database/migrate.py", "upgrade")
            # A guard is built once, often in a server that is running already, and reads its settings then.
            function.can_block_in("ak_guard/settings/written.py", "outside")
            function.can_block_in("ak_guard/settings/values.py", "referred")
        if "coverage" in sys.modules:
            # What measures takes a lock of its own within any line, where servers run in threads beside the test.
            blocking.functions["threading.Lock.acquire"].deactivate()
        yield


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name == "COLUMNS" or (name.startswith("AK_GUARD_") and not name.startswith("AK_GUARD_TEST_")):
            monkeypatch.delenv(name, raising=False)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """Makes databases on the running servers."""
    made = Databases()
    yield made
    made.close()


@pytest.fixture(params=BACKENDS)
async def backend(request: pytest.FixtureRequest, tmp_path: Path, databases: Databases) -> AsyncIterator[KeyStore]:
    """Every backend; what a test says of one holds for all."""
    async with opened(request.param, tmp_path, databases) as store:
        yield store


@pytest.fixture
async def keys(backend: KeyStore, clock: ManualClock) -> AsyncIterator[KeyManager]:
    async with KeyManager(backend, clock=clock) as manager:
        yield manager
