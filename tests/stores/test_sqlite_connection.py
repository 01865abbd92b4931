"""A connection that is stopped while it is being closed keeps nobody waiting."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

from ak_guard.database.sqlite_connection import connect

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_close_that_is_overtaken_by_a_stop_ends(tmp_path: Path) -> None:
    connection = await connect(f"{tmp_path}/keys.db")
    closing = asyncio.create_task(connection.close())
    await asyncio.sleep(0)  # it waits for the thread now
    stopped = connection.stop()
    assert stopped is not None
    async with asyncio.timeout(10):
        await stopped
        await closing
        await connection.close()


def test_an_answer_for_a_loop_that_was_closed_is_dropped_without_a_trace_back(tmp_path: Path) -> None:
    gate = threading.Event()

    async def leave_while_it_works() -> threading.Thread:
        connection = await connect(f"{tmp_path}/keys.db")
        await connection.create_function("pause", 0, gate.wait)
        asking = asyncio.ensure_future(connection.execute("SELECT pause()"))
        await asyncio.sleep(0)
        asking.cancel()
        connection.stop()
        thread: threading.Thread = connection._thread
        return thread

    thread = asyncio.run(leave_while_it_works())
    gate.set()
    thread.join(timeout=10)
    # What a thread fails with is a warning of pytest, and so an error.
    assert not thread.is_alive()


def test_a_transaction_whose_event_loop_was_closed_keeps_no_other_writer_out(tmp_path: Path) -> None:
    path, closed = str(tmp_path / "keys.db"), threading.Event()
    left: list[Any] = []

    async def leave() -> None:
        connection: Any = await connect(path, isolation_level=None)
        left.append(connection)
        waiting = asyncio.ensure_future(connection._execute(closed.wait, 10))
        writing = asyncio.ensure_future(connection._execute(connection._conn.execute, "BEGIN IMMEDIATE"))
        await asyncio.sleep(0)
        waiting.cancel()
        writing.cancel()

    asyncio.run(leave())
    closed.set()
    left[0]._thread.join(10)
    assert not left[0]._thread.is_alive()
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert other.in_transaction
    left[0]._connection = None
