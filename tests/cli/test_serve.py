"""`ak-guard serve` as people start it: a process that says where it is and ends when it is told."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
from httpx2 import Client

from ak_guard.keys import digest
from tests.cli.conftest import SCRIPT, Cli
from tests.support import bearer

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "service-token-of-these-tests"


@pytest.fixture
def served(peopled: tuple[Cli, str]) -> Iterator[tuple[str, str]]:
    """Where the command serves, and the secret of a key that it knows."""
    cli, secret = peopled
    command = [str(SCRIPT), "serve", "--port", "0", "--backend", cli.url, "--json"]
    environment = {**os.environ, "AK_GUARD_SERVICE_TOKENS": TOKEN}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        yield json.loads(run.stdout.readline())["url"], secret
        run.send_signal(signal.SIGTERM)
        assert run.stderr.read() == ""
        assert run.wait(10) == -signal.SIGTERM


def test_it_serves_the_keys_of_the_store_until_it_is_told_to_end(served: tuple[str, str]) -> None:
    url, secret = served
    with Client(base_url=url, trust_env=False) as client:
        asked = {"digest": digest(secret.encode()).hex()}
        assert client.post("/v1/resolve", json=asked).status_code == 401
        answer = client.post("/v1/resolve", json=asked, headers=bearer(TOKEN))
        assert answer.json()["key"]["name"] == "prod-api"


def test_a_port_that_is_taken_is_told_in_one_line(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = cli.script("serve", "--port", str(taken.getsockname()[1]))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: port: cannot listen on 127.0.0.1:")
