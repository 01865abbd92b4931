"""MariaDB and MySQL, through asyncmy or aiomysql."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, literal_column, text
from sqlalchemy.dialects.mysql import insert

from ak_guard.database.dialects import values_of
from ak_guard.database.migrate import upgrade
from ak_guard.database.server import CONNECT_SECONDS, LOCK_SECONDS, PAUSE_SECONDS, Server
from ak_guard.database.tables import windows
from ak_guard.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Table
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.sql.dml import Insert

# A row that is locked for a subject is swept like a window that ended, unless it is used again and so prolonged.
_LOCK_SECONDS: Final = 86_400.0
_MIGRATION_SECONDS: Final = 25

# A text that is too long is an error and never cut; comments with M! are read by MariaDB alone.
_SETTINGS: Final = (
    "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'), SESSION innodb_lock_wait_timeout = {lock}"
    " /*M!100302 , SESSION idle_transaction_timeout = {pause}, SESSION max_statement_time = {statement} */"
)


class MySQL(Server):
    """A subject is locked by a row beside its windows, with an empty slot: there before the first window begins."""

    def __init__(self, url: URL) -> None:
        super().__init__(url)
        errors: Any = import_module("asyncmy.errors" if url.get_driver_name() == "asyncmy" else "pymysql.err")
        self.errors: tuple[type[Exception], ...] = (*self.errors, errors.MySQLError)

    def check(self) -> None:
        """Nothing to see from here."""

    def connect_args(self, *, patient: bool) -> dict[str, Any]:
        lock = _MIGRATION_SECONDS if patient else LOCK_SECONDS
        settings = _SETTINGS.format(lock=lock, pause=PAUSE_SECONDS, statement=lock)
        if patient:
            # The driver would log that primary keys get no names here.
            settings += ", SESSION max_error_count = 0"
        return {"connect_timeout": CONNECT_SECONDS, "charset": "utf8mb4", "init_command": settings}

    async def migrate_alone(self, connection: AsyncConnection) -> None:
        # Held by the session and not by a transaction, which each statement that makes a table would end.
        name = {"name": f"ak_guard {self.url.database}"[:64], "seconds": _MIGRATION_SECONDS}
        if (await connection.execute(text("SELECT GET_LOCK(:name, :seconds)"), name)).scalar() != 1:
            raise BackendError("another process is still bringing the tables of the database up to date")
        await connection.rollback()
        async with connection.begin():
            await connection.run_sync(upgrade)
        await connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": name["name"]})

    async def lock(self, connection: AsyncConnection, subjects: Sequence[str], now: float) -> None:
        rows = [
            {
                "subject": subject,
                "slot": "",
                "generation": 0,
                "start": 0.0,
                "end": None,
                "used": 0,
                "before": 0,
                "keep_until": now + _LOCK_SECONDS,
            }
            for subject in subjects
        ]
        await connection.execute(_LOCK, rows)

    def upsert(self, table: Table) -> Insert:
        new = insert(table)
        return new.on_duplicate_key_update({name: new.inserted[name] for name in values_of(table)})

    def merge(self, table: Table, merged: Callable[[Any], dict[str, Any]]) -> Insert:
        new = insert(table)
        return new.on_duplicate_key_update(merged(new.inserted))


def _lock_statement() -> Insert:
    new = insert(windows)
    until = windows.c.keep_until
    # Most of the time nothing is written: to meet the row is enough to lock it. The number stands in the text because
    # the driver joins many rows to one statement and fills in theirs only.
    late = until < new.inserted.keep_until - literal_column(str(_LOCK_SECONDS / 2))
    return new.on_duplicate_key_update(keep_until=func.if_(late, new.inserted.keep_until, until))


_LOCK: Final = _lock_statement()
