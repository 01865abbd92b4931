"""One contender under uvicorn, in a process of its own: `python -m tests.benchmarks.server NAME PROTOCOL`.

Prints a line of JSON with its port and the `Authorization` that it expects, and runs until its standard input closes.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import Literal

import uvicorn

from tests.benchmarks.ours import AMPLE
from tests.benchmarks.peers import CONTENDERS


async def serve(name: str, protocol: Literal["h11", "httptools"]) -> None:
    case = await CONTENDERS[name](name, 1, AMPLE)
    authorization = dict(case.scopes[0]["headers"])[b"authorization"].decode()
    # With the protocol named, asyncio turns Nagle's algorithm off; without it each answer would wait 40 ms for an ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        case.app, log_level="error", access_log=False, http=protocol, loop="asyncio", lifespan="off"
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not task.done():  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.01)
    print(json.dumps({"port": listener.getsockname()[1], "authorization": authorization}), flush=True)  # noqa: T201
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await task


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], "h11" if sys.argv[2] == "h11" else "httptools"))
