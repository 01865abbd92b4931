"""A connection that is stopped while it is being closed, or whose event loop is gone, keeps nobody waiting."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from ak_guard.database.sqlite_connection import Connection

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_close_that_is_overtaken_by_a_stop_ends(tmp_path: Path) -> None:
    connection = await Connection(f"{tmp_path}/keys.db")
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
        connection = await Connection(f"{tmp_path}/keys.db")
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
        connection: Any = await Connection(path, isolation_level=None)
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


LEFT_BEHIND = """
import asyncio, os, sys
from ak_guard.database.engine import Database
from ak_guard.errors import BackendError

database = Database(sys.argv[1])
abandoned = database.write(BackendError)
loop = asyncio.new_event_loop()
loop.run_until_complete(abandoned.__aenter__())
# Without a word to anybody, as where a task came too late to be cancelled.
loop.close()

async def write():
    async with asyncio.timeout(4), database.write(BackendError) as connection:
        await connection.exec_driver_sql("DELETE FROM ak_keys")

asyncio.run(write())
print("written", flush=True)
os._exit(0)
"""


def test_a_transaction_that_was_open_when_its_event_loop_was_closed_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LEFT_BEHIND, f"sqlite:///{tmp_path}/keys.db"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout == "written\n", ended.stderr
