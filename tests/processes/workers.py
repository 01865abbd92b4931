"""Worker processes from the outside: start them, see how often their app was reached, stop, freeze and kill them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple, Self

from tests.processes.worker import Calls, Job

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from tests.processes.stores import Place

WORKERS: Final = 4
_ROOT: Final = Path(__file__).parents[2]
_START_SECONDS: Final = 50.0
_END_SECONDS: Final = 30.0


class Worker(NamedTuple):
    """One process. `calls` counts how often its app was reached; the file outlives it."""

    pid: int
    port: int
    calls: Path
    log: Path

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def until_gone(self) -> None:
        deadline = time.monotonic() + _END_SECONDS
        while self._lives():
            if time.monotonic() > deadline:
                raise TimeoutError(f"worker {self.pid} did not end: {_text(self.log)}")
            time.sleep(0.005)

    def _lives(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


class Crew:
    """All workers over one store. `ahead` has an entry for each: by how many seconds its clock is fast."""

    def __init__(self, nursery: Nursery, place: Place, folder: Path, ahead: Sequence[float] = (0.0,) * WORKERS) -> None:
        self.workers: list[Worker] = []
        self._nursery = nursery
        self._place = place
        self._folder = folder
        self._ahead = ahead
        self._numbers = count()
        self._logs: list[Path] = []
        self._counts: list[Path] = []
        self._counted = 0

    def start(self) -> None:
        """Bring in a worker for each that is missing."""
        jobs = []
        for fast in self._ahead[len(self.workers) :]:
            number = next(self._numbers)
            calls, log = self._folder / f"{number}.calls", self._folder / f"{number}.log"
            self._counts.append(calls)
            self._logs.append(log)
            jobs.append(Job(number, self._place.backend, self._place.limits, fast, str(calls), str(log)))
        self.workers += self._nursery.bear(jobs)

    def count_anew(self) -> None:
        self._counted += self.admitted

    @property
    def ports(self) -> list[int]:
        return [worker.port for worker in self.workers]

    @property
    def admitted(self) -> int:
        """How many requests reached the app, whether or not their answers reached a client; the fallen included."""
        return sum(Calls.read(path) for path in self._counts) - self._counted

    def wake(self) -> None:
        for worker in self.workers:
            worker.signal(signal.SIGCONT)

    def stop(self) -> None:
        """End all workers as a deploy does: they are asked, and tidy up."""
        for worker in self.workers:
            worker.signal(signal.SIGTERM)
        self._until_gone()

    def kill(self, worker: Worker | None = None) -> None:
        """End one, or all, without a chance to tidy up."""
        for fallen in self.workers if worker is None else [worker]:
            fallen.signal(signal.SIGKILL)
        if worker is None:
            self._until_gone()
        else:
            worker.until_gone()
            self.workers.remove(worker)

    def _until_gone(self) -> None:
        for worker in self.workers:
            worker.until_gone()
        self.workers.clear()

    @property
    def log(self) -> str:
        """Everything that workers had to say."""
        return "".join(_text(path) for path in self._logs)


class Nursery:
    """Where workers come from; see `tests.processes.nursery`. Use as a context."""

    def __enter__(self) -> Self:
        # Measuring the lines that workers run would halve their speed, and AK_GUARD_* would set them up.
        hidden = ("AK_GUARD_", "COVERAGE_")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.processes.nursery"],
            cwd=_ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith(hidden)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._unread = b""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _pipe(self._process.stdin).close()
        self._process.wait(_END_SECONDS)
        _pipe(self._process.stdout).close()

    def bear(self, jobs: Sequence[Job]) -> list[Worker]:
        """A worker for each job, in their order, once all of them can be asked."""
        into = _pipe(self._process.stdin)
        into.write(b"".join(json.dumps(job._asdict()).encode() + b"\n" for job in jobs))
        into.flush()
        deadline = time.monotonic() + _START_SECONDS
        ready = {}
        for _ in jobs:
            answer = json.loads(self._line(deadline) or "{}")
            if not answer:
                raise RuntimeError("a worker did not start: " + "".join(_text(Path(job.log)) for job in jobs))
            ready[answer["number"]] = answer
        return [
            Worker(ready[job.number]["pid"], ready[job.number]["port"], Path(job.calls), Path(job.log)) for job in jobs
        ]

    def _line(self, deadline: float) -> bytes:
        out = _pipe(self._process.stdout)
        while b"\n" not in self._unread:
            waiting, _, _ = select.select([out], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(out.fileno(), 65_536) if waiting else b""
            if not chunk:
                return b""
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _text(log: Path) -> str:
    return log.read_text() if log.exists() else ""
