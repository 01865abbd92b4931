"""The command on a database of its own, run in the process and as the installed script."""

from __future__ import annotations

import asyncio
import functools
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from ak_guard import Group, KeyManager
from ak_guard.admin import AdminTokens
from ak_guard.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer.testing import Result

    from tests.databases import Databases

SCRIPT = Path(sys.executable).parent / "ak-guard"


@dataclass
class Cli:
    """`ak-guard --db URL …`, in the process."""

    url: str

    def run(self, *args: str, typed: str | None = None) -> Result:
        return CliRunner().invoke(app, [*args, "--db", self.url], input=typed, prog_name="ak-guard")

    def ok(self, *args: str, typed: str | None = None) -> Result:
        """A run that must succeed."""
        result = self.run(*args, typed=typed)
        assert result.exit_code == 0, result.output
        return result

    def json(self, *args: str, typed: str | None = None) -> Any:
        return json.loads(self.ok(*args, "--json", typed=typed).stdout)

    def create(self, *args: str, typed: str | None = None) -> tuple[str, dict[str, Any]]:
        """The secret and the key that `keys create` made."""
        made = self.json("keys", "create", *args, typed=typed)
        return made["secret"], made["key"]

    def show(self, key: str) -> Any:
        return self.json("keys", "show", key)

    def script(self, *args: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        """The same through the installed script, in a process of its own."""
        return subprocess.run(  # noqa: PLW1510  # exit codes are what is tested
            [SCRIPT, *args, "--db", self.url], input=typed, capture_output=True, text=True, timeout=30
        )


@pytest.fixture(scope="session", autouse=True)
def command_built_once() -> Iterator[None]:
    """The runner builds all commands anew for each call, a quarter of the time of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.testing._get_command", functools.cache(get_command), raising=False)
        yield


@pytest.fixture
def database(databases: Databases, tmp_path: Path) -> Path:
    return Path(databases.file(tmp_path).removeprefix("sqlite:///"))


@pytest.fixture
def cli(database: Path) -> Cli:
    return Cli(f"sqlite:///{database}")


@pytest.fixture(scope="session")
def _peopled_database(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    url = databases.file(tmp_path_factory.mktemp("peopled"))

    async def fill() -> str:
        async with KeyManager(url) as keys:
            for name in ("staging-web", "dev-old"):
                await keys.create(name)
            for name in ("paid", "trial"):
                await keys.create_group(Group(name))
            await AdminTokens(keys).create("ci", role="viewer")
            return (await keys.create("prod-api")).secret

    return Path(url.removeprefix("sqlite:///")), asyncio.run(fill())


@pytest.fixture
def peopled(_peopled_database: tuple[Path, str], tmp_path: Path) -> tuple[Cli, str]:
    """The command on a database with the keys and groups that its examples speak of, and the secret of `prod-api`."""
    path, secret = _peopled_database
    return Cli(f"sqlite:///{shutil.copy(path, tmp_path)}"), secret
