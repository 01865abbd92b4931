"""Who is it: where keys are kept. `memory://`, `sqlite:///keys.db`, `https://keys.internal`, or what has `find`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ak_guard.backends.base import Closable, CountsBudgets, Found, KeyLookup, KeyStore, TellsChanges
from ak_guard.backends.memory import MemoryBackend
from ak_guard.errors import ConfigurationError
from ak_guard.listing import KeyCounts, KeyFilter, KeyPage, ListedKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from ak_guard.backends.http import HTTPBackend
    from ak_guard.backends.sql import SQLBackend

__all__ = [
    "Closable",
    "CountsBudgets",
    "Found",
    "HTTPBackend",
    "KeyCounts",
    "KeyFilter",
    "KeyLookup",
    "KeyPage",
    "KeyStore",
    "ListedKey",
    "MemoryBackend",
    "SQLBackend",
    "TellsChanges",
    "backend_from_url",
]


def __getattr__(name: str) -> Any:
    # SQLAlchemy and httpx2 are imported only by those who ask for them.
    if name == "SQLBackend":
        return _sql_backend("sql")
    if name == "HTTPBackend":
        return _http_backend()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _sql_backend(extra: str) -> type[SQLBackend]:
    try:
        from ak_guard.backends.sql import SQLBackend  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            f"backend: {error.name} is not installed; run: pip install 'ak_guard[{extra}]'"
        ) from error
    return SQLBackend


def _http_backend() -> type[HTTPBackend]:
    try:
        from ak_guard.backends.http import HTTPBackend  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            f"backend: {error.name} is not installed; run: pip install 'ak_guard[http]'"
        ) from error
    return HTTPBackend


def _http(url: str) -> KeyLookup:
    return _http_backend()(url)


def _memory(url: str) -> KeyStore:
    if url != "memory://":
        raise ConfigurationError("backend: memory:// takes nothing behind it")
    return MemoryBackend()


def _sqlite(url: str) -> KeyStore:
    return _sql_backend("sql")(url)


def _postgres(url: str) -> KeyStore:
    return _sql_backend("postgres")(url)


def _mysql(url: str) -> KeyStore:
    return _sql_backend("mysql")(url)


# The driver behind a plus is judged by whoever opens the database.
_SCHEMES: dict[str, Callable[[str], KeyLookup]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "postgresql": _postgres,
    "postgres": _postgres,
    "mysql": _mysql,
    "mariadb": _mysql,
    "http": _http,
    "https": _http,
}


def backend_from_url(url: str) -> KeyLookup:
    """Open what a URL names. Raises `ConfigurationError` when nothing understands it."""
    scheme = url.partition(":")[0].partition("+")[0]
    try:
        make = _SCHEMES[scheme]
    except KeyError:
        raise ConfigurationError(
            f"backend: {scheme!r} is not understood; write memory://, sqlite:///keys.db, "
            "postgresql://user@host/name, mysql://user@host/name or https://keys.internal"
        ) from None
    return make(url)
