"""The real services that tests talk to: their addresses, and what to do where one is not there."""

from __future__ import annotations

import os
import socket
from functools import cache
from urllib.parse import urlsplit

import pytest

#: The setting of the environment that names each service, its default address, and its port where the URL names none.
SERVICES = {
    "postgres": ("AK_GUARD_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/postgres", 5432),
    "mysql": ("AK_GUARD_TEST_MYSQL", "mysql://root@127.0.0.1:3306/test", 3306),
    "redis": ("AK_GUARD_TEST_REDIS", "redis://127.0.0.1:6379/0", 6379),
}


def url_of(service: str) -> str:
    """The URL of a running service. Where nobody listens the test is skipped, and failed where `CI` is set."""
    variable, default, port = SERVICES[service]
    url = os.environ.get(variable, default)
    parts = urlsplit(url)
    if not _answers(parts.hostname or "127.0.0.1", parts.port or port):
        missing = f"{service} cannot be reached; {variable} names its address"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return url


@cache
def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=3).close()
    except OSError:
        return False
    return True
