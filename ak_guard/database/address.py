"""Which database a URL names, checked as far as that goes without opening it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from ak_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

_KNOWN: Final = "sqlite:///keys.db, postgresql://user@host/name or mysql://user@host/name"


class _Kind(NamedTuple):
    """A database: its name in SQLAlchemy, the drivers that work, the first by default, and the extra with that one."""

    name: str
    drivers: tuple[str, ...]
    extra: str


_POSTGRES: Final = _Kind("postgresql", ("asyncpg",), "postgres")
_MYSQL: Final = _Kind("mysql", ("asyncmy", "aiomysql"), "mysql")
_KINDS: Final = {
    "sqlite": _Kind("sqlite", ("aiosqlite",), "sql"),
    "postgresql": _POSTGRES,
    "postgres": _POSTGRES,
    "mysql": _MYSQL,
    "mariadb": _MYSQL,
}


def checked_url(text: str) -> URL:
    """The URL with the name and driver that SQLAlchemy knows. Raises `ConfigurationError`, which holds no password."""
    url, named = _read(text)
    kind = _KINDS.get(named[0])
    if kind is None:
        raise ConfigurationError(f"backend: {named[0]} is not supported; keys can be stored in {_KNOWN}")
    driver = named[1] or kind.drivers[0]
    if driver not in kind.drivers:
        raise ConfigurationError(f"backend: the driver {driver!r} is not supported; write {named[0]}://…")
    if find_spec(driver) is None:
        raise ConfigurationError(f"backend: {driver} is not installed; run: pip install 'ak_guard[{kind.extra}]'")
    if kind.name == "sqlite":
        _check_file(url)
    elif not url.database:
        raise ConfigurationError(f"backend: the URL names no database; write {named[0]}://user@host/name")
    return url.set(drivername=f"{kind.name}+{driver}")


def _read(text: str) -> tuple[URL, tuple[str, str]]:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigurationError(f"backend: the URL cannot be read; write {_KNOWN}") from None
    name, _, driver = url.drivername.partition("+")
    return url, (name, driver)


def _check_file(url: URL) -> None:
    if url.host:
        raise ConfigurationError("backend: sqlite has no host; write three slashes before the file: sqlite:///keys.db")
    if url.database in {None, "", ":memory:"}:
        raise ConfigurationError("backend: sqlite needs a file, such as sqlite:///keys.db; for memory write memory://")
