"""The shell of the console: signing in, the navigation, the search, the theme, and pages of other origins."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, expect

from .conftest import Site, Watched, is_too_wide, watched

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(240)]

STEAL = """async ([url, method, headers]) => {
  try {
    const body = method === "GET" ? undefined : "{}"
    const answer = await fetch(url, {method, headers, credentials: "include", body})
    return [answer.status, await answer.text()]
  } catch (error) { return [0, ""] }
}"""
"""Send a request with all cookies, and return what the page gets to see."""


def test_what_is_vendored_is_what_the_manifest_says() -> None:
    folder = files("penstock.apps.console.page") / "vendor"
    manifest = json.loads((folder / "manifest.json").read_text())
    known = {"manifest.json", *(f"{one['package']}.LICENSE" for one in manifest)}
    for one in manifest:
        assert hashlib.sha256((folder / one["name"]).read_bytes()).hexdigest() == one["sha256"], one["name"]
        assert (folder / f"{one['package']}.LICENSE").read_text().strip()
        known.add(one["name"])
    assert {entry.name for entry in folder.iterdir()} == known


def test_a_link_signs_in_once_and_leaves_no_trace(site: Site, fresh: Callable[..., BrowserContext]) -> None:
    context, made = fresh(), site.link()
    page, complaints = watched(context, made)
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    assert page.url == f"{site.url}/", "the address holds no secret any more"
    assert page.evaluate("document.cookie") == "", "no script reads the session"
    [cookie] = context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    page.reload()
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert not complaints
    page.goto("about:blank")
    page.goto(made)
    expect(page.get_by_role("alert")).to_contain_text("used before")
    assert made.partition("#")[2] not in page.url
    assert "pel_" not in site.log
    assert "pes_" not in site.log


@pytest.mark.parametrize("size", ["phone", "desktop"])
def test_the_navigation_leads_to_every_page(console: Callable[..., Watched], size: str) -> None:
    page, complaints = console(size=size)
    if size == "phone":
        page.get_by_role("button", name="Menu").click()
    navigation = page.get_by_role("navigation", name="Pages")
    for name in ("Overview", "Streams", "Lineage", "Today", "All health data", "Conversations", "Keys"):
        expect(navigation.get_by_role("link", name=name).first).to_be_visible()
    expect(navigation.get_by_role("link", name="Overview")).to_have_attribute("aria-current", "page")
    navigation.get_by_role("link", name="Streams").click()
    expect(page.get_by_role("heading", name="Streams", level=1)).to_be_visible()
    if size == "phone":
        expect(navigation).to_be_hidden()
    assert not is_too_wide(page)
    page.goto(page.url.partition("#")[0] + "#/nowhere")
    expect(page.get_by_role("heading", name="Not here")).to_be_visible()
    assert not complaints


def test_the_search_finds_streams_by_the_keyboard_alone(console: Callable[..., Watched]) -> None:
    page, complaints = console()
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    page.keyboard.press("Control+k")
    expect(page.get_by_role("combobox", name="Search for")).to_be_focused()
    page.keyboard.type("ingest str")
    expect(page.get_by_role("option").first).to_contain_text("ingest")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.wait_for_url("**/#/streams/ingest")
    page.keyboard.press("Control+k")
    expect(page.get_by_role("combobox", name="Search for")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert not complaints


def test_the_search_finds_tables_metrics_and_settings(site: Site, console: Callable[..., Watched]) -> None:
    status, made, _ = site.call("POST", "/api/platform/v1/keys", {"name": "searcher", "scopes": ["health.ingest"]})
    assert status == 201
    point = {"date": "2026-01-02 03:04:05 +0000", "qty": 61}
    metrics = [{"name": "resting_heart_rate", "units": "count/min", "data": [point]}]
    sender = {"authorization": f"Bearer {made['data']['key']}", "cookie": "none=0"}
    assert site.call("POST", "/api/v1/ingest", {"data": {"metrics": metrics}}, sender)[0] == 200
    site.send("searched_for", {"a": 1})
    site.until(lambda: bool(site.call("GET", "/api/v1/search/metrics")[1]["data"]))
    page, complaints = console()
    for words, kind, address in (
        ("searched_for", "Table", "**/#/tables/rows/searched_for"),
        ("setting group_commit ingest", "Setting", "**/#/streams/ingest?tab=configuration"),
        ("setting users", "Setting", "**/#/access?tab=users"),
        ("resting heart", "Metric", "**/health-data#/metrics/resting_heart_rate"),
    ):
        expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
        page.keyboard.press("Control+k")
        expect(page.get_by_role("combobox", name="Search for")).to_be_focused()
        page.keyboard.type(words)
        expect(page.get_by_role("option").first).to_contain_text(kind)
        page.keyboard.press("Enter")
        page.wait_for_url(address)
    page.goto(site.url)
    expect(page.get_by_role("button", name="Theme: As the system")).to_be_visible()
    page.keyboard.press("Control+k")
    page.keyboard.type("theme dark")
    expect(page.get_by_role("option", name="Theme: Dark")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Theme: Dark")).to_be_visible()
    assert not complaints


def test_a_theme_that_was_chosen_stays(console: Callable[..., Watched]) -> None:
    page, _ = console()
    paper = "getComputedStyle(document.body).backgroundColor"
    expect(page.get_by_role("button", name="Theme")).to_be_visible()
    light = page.evaluate(paper)
    page.get_by_role("button", name="Theme").click()
    expect(page.get_by_role("button", name="Theme: Dark")).to_be_visible()
    assert page.evaluate(paper) != light
    page.reload()
    expect(page.get_by_role("button", name="Theme: Dark")).to_be_visible()
    assert page.evaluate(paper) != light


class _Stranger(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>A stranger's page</title>")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def stranger() -> Iterator[str]:
    """Serve a page at another port of this machine: another origin, but the same site, to which cookies are sent."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Stranger)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_pages_of_other_origins_can_do_nothing(site: Site, console: Callable[..., Watched], stranger: str) -> None:
    page, _ = console()
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    page.goto(stranger)
    for method, path in (
        ("GET", "console/navigation"),
        ("GET", "console/search/streams"),
        ("GET", "console/search/tables"),
        ("GET", "console/search/settings"),
        ("POST", "platform/v1/streams/ingest/pause"),
        ("DELETE", "platform/v1/sessions/current"),
    ):
        for headers in ({}, {"content-type": "text/plain"}, {"x-penstock": "1", "content-type": "application/json"}):
            assert page.evaluate(STEAL, [f"{site.url}/api/{path}", method, headers]) == [0, ""], (method, path, headers)
    page.evaluate(
        "url => { const frame = document.createElement('iframe'); frame.src = url; document.body.append(frame) }",
        f"{site.url}/",
    )
    page.wait_for_load_state("networkidle")
    assert not any("Overview" in one.content() for one in page.frames if one is not page.main_frame)
    page.goto(f"{site.url}/#/streams")
    expect(page.get_by_role("heading", name="Streams", level=1)).to_be_visible()


def test_a_session_sees_only_what_its_scopes_allow(site: Site, fresh: Callable[..., BrowserContext]) -> None:
    _, made, _ = site.call(
        "POST", "/api/platform/v1/keys", {"name": "sensor", "user": "me", "scopes": ["health.ingest"]}
    )
    sensor = {"authorization": f"Bearer {made['data']['key']}", "cookie": "none=0"}
    assert site.call("GET", "/api/console/search/tables", headers=sensor)[1]["data"] == []
    _, settings, _ = site.call("GET", "/api/console/search/settings", headers=sensor)
    assert [one["title"] for one in settings["data"]] == ["Keys", "Audit"]
    page, _ = watched(fresh(), site.url)
    page.get_by_label("Or use a key").fill(made["data"]["key"])
    page.keyboard.press("Enter")
    navigation = page.get_by_role("navigation", name="Pages")
    expect(navigation.get_by_role("link", name="Overview")).to_be_visible()
    expect(navigation.get_by_role("link", name="Streams")).to_have_count(0)
    expect(navigation.get_by_role("link", name="All health data")).to_have_count(0)
