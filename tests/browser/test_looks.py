"""How every page looks: nothing for axe to find, no overflow on a phone, nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it has no types
from playwright.sync_api import expect

from ak_guard.admin.console.assets import assets

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.conftest import Served, Visit

OVERFLOW = """() => [document.documentElement.scrollWidth - innerWidth,
    [...document.querySelectorAll('main *, header *, footer *')]
        .filter(e => e.getBoundingClientRect().right > innerWidth + 1
            && !e.closest('.scroll, pre, .vh, svg, .menu-box, .main-nav'))
        .slice(0, 4).map(e => `${e.tagName}.${e.className} ${e.textContent.trim().slice(0, 30)}`)]"""


def pages(served: Served) -> dict[str, str]:
    key = f"/keys/{served.keys['prod-web']}"
    return {
        "keys": "/",
        "nothing": "/?q=nothing-of-this-name",
        "create": "/keys/new?template=contractor",
        "key": f"{key}?p=7d&ip=203.0.113.7&method=POST&path=/v1/other&cost=200",
        "canary": f"/keys/{served.keys['front-end-bundle']}",
        "edit": f"{key}/edit",
        "leak": f"{key}/leak",
        "groups": "/groups",
        "group": "/groups/one?name=production",
        "audit": "/audit",
        "settings": "/settings",
        "missing": "/nowhere",
    }


def _mistaken(page: Page) -> None:
    page.fill("#quota", "many")
    page.click("form.create > .btns .btn-main")


@pytest.mark.parametrize(
    ("language", "theme", "width"), [("en", "light", 1280), ("zh", "dark", 360)], ids=["en-light", "zh-dark-phone"]
)
def test_axe_finds_nothing_and_nothing_overflows(
    look: Any, served: Served, language: str, theme: str, width: int
) -> None:
    visit: Visit = look(language, width=width, theme=theme, axe=True)
    page, axe = visit.page, Axe()
    found: list[tuple[Any, ...]] = []

    def looked_at(name: str) -> None:
        for violation in axe.run(page).response["violations"]:
            nodes = [node["html"][:120] for node in violation["nodes"][:3]]
            found.append((name, violation["impact"], violation["id"], nodes))
        over = page.evaluate(OVERFLOW)
        if over[0] > 0 or over[1]:
            found.append((name, "overflow", over))

    visit.go("/sign-in")
    looked_at("sign-in")
    visit.sign_in()
    for name, path in pages(served).items():
        visit.go(path)
        looked_at(name)
    served.store.away = True
    for name in ("keys", "key", "create"):
        visit.go(pages(served)[name])
        expect(page.locator("#stale")).to_be_visible()
        looked_at(f"{name} while the store is away")
    visit.go("/groups/new")
    looked_at("not seen while the store is away")
    served.store.away = False
    visit.go("/keys/new?template=contractor")
    page.fill("#name", f"made-for-axe-{language}")
    _mistaken(page)
    looked_at("mistake")
    page.fill("#quota", "5")
    page.click("form.create > .btns .btn-main")
    looked_at("created")
    assert found == []


def test_nothing_overflows_at_any_width(look: Any, served: Served) -> None:
    visit: Visit = look()
    visit.sign_in()
    found: list[tuple[Any, ...]] = []
    for name, path in pages(served).items():
        visit.go(path)
        for width in (320, 768, 1040):
            visit.page.set_viewport_size({"width": width, "height": 900})
            over = visit.page.evaluate(OVERFLOW)
            if over[0] > 0 or over[1]:
                found.append((name, width, over))
    assert found == []


def test_a_page_of_25_keys_is_light(look: Any, served: Served) -> None:
    visit: Visit = look()
    visit.sign_in()
    visit.go("/?sort=name")
    rows = visit.page.locator("table.keys tbody tr").count()
    page = len(visit.page.content().encode())
    row = visit.page.locator("table.keys tbody tr").evaluate_all("all => Math.max(...all.map(r => r.outerHTML.length))")
    files = sum(len(asset.content) for asset in assets().values())
    assert page + (25 - rows) * row + files < 150_000
