"""A key service and apps that ask it, each a process of its own, started by the commands that people type."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ak_guard import KeyManager
from ak_guard.backends.workers import KnowsWorkers
from tests.servers.wire import free_port

if TYPE_CHECKING:
    import signal
    from collections.abc import AsyncIterator, Mapping, Sequence

TOKEN: Final = "service-token-of-the-benchmarks"  # opens nothing but what is started here
APP: Final = "tests.benchmarks.traffic:starlette_app"

_ROOT: Final = Path(__file__).parents[2]
_START_SECONDS: Final = 30.0


class Process:
    """One server on loopback. It keeps its port when it is started again."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, *, apart: bool) -> None:
        self._held, self.port = free_port()
        program = Path(sys.executable).parent / command[0]
        self._command = [str(program), *command[1:], "--port", str(self.port)]
        self._environment = {"PYTHONPATH": str(_ROOT), **environment}
        self._log = folder / f"{self.port}.log"
        self._apart = apart
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Until it listens."""
        await asyncio.to_thread(self._begin)
        deadline = time.monotonic() + _START_SECONDS
        while not await self.listens():
            if (self._process is not None and self._process.poll() is not None) or time.monotonic() > deadline:
                raise RuntimeError(f"{self._command[0]} did not start: {self._log.read_text()[-2000:]}")
            await asyncio.sleep(0.005)

    async def listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        """At once, with nothing tidied up."""
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    async def end(self) -> None:
        await self.kill()
        self._held.close()

    def _begin(self) -> None:
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("AK_GUARD_", "COVERAGE_"))}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=_ROOT, env={**outside, **self._environment}, stdout=log, stderr=log
            )
        if self._apart and hasattr(os, "sched_setaffinity"):
            # Otherwise the system now and then puts who asks and who answers on one processor.
            os.sched_setaffinity(self._process.pid, {max(os.sched_getaffinity(0))})


class House:
    """A store of keys on SQLite, and the processes around it."""

    def __init__(self, folder: Path, keys: KeyManager, stack: contextlib.AsyncExitStack) -> None:
        self.keys = keys
        self._folder = folder
        self._stack = stack

    async def service(self, *, counted: bool = False) -> Process:
        """`ak-guard serve`; or one that says how often it was asked (see `counted_service`)."""
        command = ["uvicorn", "tests.benchmarks.counted_service:app", "--no-access-log"]
        return await self._run(command if counted else ["ak-guard", "serve"], _store(self._folder))

    async def guarded(self, service: Process, **settings: object) -> Process:
        """`ak-guard run` of the app that all benchmarks guard."""
        environment = {f"AK_GUARD_{name.upper()}": str(value) for name, value in settings.items()}
        environment |= {"AK_GUARD_BACKEND": f"http://127.0.0.1:{service.port}", "AK_GUARD_SERVICE_TOKEN": TOKEN}
        return await self._run(["ak-guard", "run", APP, *_OPTIONS], environment, apart=True)

    async def bare(self) -> Process:
        """The same app under the same server, without a guard."""
        return await self._run(["uvicorn", APP, *_OPTIONS], {}, apart=True)

    async def followed(self) -> None:
        """Until every guard knows of all changes."""
        backend = self.keys.backend
        assert isinstance(backend, KnowsWorkers)
        while not (await backend.confirm(timeout=_START_SECONDS)).complete:
            pass

    async def _run(self, command: list[str], environment: Mapping[str, str], *, apart: bool = False) -> Process:
        process = Process(command, environment, self._folder, apart=apart)
        self._stack.push_async_callback(process.end)
        await process.start()
        return process


_OPTIONS: Final = ("--factory", "--no-access-log", "--log-level", "critical")


def _store(folder: Path) -> dict[str, str]:
    return {"AK_GUARD_BACKEND": f"sqlite:///{folder}/keys.db", "AK_GUARD_SERVICE_TOKENS": TOKEN}


@contextlib.asynccontextmanager
async def house() -> AsyncIterator[House]:
    """Everything that is started within is killed at the end."""
    with tempfile.TemporaryDirectory() as folder:
        async with contextlib.AsyncExitStack() as stack, KeyManager(_store(Path(folder))["AK_GUARD_BACKEND"]) as keys:
            yield House(Path(folder), keys, stack)
            await stack.aclose()
