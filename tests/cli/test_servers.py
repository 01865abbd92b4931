"""The command on databases that are servers: what it does on a file it does there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import Cli

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.databases import Databases


@pytest.fixture(params=["postgres", "mysql"])
def cli(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Cli]:
    with databases.migrated(request.param) as url:
        yield Cli(url)


def test_a_key_lives_from_its_creation_to_its_end(cli: Cli) -> None:
    _, made = cli.create("prod-api", "--quota", "10", "--limit", "5/1h")
    assert [key["id"] for key in cli.json("keys", "list", "--usage")["keys"]] == [made["id"]]
    assert cli.show("prod-api")["status"]["quota"]["remaining"] == 10
    cli.ok("keys", "disable", "prod-api", "--wait")
    cli.ok("keys", "enable", "prod-api")
    assert cli.json("keys", "rotate", "prod-api")["key"]["id"] == made["id"]
    cli.ok("keys", "reset", "prod-api", "--quota", "--limits")
    assert cli.json("usage", "prod-api")["calls"] == 0
    assert cli.json("audit", "prod-api")["entries"]
    assert cli.json("top", "--once")["busiest"] == []
    cli.ok("keys", "delete", "prod-api", "--yes")
    assert "No keys match." in cli.ok("keys", "list").stdout
