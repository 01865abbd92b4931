"""One real server for all clients of a module. Keys whose windows a test fills are made by that test."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.clients.service import Service
from tests.support import running

if TYPE_CHECKING:
    from collections.abc import Iterator


class Served(NamedTuple):
    """The service and where it runs."""

    service: Service
    url: str

    def key(self, name: str) -> str:
        return self.service.secrets[name]

    def new_key(self, **rules: Any) -> str:
        return asyncio.run(self.service.issue(f"new-{len(self.service.secrets)}", **rules))

    @property
    def calls(self) -> int:
        return self.service.calls


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    service = Service()
    asyncio.run(service.prepare())
    with running(service) as url:
        yield Served(service, url)
