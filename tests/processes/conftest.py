"""Four workers over one store: the store for all tests of a file, the workers for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.processes.stores import STORES, Place, a_place
from tests.processes.workers import Crew, Nursery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from ak_guard import KeyManager
    from tests.databases import Databases


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    with Nursery() as opened:
        yield opened


@pytest.fixture(scope="module", params=STORES)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, databases: Databases
) -> Iterator[Place]:
    with a_place(request.param, tmp_path_factory.mktemp(request.param), databases) as opened:
        yield opened


@pytest.fixture
async def keys(place: Place) -> AsyncIterator[KeyManager]:
    async with place.manager() as manager:
        yield manager


@pytest.fixture
def crew(nursery: Nursery, place: Place, keys: KeyManager, tmp_path: Path) -> Iterator[Crew]:
    """Four workers that serve; what they log of failures fails the test."""
    workers = Crew(nursery, place, tmp_path)
    workers.start()
    yield workers
    workers.kill()
    assert "Traceback" not in workers.log
