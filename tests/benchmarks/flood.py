"""Makes up keys and calls with them: `python -m tests.benchmarks.flood`, a process of its own.

Reads jobs from standard input, one JSON object a line ("port", "rate", "seconds", "connections", "addresses", "times"),
makes up the keys and answers with their number; after one more line it begins, and answers with what was sent and what
came back. `addresses` are those of the callers, as a proxy on this machine tells them; with none the calls are those of
this machine. Each key is sent `times` times, one after the other and over connections of their own. Only loopback is
called.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from typing import Any, Final

from ak_guard.keys import digest, mint
from tests.benchmarks.caller import message
from tests.benchmarks.traffic import PATH

_TICK_SECONDS: Final = 0.001
_GOODBYE_SECONDS: Final = 5.0


class Flow:
    """What is sent when: at a steady rate, and what is late as soon as a connection is free."""

    def __init__(self, messages: list[bytes], rate: float, seconds: float) -> None:
        self.free: list[Connection] = []
        self.statuses = Counter[str]()
        self.sent = 0
        self._messages = messages
        self._rate = rate
        self._begin = time.perf_counter()
        self._end = self._begin + seconds

    def go_on(self) -> bool:
        """Send what is due; whether more will be."""
        now = time.perf_counter()
        if now >= self._end:
            return False
        due = min(len(self._messages), int(self._rate * (now - self._begin)))
        while self.free and self.sent < due:
            self.free.pop().send(self._messages[self.sent])
            self.sent += 1
        return True


class Connection(asyncio.Protocol):
    """Takes one request at a time, and is put back among those that are free when it was answered."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._buffer = b""
        self.flow: Flow | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def send(self, request: bytes) -> None:
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, blank, body = self._buffer.partition(b"\r\n\r\n")
        if blank and len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]):
            assert self.flow is not None
            self.flow.statuses[head[9:12].decode()] += 1
            self._buffer = b""
            self.flow.free.append(self)
            self.flow.go_on()

    def close(self) -> None:
        self._transport.close()


def made_up(job: dict[str, Any]) -> list[tuple[str, str | None]]:
    """As many keys as the job takes, each with the address that it comes from."""
    wanted = int(job["rate"] * job["seconds"]) // job["times"] + 1
    return list(zip([mint() for _ in range(wanted)], itertools.cycle(job["addresses"] or [None]), strict=False))


async def run(job: dict[str, Any], turns: list[tuple[str, str | None]]) -> dict[str, Any]:
    """Send at the rate that is wanted, or as fast as answers make connections free."""
    times = job["times"]
    messages = [request for secret, address in turns for request in [message(secret, PATH, address=address)] * times]
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(Connection, "127.0.0.1", job["port"]) for _ in range(job["connections"])]
    flow = Flow(messages, job["rate"], job["seconds"])
    for _, connection in made:
        connection.flow = flow
        flow.free.append(connection)
    while flow.go_on():  # noqa: ASYNC110  # the time is what is waited for
        await asyncio.sleep(_TICK_SECONDS)
    deadline = time.perf_counter() + _GOODBYE_SECONDS
    while len(flow.free) < len(made) and time.perf_counter() < deadline:  # noqa: ASYNC110  # see above
        await asyncio.sleep(_TICK_SECONDS)
    for _, connection in made:
        connection.close()
    keys = {digest(secret.encode()).hex(): address or "" for secret, address in turns[: flow.sent // times + 1]}
    return {"sent": flow.sent, "seconds": job["seconds"], "statuses": dict(flow.statuses), "keys": keys}


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        turns = made_up(job)
        print(len(turns), flush=True)  # noqa: T201  # its answer
        sys.stdin.readline()
        print(json.dumps(asyncio.run(run(job, turns))), flush=True)  # noqa: T201  # its answer


if __name__ == "__main__":
    main()
