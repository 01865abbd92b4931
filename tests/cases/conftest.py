"""The stores that each case is played in."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest

from ak_guard.backends import MemoryBackend, SQLBackend
from ak_guard.budgets import MemoryStorage
from tests.cases.play import Stores

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the schema and nothing else, to be copied: migrations are slow."""
    path = tmp_path_factory.mktemp("cases") / "empty.db"

    async def migrate() -> None:
        backend = SQLBackend(f"sqlite:///{path}")
        await backend.start()
        await backend.aclose()

    asyncio.run(migrate())
    return path


@pytest.fixture(params=["memory", "sqlite", "apart"])
async def new_stores(
    request: pytest.FixtureRequest, empty_database: Path, tmp_path: Path
) -> AsyncIterator[Callable[[], Awaitable[Stores]]]:
    """New, empty stores at each call. `apart`: the windows in another store than keys and quotas."""
    opened: list[SQLBackend] = []

    async def new() -> Stores:
        if request.param == "memory":
            return Stores(MemoryBackend())
        if request.param == "apart":
            return Stores(MemoryBackend(), MemoryStorage())
        path = tmp_path / f"{len(opened)}.db"
        shutil.copy(empty_database, path)
        opened.append(SQLBackend(f"sqlite:///{path}"))
        await opened[-1].start()
        return Stores(opened[-1])

    yield new
    for backend in opened:
        await backend.aclose()
