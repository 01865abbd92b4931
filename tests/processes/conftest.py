"""Four workers over one store, for all tests of a file; each test has keys of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.processes.stores import STORES, Place, a_place
from tests.processes.workers import WORKERS, Crew, Nursery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

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


@pytest.fixture(scope="module")
def ahead() -> tuple[float, ...]:
    """By how many seconds the clock of each worker is fast."""
    return (0.0,) * WORKERS


@pytest.fixture(scope="module")
def standing_crew(
    nursery: Nursery, place: Place, ahead: tuple[float, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Crew]:
    workers = Crew(nursery, place, tmp_path_factory.mktemp("crew"), ahead)
    yield workers
    workers.kill()


@pytest.fixture
def crew(standing_crew: Crew) -> Iterator[Crew]:
    """Four workers that serve and have counted nothing yet; a failure that they log fails the test."""
    standing_crew.start()
    standing_crew.count_anew()
    yield standing_crew
    standing_crew.wake()
    assert "Traceback" not in standing_crew.log
