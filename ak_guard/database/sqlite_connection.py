"""A connection to SQLite that can be stopped twice."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from queue import Empty
from threading import Thread
from typing import TYPE_CHECKING, Any

import aiosqlite
from aiosqlite.core import _connection_worker_thread

if TYPE_CHECKING:
    import asyncio


class Connection(aiosqlite.Connection):
    """One whose thread is asked to end once, and ends quietly where the event loop has ended before it.

    SQLAlchemy stops a connection while it is still being closed when whoever waited for that is cancelled. The close
    then stops it once more, and without this would wait for ever for a thread that is gone, and the event loop with it.
    """

    _stopped = False

    def __init__(self, database: str, **options: Any) -> None:
        opened: list[sqlite3.Connection] = []

        def connector() -> sqlite3.Connection:
            opened.append(sqlite3.connect(database, **options))
            return opened[0]

        super().__init__(connector, 64)
        # A daemon, as SQLAlchemy makes it: a process ends though a connection was left open.
        self._thread = Thread(target=_work, args=(self._tx, opened), daemon=True)

    def stop(self) -> asyncio.Future[Any] | None:
        if self._stopped:
            return None
        self._stopped = True
        return super().stop()


def connect(database: str, **options: Any) -> Connection:
    """What `aiosqlite.connect` does, for the `async_creator_fn` of SQLAlchemy; to be awaited."""
    return Connection(database, **options)


def _work(queue: Any, opened: list[sqlite3.Connection]) -> None:
    try:
        _connection_worker_thread(queue)
    except RuntimeError:
        # The loop of whoever waited was closed. What else was asked is done all the same: it is the close.
        with suppress(Empty, sqlite3.Error):
            while True:
                _, function = queue.get_nowait()
                function()
        # Nobody is left who would close it, and an open transaction keeps every other writer out.
        for connection in opened:
            connection.close()
