"""`python -m examples.demo`: every rule of ak_guard, shown with real requests to a real server on a SQLite file.

Each line is checked against what it should say; exit code 1 means that one differs. With `--serve` the example app and
the console keep running instead, until Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from httpx2 import AsyncClient

from ak_guard import KeyManager
from ak_guard.admin import AdminTokens, serve_app
from ak_guard.backends import SQLBackend
from ak_guard.testing import ManualClock
from examples.demo import credentials, edges, lifecycle, rules, windows
from examples.demo.app import GROUPS, make_app
from examples.demo.board import Board
from examples.demo.server import listen, make_server, serving
from examples.demo.stage import Stage, answer_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MANAGED = "Keys are managed on the console page, with the command `ak-guard` and with KeyManager."


async def show(folder: str) -> int:
    """Play every part; the exit code."""
    started = time.perf_counter()
    # Whole seconds, because an expiry is kept to the microsecond and is met exactly here.
    clock = ManualClock(float(int(time.time())))
    backend = SQLBackend(f"sqlite:///{folder}/keys.db")
    app = make_app(backend=backend, clock=clock)
    board = Board()
    async with (
        KeyManager(backend, groups=GROUPS, clock=clock) as keys,
        serving(app) as address,
        AsyncClient(base_url=f"http://{address}", timeout=10) as client,
    ):
        print(f"The example app runs under uvicorn on http://{address}, its keys are in SQLite. Time is moved by hand.")
        stage = Stage(app, address, keys, clock, client, board)
        for part in (credentials, rules, windows, lifecycle, edges):
            await part.show(stage)
        board.title(MANAGED)
        async with _console(f"sqlite:///{folder}/keys.db") as console:
            page = await client.get(f"http://{console}/", follow_redirects=True)
            board.line(f"The console ran on http://{console}", answer_of(page), 200)
    print("\n`make serve` keeps both running, with a key to try and a token to sign in with.")
    print(f"{board.lines} lines, {board.wrong} wrong, {time.perf_counter() - started:.1f} s.")
    return 1 if board.wrong else 0


@contextlib.asynccontextmanager
async def _console(url: str) -> AsyncIterator[str]:
    # What it shows is read from disk, which takes a moment.
    app = await asyncio.to_thread(serve_app, KeyManager(url, groups=GROUPS))
    async with serving(app) as address:
        yield address


async def serve(folder: str, port: int) -> None:
    """Keep the example app running until Ctrl-C, with a key to try."""
    url = f"sqlite:///{folder}/keys.db"
    async with KeyManager(url, groups=GROUPS) as keys:
        issued = await keys.create("dev-local", limits=["10/1m", "1000/1d"])
        token = await AdminTokens(keys).create("demo", role="owner")
    # A second, so that what `ak-guard` changes from another terminal is soon seen here.
    server = make_server(make_app(backend=url, cache_ttl=1.0))
    listener = listen(port)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    print(f"The example app runs on {address} until Ctrl-C. Ten calls a minute:\n")
    print(f"  curl -i -H 'Authorization: Bearer {issued.secret}' {address}/v1/whoami\n")
    async with _console(url) as console:
        print(f"The console runs on http://{console}; this token signs in: {token.secret}\n")
        print(f"From another terminal, with `ak-guard`:\n\n  ak-guard keys list --db {url}\n", flush=True)
        await server.serve(sockets=[listener])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description="Show every rule of ak_guard at work.")
    parser.add_argument(
        "--serve", action="store_true", help="keep the example app and the console running until Ctrl-C"
    )
    parser.add_argument("--port", type=int, default=0, help="with --serve: the port (default: one that is free)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ak_guard-demo-") as folder:
        if arguments.serve:
            # A supervisor's SIGTERM ends it like Ctrl-C, so that the folder is always removed.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            try:
                asyncio.run(serve(folder, arguments.port))
            except KeyboardInterrupt:
                print("\nStopped.")
            return 0
        # A line of the demo says that one guard is configured wrongly; the log would say it again.
        logging.getLogger("ak_guard").setLevel(logging.CRITICAL)
        return asyncio.run(show(folder))


if __name__ == "__main__":
    sys.exit(main())
