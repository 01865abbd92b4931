"""A connection that is stopped while it is being closed keeps nobody waiting."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

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
