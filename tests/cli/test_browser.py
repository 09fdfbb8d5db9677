"""A browser that shows a stranger's page on this machine plants no rows and changes nothing, with or without a key."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

HERE, FOREIGN = "127.0.0.1", "rebound.example"
FETCHES = """async ([url, headers, mode]) => {
  try { return (await fetch(url, {method: "POST", mode, headers, body: '{"planted": 1}'})).status }
  catch (error) { return 0 }
}"""
"""Post, and return the status; 0 where the browser or the server keeps the page from an answer."""
FORM = """url => {
  const frame = document.createElement("iframe"), form = document.createElement("form")
  frame.name = "target" + Math.random(); document.body.append(frame)
  form.method = "post"; form.action = url; form.target = frame.name; form.enctype = "text/plain"
  const input = document.createElement("input")
  input.name = `{"planted": 1, "x": "`; input.value = `"}`; form.append(input)
  document.body.append(form); form.submit()
}"""
MAKE_KEY = """async headers =>
  (await fetch("/api/v1/auth/keys", {method: "POST", headers, body: '{"name": "own"}'})).status"""
BEACON = """url => navigator.sendBeacon(url, '{"planted": 1}')"""


@pytest.fixture
def page(chromium: str) -> Iterator[Page]:
    """A browser for which a foreign name leads to this machine."""
    rules = f"--host-resolver-rules=MAP {FOREIGN} {HERE}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu", rules])
        try:
            yield browser.new_page()
        finally:
            browser.close()


def _penstock(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penstock", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.server
@pytest.mark.timeout(240)
def test_a_strangers_page_plants_and_changes_nothing(up: Any, page: Page, stranger: str, tmp_path: Path) -> None:
    running = up()
    port = running.url.rpartition(":")[2]
    made = _penstock(tmp_path, "health", "keys", "create", "--name", "a", "--scope", "admin", "--scope", "ingest")
    key = {"X-API-Key": made.stdout.strip()}
    json_type, plain = {"content-type": "application/json"}, {"content-type": "text/plain"}
    routes = ("/ingest/planted", "/api/v1/auth/keys", "/api/v1/ingest")

    page.goto(stranger)
    for path in routes:
        for headers in ({}, json_type, plain, key, key | json_type):
            assert page.evaluate(FETCHES, [f"{running.url}{path}", headers, "cors"]) == 0
        assert page.evaluate(FETCHES, [f"{running.url}{path}", plain, "no-cors"]) == 0
        with page.expect_response(f"{running.url}{path}") as got:
            page.evaluate(FORM, f"{running.url}{path}")
        assert got.value.status == 403
        page.evaluate(BEACON, f"{running.url}{path}")
        assert page.evaluate(FETCHES, [f"http://{FOREIGN}:{port}{path}", plain, "no-cors"]) == 0

    page.goto(f"http://{FOREIGN}:{port}/health-data")  # DNS rebinding: the same origin as what it posts to
    for path in routes:
        for headers in ({}, json_type, key, key | json_type):
            assert page.evaluate(FETCHES, [path, headers, "cors"]) == 403, (path, headers)

    page.goto(f"{running.url}/health-data")
    assert page.evaluate(FETCHES, ["/ingest/own", json_type, "cors"]) == 200
    assert page.evaluate(MAKE_KEY, key | json_type) == 201
    listed = json.loads(_penstock(tmp_path, "keys", "list", "--json").stdout)
    assert sorted(one["name"] for one in listed) == ["a", "own"]
    running.wait_for(lambda: "own" in _penstock(tmp_path, "query").stdout, "the row of our own page")
    tables = [line.split()[0] for line in _penstock(tmp_path, "query").stdout.splitlines()[2:]]
    assert tables == ["own"]
