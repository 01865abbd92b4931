"""A process that has everything imported and forks one worker for each job: `python -m tests.processes.nursery`.

Jobs come as lines of JSON on standard input; a line goes out when a worker can be asked or did not start. When standard
input closes, because the tests are done or have died, its whole process group ends, so that nothing is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import os
import signal
import sys
import traceback
from typing import Final

from tests.processes.worker import Job, serve

# What each worker would import by itself at its start or first request.
_BEFOREHAND: Final = (
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.httptools_impl",
    "ak_guard.backends.sql",
    "ak_guard.budgets.redis",
    "aiosqlite",
    "asyncpg",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.mysql.asyncmy",
    "redis.asyncio",
)


def main() -> None:
    for name in _BEFOREHAND:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()
    # Workers that end need no burial.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while line := sys.stdin.readline():
        job = Job(**json.loads(line))
        if os.fork() == 0:
            _live(job)
    os.killpg(0, signal.SIGKILL)


def _live(job: Job) -> None:
    """Be a worker, and never come back."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    os.dup2(log, sys.stderr.fileno())
    started = True
    try:
        asyncio.run(serve(job))
    except SystemExit:
        # This is how uvicorn tells of a start-up that failed.
        started = False
    except BaseException:  # noqa: BLE001  # it is told in the log, and the process ends
        started = False
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        if not started:
            os.write(sys.stdout.fileno(), b"{}\n")
        os._exit(0)


if __name__ == "__main__":
    main()
