"""The overview: the first row by the guide, what arrived and what is wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from .conftest import Site, Watched, is_too_wide

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(240)]


def test_the_guide_shows_how_rows_are_sent_and_ticks_what_has_arrived(
    site: Site, console: Callable[..., Watched]
) -> None:
    page, complaints = console("#/?guide=1")
    step = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="Send a row"))
    command = step.locator("pre").inner_text()
    assert command.startswith(f"curl {site.url}/ingest/readings -d '")
    row = command.partition(" -d '")[2].removesuffix("'")
    assert site.call("POST", "/ingest/readings", row)[0] == 200, "the command works as it stands"
    expect(step).to_contain_text("arrived")
    expect(page.get_by_role("heading", name="Connect a phone")).to_be_visible()
    page.get_by_role("button", name="Make a key for the phone").click()
    expect(page.locator(".secret")).to_contain_text("pen_")
    page.goto(f"{site.url}/#/")
    expect(page.get_by_role("table", name="From where, today")).to_contain_text("ingest")
    assert not complaints


@pytest.mark.parametrize("size", ["phone", "desktop"])
def test_what_is_wrong_is_said_with_what_to_do(site: Site, console: Callable[..., Watched], size: str) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    site.send("overviews", {"celsius": 21.5}, {"celsius": hostile})
    page, complaints = console(size=size)
    notice = page.locator(".notice").filter(has_text="ingest runs, but")
    expect(notice).to_contain_text("rows refused in the last 60 s")
    notice.get_by_role("link", name="Look at the stream").click()
    expect(page.get_by_role("heading", name="ingest", level=1)).to_be_visible()
    page.go_back()
    expect(page.get_by_role("listitem").filter(has_text="Refused today")).not_to_contain_text("every row was taken")
    assert page.locator("main img[src=x]").count() == 0
    assert not is_too_wide(page)
    assert not complaints
