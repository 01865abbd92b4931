"""Settings from a file and from the environment: what wins, how values are written, and what is said of wrong ones."""

from __future__ import annotations

import inspect
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

import ak_guard
from ak_guard import ApiKeyMiddleware, ConfigurationError, Decision, Group, KeyManager
from ak_guard.backends import MemoryBackend, SQLBackend
from ak_guard.settings import Options, configured
from ak_guard.settings.catalogue import CATALOGUE, OTHER_VARIABLES, variable
from ak_guard.settings.sheet import entries
from ak_guard.settings.values import from_table
from ak_guard.testing import ready_key
from tests.support import bearer, client_for, echo_app

DEFAULTS = {
    name: one.default
    for name, one in inspect.signature(ApiKeyMiddleware).parameters.items()
    if one.kind is one.KEYWORD_ONLY
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that settings may refer to."""
    module = ModuleType("my_service")
    module.told = []  # type: ignore[attr-defined]
    module.price = lambda scope: 7 if scope["path"] == "/dear" else 1  # type: ignore[attr-defined]
    module.tell = module.told.append  # type: ignore[attr-defined]
    module.still = lambda: 1_800_000_000.0  # type: ignore[attr-defined]
    module.backend = MemoryBackend()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_service", module)
    return module


def fault_of(**settings: Any) -> str:
    """What the start-up of an app fails with; a request is refused without it."""
    app = ApiKeyMiddleware(echo_app(), **settings)
    with pytest.raises(ConfigurationError) as failure, TestClient(app):
        pass
    assert TestClient(app).get("/").json()["code"] == "misconfigured"
    return str(failure.value)


def write(folder: Path, name: str, *lines: str) -> None:
    (folder / name).write_text("\n".join(lines) + "\n")


def test_every_setting_is_in_the_catalogue_the_options_and_the_docstring() -> None:
    assert set(CATALOGUE) == set(DEFAULTS) == set(Options._fields)
    listed = list(entries(ApiKeyMiddleware))
    assert [one.name for one in listed if not one.about] == []
    assert {one.name: one.default for one in listed} == {
        name: "time.time" if name == "clock" else repr(default) for name, default in DEFAULTS.items()
    }


def test_each_example_is_read_from_a_file_and_from_the_environment_alike(
    folder: Path, monkeypatch: pytest.MonkeyPatch, service: ModuleType
) -> None:
    for name in ("prices", "metrics"):
        part = ModuleType(f"my_service.{name}")
        part.cost_of = part.count = print  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, part.__name__, part)
    listed = list(entries(ApiKeyMiddleware))
    lines = [one.line for one in listed if one.name != "groups"] + [one.line for one in listed if one.name == "groups"]
    write(folder, "ak_guard.toml", *lines)
    from_file = configured()
    assert set(from_file) == set(CATALOGUE)
    (folder / "ak_guard.toml").unlink()
    for one in listed:
        monkeypatch.setenv(one.variable, one.example.strip("'"))
    assert configured() == from_file
    assert all(from_file[name] != default for name, default in DEFAULTS.items() if name != "clock")


def test_an_argument_wins_over_the_environment_and_that_over_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "ak_guard.toml", 'backend = "memory://"', 'public_paths = ["/file"]', "quota_status = 402")
    monkeypatch.setenv("AK_GUARD_PUBLIC_PATHS", "/environment")

    def opened(**settings: Any) -> set[str]:
        client = TestClient(ApiKeyMiddleware(echo_app(), **settings))
        return {path for path in ("/file", "/environment", "/argument") if client.get(path).status_code == 200}

    assert opened() == {"/environment"}
    assert opened(public_paths=["/argument"]) == {"/argument"}
    monkeypatch.delenv("AK_GUARD_PUBLIC_PATHS")
    assert opened() == {"/file"}
    assert opened(public_paths=()) == set()


def test_the_first_file_counts_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "pyproject.toml", "[tool.ak_guard]", 'mode = "report"', "cache_size = 3")
    assert configured() == {"mode": "report", "cache_size": 3}
    write(folder, "ak_guard.toml", "cache_size = 4")
    assert configured() == {"cache_size": 4}
    write(folder, "named.toml", "cache_size = 5")
    monkeypatch.setenv("AK_GUARD_CONFIG", "named.toml")
    assert configured() == {"cache_size": 5}
    monkeypatch.setenv("AK_GUARD_CONFIG", str(folder / "pyproject.toml"))
    assert configured() == {"mode": "report", "cache_size": 3}


def test_a_project_without_settings_is_no_file(folder: Path) -> None:
    write(folder, "pyproject.toml", "[project]", 'name = "mine"', 'dependencies = ["ak_guard"]')
    assert configured() == {}
    write(folder, "pyproject.toml", "this is no TOML")
    assert configured() == {}


async def test_the_settings_of_a_file_rule_the_app(
    folder: Path, service: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        folder,
        "ak_guard.toml",
        'backend = "my_service:backend"',
        'cost = "my_service:price"',
        'on_decision = "my_service:tell"',
        'clock = "my_service:still"',
        "forward_key = false",
        "[groups.paid]",
        'routes = ["/dear"]',
        "multiplier = 0.5",
    )
    secret = (await ready_key(service.backend, group="paid", quota=10)).secret
    async with client_for(ApiKeyMiddleware(echo_app())) as client:
        answer = await client.get("/dear", headers=bearer(secret))
        assert (answer.status_code, answer.headers["ratelimit"]) == (200, '"quota";r=6')
        assert secret not in answer.text
        assert (await client.get("/cheap", headers=bearer(secret))).json()["code"] == "group_not_allowed"
    told: list[Decision] = service.told
    assert [(decision.code, decision.cost, decision.at) for decision in told] == [
        ("admitted", 4, 1_800_000_000.0),
        ("group_not_allowed", 0, 1_800_000_000.0),
    ]


WRITTEN: list[tuple[str, str, Any]] = [
    ("AK_GUARD_FORWARD_KEY", "No", False),
    ("AK_GUARD_CUT_STREAMS", "1", True),
    ("AK_GUARD_COST", "0", 0),
    ("AK_GUARD_CACHE_SIZE", "10_000", 10_000),
    ("AK_GUARD_CACHE_TTL", " 2.5 ", 2.5),
    ("AK_GUARD_FAILURE_LIMIT", "none", None),
    ("AK_GUARD_ALLOW_GROUPS", "None", None),
    ("AK_GUARD_DENY_GROUPS", "none", ["none"]),
    ("AK_GUARD_PUBLIC_PATHS", "/a, /b", ["/a", "/b"]),
    ("AK_GUARD_PUBLIC_PATHS", "/a,/b,", ["/a", "/b"]),
    ("AK_GUARD_PUBLIC_PATHS", '["/a,b"]', ["/a,b"]),
    ("AK_GUARD_GROUPS", '{"paid": {"limits": ["60/1m"]}}', [Group("paid", limits=["60/1m"])]),
]


@pytest.mark.parametrize(("name", "text", "value"), WRITTEN)
def test_how_values_are_written_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: Any
) -> None:
    monkeypatch.setenv(name, text)
    assert configured() == {name.removeprefix("AK_GUARD_").lower(): value}


def test_an_empty_variable_is_not_set_and_others_of_ours_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AK_GUARD_MODE", "AK_GUARD_CONFIG", "AK_GUARD_NO_SUCH"):
        monkeypatch.setenv(name, " ")
    for name in ("AK_GUARD_PEPPER", "AK_GUARD_ADMIN_TOKEN", "AK_GUARD_TEST_POSTGRES"):
        monkeypatch.setenv(name, "x" * 32)
    assert configured() == {}


@pytest.mark.parametrize(
    "name",
    [
        "AK_GUARD_SERVICE_HOST",
        "AK_GUARD_SERVICE_PORT",
        "AK_GUARD_SERVICE_PORT_HTTP",
        "AK_GUARD_PORT",
        "AK_GUARD_PORT_9000_TCP",
        "AK_GUARD_PORT_9000_TCP_ADDR",
        "AK_GUARD_CONSOLE_SERVICE_HOST",
    ],
)
def test_a_service_of_our_name_beside_the_app_misspells_nothing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "tcp://10.0.0.1:9000")
    assert configured() == {}


def test_every_variable_that_the_package_reads_is_known() -> None:
    named = {
        name
        for file in Path(ak_guard.__file__).parent.rglob("*.py")
        for name in re.findall(r"\bAK_GUARD_[A-Z_]*[A-Z]\b(?!_)", file.read_text())
    }
    assert named - {variable(name) for name in CATALOGUE} <= OTHER_VARIABLES.keys()
    assert "AK_GUARD_PEPPER" in named


WRONG_VARIABLES = [
    ("AK_GUARD_TRUSTED_PROXY", "10.0.0.0/8", "AK_GUARD_TRUSTED_PROXY", "did you mean AK_GUARD_TRUSTED_PROXIES?"),
    ("AK_GUARD_BAKCEND", "memory://", "AK_GUARD_BAKCEND", "did you mean AK_GUARD_BACKEND?"),
    ("AK_GUARD_PEPER", "x", "AK_GUARD_PEPER", "did you mean AK_GUARD_PEPPER?"),
    ("AK_GUARD_FORWARD_KEY", "perhaps", "AK_GUARD_FORWARD_KEY", "must be true or false"),
    ("AK_GUARD_CACHE_TTL", "soon", "AK_GUARD_CACHE_TTL", "number of seconds"),
    ("AK_GUARD_CACHE_TTL", "nan", "cache_ttl", "seconds from 0 to 31622400"),
    ("AK_GUARD_STALE_IF_ERROR", "inf", "stale_if_error", "seconds from 0 to 31622400"),
    ("AK_GUARD_CLOCK", "os:getcwd", "clock", "seconds since the epoch"),
    ("AK_GUARD_CACHE_SIZE", "many", "cache_size", "whole number"),
    ("AK_GUARD_CACHE_SIZE", "1__0", "cache_size", "whole number"),
    ("AK_GUARD_CACHE_SIZE", "9" * 5_000, "cache_size", "whole number"),
    ("AK_GUARD_GROUPS", "[" * 100_000, "AK_GUARD_GROUPS", "JSON"),
    ("AK_GUARD_MODE", "reports", "mode", "enforce or report"),
    ("AK_GUARD_COST", "no_such_module:price", "AK_GUARD_COST", "no_such_module cannot be imported"),
    ("AK_GUARD_COST", "time:price", "AK_GUARD_COST", "time has no price"),
    ("AK_GUARD_COST", "time:timezone.x", "AK_GUARD_COST", "time has no timezone.x"),
    ("AK_GUARD_ON_DECISION", "print", "AK_GUARD_ON_DECISION", "module:attribute"),
    ("AK_GUARD_GROUPS", "{", "AK_GUARD_GROUPS", "JSON"),
    ("AK_GUARD_GROUPS", '{"paid": {"route": []}}', "AK_GUARD_GROUPS.paid", "did you mean routes?"),
    ("AK_GUARD_GROUPS", '{"paid": {"limits": [5]}}', "AK_GUARD_GROUPS.paid", "limits"),
    ("AK_GUARD_GROUPS", '{"paid": {"enabled": "no"}}', "AK_GUARD_GROUPS.paid.enabled", "true or false"),
    ("AK_GUARD_CONFIG", "nowhere.toml", "AK_GUARD_CONFIG", "no file nowhere.toml"),
    ("AK_GUARD_BACKEND", "keys.db", "backend", "sqlite:///keys.db"),
]


@pytest.mark.parametrize(("name", "text", "named", "said"), WRONG_VARIABLES)
def test_a_wrong_variable_fails_the_start_and_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, named: str, said: str
) -> None:
    monkeypatch.setenv("AK_GUARD_BACKEND", "memory://")
    monkeypatch.setenv(name, text)
    fault = fault_of()
    assert named in fault
    assert said in fault


WRONG_LINES = [
    ("trusted_proxy = []", "trusted_proxy", "did you mean trusted_proxies?"),
    ('pepper = "secret-that-must-not-be-told"', "pepper", "set AK_GUARD_PEPPER in the environment instead"),
    ('public_paths = "/health"', "public_paths in ak_guard.toml", '["/health", "/docs"]'),
    ("mode = 1", "mode in ak_guard.toml", '"report"'),
    ('forward_key = "no"', "forward_key", "True or False"),
    ("backend = 5", "backend in ak_guard.toml", "sqlite:///keys.db"),
    ("groups = [1]", "groups in ak_guard.toml", "[groups.paid]"),
    ('[groups.paid]\nlimits = ["60"]', "groups in ak_guard.toml.paid.limits", "60"),
    ("[groups.paid]\nroutes = 5", "groups in ak_guard.toml.paid.routes", "list"),
    ("mode = ", "ak_guard.toml", "no TOML"),
    ("cache_size = " + "9" * 5_000, "ak_guard.toml", "no TOML"),
    ("mode = " + "[" * 10_000, "ak_guard.toml", "no TOML"),
    ("\x00", "ak_guard.toml", "no TOML"),
]


@pytest.mark.parametrize(("line", "named", "said"), WRONG_LINES)
def test_a_wrong_line_fails_the_start_and_is_named(folder: Path, line: str, named: str, said: str) -> None:
    write(folder, "ak_guard.toml", line)
    fault = fault_of(**({} if line.startswith("backend") else {"backend": "memory://"}))
    assert named in fault
    assert said in fault
    assert "must-not-be-told" not in fault


def test_a_file_that_is_no_text_fails_the_start(folder: Path) -> None:
    (folder / "ak_guard.toml").write_bytes(b"\xff")
    assert "ak_guard.toml: cannot be read" in fault_of(backend="memory://")
    (folder / "ak_guard.toml").unlink()
    (folder / "ak_guard.toml").mkdir()
    assert "ak_guard.toml: cannot be read" in fault_of(backend="memory://")


def test_a_password_is_never_repeated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AK_GUARD_BACKEND", "AK_GUARD_LIMITS"):
        monkeypatch.setenv("AK_GUARD_BACKEND", "memory://")
        monkeypatch.setenv(name, "nonsense://me:hunter2@host/x")
        assert "hunter2" not in fault_of()


def test_the_app_may_be_a_keyword_as_some_frameworks_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    make: Any = ApiKeyMiddleware
    assert TestClient(make(app=echo_app(), backend="memory://")).get("/").status_code == 401
    assert TestClient(make(app=echo_app(), bakend="memory://")).get("/").status_code == 503
    with pytest.raises(TypeError):
        make()
    assert TestClient(ApiKeyMiddleware(echo_app(), backend=None)).get("/").status_code == 503
    monkeypatch.setenv("AK_GUARD_BACKEND", "memory://")
    assert TestClient(ApiKeyMiddleware(echo_app(), backend=None)).get("/").status_code == 401


def test_a_manager_uses_what_the_middleware_would(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "ak_guard.toml", 'backend = "sqlite:///file.db"', "[groups.paid]")
    manager = KeyManager()
    assert isinstance(manager.backend, SQLBackend)
    assert manager.backend.database.url.database == "file.db"
    monkeypatch.setenv("AK_GUARD_BACKEND", "memory://")
    assert isinstance(KeyManager().backend, MemoryBackend)
    monkeypatch.setenv("AK_GUARD_NO_SUCH", "1")
    with pytest.raises(ConfigurationError, match="AK_GUARD_NO_SUCH"):
        KeyManager()
    # Whoever names the store can revoke a key, whatever else is misspelled.
    assert isinstance(KeyManager("memory://").backend, MemoryBackend)


async def test_a_manager_knows_the_groups_of_the_file(folder: Path) -> None:
    write(folder, "ak_guard.toml", "[groups.paid]", 'limits = ["60/1m"]')
    keys = KeyManager("memory://")
    made = await keys.create("prod-api", group="paid")
    assert [window.name for window in (await keys.status(made.key.id)).windows] == ["1m"]


TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(name=st.sampled_from(sorted(CATALOGUE)), text=TEXTS)
def test_whatever_stands_in_a_variable_is_a_value_or_a_clear_error(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv(variable(name), text)
    found: dict[str, Any] = {name: None}
    fault = None
    try:
        found = configured()
    except ConfigurationError as error:
        fault = str(error)
    monkeypatch.delenv(variable(name))
    assert fault is None or fault.startswith(variable(name))
    assert set(found) == ({name} if text.strip() else set())


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(["60/1m", "/v1/*", "", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(["routes", "limits", "shared_limits", "multiplier", "enabled"])


@given(tables=st.dictionaries(st.text(max_size=5), st.dictionaries(FIELDS, JSON, max_size=3) | JSON, max_size=2))
def test_whatever_stands_in_a_group_is_a_group_or_a_clear_error(tables: dict[str, Any]) -> None:
    groups, fault = None, None
    try:
        groups = from_table(CATALOGUE["groups"], tables, "groups")
    except ConfigurationError as error:
        fault = str(error)
    assert (groups is None) != (fault is None)
    assert fault is None or fault.startswith("groups")
    assert groups is None or [group.name for group in groups] == list(tables)


def test_the_sheet_is_a_file_with_everything_in_it() -> None:
    lines = "\n".join(one.line for one in sorted(entries(ApiKeyMiddleware), key=lambda one: one.name == "groups"))
    assert set(tomllib.loads(lines)) == set(CATALOGUE)
