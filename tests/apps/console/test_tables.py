"""Tables, SQL, dead letters, keys and the audit on the console, in a real browser."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from .conftest import Site, Watched, is_too_wide

HOSTILE = "<img src=x onerror=\"document.title='owned'\">\u202e \x1b[31m"
SHOTS = os.environ.get("PENSTOCK_SCREENSHOTS", "")
Console = Callable[..., Watched]


def shoot(page: Page, name: str) -> None:
    """Keep a picture of a view where somebody asked for it."""
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png")


def heading(page: Page, name: str) -> None:
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()


def test_a_row_is_sent_broken_found_mended_seen_and_drawn(site: Site, console: Console) -> None:
    """What a person does on the first day, who has read nothing."""
    days = [{"sensor": "kitchen", "celsius": 20 + day / 2, "day": f"2026-11-0{day}T12:00:00Z"} for day in range(1, 8)]
    site.send("firstday", *days)
    site.send("firstday", {"sensor": "attic", "celsius": "warm", "day": "2026-11-08T12:00:00Z"})
    page, complaints = console()
    page.get_by_role("link", name="Dead letters").click()
    heading(page, "Dead letters")
    shoot(page, "dead-letters")
    page.get_by_role("button", name=re.compile("attic")).click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("expected a number, got 'warm'")
    payload = dialog.get_by_label("Payload")
    dialog.get_by_role("button", name="Send again").click()
    expect(dialog.get_by_role("alert").filter(has_text="refused once more")).to_be_visible()
    payload.fill(payload.input_value().replace('"warm"', "18.5"))
    dialog.get_by_role("button", name="Try without writing").click()
    expect(dialog).to_contain_text("this goes to the output")
    shoot(page, "dead-letter")
    dialog.get_by_role("button", name="Send again").click()
    expect(page.get_by_text("The row is written")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("attic"))).to_have_count(0)
    page.get_by_role("link", name="Tables", exact=True).click()
    heading(page, "Tables")
    shoot(page, "tables")
    page.get_by_role("link", name="firstday", exact=True).click()
    heading(page, "firstday")
    expect(page.get_by_role("table", name="Rows of firstday")).to_contain_text("18.5")
    shoot(page, "table")
    page.get_by_role("link", name="Chart", exact=True).first.click()
    heading(page, "SQL")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("img", name=re.compile("celsius over day"))).to_be_visible()
    expect(page.locator(".chart canvas")).to_be_visible()
    shoot(page, "chart")
    assert not [one for one in complaints if "409" not in one]


def test_rows_are_browsed_filtered_sorted_and_opened(site: Site, console: Console) -> None:
    site.send("browsed", *({"n": n, "room": f"room {n % 3}"} for n in range(1000)))
    page, complaints = console("#/tables/rows/browsed")
    table = page.get_by_role("table", name="Rows of browsed")
    expect(table.get_by_role("cell", name="room 0").first).to_be_visible()
    assert table.get_by_role("row").count() < 60, "only rows in sight are drawn"
    table.focus()
    page.keyboard.press("PageDown")
    expect(table).to_have_attribute("aria-rowcount", "401")  # a page more than is in sight

    def is_whole() -> bool:
        table.evaluate("(one) => { one.scrollTop = one.scrollHeight }")
        return table.get_attribute("aria-rowcount") == "1001"

    site.until(is_whole)
    expect(table.get_by_role("cell", name="999", exact=True)).to_be_visible()
    page.get_by_label("Column", exact=True).select_option("room")
    page.get_by_label("Value", exact=True).fill("room 2")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("list", name="Conditions")).to_contain_text("room is room 2")
    expect(table.get_by_role("cell", name="room 1")).to_have_count(0)
    expect(table.get_by_role("cell", name="room 2").first).to_be_visible()
    page.reload()
    expect(page.get_by_role("list", name="Conditions")).to_contain_text("room is room 2")
    table.get_by_role("columnheader").get_by_role("button", name="n", exact=True).click()
    expect(table.locator("[aria-sort=ascending]")).to_be_visible()
    table.get_by_role("columnheader").get_by_role("button", name="n", exact=True).click()
    expect(table.get_by_role("cell", name="998", exact=True)).to_be_visible()
    page.get_by_label("Count the values of").select_option("room")
    expect(page.get_by_role("region", name="Values of room")).to_contain_text("333")
    table.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Row")
    expect(dialog).to_contain_text("998")
    expect(dialog.get_by_role("link", name="ingest")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.get_by_role("link", name="Schema").click()
    expect(page.get_by_role("table", name="Columns")).to_contain_text("999")
    shoot(page, "schema")
    assert not complaints


def test_sql_is_edited_run_and_kept(console: Console) -> None:
    page, complaints = console("#/sql")
    heading(page, "SQL")
    editor = page.get_by_role("textbox", name="SQL")
    expect(page.locator(".sql-editor .cm-content")).to_be_visible()
    editor.click()
    page.keyboard.type(
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT 5) SELECT n, n * n AS square FROM r"
    )
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Enter")
    result = page.get_by_role("table", name="Result")
    expect(result.get_by_role("cell", name="25", exact=True)).to_be_visible()
    shoot(page, "sql")
    page.get_by_role("link", name="Chart", exact=True).click()
    expect(page.get_by_role("list", name=re.compile("by row"))).to_be_visible()
    page.get_by_role("button", name="Keep").click()
    page.get_by_label("Name").fill("squares")
    page.get_by_role("dialog").get_by_role("button", name="Keep").click()
    expect(page.get_by_role("link", name="squares")).to_be_visible()
    assert not complaints
    page.goto(page.url.partition("#")[0] + "#/sql?sql=" + quote("CREATE TABLE other (n)"))
    expect(page.locator(".sql-editor .cm-content")).to_contain_text("CREATE")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("alert")).to_contain_text("nothing can be changed here")
    endless = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r"
    page.goto(page.url.partition("#")[0] + "#/sql?sql=" + quote(endless))
    expect(page.locator(".sql-editor .cm-content")).to_contain_text("max(n)")
    page.get_by_role("button", name="Run").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("alert")).to_contain_text("cancelled")


def test_a_group_of_dead_letters_is_mended_by_a_rule(site: Site, console: Console) -> None:
    site.send("grouped", {"n": 1})
    site.send("grouped", *({"n": f"{n} apples"} for n in range(12)))
    page, complaints = console("#/dead-letters?search=apples")
    page.get_by_role("button", name="Mend and send all…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Replace the text").fill(" apples")
    dialog.get_by_label("The field", exact=True).fill("n")
    dialog.get_by_label("becomes").select_option("integer")
    dialog.get_by_role("button", name="Try without writing").click()
    expect(dialog.get_by_role("status")).to_have_text("Done: 12 of 12 (12 would go to the output).")
    dialog.get_by_role("button", name="Send all again").click()
    expect(dialog.get_by_role("status")).to_have_text("Done: 12 of 12 (12 written).")
    shoot(page, "replay")
    dialog.get_by_role("button", name="Close").click()
    expect(page.get_by_text("No dead letter fits.").or_(page.get_by_text("Nothing was refused"))).to_be_visible()
    assert not complaints


def test_keys_are_made_and_revoked_and_the_audit_says_so(console: Console) -> None:
    page, complaints = console("#/access")
    page.get_by_role("button", name="Make a key").click()
    page.get_by_role("dialog").get_by_label("Name").fill("thermometer")
    page.get_by_role("dialog").get_by_role("button", name="Make").click()
    expect(page.get_by_text(re.compile("^pen_[0-9a-f]{40}$"))).to_be_visible()
    page.get_by_role("button", name="I have it").click()
    page.get_by_role("button", name="Revoke thermometer").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("table", name="Keys").get_by_text("thermometer")).to_have_count(0)
    page.get_by_role("link", name="Signed in").click()
    expect(page.get_by_text("this one")).to_be_visible()
    page.get_by_role("link", name="Audit", exact=True).click()
    expect(page.get_by_role("table", name="Audit")).to_contain_text("revoked")
    shoot(page, "audit")
    assert not complaints


@pytest.mark.parametrize(("size", "scheme"), [("phone", "dark"), ("desktop", "light")])
def test_hostile_data_is_text_in_every_view(site: Site, console: Console, size: str, scheme: str) -> None:
    name = HOSTILE.partition("\u202e")[0]  # What steers the text is no name of a column.
    site.send("hostile", {name: HOSTILE, "n": 1, "long": "x" * 100_000})
    site.send("hostile", {name: HOSTILE, "n": HOSTILE})
    page, complaints = console("", size=size, scheme=scheme)
    sql = quote("SELECT * FROM hostile")
    for fragment, shown in [
        ("#/tables", "hostile"),
        ("#/tables/rows/hostile", "onerror"),
        ("#/tables/rows/hostile?tab=schema", "onerror"),
        ("#/tables/rows/hostile?facet=n", "onerror"),
        ("#/dead-letters?search=onerror", "onerror"),
        ("#/access?tab=audit", "success"),
        (f"#/sql?sql={sql}", "SQL"),
    ]:
        page.goto(f"{site.url}/{fragment}")
        expect(page.locator("#content")).to_contain_text(shown)
        assert page.locator("#content img").count() == 0
        assert not is_too_wide(page), fragment
        shoot(page, f"{size}-{re.sub('[^a-z]+', '-', fragment)}")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("table", name="Result")).to_contain_text("onerror")
    assert "owned" not in page.title()
    assert not complaints
