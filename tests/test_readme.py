"""The README is true: each of its blocks is run, each of its tables is compared with the code."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import os
import re
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass, field
from importlib.metadata import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from starlette.testclient import TestClient
from sybil import Document, Example
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

from ak_guard import ApiKeyMiddleware, InputError, KeyManager, Limit
from ak_guard.replies import TABLE
from ak_guard.settings.catalogue import CATALOGUE, variable
from ak_guard.settings.values import from_table, from_text
from ak_guard.testing import ready_key
from tests.support import bearer, client_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from starlette.types import ASGIApp

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TEXT = README.read_text()
DEFAULT_PORT = ":8000"

# Who follows the README from the first block to the last starts many commands and servers.
pytestmark = pytest.mark.timeout(180)


@dataclass
class Reader:
    """Somebody who follows the README in an empty folder, from the first block to the last."""

    folder: Path
    environment: dict[str, str]
    #: The app that stood at the end of each section.
    apps: dict[str, ASGIApp] = field(default_factory=dict)
    namespace: dict[str, Any] = field(default_factory=dict)
    servers: list[subprocess.Popen[str]] = field(default_factory=list)
    #: Where those servers really listen.
    ports: dict[str, str] = field(default_factory=dict)

    def run_python(self, example: Example) -> None:
        if "app.py" in TEXT.splitlines()[example.line - 3]:
            (self.folder / "app.py").write_text(example.parsed)
        PythonEvaluator()(example)
        self.apps[_section(example)] = example.namespace["app"]
        self.namespace = example.namespace

    def run_toml(self, example: Example) -> None:
        """What a file says is known, and each comment says the same for the environment."""
        table = tomllib.loads(example.parsed)
        environment = dict(re.findall(r"# (AK_GUARD_\w+)='?(.*?)'?$", example.parsed, re.MULTILINE))
        assert environment.keys() == {variable(name) for name in table}
        prices = SimpleNamespace(cost_of=len)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "my_service.prices", cast("ModuleType", prices))
            for name, value in table.items():
                setting = CATALOGUE[name]
                assert from_table(setting, value, name) == from_text(setting, environment[variable(name)], name)

    def run_console(self, example: Example) -> None:
        for command, expected in _commands(example.parsed):
            told = self.run(command)
            if expected and not _shows(expected, told):
                raise AssertionError(f"$ {command}\n{told}\nis not what line {example.line} of the README shows")

    def run(self, command: str) -> str:
        # The checkout is installed already, and to build it again the builder would have to be fetched.
        command = command.replace("pip install '.[", "pip install 'ak_guard[").replace(
            "-m venv", "-m venv --without-pip"
        )
        if command.startswith(("uvicorn ", "ak-guard run ", "ak-guard serve ")):
            self._serve(command)
            return ""
        assignment = re.fullmatch(r"(?:export )?([A-Z_]+)=(.*)", command)
        if assignment is not None:
            name, value = assignment.groups()
            # Standard output is the value; what goes to standard error is what the reader sees.
            ended = self._bash(f"{name}={value} && printf %s ${name}", stderr=subprocess.PIPE)
            self.environment[name] = ended.stdout
            return ended.stderr
        return self._bash(command).stdout.replace("\r\n", "\n")

    def _bash(self, command: str, stderr: int = subprocess.STDOUT) -> subprocess.CompletedProcess[str]:
        for shown, real in self.ports.items():
            command = command.replace(shown, real)
        ended = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            timeout=30,
            check=False,
        )
        assert ended.returncode == 0, f"$ {command}\n{ended.stdout}{ended.stderr}"
        assert "WARNING" not in ended.stdout, ended.stdout
        return ended

    def _serve(self, command: str) -> None:
        assert command.endswith(" &"), "the reader needs the terminal for what follows"
        # A free port is asked for by the environment.
        command, _, port = command.removesuffix(" &").partition(" --port ")
        serves = command.startswith("ak-guard serve")
        server = subprocess.Popen(
            [*command.split(), *(["--port", "0"] if serves else [])],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE if serves else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if serves else subprocess.PIPE,
            text=True,
        )
        self.servers.append(server)
        told = server.stdout if serves else server.stderr
        assert told is not None
        found = next(match for line in told if (match := re.search(r"http://127\.0\.0\.1(:\d+)", line)))
        self.ports[f":{port}" if port else DEFAULT_PORT] = found[1]

    def leave(self) -> None:
        for server in self.servers:
            server.terminate()
            server.communicate(timeout=10)


def _section(example: Example) -> str:
    above = TEXT.splitlines()[: example.line]
    return next((line.removeprefix("## ") for line in reversed(above) if line.startswith("## ")), "")


def _commands(block: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output that stands below it."""
    parts = re.split(r"^\$ (.*)\n?", block, flags=re.MULTILINE)
    assert not parts[0], "a console block begins with a command"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def _shows(expected: str, told: str) -> bool:
    """Whether the README shows what was told: `…` stands for anything left out, and time may go on."""
    if not expected.startswith("HTTP/"):
        return _pattern(expected).fullmatch(told.rstrip("\n")) is not None
    head, _, body = told.partition("\n\n")
    shown_head, _, shown_body = expected.partition("\n\n")
    # The order of headers is no promise.
    shown = [_pattern(line) for line in shown_head.splitlines() if line != "…"]
    return all(any(line.fullmatch(got) for got in head.splitlines()) for line in shown) and _shows(shown_body, body)


def _pattern(expected: str) -> re.Pattern[str]:
    lines = [r"[^\r]*" if line == "…" else re.escape(line).replace("…", ".*") for line in expected.strip().split("\n")]
    return re.compile(re.sub(r"(;t=|retry\\-after:\\ |again\\ in\\ )\d+", r"\1\\d+", "\n".join(lines)))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AK_GUARD_")},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "UVICORN_PORT": "0",
        # Everything is installed already, and nothing may be fetched.
        "PIP_NO_INDEX": "1",
        "PIP_DRY_RUN": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "NO_COLOR": "1",
    }
    reader = Reader(tmp_path_factory.mktemp("reader"), environment)
    # On a terminal curl shows no progress.
    (reader.folder / ".curlrc").write_text("silent\n")
    environment["CURL_HOME"] = str(reader.folder)
    yield reader
    reader.leave()


@pytest.fixture(scope="module")
def document(reader: Reader) -> Document:
    return Document.parse(
        str(README),
        CodeBlockParser("python", reader.run_python),
        CodeBlockParser("console", reader.run_console),
        CodeBlockParser("toml", reader.run_toml),
    )


@pytest.fixture(scope="module")
def read(reader: Reader, document: Document) -> Reader:
    with contextlib.chdir(reader.folder):
        for example in document.examples():
            example.evaluate()
    return reader


def test_every_block_runs_and_shows_what_it_says(read: Reader) -> None:
    assert (read.folder / "keys.db").exists()
    assert read.ports.keys() == {":8000", ":8001", ":8002", ":9000", ":9001"}


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        ("one\n…\n", "two\n"),
        ("HTTP/1.1 200 OK\n…\n\nhello", "HTTP/1.1 401 Unauthorized\nserver: uvicorn\n\nhello"),
        ('HTTP/1.1 200 OK\nratelimit: "5h";r=1;t=9', 'HTTP/1.1 200 OK\nratelimit: "5h";r=0;t=9\n\n'),
        ("HTTP/1.1 200 OK\n…\n\nhello", "HTTP/1.1 200 OK\nserver: uvicorn\n\nbye"),
    ],
)
def test_an_output_that_differs_is_noticed(expected: str, told: str) -> None:
    assert not _shows(expected, told)


def test_no_block_is_left_out(document: Document) -> None:
    assert TEXT.count("```") == 2 * len(list(document.examples()))


def test_the_app_of_the_first_screen_has_ten_lines_of_code() -> None:
    block = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert block is not None
    assert len([line for line in block[1].splitlines() if line]) <= 10


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "content-type"])
def test_a_browser_may_send_a_key_and_read_a_refusal(read: Reader, header: str) -> None:
    asked = {"access-control-request-method": "DELETE", "access-control-request-headers": header}
    client = TestClient(read.apps["Running it"], headers={"origin": "https://app.example"})
    assert client.options("/", headers=asked).status_code == 200
    refused = client.get("/")
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://app.example"
    assert "x-request-id" in refused.headers["access-control-expose-headers"]


async def _issue(folder: Path, **rules: Any) -> str:
    async with KeyManager(f"sqlite:///{folder}/keys.db") as keys:
        return (await keys.create("dev-local", **rules)).secret


@pytest.mark.parametrize(("limits", "told"), [(["100/1d"], "54 left\n"), (None, "None left\n")])
def test_a_charge_comes_on_top_of_the_cost_that_was_paid(read: Reader, limits: list[str] | None, told: str) -> None:
    secret = asyncio.run(_issue(read.folder, limits=limits))
    with contextlib.chdir(read.folder), TestClient(read.apps["Limits"]) as client:
        assert client.get("/chat", headers=bearer(secret)).text == told


def test_a_metered_answer_costs_what_it_says(read: Reader) -> None:
    async def used() -> int | None:
        async with KeyManager(f"sqlite:///{read.folder}/keys.db") as keys:
            issued = await keys.create("dev-local", quota=100)
            async with client_for(read.apps["Tokens"]) as client:
                for _ in range(3):
                    await client.post("/v1/chat/completions", headers=bearer(issued.secret))
            status = (await keys.status(issued.key.id)).quota
            return None if status is None else status.used

    with contextlib.chdir(read.folder):
        # The third one finds less left than its route costs.
        assert asyncio.run(used()) == 84


def test_a_manager_of_the_same_process_shares_the_keys_of_the_app(read: Reader) -> None:
    app, keys = read.apps["Keys and groups from Python"], read.namespace["keys"]
    issued = asyncio.run(keys.create("prod-api"))
    client = TestClient(app, headers=bearer(issued.secret))
    assert client.get("/").text == "hello prod-api\n"
    asyncio.run(keys.disable(issued.key.id))
    assert client.get("/").json()["code"] == "api_key_disabled"


def test_a_group_whose_name_is_taken_is_an_input_error(read: Reader) -> None:
    with contextlib.chdir(read.folder), pytest.raises(InputError, match="exists already"):
        asyncio.run(read.namespace["main"]())


def test_the_fastapi_app_opens_its_documents_and_names_the_key(read: Reader) -> None:
    secret = asyncio.run(_issue(read.folder))
    with contextlib.chdir(read.folder), TestClient(read.namespace["api"]) as client:
        assert client.get("/docs").status_code == 200
        assert "ApiKeyBearer" in client.get("/openapi.json").text
        assert client.get("/me").status_code == 401
        assert client.get("/me", headers=bearer(secret)).json() == "dev-local"


def test_the_block_on_testing_stands_on_its_own(document: Document) -> None:
    (block,) = [example for example in document.examples() if _section(example) == "Testing a guarded app"]
    namespace: dict[str, Any] = {}
    exec(block.parsed, namespace)
    issued = asyncio.run(ready_key(namespace["backend"], allow_ips=["203.0.113.7"]))
    (line,) = re.findall(r"call from one of them: `(.*)`", TEXT)
    client: TestClient = eval(line, namespace)
    assert client.get("/", headers=bearer(issued.secret)).status_code == 200
    assert namespace["client"].get("/", headers=bearer(issued.secret)).status_code != 200


def _table(section: str) -> list[list[str]]:
    """The rows of a section's table, below its head."""
    lines = TEXT.partition(f"\n## {section}\n")[2].partition("\n## ")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]


def test_the_table_of_refusals_is_that_of_the_code() -> None:
    told = {code.strip("`"): int(status) for _, status, code in _table("What is checked, in this order")}
    assert told == {code: reply.status for code, reply in TABLE.items()}


def test_the_table_of_settings_names_each_with_its_default() -> None:
    parameters = inspect.signature(ApiKeyMiddleware).parameters.values()
    settings = {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}
    told = {name.strip("`"): default.strip("`") for name, default, _ in _table("Settings")}
    assert told.pop("clock") == "time.time"
    assert {name: ast.literal_eval(default) for name, default in told.items()} | {"clock": time.time} == settings


@pytest.mark.parametrize("row", _table("Limits"), ids=lambda row: row[0])
def test_each_limit_of_the_table_is_read(row: list[str]) -> None:
    limit = Limit.parse(row[0].strip("`"))
    assert str(limit.amount) in row[0]


def test_each_extra_that_is_named_exists() -> None:
    named = {extra for names in re.findall(r"(?:ak_guard|\.)\[([a-z,]+)\]", TEXT) for extra in names.split(",")}
    assert named
    assert named <= set(metadata("ak_guard").get_all("Provides-Extra") or [])


def test_each_link_into_the_repository_leads_somewhere() -> None:
    links: list[Any] = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    assert links
    assert all((ROOT / link).exists() for link in links)
