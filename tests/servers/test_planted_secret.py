"""A key is planted, used in every way that can go wrong, and then looked for in everything that was written."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from ak_guard import ApiKeyMiddleware, KeyManager
from ak_guard.backends import MemoryBackend, SQLBackend
from ak_guard.budgets import MemoryStorage
from ak_guard.errors import BackendError, BudgetError
from tests.servers.bare import plain
from tests.support import bearer, client_for

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

    from ak_guard import Decision
    from ak_guard.backends import Found, KeyStore

PLANTED = "Vq8-zT3k.Ny6_Hd1Xw5Mj"
DIGEST = hashlib.sha256(PLANTED.encode())
TEXTS = (PLANTED, DIGEST.hexdigest(), repr(DIGEST.digest())[2:-1])


class _Witness(logging.Handler):
    """Keeps every record as it would be written, and what it was made of."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "httpx2":
            return  # the caller's own log, in which a key in a query shows
        self.lines.append(f"{self.format(record)} {record.msg!r} {record.args!r}")


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Any:
    handler = _Witness()
    root = logging.getLogger()
    monkeypatch.setattr(root, "level", logging.DEBUG)
    root.addHandler(handler)
    names = ("ak_guard", "sqlalchemy", "sqlalchemy.engine", "sqlalchemy.pool", "aiosqlite", "alembic", "asyncio")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


class _Broken:
    """A backend that fails with the digest in its hands."""

    async def find(self, digest: bytes) -> Found | None:
        raise BackendError("the store is away")


class _BrokenCounters(MemoryStorage):
    async def acquire(self, *_: Any, **__: Any) -> Any:
        raise BudgetError("the counters are away")


async def _fails(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("the app is broken")


def _on_decision(decision: Decision) -> None:
    raise RuntimeError(f"could not note {decision!r}")


def _bad_cost(_: Scope) -> int:
    return -1


async def _use_everywhere(backend: KeyStore, found: list[str]) -> None:
    """Use the planted key well, badly and in bad times; `found` gets all that clients and operators see."""
    keys = KeyManager(backend)
    issued = await keys.create("planted", key=PLANTED, limits=["3/5h"], quota=3, owner="somebody")
    found += [repr(issued), str(issued), repr(issued.key), repr(keys), repr(backend)]

    guards: list[ApiKeyMiddleware] = [
        ApiKeyMiddleware(plain, backend=backend, forward_key=False, on_decision=_on_decision),
        ApiKeyMiddleware(plain, backend=backend, forward_key=False, mode="report"),
        ApiKeyMiddleware(plain, backend=backend, forward_key=False, extractors=["query:key", "cookie:ak"]),
        ApiKeyMiddleware(plain, backend=backend, forward_key=False, deny_ips=["203.0.113.0/24"]),
        ApiKeyMiddleware(plain, backend=backend, forward_key=False, limits=_BrokenCounters()),
        ApiKeyMiddleware(plain, backend=_Broken(), forward_key=False),
        ApiKeyMiddleware(plain, forward_key=False),
        ApiKeyMiddleware(_fails, backend=backend),
        ApiKeyMiddleware(plain, backend=backend, cost=_bad_cost),
    ]
    asked: list[dict[str, Any]] = [
        {"headers": bearer(PLANTED)},
        {"headers": {"x-api-key": PLANTED}},
        {"headers": {**bearer(PLANTED), "api-key": "another-one"}},
        {"headers": bearer(PLANTED + "x")},
        {"headers": bearer(PLANTED + "\x7f")},
        {"headers": bearer(PLANTED * 30)},
        {"params": {"key": PLANTED}},
        {"headers": {"cookie": f"ak={PLANTED}; other=1"}},
    ]

    async def use() -> None:
        for guard in guards:
            async with client_for(guard) as client:
                for how in asked:
                    try:
                        answer = await client.get("/v1/models", **how)
                    except (RuntimeError, ValueError) as error:
                        found.extend(traceback.format_exception(error))
                    else:
                        found.append(f"{answer.status_code} {answer.headers!r} {answer.text}")
            found.extend([repr(guard), repr(guard._assembly)])

    await use()
    await keys.disable(issued.key.id)
    await use()
    for problem in (
        keys.create("again", key=PLANTED),
        keys.create("planted in the name", key=PLANTED + "\n"),
        keys.rotate(issued.key.id, key=PLANTED),
    ):
        with pytest.raises((ValueError, LookupError)) as caught:
            await problem
        # The frames' own lines show the source, and the source here names the variable only.
        found += traceback.format_exception(caught.value)
    found += [repr(await keys.status(issued.key.id)), repr(await keys.list())]


def _assert_absent(what: str, lines: list[str]) -> None:
    assert lines, what
    for text in TEXTS:
        shown = [line for line in lines if text in line]
        assert shown == [], what


@pytest.mark.parametrize("kind", ["memory", "sqlite", "sqlite with a pepper"])
async def test_a_key_is_found_nowhere_afterwards(witness: _Witness, kind: str, tmp_path: Path) -> None:
    seen: list[str] = []
    file = tmp_path / "keys.db"
    if kind == "memory":
        await _use_everywhere(MemoryBackend(), seen)
    else:
        backend = SQLBackend(f"sqlite:///{file}", pepper="a-pepper-of-32-characters-or-so" if "pepper" in kind else ())
        await backend.start()
        await _use_everywhere(backend, seen)
        await backend.aclose()
        _look_into(file, peppered="pepper" in kind)
    _assert_absent("answers, reprs and trace-backs", seen)
    _assert_absent("logs", witness.lines)
    assert any("on_decision failed" in line for line in witness.lines)


async def test_a_secret_that_is_explained_is_found_nowhere_afterwards(witness: _Witness, tmp_path: Path) -> None:
    async with KeyManager(f"sqlite:///{tmp_path}/keys.db") as keys:
        await keys.create("planted", key=PLANTED)
        shown = [repr(await keys.explain(PLANTED))]
        with pytest.raises(LookupError) as caught:
            await keys.explain(PLANTED + "x")
    error: BaseException | None = caught.value
    while error is not None:
        # Reporters of errors also send what `from None` hides.
        shown += traceback.format_exception(error)
        error = error.__context__
    _assert_absent("answers and trace-backs", shown)
    _assert_absent("logs", witness.lines)


def _look_into(file: Path, *, peppered: bool) -> None:
    """Every row as text and every byte of the file: the key's text nowhere, its digest nowhere but in its column."""
    connection = sqlite3.connect(file)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    rows = [(table, row) for table in tables for row in connection.execute(f'SELECT * FROM "{table}"')]
    connection.close()
    assert {table for table, _ in rows} >= {"ak_keys", "ak_secrets"}
    for table, row in rows:
        assert PLANTED not in repr(row)
        if table != "ak_secrets" or peppered:
            assert not any(text in repr(row) for text in TEXTS)
    # A log of changes may lie beside the file for a while.
    stored = b"".join(path.read_bytes() for path in file.parent.glob("keys.db*"))
    assert PLANTED.encode() not in stored
    assert DIGEST.hexdigest().encode() not in stored
    assert (DIGEST.digest() in stored) is not peppered
