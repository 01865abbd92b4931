"""A guard that cannot work fails the start of its server, and where there is no start it lets nothing through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.servers.wire import run_to_end, serving
from tests.support import bearer, running

if TYPE_CHECKING:
    from pathlib import Path

import httpx2

from ak_guard import ApiKeyMiddleware, KeyManager
from ak_guard.backends import SQLBackend
from tests.servers.guarded import GOOD, PUBLIC
from tests.servers.wire import bearer_line
from tests.support import echo_app

MISCONFIGURED = "tests.servers.misconfigured:app"


@pytest.mark.parametrize("name", ["uvicorn-httptools", "granian", "hypercorn"])
def test_a_server_does_not_start_and_says_what_to_change(name: str) -> None:
    code, said = run_to_end(name, MISCONFIGURED)
    # Hypercorn ends as well, but always with 0.
    assert (code == 0) == (name == "hypercorn")
    assert "write backend='sqlite:///keys.db' or set AK_GUARD_BACKEND" in said


def test_uvicorn_with_lifespan_off_answers_503_to_all(tmp_path: Path) -> None:
    with serving("uvicorn-h11", tmp_path / "log", MISCONFIGURED, "--lifespan", "off") as server:
        for target in (PUBLIC, "/v1/chat"):
            reply = server.ask(target, bearer_line(GOOD))
            assert (reply.status, reply.code) == (503, "misconfigured")
            # What is wrong is the operator's business; the caller is told that it is not the caller's fault.
            assert b"AK_GUARD_BACKEND" not in reply.body
        assert "set AK_GUARD_BACKEND" in server.log.read_text()


def test_granian_without_lifespan_answers_503_to_all(tmp_path: Path) -> None:
    with serving("granian", tmp_path / "log", MISCONFIGURED, "--interface", "asginl") as server:
        assert server.ask("/v1/chat", bearer_line(GOOD)).code == "misconfigured"
        preflight = ["Origin: https://a.example", "Access-Control-Request-Method: GET"]
        assert server.ask("/v1/chat", *preflight, method="OPTIONS").code == "misconfigured"


async def _make_key(url: str) -> str:
    async with KeyManager(url) as keys:
        return (await keys.create("dev-local", limits=["2/5h"])).secret


async def test_a_guard_on_sqlite_works_without_any_lifespan(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/keys.db"
    secret = await _make_key(url)
    backend = SQLBackend(url)
    with running(ApiKeyMiddleware(echo_app(), backend=backend), lifespan="off") as address:
        async with httpx2.AsyncClient(base_url=address) as client:
            statuses = [(await client.get("/v1/chat", headers=bearer(secret))).status_code for _ in range(3)]
            assert (await client.get("/v1/chat")).status_code == 401
    assert statuses == [200, 200, 429]
    await backend.aclose()


def test_a_database_that_cannot_be_opened_is_an_outage_and_no_way_in(tmp_path: Path) -> None:
    broken = tmp_path / "keys.db"
    broken.write_bytes(b"this is no database" * 1_000)
    with running(ApiKeyMiddleware(echo_app(), backend=f"sqlite:///{broken}")) as address:
        answer = httpx2.get(f"{address}/v1/chat", headers=bearer(GOOD))
    assert (answer.status_code, answer.json()["code"]) == (503, "key_service_unavailable")
    assert int(answer.headers["retry-after"]) >= 1
