"""Streams in the console: the picture, pausing by the keyboard, reading again, and a server that goes away."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
from playwright.sync_api import expect

from .conftest import Site, Watched, is_too_wide

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.mark.parametrize("size", ["phone", "desktop"])
def test_a_stream_is_shown_as_its_picture_and_moves(site: Site, console: Callable[..., Watched], size: str) -> None:
    page, complaints = console("#/streams", size=size)
    page.get_by_role("link", name="ingest", exact=True).click()
    picture = page.get_by_role("group", name="What the stream is made of")
    for said in ("http", "write-ahead log", "sql", "_quarantine", "in flight"):
        expect(picture).to_contain_text(said)
    written = page.locator(".facts").get_by_text(re.compile(r"^[\d,]+ rows?$")).nth(1)
    before = written.inner_text()
    assert site.call("POST", "/ingest/pictures", {"a": 1})[0] == 200
    expect(written).not_to_have_text(before)
    page.get_by_role("link", name="Configuration").click()
    expect(page.locator(".source")).to_contain_text("sync: group_commit")
    expect(page.locator(".source")).to_contain_text("path: /ingest/{table}")
    page.get_by_role("link", name="Log").click()
    expect(page.get_by_label("Log lines")).to_contain_text("takes posts at /ingest")
    assert page.url.endswith("#/streams/ingest?tab=log")
    page.reload()
    expect(page.get_by_label("Log lines")).to_be_visible()
    assert not is_too_wide(page)
    assert not complaints


def test_a_stream_is_paused_and_resumed_by_the_keyboard(console: Callable[..., Watched]) -> None:
    page, complaints = console("#/streams/health")
    page.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("writes what is in flight")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Pause")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Pause").press("Enter")
    expect(page.locator(".head .pill")).to_have_text("paused")
    page.get_by_role("button", name="Resume").press("Enter")
    expect(page.locator(".head .pill")).to_have_text("running")
    assert not complaints


def test_a_file_is_read_again_once_it_was_said_what_that_does(site: Site, console: Callable[..., Watched]) -> None:
    folder = site.folder / "inbox" / "again"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text('{"a": 1}\n{"a": 2}\n')

    def rows() -> int:
        with closing(sqlite3.connect(site.folder / "penstock-data" / "penstock.db")) as database:
            try:
                return int(database.execute("SELECT count(*) FROM again").fetchone()[0])
            except sqlite3.OperationalError:
                return 0

    site.until(lambda: rows() == 2)
    page, complaints = console("#/streams/inbox?tab=positions")
    expect(page.get_by_role("table", name="Positions")).to_contain_text("rows.jsonl")
    page.get_by_role("button", name="Read again").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("the rows are written a second time, beside those that are there")
    dialog.get_by_role("button", name="Read again").click()
    site.until(lambda: rows() == 4)
    assert not complaints


def test_an_open_page_outlives_a_restart_of_the_server(site: Site, console: Callable[..., Watched]) -> None:
    page, _ = console("#/streams")
    expect(page.get_by_role("link", name="ingest", exact=True)).to_be_visible()
    site.stop()
    expect(page.get_by_text("not connected, trying again")).to_be_visible()
    site.start()
    expect(page.get_by_text("not connected, trying again")).to_have_count(0)
    page.get_by_role("link", name="ingest", exact=True).click()
    expect(page.get_by_role("heading", name="ingest", level=1)).to_be_visible()
