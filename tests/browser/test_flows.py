"""What people do at the console, in a real browser: with and without scripts, in both languages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from playwright.sync_api import expect

from tests.support import bearer

if TYPE_CHECKING:
    from tests.browser.conftest import Visit

SECRET = re.compile(r"ak_[0-9A-Za-z]{38}")


@pytest.mark.parametrize(("language", "scripts"), [("en", True), ("zh", False)], ids=["en-scripts", "zh-no-scripts"])
def test_a_key_is_made_used_disabled_replaced_and_deleted(look: Any, language: str, scripts: bool) -> None:
    visit: Visit = look(language, scripts=scripts)
    page, url = visit.page, visit.served.url
    name = f"prod-{language}-{'with' if scripts else 'without'}"
    visit.sign_in()
    expect(page.locator("html")).to_have_attribute("lang", "zh-Hans" if language == "zh" else "en")

    # Create, from a template
    page.click("a[data-new]")
    page.click('a.tpl[href*="template=contractor"]')
    page.fill("#name", name)
    page.select_option("#group", "production")
    page.fill("#allow_ips", "127.0.0.1")
    page.fill("#stored_in", "vault: web", force=True) if page.locator("#stored_in").is_visible() else None
    if scripts:
        expect(page.locator("#words")).to_contain_text("127.0.0.1")
        expect(page.locator("#env-says .tag")).to_have_text("prod")
    page.click("form.create > .btns .btn-main")
    secret = page.locator("#sec").inner_text()
    assert SECRET.fullmatch(secret)
    assert secret not in page.url
    assert secret not in page.title()
    if scripts:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.click('button[data-copy="sec"]')
        assert page.evaluate("navigator.clipboard.readText()") == secret
        assert page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])").count("ak_g") == 0
    page.reload()
    expect(page.locator("#sec")).to_have_count(0)
    assert secret not in page.content()
    visit.go(f"/?q={name}")
    expect(page.locator("table.keys tbody tr")).to_have_count(1)

    # Use it
    def called(key: str) -> int:
        return httpx2.get(f"{visit.served.app_url}/v1/models", headers=bearer(key)).status_code

    assert called(secret) == 200

    # Disable in one press from its row, and undo
    page.click("table.keys details.menu summary")
    page.click('button[formaction$="/disable"]')
    expect(page.locator(".note-good")).to_be_visible()
    assert called(secret) == 401
    page.click(".note-good button")
    expect(page.locator(".note-good")).to_be_visible()
    assert called(secret) == 200

    # Edit, with a mistake first
    page.click(f"table.keys a.name >> text={name}")
    page.click('.page-head a[href$="/edit"]')
    page.fill("#quota", "many")
    page.click("form.create > .btns .btn-main")
    expect(page.locator(".err-sum a")).to_have_count(1)
    expect(page.locator("#quota")).to_have_value("many")
    page.fill("#quota", "20000")
    page.click("form.create > .btns .btn-main")
    expect(page.locator("#left")).to_contain_text("20,000")
    expect(page.locator("#history")).to_contain_text("4,000")

    # Explain
    page.fill("#x-p", "/elsewhere")
    page.fill("#x-ip", "127.0.0.1")
    page.click("form.ask .btn-main")
    expect(page.locator(".verdict-no")).to_contain_text("group_not_allowed")
    expect(page.locator(".gates li.stop")).to_have_count(1)

    # Rotate without grace
    page.check('input[name="grace"][value=""]', force=True)
    page.click('form[action$="/rotate"] button')
    rotated = page.locator("#sec").inner_text()
    assert (called(rotated), called(secret)) == (200, 401)

    # It leaked
    page.click('a.btn[href*="/keys/key_"]')
    page.click('.page-head a[href$="/leak"]')
    page.click("main form .btn-bad")
    replacement = page.locator("#sec").inner_text()
    assert (called(replacement), called(rotated)) == (200, 401)
    expect(page.locator(".steps .chip-ok")).to_be_visible()
    page.check('input[name="looked"][value="1"]')
    page.click('form[action$="/looked"] button')
    expect(page.locator('input[name="looked"][value="1"]')).to_be_checked()
    assert replacement not in page.content()

    # Delete both by name
    for key in (name, f"{name}-2"):
        visit.go(f"/?q={key}&sort=name")
        page.locator("table.keys a.name", has_text=re.compile(f"^{key}$")).click()
        page.fill("#del", key)
        page.click('form[action$="/delete"] .btn-bad')
        assert page.url.startswith(f"{url}/?told=")
    assert called(replacement) == 401

    # Out
    page.click(".top-end details summary")
    page.click('form[action$="/sign-out"] button >> nth=0')
    page.wait_for_url(f"{url}/sign-in")
    # The mistake was answered with its status, which browsers tell.
    visit.told = [line for line in visit.told if "status of 422" not in line]
    visit.check()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_groups_audit_settings_and_filters(look: Any, scripts: bool) -> None:
    visit: Visit = look("en" if scripts else "zh", scripts=scripts)
    page = visit.page
    visit.sign_in()
    page.select_option("#f-state", "disabled")
    if not scripts:
        page.click("form.filters button.nojs")
    expect(page.locator("table.keys tbody tr")).to_have_count(1)
    visit.go("/groups")
    page.click("a[data-new]")
    name = f"paid-{scripts}"
    page.fill("#name", name)
    page.fill("#routes", "POST /v1/chat/*\n/v1/models")
    page.fill("#limits", "60/1m")
    page.click("main form .btn-main")
    expect(page.locator(".note-good")).to_contain_text(name)
    page.click(f"a.name >> text={name}")
    page.fill("#del", name)
    page.click("main form .btn-bad")
    expect(page.locator(".note-good")).to_contain_text(name)
    visit.go("/audit?action=group.delete")
    expect(page.locator("main table")).to_contain_text(name)
    visit.go("/settings")
    expect(page.locator("#workers tbody tr")).to_have_count(1)
    page.fill("#t-name", f"ci-{scripts}")
    page.select_option("#t-role", "viewer")
    page.click('form[action$="/settings/tokens"] button')
    assert page.locator("#sec").inner_text().startswith("akadm_")
    visit.go("/settings")
    page.locator("#tokens tr", has_text=f"ci-{scripts}").locator("button").click()
    expect(page.locator(".note-good")).to_be_visible()
    expect(page.locator("#tokens tr", has_text=f"ci-{scripts}")).to_have_count(0)
    page.select_option("#th", "dark")
    page.click("#look .btn-main")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    visit.check()


def test_several_keys_are_chosen_with_the_keyboard(look: Any) -> None:
    visit: Visit = look()
    page = visit.page
    visit.sign_in()
    expect(page.locator(".bulk")).to_be_hidden()
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type("-web")
    page.keyboard.press("Enter")
    expect(page.locator("table.keys tbody tr")).to_have_count(2)
    for key in ("j", "x", "j", "x"):
        page.keyboard.press(key)
    expect(page.locator(".bulk b")).to_have_text("2 selected")
    page.click('.bulk button[value="disable"]')
    expect(page.locator(".note-good")).to_contain_text("2 keys are disabled.")
    expect(page.locator("table.keys tbody tr.off")).to_have_count(2)
    page.locator("#all").check()
    page.click('.bulk button[value="enable"]')
    expect(page.locator("table.keys tbody tr.off")).to_have_count(0)
    menu = page.locator("table.keys details.menu").first
    menu.locator("summary").click()
    page.keyboard.press("Escape")
    expect(menu).not_to_have_attribute("open", "")
    expect(menu.locator("summary")).to_be_focused()
    page.keyboard.press("?")
    expect(page.locator("#keys-help")).to_be_visible()
    page.keyboard.press("Escape")
    visit.go("/settings")
    page.select_option("#sc", "off")
    page.click("#look .btn-main")
    visit.go("/")
    page.keyboard.press("/")
    expect(page.locator("#q")).not_to_be_focused()
    visit.check()


def test_what_is_typed_is_read_back_while_it_is_typed(look: Any) -> None:
    visit: Visit = look()
    page = visit.page
    visit.sign_in()
    visit.go("/keys/new")
    page.click('button[data-name="staging-web"]')
    expect(page.locator("#env-says .tag")).to_have_text("staging")
    page.fill("#amount-1", "2000")
    page.fill("#length-1", "7 dys")
    expect(page.locator("#words .bad")).to_contain_text("“7 dys” is not a length of time")
    expect(page.locator("#length-1")).to_have_attribute("aria-invalid", "true")
    page.fill("#length-1", "7d")
    page.fill("#quota", "20,000")
    page.check('input[name="expires"][value="14d"]', force=True)
    expect(page.locator("#words .warn")).to_contain_text("That quota can never be reached")
    page.fill("#allow_ips", "10.0.0.0/33")
    expect(page.locator("#words .bad")).to_contain_text("Line 1 is not an address: 10.0.0.0/33.")
    visit.check()


@pytest.mark.parametrize(("language", "minutes"), [("en", r"(\d+) min$"), ("zh", r"(\d+) ?分")])
def test_the_time_to_a_reset_goes_on_by_the_server_s_clock(look: Any, language: str, minutes: str) -> None:
    visit: Visit = look(language)
    page = visit.page
    # The clock of this browser is wrong by years, as some are.
    page.clock.install(time="2031-05-06T07:08:09Z")
    visit.sign_in()
    visit.go("/?q=prod-web")
    left = page.locator("table.keys .c-win .g.full time")

    def in_minutes() -> int:
        text = left.inner_text()
        found = re.search(minutes, text)
        hours = re.search(r"(\d+) ?(?:h|小时|时)", text)
        assert found or hours, text
        return (60 * int(hours[1]) if hours else 0) + (int(found[1]) if found else 0)

    before = in_minutes()
    assert 240 < before <= 300
    page.clock.fast_forward(31 * 60_000)
    assert before - 32 <= in_minutes() <= before - 30
    page.clock.fast_forward(6 * 3_600_000)
    assert re.search(r"\b0 ?[s秒]", left.inner_text())
    assert page.locator("#live").inner_text() == ""
    visit.check()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_while_the_store_is_away_pages_are_read_and_nothing_is_pressed(look: Any, scripts: bool) -> None:
    visit: Visit = look("en" if scripts else "zh", scripts=scripts)
    page, key = visit.page, visit.served.keys["prod-api"]
    visit.sign_in()
    visit.go(f"/keys/{key}")
    expect(page.locator("#stale")).to_have_count(0)
    visit.go(f"/keys/{key}/edit")
    page.fill("#owner", "somebody")
    visit.served.store.away = True
    try:
        # What was typed is not lost: it is sent again from the page that says so.
        page.click("form.create > .btns .btn-main")
        expect(page.locator("main h1")).to_be_visible()
        visit.go(f"/keys/{key}")
        expect(page.locator("#stale")).to_be_visible()
        expect(page.locator("main h1")).to_have_text("prod-api")
        expect(page.locator('form[action$="/disable"] button')).to_be_disabled()
        visit.go(f"/keys/{key}/edit")
        expect(page.locator("form.create > .btns .btn-main")).to_be_disabled()
        page.click("#stale a")
        expect(page.locator("#stale")).to_be_visible()
    finally:
        visit.served.store.away = False
    page.click("#stale a")
    expect(page.locator("#stale")).to_have_count(0)
    page.fill("#owner", "somebody")
    visit.served.store.away = True
    try:
        page.click("form.create > .btns .btn-main")
        expect(page.locator("main h1")).to_be_visible()
        expect(page.locator("form.create")).to_have_count(0)
    finally:
        visit.served.store.away = False
    page.click("main form .btn-main")
    expect(page.locator(".note-good")).to_be_visible()
    expect(page.locator("#rules")).to_contain_text("somebody")
    # The pages that could not be made were answered with their status, which browsers tell.
    visit.told = [line for line in visit.told if "status of 503" not in line]
    visit.check()
