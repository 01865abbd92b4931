"""Small pictures of the console for the README: `make screenshots` writes them to examples/screenshots."""

from __future__ import annotations

import asyncio
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image
from playwright.sync_api import sync_playwright

from ak_guard import ApiKeyMiddleware, Group, KeyManager
from ak_guard.admin import AdminTokens, serve_app
from ak_guard.backends import SQLBackend
from ak_guard.usage import UsageRecord
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.support import bearer, client_for, echo_app, running

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOLDER: Final = Path(__file__).parents[2] / "examples" / "screenshots"
#: No picture of a README needs more.
MOST_BYTES: Final = 60_000
_COLOURS: Final = (64, 32, 16)

_KEYS: Final = (
    ("prod-api", 16, "POST /v1/chat/x", {"group": "production", "quota": 5_000, "limits": ["1600/5h", "9000/7d"]}),
    ("prod-web", 43, "GET /v1/models", {"group": "production", "quota": 20_000}),
    ("prod-ingest", 48, "GET /v1/models", {"group": "production", "expires_in": "84d", "allow_ips": ["203.0.113.10"]}),
    ("customer-support-tool", 25, "GET /v1/x", {"quota": 900, "limits": ["500/5h", "3000/1d"], "owner": "support"}),
    ("billing-worker", 5, "GET /v1/x", {"quota": 100, "limits": ["1000/1d"]}),
    ("staging-web", 3, "GET /x", {"expires_in": "6d", "quota": 50_000, "limits": ["200/5h", "1000/1d", "4000/7d"]}),
    ("contractor-search", 8, "GET /v1/x", {"expires_in": "2d", "quota": 400, "limits": ["200/5h"]}),
    ("dev-local", 1, "GET /x", {"expires_in": "21d", "quota": 1_000, "limits": []}),
    ("staging-batch", 0, "", {"enabled": False, "quota": 50_000}),
)


async def _fill(url: str) -> tuple[str, dict[str, str]]:
    made = {}
    backend = SQLBackend(url)
    async with KeyManager(backend) as keys:
        routes = ["POST /v1/chat/*", "GET /v1/models"]
        limits = ["1000/5h", "3000/1d calendar Europe/Berlin", "10000/7d"]
        await keys.create_group(Group("production", routes=routes, limits=limits))
        guarded = ApiKeyMiddleware(echo_app(), backend=backend, cost=20)
        async with client_for(guarded) as client:
            for name, calls, route, rules in reversed(_KEYS):
                issued = await keys.create(name, **rules)
                made[name] = issued.key.id
                method, _, path = route.partition(" ")
                for _ in range(calls):
                    await client.request(method, path, headers=bearer(issued.secret))
                if name == "prod-web":
                    for _ in range(9):
                        await client.get("/admin", headers=bearer(issued.secret))
        # The calls above are the first from where they came.
        then = time.time() - 3 * 86_400
        habit = [
            UsageRecord(
                then + n, made["staging-web"], "default", "192.0.2.7", "GET", "/v1/models", 200, "admitted", 1, 0.1
            )
            for n in range(20)
        ]
        await backend.add_usage("habit", habit)
        await keys.disable(made["staging-batch"])
        token = await AdminTokens(keys).create("ops-laptop", role="owner")
    return token.secret, made


def _take(page: Page, name: str, height: int) -> None:
    whole = Image.open(BytesIO(page.screenshot(full_page=True))).convert("RGB")
    picture = whole.crop((0, 0, whole.width, min(height, whole.height)))
    for colours in _COLOURS:
        out = BytesIO()
        picture.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
            out, "png", optimize=True
        )
        if len(out.getvalue()) <= MOST_BYTES:
            break
    (FOLDER / f"{name}.png").write_bytes(out.getvalue())
    print(f"{name}.png  {len(out.getvalue()) // 1024} kB")  # noqa: T201  # said to whoever runs it


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/keys.db"
        with ThreadPoolExecutor(1) as thread:
            token, keys = thread.submit(lambda: asyncio.run(_fill(url))).result()
        guarded = ApiKeyMiddleware(echo_app(), backend=url)
        with running(serve_app(KeyManager(url))) as console, running(guarded), sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            for theme in ("light", "dark"):
                context = browser.new_context(
                    viewport={"width": 1320, "height": 900}, color_scheme=theme, timezone_id="Europe/Berlin"
                )
                page = context.new_page()
                page.goto(f"{console}/sign-in")
                page.fill("#token", token)
                page.click("main form button")
                page.wait_for_url(f"{console}/")
                if theme == "light":
                    page.goto(f"{console}/?sort=-last_used")
                    _take(page, "keys", 900)
                    query = "ip=203.0.113.10&method=GET&path=/v1/models&cost=200"
                    page.goto(f"{console}/keys/{keys['prod-web']}?{query}")
                    _take(page, "key", 1_250)
                else:
                    page.goto(f"{console}/keys/new?template=contractor")
                    page.fill("#name", "contractor-search")
                    page.fill("#allow_ips", "203.0.113.64/28")
                    page.fill("#quota", "20,000")
                    page.wait_for_selector("#words .warn")
                    _take(page, "create", 1_150)
            browser.close()


if __name__ == "__main__":
    main()
