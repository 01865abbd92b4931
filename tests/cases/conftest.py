"""The stores that each case is played in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ak_guard.backends import MemoryBackend, SQLBackend
from ak_guard.budgets import MemoryStorage
from tests.cases.play import Stores

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.databases import Databases


@pytest.fixture(params=["memory", "sqlite", "apart"])
async def new_stores(
    request: pytest.FixtureRequest, databases: Databases, tmp_path: Path
) -> AsyncIterator[Callable[[], Awaitable[Stores]]]:
    """New, empty stores at each call. `apart`: the windows in another store than keys and quotas."""
    opened: list[SQLBackend] = []

    async def new() -> Stores:
        if request.param == "memory":
            return Stores(MemoryBackend())
        if request.param == "apart":
            return Stores(MemoryBackend(), MemoryStorage())
        opened.append(SQLBackend(databases.file(tmp_path, f"{len(opened)}.db")))
        await opened[-1].start()
        return Stores(opened[-1])

    yield new
    for backend in opened:
        await backend.aclose()
