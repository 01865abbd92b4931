"""Each server is started once for all tests that need it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.servers.wire import COMMANDS, Server, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", params=list(COMMANDS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("servers") / f"{request.param}.log"
    with serving(request.param, log) as running:
        yield running
    # Whatever was sent, nothing in the server process may have failed over it. Uvicorn with h11 has a failure of its
    # own: it still calls the app for a request whose body it has turned down, and cannot send the app's answer.
    failures = re.findall(r"^[\w.]+(?:Error|Exception|Group)\b.*", log.read_text(), re.MULTILINE)
    assert [failure for failure in failures if not failure.startswith("h11._util.LocalProtocolError")] == []
