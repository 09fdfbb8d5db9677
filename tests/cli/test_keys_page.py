"""The page of keys in a browser: signing in by a link, keys from making to revoking, and pages of other origins."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

WIDTHS = {"phone": {"width": 390, "height": 844}, "desktop": {"width": 1400, "height": 900}}
STEAL = """async ([url, method, headers]) => {
  try {
    const body = method === "GET" ? undefined : "{}"
    const answer = await fetch(url, {method, headers, credentials: "include", body})
    return [answer.status, await answer.text()]
  } catch (error) { return [0, ""] }
}"""
"""Send a request with all cookies, and return what the page gets to see."""


@pytest.fixture
def browser(chromium: str) -> Iterator[BrowserContext]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser.new_context(viewport=WIDTHS["desktop"])
        finally:
            browser.close()


@pytest.fixture
def link(up: Any, tmp_path: Path) -> Any:
    """Start `penstock up` and return how a link is made, and where it runs."""
    running = up()
    address = running.url.removeprefix("http://")

    def make() -> str:
        return _penstock(tmp_path, "sign-in", "--address", address).replace("/#", "/keys#")

    make.url = running.url  # type: ignore[attr-defined]
    make.running = running  # type: ignore[attr-defined]
    return make


def _penstock(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "penstock", *arguments]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def _watched(browser: BrowserContext) -> tuple[Page, list[str]]:
    """A page, and what it complains of."""
    page, complaints = browser.new_page(), []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    return page, complaints


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_keys_are_made_rotated_and_revoked_by_who_signed_in_with_a_link(browser: BrowserContext, link: Any) -> None:
    page, complaints = _watched(browser)
    page.goto(made := link())
    expect(page.get_by_role("heading", name="A new key")).to_be_visible()
    assert page.url == f"{link.url}/keys", "the address holds no secret any more"
    assert page.evaluate("document.cookie") == "", "no script reads the session"
    [cookie] = browser.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"

    page.get_by_role("textbox", name="Name").fill("<b>kitchen</b>")
    page.get_by_role("textbox", name="User").fill("anna")
    page.get_by_label("inbox.send").check()
    page.keyboard.press("Enter")
    shown = page.locator(".secret code")
    expect(shown).to_have_text(re.compile("^pen_[0-9a-f]{40}$"))
    key = shown.inner_text()
    assert link.running.post("/ingest/readings", {"a": 1}) == 401
    row = page.get_by_role("table", name="Keys").get_by_role("row", name="<b>kitchen</b>")
    expect(row).to_contain_text("anna")
    expect(row).to_contain_text(key[:12])

    page.reload()
    expect(row).to_be_visible()
    assert key not in page.content(), "it is shown once"
    row.get_by_role("button", name="Rotate").click()
    page.get_by_label("The old one goes on to work for").select_option("0s")
    page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
    expect(shown).not_to_have_text(key)
    expect(row).to_have_count(1)
    row.get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(row).to_have_count(1)
    row.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(row).to_have_count(0)
    page.get_by_label("Show keys that do not work any more").check()
    expect(row).to_have_count(2)
    page.reload()
    expect(page.get_by_role("table", name="Audit")).to_contain_text("api key rotated")

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert not complaints
    page.goto(made)
    expect(page.get_by_role("alert")).to_contain_text("used before")
    assert made.partition("#")[2] not in page.url
    assert "pel_" not in link.running.stderr
    assert "pes_" not in link.running.stderr


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_pages_of_other_origins_cannot_use_a_session(browser: BrowserContext, link: Any, stranger: str) -> None:
    page, _ = _watched(browser)
    page.goto(link())
    expect(page.get_by_role("heading", name="A new key")).to_be_visible()
    api = f"{link.url}/api/platform/v1"
    page.goto(stranger)
    for method, path in (
        ("GET", "keys"),
        ("POST", "keys"),
        ("POST", "streams/ingest/pause"),
        ("DELETE", "sessions/current"),
    ):
        for headers in ({}, {"content-type": "text/plain"}, {"x-penstock": "1", "content-type": "application/json"}):
            assert page.evaluate(STEAL, [f"{api}/{path}", method, headers]) == [0, ""], (method, path, headers)
    page.goto(f"{link.url}/keys")
    expect(page.get_by_role("heading", name="A new key")).to_be_visible()
    assert "stream pause" not in page.content()
    page.goto(stranger)
    page.evaluate(
        "url => { const frame = document.createElement('iframe'); frame.src = url; document.body.append(frame) }",
        f"{link.url}/keys",
    )
    page.wait_for_timeout(200)
    assert not any("Make a key" in one.content() for one in page.frames if one is not page.main_frame)


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", sorted(WIDTHS))
def test_the_page_fits_phones_and_screens_in_both_themes(
    browser: BrowserContext, link: Any, tmp_path: Path, size: str, scheme: Any
) -> None:
    _penstock(tmp_path, "keys", "create", "--name", "A phone with quite a long name for the health export")
    _penstock(tmp_path, "keys", "create", "--name", "sensor", "--scope", "inbox.send")
    made = _penstock(tmp_path, "keys", "create", "--name", "operator", "--scope", "operator", "--expires", "90d")
    page, complaints = _watched(browser)
    page.set_viewport_size(WIDTHS[size])  # type: ignore[arg-type]
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{link.url}/keys")
    page.screenshot(path=tmp_path / "sign-in.png")
    page.get_by_label("Key").fill(made)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="A new key")).to_be_visible()
    page.screenshot(path=tmp_path / f"keys-{size}-{scheme}.png", full_page=True)
    wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert page.evaluate(wide), "nothing is wider than the window"
    page.get_by_role("button", name="Rotate sensor").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.screenshot(path=tmp_path / f"dialog-{size}-{scheme}.png")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Rotate sensor").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
    expect(page.locator(".secret")).to_be_visible()
    page.screenshot(path=tmp_path / f"secret-{size}-{scheme}.png")
    assert page.evaluate(wide)
    assert [one for one in complaints if "401" not in one] == []
