"""The page of conversations in a browser: found, read, followed, and never taken for markup."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from penstock.testing.forks import call

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(240)]

HOSTILE = "<img src=x onerror=\"document.title='owned'\"> \x1b]0;owned\x07\x1b[31mred\x1b[0m \u202eesrever okapi"
WIDTHS = {"phone": {"width": 390, "height": 844}, "desktop": {"width": 1400, "height": 900}}
expect.set_options(timeout=60_000)


def said(type: str, content: Any, number: int, **fields: Any) -> str:
    stamp = datetime.fromtimestamp(1_760_000_000 + number, UTC).isoformat().replace("+00:00", "Z")
    message = {"role": type, "content": content, "id": f"m{number}", "model": "claude-sonnet-4"}
    if type == "assistant":
        message["usage"] = {"input_tokens": 1000, "output_tokens": 1000}
    line = {"type": type, "message": message, "sessionId": "zebra", "uuid": f"u{number}", "timestamp": stamp}
    return json.dumps(line | ({"parentUuid": f"u{number - 1}"} if number else {}) | fields) + "\n"


MARKDOWN = "I **will** look:\n\n```python\nprint('zebra')\n```\n[a](javascript:alert(1)) <script>alert(1)</script>"
CALL = [
    {"type": "text", "text": MARKDOWN},
    {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": f"echo {HOSTILE}"}},
]
RESULT = [{"type": "tool_result", "tool_use_id": "t", "content": HOSTILE + "x" * 10_000_000, "is_error": True}]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "logs" / "<b>shop</b>" / "zebra.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(
        said("user", f"Mend the flaky zebra {HOSTILE}", 0)
        + said("assistant", CALL, 1)
        + said("user", RESULT, 2)
        + said("assistant", "It is mended", 3)
    )
    return file


@pytest.fixture
def page(up: Any, chromium: str, log: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page that has signed in, at the width that the test names."""
    running = up(CLAUDE_DIR=str(log.parents[1]))
    made = call(("-m", "penstock"), ("sign-in", "--address", running.url.removeprefix("http://")), cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        width = WIDTHS[getattr(request, "param", "desktop")]
        page = browser.new_context(viewport=width).new_page()  # type: ignore[arg-type]
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda told: complaints.append(told.text) if told.type == "error" else None)
        page.goto(made.stdout.strip())
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        page.goto(f"{running.url}/conversations")
        yield page
        browser.close()
        assert [one for one in complaints if "401 (Unauthorized)" not in one] == []
    assert running.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("page", ["phone", "desktop"], indirect=True)
def test_a_session_is_found_and_read_and_nothing_in_it_is_markup(page: Page) -> None:
    page.get_by_role("searchbox").fill("zeb* kind:prompt")
    found = page.locator(".results li")
    expect(found).to_have_count(1)
    expect(found.locator("mark")).to_have_text("zebra")
    expect(page).to_have_url(re.compile(r"q=zeb"))
    found.get_by_role("link").click()
    expect(page.locator("#view h2")).to_contain_text("Mend the flaky zebra")
    entries = page.locator(".thread > .entry")
    expect(entries).to_have_count(3)
    expect(entries.nth(1).locator("strong", has_text="will")).to_be_visible()
    expect(entries.nth(1).locator("pre code")).to_have_text("print('zebra')")
    expect(page.locator("a[href^='javascript']")).to_have_count(0)
    tool = entries.nth(1).locator("details")
    expect(tool.locator("summary")).to_contain_text("failed")
    tool.locator("summary").click()
    expect(tool.get_by_role("button")).to_have_text(re.compile("Show all 10,000,"))
    text = page.locator("#view").inner_text()
    assert not set("\x1b\x07\u202e") & set(text)
    assert "<img src=x onerror" in text
    assert page.locator("#view img, #view script, #view b").count() == 0
    assert page.title().startswith("Mend the flaky zebra <img")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_what_an_agent_writes_shows_by_itself_and_a_line_has_its_own_address(page: Page, log: Path) -> None:
    page.goto(f"{page.url}?session=zebra")
    entries = page.locator(".thread > .entry")
    expect(entries).to_have_count(3)
    with log.open("a") as file:
        file.write(said("user", "And the okapi?", 4))
    expect(entries).to_have_count(4)
    expect(entries.last).to_contain_text("And the okapi?")
    here = entries.last.get_by_role("link").get_attribute("href")
    page.goto(f"{page.url}{here}")
    expect(page.locator(".entry.prompt").last).to_be_focused()
    expect(page.locator(".entry.prompt").last).to_be_in_viewport()
    page.keyboard.press("p")
    expect(page.locator(".entry.prompt").first).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()


def test_activity_is_dragged_over_and_two_sessions_are_compared(page: Page, log: Path) -> None:
    with log.with_name("okapi.jsonl").open("w") as file:
        file.write(said("user", f"Mend the okapi {HOSTILE}", 90_000, sessionId="okapi", parentUuid=None))
    chart = page.locator("svg.bars")
    expect(chart.locator("rect.prompts")).to_have_count(2)
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 20)
    page.mouse.up()
    expect(page).to_have_url(re.compile("start=2025-10-0"))
    expect(page.locator(".results li")).to_have_count(4)
    page.get_by_role("button", name="Show all times").click()
    expect(chart.locator("rect.prompts")).to_have_count(2)
    page.locator(".results a", has_text="zebra").first.click()
    expect(page.locator(".minimap a")).to_have_count(3)
    expect(page.locator(".minimap a.bad")).to_have_count(1)
    expect(page.locator(".state")).to_have_text("Waiting for you")
    with page.expect_download() as saved:
        page.get_by_role("link", name="HTML").click()
    assert "<script" not in saved.value.path().read_text()
    page.keyboard.press("]")
    expect(page.locator("#view h2")).to_contain_text("okapi")
    page.get_by_label("Compare with").select_option("zebra")
    expect(page.locator(".side")).to_have_count(2)


def test_costs_are_shown_by_model(page: Page) -> None:
    page.get_by_role("link", name="Usage").click()
    page.get_by_role("link", name="Model").click()
    row = page.get_by_role("row").nth(1)
    expect(row).to_contain_text("claude-sonnet-4")
    expect(row).to_contain_text("$0.04")
    page.go_back()
    expect(page).to_have_url(re.compile("view=usage$"))


def test_dashboards_show_the_answers_of_the_warehouse(page: Page, tmp_path: Path) -> None:
    root = page.url.partition("/conversations")[0]
    page.goto(f"{root}/#/dashboards/costs")
    panel = page.locator("[data-question=cost-models]")
    expect(panel).to_contain_text("pipeline")
    built = call(("-m", "penstock"), ("conversations", "pipeline"), cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    page.reload()
    expect(panel.locator("tbody tr")).to_have_count(1)
    expect(panel).to_contain_text("claude-sonnet-4")
    expect(page.locator(".figures")).to_contain_text("This month")
    page.get_by_role("link", name="Projects", exact=True).click()
    project = page.locator("[data-question=projects]")
    expect(project.get_by_role("link", name="b>")).to_be_visible()
    assert page.locator("#main b, main b").count() == 0
    project.locator("summary").click()
    expect(project.locator("pre")).to_contain_text("FROM marts.dim_projects")
    page.get_by_role("link", name="Productivity", exact=True).click()
    expect(page.locator("[data-question=active-hours] tbody tr")).to_have_count(7)


def test_who_has_not_signed_in_is_told_how(page: Page) -> None:
    page.context.clear_cookies()
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("penstock sign-in")
