"""Both apps do what their OpenAPI documents say: schemathesis makes up requests from these, right and wrong ones."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ak_guard import KeyManager
from ak_guard.admin import AdminTokens, admin_app, service_app
from ak_guard.backends import MemoryBackend
from tests.support import running

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

TOKEN = "a-token-of-these-tests"
SCHEMATHESIS = Path(sys.executable).parent / "st"
RULES = Path(__file__).with_name("schemathesis.toml")


def admin() -> ASGIApp:
    keys = KeyManager(MemoryBackend())
    # Requests without a token and with wrong ones are among those made up; they must not slow the others down.
    return admin_app(keys, tokens=AdminTokens(keys, environment=TOKEN), failure_limit=10**9)


def service() -> ASGIApp:
    return service_app(KeyManager(MemoryBackend()), tokens=[TOKEN])


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("make", "document", "phases", "at_least"),
    [
        (admin, "/openapi.json", ["examples,coverage", "--max-examples", "1"], 1_000),
        # Each of its bodies has so many fields that to try all their limits takes most of a minute.
        (service, "/v1/openapi.json", ["fuzzing", "--max-examples", "12"], 100),
    ],
    ids=["admin", "service"],
)
def test_all_checks_find_nothing(
    make: Callable[[], ASGIApp], document: str, phases: list[str], at_least: int, tmp_path: Path
) -> None:
    with running(make()) as url:
        said = subprocess.run(  # noqa: PLW1510  # what it says is shown where it fails
            [
                *(SCHEMATHESIS, "--config-file", RULES, "run", url + document),
                *("--header", f"Authorization: Bearer {TOKEN}"),
                *("--checks", "all", "--seed", "1", "--no-color", "--phases", *phases),
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            # The app runs here; to measure the tool as well only slows it, and once it hung under that for minutes.
            env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
            timeout=220,
        )
    assert said.returncode == 0, said.stdout
    # That nothing was found means something only where requests were sent.
    generated = re.search(r"^\s*([0-9]+) generated", said.stdout, re.MULTILINE)
    assert generated, said.stdout
    assert int(generated[1]) > at_least
