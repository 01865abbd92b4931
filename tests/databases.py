"""Databases on the running servers, one for each test that asks, gone when it is over."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import asyncmy
import asyncpg  # type: ignore[import-untyped]

from ak_guard.database.engine import Database
from ak_guard.database.tables import metadata, revision
from tests.services import url_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator


class Databases:
    """Lends databases whose tables are there already: to make one for each test would take longer than most tests."""

    def __init__(self) -> None:
        self._made: list[tuple[str, str]] = []
        self._free: dict[str, list[str]] = {"postgres": [], "mysql": []}
        self._files = tempfile.TemporaryDirectory()
        self._file: Path | None = None

    def file(self, folder: Path, name: str = "keys.db") -> str:
        """The URL of a file for SQLite in this folder, with all tables and nothing in them."""
        if self._file is None:
            self._file = Path(self._files.name) / "empty.db"
            made = f"sqlite:///{self._file}"
            _in_a_thread(lambda: _migrate(made))
        return f"sqlite:///{shutil.copyfile(self._file, folder / name)}"

    @contextmanager
    def opened(self, kind: str, folder: Path) -> Iterator[str]:
        """The URL of a file in this folder, or of a database on a server."""
        if kind == "sqlite":
            yield self.file(folder)
            return
        with self.migrated(kind) as url:
            yield url

    @contextmanager
    def migrated(self, service: str) -> Iterator[str]:
        """The URL of a database with all its tables and nothing in them, nobody else's as long as this lasts."""
        free = self._free[service]
        url = free.pop() if free else self._make(service)
        yield url
        ask(url, *_WIPE)
        free.append(url)

    @contextmanager
    def empty(self, service: str) -> Iterator[str]:
        """The URL of a database without tables, gone at the end."""
        name = _create(service)
        try:
            yield _beside(service, name)
        finally:
            _drop(service, name)

    def close(self) -> None:
        for service, name in self._made:
            _drop(service, name)
        self._files.cleanup()

    def _make(self, service: str) -> str:
        name = _create(service)
        self._made.append((service, name))
        url = _beside(service, name)
        _in_a_thread(lambda: _migrate(url))
        return url


_WIPE = (
    "BEGIN",
    *(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables) if table is not revision),
    "UPDATE ak_revision SET revision = 0",
    "COMMIT",
)


def ask(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements as somebody who knows nothing of ak_guard; the rows that the last one found."""
    parts = urlsplit(url)
    database = parts.path.removeprefix("/")

    async def on_postgres() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(url, timeout=5)
        try:
            found = [await connection.fetch(statement) for statement in statements]
            return [tuple(row) for row in found[-1]]
        finally:
            await connection.close()

    async def on_mysql() -> list[tuple[Any, ...]]:
        who = {"user": parts.username, "password": unquote(parts.password or "")}
        where = {"host": parts.hostname, "port": parts.port or 3306, "db": database}
        connection = await asyncmy.connect(autocommit=True, connect_timeout=5, **where, **who)
        async with connection, connection.cursor() as cursor:
            for statement in statements:
                await cursor.execute(statement)
            return list(await cursor.fetchall())

    found: list[tuple[Any, ...]] = _in_a_thread(on_postgres if parts.scheme.startswith("postgres") else on_mysql)
    return found


def _create(service: str) -> str:
    name = f"ak_test_{os.getpid()}_{secrets.token_hex(4)}"
    ask(url_of(service), f"CREATE DATABASE {name}")
    return name


def _drop(service: str, name: str) -> None:
    ask(url_of(service), f"DROP DATABASE {name}" + (" WITH (FORCE)" if service == "postgres" else ""))


def _beside(service: str, name: str) -> str:
    return urlsplit(url_of(service))._replace(path=f"/{name}").geturl()


async def _migrate(url: str) -> None:
    database = Database(url)
    await database.start()
    await database.aclose()


def _in_a_thread(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run it in an event loop of its own, also while one runs here."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(work()))
        except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]
