"""A real browser before real servers: headless Chromium, the console of `ak-guard serve`, a guarded app."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from ak_guard import ApiKeyMiddleware, BackendError, Group, KeyManager
from ak_guard.admin import AdminTokens, serve_app
from ak_guard.backends import SQLBackend
from tests.support import bearer, client_for, echo_app, running

if TYPE_CHECKING:
    from collections.abc import Iterator

CHROMIUM: Final = Path(os.environ.get("AK_GUARD_TEST_CHROMIUM", "/usr/bin/chromium"))
INSTALL: Final = "apt-get update && apt-get install --yes --no-install-recommends chromium"
FLAGS: Final = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LANGUAGES: Final = {"en": "en-GB", "zh": "zh-CN"}


@dataclass
class Served:
    """A running console with keys in it."""

    url: str
    token: str
    keys: dict[str, str]
    app_url: str
    backend: str
    store: Flaky


class Flaky(SQLBackend):
    """A store that can go away and come back."""

    away = False

    def __getattribute__(self, name: str) -> Any:
        asked = name in {"walk", "count", "get", "list_groups", "change", "tokens", "insert", "workers"}
        if asked and object.__getattribute__(self, "away"):
            raise BackendError("the store is away")
        return object.__getattribute__(self, name)


@dataclass
class Visit:
    """One window, with what it must not do written down."""

    page: Page
    served: Served
    told: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def go(self, path: str) -> None:
        self.page.goto(self.served.url + path)

    def sign_in(self) -> None:
        self.go("/sign-in")
        self.page.fill("#token", self.served.token)
        self.page.click("main form button")
        self.page.wait_for_url(f"{self.served.url}/")

    def check(self) -> None:
        """No error was told, and nobody else was asked for anything."""
        assert self.told == []
        assert self.strangers == []


async def _fill(url: str) -> tuple[str, dict[str, str]]:
    async with KeyManager(url) as keys:
        await keys.create_group(Group("production", routes=["POST /v1/chat/*", "GET /v1/models"], limits=["1000/5h"]))
        await keys.create_group(Group("external", routes=["GET /v1/search"], shared_limits=["600/1m"], multiplier=2))
        made = {
            "prod-web": await keys.create(
                "prod-web", group="production", quota=10, limits=["5/5h", "100/1d", "900/7d"]
            ),
            "prod-api": await keys.create("prod-api", quota=50_000, allow_ips=["203.0.113.0/24"], max_concurrency=4),
            "staging-web": await keys.create("staging-web", expires_in="6d", limits=["9/1m", "9/1h", "9/1d", "99/7d"]),
            "dev-local": await keys.create("dev-local", expires_in="21d", limits=[], owner="web team"),
            "old-batch": await keys.create("old-batch", enabled=False),
            "front-end-bundle": await keys.create("front-end-bundle", group="canary"),
        }
        guarded = ApiKeyMiddleware(echo_app(), backend=keys.backend)
        async with client_for(guarded) as client:
            for _ in range(6):
                await client.get("/v1/models", headers=bearer(made["prod-web"].secret))
            await client.get("/v1/models", headers=bearer(made["front-end-bundle"].secret))
            while not (await keys.usage(made["front-end-bundle"].key.id)).calls:  # noqa: ASYNC110  # a store has no event for it
                await asyncio.sleep(0.02)
        token = await AdminTokens(keys).create("browser", role="owner")
    return token.secret, {name: issued.key.id for name, issued in made.items()}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    url = f"sqlite:///{tmp_path_factory.mktemp('browser')}/keys.db"
    # Playwright has a loop of its own in this thread.
    with ThreadPoolExecutor(1) as thread:
        token, keys = thread.submit(lambda: asyncio.run(_fill(url))).result()
    guarded = ApiKeyMiddleware(echo_app(), backend=url)
    store = Flaky(url)
    with running(serve_app(KeyManager(store))) as console, running(guarded) as app:
        yield Served(console, token, keys, app, url, store)


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """Started for one file and stopped after it: while it runs, no other loop can run in this thread."""
    if not CHROMIUM.exists():
        missing = f"there is no {CHROMIUM}; run: {INSTALL}"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    started = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
    yield started
    started.close()


@pytest.fixture
def look(browser: Browser, served: Served) -> Iterator[Any]:
    """Opens windows: `look(language="zh", scripts=False)`."""
    contexts = []

    def opened(
        language: str = "en", *, scripts: bool = True, width: int = 1280, theme: str = "light", axe: bool = False
    ) -> Visit:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            locale=LANGUAGES[language],
            timezone_id="Europe/Berlin",
            color_scheme="dark" if theme == "dark" else "light",
            reduced_motion="reduce",
            java_script_enabled=scripts,
            # What axe brings into the page is no part of it.
            bypass_csp=axe,
        )
        context.set_default_timeout(15_000)
        contexts.append(context)
        visit = Visit(context.new_page(), served)
        visit.page.on("pageerror", lambda error: visit.told.append(str(error)))
        visit.page.on("console", lambda said: visit.told.append(said.text) if said.type in _BAD else None)
        own = (served.url, "data:", "blob:")
        context.on("request", lambda sent: None if sent.url.startswith(own) else visit.strangers.append(sent.url))
        return visit

    yield opened
    for context in contexts:
        context.close()


_BAD: Final = {"error", "warning"}
