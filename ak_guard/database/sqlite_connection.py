"""A connection to SQLite that can be stopped twice, and is stopped when its event loop is gone."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import suppress
from queue import Empty
from threading import Lock, Thread
from typing import Any
from weakref import WeakSet

import aiosqlite
from aiosqlite.core import _connection_worker_thread


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
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        # A daemon, as SQLAlchemy makes it: a process ends though a connection was left open.
        self._thread = Thread(target=_work, args=(self._tx, opened), daemon=True)

    def stop(self) -> asyncio.Future[Any] | None:
        if self._stopped:
            return None
        self._stopped = True
        return super().stop()


class Connections:
    """Opens connections and remembers which event loop each belongs to."""

    def __init__(self) -> None:
        self._opened: WeakSet[Connection] = WeakSet()
        self._lock = Lock()

    def connect(self, database: str, **options: Any) -> Connection:
        """What `aiosqlite.connect` does, for the `async_creator_fn` of SQLAlchemy; to be awaited."""
        opened = Connection(database, **options)
        with self._lock:
            self._opened.add(opened)
        return opened

    def leave(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close all that a closed loop has left: a transaction that was open in it would keep every writer out."""
        with self._lock:
            left = [connection for connection in self._opened if connection.loop is loop]
        for connection in left:
            connection.stop()


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
