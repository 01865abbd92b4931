"""Over uvicorn: servers and a load generator, each in its own process, on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from tests.benchmarks.harness import Figure, WrongAnswer
from tests.benchmarks.peers import CONTENDERS, INSTALL
from tests.benchmarks.report import Row, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A guarded service answers at least this share of the requests that it would answer unguarded.
AT_LEAST: Final = 0.88
CONNECTIONS: Final = 16
_BASES: Final = {"keyshield, cached": "bare FastAPI", "bare Starlette": "", "bare FastAPI": ""}


class _Process:
    """A child that talks in lines of JSON, and ends when its standard input closes."""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if hasattr(os, "sched_setaffinity"):
            # Left to itself the system now and then puts client and server on one processor, and halves the figure.
            processors = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(self._child.pid, {processors[0] if module in {"load", "flood"} else processors[-1]})

    def read(self) -> Any:
        """The next line, None when there is no more."""
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        return json.loads(line) if line else None

    def ask(self, message: dict[str, Any]) -> Any:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(message) + "\n")
        self._child.stdin.flush()
        return self.read()

    def end(self) -> None:
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait(timeout=10)
        assert self._child.stdout is not None
        self._child.stdout.close()


@contextlib.contextmanager
def started(module: str, *arguments: str) -> Iterator[_Process]:
    process = _Process(module, *arguments)
    try:
        yield process
    finally:
        process.end()


def over_uvicorn(rounds: int, count: int, protocol: str) -> Table:
    """Requests per second of each contender, in rounds; all servers run, one at a time is called.

    `protocol` is `h11`, which `pip install uvicorn` brings, or `httptools` of `uvicorn[standard]`.
    """
    table = Table(f"wire-{protocol}", f"over uvicorn ({protocol}, asyncio)", "requests/s", "of its bare app")
    table.notes.append(
        f"{CONNECTIONS} keep-alive connections, {count:,} requests a round, client and servers on a processor each"
    )
    series: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        load = stack.enter_context(started("load"))
        servers = {name: stack.enter_context(started("server", name, protocol)) for name in CONTENDERS}
        jobs: dict[str, dict[str, Any]] = {}
        for name, server in servers.items():
            told = server.read()
            if told is None:
                table.notes.append(f"did not start: {name}. {INSTALL}")
                continue
            jobs[name] = {**told, "requests": count, "connections": CONNECTIONS, "status": 200}
        order = list(jobs.items())
        for number in range(rounds + 1):
            random.Random(number).shuffle(order)
            for name, job in order:
                seconds = load.ask(job)
                if seconds is None:
                    raise WrongAnswer(f"{name}: the load generator gave up; its reason stands above")
                if number:  # the first round warms up
                    series.setdefault(name, []).append(count / seconds)
    for name in jobs:
        values = series[name]
        base = _BASES.get(name, "bare Starlette")
        share = Figure.of([mine / bare for mine, bare in zip(values, series[base], strict=True)]) if base else None
        target = AT_LEAST if name == "ak_guard" else None
        table.rows.append(Row(name, Figure.of(values), share, target, at_least=True))
    return table
