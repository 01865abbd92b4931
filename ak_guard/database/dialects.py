"""What the database room must know of each kind of database; `engine.py` holds what is the same for all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any, ClassVar, Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine, Table
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
    from sqlalchemy.sql.dml import Insert

# PostgreSQL: serialization failure, deadlock. MariaDB and MySQL: deadlock, and in a cluster a conflict at the commit.
_UNDONE_STATES: Final = {"40001", "40P01"}
_UNDONE_CODES: Final = {1213}


class Dialect(ABC):
    """One kind of database. `url` names the driver; `deadline` is how long one transaction may take, in seconds."""

    #: What comes out of SQLAlchemy and the driver when the database fails, or holds what nobody can read.
    errors: tuple[type[Exception], ...] = (SQLAlchemyError, OSError, EOFError, JSONDecodeError)
    #: Whether it has a time of its own, for callers on many machines.
    own_time: ClassVar[bool] = True
    deadline: ClassVar[float | None] = None
    #: Whether its connections work in one event loop only, and die with it.
    bound: ClassVar[bool] = False

    def __init__(self, url: URL) -> None:
        self.url: URL = url

    @abstractmethod
    def check(self) -> None:
        """Raise `ConfigurationError` for what can be seen to be wrong before it is opened. May block."""

    @abstractmethod
    def readers(self) -> AsyncEngine:
        """A pool whose transactions see one state of the database."""

    @abstractmethod
    def writers(self) -> AsyncEngine:
        """A pool for transactions that change something."""

    def asked(self) -> Engine | None:
        """A pool that blocks, for single statements which change nothing; None where those go to the readers.

        A thread that is asked once answers sooner than a driver that asks one for each step.
        """
        return None

    def leave(self, loop: asyncio.AbstractEventLoop) -> None:  # noqa: B027  # optional
        """Let go what a closed event loop still holds: nothing, where the server sees that the connection is gone."""

    @abstractmethod
    def line(self) -> AsyncEngine:
        """No pool: each connection is kept by whoever asked for it, and each statement commits."""

    @abstractmethod
    def migrate(self) -> None:
        """Bring the schema up to date, one starter at a time. Blocks."""

    @abstractmethod
    async def lock(self, connection: AsyncConnection, subjects: Sequence[str], now: float) -> None:
        """Make every other writer of these subjects' counters wait until this transaction has ended.

        `subjects` are sorted, so that two writers never wait for one another; `now` is the local time.
        """

    @abstractmethod
    def upsert(self, table: Table) -> Insert:
        """Insert rows, or replace every column of those whose primary key is there."""

    @abstractmethod
    def merge(self, table: Table, merged: Callable[[Any], dict[str, Any]]) -> Insert:
        """Insert rows. Where a primary key is there, `merged` says from the new row what some columns become."""


def was_undone(error: BaseException) -> bool:
    """Whether the database undid the transaction for another one's sake, so that it can simply be tried again."""
    cause = error.__cause__
    if not isinstance(cause, DBAPIError):
        return False
    original: Any = cause.orig
    codes = [code for code in getattr(original, "args", ())[:1] if isinstance(code, int)]
    return getattr(original, "sqlstate", None) in _UNDONE_STATES or bool(_UNDONE_CODES.intersection(codes))


def values_of(table: Table) -> list[str]:
    """The columns that an upsert replaces."""
    return [column.name for column in table.c if not column.primary_key]


def replacing(new: Any, table: Table) -> Any:
    """`new`, an insert of PostgreSQL's or SQLite's own, made an upsert in the words that both understand."""
    return merging(new, table, lambda row: {name: row[name] for name in values_of(table)})


def merging(new: Any, table: Table, merged: Callable[[Any], dict[str, Any]]) -> Any:
    """`new`, an insert of PostgreSQL's or SQLite's own, that changes the rows which are there."""
    return new.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=merged(new.excluded))
