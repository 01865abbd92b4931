"""A connection to SQLite that can be stopped twice."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import aiosqlite

if TYPE_CHECKING:
    import asyncio


class Connection(aiosqlite.Connection):
    """One whose thread is asked to end once.

    SQLAlchemy stops a connection while it is still being closed when whoever waited for that is cancelled. The close
    then stops it once more, and without this would wait for ever for a thread that is gone, and the event loop with it.
    """

    _stopped = False

    def stop(self) -> asyncio.Future[Any] | None:
        if self._stopped:
            return None
        self._stopped = True
        return super().stop()


def connect(database: str, **options: Any) -> Connection:
    """What `aiosqlite.connect` does, for the `async_creator_fn` of SQLAlchemy; to be awaited."""

    def connector() -> sqlite3.Connection:
        opened: sqlite3.Connection = sqlite3.connect(database, **options)
        return opened

    connection = Connection(connector, 64)
    # As SQLAlchemy does where it connects itself: a process ends though a connection was left open.
    connection._thread.daemon = True  # noqa: SLF001
    return connection
