"""Which URLs name a database, and what is said of those that do not."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from ak_guard import ConfigurationError
from ak_guard.backends import SQLBackend, backend_from_url
from ak_guard.database import address

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgresql://u:p@h:5432/db", "postgresql+asyncpg"),
        ("postgres://u:p@h/db", "postgresql+asyncpg"),
        ("postgresql+asyncpg://h/db", "postgresql+asyncpg"),
        ("mysql://u:p@h:3306/db", "mysql+asyncmy"),
        ("mariadb://u:p@h/db", "mysql+asyncmy"),
        ("mysql+asyncmy://h/db", "mysql+asyncmy"),
        ("mariadb+aiomysql://h/db", "mysql+aiomysql"),
    ],
)
def test_a_url_names_a_database_and_its_driver(url: str, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "find_spec", lambda name: name)
    assert address.checked_url(url).drivername == driver


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("oracle://u:hunter2secret@h/db", "sqlite.*postgresql.*mysql"),
        ("postgresql+psycopg://u:hunter2secret@h/db", "psycopg"),
        ("postgresql://u:hunter2secret@h", "names no database"),
        ("mysql://u:hunter2secret@h/", "names no database"),
        ("postgresql://u:hunter2secret@h:port/db", "cannot be read|names no database"),
        ("mysql://u:hunter2secret@[::1/db", "cannot be read"),
        ("sqlite://host/f.db", "three slashes"),
        ("sqlite://", "needs a file"),
    ],
)
def test_a_url_that_cannot_work_is_told_without_its_password(url: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as caught:
        SQLBackend(url)
    assert "hunter2secret" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_a_scheme_that_nobody_understands_is_told_what_there_is() -> None:
    with pytest.raises(ConfigurationError, match=r"sqlite.*postgresql.*mysql"):
        backend_from_url("mongodb://u:hunter2secret@h/db")


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [
        ("sqlite:///f.db", "aiosqlite", "sql"),
        ("postgresql://h/db", "asyncpg", "postgres"),
        ("mariadb://h/db", "asyncmy", "mysql"),
    ],
)
def test_a_missing_driver_is_told_with_the_line_that_installs_it(
    url: str, driver: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "find_spec", lambda name: None if name == driver else find_spec(name))
    with pytest.raises(ConfigurationError) as caught:
        backend_from_url(url)
    assert f"{driver} is not installed" in str(caught.value)
    assert f"pip install 'ak_guard[{extra}]'" in str(caught.value)


async def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    backend = SQLBackend(f"sqlite:///{tmp_path}/nowhere/keys.db")
    with pytest.raises(ConfigurationError, match="does not exist"):
        await backend.start()
