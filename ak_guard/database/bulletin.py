"""The bulletin of a database: its rows of changes and workers, and the lines that follow them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ak_guard.database import presence
from ak_guard.database.changes import news_after
from ak_guard.database.line import Line
from ak_guard.errors import BackendError
from ak_guard.loops import Wakes

if TYPE_CHECKING:
    from collections.abc import Callable

    from ak_guard.database.engine import Database
    from ak_guard.news import News, Report, Roll


class DatabaseBulletin:
    """Tells what was committed to a database, whoever did it."""

    waits = False

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wakes = Wakes()

    async def enter(self, worker_id: str, report: Report) -> int:
        async with self._database.write(BackendError) as connection:
            return await presence.enter(connection, worker_id, _columns(report))

    async def beat(self, worker_id: str, report: Report) -> None:
        async with self._database.write(BackendError) as connection:
            if not await presence.beat(connection, worker_id, _columns(report)):
                await presence.enter(connection, worker_id, _columns(report))

    async def leave(self, worker_id: str) -> None:
        async with self._database.write(BackendError) as connection:
            await presence.leave(connection, worker_id)

    async def news_after(self, applied: int) -> News:
        async with self._database.read(BackendError) as connection:
            return await news_after(connection, applied)

    async def roll(self) -> Roll:
        async with self._database.read(BackendError) as connection:
            return await presence.roll(connection)

    def line(self, wake: Callable[[], None]) -> Line:
        return Line(self._database, self._wakes.add(wake))

    def heard(self, _: str | None) -> None:
        """Something was changed through this process: nobody here needs to wait until it is asked for."""
        self._wakes.call()


def _columns(report: Report) -> dict[str, str | float | int]:
    return {column: value for column, value in report._asdict().items() if value is not None}
